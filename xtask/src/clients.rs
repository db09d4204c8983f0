//! Real clients against a real server: the OpenAI and Anthropic SDKs for Python and JavaScript, Vercel's AI SDK and curl, on
//! the built-in model.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::{build, python, succeeds};

/// The SDKs, and what makes requests of the server's OpenAPI document; pinned so that a new one cannot break an old commit.
const PACKAGES: [&str; 3] = ["openai==3.54.0", "anthropic==2.12.0", "schemathesis==4.32.5"];
const NPM: [&str; 4] = ["openai@7.57.0", "@anthropic-ai/sdk@1.12.0", "ai@7.0.173", "@ai-sdk/openai-compatible@3.0.92"];
const HOME: &str = "target/clients";

/// Runs all checks; parts that cannot run on this machine are named and counted.
pub(crate) fn run() -> bool {
    let (pip, npm) = (python::install(HOME, &PACKAGES), install_npm());
    let skipped = [("clients", pip.as_ref().err()), ("npm clients", npm.as_ref().err())];
    let skipped: Vec<_> = skipped.iter().filter_map(|(name, why)| Some((name, (*why)?))).collect();
    println!("parts skipped on this machine: {}", skipped.len());
    skipped.iter().for_each(|(name, why)| println!("  skipped: {name}: {why}"));
    if pip.is_err() && npm.is_err() {
        return true;
    }
    if !build() {
        return false;
    }
    let mut mini = Command::new("target/debug/ds4-server");
    mini.args(["--port", "0", "--cors"]).env("DS4_LOCK_FILE", format!("{HOME}/lock")).env("DS4_MODEL", "mini");
    let mut scripted = Command::new("target/debug/examples/scripted");
    scripted.arg("xtask/clients/script.json");
    let servers = serve(&mut mini).and_then(|mini| Ok((mini, serve(&mut scripted)?)));
    let passed = servers.map(|(mini, scripted)| {
        let python = |python: &String| {
            succeeds(Command::new(python).args(["-B", "xtask/clients/checks.py", &mini.url, &scripted.url]))
        };
        let mut node = Command::new("node");
        node.args(["xtask/clients/checks.mjs", &npm_home(), &mini.url, &scripted.url]);
        let passed = pip.as_ref().map_or(true, python);
        (npm.is_err() || succeeds(&mut node)) && passed
    });
    let passed = passed.and_then(|passed| Ok((pip.is_err() || try_document(40)?) && passed));
    passed.unwrap_or_else(|why| {
        eprintln!("xtask: {why}");
        false
    })
}

/// The same as a part of the soak: for so many seconds, or why it cannot be.
pub(crate) fn soak_document(seconds: u32) -> Result<bool, &'static str> {
    python::install(HOME, &PACKAGES)?;
    if !build() {
        return Ok(false);
    }
    Ok(try_document(seconds).unwrap_or_else(|why| {
        eprintln!("xtask: {why}");
        false
    }))
}

/// Requests as the server's OpenAPI document describes them, and others that it does not: every answer is as described,
/// none says that the server is at fault, none takes long.
fn try_document(seconds: u32) -> Result<bool, String> {
    let mut server = Command::new("target/debug/ds4-server");
    server.args(["--port", "0", "-c", "400", "-n", "8"]).env("DS4_LOCK_FILE", format!("{HOME}/lock-document"));
    let server = serve(server.env("DS4_MODEL", "mini"))?;
    let home = std::env::current_dir().map_err(|e| e.to_string())?.join(HOME);
    let mut tool = Command::new(home.join("venv/bin/st"));
    tool.current_dir(&home); // it leaves a folder where it runs
    tool.args(["run", &format!("{}/openapi.json", server.url), "--url", &server.url]);
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
    tool.args(["--checks", checks, "--phases", "examples,coverage,fuzzing", "--max-time", &seconds.to_string()]);
    tool.args(["--request-timeout", "20", "--warnings", "off", "--no-color"]);
    match seconds < 60 {
        true => tool.arg("--generation-deterministic"),
        false => tool.args(["--generation-database", ":memory:"]),
    };
    Ok(succeeds(&mut tool))
}

/// Where the packages for JavaScript lie.
fn npm_home() -> String {
    std::env::current_dir().unwrap_or_default().join(HOME).join("npm").to_string_lossy().into_owned()
}

/// Installs the SDKs for JavaScript, once for each set of versions.
fn install_npm() -> Result<(), &'static str> {
    let stamp = format!("{HOME}/installed-npm.txt");
    let wanted = NPM.join("\n");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    if !Command::new("node").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return Err("needs node");
    }
    fs::create_dir_all(npm_home()).map_err(|_| "target/ cannot be written")?;
    let npm = ["install", "--silent", "--no-fund", "--no-audit", "--ignore-scripts", "--prefix"];
    let installed = Command::new("npm").args(npm).arg(npm_home()).args(NPM).status();
    if !installed.is_ok_and(|status| status.success()) {
        return Err("npm cannot install the SDKs here");
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
