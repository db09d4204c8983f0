//! A download that is interrupted goes on, with the right bytes.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use common::{ASKED, Asker, model, sum, until};
use ds4_hub::{Catalogue, Error, Progress, Report, Source};
use ds4_testkit::host::{Host, Reply};
use proptest::prelude::*;

const SIZE: usize = 300_000;

#[test]
fn cut_connections_go_on_where_they_were() {
    let bytes = model(SIZE, 0);
    let served = bytes.clone();
    let host = Host::start(move |request| match request.number {
        3 => Reply::file(request, &served, "\"v1\""),
        _ => Reply::file(request, &served, "\"v1\"").cut(50_000),
    });
    let mut asker = Asker::of(&host);
    asker.gets(&bytes);
    let seen = host.seen();
    let froms: Vec<Option<usize>> = seen.iter().map(|request| request.from()).collect();
    assert_eq!(froms, [None, Some(50_000), Some(100_000), Some(150_000)]);
    assert!(seen[1..].iter().all(|request| request.header("if-range") == Some("\"v1\"")));
    assert!(asker.heard("trying again"), "{:?}", asker.notes);
}

#[test]
fn silence_is_given_up_and_gone_on_from() {
    let bytes = model(SIZE, 0);
    let served = bytes.clone();
    let host = Host::start(move |request| match request.from() {
        None => Reply::file(request, &served, "\"v1\"").stall(100_000),
        Some(_) => Reply::file(request, &served, "\"v1\""),
    });
    let mut asker = Asker::of(&host);
    asker.settings.patience.stall = Duration::from_millis(500);
    asker.gets(&bytes);
    assert!(asker.heard("nothing came for"), "{:?}", asker.notes);
}

#[test]
fn a_server_that_knows_no_ranges_sends_everything_again() {
    let bytes = model(SIZE, 0);
    let served = bytes.clone();
    let host = Host::start(move |request| match request.number {
        0 => Reply::whole(&served).header("etag", "\"v1\"").cut(100_000),
        _ => Reply::whole(&served).header("etag", "\"v1\""),
    });
    Asker::of(&host).gets(&bytes);
    assert_eq!(host.seen()[1].from(), Some(100_000));
}

#[test]
fn a_file_that_changed_is_begun_again() {
    let (old, new) = (model(SIZE, 0), model(SIZE, 7));
    // With If-Range the server sends all of the new one; a server that ignores If-Range is caught by the etag of its answer.
    for honest in [true, false] {
        let served = new.clone();
        let host = Host::start(move |request| match (honest, request.from()) {
            (false, Some(from)) => Reply::status(206)
                .header("content-range", &format!("bytes {from}-{}/{}", served.len() - 1, served.len()))
                .header("etag", "\"v2\""),
            _ => Reply::file(request, &served, "\"v2\""),
        });
        let mut asker = Asker::of(&host);
        asker.leave(".part", &old[..100_000]);
        let origin = format!(r#"{{"source": "{ASKED}", "size": {}, "sha256": null, "etag": "\"v1\""}}"#, old.len());
        asker.leave(".origin", origin.as_bytes());
        asker.gets(&new);
        assert_eq!(asker.heard("the file has changed"), !honest);
    }
}

#[test]
fn a_sum_tells_what_an_etag_does_not() {
    // Whether what is there is the beginning of the new file or not, and where it came from: the sum decides.
    let (old, new) = (model(SIZE, 0), model(SIZE, 7));
    for (left, source, again) in [(&new, None, false), (&old, None, true), (&new, Some("hf://you/a.gguf"), true)] {
        let served = new.clone();
        let host =
            Host::start(move |request| Reply::file(request, &served, "\"x\"").header("x-linked-etag", &sum(&served)));
        let mut asker = Asker::of(&host);
        asker.leave(".part", &left[..100_000]);
        if let Some(source) = source {
            asker.leave(".origin", format!(r#"{{"source": "{source}"}}"#).as_bytes());
        }
        asker.gets(&new);
        assert_eq!(asker.heard("beginning again"), again, "{:?}", asker.notes);
    }
}

#[test]
fn bytes_of_unknown_origin_are_begun_again_where_nothing_can_judge_them() {
    let (old, new) = (model(SIZE, 0), model(SIZE, 7));
    let served = new.clone();
    let host = Host::start(move |request| Reply::file(request, &served, "\"x\""));
    let mut asker = Asker::of(&host);
    asker.leave(".part", &old[..100_000]);
    asker.gets(&new);
}

#[test]
fn a_size_and_a_weak_etag_are_no_version() {
    let (old, new) = (model(SIZE, 0), model(SIZE, 7));
    for word in ["W/\"v\"", ""] {
        let (first, second) = (old.clone(), new.clone());
        let host = Host::start(move |request| match request.number {
            0 => Reply::file(request, &first, word).cut(100_000),
            _ => Reply::file(request, &second, word),
        });
        Asker::of(&host).gets(&new);
        assert_eq!(host.seen()[1].from(), None, "nothing can follow what came");
    }
}

#[test]
fn where_a_sum_decides_another_servers_etag_costs_nothing() {
    let bytes = model(SIZE, 0);
    // One that knows the sum, and a mirror that does not.
    for knows in [true, false] {
        let served = bytes.clone();
        let host = Host::start(move |request| {
            let sum = if knows { sum(&served) } else { String::new() };
            Reply::file(request, &served, "\"there\"").header("x-linked-etag", &sum)
        });
        let mut asker = Asker::of(&host);
        asker.leave(".part", &bytes[..100_000]);
        let sum = sum(&bytes);
        let origin =
            format!(r#"{{"source": "{ASKED}", "size": {}, "sha256": "{sum}", "etag": "\"here\""}}"#, bytes.len());
        asker.leave(".origin", origin.as_bytes());
        asker.gets(&bytes);
        let seen = host.seen();
        assert_eq!((seen.len(), seen[0].from(), seen[0].header("if-range")), (1, Some(100_000), None));
        let origin = String::from_utf8(common::read(&asker.store().path("a.gguf.origin"))).expect("text");
        assert!(origin.contains(&sum), "{origin}");
    }
}

#[test]
fn what_is_there_stays_until_a_model_comes() {
    let bytes = model(SIZE, 0);
    let page = Reply::whole(b"Sign in, please").header("content-type", "application/octet-stream");
    for answers in [vec![page.clone()], vec![Reply::status(416), page], vec![Reply::status(416), Reply::whole(b"")]] {
        let served = bytes.clone();
        let tries = answers.len();
        let host = Host::start(move |request| match answers.get(request.number) {
            Some(answer) => answer.clone(),
            None => Reply::file(request, &served, "\"v1\""),
        });
        let mut asker = Asker::of(&host);
        asker.leave(".part", &bytes[..100_000]);
        let origin = format!(r#"{{"source": "{ASKED}", "size": {}, "etag": "\"v1\""}}"#, bytes.len());
        asker.leave(".origin", origin.as_bytes());
        asker.fails("the server");
        assert!(common::read(&asker.store().path("a.gguf.part")) == bytes[..100_000]);
        asker.gets(&bytes);
        assert_eq!(host.seen()[tries].from(), Some(100_000));
    }
}

#[test]
fn a_part_that_lacks_only_its_name_is_asked_for_nowhere() {
    let bytes = model(SIZE, 0);
    let host = Host::start(|_| Reply::status(500));
    let mut asker = Asker::of(&host);
    asker.leave(".part", &bytes);
    let origin = format!(r#"{{"source": "{ASKED}", "size": {}, "etag": "\"v1\""}}"#, bytes.len());
    asker.leave(".origin", origin.as_bytes());
    asker.gets(&bytes);
    assert!(host.seen().is_empty());
}

#[test]
fn a_part_that_is_complete_is_checked_and_kept() {
    let bytes = model(SIZE, 0);
    let served = bytes.clone();
    let host =
        Host::start(move |request| Reply::file(request, &served, "\"x\"").header("x-linked-etag", &sum(&served)));
    let mut asker = Asker::of(&host);
    asker.leave(".part", &bytes);
    asker.gets(&bytes);
    assert_eq!(host.seen().len(), 1, "416 says that all is there");
}

#[test]
fn a_part_that_is_too_long_is_begun_again() {
    let bytes = model(SIZE, 0);
    let served = bytes.clone();
    let host =
        Host::start(move |request| Reply::file(request, &served, "\"x\"").header("x-linked-etag", &sum(&served)));
    let mut asker = Asker::of(&host);
    asker.leave(".part", &[&bytes[..], b"more"].concat());
    asker.gets(&bytes);
}

#[test]
fn a_part_that_is_no_model_is_begun_again() {
    let bytes = model(SIZE, 0);
    let served = bytes.clone();
    let host =
        Host::start(move |request| Reply::file(request, &served, "\"x\"").header("x-linked-etag", &sum(&served)));
    let mut asker = Asker::of(&host);
    asker.leave(".part", b"<!doctype html><title>Sign in</title>");
    asker.gets(&bytes);
    assert_eq!(host.seen()[0].from(), None);
}

/// Says when it hears that it has to wait.
struct Waiter(Arc<AtomicBool>);

impl Progress for Waiter {
    fn report(&mut self, _: &Report) {}

    fn note(&mut self, text: &str) {
        self.0.store(text.contains("another process is downloading"), Relaxed);
    }
}

#[test]
fn two_who_ask_at_once_download_once() {
    let bytes = model(SIZE, 0);
    let (served, waits) = (bytes.clone(), Arc::new(AtomicBool::new(false)));
    let waiting = Arc::clone(&waits);
    // Nothing comes before the second one waits for the first.
    let host = Host::start(move |request| {
        until(|| waiting.load(Relaxed));
        Reply::file(request, &served, "\"v1\"")
    });
    let mut asker = Asker::of(&host);
    let source = Source::parse(ASKED, &Catalogue::new()).expect("it can be asked for");
    let (store, settings) = (asker.store(), asker.settings.clone());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            until(|| !host.seen().is_empty());
            let path = ds4_hub::obtain(&source, &store, &settings, &mut Waiter(waits)).expect("it is there");
            assert_eq!(path, Some(store.path("a.gguf")));
        });
        asker.gets(&bytes);
    });
    assert_eq!(host.seen().len(), 1);
}

#[test]
fn who_stops_keeps_what_is_there_and_goes_on() {
    let bytes = model(SIZE, 0);
    let served = bytes.clone();
    let host = Host::start(move |request| match request.number {
        0 => Reply::file(request, &served, "\"v1\"").stall(100_000),
        _ => Reply::file(request, &served, "\"v1\""),
    });
    let mut asker = Asker::of(&host);
    let stop = Arc::clone(&asker.settings.stop);
    let part = asker.store().path("a.gguf.part");
    let watched = part.clone();
    let watch = std::thread::spawn(move || {
        until(|| std::fs::metadata(&watched).map_or(0, |m| m.len()) >= 100_000);
        stop.store(true, Relaxed);
    });
    match asker.pull() {
        Err(Error::Interrupted { part: at, kept }) => assert_eq!((at, kept), (part, 100_000)),
        other => panic!("{other:?}"),
    }
    watch.join().expect("it watched");
    asker.settings.stop.store(false, Relaxed);
    asker.gets(&bytes);
    assert_eq!(host.seen()[1].from(), Some(100_000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Without a sum, and with versions of one size that change at any request: what gets its name is one of them, whole.
    #[test]
    fn versions_are_never_mixed(events in prop::collection::vec((0usize..3, 0u8..4, 0.0f64..1.0), 1..12)) {
        let versions = [1, 2, 3].map(|seed| model(20_000, seed));
        let (served, at) = (versions.clone(), AtomicUsize::new(0));
        let host = Host::start(move |request| {
            let (version, kind, share) = events.get(at.fetch_add(1, Relaxed)).copied().unwrap_or((0, 0, 1.0));
            let bytes = &served[version];
            let word = format!("\"v{version}\"");
            // Ignores If-Range, as some do.
            let any = match request.from().filter(|from| *from < bytes.len()) {
                Some(from) => Reply::whole(&bytes[from..])
                    .status_is(206)
                    .header("content-range", &format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len())),
                None => Reply::whole(bytes),
            };
            let reply = match kind {
                0 => Reply::file(request, bytes, &word),
                1 => any.header("etag", &word),
                2 => any.header("etag", "W/\"v\""),
                _ => any,
            };
            reply.cut((share * bytes.len() as f64) as usize)
        });
        let mut asker = Asker::of(&host);
        let path = (0..8).find_map(|_| asker.pull().ok());
        let path = path.ok_or_else(|| TestCaseError::fail(format!("it never came: {:?}", asker.notes)))?;
        prop_assert!(versions.contains(&common::read(&path)), "a mixture");
    }

    /// Whatever happens on the way, in one run or in several: the file that gets its name is the right one.
    #[test]
    fn whatever_happens_the_file_is_right(
        size in 8usize..200_000,
        events in prop::collection::vec((0u8..10, 0.0f64..1.0), 0..12),
    ) {
        let (bytes, other) = (model(size, 1), model(size, 2));
        let served = bytes.clone();
        let at = Arc::new(AtomicUsize::new(0));
        let host = Host::start(move |request| {
            let sum = sum(&served);
            let file = |bytes: &[u8]| Reply::file(request, bytes, "\"v\"").header("x-linked-etag", &sum);
            let Some((event, share)) = events.get(at.fetch_add(1, Relaxed)).copied() else { return file(&served) };
            let some = (share * served.len() as f64) as usize;
            match event {
                0..3 => file(&served).cut(some),
                3 => Reply::status(503),
                4 => Reply::status(429).header("retry-after", "0"),
                // Another file's bytes under this one's name.
                5 => file(&other).cut(some),
                6 => Reply::whole(&served).header("x-linked-etag", &sum).cut(some),
                7 => Reply::status(416),
                // A part that begins elsewhere, or is one of something longer.
                8 => Reply::whole(&served[some..]).status_is(206).header("content-range", &format!("bytes {some}-/{}", served.len())),
                _ => file(&served).header("content-range", &format!("bytes {some}-/{}", served.len() + 1)).cut(some),
            }
        });
        let mut asker = Asker::of(&host);
        for _ in 0..16 {
            match asker.pull() {
                Ok(path) => {
                    prop_assert!(common::read(&path) == bytes);
                    return Ok(());
                }
                Err(_) => prop_assert!(!asker.path().exists()),
            }
        }
        prop_assert!(false, "it never came: {:?}", asker.notes);
    }
}
