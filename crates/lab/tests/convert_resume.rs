//! Conversions that end early and go on.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use common::options;
use ds4_gguf::Format;
use ds4_lab::convert::{Error, Options, Recipe, convert};
use ds4_testkit::checkpoint::{Checkpoint, Sizes};
use tempfile::{TempDir, tempdir};

struct Work {
    folder: TempDir,
    checkpoint: Checkpoint,
}

impl Work {
    fn new() -> Self {
        let work = Self { folder: tempdir().unwrap(), checkpoint: Checkpoint::new(&Sizes::default()) };
        work.checkpoint.write_sharded(work.folder.path(), 2);
        work
    }

    fn options(&self) -> Options<'_> {
        options(self.folder.path())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Converts to `out.gguf` and stops after so many pieces. Returns the bytes that were there at first.
    fn run(&self, options: &Options<'_>, pieces: usize) -> (u64, Result<(), Error>) {
        let (stop, mut calls, mut first) = (AtomicBool::new(pieces == 0), 0, 0);
        let result = convert(options, &self.file("out.gguf"), &stop, &mut |progress| {
            first = if calls == 0 { progress.done } else { first };
            stop.store(calls >= pieces, Relaxed);
            calls += 1;
        });
        (first, result)
    }

    fn refusal(&self, options: &Options<'_>) -> String {
        let error = self.run(options, usize::MAX).1.unwrap_err();
        assert!(matches!(error, Error::Unfinished { .. }), "{error}");
        error.to_string().replace(&self.folder.path().display().to_string(), "DIR")
    }
}

fn whole(checkpoint: &Path) -> Vec<u8> {
    let folder = tempdir().unwrap();
    let out = folder.path().join("x.gguf");
    convert(&options(checkpoint), &out, &AtomicBool::new(false), &mut |_| {}).unwrap();
    fs::read(out).unwrap()
}

#[test]
fn stopped_again_and_again_it_ends_with_the_same_bytes() {
    let work = Work::new();
    let expected = whole(work.folder.path());
    let mut kept = 0;
    for pieces in [0, 1, 3, 0, 2] {
        let (begin, result) = work.run(&work.options(), pieces);
        assert_eq!(begin, kept, "it begins where it was stopped");
        let Err(Error::Interrupted { part, done, total }) = result else { panic!("{result:?}") };
        assert!(part == work.file("out.gguf.part") && kept <= done && done < total);
        kept = done;
        assert!(!work.file("out.gguf").exists());
    }
    let (begin, result) = work.run(&work.options(), usize::MAX);
    result.unwrap();
    assert!(begin == kept && kept > 0 && fs::read(work.file("out.gguf")).unwrap() == expected);
    assert!(!work.file("out.gguf.part").exists() && !work.file("out.gguf.part.json").exists());
}

#[test]
fn nothing_is_mixed_with_the_work_of_another_conversion() {
    let mut work = Work::new();
    work.run(&work.options(), 3).1.unwrap_err();

    let other = Options { recipe: Recipe::uniform(Format::BF16), ..work.options() };
    let options_changed = "DIR/out.gguf.part: was begun with another configuration, tokenizer or options; \
                           remove it or pass --overwrite to begin anew";
    assert_eq!(work.refusal(&other), options_changed);
    assert_eq!(work.refusal(&Options { name: "another", ..work.options() }), options_changed);

    let journal = fs::read_to_string(work.file("out.gguf.part.json")).unwrap();
    fs::write(work.file("out.gguf.part.json"), "{").unwrap();
    let refused = work.refusal(&work.options());
    assert!(refused.starts_with("DIR/out.gguf.part: DIR/out.gguf.part.json: EOF while parsing"), "{refused}");
    fs::remove_file(work.file("out.gguf.part.json")).unwrap();
    let refused = work.refusal(&work.options());
    assert!(refused.starts_with("DIR/out.gguf.part: cannot be continued: "), "{refused}");
    fs::write(work.file("out.gguf.part.json"), journal).unwrap();

    // A shard with other values.
    work.checkpoint = Checkpoint::new(&Sizes { seed: 2, ..Sizes::default() });
    work.checkpoint.write_sharded(work.folder.path(), 2);
    let refused = work.refusal(&work.options());
    assert!(refused.contains("shard model-00001-of-00002.safetensors changed since this was begun"), "{refused}");
    let (begin, result) = work.run(&Options { overwrite: true, ..work.options() }, usize::MAX);
    result.unwrap();
    assert_eq!(begin, 0);
    assert!(fs::read(work.file("out.gguf")).unwrap() == whole(work.folder.path()));
}

#[test]
fn overwrite_goes_on_where_that_is_right() {
    let work = Work::new();
    fs::write(work.file("out.gguf"), "an older file").unwrap();
    assert!(matches!(work.run(&work.options(), usize::MAX).1, Err(Error::Exists(_))));
    let overwrite = Options { overwrite: true, ..work.options() };
    work.run(&overwrite, 3).1.unwrap_err();
    assert_eq!(fs::read(work.file("out.gguf")).unwrap(), b"an older file", "until the new one is whole");
    let (begin, result) = work.run(&overwrite, usize::MAX);
    assert!(begin > 0 && result.is_ok());
    assert!(fs::read(work.file("out.gguf")).unwrap() == whole(work.folder.path()));
}

#[test]
fn two_conversions_do_not_write_one_file() {
    let work = Work::new();
    let part = fs::File::create(work.file("out.gguf.part")).unwrap();
    part.lock().unwrap();
    let error = work.run(&work.options(), usize::MAX).1.unwrap_err();
    assert!(error.to_string().ends_with("out.gguf.part: another conversion is writing this file"), "{error}");
    drop(part);
    work.run(&work.options(), usize::MAX).1.unwrap();
}
