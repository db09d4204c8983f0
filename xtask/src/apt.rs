//! Debian's packages, for machines where this may install them.

use std::process::Command;

use crate::works;

/// For a machine without a network.
pub(crate) const PATIENCE: [&str; 4] = ["-o", "Acquire::http::Timeout=20", "-o", "Acquire::Retries=1"];

/// Installs packages if that is possible; who needs them looks whether they are there.
pub(crate) fn install(packages: &[&str]) {
    let install = || {
        let mut command = Command::new("apt-get");
        command.args(["install", "--yes", "--no-install-recommends"]).args(PATIENCE).args(packages);
        works(command.env("DEBIAN_FRONTEND", "noninteractive"))
    };
    let _ = install() || works(Command::new("apt-get").arg("update").args(PATIENCE)) && install();
}
