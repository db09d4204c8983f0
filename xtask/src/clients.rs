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
    let scripted = ["build", "--quiet", "--package", "ds4-server", "--example", "scripted"];
    if !succeeds(&mut cargo(&["build", "--quiet", "--package", "ds4"])) || !succeeds(&mut cargo(&scripted)) {
        return false;
    }
    let mut mini = Command::new("target/debug/ds4-server");
    mini.args(["--port", "0", "--cors"]).env("DS4_LOCK_FILE", format!("{HOME}/lock")).env_remove("DS4_MODEL");
    let mut scripted = Command::new("target/debug/examples/scripted");
    scripted.arg("xtask/clients/script.json");
    let passed = serve(&mut mini).and_then(|mini| Ok((mini, serve(&mut scripted)?))).map(|(mini, scripted)| {
        succeeds(Command::new(python()).args(["-B", "xtask/clients/checks.py", &mini.url, &scripted.url]))
    });
    passed.unwrap_or_else(|why| {
        eprintln!("xtask: {why}");
        false
    })
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

/// A server that ends with the checks.
struct Server {
    child: Child,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait()); // it may have ended, which a check has noticed
    }
}

/// A server on a free port.
fn serve(command: &mut Command) -> Result<Server, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command.stderr(Stdio::piped()).spawn().map_err(|e| format!("{name}: {e}"))?;
    let mut lines = child.stderr.take().into_iter().flat_map(|e| BufReader::new(e).lines().map_while(Result::ok));
    let mut said = String::new();
    let url = loop {
        match lines.next() {
            Some(line) if line.contains("listening at http") => break line,
            Some(line) => said += &format!("{line}\n"),
            None => return Err(format!("{name} did not start: {said}")),
        }
    };
    let url = url.rsplit(' ').next().unwrap_or_default().to_owned();
    std::thread::spawn(move || lines.for_each(drop)); // a full pipe would stop it
    Ok(Server { child, url })
}
