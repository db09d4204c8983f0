//! Claude Code with this machine's server: `ds4 connect claude --`.

#[path = "../thin.rs"]
mod thin;

fn main() -> std::process::ExitCode {
    thin::become_ds4(&["connect", "claude", "--"])
}
