//! The server's side: what it says about itself while it lives.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use crate::process::without_keys;
use crate::records::ServerRecord;
use crate::{Error, FileLock, StateDir, read_json, write_json};

/// The one server of a state directory: this process, until it ends.
#[derive(Debug)]
pub struct Presence {
    dir: StateDir,
    /// None once it says nothing any more.
    record: Mutex<Option<ServerRecord>>,
}

/// What a server says about itself.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// Its model's name.
    pub model_id: String,
    /// Its model's file; none is the built-in one.
    pub model_path: Option<PathBuf>,
    /// Where it keeps prefixes.
    pub kv_dir: Option<PathBuf>,
    /// Tokens of a context.
    pub ctx: u64,
    /// The port that it will listen at; 0 for any.
    pub port: u16,
}

impl Presence {
    /// Becomes the server of a state directory, or says which process is.
    pub fn begin(dir: &StateDir, about: Description) -> Result<Self, Error> {
        dir.create()?;
        match FileLock::take(&dir.server_lock())? {
            Ok(lock) => lock.keep_for_life(),
            Err(pid) => {
                let root = dir.root().display();
                let why = format!("another ds4 server already runs for {root} (pid {pid}); ds4 down stops it");
                return Err(Error::Usage(why));
            }
        }
        let record = ServerRecord {
            base_url: url(SocketAddr::from((Ipv4Addr::LOCALHOST, about.port))),
            cwd: std::env::current_dir().ok(),
            binary: std::env::current_exe().ok(),
            args: without_keys(std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned())),
            model_id: Some(about.model_id),
            model_path: about.model_path,
            kv_dir: about.kv_dir,
            ctx: Some(about.ctx),
            starting: true,
            ..ServerRecord::of(std::process::id())
        };
        write_json(&dir.server(), &record)?;
        Ok(Self { dir: dir.clone(), record: Mutex::new(Some(record)) })
    }

    /// Changes what is said, and says it.
    fn say(&self, change: impl FnOnce(&mut ServerRecord)) -> Result<(), Error> {
        match &mut *self.record() {
            Some(record) => {
                change(record);
                write_json(&self.dir.server(), record)
            }
            None => Ok(()),
        }
    }

    fn record(&self) -> MutexGuard<'_, Option<ServerRecord>> {
        self.record.lock().expect("nothing panics under this lock")
    }

    /// Says it again if the file is gone, damaged, or of one that has ended: whoever looks for the server goes by it.
    pub(crate) fn renew(&self) {
        let path = self.dir.server();
        if let Some(record) = &*self.record()
            && read_json::<ServerRecord>(&path).there().is_none_or(|said| !said.lives())
        {
            // The next look tries again.
            let _ = write_json(&path, record);
        }
    }

    /// Says where it listens.
    pub fn listening(&self, address: SocketAddr) -> Result<(), Error> {
        self.say(|record| (record.base_url, record.starting) = (url(address), false))
    }

    /// Says that it ends.
    pub fn stopping(&self) {
        // It ends, whether that can be said or not.
        let _ = self.say(|record| {
            if !record.stopping {
                record.mark_stopping();
            }
        });
    }

    /// Says nothing any more; the last thing before the process ends.
    pub fn end(&self) {
        let (mut record, path) = (self.record(), self.dir.server());
        *record = None;
        if read_json::<ServerRecord>(&path).there().is_none_or(|record| record.pid == std::process::id()) {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// How this machine reaches an address.
fn url(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_that_reach_the_server_from_here() {
        let of = |text: &str| url(text.parse().unwrap());
        assert_eq!(of("127.0.0.1:8000"), "http://127.0.0.1:8000");
        assert_eq!(of("0.0.0.0:1"), "http://127.0.0.1:1");
        assert_eq!(of("[::]:1"), "http://[::1]:1");
        assert_eq!(of("192.168.1.5:1"), "http://192.168.1.5:1");
    }
}
