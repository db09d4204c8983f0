//! Real clients against a real server: the OpenAI and Anthropic SDKs and curl, on the built-in model.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::{cargo, python, succeeds};

/// The SDKs, pinned so that a new one cannot break an old commit.
const PACKAGES: [&str; 2] = ["openai==3.54.0", "anthropic==2.12.0"];
const HOME: &str = "target/clients";

/// Runs all checks; parts that cannot run on this machine are named and counted.
pub(crate) fn run() -> bool {
    let python = match python::install(HOME, &PACKAGES) {
        Ok(python) => python,
        Err(why) => {
            println!("parts skipped on this machine: 1\n  skipped: clients: {why}");
            return true;
        }
    };
    let scripted = ["build", "--quiet", "--package", "ds4-server", "--example", "scripted"];
    if !succeeds(&mut cargo(&["build", "--quiet", "--package", "ds4"])) || !succeeds(&mut cargo(&scripted)) {
        return false;
    }
    let mut mini = Command::new("target/debug/ds4-server");
    mini.args(["--port", "0", "--cors"]).env("DS4_LOCK_FILE", format!("{HOME}/lock")).env_remove("DS4_MODEL");
    let mut scripted = Command::new("target/debug/examples/scripted");
    scripted.arg("xtask/clients/script.json");
    let passed = serve(&mut mini).and_then(|mini| Ok((mini, serve(&mut scripted)?))).map(|(mini, scripted)| {
        succeeds(Command::new(&python).args(["-B", "xtask/clients/checks.py", &mini.url, &scripted.url]))
    });
    passed.unwrap_or_else(|why| {
        eprintln!("xtask: {why}");
        false
    })
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
