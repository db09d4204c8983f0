//! What is kept below RAM, on the built-in model.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use ds4_engine::{Engine, Event, Finish, Metrics, Model, Observe, Observed, Options, Request, Usage};
use ds4_kv::Tier;
use ds4_kv::store::{Disk, Entry, Error, Memory, Store};

fn options() -> Options {
    Options { context: 4096, threads: 2, step: 64, resume_every: 512, ..Options::default() }
}

fn model() -> Arc<Model> {
    Arc::new(Model::open(&ds4_testkit::root().join("mini/v4-mini.gguf")).unwrap())
}

fn engine(store: impl Store + 'static, options: Options) -> Engine {
    let tier = Tier { store: Box::new(store), name: "disk".into(), budget: None };
    Engine::start_with(model(), options, vec![tier]).unwrap()
}

/// Some text of `len` tokens; another one for each `kind`.
fn prompt(kind: u32, len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| 3 + (i * i * 7 + i * 13 + kind * 101) % 900).collect()
}

/// Bits of the logits after a prompt, a few tokens more, and what it took.
fn ask(engine: &Engine, tokens: &[u32]) -> (Vec<u32>, Vec<u32>, Usage) {
    let request = Request { observe: Observe::Logits, stop: vec![], ..Request::greedy(tokens.to_vec(), 4, 1) };
    let (mut bits, mut answer) = (Vec::new(), Vec::new());
    for event in engine.submit(request).unwrap() {
        match event {
            Event::Observed(Observed::Logits(logits)) => bits.extend(logits.iter().map(|l| l.to_bits())),
            Event::Token(token) => answer.push(token.id),
            Event::Finished(_, usage) => return (bits, answer, usage),
            Event::Failed(why) => panic!("{why}"),
            _ => {}
        }
    }
    panic!("it ended without a word");
}

fn written(metrics: &Metrics) -> u64 {
    metrics.tiers[0].written.segments
}

#[test]
fn a_restart_costs_one_token() {
    let home = tempfile::tempdir().unwrap();
    let open = || Disk::open(home.path()).unwrap();
    let text = prompt(1, 3000);
    let first = engine(open(), options());
    let cold = ask(&first, &text);
    assert_eq!((cold.2.reused, cold.2.source), (0, None));
    drop(first);

    let second = engine(open(), options());
    let warm = ask(&second, &text);
    assert_eq!((warm.2.reused, warm.2.source.as_deref()), (2999, Some("disk")));
    assert_eq!((&warm.0, &warm.1), (&cold.0, &cold.1));
    // Now RAM has it.
    let again = ask(&second, &text);
    assert_eq!((again.2.reused, again.2.source), (2999, None));
    assert_eq!(again.0, cold.0);
    // An edit goes back to a point that came from the disk.
    let edited = [&text[..1300], &[9; 50]].concat();
    let warm = ask(&second, &edited);
    assert_eq!(warm.2.reused, 1024);
    second.forget().unwrap();
    drop(second);
    assert_eq!(warm.0, ask(&Engine::start(model(), options()).unwrap(), &edited).0);
}

#[test]
fn an_answer_is_gone_on_with_after_a_restart() {
    let store = Arc::new(Memory::default());
    let first = engine(Arc::clone(&store), options());
    let mut text = prompt(1, 700);
    for turn in 0..3 {
        let answer = ask(&first, &text).1;
        text.extend(answer);
        text.extend([7, 8, turn]);
    }
    drop(first);
    let second = engine(store, options());
    let (.., usage) = ask(&second, &text);
    assert_eq!(usage.reused, text.len() - 4, "the last token of an answer is never read");
}

#[test]
fn a_conversation_that_leaves_ram_comes_back() {
    let store = Arc::new(Memory::default());
    let small = Options { context: 1024, ..options() };
    let engine = engine(store, small);
    let text = prompt(1, 800);
    let cold = ask(&engine, &text);
    (2..5).for_each(|kind| drop(ask(&engine, &prompt(kind, 900))));
    let warm = ask(&engine, &text);
    assert_eq!((warm.2.reused, warm.2.source.as_deref()), (799, Some("disk")));
    assert_eq!((warm.0, warm.1), (cold.0, cold.1));
}

#[test]
fn writes_grow_with_new_tokens_and_two_ends_are_kept() {
    let store = Arc::new(Memory::default());
    let engine = engine(Arc::clone(&store), options());
    let mut text = prompt(1, 400);
    for turn in 0..30 {
        let answer = ask(&engine, &text).1;
        text.extend(answer);
        text.extend(prompt(turn, 60));
    }
    let regular = (text.len() / 512) as u64;
    assert_eq!(written(&engine.metrics()), regular, "ends are not written while RAM has them");
    drop(engine);
    assert_eq!(store.list("").unwrap().len() as u64, regular + 2, "and the last two ends");
}

/// A store that waits as long as it is told, and refuses to write as long as it is told.
#[derive(Default)]
struct Awkward {
    memory: Memory,
    waits: AtomicBool,
    refuses: AtomicBool,
}

impl Awkward {
    fn wait(&self) {
        while self.waits.load(SeqCst) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

impl Store for Awkward {
    fn list(&self, prefix: &str) -> Result<Vec<Entry>, Error> {
        self.wait();
        self.memory.list(prefix)
    }
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.memory.get(name)
    }
    fn get_start(&self, name: &str, most: usize) -> Result<Option<Vec<u8>>, Error> {
        self.memory.get_start(name, most)
    }
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        match self.refuses.load(SeqCst) {
            true => Err(Error { place: name.into(), what: "no space".into(), again: None }),
            false => self.memory.put(name, bytes),
        }
    }
    fn touch(&self, name: &str) -> Result<(), Error> {
        self.memory.touch(name)
    }
    fn remove(&self, name: &str) -> Result<(), Error> {
        self.memory.remove(name)
    }
}

#[test]
fn a_request_can_be_taken_back_while_a_store_does_not_answer() {
    let store = Arc::new(Awkward::default());
    let engine = engine(Arc::clone(&store), options());
    store.waits.store(true, SeqCst);
    let run = engine.submit(Request::greedy(prompt(1, 900), 1, 1)).unwrap();
    run.cancel();
    let end = run.last();
    store.waits.store(false, SeqCst);
    assert!(matches!(end, Some(Event::Finished(Finish::Cancelled, _))), "{end:?}");
    assert_eq!(ask(&engine, &prompt(1, 900)).2.reused, 0);
}

#[test]
fn what_could_not_be_written_is_written_with_what_follows() {
    let store = Arc::new(Awkward::default());
    let first = engine(Arc::clone(&store), options());
    store.refuses.store(true, SeqCst);
    let text = prompt(1, 3000);
    let cold = ask(&first, &text[..1000]);
    assert_eq!(cold.2.reused, 0);
    while first.metrics().tiers[0].failures == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    store.refuses.store(false, SeqCst);
    // What the refusal lost is offered again after a minute, or by the engine's end.
    let cold = ask(&first, &text);
    drop(first);
    let second = engine(store, options());
    let warm = ask(&second, &text);
    assert_eq!((warm.2.reused, warm.0), (2999, cold.0));
}
