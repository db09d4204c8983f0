//! Directional steering in `ds4` and on the server, with a hand-made direction for the built-in model.

mod common;

use common::Home;
use common::server::Server;
use ds4_engine::Model;
use serde_json::{Value, json};

/// A file with one direction for each layer, the same for all.
fn directions(home: &Home) -> String {
    let model = Model::open(&ds4_testkit::root().join("mini/v4-mini.gguf")).unwrap();
    let shape = &model.weights.shape;
    let unit = 1.0 / (shape.hidden as f32).sqrt();
    let values = (0..shape.layers() * shape.hidden).map(|i| if i % 2 == 0 { unit } else { -unit });
    let path = home.file("direction.f32");
    std::fs::write(&path, values.flat_map(f32::to_le_bytes).collect::<Vec<_>>()).unwrap();
    path.display().to_string()
}

#[test]
fn flags_are_checked_and_scale_zero_changes_nothing() {
    // H048, H209
    let home = Home::new();
    let file = directions(&home);
    let say = |more: &[&str]| {
        home.ds4(&[&["--nothink", "--temp", "0", "-n", "12", "-p", "Tell me about Ada."], more].concat())
    };
    home.ds4(&["--dir-steering-ffn", "0.5", "-p", "x"]).fails(1, "ds4: directional steering needs --dir-steering-file");
    home.ds4(&["--dir-steering-ffn=-101", "-p", "x"])
        .fails(2, "ds4: invalid value for --dir-steering-ffn: -101 (a number from -100 to 100)");
    let short = home.file("short.f32");
    std::fs::write(&short, [0; 8]).unwrap();
    let said = say(&["--dir-steering-file", &short.display().to_string()]);
    assert!(said.code == 1 && said.err.contains("short.f32: 8 bytes; directions for this model are "), "{}", said.err);

    let plain = say(&[]);
    assert_eq!(plain.code, 0, "{}", plain.err);
    assert_eq!(say(&["--dir-steering-file", &file, "--dir-steering-ffn", "0"]).out, plain.out);
    assert_ne!(say(&["--dir-steering-file", &file, "--dir-steering-ffn", "-40"]).out, plain.out);
    assert_eq!(
        say(&["--dir-steering-file", &file]).out,
        say(&["--dir-steering-file", &file, "--dir-steering-ffn", "1"]).out
    );
}

fn chat(server: &Server, think: bool, steering: Value) -> (String, String, String) {
    let parameters = json!({
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
    });
    let tool = json!({"name": "get_weather", "description": "Get the weather", "parameters": parameters});
    let tools = if think { json!([{"type": "function", "function": tool}]) } else { json!([]) };
    let text = if think { "Use get_weather with city Paris and days 3." } else { "Tell me about Ada." };
    let answer = server.chat(json!({
        "messages": [{"role": "user", "content": text}], "tools": tools, "think": think, "seed": 1, "temperature": 0,
        "max_tokens": 120, "steering": steering,
    }));
    let message = &answer["choices"][0]["message"];
    let part = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
    (part("reasoning_content"), part("content"), message["tool_calls"][0]["function"].to_string())
}

#[test]
fn the_server_steers_final_texts_and_leaves_reasoning_and_calls_alone() {
    // H212, H213
    let home = Home::new();
    let file = directions(&home);
    let server = Server::start_in(home, &["--dir-steering-file", &file, "--dir-steering-ffn", "-40"]);
    let off = json!({"policy": "off"});
    let plain = chat(&server, false, off.clone());
    assert_eq!(chat(&server, false, json!({"ffn": 0, "attn": 0})), plain);
    let steered = chat(&server, false, Value::Null);
    assert_ne!(steered, plain, "the default is to steer the final text");
    assert_ne!(chat(&server, false, json!({"policy": "always", "ffn": 6})), steered);

    let called = chat(&server, true, off);
    assert!(!called.0.is_empty() && called.2.contains("Paris"), "{called:?}");
    assert_eq!(chat(&server, true, Value::Null), called, "reasoning and calls are not steered");
    assert_ne!(chat(&server, true, json!({"policy": "decoding", "ffn": -30})), called);
    let body = json!({"messages": [{"role": "user", "content": "x"}], "steering": {"ffn": 1e9}});
    let error = server.post("/v1/chat/completions", &body).error(400);
    assert!(error.contains("steering.ffn: 1000000000 is not between -100 and 100"), "{error}");
}

#[test]
fn a_server_without_directions_says_so() {
    let server = Server::start(&[]);
    let body = json!({"messages": [{"role": "user", "content": "x"}], "steering": {"ffn": 1}});
    let error = server.post("/v1/chat/completions", &body).error(400);
    assert!(error.contains("start it with --dir-steering-file"), "{error}");
    let home = Home::new();
    home.ds4(&["serve", "--dir-steering-policy", "sometimes"])
        .fails(2, "ds4: invalid value for --dir-steering-policy: sometimes (final-answer, decoding, always or off)");
}
