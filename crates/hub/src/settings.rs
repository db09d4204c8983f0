//! Where to ask, as whom, and how patiently.

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use reqwest::Url;

use crate::source::HUGGING_FACE;
use crate::{Error, Token};

/// How to download.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where Hugging Face, or what speaks like it, is.
    pub endpoint: Url,
    /// Sent to the endpoint and to nobody else.
    pub token: Option<Token>,
    /// How patiently.
    pub patience: Patience,
    /// Set by the caller to stop.
    pub stop: Arc<AtomicBool>,
}

/// When to give up a connection, and when to give up.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// A connection that brings nothing for so long is given up.
    pub stall: Duration,
    /// The first wait before another try; each further one is twice as long.
    pub wait: Duration,
    /// The longest wait of that kind.
    pub longest_wait: Duration,
    /// The longest wait that a server may ask for.
    pub asked_wait: Duration,
    /// Tries in a row that bring nothing before it is over.
    pub tries: u32,
}

impl Default for Patience {
    /// Half a minute of silence, and ten tries within about five minutes.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { stall: seconds(30), wait: seconds(1), longest_wait: seconds(60), asked_wait: seconds(600), tries: 10 }
    }
}

impl Settings {
    /// The usual: `HF_ENDPOINT`, and the token as [`Token::find`] finds it. Proxies are those of the environment
    /// (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`).
    ///
    /// # Errors
    /// An endpoint that is no address, or a token that cannot be sent.
    pub fn new(token: Option<&str>, environment: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let set = environment("HF_ENDPOINT").filter(|value| !value.is_empty());
        let text = set.map_or_else(|| HUGGING_FACE.into(), |value| value.to_string_lossy().into_owned());
        let endpoint = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let wrong = || Error::Usage(format!("HF_ENDPOINT: {text}: expected an address as {HUGGING_FACE}"));
        Ok(Self {
            endpoint: endpoint.ok_or_else(wrong)?,
            token: Token::find(token, environment)?,
            patience: Patience::default(),
            stop: Arc::default(),
        })
    }

    /// Comes back when the caller asked to stop.
    pub(crate) async fn stopped(&self) {
        while !self.stop.load(Relaxed) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Patience {
    /// How long to wait after so many tries in a row.
    pub(crate) fn wait_after(&self, tries: u32) -> Duration {
        let doubled = 2u32.saturating_pow(tries.saturating_sub(1));
        self.wait.saturating_mul(doubled).min(self.longest_wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_is_an_address() {
        let settings =
            |value: &'static str| Settings::new(None, &move |name| (name == "HF_ENDPOINT").then(|| value.into()));
        assert_eq!(settings("").expect("the usual one").endpoint.as_str(), "https://huggingface.co/");
        assert_eq!(settings("http://mirror:8080/x").expect("an address").endpoint.as_str(), "http://mirror:8080/x");
        for wrong in ["mirror", "ftp://mirror/", "http://"] {
            let error = settings(wrong).expect_err(wrong).to_string();
            assert_eq!(error, format!("HF_ENDPOINT: {wrong}: expected an address as https://huggingface.co"));
        }
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let waits: Vec<u64> = (1..10).map(|tries| Patience::default().wait_after(tries).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(Patience::default().wait_after(u32::MAX).as_secs(), 60);
    }
}
