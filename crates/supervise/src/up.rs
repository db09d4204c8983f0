//! Starts the one server, or finds it.
//!
//! Every decision is taken under the lifecycle lock and every wait happens outside of it. After a wait the world may be
//! another, so it is looked at again; what makes sure that there is never a second server is the lock that each server
//! holds, not the care that is taken here.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use crate::down::{self, End};
use crate::json::{remove, write_whole};
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
    /// What is started where nothing runs; none: nothing is.
    pub model: Option<Model>,
    /// Whether that was asked for by name: then a server with another model is replaced.
    pub model_asked: bool,
    /// The port; none is wherever a server runs or has run that is replaced, or 8000.
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

/// Starts a server or finds the one that runs, and waits until it takes requests; none when nothing runs and no model is
/// wanted. `say` tells what happens, in short lines.
pub fn up(
    dir: &StateDir,
    wanted: &Wanted,
    timings: &Timings,
    stop: &Stop,
    say: &mut dyn FnMut(&str),
) -> Result<Option<Ready>, Error> {
    dir.create()?;
    let deadline = Instant::now() + timings.ready_timeout;
    let mut up = Up { dir, wanted, timings, stop, say, deadline, child: None, port: None, log_from: log::length(dir) };
    let result = up.run();
    if !matches!(result, Ok(Some(_))) && wanted.for_pid.is_none() {
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
    /// The port of the one that it replaces.
    port: Option<u16>,
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
    /// Say that nothing runs.
    Nothing,
}

impl Up<'_> {
    fn run(&mut self) -> Result<Option<Ready>, Error> {
        loop {
            let lock = LifecycleLock::take(self.dir, self.deadline, self.stop)?;
            self.need()?;
            match self.decide()? {
                Next::Gone(server, end) => {
                    drop(lock);
                    down::wait(self.dir, &server, end, self.timings, self.stop, self.say)?;
                }
                Next::Again => drop(lock),
                Next::Nothing => return Ok(None),
                Next::Await(server) => {
                    drop(lock);
                    if let Some(ready) = self.await_ready(&server)?
                        && self.confirm(&server)?
                    {
                        return Ok(Some(ready));
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
            // Who kept it before still does when this one fails.
            None if self.dir.keep().exists() => Ok(()),
            None => self.keep(),
            Some(pid) => {
                let cwd = std::env::current_dir().unwrap_or_default();
                lease::take(self.dir, pid, &cwd.display().to_string())?;
                self.hold(pid)
            }
        }
    }

    /// Says that the server stays.
    fn keep(&self) -> Result<(), Error> {
        write_whole(&self.dir.keep(), &format!("{}\n", std::process::id()))
    }

    /// Lets somebody confirm a lease, if nobody does: from then on it can be released, and does not come back.
    fn hold(&self, pid: u32) -> Result<(), Error> {
        let is_held = || lease::is_held(self.dir, pid).unwrap_or_default();
        if is_held() {
            return Ok(());
        }
        let mut holder = spawn::lease_holder(self.dir, pid)?;
        let mut ended = false;
        self.stop.wait(BIRTH, || {
            ended = holder.try_wait().is_ok_and(|status| status.is_some());
            ended || is_held()
        })?;
        // It ends when another one was faster, or the process that needs the server is gone.
        if is_held() || ended && !process::is_alive(pid) {
            return Ok(());
        }
        let log = self.dir.log();
        Err(Error::Failed(format!("the lease of process {pid} cannot be held; see {}", log.display())))
    }

    fn decide(&mut self) -> Result<Next, Error> {
        let server = Server::of(self.dir)?;
        match &server {
            Server::None { stale } => {
                if let Some(why) = stale {
                    log::append(self.dir, "ds4 up", &format!("stale state: {why}"));
                    down::clear(self.dir)?;
                }
                // Whoever kept it kept one that is gone. Who still waits for a server says it again.
                match self.wanted.for_pid {
                    None => self.keep()?,
                    Some(_) => remove(&self.dir.keep())?,
                }
                self.adopt_or_start()
            }
            server if server.is_stopping() => {
                (self.say)("waiting for previous ds4-server shutdown");
                Ok(Next::Gone(server.clone(), End::Asked))
            }
            server if !self.suits(server) => {
                let name = self.model_name();
                if server.record().is_some_and(|record| record.adopted) {
                    return Err(self.not_ours(server.pid(), server.record().map(|r| r.base_url.as_str())));
                }
                (self.say)(&format!("switching ds4-server to {name}"));
                self.port = server.record().and_then(|record| record.base_url.rsplit(':').next()?.parse().ok());
                down::ask(self.dir, server);
                Ok(Next::Gone(server.clone(), End::Asked))
            }
            server => {
                // Who needs it for a process says the same flags every time.
                let is_news = self.child.is_none() && self.wanted.for_pid.is_none();
                if is_news && !self.wanted.flags.is_empty() {
                    (self.say)("a ds4-server runs already, with its own flags; ds4 down first to start it with these");
                }
                Ok(Next::Await(server.clone()))
            }
        }
    }

    /// Whether a server runs what is asked for, as far as it has said what it runs.
    fn suits(&self, server: &Server) -> bool {
        let (true, Some(record)) = (self.wanted.model_asked, server.record()) else { return true };
        match (&self.wanted.model, &record.model_path) {
            (Some(Model::File(asked)), Some(path)) => {
                let [asked, path] = [asked, path].map(|path| std::fs::canonicalize(path).ok());
                asked.is_some() && asked == path
            }
            (Some(Model::Builtin), None) => record.model_id.as_deref() == Some(Model::BUILTIN),
            _ => false,
        }
    }

    /// The wanted model, as a flag has it.
    fn model_name(&self) -> String {
        self.wanted.model.as_ref().map(Model::flag).unwrap_or_default()
    }

    fn not_ours(&self, pid: Option<u32>, url: Option<&str>) -> Error {
        let pid = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
        let url = url.unwrap_or_default();
        let name = self.model_name();
        Error::Failed(format!(
            "a ds4-server that ds4 did not start{pid} answers at {url}; leave out --model {name} to use it, stop it, or \
             choose another --port"
        ))
    }

    /// Nothing of this directory runs. Something may answer at the port all the same.
    fn adopt_or_start(&mut self) -> Result<Next, Error> {
        let port = self.wanted.port.or(self.port).unwrap_or(PORT);
        if port == 0 || !port::is_taken(port) {
            let wanted = self.wanted;
            return match &wanted.model {
                Some(model) => self.start(model, port),
                None => Ok(Next::Nothing),
            };
        }
        let (url, pid) = (format!("http://127.0.0.1:{port}"), port::listener(port));
        let line = pid.and_then(process::command_line).unwrap_or_default();
        let who = pid.map(|pid| format!(" (pid {pid}: {line})")).unwrap_or_default();
        if !http::is_ds4(&url) {
            let why = format!("port {port} is taken by something that is no ds4-server{who}; choose another --port");
            return Err(Error::Failed(why));
        }
        if let Some(user) = port::stranger(port) {
            let why = format!(
                "port {port} is taken by the ds4-server of another user (uid {user}), who could read what it is asked; choose another --port"
            );
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
    fn start(&mut self, model: &Model, port: u16) -> Result<Next, Error> {
        let has = |names: &[&str]| {
            let names_it = |flag: &String| names.contains(&flag.split('=').next().unwrap_or_default());
            self.wanted.flags.iter().any(names_it)
        };
        let shown = |path: &Path| path.display().to_string();
        let mut args = vec!["--state-dir".into(), shown(self.dir.root()), "--port".into(), port.to_string()];
        args.extend(["--model".into(), model.flag()]);
        if !has(&["--kv-disk-dir"]) {
            args.extend(["--kv-disk-dir".into(), shown(&self.dir.kv())]);
        }
        args.extend_from_slice(&self.wanted.flags);
        (self.say)(&format!("starting ds4-server ({})", model.flag()));
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
        if self.wanted.for_pid.is_none() {
            self.keep()?;
        }
        if matches!(server, Server::Foreign(record) if record.pid == 0) {
            return Ok(true);
        }
        let now = Server::of(self.dir)?;
        Ok(now.pid() == server.pid() && !now.is_stopping() && self.suits(&now))
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
