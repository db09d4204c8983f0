//! Python environments for chores, under target/.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::succeeds;

/// Makes an environment with these packages at `home`, once for each set of versions; gives its interpreter.
pub(crate) fn install(home: &str, packages: &[&str]) -> Result<String, &'static str> {
    let python = format!("{home}/venv/bin/python");
    let stamp = format!("{home}/installed.txt");
    let wanted = packages.join("\n");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) && Path::new(&python).exists() {
        return Ok(python);
    }
    let made = Command::new("python3").args(["-m", "venv", "--clear", &format!("{home}/venv")]).output();
    if !made.is_ok_and(|output| output.status.success()) {
        return Err("needs python3 with venv");
    }
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1"];
    if !succeeds(Command::new(&python).args(pip).args(packages)) {
        return Err("pip cannot install its packages here");
    }
    fs::write(stamp, wanted).map_err(|_| "target/ cannot be written")?;
    Ok(python)
}
