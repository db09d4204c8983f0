//! What was asked for, and where it is.

use std::path::{Path, PathBuf};

use reqwest::Url;

use crate::{Catalogue, Error, Model};

/// Where a model comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// It is inside the program.
    BuiltIn,
    /// It is a file of this machine.
    File(PathBuf),
    /// It can be downloaded.
    Remote(Box<Remote>),
}

/// A file that can be downloaded.
#[derive(Clone, Debug)]
pub struct Remote {
    place: Place,
    /// What the file is called here.
    pub file: String,
    /// What the catalogue knows of it.
    pub model: Option<Model>,
}

#[derive(Clone, Debug)]
enum Place {
    /// A file of a repository on Hugging Face, or on what speaks like it.
    Hub { repository: String, revision: String, path: String },
    /// Any other address.
    Web(Url),
}

/// Where Hugging Face's own addresses point.
pub(crate) const HUGGING_FACE: &str = "https://huggingface.co";

const WAYS: &str = "hf://OWNER/REPOSITORY/FILE, an address that begins with https://, or the path of a file";

impl Source {
    /// Reads a name of the catalogue, `hf://owner/repository[@revision]/file`, a URL, or the path of a file that is there.
    ///
    /// # Errors
    /// Whatever is none of these: the message lists the names.
    pub fn parse(text: &str, catalogue: &Catalogue) -> Result<Self, Error> {
        if let Some(model) = catalogue.find(text) {
            return Ok(Remote::named(model).map_or(Source::BuiltIn, Source::remote));
        }
        if let Some(rest) = text.strip_prefix("hf://") {
            return Remote::hub(rest)
                .map(Source::remote)
                .ok_or_else(|| wrong(text, "expected hf://OWNER/REPOSITORY/FILE.gguf"));
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            return Remote::web(text).map(Source::remote);
        }
        let path = Path::new(text);
        if path.is_file() {
            return Ok(Source::File(std::path::absolute(path).map_err(Error::io(path, "find"))?));
        }
        match text.contains('/') || text.ends_with(".gguf") {
            true => Err(wrong(text, &format!("no such file; models with a name are {}", catalogue.names()))),
            false => {
                Err(wrong(text, &format!("no model has this name; there are {}, or give {WAYS}", catalogue.names())))
            }
        }
    }

    fn remote(remote: Remote) -> Self {
        Source::Remote(Box::new(remote))
    }
}

impl Remote {
    /// A model of the catalogue, unless it is inside the program.
    fn named(model: &Model) -> Option<Self> {
        let (repository, file) = (model.repository.clone()?, model.file.clone()?);
        let place = Place::Hub { repository, revision: "main".into(), path: file.clone() };
        Some(Self { place, file, model: Some(model.clone()) })
    }

    /// `owner/repository[@revision]/path`
    fn hub(text: &str) -> Option<Self> {
        let (owner, rest) = text.split_once('/')?;
        let (repository, path) = rest.split_once('/')?;
        let (repository, revision) = repository.split_once('@').unwrap_or((repository, "main"));
        Self::of_repository(owner, repository, revision, path)
    }

    fn of_repository(owner: &str, repository: &str, revision: &str, path: &str) -> Option<Self> {
        let plain = |part: &str| {
            let signs = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            !part.is_empty() && part.bytes().all(signs) && !part.starts_with('.')
        };
        if ![owner, repository, revision].into_iter().chain(path.split('/')).all(plain) {
            return None;
        }
        let file = file_name(path.rsplit('/').next()?)?;
        let repository = format!("{owner}/{repository}");
        Some(Self { place: Place::Hub { repository, revision: revision.into(), path: path.into() }, file, model: None })
    }

    /// A URL; the pages and downloads of Hugging Face are taken as what they show.
    fn web(text: &str) -> Result<Self, Error> {
        let url = Url::parse(text).map_err(|e| wrong(text, &format!("no address: {e}")))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::Usage("an address with a password is not taken: it would be shown in messages".into()));
        }
        let parts: Vec<&str> = url.path_segments().map(Iterator::collect).unwrap_or_default();
        if let (Some("huggingface.co" | "hf.co"), [owner, repository, "resolve" | "blob", revision, path @ ..]) =
            (url.host_str(), parts.as_slice())
        {
            let remote = Self::of_repository(owner, repository, revision, &path.join("/"));
            return remote.ok_or_else(|| wrong(text, hub_fault(path)));
        }
        match parts.last().copied().and_then(file_name) {
            Some(file) => Ok(Self { place: Place::Web(url), file, model: None }),
            None => Err(wrong(text, "the file's name must end in .gguf, of letters, digits, - _ and . only")),
        }
    }

    /// Where to ask for it.
    pub(crate) fn url(&self, endpoint: &Url) -> Url {
        let mut url = endpoint.clone();
        match &self.place {
            Place::Hub { repository, revision, path } => {
                let base = endpoint.path().trim_end_matches('/');
                url.set_path(&format!("{base}/{repository}/resolve/{revision}/{path}"));
                url
            }
            Place::Web(url) => url.clone(),
        }
    }

    /// What it is called in messages, and what tells it from others: without queries, which can hold secrets.
    pub fn label(&self) -> String {
        match &self.place {
            Place::Hub { repository, revision, path } if revision == "main" => format!("hf://{repository}/{path}"),
            Place::Hub { repository, revision, path } => format!("hf://{repository}@{revision}/{path}"),
            Place::Web(url) => {
                let mut url = url.clone();
                url.set_query(None);
                url.set_fragment(None);
                url.into()
            }
        }
    }
}

/// Why an address of Hugging Face is none of a model.
fn hub_fault(path: &[&str]) -> &'static str {
    match path.last().copied().and_then(file_name) {
        None => "the file's name must end in .gguf, of letters, digits, - _ and . only",
        Some(_) => {
            "owner, repository, revision and folders may have letters, digits, - _ and . only; \
             instead of a revision such as refs/pr/1 give its commit"
        }
    }
}

/// A name under which a model may lie in the store: no separators, nothing hidden, and it says what it is.
fn file_name(name: &str) -> Option<String> {
    let signs = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'+');
    let fine = name.len() <= 200 && name.ends_with(".gguf") && !name.starts_with('.') && name.bytes().all(signs);
    fine.then(|| name.into())
}

fn wrong(text: &str, why: &str) -> Error {
    let text = ds4_gguf::printable(text);
    Error::Usage(format!("{text}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(text: &str) -> (String, String, String) {
        let endpoint = Url::parse("https://mirror.example/base/").expect("an address");
        match Source::parse(text, &Catalogue::new()) {
            Ok(Source::Remote(remote)) => (remote.url(&endpoint).into(), remote.label(), remote.file),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn names_repositories_and_addresses_are_told_apart() {
        let (url, label, file) = remote("mtp");
        assert_eq!(url, format!("https://mirror.example/base/antirez/deepseek-v4-gguf/resolve/main/{file}"));
        assert_eq!(label, format!("hf://antirez/deepseek-v4-gguf/{file}"));

        let (url, label, file) = remote("hf://me/mine@v1/deep/a.gguf");
        assert_eq!(url, "https://mirror.example/base/me/mine/resolve/v1/deep/a.gguf");
        assert_eq!((label.as_str(), file.as_str()), ("hf://me/mine@v1/deep/a.gguf", "a.gguf"));

        // What a browser shows is a page about the file; the file is meant.
        let (url, ..) = remote("https://huggingface.co/me/mine/blob/main/a.gguf");
        assert_eq!(url, "https://mirror.example/base/me/mine/resolve/main/a.gguf");

        let (url, label, file) = remote("http://files.example/x/b.gguf?key=secret#top");
        assert_eq!(url, "http://files.example/x/b.gguf?key=secret#top");
        assert_eq!((label.as_str(), file.as_str()), ("http://files.example/x/b.gguf", "b.gguf"));

        assert!(matches!(Source::parse("mini", &Catalogue::new()), Ok(Source::BuiltIn)));
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        assert!(matches!(Source::parse(manifest, &Catalogue::new()), Ok(Source::File(_))));
    }

    #[test]
    fn what_is_none_of_them_is_refused_in_a_line() {
        for (text, part) in [
            ("q3", "no model has this name; there are q2-imatrix, q2, "),
            ("missing.gguf", "no such file"),
            ("./nowhere/at/all", "no such file"),
            ("hf://me/a.gguf", "expected hf://OWNER/REPOSITORY/FILE.gguf"),
            ("hf://me/mine/../../a.gguf", "expected hf://"),
            ("hf://me/mine/a.bin", "expected hf://"),
            ("https://files.example/", "must end in .gguf"),
            ("https://files.example/a%2Fb.gguf", "must end in .gguf"),
            ("https://files.example/.gguf", "must end in .gguf"),
            ("https://huggingface.co/me/mine/resolve/main/a%20b.gguf", "must end in .gguf, of letters, digits"),
            ("https://huggingface.co/me/mine/resolve/refs%2Fpr%2F1/a.gguf", "refs/pr/1 give its commit"),
            ("https://huggingface.co/me/mine/resolve/main/a%20b/a.gguf", "revision and folders may have letters"),
            ("https://", "no address"),
            ("https://me:word@files.example/a.gguf", "with a password"),
            ("a\nb", "a\\nb: no model"),
        ] {
            let error = Source::parse(text, &Catalogue::new()).expect_err(text).to_string();
            assert!(error.contains(part) && !error.contains('\n') && !error.contains("me:word"), "{error}");
        }
    }

    proptest::proptest! {
        /// Whatever is asked for: a file that lies in the store's folder under its own name, or a line that refuses it.
        #[test]
        fn any_text_is_a_source_or_a_line(text in "(hf://|https?://|)[a-z./@%?#:\\[\\]\\PC\n]{0,40}(\\.gguf|)") {
            match Source::parse(&text, &Catalogue::new()) {
                Ok(Source::Remote(remote)) => {
                    let endpoint = Url::parse(HUGGING_FACE).expect("an address");
                    let path = Path::new(&remote.file);
                    proptest::prop_assert_eq!(path.file_name(), Some(path.as_os_str()));
                    proptest::prop_assert!(remote.url(&endpoint).has_host() && remote.file.ends_with(".gguf"));
                }
                Ok(_) => {}
                Err(error) => proptest::prop_assert!(!error.to_string().contains('\n')),
            }
        }
    }
}
