//! Which path does what.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Path, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use serde_json::Value;

use crate::error::json_response;
use crate::server::Server;
use crate::{Error, anthropic, host, openai, page, responses, tokens};

/// Most bytes before a body.
pub(crate) const MAX_HEADERS: usize = 64 << 10;

const OPENAPI: &str = include_str!("openapi.json");

/// What needs no key.
const OPEN: [&str; 2] = ["/health", "/ready"];

const CORS: [(HeaderName, &str); 3] = [
    (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
    (header::ACCESS_CONTROL_ALLOW_HEADERS, "*"),
];

/// Method, path and handler of every endpoint.
fn routes() -> Vec<(&'static str, &'static str, MethodRouter<Arc<Server>>)> {
    vec![
        ("GET", "/health", get(health)),
        ("GET", "/ready", get(ready)),
        ("GET", "/metrics", get(metrics)),
        ("GET", "/openapi.json", get(openapi)),
        ("GET", "/v1/stats", get(stats)),
        ("GET", "/v1/models", get(models)),
        ("GET", "/v1/models/{id}", get(model)),
        ("POST", "/v1/chat/completions", post(openai::chat)),
        ("POST", "/v1/completions", post(openai::completions)),
        ("POST", "/v1/responses", post(responses::responses)),
        ("POST", "/v1/messages", post(anthropic::messages)),
        ("POST", "/v1/messages/count_tokens", post(anthropic::count_tokens)),
        ("POST", "/tokenize", post(tokens::tokenize)),
        ("POST", "/detokenize", post(tokens::detokenize)),
    ]
}

/// All paths.
pub(crate) fn router(server: Arc<Server>) -> Router {
    let routes = routes().into_iter().fold(Router::new(), |router, (_, path, handler)| router.route(path, handler));
    routes
        .merge(page::routes())
        .fallback(unknown)
        .method_not_allowed_fallback(method)
        .layer(from_fn_with_state(Arc::clone(&server), keys))
        .layer(from_fn(header_limit))
        .layer(from_fn_with_state(Arc::clone(&server), counted))
        .layer(from_fn_with_state(Arc::clone(&server), host::check))
        .layer(from_fn_with_state(Arc::clone(&server), cors))
        .with_state(server)
}

async fn health(State(server): State<Arc<Server>>) -> Response {
    let (well, health) = server.health();
    json_response(if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &health)
}

async fn stats(State(server): State<Arc<Server>>) -> Response {
    let mut response = json_response(StatusCode::OK, &server.report());
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn ready(State(server): State<Arc<Server>>) -> Response {
    let (ready, why) = server.ready();
    json_response(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &why)
}

async fn metrics(State(server): State<Arc<Server>>) -> Response {
    let mut response = Response::new(Body::from(server.metrics_page()));
    let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, format);
    response
}

/// The document is written by hand: bodies are read with freedoms (a text or a list, JSON that is kept as it stands,
/// numbers with fractions) that cannot be told from the types. `schemathesis` compares it with what the server does.
async fn openapi() -> Response {
    let mut response = Response::new(Body::from(OPENAPI));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn models(State(server): State<Arc<Server>>) -> Response {
    json_response(StatusCode::OK, &server.identity.list())
}

async fn model(State(server): State<Arc<Server>>, Path(id): Path<String>) -> Response {
    match server.identity.find(&id) {
        Some(model) => json_response(StatusCode::OK, &model),
        None => Error::UnknownEndpoint(format!("no model {id:?}; this one is {:?}", server.identity.id))
            .response(Error::openai),
    }
}

async fn unknown(request: Request) -> Response {
    Error::UnknownEndpoint(request.uri().path().into()).response(Error::openai)
}

async fn method(request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let matched = request.extensions().get::<MatchedPath>().map_or(path.as_str(), MatchedPath::as_str);
    let known = routes().iter().find(|route| route.1 == matched).map(|route| route.0);
    let allowed = known.unwrap_or(if page::has(&path) { "GET" } else { "another method" });
    Error::Method { path, method: request.method().to_string(), allowed }.response(Error::openai)
}

/// Counts responses, and logs requests that were refused. Those that failed were logged where they did.
async fn counted(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let endpoint = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or("unknown").to_owned();
    let response = next.run(request).await;
    let status = response.status();
    server.ledger.metrics.response(&endpoint, status.as_u16());
    if endpoint.starts_with("/v1/") && (status.is_client_error() || status == StatusCode::SERVICE_UNAVAILABLE) {
        server.ledger.log.refused(&endpoint, status.as_u16());
    }
    response
}

/// Lets in who shows a key, where there are keys; anybody may ask how the server is, and for the page, which asks for a key.
async fn keys(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    match server.keys.check(request.headers()) {
        Err(error) if !OPEN.contains(&path) && !page::has(path) => error.response(form(path)),
        _ => next.run(request).await,
    }
}

/// How errors are said at a path.
fn form(path: &str) -> fn(&Error) -> Value {
    if path.starts_with("/v1/messages") { Error::anthropic } else { Error::openai }
}

/// Refuses headers that are too large; those that are much too large do not come this far.
async fn header_limit(request: Request, next: Next) -> Response {
    let line = request.method().as_str().len() + request.uri().to_string().len();
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    if line + fields.sum::<usize>() > MAX_HEADERS {
        return Error::HeadersTooLarge(MAX_HEADERS).response(Error::openai);
    }
    next.run(request).await
}

/// Answers OPTIONS on any path, and lets browsers in where the server was started with `--cors`.
async fn cors(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let mut response = if request.method() == Method::OPTIONS {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    } else {
        next.run(request).await
    };
    if server.cors {
        let headers = CORS.map(|(name, value)| (name, HeaderValue::from_static(value)));
        response.headers_mut().extend(headers);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_document_has_every_endpoint_and_no_other() {
        let document: Value = serde_json::from_str(OPENAPI).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let said = paths.iter().flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
        });
        let there = routes().into_iter().map(|(method, path, _)| (method.to_owned(), path.to_owned()));
        assert_eq!(said.collect::<BTreeSet<_>>(), there.collect());
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        for (path, item) in paths {
            let open =
                item.as_object().unwrap().values().all(|operation| operation["security"] == serde_json::json!([]));
            assert_eq!(open, OPEN.contains(&path.as_str()), "{path}");
        }
    }

    #[test]
    fn what_the_document_refers_to_is_in_it() {
        let document: Value = serde_json::from_str(OPENAPI).unwrap();
        let references = OPENAPI.split("\"$ref\": \"#").skip(1).map(|rest| rest.split('"').next().unwrap());
        let missing: Vec<&str> = references.filter(|pointer| document.pointer(pointer).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
