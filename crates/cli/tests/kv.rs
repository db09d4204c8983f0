//! `ds4 kv`: looking after what servers keep.

mod common;

use std::path::Path;
use std::time::{Duration, SystemTime};

use common::Home;
use ds4_kv::store::{Disk, Store};
use ds4_kv::{Key, Segment};

const EVERY: usize = 256;

fn root() -> Key {
    Key::root(&[b"a model"])
}

/// The segments that lead to the end of `tokens`.
fn path(tokens: &[u32]) -> Vec<Segment> {
    let part = |start: usize| {
        let own = tokens[start..tokens.len().min(start + EVERY)].to_vec();
        let pages = own.chunks_exact(128).map(|_| vec![7; 500_000]).collect();
        Segment { parent: root().after(&tokens[..start]), start, point: vec![9; 200_000], tokens: own, pages }
    };
    (0..tokens.len()).step_by(EVERY).map(part).collect()
}

/// Keeps a conversation in a folder; returns the first digits of the last segment's key.
fn keep(dir: &Path, tokens: &[u32]) -> String {
    let disk = Disk::open(dir).unwrap();
    for segment in path(tokens) {
        disk.put(&segment.name(root()).to_string(), &segment.encode().unwrap()).unwrap();
    }
    path(tokens).last().unwrap().key().to_string()[..12].into()
}

/// The tokens of a text in the built-in model.
fn tokens(home: &Home, text: &str) -> Vec<u32> {
    let out = home.ds4(&["--dump-tokens", "-p", text]).answer();
    let list = out.lines().next().unwrap().trim_matches(['[', ']']);
    list.split(", ").map(|id| id.parse().unwrap()).collect()
}

fn file(home: &Home, segment: &Segment) -> std::path::PathBuf {
    home.file("kv").join(segment.name(root()).to_string())
}

#[test]
fn conversations_are_listed() {
    let home = Home::new();
    let key = keep(&home.file("kv"), &(0..600).collect::<Vec<u32>>());
    keep(&home.file("kv"), &(0..300).collect::<Vec<u32>>());
    let out = home.ds4(&["kv", "ls", "kv"]).answer();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], format!("model {}: 4 segments, 2.8 MB", &root().to_string()[..12]));
    let words = |line: &str| line.split_whitespace().map(String::from).collect::<Vec<_>>();
    let places: Vec<String> = lines[2..6].iter().map(|line| words(line)[0].clone()).collect();
    assert_eq!(places, ["0..256", "256..300", "256..512", "512..600"]);
    let (first, last) = (words(lines[2]), words(lines[5]));
    assert_eq!((&*first[1], &*first[2], &*first[5]), ("1.2", "MB", "-"));
    assert_eq!((&last[4], &last[5]), (&key, &words(lines[4])[4]));
    assert_eq!(lines[6], "4 segments, 2.8 MB");
}

#[test]
fn the_text_of_a_prefix_is_readable() {
    let home = Home::new();
    let text = "<｜begin▁of▁sentence｜>What is 7 + 8?".to_string() + &" And then?".repeat(200);
    let tokens = tokens(&home, &text);
    assert!(tokens.len() > 2 * EVERY);
    let key = keep(&home.file("kv"), &tokens);
    assert_eq!(home.ds4(&["kv", "show", "kv", &key]).answer(), format!("{text}\n"));
    assert_eq!(home.ds4(&["kv", "show", "kv", &key, "-m", &common::model()]).answer(), format!("{text}\n"));
    let wrong = "ds4: no segment has a key that begins with zz; ds4 kv ls lists them";
    home.ds4(&["kv", "show", "kv", "zz"]).fails(1, wrong);
    home.ds4(&["kv", "show", "kv", ""]).fails(1, "ds4: several keys begin with : give more digits");
    std::fs::remove_file(file(&home, &path(&tokens)[0])).unwrap();
    let lost = format!("ds4: what comes before {key} is not there any more");
    home.ds4(&["kv", "show", "kv", &key]).fails(1, &lost);
}

#[test]
fn the_text_needs_the_right_model() {
    let home = Home::new();
    let key = keep(&home.file("kv"), &[129_000; 10]);
    let line = "ds4: token 129000 is not one of this model's; -m FILE names the model that wrote it";
    home.ds4(&["kv", "show", "kv", &key]).fails(2, line);
}

#[test]
fn damage_is_named() {
    let home = Home::new();
    let tokens: Vec<u32> = (0..600).collect();
    keep(&home.file("kv"), &tokens);
    let verify = || home.ds4(&["kv", "verify", "kv"]);
    let whole = "3 segments whole, 0 damaged, 0 without what comes before; 2.6 MB\n";
    assert_eq!(verify().answer(), whole);
    let damaged = &path(&tokens)[1];
    let mut bytes = std::fs::read(file(&home, damaged)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(file(&home, damaged), bytes).unwrap();
    let said = verify();
    assert_eq!(said.code, 1);
    let line = format!("{}: the checksum of the resume point is wrong", damaged.name(root()));
    assert_eq!(said.out.lines().next(), Some(&*line));
}

#[test]
fn what_is_old_or_too_much_is_forgotten() {
    let home = Home::new();
    let (old, new): (Vec<u32>, Vec<u32>) = ((0..600).collect(), (1000..1600).collect());
    keep(&home.file("kv"), &old);
    keep(&home.file("kv"), &new);
    for segment in path(&old) {
        let file = std::fs::File::options().append(true).open(file(&home, &segment)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3 * 86400)).unwrap();
    }
    let prune = |args: &[&str]| home.ds4(&[&["kv", "prune", "kv"], args].concat()).answer();
    assert_eq!(prune(&["--unused", "4d"]), "forgot 0 segments, 0.0 MB; 5.2 MB stay\n");
    assert_eq!(prune(&["--unused", "2d", "--dry-run"]), "would forget 3 segments, 2.6 MB; 2.6 MB stay\n");
    assert_eq!(prune(&["--unused", "2d"]), "forgot 3 segments, 2.6 MB; 2.6 MB stay\n");
    assert!(file(&home, &path(&new)[0]).exists() && !file(&home, &path(&old)[0]).exists());
    // From the end of the conversation.
    assert_eq!(prune(&["--to-mb", "2"]), "forgot 2 segments, 1.4 MB; 1.2 MB stay\n");
    assert!(file(&home, &path(&new)[0]).exists());
    home.ds4(&["kv", "prune", "kv", "--unused", "soon"])
        .fails(2, "ds4: invalid value for --unused: soon (a whole number and s, m, h or d, as 12h)");
    assert_eq!(home.ds4(&["kv", "prune", "kv"]).code, 2);
}

#[test]
fn a_prefix_goes_to_another_store() {
    let home = Home::new();
    let tokens: Vec<u32> = (0..600).collect();
    let key = keep(&home.file("kv"), &tokens);
    keep(&home.file("kv"), &(1000..1600).collect::<Vec<u32>>());
    assert_eq!(home.ds4(&["kv", "export", "kv", &key, "copy"]).answer(), "copy: 3 segments, 2.6 MB\n");
    let whole = "3 segments whole, 0 damaged, 0 without what comes before; 2.6 MB\n";
    assert_eq!(home.ds4(&["kv", "verify", "copy"]).answer(), whole);
}

#[test]
fn wrong_places_are_named() {
    let home = Home::new();
    home.ds4(&["kv", "ls", "absent"]).fails(1, "ds4: absent: no such folder");
    home.ds4(&["kv", "ls", "ftp://x"]).fails(2, "ds4: ftp://x: a store is s3://BUCKET or s3://BUCKET/PREFIX");
    assert!(home.ds4(&["kv", "--help"]).answer().contains("ds4 kv prune"));
    assert_eq!(home.ds4(&["kv"]).code, 2);
}

#[test]
fn the_servers_flags_are_checked() {
    // H156, and flags of the C server that do nothing here.
    let home = Home::new();
    let serve = |args: &[&str]| home.ds4(&[&["serve", "--port", "0", "--host", "nowhere.invalid"], args].concat());
    let least = "ds4: --kv-cache-cold-max-tokens is 0 or at least --kv-cache-min-tokens, which is";
    serve(&["--kv-cache-cold-max-tokens", "100"]).fails(2, &format!("{least} 512"));
    serve(&["--kv-cache-min-tokens", "200", "--kv-cache-cold-max-tokens", "100"]).fails(2, &format!("{least} 200"));
    let trim = serve(&["--kv-cache-boundary-trim-tokens", "-1"]);
    trim.fails(2, "ds4: invalid value for --kv-cache-boundary-trim-tokens: -1 (a whole number from 0 to 2147483647)");
    serve(&["--kv-disk-dir", "kv", "--kv-disk-space-mb", "0"])
        .fails(2, "ds4: invalid value for --kv-disk-space-mb: 0 (a whole number from 1 to 2147483647)");
    let said =
        serve(&["--kv-cache-cold-max-tokens", "0", "--kv-cache-boundary-align-tokens", "5", "--kv-disk-space-mb", "9"]);
    assert_eq!(said.code, 1, "only the address is wrong");
    assert!(said.err.contains("ds4: --kv-disk-space-mb does nothing without --kv-disk-dir"), "{}", said.err);
    let ignored = "that conversations share: --kv-cache-cold-max-tokens, --kv-cache-boundary-align-tokens\n";
    assert!(said.err.contains(ignored), "{}", said.err);
}
