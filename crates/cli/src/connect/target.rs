//! The server, as a client needs to know it.

use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use ds4_supervise::{StateDir, Timings};
use serde_json::Value;

use crate::failure::Failure;

/// Where servers are unless told otherwise.
const USUAL: &str = "http://127.0.0.1:8000";
/// A key for clients that insist on one, where the server wants none.
const ANY_KEY: &str = "dsv4-local";
const PATIENCE: Duration = Duration::from_secs(5);
/// Most bytes of an answer.
const MOST_BYTES: u64 = 1 << 20;
/// What the server's model is called, where nobody could be asked.
const MODEL: &str = "deepseek-v4-flash";
/// Most tokens of an answer that a client should expect, as the server's own default.
const MOST_TOKENS: usize = 393_216;

/// A server.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Target {
    /// Without `/v1`.
    pub(super) url: String,
    pub(super) model: String,
    /// Tokens of a conversation.
    pub(super) context: usize,
    /// Most tokens of an answer.
    pub(super) output: usize,
    /// What it wants to be shown, if anything.
    pub(super) key: Option<String>,
}

impl Target {
    /// What the server at `url` says of itself; where nobody answers, `context` must be given.
    pub(super) fn ask(url: &str, key: Option<String>, context: Option<usize>) -> Result<Self, Failure> {
        let url = url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        if !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(Failure::usage(format!("--url {url}: begin with http:// or https://")));
        }
        match (models(&url, key.as_deref()), context) {
            (Ok(list), context) => Self::read(&url, &list, key, context),
            (Err(_), Some(context)) => {
                Ok(Self { url, model: MODEL.into(), context, output: context.min(MOST_TOKENS), key })
            }
            (Err(why), None) => {
                let instead = "start it (ds4 up), name another (--url), or say what it will have (--context N)";
                Err(Failure::from(format!("no ds4 server answers at {url} ({why}); {instead}")))
            }
        }
    }

    fn read(url: &str, list: &Value, key: Option<String>, context: Option<usize>) -> Result<Self, Failure> {
        let model = &list["data"][0];
        let says = model["context_length"].as_u64().and_then(|n| usize::try_from(n).ok());
        let (Some(id), Some(context)) = (model["id"].as_str(), context.or(says)) else {
            return Err(Failure::from(format!(
                "{url}/v1/models: not a ds4 server's: no data[0].id and context_length"
            )));
        };
        let output = model["top_provider"]["max_completion_tokens"].as_u64().and_then(|n| usize::try_from(n).ok());
        let output = output.unwrap_or(MOST_TOKENS).min(context);
        Ok(Self { url: url.to_owned(), model: id.to_owned(), context, output, key })
    }

    /// With `/v1`, as OpenAI's clients want it.
    pub(super) fn v1(&self) -> String {
        format!("{}/v1", self.url)
    }

    /// A key in any case.
    pub(super) fn shown_key(&self) -> &str {
        self.key.as_deref().unwrap_or(ANY_KEY)
    }

    /// Tokens of an answer that leave most of the context to the conversation.
    pub(super) fn modest_output(&self) -> usize {
        self.output.min(32_000).min(self.context / 2).max(1)
    }
}

/// What says how long the context of a server is that is started here.
const SETTINGS: [&str; 2] = ["DS4_SERVER_CTX", "DS4_CONFIG"];
/// If nothing does: agents need more room than others, and Pi's extension asks for as much.
const AGENTS_CONTEXT: &str = "100000";

/// Where the server of the state directory is, or the usual place.
pub(super) fn url(state: &StateDir) -> String {
    let status = ds4_supervise::status(state, &Timings::default());
    status.ok().and_then(|status| status.record).map_or_else(|| USUAL.to_owned(), |record| record.base_url)
}

/// The URL of the server, started if there is none, with a lease for this process. What it says on the way goes to stderr.
pub(super) fn up() -> Result<String, Failure> {
    let program = std::env::current_exe()?;
    let mut up = Command::new(&program);
    up.args(["up", "--for-pid", &std::process::id().to_string()]).stdin(Stdio::null()).stderr(Stdio::inherit());
    if SETTINGS.iter().all(|name| std::env::var_os(name).is_none_or(|value| value.is_empty())) {
        up.env(SETTINGS[0], AGENTS_CONTEXT);
    }
    let output = up.output().map_err(|e| format!("{}: {e}", program.display()))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(Failure::silent(output.status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))),
    }
}

fn models(url: &str, key: Option<&str>) -> Result<Value, String> {
    let mut config =
        ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false).max_redirects(0);
    if is_here(url) {
        config = config.proxy(None); // it would know another machine by this name, and learn the key
    }
    let mut request = ureq::Agent::new_with_config(config.build()).get(format!("{url}/v1/models"));
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let mut answer = request.call().map_err(|e| e.to_string())?;
    match answer.status().as_u16() {
        200 => {}
        401 | 403 => return Err("it wants another key: --api-key, or DS4_API_KEY".into()),
        status => return Err(format!("status {status}")),
    }
    let text = answer.body_mut().with_config().limit(MOST_BYTES).read_to_string().map_err(|e| e.to_string())?;
    serde_json::from_str(&text).map_err(|_| "what it says is not JSON".into())
}

/// Whether a URL's host is this machine.
fn is_here(url: &str) -> bool {
    let host = url.parse::<ureq::http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
pub(super) fn example() -> Target {
    let (url, model) = ("http://127.0.0.1:8000".into(), MODEL.into());
    Target { url, model, context: 100_000, output: 100_000, key: None }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use serde_json::json;

    #[test]
    fn this_machine_is_known_by_its_names() {
        for url in
            ["http://127.0.0.1:8000", "http://localhost", "http://LOCALHOST:1", "https://[::1]:8", "http://127.9.9.9"]
        {
            assert!(is_here(url), "{url}");
        }
        for url in ["http://10.0.0.1:8000", "http://localhost.example.org", "http://[::2]:8", "http://127.0.0.1.nip.io"]
        {
            assert!(!is_here(url), "{url}");
        }
    }

    #[test]
    fn the_key_goes_to_nobody_else() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
        elsewhere.set_nonblocking(true).unwrap();
        let answer = format!(
            "HTTP/1.1 302 Found\r\nlocation: http://{}/v1/models\r\ncontent-length: 0\r\n\r\n",
            elsewhere.local_addr().unwrap()
        );
        let server = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let _ = client.read(&mut [0; 4096]).unwrap();
            client.write_all(answer.as_bytes()).unwrap();
        });
        let said = Target::ask(&url, Some("secret".into()), None).unwrap_err().message();
        server.join().unwrap();
        assert!(said.contains("(status 302)"), "{said}");
        assert!(elsewhere.accept().is_err(), "nobody came");
    }

    #[test]
    fn limits_are_those_that_the_server_names() {
        let list =
            json!({"data": [{"id": "m", "context_length": 5000, "top_provider": {"max_completion_tokens": 300}}]});
        let target = Target::read("http://h", &list, None, None).unwrap();
        assert_eq!((target.model.as_str(), target.context, target.output), ("m", 5000, 300));
        assert_eq!(Target::read("http://h", &list, None, Some(4000)).unwrap().context, 4000);
        assert!(Target::read("http://h", &json!({"models": []}), None, None).is_err());
        assert_eq!(Target { context: 1000, output: 1000, ..target }.modest_output(), 500);
    }

    #[test]
    fn without_a_server_somebody_must_say_the_context() {
        // Nothing listens at port 1.
        assert!(Target::ask("http://127.0.0.1:1/v1/", None, None).is_err());
        let target = Target::ask("http://127.0.0.1:1/v1/", None, Some(65_536)).unwrap();
        assert_eq!((target.v1().as_str(), target.context), ("http://127.0.0.1:1/v1", 65_536));
        assert!(Target::ask("127.0.0.1:8000", None, Some(1)).is_err());
    }
}
