//! Files on disk: opening, mapping, touching, and what is said about files that are none of ours.

use std::path::Path;

use ds4_gguf::{Bytes, File, Format, Header, Writer};

fn write(path: &Path) {
    let mut header = Header::new();
    header.str("general.name", "on disk");
    header.tensor("a", &[2000], Format::F32).tensor("b", &[2], Format::F32);
    let out = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    let mut writer = Writer::begin(&path.display().to_string(), out, &header).unwrap();
    writer.tensor("a", &[1; 8000]).unwrap();
    writer.tensor("b", &[2; 8]).unwrap();
    writer.finish().unwrap();
}

#[test]
fn a_mapped_file_reads_like_one_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    write(&path);
    let file = File::open(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let memory = File::from_bytes("memory", bytes.clone()).unwrap();
    let fixed = File::from_static("built-in", bytes.leak()).unwrap();
    assert_eq!(file.name(), path.display().to_string());
    assert_eq!((memory.name(), fixed.name()), ("memory", "built-in"));
    for file in [&file, &memory, &fixed] {
        assert_eq!(file.size(), std::fs::metadata(&path).unwrap().len());
        assert_eq!(file.metadata().str("general.name").unwrap(), Some("on disk"));
        assert_eq!(*file.bytes(file.tensor("a").unwrap()), [1; 8000]);
        assert_eq!(*file.bytes(file.tensor("b").unwrap()), [2; 8]);
    }
}

#[test]
fn bytes_outlive_the_file_and_cross_threads() {
    fn shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    write(&path);
    let file = File::open(&path).unwrap();
    shared(&file);
    let bytes: Bytes = file.bytes(file.tensor("b").unwrap());
    shared(&bytes);
    drop(file);
    assert_eq!(std::thread::spawn(move || bytes.to_vec()).join().unwrap(), [2; 8]);
}

#[test]
fn touching_reports_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    write(&path);
    let file = File::open(&path).unwrap();
    let mut calls = Vec::new();
    file.touch(|done, total| calls.push((done, total)));
    assert_eq!(calls, [(file.size(), file.size())]);
}

#[test]
fn files_that_are_not_gguf_are_named_for_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let message = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let message = File::open(&path).unwrap_err().to_string();
        message.strip_prefix(&format!("{}: ", path.display())).expect("the message starts with the path").to_string()
    };
    assert_eq!(message("empty", b""), "header: the file is empty");
    assert_eq!(
        message("zip", b"PK\x03\x04rest"),
        r#"header: not a GGUF file: expected it to start with "GGUF", found "PK\x03\x04""#
    );
    assert_eq!(
        message("lfs", b"version https://git-lfs"),
        r#"header: not a GGUF file: expected it to start with "GGUF", found "vers""#
    );
    assert_eq!(message("two", b"GG"), r#"header: not a GGUF file: expected it to start with "GGUF", found "GG""#);
    assert_eq!(
        message("cut", b"GGUF\x03\0\0\0"),
        "header: needs 24 bytes but the file ends at 8 (truncated download?)"
    );
    let version = |v: [u8; 4]| message("version", &[b"GGUF".as_slice(), &v, &[0; 16]].concat());
    assert_eq!(version([2, 0, 0, 0]), "header: expected GGUF version 3, found version 2");
    assert_eq!(version([0, 0, 0, 0]), "header: expected GGUF version 3, found version 0");
    assert_eq!(version([0, 0, 0, 3]), "header: expected GGUF version 3, found version 50331648 (a big-endian file)");
}

#[test]
fn paths_that_cannot_be_mapped_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.gguf");
    let error = File::open(&missing).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: cannot open: No such file", missing.display())), "{error}");
    let error = File::open(dir.path()).unwrap_err().to_string();
    assert_eq!(error, format!("{}: open: expected a GGUF file, found a directory", dir.path().display()));
    #[cfg(unix)]
    assert!(File::open(Path::new("/dev/null")).unwrap_err().to_string().ends_with("found not a regular file"));
}
