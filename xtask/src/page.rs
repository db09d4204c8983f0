//! The page at `/` in a browser without a window: Chromium, told what to do and asked what it shows.

use std::process::Command;

use crate::{apt, build, python, succeeds, works};

/// Pinned, so that a new one cannot break an old commit.
const PACKAGES: [&str; 1] = ["selenium==4.50.0"];
/// What Debian calls the browser, what drives it, and letters.
const DEBIAN: [&str; 3] = ["chromium", "chromium-driver", "fonts-dejavu-core"];
const HOME: &str = "target/page";

/// Runs all checks; what cannot run on this machine is named and counted. `pictures`: makes those of the documentation
/// instead.
pub(crate) fn run(fetch: bool, pictures: bool) -> bool {
    if fetch && missing().is_some() {
        apt::install(&DEBIAN);
    }
    let python = match missing().map_or_else(|| python::install(HOME, &PACKAGES).map_err(String::from), Err) {
        Ok(python) => python,
        Err(why) => {
            println!("parts skipped on this machine: 1\n  skipped: page: {why}");
            return true;
        }
    };
    if !build() {
        return false;
    }
    let checks = if pictures { "xtask/page/pictures.py" } else { "xtask/page/checks.py" };
    succeeds(Command::new(python).args(["-B", checks]))
}

/// What is not there, and how to get it.
fn missing() -> Option<String> {
    let missing: Vec<&str> =
        ["chromium", "chromedriver"].into_iter().filter(|name| !works(Command::new(name).arg("--version"))).collect();
    let advice = "on Debian or Ubuntu `cargo xtask page --fetch` as root gets them";
    (!missing.is_empty()).then(|| format!("needs {}; {advice}", missing.join(" and ")))
}
