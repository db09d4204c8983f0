//! Reading and writing the files.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// No file of ours comes near this.
const MOST_BYTES: u64 = 1 << 20;

/// What was found in a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Found<T> {
    /// There is no such file.
    Nothing,
    /// It makes no sense, and why.
    Unreadable(String),
    /// This.
    There(T),
}

impl<T> Found<T> {
    /// What makes sense.
    pub fn there(self) -> Option<T> {
        match self {
            Self::There(value) => Some(value),
            Self::Nothing | Self::Unreadable(_) => None,
        }
    }
}

/// Reads a file that anybody may have written or damaged.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Found<T> {
    match read_bytes(path) {
        Ok(None) => Found::Nothing,
        Ok(Some(bytes)) => match serde_json::from_slice(&bytes) {
            Ok(value) => Found::There(value),
            Err(why) => Found::Unreadable(format!("{}: {why}", path.display())),
        },
        Err(why) => Found::Unreadable(format!("{}: {why}", path.display())),
    }
}

fn read_bytes(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let about = match std::fs::metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        about => about.map_err(|e| e.to_string())?,
    };
    if !about.is_file() {
        return Err("is no file".into());
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|e| e.to_string())?;
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    match bytes.len() as u64 {
        0..=MOST_BYTES => Ok(Some(bytes)),
        _ => Err(format!("is larger than {MOST_BYTES} bytes")),
    }
}

/// Writes a file so that readers see the old one or the new one, whatever happens, for its owner alone.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::Failed(format!("{}: {e}", path.display())))?;
    write_whole(path, &format!("{text}\n"))
}

/// The same for any text.
pub(crate) fn write_whole(path: &Path, text: &str) -> Result<(), Error> {
    let aside = aside(path, "tmp");
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        std::fs::rename(&aside, path)
    });
    written.map_err(|source| {
        let _ = std::fs::remove_file(&aside);
        Error::File { path: path.to_owned(), what: "write", source }
    })
}

/// Removes a file, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::file(path, "remove")(e)),
        _ => Ok(()),
    }
}

/// `PATH.PID.MS.SEQ.END`: a name that no other writer takes.
pub(crate) fn aside(path: &Path, end: &str) -> PathBuf {
    static SEQUENCE: AtomicU64 = AtomicU64::new(0);
    let (pid, sequence) = (std::process::id(), SEQUENCE.fetch_add(1, Relaxed));
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{pid}.{}.{sequence}.{end}", milliseconds(SystemTime::now())));
    name.into()
}

/// Since 1970.
pub(crate) fn milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn files_are_whole_private_and_in_the_documented_form() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.json");
        assert_eq!(read_json::<Value>(&path), Found::Nothing);
        write_json(&path, &json!({"pid": 1})).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\n  \"pid\": 1\n}\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        assert_eq!(read_json(&path), Found::There(json!({"pid": 1})));
        let why = write_json(&folder.path().join("no/such.json"), &json!(1)).unwrap_err().to_string();
        assert!(why.contains("no/such.json: cannot write: "), "{why}");
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        let why = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            match read_json::<Value>(&path) {
                Found::Unreadable(why) => why,
                other => panic!("{other:?}"),
            }
        };
        assert!(why(b"{\"pid\": ").contains("x.json: EOF while parsing"));
        assert!(why(b"{\"pid\": NaN}").contains("x.json: expected value"));
        assert!(why(b"\xff\xfe").contains("x.json: "));
        assert!(why(&vec![b' '; (1 << 20) + 1]).contains("is larger than 1048576 bytes"));
        assert!(why("[".repeat(100_000).as_bytes()).contains("recursion limit"));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(read_json::<Value>(&path), Found::Unreadable(format!("{}: is no file", path.display())));
    }
}
