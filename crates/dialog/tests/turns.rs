//! Which turns come back with the tokens with which they were sampled.

mod common;

use common::{CHAT, THINKING, answer, bytewise, id, prompt, stopped, talk, tokenizer, tools, user};
use ds4_chat::{Message, Options, ToolCall, render};
use ds4_dialog::{Prompt, Turns};

/// The prompt after an answer that was sampled as `ids`, and what it must begin with.
fn next(before: &[Message], options: Options, ids: &[u32], echo: impl FnOnce(&mut Message)) -> (Prompt, Vec<u32>) {
    let turns = Turns::new(9);
    let first = prompt(before, options, &turns);
    let mut message = answer(&first, ids, &turns).given;
    echo(&mut message);
    let second = prompt(&[before, &[message, user("and?")]].concat(), options, &turns);
    (second, [&first.tokens[..], ids].concat())
}

/// Ids of reasoning and text, spelled as no tokenizer would.
fn thought(reasoning: &str, text: &str) -> Vec<u32> {
    [bytewise(reasoning), vec![id("</think>")], bytewise(text)].concat()
}

#[track_caller]
fn assert_replayed((prompt, sampled): (Prompt, Vec<u32>)) {
    assert_eq!(prompt.replayed, 1);
    assert_eq!(tokenizer().decode(&prompt.tokens[..sampled.len()]), tokenizer().decode(&sampled));
    assert_eq!(prompt.tokens[..sampled.len()], sampled);
    assert_eq!(prompt.text, tokenizer().decode(&prompt.tokens));
}

#[track_caller]
fn assert_canonical(prompt: &Prompt) {
    assert_eq!(prompt.replayed, 0);
    assert_eq!(prompt.tokens, tokenizer().encode(&prompt.text));
}

#[test]
fn an_answer_comes_back_as_it_was_sampled() {
    assert_replayed(next(&[user("q")], CHAT, &bytewise("an answer"), |_| {}));
    assert_replayed(next(&[tools(), user("q")], THINKING, &thought("hm, so", "an answer"), |_| {}));
}

#[test]
fn trimmed_text_and_hidden_reasoning_still_hit() {
    let ids = thought("\nhm, so\n", "\n\nan answer \n");
    let before = [tools(), user("q")];
    assert_replayed(next(&before, THINKING, &ids, |echo| echo.content = echo.content.trim().into()));
    assert_replayed(next(&before, THINKING, &ids, |echo| echo.reasoning.clear()));
    assert_replayed(next(&before, THINKING, &ids, |echo| echo.reasoning = echo.reasoning.trim().into()));
    assert_replayed(next(&before, THINKING, &ids, |echo| *echo = Message::assistant("", "an answer")));
}

#[test]
fn an_edited_text_is_what_the_client_says_it_is() {
    let (prompt, _) = next(&[user("q")], CHAT, &bytewise("an answer"), |echo| echo.content = "another answer".into());
    assert_canonical(&prompt);
    assert!(prompt.text.contains("</think>another answer<"));
    // The same answer to another question is another turn.
    let turns = Turns::new(9);
    answer(&common::prompt(&[user("q")], CHAT, &turns), &bytewise("yes"), &turns);
    assert_canonical(&common::prompt(&[user("p"), Message::assistant("", "yes"), user("and?")], CHAT, &turns));
}

#[test]
fn edited_reasoning_is_kept_as_edited_and_the_text_as_sampled() {
    let before = [tools(), user("q")];
    let (prompt, _) = next(&before, THINKING, &thought("hm", "yes"), |echo| echo.reasoning = "other".into());
    let (end, body) = (id("</think>"), [bytewise("yes"), vec![tokenizer().eos()]].concat());
    let expected = [vec![id("<think>")], tokenizer().encode("other"), vec![end], body].concat();
    assert!(prompt.tokens.windows(expected.len()).any(|window| window == expected), "{}", prompt.text);
}

#[test]
fn without_tools_only_the_text_comes_back() {
    let (prompt, _) = next(&[user("q")], THINKING, &thought("hm", "yes"), |_| {});
    let expected = [vec![id("</think>")], bytewise("yes"), vec![tokenizer().eos()]].concat();
    assert_eq!(prompt.replayed, 1);
    assert!(prompt.tokens.windows(expected.len()).any(|window| window == expected));
    assert!(!prompt.text.contains("hm"));
}

#[test]
fn an_answer_that_was_cut_is_whole_as_far_as_it_goes() {
    // In the reasoning: there is no text.
    let before = [tools(), user("q")];
    assert_replayed(next(&before, THINKING, &bytewise("hm, s"), |_| {}));
    assert_replayed(next(&before, THINKING, &bytewise("hm, s"), |echo| echo.reasoning.clear()));
    // At its end: an empty text.
    assert_replayed(next(&before, THINKING, &thought("hm", ""), |_| {}));
    // Before anything.
    assert_replayed(next(&before, THINKING, &[], |_| {}));
    assert_replayed(next(&[user("q")], CHAT, &[], |_| {}));
    // Inside a character, of which the client sees U+FFFD.
    let ids = &bytewise("so é")[..4];
    assert_replayed(next(&[user("q")], CHAT, ids, |echo| assert_eq!(echo.content, "so \u{FFFD}")));
    let ids = [&bytewise("so é")[..4], &bytewise(" ok")].concat();
    assert_replayed(next(&[user("q")], CHAT, &ids, |echo| assert_eq!(echo.content, "so \u{FFFD} ok")));
}

#[test]
fn a_stop_string_leaves_the_tokens_before_it() {
    let turns = Turns::new(9);
    let first = prompt(&[tools(), user("q")], THINKING, &turns);
    // The stop string ends inside the token " seven", or " seven" is not one; either way the text is as it was told.
    let seven = tokenizer().encode_inert(" seven");
    let ids = [thought("hm", "one"), bytewise(" two"), seven, bytewise(" eight")].concat();
    for (stop, text) in
        [(" two", "one"), ("o s", "one tw"), ("even", "one two s"), ("hm", ""), ("nothing", "one two seven eight")]
    {
        let turn = stopped(&first, &ids, &[stop]);
        assert_eq!(turn.given.content, text);
        assert_eq!(tokenizer().decode(&turn.tokens.body), text);
        assert_eq!(tokenizer().decode(&turn.tokens.reasoning), turn.given.reasoning);
        let whole = text.len().min("one two".len());
        assert_eq!(turn.tokens.body[..whole], bytewise(text)[..whole], "all whole tokens before the cut stay");
        turns.remember(first.place, &turn);
        let second = prompt(&[tools(), user("q"), turn.given, user("and?")], THINKING, &turns);
        assert_eq!(second.replayed, 1);
        assert_eq!(second.text, tokenizer().decode(&second.tokens));
    }
}

#[test]
fn control_tokens_that_the_model_wrote_stay_what_they_were() {
    let (think, end) = (id("<think>"), id("</think>"));
    let before = [tools(), user("q")];
    let twice =
        [vec![think], bytewise("hm"), vec![end], bytewise("a"), vec![end, id("<｜User｜>")], bytewise("b")].concat();
    assert_replayed(next(&before, THINKING, &twice, |echo| {
        assert_eq!((echo.reasoning.as_str(), echo.content.as_str()), ("hm", "a</think><｜User｜>b"));
    }));
    // The prompt said not to think, and the template forgets that the model did.
    let (prompt, _) = next(&[user("q")], CHAT, &twice, |_| {});
    let expected =
        [&[end][..], &bytewise("a"), &[end, id("<｜User｜>")], &bytewise("b"), &[tokenizer().eos()]].concat();
    assert!(prompt.tokens.windows(expected.len()).any(|window| window == expected));
    // Tags spelled by ordinary tokens are tags for the reader; what the template writes are control tokens.
    let spelled = [bytewise("hm</think>"), bytewise("yes")].concat();
    let (prompt, sampled) = next(&before, THINKING, &spelled, |_| {});
    let same = sampled.len() - bytewise("</think>yes").len();
    assert_eq!(prompt.tokens[..same], sampled[..same]);
    assert_eq!(
        prompt.text,
        render(&talk(&[tools(), user("q"), Message::assistant("hm", "yes"), user("and?")]), &THINKING).text
    );
}

#[test]
fn calls_in_reasoning_that_never_ends_follow_its_end_when_they_come_back() {
    let turns = Turns::new(9);
    let before = [tools(), user("q")];
    let first = prompt(&before, THINKING, &turns);
    let block = |id: u32| {
        let text = "\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"f\">\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>";
        text.split("｜DSML｜").map(bytewise).collect::<Vec<_>>().join(&id)
    };
    let block = block(id("｜DSML｜"));
    let turn = answer(&first, &[bytewise("hm"), block.clone()].concat(), &turns);
    assert_eq!((turn.given.reasoning.as_str(), turn.given.tool_calls.len()), ("hm", 1));
    let second = prompt(&[&before[..], &[turn.given, Message::tool_result("", "ok")]].concat(), THINKING, &turns);
    let sampled = [&first.tokens[..], &bytewise("hm"), &[id("</think>")], &block, &[tokenizer().eos()]].concat();
    assert_eq!(second.replayed, 1);
    assert_eq!(second.tokens[..sampled.len()], sampled);
}

/// What the client is given of a turn with two calls.
fn calling(text: &str) -> Message {
    let call = |id: &str, name: &str, arguments: &str| ToolCall {
        id: id.into(),
        name: name.into(),
        arguments: arguments.into(),
    };
    let calls = vec![call("c1", "write", r#"{"content": "x", "path": "a", "n": 1.0}"#), call("c2", "list", "{}")];
    Message { tool_calls: calls, id: "msg_1".into(), ..Message::assistant("hm", text) }
}

/// A conversation after a turn with calls, and the prompt and ids up to their results.
fn called(turns: &Turns) -> ([Message; 2], Vec<u32>) {
    let before = [tools(), user("q")];
    let first = prompt(&before, THINKING, turns);
    let block = render(&talk(&[user("q"), calling("\n\nso ")]), &CHAT);
    let block = block.text[block.assistant[0].body.clone()].to_owned();
    let pieces: Vec<_> = block.split("｜DSML｜").map(bytewise).collect();
    let ids = [bytewise("hm"), vec![id("</think>")], pieces.join(&id("｜DSML｜"))].concat();
    let mut turn = stopped(&first, &ids, &[]);
    let expected = calling("\n\nso ");
    turn.given.id = expected.id.clone();
    for (call, expected) in turn.given.tool_calls.iter_mut().zip(&expected.tool_calls) {
        assert_eq!(call.name, expected.name);
        call.id = expected.id.clone();
    }
    assert_eq!(turn.given.tool_calls.len(), 2);
    turns.remember(first.place, &turn);
    (before, [&first.tokens[..], &ids].concat())
}

#[test]
fn calls_come_back_as_they_were_sampled_however_their_arguments_are_written() {
    // H107
    let turns = Turns::new(9);
    let (before, sampled) = called(&turns);
    let echo = |change: fn(&mut Message)| {
        let mut message = calling("so");
        change(&mut message);
        let results = [Message::tool_result("c1", "ok"), Message::tool_result("c2", "a b")];
        prompt(&[&before[..], &[message], &results].concat(), THINKING, &turns)
    };
    for change in [
        |_: &mut Message| {},
        |m: &mut Message| m.tool_calls[0].arguments = r#"{"path":"a","content":"x","n":1}"#.into(),
        |m: &mut Message| m.tool_calls[1].arguments.clear(),
        |m: &mut Message| m.reasoning.clear(),
        |m: &mut Message| m.id.clear(),
        |m: &mut Message| m.tool_calls[0].id = "another".into(),
    ] {
        assert_replayed((echo(change), sampled.clone()));
    }
    for change in [
        |m: &mut Message| m.tool_calls[0].arguments = r#"{"path":"b","content":"x","n":1}"#.into(),
        |m: &mut Message| m.tool_calls[0].name = "read".into(),
        |m: &mut Message| drop(m.tool_calls.pop()),
        |m: &mut Message| m.tool_calls.reverse(),
        |m: &mut Message| m.content = "no".into(),
    ] {
        assert_eq!(echo(change).replayed, 0);
    }
}

#[test]
fn ids_find_a_turn_where_what_was_before_has_changed() {
    let turns = Turns::new(9);
    called(&turns);
    let shown = |message: Message| {
        let results = [Message::tool_result("c1", "ok"), Message::tool_result("c2", "a b")];
        prompt(&[&[tools(), user("in short: q"), message][..], &results].concat(), THINKING, &turns).replayed
    };
    assert_eq!(shown(calling("so")), 1, "the ids of the calls");
    let other = |change: fn(&mut ToolCall)| {
        let mut message = calling("so");
        message.tool_calls.iter_mut().for_each(change);
        message
    };
    assert_eq!(shown(other(|call| call.id.push('x'))), 1, "the message's id");
    assert_eq!(shown(Message { id: String::new(), ..other(|call| call.id.push('x')) }), 0);
    assert_eq!(shown(other(|call| call.name.push('x'))), 0, "an id alone is not enough");
}

#[test]
fn what_joins_other_text_is_tokenised_with_it() {
    let turns = Turns::new(9);
    let (system, said) = (Message::new(ds4_chat::Role::System, "S"), Message::assistant("", "yes"));
    let first = prompt(std::slice::from_ref(&system), CHAT, &turns);
    answer(&first, &bytewise("yes"), &turns);
    let messages = [system, said, user("q")];
    let second = prompt(&messages, CHAT, &turns);
    assert_eq!(second.replayed, 0);
    let rendered = render(&talk(&messages), &CHAT);
    assert_eq!(second.tokens, tokenizer().encode_marked(&rendered.text, &rendered.specials).unwrap());
}
