//! Reads a Hugging Face `tokenizer.json` into the lists a GGUF would hold.

use crate::split::PATTERNS;
use crate::vocabulary::LIMIT;
use crate::{Error, TokenType, Vocabulary};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;

#[derive(Deserialize)]
struct File {
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
    added_tokens: Vec<AddedToken>,
    model: Model,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    special: bool,
}

#[derive(Deserialize)]
struct Model {
    vocab: HashMap<String, u32>,
    merges: Vec<Merge>,
    r#type: Value,
    #[serde(default)]
    dropout: Value,
    #[serde(default)]
    unk_token: Value,
    #[serde(default)]
    continuing_subword_prefix: Value,
    #[serde(default)]
    end_of_word_suffix: Value,
    #[serde(default)]
    byte_fallback: Value,
    #[serde(default)]
    ignore_merges: Value,
}

/// Older files write `"a b"`, newer ones `["a", "b"]`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Joined(String),
    Pair(String, String),
}

impl Vocabulary {
    /// The vocabulary of a `tokenizer.json`: special added tokens become Control, other added ones UserDefined, and ids
    /// without a token `[PAD{id}]` of type Unused, which is also what converters write into a GGUF.
    ///
    /// # Errors
    /// If the text is no such file, or describes a tokenizer other than V4's; the error names the difference.
    pub fn from_hf_json(text: &str) -> Result<Self, Error> {
        let file: File = serde_json::from_str(text)?;
        check(&file)?;
        let File { added_tokens, model, .. } = file;
        let ids = model.vocab.values().copied().chain(added_tokens.iter().map(|added| added.id));
        let len = ids.max().map_or(0, |last| last as usize + 1);
        if len > LIMIT {
            return Err(Error::TooLarge { tokens: len, limit: LIMIT });
        }
        let mut entries: Vec<Option<(String, TokenType)>> = vec![None; len];
        for (token, id) in model.vocab {
            put(&mut entries, id, token, TokenType::Normal)?;
        }
        for AddedToken { id, content, special, .. } in added_tokens {
            let kind = if special { TokenType::Control } else { TokenType::UserDefined };
            // A file lists its first special tokens in both places.
            entries[id as usize].take_if(|(token, kind)| *token == content && *kind == TokenType::Normal);
            put(&mut entries, id, content, kind)?;
        }
        let hole = |id| (format!("[PAD{id}]"), TokenType::Unused);
        let (tokens, types): (Vec<_>, Vec<_>) =
            entries.into_iter().enumerate().map(|(id, entry)| entry.unwrap_or_else(|| hole(id))).unzip();
        let find = |token: &str| tokens.iter().position(|t| t == token).map(|id| id as u32);
        let need = |what: &str, token| {
            find(token).ok_or_else(|| unsupported(what, &Value::Null, &format!("a vocabulary with `{token}`")))
        };
        let merges = model.merges.into_iter().map(|merge| match merge {
            Merge::Joined(merge) => merge,
            Merge::Pair(a, b) => format!("{a} {b}"),
        });
        Ok(Self {
            bos: need("added_tokens: beginning of sentence", "<｜begin▁of▁sentence｜>")?,
            eos: need("added_tokens: end of sentence", "<｜end▁of▁sentence｜>")?,
            pad: find("<｜▁pad▁｜>"),
            merges: merges.collect(),
            tokens,
            types,
        })
    }
}

fn put(entries: &mut [Option<(String, TokenType)>], id: u32, token: String, kind: TokenType) -> Result<(), Error> {
    match entries[id as usize].replace((token, kind)) {
        None => Ok(()),
        Some((first, _)) => {
            let found = json!([first, entries[id as usize].as_ref().map(|(token, _)| token)]);
            Err(unsupported(&format!("token {id}"), &found, "one text per id"))
        }
    }
}

/// Every setting that would change ids or text has the value this crate implements.
fn check(file: &File) -> Result<(), Error> {
    let nothing = [Value::Null, json!({"type": "Sequence", "normalizers": []})];
    expect("normalizer", &file.normalizer, &nothing)?;
    expect("decoder.type", &file.decoder["type"], &[json!("ByteLevel")])?;
    let model = &file.model;
    let (empty, off) = ([Value::Null, json!("")], [Value::Null, json!(false)]);
    expect("model.type", &model.r#type, &[json!("BPE")])?;
    expect("model.dropout", &model.dropout, &[Value::Null])?;
    expect("model.unk_token", &model.unk_token, &[Value::Null])?;
    expect("model.continuing_subword_prefix", &model.continuing_subword_prefix, &empty)?;
    expect("model.end_of_word_suffix", &model.end_of_word_suffix, &empty)?;
    expect("model.byte_fallback", &model.byte_fallback, &off)?;
    expect("model.ignore_merges", &model.ignore_merges, &off)?;
    for added in &file.added_tokens {
        let found = json!([added.single_word, added.lstrip, added.rstrip]);
        let what = format!("added token `{}`: single_word, lstrip, rstrip", added.content);
        expect(&what, &found, &[json!([false, false, false])])?;
    }
    check_pre_tokenizer(&file.pre_tokenizer)
}

/// The pre-tokenizer is V4's: three isolated splits, then byte level.
fn check_pre_tokenizer(found: &Value) -> Result<(), Error> {
    expect("pre_tokenizer.type", &found["type"], &[json!("Sequence")])?;
    let steps = found["pretokenizers"].as_array().map_or(&[][..], Vec::as_slice);
    expect("pre_tokenizer: number of steps", &json!(steps.len()), &[json!(PATTERNS.len() + 1)])?;
    for (i, pattern) in PATTERNS.into_iter().enumerate() {
        let what = |name: &str| format!("pre_tokenizer step {i} {name}");
        expect(&what("type"), &steps[i]["type"], &[json!("Split")])?;
        expect(&what("behavior"), &steps[i]["behavior"], &[json!("Isolated")])?;
        expect(&what("invert"), &steps[i]["invert"], &[json!(false)])?;
        // Some files escape line breaks and quotes in the pattern, others hold them as they are.
        let regex = steps[i]["pattern"]["Regex"].as_str().unwrap_or_default();
        let regex = regex.replace('\r', r"\r").replace('\n', r"\n").replace(r#"\""#, "\"");
        expect(&what("pattern"), &json!(regex), &[json!(pattern)])?;
    }
    let last = &steps[PATTERNS.len()];
    expect("pre_tokenizer last step type", &last["type"], &[json!("ByteLevel")])?;
    for name in ["add_prefix_space", "use_regex"] {
        expect(&format!("pre_tokenizer last step {name}"), &last[name], &[json!(false)])?;
    }
    Ok(())
}

fn expect(what: &str, found: &Value, allowed: &[Value]) -> Result<(), Error> {
    match allowed.contains(found) {
        true => Ok(()),
        false => Err(unsupported(what, found, &allowed[0].to_string())),
    }
}

fn unsupported(what: &str, found: &Value, expected: &str) -> Error {
    Error::Unsupported { what: what.into(), found: found.to_string(), expected: expected.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Tokenizer, sample};

    /// The sample vocabulary as a `tokenizer.json`; like the real file, it lists the first added token twice.
    fn file() -> Value {
        let vocabulary = sample::vocabulary();
        let (mut vocab, mut added) = (serde_json::Map::new(), vec![]);
        for (id, (token, kind)) in vocabulary.tokens.iter().zip(&vocabulary.types).enumerate() {
            if kind.is_added() {
                let special = *kind == TokenType::Control;
                added.push(json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": !special, "special": special}));
            }
            if *kind == TokenType::Normal || id as u32 == vocabulary.bos {
                vocab.insert(token.clone(), json!(id));
            }
        }
        // An id without a token, as the sample vocabulary has at its end.
        added.push(added[0].clone());
        let last = added.last_mut().unwrap();
        (last["id"], last["content"]) = (json!(278), json!("<｜last｜>"));
        let split =
            |regex| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        let mut steps: Vec<_> = PATTERNS.into_iter().map(split).collect();
        steps.push(json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}));
        json!({
            "normalizer": {"type": "Sequence", "normalizers": []},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
            "decoder": {"type": "ByteLevel", "add_prefix_space": true},
            "added_tokens": added,
            "model": {"type": "BPE", "byte_fallback": false, "vocab": vocab, "merges": vocabulary.merges},
        })
    }

    #[test]
    fn a_file_gives_the_lists_of_a_gguf() {
        let mut expected = sample::vocabulary();
        expected.tokens.push("<｜last｜>".into());
        expected.types.push(TokenType::Control);
        assert_eq!(Vocabulary::from_hf_json(&file().to_string()).unwrap(), expected);
        Tokenizer::new(expected).unwrap();
    }

    #[test]
    fn merges_may_be_pairs_and_patterns_may_be_escaped() {
        let mut file = file();
        let expected = Vocabulary::from_hf_json(&file.to_string()).unwrap();
        for merge in file["model"]["merges"].as_array_mut().unwrap() {
            let (a, b) = merge.as_str().unwrap().split_once(' ').unwrap();
            *merge = json!([a, b]);
        }
        let pattern = &mut file["pre_tokenizer"]["pretokenizers"][2]["pattern"]["Regex"];
        *pattern = json!(pattern.as_str().unwrap().replace(r"\r\n", "\r\n").replace("[!\"", r#"[!\""#));
        assert_eq!(Vocabulary::from_hf_json(&file.to_string()).unwrap(), expected);
    }

    #[test]
    fn other_tokenizers_are_refused_by_what_differs() {
        let refusal = |path: &str, value: Value| {
            let mut file = file();
            *file.pointer_mut(path).unwrap() = value;
            Vocabulary::from_hf_json(&file.to_string()).unwrap_err().to_string()
        };
        for (path, value, parts) in [
            ("/normalizer", json!({"type": "NFC"}), ["normalizer is", "NFC"]),
            ("/model/type", json!("Unigram"), ["model.type is \"Unigram\"", "\"BPE\""]),
            ("/model/byte_fallback", json!(true), ["model.byte_fallback is true", "only"]),
            ("/decoder/type", json!("WordPiece"), ["decoder.type", "ByteLevel"]),
            ("/added_tokens/3/lstrip", json!(true), ["`<｜User｜>`", "[false,true,false]"]),
            ("/added_tokens/3/id", json!(7), ["token 7", "one text per id"]),
            ("/added_tokens/3/id", json!(u32::MAX), ["4294967296 tokens", "1048576"]),
            ("/added_tokens/1/content", json!("<eos>"), ["end of sentence", "<｜end▁of▁sentence｜>"]),
            ("/pre_tokenizer/type", json!("Whitespace"), ["pre_tokenizer.type", "\"Sequence\""]),
            ("/pre_tokenizer/pretokenizers/0/pattern/Regex", json!(r"\p{N}"), [r#""\\p{N}""#, r#""\\p{N}{1,3}""#]),
            ("/pre_tokenizer/pretokenizers/1/behavior", json!("Removed"), ["step 1 behavior", "\"Isolated\""]),
            ("/pre_tokenizer/pretokenizers/3/use_regex", json!(true), ["use_regex is true", "false"]),
        ] {
            let said = refusal(path, value);
            assert!(parts.iter().all(|part| said.contains(part)), "expected {parts:?} in: {said}");
        }
        assert!(Vocabulary::from_hf_json("{}").unwrap_err().to_string().contains("missing field"));
    }
}
