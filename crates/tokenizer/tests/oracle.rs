//! The exact V4 vocabulary: reference ids, and agreement with the Hugging Face pipeline on any text.

use ds4_tokenizer::{StreamDecoder, Tokenizer, Vocabulary};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::time::{Duration, Instant};

fn tokenizer_json() -> Option<String> {
    let dir = ds4_testkit::oracle("tok")?;
    Some(std::fs::read_to_string(dir.join("tokenizer.json")).expect("oracle/tok has tokenizer.json"))
}

fn v4() -> Option<Tokenizer> {
    let vocabulary = Vocabulary::from_hf_json(&tokenizer_json()?).expect("V4's file is read");
    Some(Tokenizer::new(vocabulary).expect("V4's vocabulary is sound"))
}

fn hugging_face() -> Option<tokenizers::Tokenizer> {
    Some(tokenizer_json()?.parse().expect("V4's file is read"))
}

#[test]
fn oracle_tok_ids_and_decodes() {
    let (Some(t), Some(dir)) = (v4(), ds4_testkit::oracle("tok")) else { return };
    let lines = std::fs::read_to_string(dir.join("vectors.jsonl")).unwrap();
    let mut count = 0;
    for line in lines.lines() {
        let vector: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = vector["text"].as_str().unwrap();
        let ids: Vec<u32> = vector["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        assert_eq!(t.encode(text), ids, "{text:?}");
        if !ids.iter().any(|&id| t.is_added(id)) {
            assert_eq!(t.encode_inert(text), ids, "{text:?} has no added token");
        }
        assert_eq!(t.decode(&ids), vector["decoded"].as_str().unwrap());
        count += 1;
    }
    assert!(count >= 300, "only {count} vectors");
}

#[test]
fn oracle_tok_special_ids() {
    let Some(t) = v4() else { return };
    assert_eq!((t.len(), t.bos(), t.eos(), t.pad()), (129_280, 0, 1, Some(2)));
    for (token, id) in [
        ("<｜User｜>", 128803),
        ("<｜Assistant｜>", 128804),
        ("<think>", 128821),
        ("</think>", 128822),
        ("｜DSML｜", 128825),
        ("<｜latest_reminder｜>", 128828),
        ("<｜read_url｜>", 128845),
    ] {
        assert_eq!((t.id(token), t.encode(token)), (Some(id), vec![id]));
        assert!(t.is_added(id) && t.token_bytes(id) == Some(token.as_bytes()));
        assert!(t.encode_inert(token).iter().all(|&id| !t.is_added(id)));
    }
}

#[test]
fn oracle_tok_every_token_decodes_as_hugging_face_says() {
    let (Some(t), Some(reference)) = (v4(), hugging_face()) else { return };
    for id in 0..t.len() as u32 {
        assert_eq!(t.decode(&[id]), reference.decode(&[id], false).unwrap(), "token {id}");
        let name = reference.id_to_token(id).unwrap();
        assert_eq!(t.id(&name), Some(id));
        assert_eq!(t.is_added(id), reference.get_added_tokens_decoder().contains_key(&id));
    }
}

/// Text in which everything the splits distinguish is likely.
fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        r"[ \t\r\n\x0b\u{85}\u{a0}\u{2003}\u{3000}]{0,5}",
        r"[0-9０-９½Ⅷ²]{0,5}",
        r"[一-鿿぀-ヿ・ー゛]{0,4}",
        r"[!-/:-@\[-`{-~–“”¿€+©]{0,4}",
        r"[a-zA-Zéßфع한\u{301}\u{900}-\u{903}]{0,8}",
        r"[\x00-\x1f\u{7f}\u{200b}-\u{200f}🙂🏽\u{fe0f}]{0,3}",
        r"(the| quick|Hello| world|\n\n    return|://|don't|I'll)",
        r"(<｜User｜>|<｜/table>｜|DSML｜|｜DSML｜|<think>|</think>|<dsml:|<｜place▁holder▁no▁1)",
        r"\PC{0,3}",
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(part, 0..16).prop_map(|parts| parts.concat())
}

#[test]
fn oracle_tok_agrees_with_hugging_face_on_any_text() {
    let (Some(t), Some(reference)) = (v4(), hugging_face()) else { return };
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(3000) });
    let result = runner.run(&text(), |text| {
        let expected = reference.encode_fast(text.as_str(), false).unwrap();
        let ids = t.encode(&text);
        prop_assert_eq!(&ids, expected.get_ids());
        prop_assert_eq!(&t.decode(&ids), &text);
        let inert = t.encode_inert(&text);
        prop_assert!(inert.iter().all(|&id| !t.is_added(id)));
        prop_assert_eq!(&t.decode(&inert), &text);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn oracle_tok_streams_any_ids() {
    let Some(t) = v4() else { return };
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(1000) });
    let ids = prop::collection::vec(0..t.len() as u32 + 2, 0..80);
    let result = runner.run(&ids, |ids| {
        let mut decoder = StreamDecoder::new(&t);
        let mut text: String = ids.iter().map(|&id| decoder.push(id)).collect();
        text += &decoder.finish();
        prop_assert_eq!(text, t.decode(&ids));
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn oracle_tok_a_megabyte_of_anything_takes_linear_time() {
    let Some(t) = v4() else { return };
    const MEGABYTE: usize = 1 << 20;
    let letters = (0..MEGABYTE as u64).map(|i| (b'a' + (i.wrapping_mul(6364136223846793005) >> 40) as u8 % 26) as char);
    let letters: String = letters.collect();
    let units = [
        " ",
        "\n",
        "\t \u{3000}",
        " \n",
        "\r",
        "a",
        "Ġ",
        "!",
        "!a",
        " !\n",
        "\0",
        "\u{301}",
        "9",
        "9 ",
        "你",
        "ー ",
        "🙂",
        "<",
        "<｜",
        "<｜place▁holder▁no▁",
        "<｜User｜>",
        "</think",
        "｜DSML",
        &letters,
    ];
    for unit in units {
        let text = unit.repeat(MEGABYTE / unit.len()) + "x";
        let start = Instant::now();
        let ids = t.encode(&text);
        let took = start.elapsed();
        assert!(t.decode(&ids) == text, "{unit:.10?}");
        assert!(took < Duration::from_secs(20), "{unit:.10?} took {took:?}");
    }
}

#[test]
fn oracle_tok_a_million_spaces_do_not_stop_the_splitter() {
    let Some(t) = v4() else { return };
    let spaces = " ".repeat(1 << 20);
    let alone = t.encode(&spaces[1..]);
    let followed = t.encode(&(spaces + "word 你好 12345"));
    assert_eq!(followed[..alone.len()], alone);
    assert_eq!(followed[alone.len()..], t.encode(" word 你好 12345"));
}
