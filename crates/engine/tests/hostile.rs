//! Damaged model files: a clear error or a model that runs, never a panic.

use std::sync::Arc;

use ds4_engine::{Engine, Model, Options, Request};
use ds4_gguf::File;
use proptest::test_runner::{RngAlgorithm, TestRng};

use proptest::prelude::Rng;

/// Files that must be refused; a soak wants more.
fn files_wanted() -> usize {
    std::env::var("DS4_HOSTILE_FILES").ok().and_then(|n| n.parse().ok()).unwrap_or(2000)
}

const NAME: &str = "damaged.gguf";

fn original() -> Vec<u8> {
    std::fs::read(ds4_testkit::root().join("mini/v4-mini.gguf")).unwrap()
}

/// Where the payloads begin; before that lies all that describes them.
fn payload_start(bytes: &[u8]) -> usize {
    let file = File::from_bytes("original", bytes.to_vec()).unwrap();
    file.tensors().iter().map(|t| t.offset).min().unwrap() as usize
}

struct Damage {
    random: TestRng,
    bytes: Vec<u8>,
    payload: usize,
}

impl Damage {
    fn below(&mut self, n: usize) -> usize {
        (self.random.next_u64() % n as u64) as usize
    }

    /// A copy of the file with one kind of damage, and what it is.
    fn next(&mut self) -> (Vec<u8>, String) {
        let (payload, len) = (self.payload, self.bytes.len());
        let mut bytes = self.bytes.clone();
        match self.below(5) {
            0 => {
                let keep = self.below(len);
                bytes.truncate(keep);
                (bytes, format!("cut off after {keep} bytes"))
            }
            1 => {
                let keep = self.below(payload);
                bytes.truncate(keep);
                (bytes, format!("cut off after {keep} bytes, in the header"))
            }
            2 => {
                let (at, bit) = (self.below(payload), self.below(8));
                bytes[at] ^= 1 << bit;
                (bytes, format!("bit {bit} of byte {at} flipped"))
            }
            3 => {
                let (at, n) = (self.below(payload - 16), 1 + self.below(16));
                self.random.fill_bytes(&mut bytes[at..at + n]);
                (bytes, format!("{n} random bytes at {at}"))
            }
            _ => {
                // Only the keys and sizes at the front, not the vocabulary.
                let at = self.below(4000.min(payload - 8));
                bytes[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
                (bytes, format!("eight bytes of 255 at {at}"))
            }
        }
    }
}

/// Reads a few tokens: whatever the weights are, nothing may panic.
fn run(model: Model) {
    let options = Options { context: 32, threads: 1, step: 8, ..Options::default() };
    let eos = model.tokenizer.eos();
    let engine = Engine::start(Arc::new(model), options).unwrap();
    for event in engine.submit(Request::greedy((0..12).collect(), 3, eos)).unwrap() {
        if let ds4_engine::Event::Failed(why) = event {
            assert!(why.contains("no finite logit"), "{why}");
        }
    }
}

#[test]
fn damaged_files_are_refused_in_a_line_each() {
    let bytes = original();
    let payload = payload_start(&bytes);
    let mut damage = Damage { random: TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]), bytes, payload };
    let (mut refused, mut loaded) = (0, 0);
    while refused < files_wanted() {
        let (bytes, what) = damage.next();
        let opened = File::from_bytes(NAME, bytes).map_err(ds4_engine::Error::from);
        match opened.and_then(Model::from_file) {
            Ok(model) => {
                loaded += 1;
                // Small damage to names and tokens leaves a model; running every one would take long.
                if loaded % 8 == 0 && model.weights.shape.vocab < 2000 {
                    run(model);
                }
            }
            Err(error) => {
                refused += 1;
                let message = error.to_string();
                assert!(!message.is_empty(), "{what}");
                for line in message.lines() {
                    assert!(line.starts_with(NAME), "{what}: {line:?}");
                    assert!(line.len() < 600 && !line.chars().any(char::is_control), "{what}: {line:?}");
                }
            }
        }
    }
    println!("{refused} refused, {loaded} loaded");
    assert_small_peak();
}

/// Memory stays below 1 GiB (where the system tells).
fn assert_small_peak() {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return };
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 1 << 20, "peak memory {kib} KiB");
    println!("peak memory {} MiB", kib >> 10);
}

#[test]
fn another_architecture_is_refused_by_name() {
    let mut bytes = original();
    let at = bytes.windows(9).position(|w| w == b"deepseek4").unwrap();
    bytes[at..at + 9].copy_from_slice(b"qwen3next");
    let error = Model::from_file(File::from_bytes(NAME, bytes).unwrap()).err().unwrap();
    let want = "damaged.gguf: architecture is \"qwen3next\", expected \"deepseek4\" (DeepSeek V4); ds4 runs no other \
                model family";
    assert_eq!(error.to_string(), want);
}
