//! Starts the one server, or finds it.
//!
//! Every decision is taken under the lifecycle lock and every wait happens outside of it. After a wait the world may be
//! another, so it is looked at again; what makes sure that there is never a second server is the lock that each server
//! holds, not the care that is taken here.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use crate::down::{self, End};
use crate::json::write_whole;
use crate::observe::Server;
use crate::records::ServerRecord;
use crate::{
    Error, FileLock, LifecycleLock, StateDir, Stop, Timings, http, lease, log, port, process, spawn, write_json,
};

/// A model that a server can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Model {
    /// The one inside the program.
    Builtin,
    /// A file.
    File(PathBuf),
}

impl Model {
    /// The name of the one inside the program, as a flag and in `server.json`.
    pub const BUILTIN: &str = "mini";

    /// As a flag has it.
    fn flag(&self) -> String {
        match self {
            Self::Builtin => Self::BUILTIN.into(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What is started where nothing runs.
    pub model: Model,
    /// Whether that was asked for by name: then a server with another model is replaced.
    pub model_asked: bool,
    /// The port; none is 8000, or wherever a server runs.
    pub port: Option<u16>,
    /// The process for which the server is needed; none keeps it until it is stopped.
    pub for_pid: Option<u32>,
    /// More flags of the server.
    pub flags: Vec<String>,
}

/// A server that takes requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    /// Without `/v1`.
    pub url: String,
    /// Its process; none where the system does not say.
    pub pid: Option<u32>,
    /// Its model's name.
    pub model: Option<String>,
    /// Tokens of a context.
    pub context: Option<u64>,
    /// Whether it ran before.
    pub adopted: bool,
}

/// Where a server listens unless something else is said.
const PORT: u16 = 8000;
/// How often it is said that a server still starts.
const NEWS: Duration = Duration::from_secs(10);
/// Between two questions whether it is ready: at first, and at last.
const POLL: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];
/// How long a new process may take until it is a server or has ended.
const BIRTH: Duration = Duration::from_secs(60);

/// Starts a server or finds the one that runs, and waits until it takes requests. `say` tells what happens, in short lines.
pub fn up(
    dir: &StateDir,
    wanted: &Wanted,
    timings: &Timings,
    stop: &Stop,
    say: &mut dyn FnMut(&str),
) -> Result<Ready, Error> {
    dir.create()?;
    let deadline = Instant::now() + timings.ready_timeout;
    let mut up = Up { dir, wanted, timings, stop, say, deadline, child: None, log_from: log::length(dir) };
    let result = up.run();
    if result.is_err() && wanted.for_pid.is_none() {
        up.forget_keep();
    }
    result
}

struct Up<'a> {
    dir: &'a StateDir,
    wanted: &'a Wanted,
    timings: &'a Timings,
    stop: &'a Stop,
    say: &'a mut dyn FnMut(&str),
    deadline: Instant,
    /// The server that was started here.
    child: Option<Child>,
    /// Where its part of the log begins.
    log_from: u64,
}

/// What is to be done outside of the lock.
enum Next {
    /// Wait until it takes requests.
    Await(Server),
    /// Wait until it is gone.
    Gone(Server, End),
    /// Nothing: another one was faster.
    Again,
}

impl Up<'_> {
    fn run(&mut self) -> Result<Ready, Error> {
        loop {
            let lock = LifecycleLock::take(self.dir, self.deadline, self.stop)?;
            self.need()?;
            match self.decide()? {
                Next::Gone(server, end) => {
                    drop(lock);
                    down::wait(self.dir, &server, end, self.timings, self.stop)?;
                }
                Next::Again => drop(lock),
                Next::Await(server) => {
                    drop(lock);
                    if let Some(ready) = self.await_ready(&server)?
                        && self.confirm(&server)?
                    {
                        return Ok(ready);
                    }
                }
            }
            if Instant::now() >= self.deadline {
                return Err(self.timed_out(None));
            }
        }
    }

    /// Says who needs the server, before it is looked for.
    fn need(&self) -> Result<(), Error> {
        self.dir.sweep();
        lease::prune(self.dir);
        match self.wanted.for_pid {
            None => write_whole(&self.dir.keep(), &format!("{}\n", std::process::id())),
            Some(pid) => {
                let cwd = std::env::current_dir().unwrap_or_default();
                lease::take(self.dir, pid, &cwd.display().to_string())?;
                if !lease::is_held(self.dir, pid)? {
                    spawn::lease_holder(self.dir, pid)?;
                }
                Ok(())
            }
        }
    }

    fn decide(&mut self) -> Result<Next, Error> {
        let server = Server::of(self.dir)?;
        match &server {
            Server::None { stale } => {
                if let Some(why) = stale {
                    log::append(self.dir, "ds4 up", &format!("stale state: {why}"));
                    down::clear(self.dir)?;
                }
                self.adopt_or_start()
            }
            server if server.is_stopping() => {
                (self.say)("waiting for previous ds4-server shutdown");
                Ok(Next::Gone(server.clone(), End::Asked))
            }
            server if !self.suits(server) => {
                let name = self.wanted.model.flag();
                if server.record().is_some_and(|record| record.adopted) {
                    return Err(self.not_ours(server.pid(), server.record().map(|r| r.base_url.as_str())));
                }
                (self.say)(&format!("switching ds4-server to {name}"));
                down::ask(self.dir, server)?;
                Ok(Next::Gone(server.clone(), End::Asked))
            }
            server => Ok(Next::Await(server.clone())),
        }
    }

    /// Whether a server runs what is asked for, as far as it has said what it runs.
    fn suits(&self, server: &Server) -> bool {
        let (true, Some(record)) = (self.wanted.model_asked, server.record()) else { return true };
        let same = |a: &Path, b: &Path| a == b || std::fs::canonicalize(a).ok() == std::fs::canonicalize(b).ok();
        match (&self.wanted.model, &record.model_path) {
            (Model::File(asked), Some(path)) => same(asked, path),
            (Model::Builtin, None) => record.model_id.as_deref() == Some(Model::BUILTIN),
            _ => false,
        }
    }

    fn not_ours(&self, pid: Option<u32>, url: Option<&str>) -> Error {
        let pid = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
        let url = url.unwrap_or_default();
        let name = self.wanted.model.flag();
        Error::Failed(format!(
            "a ds4-server that ds4 did not start{pid} answers at {url}; leave out --model {name} to use it, stop it, or \
             choose another --port"
        ))
    }

    /// Nothing of this directory runs. Something may answer at the port all the same.
    fn adopt_or_start(&mut self) -> Result<Next, Error> {
        let port = self.wanted.port.unwrap_or(PORT);
        if port == 0 || !port::is_taken(port) {
            return self.start(port);
        }
        let (url, pid) = (format!("http://127.0.0.1:{port}"), port::listener(port));
        let line = pid.and_then(process::command_line).unwrap_or_default();
        let who = pid.map(|pid| format!(" (pid {pid}: {line})")).unwrap_or_default();
        if !http::is_ds4(&url) {
            let why = format!("port {port} is taken by something that is no ds4-server{who}; choose another --port");
            return Err(Error::Failed(why));
        }
        if line.contains("--state-dir") {
            let why =
                format!("port {port} is taken by the server of another state directory{who}; choose another --port");
            return Err(Error::Failed(why));
        }
        if self.wanted.model_asked {
            return Err(self.not_ours(pid, Some(&url)));
        }
        let record =
            ServerRecord { base_url: url, args: vec![line], adopted: true, ..ServerRecord::of(pid.unwrap_or(0)) };
        if pid.is_some() {
            write_json(&self.dir.server(), &record)?;
        }
        log::append(self.dir, "ds4 up", &format!("adopted existing ds4-server{who}"));
        (self.say)("using the ds4-server that runs already");
        Ok(Next::Await(Server::Foreign(record)))
    }

    /// Starts one, and waits until it holds its lock or has ended.
    fn start(&mut self, port: u16) -> Result<Next, Error> {
        let has = |names: &[&str]| {
            let names_it = |flag: &String| names.contains(&flag.split('=').next().unwrap_or_default());
            self.wanted.flags.iter().any(names_it)
        };
        let shown = |path: &Path| path.display().to_string();
        let mut args = vec!["--state-dir".into(), shown(self.dir.root()), "--port".into(), port.to_string()];
        args.extend(["--model".into(), self.wanted.model.flag()]);
        if !has(&["--kv-disk-dir"]) {
            args.extend(["--kv-disk-dir".into(), shown(&self.dir.kv())]);
        }
        args.extend_from_slice(&self.wanted.flags);
        (self.say)(&format!("starting ds4-server ({})", self.wanted.model.flag()));
        log::rotate(self.dir);
        self.log_from = log::length(self.dir);
        let child = self.child.insert(spawn::server(self.dir, &args)?);
        let most = self.deadline.saturating_duration_since(Instant::now()).min(BIRTH);
        let (mut held, mut ended, lock) = (None, false, self.dir.server_lock());
        let waited = self.stop.wait(most, || {
            ended = child.try_wait().is_ok_and(|status| status.is_some());
            held = FileLock::holder(&lock).ok().flatten();
            held.is_some() || ended
        });
        match (waited, held) {
            (Ok(_), Some(pid)) if pid == child.id() => Server::of(self.dir).map(Next::Await),
            (Ok(_), Some(_)) => Ok(Next::Again),
            (Ok(true), None) => Err(self.ended()),
            (waited, _) => {
                // It is no server yet, so nobody else would end it.
                let _ = child.kill();
                waited.and(Err(self.timed_out(None)))
            }
        }
    }

    /// None when the server is gone, or ends, and all is to be looked at again.
    fn await_ready(&mut self, server: &Server) -> Result<Option<Ready>, Error> {
        let started = Instant::now();
        let (mut poll, mut news) = (POLL[0], NEWS);
        let mine = self.child.as_ref().map(Child::id);
        loop {
            let now = match server {
                // Nothing could be written of one whose process is unknown.
                Server::Foreign(record) if record.pid == 0 => server.clone(),
                _ => Server::of(self.dir)?,
            };
            if now.pid() != server.pid() || now.is_stopping() {
                return if mine == server.pid() && now.pid().is_none() { Err(self.ended()) } else { Ok(None) };
            }
            let record = now.record().filter(|record| !record.starting);
            let url = record.map(|record| record.base_url.clone());
            if let Some(record) = record.filter(|record| http::is_ready(&record.base_url)) {
                return Ok(Some(Ready {
                    url: record.base_url.clone(),
                    pid: now.pid().filter(|pid| *pid != 0),
                    model: record.model_id.clone(),
                    context: record.ctx,
                    adopted: mine != now.pid(),
                }));
            }
            if Instant::now() >= self.deadline {
                return Err(self.timed_out(url));
            }
            if started.elapsed() >= news {
                (self.say)(&format!("ds4-server starting ({}s)", started.elapsed().as_secs()));
                news += NEWS;
            }
            self.stop.sleep(poll)?;
            poll = (poll * 3 / 2).min(POLL[1]);
        }
    }

    /// Whether the server is still the one that was found ready, and will stay for whoever asked here.
    fn confirm(&self, server: &Server) -> Result<bool, Error> {
        let _lock = LifecycleLock::take(self.dir, Instant::now() + self.timings.lock_timeout, self.stop)?;
        self.need()?;
        if matches!(server, Server::Foreign(record) if record.pid == 0) {
            return Ok(true);
        }
        let now = Server::of(self.dir)?;
        Ok(now.pid() == server.pid() && !now.is_stopping())
    }

    /// Takes back that the server is to stay, if nobody else has asked for it since.
    fn forget_keep(&self) {
        let Ok(_lock) = LifecycleLock::take(self.dir, Instant::now() + Duration::from_secs(2), &Stop::default()) else {
            return;
        };
        let said = std::fs::read_to_string(self.dir.keep()).unwrap_or_default();
        if said.trim() == std::process::id().to_string() {
            let _ = std::fs::remove_file(self.dir.keep());
        }
    }

    fn ended(&mut self) -> Error {
        let log = self.dir.log();
        let tail = log::tail_from(self.dir, 6, self.log_from).ok().flatten().map(|(text, _)| text).unwrap_or_default();
        let why = format!("ds4-server exited before becoming ready; see {}\n{}", log.display(), tail.trim_end());
        Error::Failed(why.trim_end().into())
    }

    fn timed_out(&self, url: Option<String>) -> Error {
        let url = url.unwrap_or_else(|| "its port".into());
        let (log, seconds) = (self.dir.log(), self.timings.ready_timeout.as_secs_f64());
        Error::Failed(format!(
            "Timed out waiting for ds4-server at {url} after {seconds} s; see {}; --timeout and DS4_READY_TIMEOUT_MS give it longer",
            log.display()
        ))
    }
}
