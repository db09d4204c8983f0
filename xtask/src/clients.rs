//! Real clients against a real server: the OpenAI and Anthropic SDKs and curl, on the built-in model.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::{cargo, succeeds};

/// The SDKs, pinned so that a new one cannot break an old commit.
const PACKAGES: [&str; 2] = ["openai==3.54.0", "anthropic==2.12.0"];
const HOME: &str = "target/clients";

/// Runs all checks; parts that cannot run on this machine are named and counted.
pub(crate) fn run() -> bool {
    if let Err(why) = install() {
        println!("parts skipped on this machine: 1\n  skipped: clients: {why}");
        return true;
    }
    if !succeeds(&mut cargo(&["build", "--quiet", "--package", "ds4"])) {
        return false;
    }
    match serve() {
        Ok((mut server, url)) => {
            let passed = succeeds(Command::new(python()).args(["-B", "xtask/clients/checks.py", &url]));
            let _ = server.kill().and_then(|()| server.wait()); // it may have ended, which a check has noticed
            passed
        }
        Err(why) => {
            eprintln!("xtask: {why}");
            false
        }
    }
}

fn python() -> String {
    format!("{HOME}/venv/bin/python")
}

/// Makes a Python environment with the SDKs, once for each set of versions.
fn install() -> Result<(), &'static str> {
    let stamp = format!("{HOME}/installed.txt");
    let wanted = PACKAGES.join("\n");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) && Path::new(&python()).exists() {
        return Ok(());
    }
    let venv = format!("{HOME}/venv");
    let made = Command::new("python3").args(["-m", "venv", "--clear", &venv]).output();
    if !made.is_ok_and(|output| output.status.success()) {
        return Err("needs python3 with venv");
    }
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1"];
    if !succeeds(Command::new(python()).args(pip).args(PACKAGES)) {
        return Err("pip cannot install the SDKs here");
    }
    fs::write(stamp, wanted).map_err(|_| "target/ cannot be written")
}

/// `ds4-server` on a free port, and its address.
fn serve() -> Result<(Child, String), String> {
    let mut command = Command::new("target/debug/ds4-server");
    command.args(["--port", "0", "--cors"]).env("DS4_LOCK_FILE", format!("{HOME}/lock")).env_remove("DS4_MODEL");
    let mut server = command.stderr(Stdio::piped()).spawn().map_err(|e| format!("ds4-server: {e}"))?;
    let mut lines = server.stderr.take().into_iter().flat_map(|e| BufReader::new(e).lines().map_while(Result::ok));
    let mut said = String::new();
    let url = loop {
        match lines.next() {
            Some(line) if line.contains("listening at http") => break line,
            Some(line) => said += &format!("{line}\n"),
            None => return Err(format!("ds4-server did not start: {said}")),
        }
    };
    let url = url.rsplit(' ').next().unwrap_or_default().to_owned();
    std::thread::spawn(move || lines.for_each(drop)); // a full pipe would stop it
    Ok((server, url))
}
