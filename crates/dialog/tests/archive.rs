//! Turns outlive the process, and whatever happens to the store they are in, answers stay right.

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use common::{THINKING, answer, bytewise, id, prompt, tokenizer, tools, user};
use ds4_chat::{Message, ToolCall};
use ds4_dialog::Turns;
use ds4_kv::store::{Entry, Error, Memory, Store};

/// A store that can fail.
#[derive(Default)]
struct Shelf {
    kept: Memory,
    fails: AtomicBool,
    /// Nothing is read while somebody holds it.
    hangs: Mutex<()>,
    gets: AtomicUsize,
}

impl Shelf {
    fn check(&self, name: &str) -> Result<(), Error> {
        match self.fails.load(SeqCst) {
            true => Err(Error { place: name.into(), what: "out of order".into(), again: None }),
            false => Ok(()),
        }
    }

    fn names(&self) -> Vec<String> {
        self.list("").unwrap().into_iter().map(|entry| entry.name).collect()
    }
}

impl Store for Shelf {
    fn list(&self, prefix: &str) -> Result<Vec<Entry>, Error> {
        self.check(prefix).and_then(|()| self.kept.list(prefix))
    }

    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.check(name).and_then(|()| self.kept.get(name))
    }

    fn get_start(&self, name: &str, most: usize) -> Result<Option<Vec<u8>>, Error> {
        self.gets.fetch_add(1, SeqCst);
        drop(self.hangs.lock().unwrap());
        self.check(name).and_then(|()| self.kept.get_start(name, most))
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.check(name).and_then(|()| self.kept.put(name, bytes))
    }

    fn touch(&self, name: &str) -> Result<(), Error> {
        self.check(name).and_then(|()| self.kept.touch(name))
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        self.check(name).and_then(|()| self.kept.remove(name))
    }
}

fn turns(shelf: &Arc<Shelf>) -> Turns {
    Turns::new(99).saved_in(Arc::clone(shelf) as Arc<dyn Store>, None, tokenizer()).unwrap()
}

/// A conversation of `answers` answers and the tokens that were sampled. Dropping the turns waits until they are saved.
fn converse(turns: Turns, answers: usize) -> (Vec<Message>, Vec<u32>) {
    let mut messages = vec![tools(), user("q")];
    let mut sampled = Vec::new();
    for n in 0..answers {
        let asked = prompt(&messages, THINKING, &turns);
        let ids = [bytewise("hm"), vec![id("</think>")], bytewise(&format!("yes {n}"))].concat();
        sampled = [&asked.tokens[..], &ids].concat();
        messages.extend([answer(&asked, &ids, &turns).given, user("and?")]);
    }
    (messages, sampled)
}

#[test]
fn another_process_finds_the_turns() {
    let shelf = Arc::new(Shelf::default());
    let (messages, sampled) = converse(turns(&shelf), 40);
    let names = shelf.names();
    assert_eq!(names.len(), 40);
    assert!(names.iter().all(|name| name.starts_with("turns/")
        && name.bytes().all(|b| b"abcdefghijklmnopqrstuvwxyz0123456789-./".contains(&b))));
    let other = turns(&shelf);
    shelf.gets.store(0, SeqCst);
    for _ in 0..2 {
        let told = prompt(&messages, THINKING, &other);
        assert_eq!((told.replayed, &told.tokens[..sampled.len()]), (40, &sampled[..]));
    }
    assert_eq!(shelf.gets.load(SeqCst), 40, "each is read once");
}

#[test]
fn every_name_of_a_turn_leads_to_it() {
    let shelf = Arc::new(Shelf::default());
    let first = turns(&shelf);
    let before = [tools(), user("q")];
    let asked = prompt(&before, THINKING, &first);
    let mut turn = common::stopped(&asked, &[id("</think>")], &[]);
    turn.given.id = "msg_1".into();
    turn.given.tool_calls = vec![ToolCall { id: "call_1".into(), name: "f".into(), arguments: "{}".into() }];
    turn.tokens.body = bytewise("<a call>");
    first.remember(asked.place, &turn);
    drop(first);
    assert_eq!(shelf.names().len(), 3);
    let shown = |question: &str, call: &str, id: &str| {
        let mut message = turn.given.clone();
        (message.tool_calls[0].id, message.id) = (call.into(), id.into());
        prompt(&[tools(), user(question), message, Message::tool_result(call, "ok")], THINKING, &turns(&shelf)).replayed
    };
    assert_eq!((shown("q", "", ""), shown("p", "call_1", ""), shown("p", "", "msg_1")), (1, 1, 1));
    assert_eq!(shown("p", "", ""), 0);
}

#[test]
fn a_damaged_turn_is_unknown_until_it_is_written_again() {
    let shelf = Arc::new(Shelf::default());
    let (messages, _) = converse(turns(&shelf), 3);
    let name = shelf.names().swap_remove(0);
    let mut bytes = shelf.get(&name).unwrap().unwrap();
    bytes[40] ^= 1;
    shelf.remove(&name).unwrap();
    shelf.put(&name, &bytes).unwrap();
    let told = prompt(&messages, THINKING, &turns(&shelf));
    assert_eq!(told.replayed, 2);
    assert_eq!(told.text, tokenizer().decode(&told.tokens));
    converse(turns(&shelf), 3);
    assert_eq!(prompt(&messages, THINKING, &turns(&shelf)).replayed, 3);
}

#[test]
fn an_answer_that_is_sampled_again_takes_the_place_of_the_first() {
    let shelf = Arc::new(Shelf::default());
    let before = [tools(), user("q")];
    for reasoning in ["hm", "oh"] {
        let turns = turns(&shelf);
        let asked = prompt(&before, THINKING, &turns);
        answer(&asked, &[bytewise(reasoning), vec![id("</think>")], bytewise("yes")].concat(), &turns);
    }
    let echo = [&before[..], &[Message::assistant("", "yes"), user("and?")]].concat();
    let text = prompt(&echo, THINKING, &turns(&shelf)).text;
    assert!(text.contains("<think>oh</think>yes"), "{text}");
}

#[test]
fn a_store_that_fails_costs_one_question_and_no_answer() {
    let shelf = Arc::new(Shelf::default());
    let (messages, _) = converse(turns(&shelf), 5);
    shelf.fails.store(true, SeqCst);
    let here = turns(&shelf);
    shelf.gets.store(0, SeqCst);
    assert_eq!((prompt(&messages, THINKING, &here).replayed, shelf.gets.load(SeqCst)), (0, 1));
    let (messages, sampled) = converse(turns(&shelf), 2);
    assert!(!sampled.is_empty());
    shelf.fails.store(false, SeqCst);
    assert_eq!(prompt(&messages, THINKING, &here).replayed, 2, "it works again");
}

#[test]
fn a_store_that_hangs_is_not_waited_for() {
    let shelf = Arc::new(Shelf::default());
    let (messages, _) = converse(turns(&shelf), 5);
    let here = turns(&shelf);
    let hangs = shelf.hangs.lock().unwrap();
    assert_eq!(prompt(&messages, THINKING, &here).replayed, 0);
    drop(hangs);
    assert_eq!(prompt(&messages, THINKING, &here).replayed, 5, "it works again");
}

#[test]
fn a_long_conversation_from_elsewhere_is_given_up() {
    let shelf = Arc::new(Shelf::default());
    let (messages, _) = converse(Turns::new(0), 100);
    assert_eq!(prompt(&messages, THINKING, &turns(&shelf)).replayed, 0);
    assert_eq!(shelf.gets.load(SeqCst), 16);
}

#[test]
fn turns_take_no_more_than_their_space() {
    let shelf = Arc::new(Shelf::default());
    let budget = 64 * 4096;
    let small = Turns::new(999).saved_in(Arc::clone(&shelf) as Arc<dyn Store>, Some(budget), tokenizer()).unwrap();
    shelf.put("elsewhere/segment", b"not a turn").unwrap();
    let (messages, _) = converse(small, 200);
    let names = shelf.names();
    assert!(names.contains(&"elsewhere/segment".to_owned()), "what is not a turn is not touched");
    assert!((58..=65).contains(&names.len()), "{} turns, each in a block", names.len());
    assert_eq!(prompt(&messages, THINKING, &turns(&shelf)).replayed, names.len() - 1, "the last ones are there");
}
