//! Bytes to a typed request: limits first, then JSON.

use std::time::Duration;

use axum::extract::Request;
use axum::http::header;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use crate::Error;

/// Most bytes of a body.
pub(crate) const MAX_BODY: usize = 64 << 20;
/// Most levels of JSON inside each other.
pub(crate) const MAX_DEPTH: usize = 256;
/// Bodies larger than [`LARGE`] that may be in memory at a time; others wait for their turn.
static LARGE_BODIES: Semaphore = Semaphore::const_new(2);
const LARGE: usize = 1 << 20;
/// A body that is not there after so long, and a second more for each [`RATE`] bytes that came, is given up.
const PATIENCE: Duration = Duration::from_secs(10);
const RATE: usize = 64 << 10;

/// The bytes of a body, and the place in memory that a large one takes.
pub(crate) struct Bytes {
    bytes: Vec<u8>,
    _place: Option<SemaphorePermit<'static>>,
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads a body.
pub(crate) async fn read(request: Request) -> Result<Bytes, Error> {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|n| n > MAX_BODY as u64) {
        return Err(Error::TooLarge(MAX_BODY));
    }
    let mut body = request.into_body();
    let (mut bytes, mut place) = (Vec::new(), None);
    let mut start = Instant::now();
    loop {
        let patience = PATIENCE + Duration::from_secs((bytes.len() / RATE) as u64);
        let frame = timeout_at(start + patience, body.frame()).await;
        let frame = frame.map_err(|_| Error::Timeout { received: bytes.len(), seconds: start.elapsed().as_secs() })?;
        let Some(frame) = frame else { return Ok(Bytes { bytes, _place: place }) };
        let frame = frame.map_err(|e| Error::Invalid(format!("bad HTTP request: {e}")))?;
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > MAX_BODY {
                return Err(Error::TooLarge(MAX_BODY));
            }
            if place.is_none() && bytes.len() + data.len() > LARGE {
                let waits = Instant::now();
                place = LARGE_BODIES.acquire().await.ok();
                start += waits.elapsed(); // nobody read meanwhile
            }
            bytes.extend_from_slice(&data);
        }
    }
}

/// A JSON object as `T`; what is wrong is named with its place.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let invalid = |why: String| Error::Invalid(format!("invalid JSON request: {why}"));
    let text = std::str::from_utf8(bytes).map_err(|e| invalid(format!("the body is not UTF-8: {e}")))?;
    if !text.trim_ascii_start().starts_with('{') {
        return Err(invalid("the body is not a JSON object".into()));
    }
    if depth(text) > MAX_DEPTH {
        return Err(invalid(format!("nested more than {MAX_DEPTH} levels deep")));
    }
    let text = without_lone_surrogates(text);
    let mut json = serde_json::Deserializer::from_str(&text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|e| match e.path().to_string() {
        path if path == "." => invalid(e.inner().to_string()),
        path => invalid(format!("{path}: {}", e.inner())),
    })?;
    json.end().map_err(|e| invalid(e.to_string()))?;
    Ok(value)
}

/// How deep lists and objects lie in each other.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let (mut string, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if string => escaped = true,
            b'"' => string = !string,
            b'[' | b'{' if !string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Half of a surrogate pair, as some clients write it where they cut a text inside a character, is no JSON string of any
/// text. It becomes U+FFFD here, so that one such message does not end a conversation.
fn without_lone_surrogates(json: &str) -> std::borrow::Cow<'_, str> {
    if !json.contains("\\ud") && !json.contains("\\uD") {
        return json.into();
    }
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let len = match (surrogate(rest), surrogate(rest.get(6..).unwrap_or_default())) {
            (Some(true), Some(false)) => 12,
            (Some(_), _) => {
                out.push_str("\\ufffd");
                rest = &rest[6..];
                continue;
            }
            (None, _) => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
        };
        out.push_str(&rest[..len]);
        rest = &rest[len..];
    }
    out.push_str(rest);
    out.into()
}

/// Whether `text` begins with the escape of a surrogate, and whether of a leading one.
fn surrogate(text: &str) -> Option<bool> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    match u16::from_str_radix(digits, 16).ok()? {
        0xD800..=0xDBFF => Some(true),
        0xDC00..=0xDFFF => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn error(body: &str) -> String {
        parse::<Value>(body.as_bytes()).unwrap_err().to_string()
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_be_slow_and_must_not_trickle() {
        use futures_util::stream::unfold;
        let body = |pieces: usize, bytes: usize, pause: u64| {
            let pieces = unfold(pieces, move |left| async move {
                tokio::time::sleep(Duration::from_secs(pause)).await;
                let left = usize::checked_sub(left, 1)?;
                Some((Ok::<_, std::convert::Infallible>(vec![b' '; bytes]), left))
            });
            Request::new(axum::body::Body::from_stream(pieces))
        };
        // 80 KB/s for half a minute, and one byte in 3 s.
        assert_eq!(read(body(30, 80_000, 1)).await.map(|bytes| bytes.len()), Ok(2_400_000));
        let error = read(body(10_000, 1, 3)).await.map(|bytes| bytes.len()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the body did not arrive: 3 bytes in 10 s; after 10 s it must come at 65536 bytes/s"
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        #[derive(Debug, serde::Deserialize)]
        #[expect(dead_code)]
        struct Sample {
            list: Vec<Vec<u8>>,
        }
        let error = parse::<Sample>(br#"{"list": [[1], [2, "x"]]}"#).unwrap_err().to_string();
        let expected = "invalid JSON request: list[1][1]: invalid type: string \"x\", expected u8 at line 1 column 22";
        assert_eq!(error, expected);
    }

    #[test]
    fn only_whole_objects_are_requests() {
        assert_eq!(error("[]"), "invalid JSON request: the body is not a JSON object");
        assert_eq!(error(""), "invalid JSON request: the body is not a JSON object");
        assert!(error("{\"a\": 1").contains("EOF"));
        assert!(error("{} {}").contains("trailing characters"));
        assert!(parse::<Value>(b"{\"a\": \"\xff\"}").unwrap_err().to_string().contains("not UTF-8"));
    }

    #[test]
    fn nesting_has_a_limit_and_brackets_in_strings_do_not_count() {
        #[derive(serde::Deserialize)]
        struct Nothing {}
        let nested = |n: usize| format!("{{\"a\":{}{}}}", "[".repeat(n), "]".repeat(n));
        assert!(parse::<Nothing>(nested(MAX_DEPTH - 1).as_bytes()).is_ok());
        assert_eq!(error(&nested(MAX_DEPTH)), "invalid JSON request: nested more than 256 levels deep");
        assert!(parse::<Nothing>(format!("{{\"a\":\"\\\"{}\"}}", "[".repeat(1000)).as_bytes()).is_ok());
        assert!(error(&"{".repeat(1_000_000)).contains("levels deep"));
    }

    proptest! {
        #[test]
        fn escapes_are_read_as_utf16(pieces in prop::collection::vec(
            prop::sample::select(vec!["\\ud83d", "\\uDE42", "\\u0041", "\\\\", "\\n", "a", "é", "🙂"]), 0..12)
        ) {
            let units = pieces.iter().flat_map(|piece| match *piece {
                "\\ud83d" => vec![0xD83D],
                "\\uDE42" => vec![0xDE42],
                "\\u0041" => vec![0x41],
                "\\\\" => vec![0x5C],
                "\\n" => vec![0x0A],
                text => text.encode_utf16().collect(),
            });
            let expected = String::from_utf16_lossy(&units.collect::<Vec<u16>>());
            let json = format!("{{\"a\": \"{}\"}}", pieces.concat());
            prop_assert_eq!(&parse::<Value>(json.as_bytes()).unwrap()["a"], &Value::String(expected));
        }
    }

    #[test]
    fn half_a_character_does_not_end_a_conversation() {
        let text = |json: &str| parse::<Value>(json.as_bytes()).unwrap()["a"].as_str().unwrap().to_owned();
        assert_eq!(text(r#"{"a": "cut \ud83d"}"#), "cut \u{fffd}");
        assert_eq!(text(r#"{"a": "\ude42\ud83d\ude42\uD83Dx"}"#), "\u{fffd}🙂\u{fffd}x");
        assert_eq!(text(r#"{"a": "\\ud83d é\n"}"#), "\\ud83d é\n");
        assert!(error("{\"a\": \"\\").contains("EOF"));
        assert!(error(r#"{"a": "\u"#).contains("EOF"));
    }
}
