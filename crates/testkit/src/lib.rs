//! Where tests find their fixtures.
//!
//! Reference data ("oracles") made by independent implementations lives compressed in `fixtures/oracle.tar.xz` and is
//! unpacked once under `target/`. `DS4_ORACLE_DIR` names another folder with the same sub-folders, so that fixtures of
//! other shapes can be run through the same tests.

pub mod checkpoint;
pub mod host;
#[cfg(feature = "s3")]
pub mod s3;

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// The folder of the oracle `name` (`tiny`, `qat`, `quant`, `tok`, `chat`).
///
/// `None`, after a line that says so, when the folder named by `DS4_ORACLE_DIR` has no such sub-folder; the test then
/// returns early and `cargo xtask test` counts the line.
pub fn oracle(name: &str) -> Option<PathBuf> {
    let root = match std::env::var_os("DS4_ORACLE_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => unpacked(),
    };
    let dir = root.join(name);
    if dir.is_dir() {
        return Some(dir);
    }
    skip(&format!("oracle/{name}: {} has no such folder", root.display()));
    None
}

/// The tensors of a `.safetensors` file, widened.
pub struct Tensors {
    bytes: Vec<u8>,
}

impl Tensors {
    /// Reads a file.
    pub fn read(path: &Path) -> Self {
        Self { bytes: fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())) }
    }

    /// Names of all tensors.
    pub fn names(&self) -> Vec<String> {
        self.parsed().names().into_iter().map(str::to_owned).collect()
    }

    /// Shape of a tensor.
    pub fn shape(&self, name: &str) -> Vec<usize> {
        self.tensor(name).shape().to_vec()
    }

    /// Values of an F32 tensor.
    pub fn f32s(&self, name: &str) -> Vec<f32> {
        let tensor = self.tensor(name);
        assert_eq!(tensor.dtype(), safetensors::Dtype::F32, "{name}");
        tensor.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    /// Values of an I32 tensor.
    pub fn i32s(&self, name: &str) -> Vec<i32> {
        let tensor = self.tensor(name);
        assert_eq!(tensor.dtype(), safetensors::Dtype::I32, "{name}");
        tensor.data().as_chunks().0.iter().map(|b| i32::from_le_bytes(*b)).collect()
    }

    fn tensor(&self, name: &str) -> safetensors::tensor::TensorView<'_> {
        self.parsed().tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn parsed(&self) -> safetensors::SafeTensors<'_> {
        safetensors::SafeTensors::deserialize(&self.bytes).expect("a safetensors file")
    }
}

/// Says that a part of the tests does not run on this machine; `cargo xtask test` counts these lines.
pub fn skip(what: &str) {
    println!("SKIPPED {what}");
    if let Some(list) = std::env::var_os("DS4_SKIP_LIST") {
        use std::io::Write;
        let mut list = File::options().append(true).create(true).open(list).expect("the skip list can be written");
        writeln!(list, "{what}").expect("the skip list can be written");
    }
}

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("crates/testkit is two levels deep").to_path_buf()
}

/// Unpacks the archive once per content; tests run in parallel processes, so under a file lock.
fn unpacked() -> PathBuf {
    let archive = root().join("fixtures/oracle.tar.xz");
    let stamp = fs::metadata(&archive).expect("fixtures/oracle.tar.xz is part of the repository");
    let modified = stamp.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
    let dir = root().join(format!("target/oracle-{}-{}", stamp.len(), modified.map_or(0, |t| t.as_secs())));
    fs::create_dir_all(root().join("target")).expect("target/ can be made");
    let lock = File::create(root().join("target/oracle.lock")).expect("target/ can be written");
    lock.lock().expect("target/oracle.lock can be locked");
    if !dir.is_dir() {
        let aside = dir.with_extension("part");
        let _ = fs::remove_dir_all(&aside);
        let file = BufReader::new(File::open(&archive).expect("the archive can be read"));
        let mut tar = tar::Archive::new(lzma_rust2::XzReader::new(file, false));
        tar.unpack(&aside).expect("the archive is whole");
        fs::rename(&aside, &dir).expect("target/ can be written");
    }
    dir
}
