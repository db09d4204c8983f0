//! Codex with this machine's server: `ds4 connect codex --`.

#[path = "../thin.rs"]
mod thin;

fn main() -> std::process::ExitCode {
    thin::become_ds4(&["connect", "codex", "--"])
}
