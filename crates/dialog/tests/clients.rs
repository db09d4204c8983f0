//! Long conversations at temperature 1, as each client brings them back: no token of the old turns may change.

mod common;

use common::{CHAT, MODEL, THINKING, id, prompt, tokenizer, tools, user};
use ds4_chat::{Message, Mode, Options as Rendering};
use ds4_dialog::{Answer, Prompt, Turns};
use ds4_engine::{Engine, Event, Options, Request, Sampling};
use std::sync::Arc;

const TURNS: u64 = 50;

type Echo = (&'static str, fn(&mut Message));

/// What clients make of the assistant's messages.
const ECHOES: [Echo; 6] = [
    ("verbatim", |_| {}),
    ("trimmed", |message| message.content = message.content.trim().into()),
    ("trimmed reasoning", |message| message.reasoning = message.reasoning.trim().into()),
    ("hidden reasoning", |message| message.reasoning.clear()),
    ("compact arguments in another order", |message| {
        message.tool_calls.iter_mut().for_each(|call| call.arguments = r#"{"n":1,"path":"a b"}"#.into());
        message.content = format!("{}\n", message.content.trim());
    }),
    ("new ids of calls, no ids of messages", |message| {
        message.tool_calls.iter_mut().for_each(|call| call.id = "mine".into());
        message.id.clear();
    }),
];

/// Words that the model does not know are spelled in pieces of its own choice.
const QUESTIONS: [&str; 3] = [
    "What is 7 + 8?",
    "Reply with exactly: Zephyrus quivered, xylophonic knotweed jamboree",
    "Tell a long tale of ünïcode 🙂 knots and xylophones.",
];

/// What the model draws, at most 32 tokens, so that some answers are cut; and the tokens of the prompt that were not
/// computed again.
fn draw(engine: &Engine, prompt: &Prompt, seed: u64) -> (Vec<u32>, usize) {
    let sampling = Sampling { temperature: 1.0, seed, ..Sampling::GREEDY };
    let request = Request {
        sampling,
        stop: vec![tokenizer().eos()],
        ..Request::greedy(prompt.tokens.clone(), 32, tokenizer().eos())
    };
    let (mut ids, mut reused) = (Vec::new(), 0);
    for event in engine.submit(request).unwrap() {
        match event {
            Event::Token(token) => ids.push(token.id),
            Event::Finished(_, usage) => reused = usage.reused,
            Event::Failed(why) => panic!("{why}"),
            _ => {}
        }
    }
    (ids, reused)
}

/// The tokens of a call, spelled character by character, as the tools of these turns get it.
fn call() -> Vec<u32> {
    let block = "\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"f\">\n\
                 <｜DSML｜parameter name=\"path\" string=\"true\">a b</｜DSML｜parameter>\n\
                 <｜DSML｜parameter name=\"n\" string=\"false\">1</｜DSML｜parameter>\n\
                 </｜DSML｜invoke>\n</｜DSML｜tool_calls>";
    let pieces: Vec<Vec<u32>> = block
        .split("｜DSML｜")
        .map(|piece| piece.chars().flat_map(|c| tokenizer().encode_inert(&c.to_string())).collect())
        .collect();
    pieces.join(&id("｜DSML｜"))
}

/// Holds a conversation and calls `check` at each turn, for each way to echo, with the prompt and all that was sampled:
/// the last prompt, its length, and its answer.
fn converse(with_tools: bool, options: Rendering, check: impl Fn(&Prompt, &[u32], usize, &str)) {
    let engine_options = Options { context: 8192, threads: 2, ..Options::default() };
    let engine = Engine::start(Arc::clone(&MODEL), engine_options).unwrap();
    let turns = Turns::new(1000);
    let mut given: Vec<Message> = if with_tools { vec![tools()] } else { Vec::new() };
    let (mut sampled, mut last) = (Vec::new(), 0);
    let mut unusual = 0;
    for turn in 0..TURNS {
        given.push(user(QUESTIONS[turn as usize % QUESTIONS.len()]));
        let mut prompts = ECHOES.map(|(name, echo)| {
            let mut echoed = given.clone();
            echoed.iter_mut().filter(|m| m.role == ds4_chat::Role::Assistant).for_each(echo);
            let prompt = prompt(&echoed, options, &turns);
            check(&prompt, &sampled, last, name);
            prompt
        });
        let asked = &mut prompts[turn as usize % ECHOES.len()];
        let (mut ids, reused) = draw(&engine, asked, turn + 1);
        if !with_tools {
            // The last token of an answer that was cut was never read. A prompt is kept up to where its reasoning begins.
            let old = if options.mode == Mode::Chat { sampled.len() } else { last };
            assert!(reused + 1 >= old, "turn {turn}: {reused} of {old} old tokens");
        }
        // V4-mini calls no tools: the call is written in its name.
        let closed = options.mode == Mode::Chat || ids.contains(&id("</think>"));
        let calls = with_tools && turn % 3 == 0 && closed;
        if calls {
            ids.extend(call());
        }
        let mut answer = Answer::new(tokenizer(), asked.thinking, asked.tools.clone(), Vec::new());
        ids.iter().for_each(|id| drop(answer.push(*id)));
        let (_, mut turn_taken, _) = answer.finish();
        assert_eq!(turn_taken.given.tool_calls.len(), usize::from(calls), "turn {turn}");
        for call in &mut turn_taken.given.tool_calls {
            call.id = format!("call_{turn}");
            assert_eq!(call.arguments, r#"{"path":"a b","n":1}"#);
        }
        turn_taken.given.id = format!("msg_{turn}");
        turns.remember(asked.place, &turn_taken);
        unusual += usize::from(tokenizer().encode(&tokenizer().decode(&ids)) != ids);
        (sampled, last) = ([&asked.tokens[..], &ids].concat(), asked.tokens.len());
        given.push(turn_taken.given.clone());
        for call in &turn_taken.given.tool_calls {
            given.push(Message::tool_result(&call.id, "done"));
        }
    }
    assert!(unusual > 0, "some answers are not spelled as the tokenizer would");
}

#[track_caller]
fn assert_begins(prompt: &Prompt, sampled: &[u32], echo: &str) {
    let same = prompt.tokens.iter().zip(sampled).take_while(|(a, b)| a == b).count();
    let text = |ids: &[u32]| tokenizer().decode(&ids[same..(same + 20).min(ids.len())]);
    assert_eq!(same, sampled.len(), "{echo}: {:?} became {:?}", text(sampled), text(&prompt.tokens));
}

#[test]
fn without_thinking_every_token_stays() {
    converse(false, CHAT, |prompt, sampled, _, echo| assert_begins(prompt, sampled, echo));
}

#[test]
fn with_thinking_and_tools_every_token_stays() {
    converse(true, THINKING, |prompt, sampled, _, echo| assert_begins(prompt, sampled, echo));
}

#[test]
fn with_thinking_alone_only_the_last_answer_moves() {
    converse(false, THINKING, |prompt, sampled, last, echo| {
        let (before, answer) = sampled.split_at(last);
        let Some((think, before)) = before.split_last() else { return };
        assert_eq!(*think, id("<think>"));
        assert_begins(prompt, before, echo);
        // The last reasoning goes, and its text stays as it was sampled.
        let body = answer.iter().position(|t| *t == id("</think>")).map_or(&[][..], |end| &answer[end + 1..]);
        let expected = [&[id("</think>")][..], body, &[tokenizer().eos()]].concat();
        assert!(prompt.tokens[before.len()..].starts_with(&expected), "{echo}");
    });
}
