//! A vault over an object store: a real S3 server in this process, which can be stopped.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use ds4_kv::store::{Remote, Store};
use ds4_kv::{Key, Segment, Tier, Vault};
use ds4_testkit::s3::Server;

const EVERY: usize = 256;

fn open(server: &Server, url: &str) -> Remote {
    Remote::open(url, server.environment()).unwrap()
}

fn vault_of(server: &Server) -> Vault {
    let store = Box::new(open(server, "s3://cache/kv"));
    Vault::new(vec![Tier { store, name: "store".into(), budget: None }], root(), EVERY)
}

fn root() -> Key {
    Key::root(&[b"model"])
}

/// The segments that lead to the end of `tokens`.
fn path(tokens: &[u32]) -> Vec<Segment> {
    let part = |start: usize| {
        let own = tokens[start..tokens.len().min(start + EVERY)].to_vec();
        let pages = own.chunks_exact(128).map(|page| vec![page[0] as u8; 3000]).collect();
        Segment {
            parent: root().after(&tokens[..start]),
            start,
            point: vec![own.len() as u8; 5000],
            tokens: own,
            pages,
        }
    };
    (0..tokens.len()).step_by(EVERY).map(part).collect()
}

fn fetch(vault: &Vault, tokens: &[u32]) -> Vec<Segment> {
    let (sender, answer) = mpsc::channel();
    vault.fetch(tokens.to_vec(), 0, tokens.len(), || true, move |fetched| sender.send(fetched.segments).unwrap());
    answer.recv().unwrap()
}

#[test]
fn what_one_machine_saved_another_finds() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), 0);
    let tokens: Vec<u32> = (0..1000).collect();
    let one = vault_of(&server);
    path(&tokens).into_iter().for_each(|segment| assert!(one.save(segment)));
    one.flush();
    assert_eq!(one.stats().tiers[0].failures, 0);
    let other = vault_of(&server);
    assert_eq!(fetch(&other, &tokens), path(&tokens));
    assert_eq!(fetch(&other, &tokens[1..]), []);
}

#[test]
fn it_keeps_the_promises_of_stores() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), 0);
    for url in ["s3://cache", "s3://cache/some/prefix/"] {
        let store = open(&server, url);
        assert_eq!(store.list("").unwrap(), []);
        store.put("a/b/1.seg", b"first").unwrap();
        store.put("a/b/1.seg", b"other").unwrap();
        store.put("a/c/2.seg", b"second").unwrap();
        assert_eq!(store.get("a/b/1.seg").unwrap().unwrap(), b"first");
        assert_eq!(store.get_start("a/b/1.seg", 3).unwrap().unwrap(), b"fir");
        assert_eq!(store.get_start("a/b/1.seg", 9).unwrap().unwrap(), b"first");
        assert_eq!(store.get("a/b/3.seg").unwrap(), None);
        let names = |prefix| store.list(prefix).unwrap().into_iter().map(|e| (e.name, e.bytes)).collect::<Vec<_>>();
        assert_eq!(names("a/b/"), [("a/b/1.seg".into(), 5)]);
        assert_eq!(names("").len(), 2);
        store.touch("a/b/1.seg").unwrap();
        ["a/b/1.seg", "a/b/1.seg", "a/c/2.seg"].iter().for_each(|name| store.remove(name).unwrap());
        assert_eq!(names(""), []);
    }
}

#[test]
fn an_outage_costs_nobody_time_and_loses_nothing_that_can_wait() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), 0);
    let tokens: Vec<u32> = (0..1000).collect();
    let segments = path(&tokens);
    let vault = vault_of(&server);
    vault.save(segments[0].clone());
    vault.flush();
    let port = server.address.port();
    drop(server);
    vault.save(segments[1].clone());
    for _ in 0..1000 {
        // With three seconds for each the test would not end.
        assert_eq!(fetch(&vault, &tokens[..200]), []);
    }
    let server = Server::start(home.path(), port);
    segments[2..].iter().for_each(|segment| assert!(vault.save(segment.clone())));
    let began = Instant::now();
    while vault.stats().tiers[0].written.segments < segments.len() as u64 {
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", vault.stats());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(fetch(&vault_of(&server), &tokens), segments);
    assert!(vault.stats().tiers[0].failures > 0);
}

#[test]
fn an_outage_does_not_hold_up_the_end() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), 0);
    let vault = vault_of(&server);
    drop(server);
    path(&(0..1000).collect::<Vec<u32>>()).into_iter().for_each(|segment| assert!(vault.save(segment)));
    vault.flush();
    assert_eq!(vault.stats().tiers[0].dropped.segments, 4);
}

#[test]
fn what_is_wrong_is_said() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), 0);
    let wrong = server.environment().map(|(name, value)| (name, value.replace("secret", "wrong")));
    let refused = Remote::open("s3://cache", wrong).unwrap().put("a/1.seg", b"x").unwrap_err().to_string();
    assert!(refused.starts_with("s3://cache/a/1.seg: ") && refused.lines().count() == 1, "{refused}");
    let missing = open(&server, "s3://absent/kv").list("a/").unwrap_err().to_string();
    assert!(missing.starts_with("s3://absent/kv/a/: ") && missing.contains("NoSuchBucket"), "{missing}");
    let url = |url: &str| Remote::open(url, []).err().unwrap().to_string();
    assert_eq!(url("gs://cache"), "gs://cache: a store is s3://BUCKET or s3://BUCKET/PREFIX");
    assert!(url("s3:///kv").contains("the bucket's name has letters"));
    assert!(url("s3://cache/a//b").starts_with("s3://cache/a//b: "));
}
