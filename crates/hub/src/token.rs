//! The token by which Hugging Face knows a user.

use std::ffi::OsString;
use std::fmt;
use std::io::Read;
use std::path::PathBuf;

use crate::Error;

/// Longer files are no tokens.
const LONGEST: u64 = 4096;

/// A token; messages never show it.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// The first of: what was given, `HF_TOKEN`, the file `token` in `HF_HOME` or `~/.cache/huggingface`. Empty ones do not
    /// count.
    ///
    /// # Errors
    /// A token that cannot be sent, by where it came from.
    pub fn find(given: Option<&str>, environment: &dyn Fn(&str) -> Option<OsString>) -> Result<Option<Self>, Error> {
        if let Some(token) = Self::checked(given.unwrap_or_default(), "--token")? {
            return Ok(Some(token));
        }
        let variable = environment("HF_TOKEN").map(|v| v.to_string_lossy().into_owned());
        if let Some(token) = Self::checked(&variable.unwrap_or_default(), "HF_TOKEN")? {
            return Ok(Some(token));
        }
        let set = |name| environment(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = set("HF_HOME").or_else(|| Some(set("HOME")?.join(".cache/huggingface")));
        let Some(path) = cache.map(|cache| cache.join("token")) else { return Ok(None) };
        let mut text = String::new();
        // A file that is not there, or not ours to read, is no token.
        let read = std::fs::File::open(&path).and_then(|file| file.take(LONGEST).read_to_string(&mut text));
        if read.is_err() {
            return Ok(None);
        }
        Self::checked(&text, &path.display().to_string())
    }

    fn checked(text: &str, origin: &str) -> Result<Option<Self>, Error> {
        let text = text.trim();
        match text.bytes().all(|b| b.is_ascii_graphic()) {
            true => Ok(Some(Self(text.into())).filter(|token| !token.0.is_empty())),
            false => Err(Error::Usage(format!("{origin}: a token has letters, digits and signs only, without spaces"))),
        }
    }

    /// For the header of a request.
    pub(crate) fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The token that is found with these variables.
    fn found(given: Option<&str>, variables: &[(&str, &str)]) -> Option<String> {
        let environment = |name: &str| variables.iter().find(|v| v.0 == name).map(|v| OsString::from(v.1));
        Token::find(given, &environment).expect("it can be sent").map(|token| token.0)
    }

    #[test]
    fn the_flag_comes_before_the_variable_and_the_variable_before_the_file() {
        let home = tempfile::tempdir().expect("a folder");
        let home = home.path().to_str().expect("UTF-8");
        assert_eq!(found(None, &[("HOME", home)]), None);
        std::fs::create_dir_all(format!("{home}/.cache/huggingface")).expect("made");
        std::fs::write(format!("{home}/.cache/huggingface/token"), "hf_file\n").expect("written");
        std::fs::write(format!("{home}/token"), "hf_other").expect("written");
        assert_eq!(found(None, &[("HOME", home)]).as_deref(), Some("hf_file"));
        assert_eq!(found(None, &[("HOME", home), ("HF_HOME", home)]).as_deref(), Some("hf_other"));
        assert_eq!(found(None, &[("HOME", home), ("HF_TOKEN", "hf_variable")]).as_deref(), Some("hf_variable"));
        assert_eq!(found(Some("hf_flag"), &[("HF_TOKEN", "hf_variable")]).as_deref(), Some("hf_flag"));
        assert_eq!(found(Some(""), &[("HF_TOKEN", ""), ("HOME", home)]).as_deref(), Some("hf_file"));
    }

    #[test]
    fn a_token_is_never_shown() {
        let error = Token::find(Some("hf_secret with spaces"), &|_| None).expect_err("it cannot be sent").to_string();
        assert!(error.starts_with("--token: ") && !error.contains("secret"), "{error}");
        let token = Token::find(Some("hf_secret"), &|_| None).expect("fine").expect("there");
        assert_eq!(format!("{token:?}"), "Token(…)");
    }
}
