//! `ds4 eval` under the name it has elsewhere.

#[path = "../thin.rs"]
mod thin;

fn main() -> std::process::ExitCode {
    thin::become_ds4(&["eval"])
}
