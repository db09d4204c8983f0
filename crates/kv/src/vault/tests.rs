//! What a vault promises, with small segments: 2 pages between boundaries.

use std::path::Path;
use std::sync::{Arc, mpsc};

use proptest::prelude::*;

use super::{Fetched, Tier, TierStats, Vault};
use crate::segment::tests::segment;
use crate::store::faulty::Faulty;
use crate::store::{Disk, Memory, Store};
use crate::{Key, Segment};

const EVERY: usize = 256;

fn root() -> Key {
    Key::root(&[b"model"])
}

fn tier(store: impl Store + 'static, budget: Option<u64>) -> Tier {
    Tier { store: Box::new(store), name: "tier".into(), budget }
}

fn vault(store: impl Store + 'static) -> Vault {
    Vault::new(vec![tier(store, None)], root(), EVERY)
}

/// Tokens of a conversation: those with the same topic begin alike.
fn tokens(topic: u32, count: usize) -> Vec<u32> {
    (0..count as u32).map(|at| if at < 300 { at } else { at + 1000 * topic }).collect()
}

/// The segments that lead to the end of `tokens`.
fn path(tokens: &[u32]) -> Vec<Segment> {
    (0..tokens.len()).step_by(EVERY).map(|start| part(tokens, start, tokens.len().min(start + EVERY))).collect()
}

fn part(tokens: &[u32], start: usize, end: usize) -> Segment {
    segment(root(), &tokens[..end], start, 60)
}

fn save(vault: &Vault, segments: Vec<Segment>) {
    segments.into_iter().for_each(|segment| assert!(vault.save(segment)));
    vault.flush();
}

fn fetch(vault: &Vault, tokens: &[u32], have: usize, most: usize) -> Fetched {
    let (sender, answer) = mpsc::channel();
    vault.fetch(tokens.to_vec(), have, most, || true, move |fetched| sender.send(fetched).unwrap());
    answer.recv().unwrap()
}

/// Where the segments that were found end.
fn ends(vault: &Vault, tokens: &[u32], have: usize, most: usize) -> Vec<usize> {
    let fetched = fetch(vault, tokens, have, most);
    assert_eq!(fetched.source.is_some(), !fetched.segments.is_empty());
    for segment in &fetched.segments {
        assert_eq!(*segment, part(tokens, segment.start, segment.end()), "what was saved, whole");
    }
    fetched.segments.iter().map(Segment::end).collect()
}

fn stats(vault: &Vault) -> TierStats {
    vault.stats().tiers.remove(0)
}

#[test]
fn the_longest_way_is_found() {
    let vault = vault(Memory::default());
    let long = tokens(1, 1000);
    save(&vault, path(&long));
    save(&vault, vec![part(&long, 768, 900), part(&long, 256, 400)]);
    assert_eq!(ends(&vault, &long, 0, 1000), [256, 512, 768, 1000]);
    assert_eq!(ends(&vault, &long, 0, 999), [256, 512, 768, 900]);
    assert_eq!(ends(&vault, &long, 0, 899), [256, 512, 768]);
    assert_eq!(ends(&vault, &long, 0, 450), [256, 400]);
    assert_eq!(ends(&vault, &long, 300, 1000), [512, 768, 1000]);
    assert_eq!(ends(&vault, &long, 512, 700), [0; 0]);
    assert_eq!(ends(&vault, &long, 900, 999), [0; 0]);
    assert_eq!(ends(&vault, &long, 950, 5000), [1000]);
    // The same beginning, another topic.
    assert_eq!(ends(&vault, &tokens(2, 1000), 0, 1000), [256]);
    assert_eq!(ends(&vault, &[], 0, 0), [0; 0]);
    assert_eq!(stats(&vault).written.segments, 6);
}

#[test]
fn other_roots_share_the_store_and_nothing_else() {
    let store = Arc::new(Memory::default());
    let ours = vault(store.clone());
    save(&ours, path(&tokens(1, 600)));
    let other = Vault::new(vec![tier(store, None)], Key::root(&[b"other"]), EVERY);
    assert_eq!(ends(&other, &tokens(1, 600), 0, 600), [0; 0]);
}

#[test]
fn a_new_process_finds_what_the_last_one_kept() {
    let home = tempfile::tempdir().unwrap();
    let long = tokens(1, 1000);
    let first = vault(Disk::open(home.path()).unwrap());
    path(&long).into_iter().for_each(|segment| assert!(first.save(segment)));
    drop(first);
    let second = vault(Disk::open(home.path()).unwrap());
    assert_eq!(ends(&second, &long, 0, 1000), [256, 512, 768, 1000]);
    assert_eq!(stats(&second).read.segments, 4);
}

#[test]
fn damage_ends_the_way_before_it() {
    let home = tempfile::tempdir().unwrap();
    let long = tokens(1, 1000);
    let vault = vault(Disk::open(home.path()).unwrap());
    save(&vault, path(&long));
    save(&vault, vec![part(&long, 512, 600), part(&long, 512, 700)]);
    let third = home.path().join(part(&long, 512, 768).name(root()).to_string());
    let tail = home.path().join(part(&long, 512, 700).name(root()).to_string());
    let mut bytes = std::fs::read(&third).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&third, bytes).unwrap();
    // A whole segment under the name of another.
    std::fs::copy(home.path().join(part(&long, 512, 600).name(root()).to_string()), &tail).unwrap();
    assert_eq!(ends(&vault, &long, 0, 1000), [256, 512, 600]);
    assert!(!third.exists() && !tail.exists());
    assert_eq!(stats(&vault).damaged, 2);
    // What was computed again is kept again.
    save(&vault, path(&long));
    assert_eq!(ends(&vault, &long, 0, 1000), [256, 512, 768, 1000]);
}

#[test]
fn a_farther_tier_goes_on_where_a_nearer_one_ends() {
    let (near, far) = (Arc::new(Memory::default()), Arc::new(Memory::default()));
    let long = tokens(1, 1000);
    save(&vault(near.clone()), path(&long[..512]));
    save(&vault(far.clone()), path(&long));
    let tiers = [("disk", near), ("store", far)].map(|(name, store)| Tier { name: name.into(), ..tier(store, None) });
    let both = Vault::new(tiers.into(), root(), EVERY);
    assert_eq!(ends(&both, &long, 0, 1000), [256, 512, 768, 1000]);
    assert_eq!(both.stats().tiers.iter().map(|t| t.read.segments).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(fetch(&both, &long, 0, 1000).source.as_deref(), Some("store"));
    assert_eq!(fetch(&both, &long, 0, 512).source.as_deref(), Some("disk"));
}

#[test]
fn what_is_forgotten_is_gone_and_can_come_again() {
    let vault = vault(Memory::default());
    let long = tokens(1, 600);
    save(&vault, path(&long));
    let tail = part(&long, 512, 600);
    vault.forget(tail.parent, tail.end(), tail.key());
    vault.flush();
    assert_eq!(ends(&vault, &long, 0, 600), [256, 512]);
    vault.forget(tail.parent, tail.end(), tail.key());
    save(&vault, vec![tail]);
    assert_eq!(ends(&vault, &long, 0, 600), [256, 512, 600]);
}

#[test]
fn the_space_is_kept_and_the_oldest_leaves_go() {
    let home = tempfile::tempdir().unwrap();
    let size = part(&tokens(1, 256), 0, 256).encode().unwrap().len() as u64;
    let budget = 10 * size + size / 2;
    let vault = Vault::new(vec![tier(Disk::open(home.path()).unwrap(), Some(budget))], root(), EVERY);
    let look = Disk::open(home.path()).unwrap();
    for topic in 1..30 {
        let conversation = tokens(topic, 1024);
        for segment in path(&conversation) {
            save(&vault, vec![segment]);
            let kept: u64 = look.list("").unwrap().iter().map(|e| e.bytes).sum();
            assert!(kept <= budget, "{kept} of {budget}");
        }
        assert_eq!(ends(&vault, &conversation, 0, 1024), [256, 512, 768, 1024], "the newest is there");
    }
    let stats = stats(&vault);
    assert_eq!((stats.dropped.segments, stats.failures), (0, 0));
    assert_eq!(stats.kept_bytes, look.list("").unwrap().iter().map(|e| e.bytes).sum::<u64>());
}

#[test]
fn what_is_larger_than_the_space_is_not_written() {
    let store = Arc::new(Memory::default());
    let small = part(&tokens(1, 256), 0, 100);
    let budget = small.encode().unwrap().len() as u64;
    let vault = Vault::new(vec![tier(store.clone(), Some(budget))], root(), EVERY);
    save(&vault, vec![small, part(&tokens(1, 256), 0, 256)]);
    assert_eq!(store.list("").unwrap().len(), 1);
    assert_eq!(stats(&vault).dropped.segments, 1);
    // A smaller space than what is there already.
    drop(vault);
    drop(Vault::new(vec![tier(store.clone(), Some(budget - 1))], root(), EVERY));
    assert_eq!(store.list("").unwrap(), []);
}

#[test]
fn a_store_that_cannot_be_written_is_read() {
    let home = tempfile::tempdir().unwrap();
    let long = tokens(1, 600);
    save(&vault(Disk::open(home.path()).unwrap()), path(&long[..512]));
    std::fs::remove_dir(home.path().join("tmp")).unwrap();
    std::fs::write(home.path().join("tmp"), b"").unwrap();
    let vault = vault(Disk::open(home.path()).unwrap());
    assert!(!vault.save(part(&long, 512, 600)));
    vault.flush();
    assert_eq!(ends(&vault, &long, 0, 600), [256, 512]);
    assert_eq!(stats(&vault).failures, 0);
}

#[test]
fn two_vaults_share_a_directory() {
    let home = tempfile::tempdir().unwrap();
    let size = part(&tokens(1, 256), 0, 256).encode().unwrap().len() as u64;
    let open = || Vault::new(vec![tier(Disk::open(home.path()).unwrap(), Some(40 * size))], root(), EVERY);
    let vaults = [open(), open()];
    std::thread::scope(|scope| {
        for (mine, vault) in vaults.iter().enumerate() {
            scope.spawn(move || {
                for topic in 0..20 {
                    // Half of the conversations are those of the other one, too.
                    let conversation = tokens(topic * (1 + topic % 2 * mine as u32), 700);
                    save(vault, path(&conversation));
                    ends(vault, &conversation, 0, 700);
                }
            });
        }
    });
    let last = tokens(19, 700);
    assert_eq!(ends(&vaults[1], &last, 0, 700), [256, 512, 700], "one reads what the other wrote");
    for vault in &vaults {
        assert_eq!((stats(vault).damaged, stats(vault).failures), (0, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn what_is_found_is_the_longest_of_what_was_saved(
        saved in prop::collection::vec((0u32..3, 1usize..900), 1..8),
        asked in (0u32..3, 0usize..900, 0usize..900),
    ) {
        let vault = vault(Memory::default());
        for (topic, length) in &saved {
            save(&vault, path(&tokens(*topic, *length)));
        }
        let (topic, have, most) = asked;
        let prompt = tokens(topic, 900);
        let points = saved.iter().flat_map(|(topic, length)| {
            path(&tokens(*topic, *length)).into_iter().map(move |s| tokens(*topic, s.end()))
        });
        let longest = points.filter(|p| p.len() <= most && prompt.starts_with(p)).map(|p| p.len()).max().unwrap_or(0);
        let found = ends(&vault, &prompt, have, most);
        prop_assert_eq!(found.last().copied().unwrap_or(0), if longest > have { longest } else { 0 });
        if let Some(first) = fetch(&vault, &prompt, have, most).segments.first() {
            prop_assert_eq!(first.start, have / EVERY * EVERY);
        }
    }
}

/// Saves and asks through faults; returns how many there were.
fn through_faults(store: Arc<Faulty<Disk>>, topics: u32) -> u64 {
    let vault = Vault::new(vec![tier(store.clone(), Some(40_000))], root(), EVERY);
    for topic in 0..topics {
        let conversation = tokens(topic % 5, 700 + 10 * topic as usize);
        path(&conversation).into_iter().for_each(|segment| _ = vault.save(segment));
        vault.flush();
        // Whatever is found is right.
        ends(&vault, &conversation, 0, conversation.len());
        ends(&vault, &tokens(topic % 3, 900), 300, 900);
    }
    drop(vault);
    store.faults()
}

#[test]
fn two_hundred_faults_never_give_a_wrong_segment() {
    let mut faults = 0;
    for seed in 0.. {
        let home = tempfile::tempdir().unwrap();
        faults += through_faults(Arc::new(Faulty::new(Disk::open(home.path()).unwrap(), seed, 7)), 20);
        let after = vault(Disk::open(home.path()).unwrap());
        // The space is as it was, and everything can be kept again.
        let conversation = tokens(1, 1000);
        ends(&after, &conversation, 0, 1000);
        save(&after, path(&conversation));
        assert_eq!(ends(&after, &conversation, 0, 1000), [256, 512, 768, 1000]);
        if faults >= 200 {
            break;
        }
    }
}

/// The files of segments in a directory, each read whole.
fn whole(dir: &Path) -> usize {
    let disk = Disk::open(dir).unwrap();
    let entries = disk.list("").unwrap();
    for entry in &entries {
        let segment = Segment::decode(&disk.get(&entry.name).unwrap().unwrap()).unwrap();
        assert_eq!(segment.name(root()).to_string(), entry.name);
    }
    assert_eq!(std::fs::read_dir(dir.join("tmp")).unwrap().count(), 0, "nothing is left half-written");
    entries.len()
}

/// Saves conversations until it is killed, when this process was started for that.
fn save_until_killed() {
    let Some(dir) = std::env::var_os("DS4_KV_SAVE_UNTIL_KILLED") else { return };
    let vault = Vault::new(vec![tier(Disk::open(Path::new(&dir)).unwrap(), Some(4_000_000))], root(), EVERY);
    for topic in 0.. {
        let conversation: Vec<u32> = tokens(topic + std::process::id() % 100_000, 600);
        for start in (0..600).step_by(EVERY) {
            vault.save(segment(root(), &conversation[..600.min(start + EVERY)], start, 50_000));
        }
        vault.flush();
    }
}

#[test]
fn killed_at_any_instant_it_keeps_only_whole_segments() {
    save_until_killed();
    let home = tempfile::tempdir().unwrap();
    let kills = std::env::var("DS4_KV_KILLS").map_or(20, |n| n.parse().unwrap());
    let mut kept = 0;
    for kill in 0..kills {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "vault::tests::killed_at_any_instant_it_keeps_only_whole_segments"]);
        command.stdout(std::process::Stdio::null()).env("DS4_KV_SAVE_UNTIL_KILLED", home.path());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(3000 + 7919 * kill % 60_000));
        child.kill().unwrap();
        child.wait().unwrap();
        kept += whole(home.path());
    }
    assert!(kept > 0, "something was written before the kills");
}
