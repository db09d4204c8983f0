//! A model, a place for it, and someone who asks for it.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ds4_gguf::{Format, Header, Writer};
use ds4_hub::{Catalogue, Error, Patience, Progress, Report, Settings, Source, Store};
use ds4_testkit::host::Host;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// A GGUF of about so many bytes that calls itself a whole model; others with another `seed`.
pub(crate) fn model(bytes: usize, seed: u8) -> Vec<u8> {
    gguf("token_embd.weight", bytes, seed)
}

/// A GGUF of drafting weights.
pub(crate) fn drafting(bytes: usize) -> Vec<u8> {
    gguf("mtp.0.enorm.weight", bytes, 0)
}

fn gguf(tensor: &str, bytes: usize, seed: u8) -> Vec<u8> {
    let mut header = Header::new();
    header.str("general.architecture", "deepseek4").tensor(tensor, &[bytes as u64 / 4], Format::F32);
    let mut writer = Writer::begin("model", Vec::new(), &header).expect("a header");
    let payload: Vec<u8> = (0..bytes / 4 * 4).map(|i| (i * 31 % 251) as u8 ^ seed).collect();
    writer.tensor(tensor, &payload).expect("it fits");
    writer.finish().expect("all tensors are there")
}

/// The SHA-256 of bytes, as Hugging Face writes it in X-Linked-Etag.
pub(crate) fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A store of its own, and how to ask.
pub(crate) struct Asker {
    pub(crate) folder: TempDir,
    pub(crate) settings: Settings,
    pub(crate) notes: Vec<String>,
    pub(crate) reports: Vec<Report>,
}

impl Progress for Asker {
    fn report(&mut self, report: &Report) {
        self.reports.push(*report);
    }

    fn note(&mut self, text: &str) {
        self.notes.push(text.into());
    }
}

/// What all of these tests ask for.
pub(crate) const ASKED: &str = "hf://me/mine/a.gguf";

impl Asker {
    /// One who waits long for an answer, but not for another try.
    pub(crate) fn of(host: &Host) -> Self {
        let endpoint = host.url();
        let environment = |name: &str| (name == "HF_ENDPOINT").then(|| endpoint.clone().into());
        let mut settings = Settings::new(None, &environment).expect("an address");
        let ms = Duration::from_millis;
        settings.patience =
            Patience { stall: ms(60_000), wait: ms(1), longest_wait: ms(5), asked_wait: ms(20), tries: 4 };
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder, settings, notes: Vec::new(), reports: Vec::new() }
    }

    pub(crate) fn store(&self) -> Store {
        Store::new(&self.folder.path().join("gguf"), None)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.store().path("a.gguf")
    }

    /// What an earlier run left.
    pub(crate) fn leave(&self, suffix: &str, bytes: &[u8]) {
        std::fs::create_dir_all(self.store().folder()).expect("made");
        std::fs::write(format!("{}{suffix}", self.path().display()), bytes).expect("written");
    }

    /// Names of all files in the store.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.store().folder()).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Asks for it.
    pub(crate) fn pull(&mut self) -> Result<PathBuf, Error> {
        self.pull_from(ASKED)
    }

    pub(crate) fn pull_from(&mut self, source: &str) -> Result<PathBuf, Error> {
        let source = Source::parse(source, &Catalogue::new()).expect("it can be asked for");
        let (store, settings) = (self.store(), self.settings.clone());
        Ok(ds4_hub::obtain(&source, &store, &settings, self)?.expect("it is not built in"))
    }

    /// Asks for it and gets it.
    pub(crate) fn gets(&mut self, bytes: &[u8]) {
        let path = self.pull().unwrap_or_else(|e| panic!("{e}; {:?}", self.notes));
        assert_eq!(path, self.path());
        assert!(read(&path) == bytes, "{} bytes of another file", read(&path).len());
        assert_eq!(self.files(), ["a.gguf", "a.gguf.origin"]);
    }

    /// Asks for it and is refused with a line that has this part.
    pub(crate) fn fails(&mut self, part: &str) {
        let error = self.pull().expect_err("it fails").to_string();
        assert!(error.contains(part) && !error.contains('\n'), "{error}");
        assert!(!self.path().exists());
    }

    /// Whether something was said that has this part.
    pub(crate) fn heard(&self, part: &str) -> bool {
        self.notes.iter().any(|note| note.contains(part))
    }
}

/// Waits for what must happen soon.
pub(crate) fn until(happens: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !happens() {
        assert!(Instant::now() < end, "it does not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(crate) fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("it is there")
}
