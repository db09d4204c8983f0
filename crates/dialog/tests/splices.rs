//! Replayed turns change the tokens and nothing else.

mod common;

use common::{CHAT, THINKING, answer, id, prompt, talk, tokenizer, tools, user};
use ds4_chat::{Message, Role, render};
use ds4_dialog::{Prompt, Turns};
use proptest::prelude::*;

/// A text, and where it is cut into pieces that are tokenised one by one, so that it is not spelled as usual.
type Spelled = (String, Vec<prop::sample::Index>);

fn spelled() -> impl Strategy<Value = Spelled> {
    let part = prop_oneof![Just("hello world ".to_owned()), Just("<｜User｜>".into()), "[ a-z\n]{0,8}", "\\PC{0,3}"];
    let text = prop::collection::vec(part, 0..4).prop_map(|parts| parts.concat());
    (text, prop::collection::vec(any::<prop::sample::Index>(), 0..6))
}

fn ids((text, cuts): &Spelled) -> Vec<u32> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| text.floor_char_boundary(cut.index(text.len() + 1))).collect();
    cuts.extend([0, text.len()]);
    cuts.sort_unstable();
    cuts.windows(2).flat_map(|cut| tokenizer().encode_inert(&text[cut[0]..cut[1]])).collect()
}

/// Who speaks: 0 the user, 1 the assistant after the user, 2 a reminder before the user's.
fn turns() -> impl Strategy<Value = Vec<(u8, Spelled, Spelled)>> {
    prop::collection::vec((0..3u8, spelled(), spelled()), 0..7)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn echoed_turns_have_the_same_text_and_the_sampled_tokens(
        said in turns(), with_tools: bool, thinks: bool,
    ) {
        let options = if thinks { THINKING } else { CHAT };
        let (store, empty) = (Turns::new(99), Turns::new(99));
        let mut messages = if with_tools { vec![tools()] } else { Vec::new() };
        let (mut answers, mut sampled) = (0, Vec::new());
        for (who, reasoning, text) in &said {
            if *who == 2 {
                messages.push(Message::new(Role::LatestReminder, &text.0));
            }
            messages.push(user(&text.0));
            if *who == 1 {
                let asked = prompt(&messages, options, &store);
                if with_tools || !thinks {
                    prop_assert!(asked.tokens.starts_with(&sampled), "nothing of the old conversation has changed");
                }
                let thought = if asked.thinking { [ids(reasoning), vec![id("</think>")]].concat() } else { Vec::new() };
                let drawn = [thought, ids(text)].concat();
                sampled = [&asked.tokens[..], &drawn].concat();
                messages.push(answer(&asked, &drawn, &store).given);
                answers += 1;
            }
        }
        let rendered = render(&talk(&messages), &options);
        let told = prompt(&messages, options, &store);
        prop_assert_eq!(told.replayed, answers);
        prop_assert_eq!(&told.text, &rendered.text);
        prop_assert_eq!(&tokenizer().decode(&told.tokens), &rendered.text);

        let canonical = tokenizer().encode_marked(&rendered.text, &rendered.specials).unwrap();
        for turns in [None, Some(&empty)] {
            let prompt = Prompt::new(&talk(&messages), &options, tokenizer(), turns).unwrap();
            prop_assert_eq!((prompt.replayed, &prompt.tokens, &prompt.text), (0, &canonical, &rendered.text));
        }
    }
}
