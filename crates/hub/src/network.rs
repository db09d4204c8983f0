//! One request: through redirects, with a token for whom it is meant.

use std::time::Duration;

use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, IF_RANGE, LOCATION, RANGE, RETRY_AFTER,
};
use reqwest::{Certificate, Client, ClientBuilder, Response, StatusCode, Url};

use crate::settings::Settings;
use crate::verify::is_sha256;
use crate::{Error, Patience};

/// Redirects that are followed.
const MOST_HOPS: usize = 10;

/// Why a transfer ended before its time.
pub(crate) enum Trouble {
    /// It may go better next time, after a wait if the server says how long.
    Again { why: String, after: Option<Duration> },
    /// What is there is no part of what the server has: it has to begin again.
    Anew(String),
    /// It will not go better.
    Over(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Over(error)
    }
}

/// What a server answered, up to its body.
pub(crate) struct Answer {
    pub(crate) response: Response,
    /// Whether the server that was asked answered itself, and not one to which it pointed.
    pub(crate) direct: bool,
    /// What the server that was asked says of the file behind its redirect.
    pub(crate) linked_size: Option<u64>,
    /// The same: its SHA-256.
    pub(crate) linked_sha256: Option<String>,
}

/// What is asked for.
pub(crate) struct Request<'a> {
    pub(crate) url: Url,
    /// For messages.
    pub(crate) label: &'a str,
    /// Bytes that are there already.
    pub(crate) from: u64,
    /// The version of which they are, where nothing else will tell.
    pub(crate) etag: Option<&'a str>,
}

/// Those who ask; they follow no redirect by themselves.
pub(crate) struct Clients {
    /// No proxy stands between a machine and itself.
    local: Client,
    /// Asks through the proxies of the environment.
    remote: Client,
}

impl Clients {
    pub(crate) fn new(patience: &Patience) -> Result<Self, Error> {
        // Whoever started the process may have chosen another provider of TLS already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = || {
            Client::builder()
                .user_agent(concat!("ds4/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(patience.stall)
                .http1_only()
        };
        Ok(Self { local: build(|| builder().no_proxy())?, remote: build(builder)? })
    }

    fn of(&self, url: &Url) -> &Client {
        if is_local(url) { &self.local } else { &self.remote }
    }
}

fn build(builder: impl Fn() -> ClientBuilder) -> Result<Client, Error> {
    // A bare system has no certificates; then those that browsers trust count.
    let client = builder().build().or_else(|_| builder().tls_certs_only(browsers_certificates()).build());
    client.map_err(|e| Error::Usage(format!("no connection can be made: {}", innermost(e))))
}

/// Mozilla's list, as it was when this program was built.
fn browsers_certificates() -> impl Iterator<Item = Certificate> {
    webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().filter_map(|der| Certificate::from_der(der).ok())
}

impl Request<'_> {
    /// Asks, and asks where it is pointed to.
    pub(crate) async fn send(&self, clients: &Clients, settings: &Settings) -> Result<Answer, Trouble> {
        let mut url = self.url.clone();
        let (mut linked_size, mut linked_sha256) = (None, None);
        for _ in 0..MOST_HOPS {
            let direct = url.origin() == self.url.origin();
            let response = self.hop(clients, settings, &url).await?;
            let headers = response.headers();
            if direct {
                linked_size = number(headers, "x-linked-size").or(linked_size);
                let sum = text(headers, "x-linked-etag").map(|etag| etag.trim_matches('"').to_ascii_lowercase());
                linked_sha256 = sum.filter(|sum| is_sha256(sum)).or(linked_sha256);
            }
            if !response.status().is_redirection() {
                return Ok(Answer { response, direct, linked_size, linked_sha256 });
            }
            url = self.next(&url, headers)?;
        }
        Err(self.over(format!("more than {MOST_HOPS} redirects")))
    }

    async fn hop(&self, clients: &Clients, settings: &Settings, url: &Url) -> Result<Response, Trouble> {
        let mut request = clients.of(url).get(url.clone()).header(ACCEPT_ENCODING, "identity");
        if let Some(token) = settings.token.as_ref().filter(|_| url.origin() == settings.endpoint.origin()) {
            request = request.bearer_auth(token.secret());
        }
        if self.from > 0 {
            request = request.header(RANGE, format!("bytes={}-", self.from));
            if let Some(etag) = self.etag {
                request = request.header(IF_RANGE, etag);
            }
        }
        match tokio::time::timeout(settings.patience.stall, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(e)) if e.is_connect() => Err(self.unconnected(&innermost(e))),
            Ok(Err(e)) => Err(again(format!("no answer ({})", innermost(e)))),
            Err(_) => Err(again(format!("no answer for {} s", settings.patience.stall.as_secs()))),
        }
    }

    /// Waiting helps against much, but not against a certificate that nobody trusts.
    fn unconnected(&self, why: &str) -> Trouble {
        if why.contains("peer certificate") {
            let way = "something in between may read the connection; SSL_CERT_FILE names a certificate to trust";
            return self.over(format!("no connection ({why}): {way}"));
        }
        again(format!("no connection ({why})"))
    }

    /// Where a redirect points.
    fn next(&self, url: &Url, headers: &HeaderMap) -> Result<Url, Trouble> {
        let next = text(headers, LOCATION.as_str()).and_then(|location| url.join(location).ok());
        let next = next.ok_or_else(|| self.over("a redirect to nowhere".into()))?;
        match (url.scheme(), next.scheme()) {
            (_, "https") | ("http", "http") => Ok(next),
            _ => Err(self.over(format!("a redirect from {} to {} is not followed", url.scheme(), next.scheme()))),
        }
    }

    pub(crate) fn over(&self, problem: String) -> Trouble {
        Trouble::Over(Error::Server { from: self.label.into(), problem })
    }

    /// What a status that brings no file means.
    pub(crate) fn refused(&self, answer: &Answer, settings: &Settings) -> Trouble {
        let (status, headers) = (answer.response.status(), answer.response.headers());
        let said = text(headers, "x-error-message").map(|said| format!(": {}", ds4_gguf::printable(said)));
        let said = said.unwrap_or_default();
        match status.as_u16() {
            408 | 425 | 429 | 500.. => {
                let after = text(headers, RETRY_AFTER.as_str()).and_then(retry_after);
                Trouble::Again { why: format!("the server answers {status}{said}"), after }
            }
            // A signed address that the first server gave and that is too old by now.
            401 | 403 if !answer.direct => again(format!("the server to which it points answers {status}")),
            code @ (401 | 403) => {
                let what = match settings.token.is_some() {
                    true => {
                        "the token is not enough: it must be valid, and its owner must have access to the repository"
                    }
                    false => {
                        "a token is needed: --token, HF_TOKEN or `hf auth login` (huggingface.co/settings/tokens makes one)"
                    }
                };
                let absent = if code == 401 { ", or there is no such repository" } else { "" };
                self.over(format!("the server answers {status}{said}; {what}{absent}"))
            }
            404 | 410 => self.over(format!("there is no such file ({status}{said})")),
            _ => self.over(format!("the server answers {status}{said}")),
        }
    }
}

impl Answer {
    /// Bytes of the whole, as the body's own headers say.
    pub(crate) fn size(&self) -> Option<u64> {
        let headers = self.response.headers();
        match self.response.status() {
            StatusCode::OK => number(headers, CONTENT_LENGTH.as_str()),
            _ => self.range().and_then(|range| range.1),
        }
    }

    /// The first byte that comes, if any does, and how many there are in all.
    pub(crate) fn range(&self) -> Option<(Option<u64>, Option<u64>)> {
        let range = text(self.response.headers(), CONTENT_RANGE.as_str())?.strip_prefix("bytes ")?;
        let (range, total) = range.split_once('/')?;
        let first = range.split_once('-').and_then(|(first, _)| first.parse().ok());
        Some((first, total.parse().ok()))
    }

    /// The word for exactly these bytes; a weak one promises less.
    pub(crate) fn etag(&self) -> Option<String> {
        text(self.response.headers(), ETAG.as_str()).filter(|etag| !etag.starts_with("W/")).map(Into::into)
    }

    /// Whether it is a page for people.
    pub(crate) fn is_page(&self) -> bool {
        text(self.response.headers(), "content-type").is_some_and(|kind| kind.starts_with("text/html"))
    }
}

pub(crate) fn again(why: String) -> Trouble {
    Trouble::Again { why, after: None }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.parse().ok()
}

/// Seconds, or a date.
fn retry_after(text: &str) -> Option<Duration> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    seconds.or_else(|| {
        let date = httpdate::parse_http_date(text).ok()?;
        Some(date.duration_since(std::time::SystemTime::now()).unwrap_or_default())
    })
}

fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// The reason below the reasons, without the address, which can hold secrets.
pub(crate) fn innermost(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(below) = cause.source() {
        cause = below;
    }
    ds4_gguf::printable(&cause.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_seconds_or_a_date() {
        assert_eq!(retry_after("17"), Some(Duration::from_secs(17)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after("soon"), None);
        assert_eq!(retry_after("-1"), None);
    }

    #[test]
    fn only_this_machine_needs_no_proxy() {
        for (url, local) in [
            ("http://127.0.0.1:8080/", true),
            ("http://[::1]/", true),
            ("http://localhost/", true),
            ("http://192.168.1.2/", false),
            ("https://huggingface.co/", false),
        ] {
            assert_eq!(is_local(&Url::parse(url).expect("an address")), local, "{url}");
        }
    }
}
