//! One try to get the rest of a file: a request, and its body into the part.

use std::path::Path;

use reqwest::{Client, StatusCode};

use crate::network::{Answer, Request, Trouble, again, innermost};
use crate::origin::Origin;
use crate::part::{Part, could_begin};
use crate::progress::{Meter, Phase};
use crate::settings::Settings;
use crate::{Error, Remote, space};

/// What a transfer works on.
pub(crate) struct Transfer<'a, 'm> {
    pub(crate) client: &'a Client,
    pub(crate) settings: &'a Settings,
    pub(crate) remote: &'a Remote,
    /// The file that it will be.
    pub(crate) path: &'a Path,
    pub(crate) part: &'a mut Part,
    pub(crate) meter: &'a mut Meter<'m>,
}

/// What follows from an answer's headers.
enum Meaning {
    /// The body is the whole file.
    Whole,
    /// The body is what is missing.
    Rest,
    /// Everything is there.
    Complete,
}

impl Transfer<'_, '_> {
    /// Gets what is missing; the version that it is of is in the origin file before the first byte.
    pub(crate) async fn run(&mut self) -> Result<(), Trouble> {
        let known = Origin::read(&Origin::path(self.path));
        let label = self.remote.label();
        let request = Request {
            url: self.remote.url(&self.settings.endpoint),
            label: &label,
            from: self.part.len(),
            etag: known.as_ref().and_then(|known| known.etag.as_deref()),
        };
        let mut answer = request.send(self.client, self.settings).await?;
        let version = self.version(&request, &answer)?;
        let meaning = self.meaning(&request, &answer, known.as_ref(), &version)?;
        if let Meaning::Whole = meaning {
            self.part.restart()?;
        }
        // Emptied first, named then: never the name of one version on the bytes of another.
        if known.as_ref() != Some(&version) {
            version.write(&Origin::path(self.path))?;
        }
        if let Meaning::Complete = meaning {
            return Ok(());
        }
        let missing = version.size.unwrap_or(self.remote.model.as_ref().map_or(0, |m| m.bytes()));
        let folder = self.path.parent().unwrap_or(Path::new("."));
        space::check(folder, missing.saturating_sub(self.part.len()))?;
        self.body(&request, &mut answer, version.size).await
    }

    /// What the server says that the file is; contradictions are named.
    fn version(&self, request: &Request<'_>, answer: &Answer) -> Result<Origin, Trouble> {
        let status = answer.response.status();
        if !matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE) {
            return Err(request.refused(answer, self.settings));
        }
        if status == StatusCode::OK && answer.is_page() {
            let page =
                "the server answers with a page for people, not with a model (a proxy or a login may be in between)";
            return Err(request.over(page.into()));
        }
        let model = self.remote.model.as_ref();
        let sizes = [model.and_then(|m| m.size), answer.linked_size, answer.size()];
        let mut known = sizes.into_iter().flatten();
        let size = known.next();
        if let Some(other) = known.find(|other| Some(*other) != size) {
            let expected = size.unwrap_or_default();
            return Err(
                request.over(format!("the file should have {expected} bytes and the server has one of {other}"))
            );
        }
        let sha256 = model.and_then(|m| m.sha256.clone()).or_else(|| answer.linked_sha256.clone());
        Ok(Origin { source: self.remote.label(), size, sha256, etag: answer.etag() })
    }

    fn meaning(
        &self,
        request: &Request<'_>,
        answer: &Answer,
        known: Option<&Origin>,
        version: &Origin,
    ) -> Result<Meaning, Trouble> {
        // Bytes of unknown origin (the C program's script leaves such) are tried where a SHA-256 will judge them.
        let continues = known.map_or(version.sha256.is_some(), |known| known.same(version));
        let range = answer.range();
        match answer.response.status() {
            StatusCode::OK => Ok(Meaning::Whole),
            _ if request.from == 0 => {
                Err(request.over("the server sends a part although the whole was asked for".into()))
            }
            StatusCode::PARTIAL_CONTENT if continues && range.is_some_and(|r| r.0 == Some(request.from)) => {
                Ok(Meaning::Rest)
            }
            StatusCode::RANGE_NOT_SATISFIABLE if continues && version.size == Some(request.from) => {
                Ok(Meaning::Complete)
            }
            _ => Err(Trouble::Anew("the file has changed since it was begun".into())),
        }
    }

    async fn body(&mut self, request: &Request<'_>, answer: &mut Answer, size: Option<u64>) -> Result<(), Trouble> {
        self.meter.begin();
        let stall = self.settings.patience.stall;
        let mut checked = false;
        loop {
            self.meter.count(Phase::Downloading, self.part.len(), size);
            let piece = match tokio::time::timeout(stall, answer.response.chunk()).await {
                Ok(Ok(Some(piece))) => piece,
                Ok(Ok(None)) => break,
                Ok(Err(e)) => return Err(again(format!("the connection broke ({})", innermost(e)))),
                Err(_) => return Err(again(format!("nothing came for {} s", stall.as_secs()))),
            };
            if size.is_some_and(|size| self.part.len() + piece.len() as u64 > size) {
                return Err(request.over("the server sends more than it announced".into()));
            }
            if !checked && self.part.len() == 0 {
                if !could_begin(&piece) {
                    return Err(request.over("what the server sends is no GGUF".into()));
                }
                checked = true;
            }
            self.part.write(&piece)?;
        }
        match size {
            Some(size) if self.part.len() < size => {
                Err(again(format!("the connection ended after {} of {size} bytes", self.part.len())))
            }
            _ if self.part.len() == 0 => Err(Trouble::Over(Error::Server {
                from: request.label.into(),
                problem: "the server's file is empty".into(),
            })),
            _ => Ok(()),
        }
    }
}
