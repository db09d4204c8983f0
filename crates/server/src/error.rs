//! Why a request gets no answer, in the words of all APIs.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

/// Why a request is refused or fails.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The request shows no key, or a wrong one.
    #[error(
        "{}; send one of this server's keys as \"Authorization: Bearer KEY\" or \"x-api-key: KEY\"",
        if *wrong { "this key is not known here" } else { "this server wants a key" }
    )]
    Unauthorized {
        /// There is one, and it is wrong.
        wrong: bool,
    },
    /// There is nothing at this path.
    #[error("unknown endpoint: {0}")]
    UnknownEndpoint(String),
    /// The request came by a name that is not this machine's.
    #[error(
        "this server answers to addresses and local names only, not to {0:?}: a web site could have sent this. Behind a proxy, \
         let it send `Host: localhost`, or start the server with --api-key-file"
    )]
    ForeignName(String),
    /// A page of another site sent the request.
    #[error("a page of another web site sent this request; start the server with --cors to let such pages in")]
    CrossSite,
    /// The path wants another method.
    #[error("{path} does not answer {method}; use {allowed}")]
    Method {
        /// Where.
        path: String,
        /// What was asked.
        method: String,
        /// What works.
        allowed: &'static str,
    },
    /// The body does not come.
    #[error("the body did not arrive: {received} bytes in {seconds} s; after 10 s it must come at 65536 bytes/s")]
    Timeout {
        /// What came.
        received: usize,
        /// How long it took.
        seconds: u64,
    },
    /// The headers are too large.
    #[error("the headers are larger than {0} bytes")]
    HeadersTooLarge(usize),
    /// The body is too large.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// The prompt leaves no room for an answer.
    #[error(
        "prompt is too long: {prompt} tokens > {context} maximum. This server's maximum context length is {context} \
         tokens; shorten the conversation or start the server with a larger --ctx"
    )]
    ContextExceeded {
        /// The field that holds the prompt.
        param: &'static str,
        /// Its tokens.
        prompt: usize,
        /// Tokens that the context holds.
        context: usize,
    },
    /// The request counts on something earlier that is gone.
    #[error("{param}: {id:?} is not remembered, or never was; send the whole conversation as input instead")]
    Forgotten {
        /// The field that names it.
        param: &'static str,
        /// Its name.
        id: String,
    },
    /// Too many requests wait.
    #[error("the queue is full: {waiting} requests wait; this one would be number {}. Try again in {retry_after} s", waiting + 1)]
    QueueFull {
        /// Requests that wait.
        waiting: usize,
        /// Seconds until there is likely room.
        retry_after: u64,
    },
    /// The server ends.
    #[error("server shutting down; try again once it is back")]
    Closing,
    /// The engine failed.
    #[error("{0}")]
    Failed(String),
}

/// Seconds after which a server that is restarted is likely back.
const RESTART: u64 = 10;

impl Error {
    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Invalid(_) | Self::Forgotten { .. } | Self::ContextExceeded { .. } => StatusCode::BAD_REQUEST,
            Self::Unauthorized { .. } => StatusCode::UNAUTHORIZED,
            Self::UnknownEndpoint(_) => StatusCode::NOT_FOUND,
            Self::ForeignName(_) | Self::CrossSite => StatusCode::FORBIDDEN,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Timeout { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::HeadersTooLarge(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::QueueFull { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Closing => StatusCode::SERVICE_UNAVAILABLE,
            Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// OpenAI's form: `{"error": {"message", "type", …}}`.
    pub(crate) fn openai(&self) -> Value {
        let kind = match self {
            Self::QueueFull { .. } => "rate_limit_error",
            Self::Closing | Self::Failed(_) => "server_error",
            _ => "invalid_request_error",
        };
        let mut error = json!({"message": self.to_string(), "type": kind});
        match self {
            Self::ContextExceeded { param, prompt, context } => {
                error["param"] = (*param).into();
                error["code"] = "context_length_exceeded".into();
                error["n_prompt_tokens"] = (*prompt).into();
                error["n_ctx"] = (*context).into();
            }
            Self::Forgotten { param, .. } => {
                error["param"] = (*param).into();
                error["code"] = "previous_response_not_found".into();
            }
            Self::QueueFull { waiting, .. } => {
                error["code"] = "queue_full".into();
                error["waiting"] = (*waiting).into();
            }
            Self::Unauthorized { .. } => error["code"] = "invalid_api_key".into(),
            Self::Closing => error["code"] = "shutting_down".into(),
            _ => {}
        }
        json!({"error": error})
    }

    /// Anthropic's form: `{"type": "error", "error": {"type", "message", …}}`.
    pub(crate) fn anthropic(&self) -> Value {
        let kind = match self {
            Self::Unauthorized { .. } => "authentication_error",
            Self::UnknownEndpoint(_) => "not_found_error",
            Self::TooLarge(_) => "request_too_large",
            Self::QueueFull { .. } => "rate_limit_error",
            Self::Closing => "overloaded_error",
            Self::Timeout { .. } => "timeout_error",
            Self::Failed(_) => "api_error",
            _ => "invalid_request_error",
        };
        let mut error = json!({"type": kind, "message": self.to_string()});
        match self {
            Self::ContextExceeded { prompt, context, .. } => {
                error["n_prompt_tokens"] = (*prompt).into();
                error["n_ctx"] = (*context).into();
            }
            Self::QueueFull { waiting, .. } => error["waiting"] = (*waiting).into(),
            _ => {}
        }
        json!({"type": "error", "error": error})
    }

    /// The response, with one of the two forms as its body.
    pub(crate) fn response(&self, form: fn(&Self) -> Value) -> Response {
        let mut response = json_response(self.status(), &form(self));
        let retry = match self {
            Self::QueueFull { retry_after, .. } => Some(*retry_after),
            Self::Closing => Some(RESTART),
            _ => None,
        };
        if let Self::Unauthorized { .. } = self {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = retry {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A JSON body, with a line break for those who read it in a terminal.
pub(crate) fn json_response(status: StatusCode, value: &Value) -> Response {
    let mut response = Response::new(Body::from(format!("{value}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
