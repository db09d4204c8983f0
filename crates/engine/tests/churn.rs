//! Many clients that come and go: nobody starves, and all memory is accounted for.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ds4_engine::{Engine, Event, Finish, Model, Options, Request, Usage};

const CLIENTS: u64 = 64;
const SESSIONS: usize = 8;

/// How long; a soak wants minutes.
fn seconds() -> u64 {
    std::env::var("DS4_SOAK_SECONDS").ok().and_then(|n| n.parse().ok()).unwrap_or(2)
}

fn engine() -> Engine {
    let model = Model::open(&ds4_testkit::root().join("mini/v4-mini.gguf")).unwrap();
    let options = Options {
        context: 2048,
        threads: 2,
        sessions: SESSIONS,
        pool: Some(6 * 2048),
        resume_every: 256,
        prefill_quantum: Duration::from_millis(20),
        ..Options::default()
    };
    Engine::start(Arc::new(model), options).unwrap()
}

/// Numbers that look random.
fn next(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*state >> 33) as usize
}

/// A client that asks, leaves, asks again, until the end.
fn client(engine: &Engine, number: u64, end: Instant, ended: &Mutex<Vec<Usage>>) {
    let mut random = number;
    while Instant::now() < end {
        // Some of them talk about the same things.
        let (topic, len) = (next(&mut random) % 20, 30 + next(&mut random) % 600);
        let tokens = (0..len).map(|i| 3 + ((i * i * 7 + i * 13 + topic * 101) % 900) as u32).collect();
        let request = Request { stop: vec![], ..Request::greedy(tokens, 1 + next(&mut random) % 60, 1) };
        let leaves = next(&mut random).is_multiple_of(4).then(|| next(&mut random) % 20);
        let run = engine.submit(request).unwrap();
        for (seen, event) in run.enumerate() {
            if leaves == Some(seen) || Instant::now() > end {
                break; // dropping it is leaving
            }
            match event {
                Event::Finished(Finish::Length, usage) => ended.lock().unwrap().push(usage),
                Event::Failed(why) => panic!("{why}"),
                _ => {}
            }
        }
    }
}

/// What the process holds that is not mapped from a file; none where the system does not tell.
fn held() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|l| l.strip_prefix("RssAnon:"))?.trim().trim_end_matches(" kB").parse().ok()
}

#[test]
fn clients_come_and_go() {
    let engine = engine();
    let start = Instant::now();
    let end = start + Duration::from_secs(seconds());
    let ended = Mutex::new(Vec::new());
    let mut early = None;
    std::thread::scope(|scope| {
        (1..=CLIENTS).for_each(|number| {
            drop(scope.spawn({
                let (engine, ended) = (&engine, &ended);
                move || client(engine, number, end, ended)
            }))
        });
        std::thread::sleep((end - start) / 5);
        early = held();
    });
    let ended = ended.into_inner().unwrap();
    assert!(!ended.is_empty());

    // The engine tells when it has nothing to do.
    let all_free = || engine.metrics().pages_used == 0;
    for _ in 0..100 {
        if all_free() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let metrics = engine.metrics();
    assert_eq!((metrics.pages_used, metrics.pages), (0, 6 * 2048 / 128), "{metrics:?}");

    let mut queued: Vec<f64> = ended.iter().map(|usage| usage.queued.as_secs_f64()).collect();
    queued.sort_by(f64::total_cmp);
    let p99 = queued[(queued.len() - 1) * 99 / 100];
    let service: f64 = ended.iter().map(|u| (u.prefill + u.decode).as_secs_f64()).sum::<f64>() / ended.len() as f64;
    let fair = service * (CLIENTS as f64 - SESSIONS as f64) / SESSIONS as f64;
    let late = held();
    println!(
        "{} answers; service {service:.3} s, queue p99 {p99:.3} s of a fair {fair:.3} s; held {early:?}, then {late:?} kB; {metrics:?}",
        ended.len()
    );
    // Short runs are too short to judge by.
    if seconds() >= 30 {
        assert!(p99 <= 3.0 * fair, "some wait {p99:.3} s where {fair:.3} s would be fair");
        assert!(early.zip(late).is_none_or(|(a, b)| b <= 1.05 * a), "memory grows");
    }
}

#[test]
fn the_same_prompt_at_once_is_computed_once() {
    let engine = engine();
    let tokens: Vec<u32> = (0..1500u32).map(|i| 3 + (i * i * 7 + i * 13) % 900).collect();
    // All want the same; some want more after a common beginning.
    let prompt =
        |n: u32| [&tokens[..if n < 4 { 1500 } else { 1024 + 128 }], &[n; 20][..if n < 4 { 0 } else { 20 }]].concat();
    let answers: Vec<Vec<u32>> = std::thread::scope(|scope| {
        let ask = |n| {
            let run = engine.submit(Request { stop: vec![], ..Request::greedy(prompt(n), 5, 1) }).unwrap();
            run.filter_map(|event| if let Event::Token(token) = event { Some(token.id) } else { None }).collect()
        };
        let threads: Vec<_> = (0..8).map(|n| scope.spawn(move || ask(n))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(answers[..4].iter().all(|answer| *answer == answers[0] && answer.len() == 5));
    let computed = engine.metrics().tokens_computed;
    // Whoever comes before its prefix was announced may compute a part of it itself.
    assert!(computed < 1500 + 4 * 200, "{computed} tokens");
}
