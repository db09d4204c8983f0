//! Broken and hostile files: thousands of them, each refused in one line that names the file and the fault.

use ds4_gguf::{File, blocks};

/// A file in parts, so that a test can break one of them. Built as the writer would, but nothing is checked.
#[derive(Clone)]
struct Parts {
    magic: [u8; 4],
    version: u32,
    n_tensors: u64,
    n_kv: u64,
    /// Key, type, value.
    kv: Vec<(Vec<u8>, u32, Vec<u8>)>,
    tensors: Vec<Directory>,
    payload_end: usize,
}

#[derive(Clone)]
struct Directory {
    name: Vec<u8>,
    n_dims: u32,
    dims: Vec<u64>,
    format: u32,
    offset: u64,
}

fn string(s: &[u8]) -> Vec<u8> {
    [&(s.len() as u64).to_le_bytes(), s].concat()
}

fn array(element: u32, len: u64, elements: &[u8]) -> Vec<u8> {
    [element.to_le_bytes().as_slice(), &len.to_le_bytes(), elements].concat()
}

/// A valid file: five keys and three tensors.
fn parts() -> Parts {
    let kv = |key: &str, kind: u32, value: Vec<u8>| (key.as_bytes().to_vec(), kind, value);
    let tensor = |name: &str, dims: &[u64], format, offset| Directory {
        name: name.as_bytes().to_vec(),
        n_dims: dims.len() as u32,
        dims: dims.to_vec(),
        format,
        offset,
    };
    Parts {
        magic: *b"GGUF",
        version: 3,
        n_tensors: 3,
        n_kv: 5,
        kv: vec![
            kv("general.name", 8, string(b"tiny")),
            kv("general.alignment", 4, 32u32.to_le_bytes().to_vec()),
            kv("norm", 7, vec![1]),
            kv("ratios", 9, array(5, 3, &[0; 12])),
            kv("tokens", 9, array(8, 2, &[string(b"a"), string("é".as_bytes())].concat())),
        ],
        tensors: vec![
            tensor("q4", &[256, 2], 12, 0),    // 288 bytes
            tensor("q8", &[32, 1, 3], 8, 288), // 102 bytes
            tensor("f32", &[5], 0, 416),       // 20 bytes
        ],
        payload_end: 436,
    }
}

impl Parts {
    /// The file's bytes, up to the end of the last payload.
    fn build(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.n_tensors.to_le_bytes());
        out.extend(self.n_kv.to_le_bytes());
        for (key, kind, value) in &self.kv {
            out.extend(string(key));
            out.extend(kind.to_le_bytes());
            out.extend(value);
        }
        for tensor in &self.tensors {
            out.extend(string(&tensor.name));
            out.extend(tensor.n_dims.to_le_bytes());
            tensor.dims.iter().for_each(|d| out.extend(d.to_le_bytes()));
            out.extend(tensor.format.to_le_bytes());
            out.extend(tensor.offset.to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(32) + self.payload_end, 0);
        out
    }

    fn value(&mut self, key: &str) -> &mut (Vec<u8>, u32, Vec<u8>) {
        self.kv.iter_mut().find(|(k, ..)| k == key.as_bytes()).unwrap()
    }
}

/// splitmix64: the same files on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// A number with any count of bits, none too likely.
    fn any_size(&mut self) -> u64 {
        self.next() >> self.below(64)
    }

    /// A number of any size from `least` on.
    fn at_least(&mut self, least: u64) -> u64 {
        self.any_size().saturating_add(least)
    }

    /// Text that is not UTF-8: a byte that cannot be in it, somewhere.
    fn not_utf8(&mut self) -> Vec<u8> {
        let mut text = b"name".repeat(1 + self.below(3) as usize);
        let at = self.below(text.len() as u64) as usize;
        text[at] = [0x80, 0xc0, 0xf8, 0xff][self.below(4) as usize];
        text
    }
}

type Breakage = (&'static str, fn(&mut Parts, &mut Random));

/// Ways to break a file, each with a part of the message that must follow.
const BREAKAGES: [Breakage; 36] = [
    ("header: not a GGUF file", |p, r| p.magic[r.below(4) as usize] ^= 1 << r.below(8)),
    ("header: expected GGUF version 3, found version", |p, r| p.version = 4 + r.any_size() as u32 / 2),
    ("header: expected GGUF version 3, found version", |p, r| p.version = r.below(3) as u32),
    ("(a big-endian file)", |p, r| p.version = (1 + r.below(3) as u32).swap_bytes()),
    ("header: claims", |p, r| p.n_tensors = r.at_least(40)),
    ("header: claims", |p, r| p.n_kv = r.at_least(60)),
    ("x.gguf: ", |p, r| p.n_tensors += 1 + r.below(3)),
    ("x.gguf: ", |p, r| p.n_kv += 1 + r.below(3)),
    ("x.gguf: ", |p, r| p.n_kv -= 1 + r.below(3)), // the rest is read as tensors
    ("expected a value type from 0 to 12, found", |p, r| {
        let i = r.below(5) as usize;
        p.kv[i].1 = 13 + r.any_size() as u32 / 2;
    }),
    ("key ratios: expected an array element type from 0 to 12, found", |p, r| {
        p.value("ratios").2 = array(13 + r.any_size() as u32 / 2, 3, &[0; 12]);
    }),
    ("key ratios: claims", |p, r| p.value("ratios").2 = array(r.below(4) as u32, r.at_least(2000), &[0; 12])),
    ("key tokens: claims", |p, r| p.value("tokens").2 = array(8, r.at_least(300), &[])),
    ("key ratios: claims", |p, r| p.value("ratios").2 = array(9, r.at_least(300), &[])),
    ("key general.name: ", |p, r| p.value("general.name").2 = r.at_least(2000).to_le_bytes().to_vec()),
    ("key general.name: is not UTF-8 (at byte", |p, r| p.value("general.name").2 = string(&r.not_utf8())),
    ("key tokens: element 1: is not UTF-8 (at byte", |p, r| {
        p.value("tokens").2 = array(8, 2, &[string(b"a"), string(&r.not_utf8())].concat());
    }),
    ("key tokens: element 0: ", |p, r| {
        p.value("tokens").2 = array(8, 1, &r.at_least(2000).to_le_bytes());
    }),
    ("of 5: the key is not UTF-8", |p, r| p.kv[r.below(5) as usize].0 = r.not_utf8()),
    ("appears twice", |p, r| {
        let from = r.below(5) as usize;
        let to = (from + 1 + r.below(4) as usize) % 5;
        p.kv[to] = p.kv[from].clone();
    }),
    ("key norm: expected a bool of 0 or 1, found", |p, r| p.value("norm").2 = vec![2 + r.below(254) as u8]),
    ("key tokens: element 0: expected a bool", |p, r| p.value("tokens").2 = array(7, 1, &[2 + r.below(254) as u8])),
    ("holds arrays more than 4 deep", |p, r| {
        p.value("ratios").2 = (0..4 + r.below(20)).fold(array(0, 0, &[]), |inner, _| array(9, 1, &inner));
    }),
    ("key general.alignment: expected a power of two from 1 to 65536, found", |p, r| {
        let bad = [0, 3, 24, 33, 1 << 17, 1 << 31, u32::MAX][r.below(7) as usize];
        p.value("general.alignment").2 = bad.to_le_bytes().to_vec();
    }),
    ("key general.alignment: expected u32, found f32", |p, _| p.value("general.alignment").1 = 6),
    ("key general.alignment: expected u32, found i32 -", |p, r| {
        p.value("general.alignment").1 = 5;
        p.value("general.alignment").2 = (-1 - r.below(1000) as i32).to_le_bytes().to_vec();
    }),
    ("is not a multiple of the alignment 64", |p, _| p.value("general.alignment").2 = vec![64, 0, 0, 0]),
    ("expected 1 to 4 dimensions, found", |p, r| {
        p.tensors[r.below(3) as usize].n_dims = [0, 5, 6, 1000, u32::MAX][r.below(5) as usize];
    }),
    ("expected dimensions above 0, found", |p, r| {
        let t = &mut p.tensors[r.below(3) as usize];
        let i = r.below(t.dims.len() as u64) as usize;
        t.dims[i] = 0;
    }),
    ("are too large", |p, r| p.tensors[0].dims = vec![1 << (32 + r.below(31)), 1 << (32 + r.below(31))]),
    ("is not a multiple of", |p, r| {
        let t = &mut p.tensors[r.below(2) as usize];
        t.dims[0] += 1 + r.below(31);
    }),
    ("is not a tensor format that this program knows", |p, r| {
        p.tensors[r.below(3) as usize].format = [4, 5, 31, 33, 36, 38, 42, 99, u32::MAX][r.below(9) as usize];
    }),
    ("is not a multiple of the alignment 32", |p, r| p.tensors[r.below(3) as usize].offset += 1 + r.below(31)),
    ("truncated download?", |p, r| p.tensors[r.below(3) as usize].offset = 32 * (20 + r.below(1 << 50))),
    ("inside tensor", |p, r| {
        let (a, b) = [(1, 0), (2, 1), (2, 0)][r.below(3) as usize];
        p.tensors[a].offset = p.tensors[b].offset;
    }),
    ("tensor q8: appears twice", |p, r| p.tensors[[0, 2][r.below(2) as usize]].name = b"q8".to_vec()),
];

fn refusal(bytes: Vec<u8>) -> String {
    let message = File::from_bytes("x.gguf", bytes).expect_err("the file is broken").to_string();
    assert!(message.starts_with("x.gguf: ") && !message.contains('\n'), "{message}");
    message
}

#[test]
fn the_whole_file_is_valid() {
    let file = File::from_bytes("x.gguf", parts().build()).unwrap();
    assert_eq!(file.metadata().strs("tokens").unwrap(), Some(&["a", "é"].iter().collect()));
    assert_eq!(file.tensor("f32").unwrap().len, 20);
}

#[test]
fn every_broken_file_is_refused_with_its_fault() {
    let mut random = Random(1);
    let mut files = 0;
    for (i, (text, breakage)) in BREAKAGES.iter().enumerate() {
        for _ in 0..40 {
            let mut parts = parts();
            breakage(&mut parts, &mut random);
            let message = refusal(parts.build());
            assert!(message.contains(text), "breakage {i}: expected {text:?} in {message:?}");
            files += 1;
        }
    }
    let whole = parts().build();
    for len in 0..whole.len() {
        refusal(whole[..len].to_vec());
        files += 1;
    }
    assert!(files >= 2000, "{files}");
}

#[test]
fn a_truncated_payload_is_named_with_its_extent() {
    let whole = parts().build();
    let end = whole.len();
    let message = refusal(whole[..end - 1].to_vec());
    let start = end - 20;
    assert_eq!(
        message,
        format!(
            "x.gguf: tensor f32: needs bytes {start}..{end} but the file ends at {} (truncated download?)",
            end - 1
        )
    );
}

#[test]
fn names_cannot_break_the_line() {
    let mut parts = parts();
    parts.tensors[0].name = b"evil\nname\x1b[2J".to_vec();
    parts.tensors[0].n_dims = 0;
    let message = refusal(parts.build());
    assert_eq!(message, r"x.gguf: tensor evil\nname\u{1b}[2J: expected 1 to 4 dimensions, found 0");
}

/// Random damage: refused or not, nothing panics, and what opens can be read and decoded.
#[test]
fn flipped_bytes_never_panic() {
    let whole = parts().build();
    let mut random = Random(2);
    let mut opened = 0;
    for _ in 0..20_000 {
        let mut bytes = whole.clone();
        for _ in 0..1 + random.below(4) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.any_size() as u8;
        }
        match File::from_bytes("x.gguf", bytes) {
            Err(error) => assert!(!error.to_string().contains('\n')),
            Ok(file) => {
                opened += 1;
                read_everything(&file);
            }
        }
    }
    assert!(opened > 2000, "damage in payloads leaves files that open: {opened}");
}

fn read_everything(file: &File) {
    for (key, _) in file.metadata().iter() {
        let m = file.metadata();
        let _ = (m.u32(key), m.f32(key), m.bool(key), m.str(key), m.u32s(key), m.f32s(key), m.strs(key));
    }
    for tensor in file.tensors().iter().filter(|t| t.format.is_decodable()) {
        let mut out = vec![0.0; tensor.elements() as usize];
        blocks::decode(tensor.format, &file.bytes(tensor), &mut out).unwrap();
    }
}
