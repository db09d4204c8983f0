//! `/tokenize` and `/detokenize`: the tokens of a text or of a chat, and back.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use ds4_tokenizer::Tokenizer;
use serde::Deserialize;
use serde_json::json;

use crate::body::{parse, read};
use crate::error::json_response;
use crate::server::Server;
use crate::text::List;
use crate::{Error, openai};

/// Most bytes of a text: each may be a token, and each token with its piece is some 40 bytes of the answer.
const MAX_TEXT: usize = 1 << 20;

/// What `/tokenize` may be asked, besides a chat.
#[derive(Deserialize)]
struct Text {
    content: Option<String>,
    add_special: Option<bool>,
    with_pieces: Option<bool>,
}

/// What `/detokenize` may be asked.
#[derive(Deserialize)]
struct Tokens {
    tokens: List<u32>,
}

/// `POST /tokenize`: of `content` as it is, or of `messages` and the other fields of a chat as the model reads them.
pub(crate) async fn tokenize(State(server): State<Arc<Server>>, request: Request) -> Response {
    let tokens = async {
        let bytes = read(request).await?;
        server.off_the_loop(move |server| tokens_of(server, &bytes)).await
    };
    tokens.await.map_or_else(|error| error.response(Error::openai), whole)
}

/// `POST /detokenize`
pub(crate) async fn detokenize(State(server): State<Arc<Server>>, request: Request) -> Response {
    let text = async {
        let bytes = read(request).await?;
        server.off_the_loop(move |server| text_of(&server.model.tokenizer, &bytes)).await
    };
    match text.await {
        Ok(text) => json_response(StatusCode::OK, &json!({"content": text})),
        Err(error) => error.response(Error::openai),
    }
}

fn tokens_of(server: &Server, bytes: &[u8]) -> Result<String, Error> {
    let text: Text = parse(bytes)?;
    let tokenizer = &server.model.tokenizer;
    let tokens = match &text.content {
        Some(content) if content.len() > MAX_TEXT => {
            let why = format!("content: {} bytes, at most {MAX_TEXT} are possible", content.len());
            return Err(Error::Invalid(why));
        }
        Some(content) => {
            let begin = (text.add_special == Some(true)).then(|| tokenizer.bos());
            begin.into_iter().chain(tokenizer.encode(content)).collect()
        }
        None => server.prompt(&openai::Body::parse(bytes)?.into_request()?, "messages")?.tokens,
    };
    Ok(listed(tokenizer, &tokens, text.with_pieces == Some(true)))
}

/// The answer of `/tokenize`, written at once: millions of JSON values would take a hundred times their text.
fn listed(tokenizer: &Tokenizer, tokens: &[u32], with_pieces: bool) -> String {
    let item = |id: &u32| match with_pieces {
        false => id.to_string(),
        true => {
            let bytes = tokenizer.token_bytes(*id).unwrap_or_default();
            let piece = std::str::from_utf8(bytes).map_or_else(|_| json!(bytes), |text| json!(text));
            format!("{{\"id\":{id},\"piece\":{piece}}}")
        }
    };
    let mut out = String::from("{\"tokens\":[");
    for (i, id) in tokens.iter().enumerate() {
        out += if i > 0 { "," } else { "" };
        out += &item(id);
    }
    out + "]}\n"
}

fn text_of(tokenizer: &Tokenizer, bytes: &[u8]) -> Result<String, Error> {
    let Tokens { tokens: List(tokens) } = parse(bytes)?;
    match tokens.iter().position(|id| tokenizer.token_bytes(*id).is_none()) {
        Some(i) => {
            let last = tokenizer.len().saturating_sub(1);
            Err(Error::Invalid(format!("tokens[{i}]: there is no token {}; the last is {last}", tokens[i])))
        }
        None => Ok(tokenizer.decode(&tokens)),
    }
}

fn whole(json: String) -> Response {
    let mut response = Response::new(Body::from(json));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
