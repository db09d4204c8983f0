//! Random tools, and a model that is far too hot to write a valid call by itself: whatever it is let write fits.
//! `DS4_SCHEMAS` says how many tools a soak wants.

mod common;

use std::sync::Arc;

use common::{MODEL, VOCABULARY, calls};
use ds4_chat::{Conversation, Message, RawValue, Role, Tools};
use ds4_dialog::Prompt;
use ds4_engine::{Engine, Event, Finish, Options, Request, Sampling};
use ds4_guide::{AnswerGuide, Choice, Demands, Rules};
use serde_json::{Map, Value, json};

/// Random numbers that are the same everywhere (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len() as u64) as usize]
    }

    /// A schema of the documented subset.
    fn schema(&mut self, levels: u64) -> Value {
        match self.below(if levels == 0 { 9 } else { 13 }) {
            0 => json!({"type": "string"}),
            1 => {
                let values = &["red", "green", "a b", "x\"y"][..1 + self.below(4) as usize];
                json!({"type": "string", "enum": values})
            }
            2 => json!({"type": "string", "minLength": self.below(5), "maxLength": 5 + self.below(40)}),
            3 => {
                json!({"type": "string", "pattern": self.pick(&["^[a-z]{2,6}$", "^v[0-9]+$", "^(on|off)$", "b", "^ab"])})
            }
            4 => {
                let low = self.below(90) as i64 - 50;
                json!({"type": "integer", "minimum": low, "maximum": low + self.below(1000) as i64})
            }
            5 => json!({"type": "number", "minimum": 0, "maximum": 1}),
            6 => json!({"type": "boolean"}),
            7 => json!({"enum": ["one", 2, null, true]}),
            8 => json!({"type": [self.pick(&["string", "integer"]), "null"]}),
            9 => json!({"type": "array", "items": self.schema(levels - 1), "minItems": self.below(2), "maxItems": 3}),
            10 => self.object(levels - 1, 3),
            11 => json!({"anyOf": [self.schema(levels - 1), {"type": "integer"}]}),
            _ => json!({"$ref": "#/$defs/shared"}),
        }
    }

    fn object(&mut self, levels: u64, most: u64) -> Value {
        let names = ["path", "count", "mode", "file_path", "x"];
        let properties = (0..self.below(most + 1)).map(|i| (names[i as usize].to_owned(), self.schema(levels)));
        let properties: Map<String, Value> = properties.collect();
        let required: Vec<&String> = properties.keys().filter(|_| self.below(2) == 0).collect();
        json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
    }

    /// The parameters of a tool.
    fn parameters(&mut self) -> Value {
        let mut parameters = self.object(2, 5);
        parameters["$defs"] = json!({"shared": {"type": "string", "enum": ["shared", "also"]}});
        parameters
    }
}

/// What the hot model does with random tools.
#[derive(Default)]
struct Tally {
    complete: usize,
    cut: usize,
    calls: usize,
}

fn try_one(engine: &Engine, seed: u64, tally: &mut Tally) {
    let mut dice = Dice(seed);
    let tools: Vec<(String, Value)> = (0..1 + dice.below(3))
        .map(|i| (format!("{}_{i}", dice.pick(&["read", "Write", "set"])), dice.parameters()))
        .collect();
    let offered = tools.iter().map(|(name, parameters)| {
        RawValue::from_string(json!({"name": name, "parameters": parameters}).to_string()).unwrap()
    });
    let system = Message { tools: offered.collect(), ..Message::new(Role::System, "") };
    let talk = Conversation { messages: vec![system, Message::new(Role::User, "Call a tool.")] };
    let options = ds4_chat::Options { mode: ds4_chat::Mode::Chat, ..Default::default() };
    let prompt = Prompt::new(&talk, &options, &MODEL.tokenizer, None).unwrap();
    let demands = Demands { choice: Choice::Required, parallel: seed.is_multiple_of(2), ..Demands::default() };
    let rules = Rules::new(&talk, demands, &VOCABULARY).unwrap().unwrap();
    let guide = AnswerGuide::new(Arc::clone(&VOCABULARY), Arc::new(rules), Tools::of(&talk), false);
    let request = Request {
        sampling: Sampling { temperature: 1.5, seed: seed + 1, ..Sampling::GREEDY },
        guide: Some(Box::new(guide)),
        ..Request::greedy(prompt.tokens, 400, MODEL.tokenizer.eos())
    };
    let (mut tokens, mut reader) = (Vec::new(), ds4_chat::Reader::new(false, Tools::of(&talk)));
    let mut whole = false;
    for event in engine.submit(request).unwrap() {
        match event {
            Event::Token(token) => {
                tokens.push(token.id);
                reader.push(&MODEL.tokenizer.decode(&[token.id]));
                whole = reader.is_done();
                if whole {
                    break;
                }
            }
            Event::Finished(finish, _) => assert_ne!(finish, Finish::Stop, "it may not stop before it has called"),
            Event::Failed(why) => panic!("{why}"),
            _ => {}
        }
    }
    let text = MODEL.tokenizer.decode(&tokens);
    tally.complete += usize::from(whole);
    tally.cut += usize::from(!whole);
    let made = calls(&talk, &text);
    assert!(!whole || !made.is_empty(), "no call in {text}");
    for call in made {
        let (_, schema) = tools.iter().find(|(name, _)| *name == call.name).expect("a tool on offer");
        let arguments: Value = serde_json::from_str(&call.arguments).expect("JSON");
        if let Err(error) = jsonschema::validate(schema, &arguments) {
            panic!("seed {seed}: {error}\n{}\ndoes not fit\n{schema}\nwritten as\n{text}", call.arguments);
        }
        tally.calls += 1;
    }
}

#[test]
fn every_call_that_is_not_cut_fits_its_schema() {
    let wanted = std::env::var("DS4_SCHEMAS").ok().and_then(|n| n.parse().ok()).unwrap_or(12u64);
    let options = Options { context: 8192, sessions: 2, threads: 2, ..Options::default() };
    let engine = Engine::start(Arc::clone(&MODEL), options).unwrap();
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|worker| {
                let engine = &engine;
                scope.spawn(move || {
                    let mut tally = Tally::default();
                    (0..wanted).filter(|i| i % 2 == worker).for_each(|i| try_one(engine, i, &mut tally));
                    tally
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("a valid call")).collect()
    });
    let sum = |part: fn(&Tally) -> usize| tallies.iter().map(part).sum::<usize>();
    println!(
        "{wanted} tools: {} blocks complete, {} cut, {} calls valid",
        sum(|t| t.complete),
        sum(|t| t.cut),
        sum(|t| t.calls)
    );
    assert!(sum(|t| t.complete) * 2 > wanted as usize, "most calls end");
}
