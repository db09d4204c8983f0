//! Pi with this machine's server: `ds4 connect pi --`.

#[path = "../thin.rs"]
mod thin;

fn main() -> std::process::ExitCode {
    thin::become_ds4(&["connect", "pi", "--"])
}
