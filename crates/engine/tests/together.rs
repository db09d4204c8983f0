//! Several sequences at once: who waits, who goes first, and what they may not do to each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use ds4_engine::{Engine, Event, Finish, Machine, Model, Options, Plan, Request, Run};

fn model() -> Model {
    Model::open(&ds4_testkit::root().join("mini/v4-mini.gguf")).unwrap()
}

fn engine(options: Options) -> Engine {
    Engine::start(Arc::new(model()), Options { threads: 2, step: 64, ..options }).unwrap()
}

/// Some text of `len` tokens; another one for each `kind`.
fn prompt(kind: u32, len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| 3 + (i * i * 7 + i * 13 + kind * 101) % 900).collect()
}

/// `count` tokens after a prompt, whatever they are.
fn go_on(tokens: Vec<u32>, count: usize) -> Request {
    Request { stop: vec![], ..Request::greedy(tokens, count, 1) }
}

/// The answer, its end, and the places in the queue on the way.
#[derive(Debug, Default)]
struct Answer {
    tokens: Vec<u32>,
    places: Vec<usize>,
    finish: Option<Finish>,
}

fn follow(run: Run<'_>) -> Answer {
    let mut answer = Answer::default();
    for event in run {
        match event {
            Event::Queued { ahead } => answer.places.push(ahead),
            Event::Token(token) => answer.tokens.push(token.id),
            Event::Finished(finish, _) => answer.finish = Some(finish),
            Event::Failed(why) => panic!("{why}"),
            Event::Prefill { .. } | Event::Scored { .. } | Event::Observed(_) => {}
        }
    }
    answer
}

fn ask(engine: &Engine, request: Request) -> Answer {
    follow(engine.submit(request).unwrap())
}

#[test]
fn a_short_prompt_does_not_wait_for_a_long_one() {
    let engine = engine(Options { sessions: 2, context: 4096, ..Options::default() });
    let read = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for event in engine.submit(go_on(prompt(1, 4000), 1)).unwrap() {
                if let Event::Prefill { done, .. } = event {
                    read.store(done, Relaxed);
                }
            }
        });
        while read.load(Relaxed) == 0 {
            std::thread::yield_now();
        }
        assert_eq!(ask(&engine, go_on(prompt(2, 100), 5)).tokens.len(), 5);
        assert!(read.load(Relaxed) < 4000, "the long prompt is still being read");
    });
}

#[test]
fn an_answer_goes_on_while_a_prompt_is_read() {
    // No time for prompts: one token a step, while an answer is written.
    let engine = engine(Options { sessions: 2, context: 1024, prefill_quantum: Duration::ZERO, ..Options::default() });
    let mut writing = engine.submit(go_on(prompt(1, 20), 100)).unwrap();
    while !matches!(writing.next(), Some(Event::Token(_))) {}
    let read = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for event in engine.submit(go_on(prompt(2, 400), 1)).unwrap() {
                if let Event::Prefill { done, .. } = event {
                    read.store(done, Relaxed);
                }
            }
        });
        assert_eq!(follow(writing).finish, Some(Finish::Length));
        assert!(read.load(Relaxed) < 400, "the prompt is still being read");
    });
    assert_eq!(read.load(Relaxed), 400);
}

#[test]
fn who_leaves_disturbs_nobody() {
    let engine = engine(Options { sessions: 3, context: 4096, ..Options::default() });
    let alone = ask(&engine, go_on(prompt(1, 60), 40));
    engine.forget().unwrap();
    let reads = engine.submit(go_on(prompt(2, 4000), 1)).unwrap();
    let mut writes = engine.submit(go_on(prompt(3, 30), 4000)).unwrap();
    let stays = engine.submit(go_on(prompt(1, 60), 40)).unwrap();
    while !matches!(writes.next(), Some(Event::Token(_))) {}
    writes.cancel();
    assert_eq!(follow(writes).finish, Some(Finish::Cancelled));
    reads.cancel();
    assert_eq!(follow(reads).finish, Some(Finish::Cancelled));
    assert_eq!(follow(stays).tokens, alone.tokens);
}

#[test]
fn who_finds_no_memory_waits_in_the_open() {
    let engine = engine(Options { sessions: 3, context: 1024, pool: Some(1024), ..Options::default() });
    let mut first = engine.submit(go_on(prompt(1, 900), 100)).unwrap();
    assert!(matches!(first.next(), Some(Event::Prefill { done: 0, total: 900 })), "it runs at once");
    let mut second = engine.submit(go_on(prompt(2, 900), 3)).unwrap();
    assert_eq!(second.next(), Some(Event::Queued { ahead: 1 }));
    let mut third = engine.submit(go_on(prompt(3, 900), 3)).unwrap();
    assert_eq!(third.next(), Some(Event::Queued { ahead: 2 }));
    first.cancel();
    assert_eq!(follow(first).finish, Some(Finish::Cancelled));
    // The pages of a sequence that rests are there for others.
    let second = follow(second);
    assert_eq!((second.tokens.len(), second.places), (3, vec![]));
    let third = follow(third);
    assert_eq!((third.tokens.len(), third.places), (3, vec![1]));
}

#[test]
fn a_waiting_request_can_be_taken_back() {
    let engine = engine(Options { sessions: 2, context: 1024, pool: Some(1024), ..Options::default() });
    let first = engine.submit(go_on(prompt(1, 900), 100)).unwrap();
    let mut second = engine.submit(go_on(prompt(2, 900), 1)).unwrap();
    assert_eq!(second.next(), Some(Event::Queued { ahead: 1 }));
    second.cancel();
    assert_eq!(follow(second).finish, Some(Finish::Cancelled));
    assert_eq!(follow(first).finish, Some(Finish::Length));
}

#[test]
fn who_came_last_gives_way_and_loses_nothing() {
    // Both fit at first; when they have grown, only one does.
    let options = Options { sessions: 2, context: 512, pool: Some(512), ..Options::default() };
    let crowded = engine(options);
    let requests = || {
        let mut requests = [go_on(prompt(1, 100), 400), go_on(prompt(2, 100), 300)];
        requests[1].sampling.temperature = 1.0;
        requests
    };
    let [first, second] = requests();
    let first = crowded.submit(first).unwrap();
    let second = crowded.submit(second).unwrap();
    let (first, second) = std::thread::scope(|scope| {
        let other = scope.spawn(|| follow(second));
        (follow(first), other.join().unwrap())
    });
    assert_eq!((first.tokens.len(), first.places), (400, vec![]));
    assert_eq!((second.tokens.len(), second.places), (300, vec![1]), "it went back to the queue");

    let alone = engine(Options { sessions: 1, ..options });
    for (request, answer) in requests().into_iter().zip([first.tokens, second.tokens]) {
        assert_eq!(ask(&alone, request).tokens, answer);
    }
}

#[test]
fn sessions_are_planned_from_what_the_machine_has() {
    let (model, options) = (model(), Options { context: 100_000, threads: 2, ..Options::default() });
    let one = Plan::new(&model, &options);
    let fit = |spare: u64, wanted| {
        let machine = Machine { total: 1 << 40, available: one.weights + one.anonymous() + spare };
        let options = options.fit(&model, Some(&machine), wanted);
        let plan = Plan::new(&model, &options);
        assert!(wanted.is_some() || plan.check(&machine, false).is_ok(), "{plan}");
        (options.sessions, options.pool_tokens())
    };
    let context = 100_000usize.next_multiple_of(128);
    assert_eq!(fit(1 << 39, None), (8, 8 * context));
    assert_eq!(fit(1 << 39, Some(3)), (3, 3 * context));
    assert_eq!(fit(0, None), (1, context));
    assert_eq!(fit(0, Some(3)), (3, context), "one context always has room");
    let (sessions, pool) = fit(one.cache, None);
    assert!(sessions > 1 && pool > context && pool < sessions * context, "{sessions} sessions, {pool} tokens");
}
