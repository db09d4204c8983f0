//! One try to get the rest of a file: a request, and its body into the part.

use std::path::Path;

use reqwest::StatusCode;

use crate::network::{Answer, Clients, Request, Trouble, again, innermost};
use crate::origin::Origin;
use crate::part::{Part, could_begin};
use crate::progress::{Meter, Phase};
use crate::settings::Settings;
use crate::verify::MAGIC;
use crate::{Remote, space};

/// What a transfer works on.
pub(crate) struct Transfer<'a, 'm> {
    pub(crate) clients: &'a Clients,
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
        let here = known.as_ref().filter(|known| !self.part.is_doubted() && known.source == self.remote.label());
        if here.is_some_and(|known| known.size == Some(self.part.len())) && self.part.len() > 0 {
            return Ok(()); // Only the name is missing.
        }
        let label = self.remote.label();
        let request = self.request(&label, known.as_ref());
        let mut answer = request.send(self.clients, self.settings).await?;
        let mut version = self.version(&request, &answer)?;
        let meaning = self.meaning(&request, &answer, known.as_ref(), &version)?;
        if let (Meaning::Rest | Meaning::Complete, Some(known)) = (&meaning, &known) {
            // Another server may know less, and what is known still judges.
            version.sha256 = version.sha256.or_else(|| known.sha256.clone());
            version.size = version.size.or(known.size);
        }
        if let Meaning::Rest | Meaning::Whole = meaning {
            let missing = version.size.unwrap_or(self.remote.model.as_ref().map_or(0, |m| m.bytes()));
            space::check(self.folder(), missing.saturating_sub(self.part.len()))?;
        }
        let mut first = Vec::new();
        if let Meaning::Whole = meaning {
            first = self.first(&request, &mut answer).await?;
            self.part.restart()?;
        }
        // Emptied first, named then: never the name of one version on the bytes of another.
        if known.as_ref() != Some(&version) {
            version.write(&Origin::path(self.path))?;
        }
        match meaning {
            Meaning::Complete => Ok(()),
            _ => self.body(&request, &mut answer, first, version.size).await,
        }
    }

    /// The whole, or what is missing if that can be known to fit.
    fn request<'a>(&self, label: &'a str, known: Option<&'a Origin>) -> Request<'a> {
        let sum = self.remote.model.as_ref().is_some_and(|model| model.sha256.is_some())
            || known.is_some_and(|known| known.sha256.is_some());
        let etag = known.and_then(|known| known.etag.as_deref());
        let fits = sum || known.is_none() || etag.is_some();
        Request {
            url: self.remote.url(&self.settings.endpoint),
            label,
            from: if fits && !self.part.is_doubted() { self.part.len() } else { 0 },
            // Where a SHA-256 decides, another server's etag of the same bytes must not cost them.
            etag: etag.filter(|_| !sum),
        }
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
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
        let continues = known.map_or(version.sha256.is_some(), |known| known.goes_on_as(version));
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

    /// The first bytes of a whole file. Until they are a model's, what is there stays: a page of a proxy must not cost it.
    async fn first(&self, request: &Request<'_>, answer: &mut Answer) -> Result<Vec<u8>, Trouble> {
        let mut bytes = Vec::new();
        while bytes.len() < MAGIC.len() {
            let Some(piece) = self.piece(answer).await? else { break };
            bytes.extend_from_slice(&piece);
        }
        match bytes.is_empty() {
            true => Err(request.over("the server's file is empty".into())),
            false if could_begin(&bytes) => Ok(bytes),
            false => Err(request.over("what the server sends is no GGUF".into())),
        }
    }

    /// The next bytes; none at the end.
    async fn piece(&self, answer: &mut Answer) -> Result<Option<Vec<u8>>, Trouble> {
        let stall = self.settings.patience.stall;
        match tokio::time::timeout(stall, answer.response.chunk()).await {
            Ok(Ok(piece)) => Ok(piece.map(Into::into)),
            Ok(Err(e)) => Err(again(format!("the connection broke ({})", innermost(e)))),
            Err(_) => Err(again(format!("nothing came for {} s", stall.as_secs()))),
        }
    }

    async fn body(
        &mut self,
        request: &Request<'_>,
        answer: &mut Answer,
        first: Vec<u8>,
        size: Option<u64>,
    ) -> Result<(), Trouble> {
        self.meter.begin();
        let mut next = Some(first);
        while let Some(piece) = next {
            match size {
                Some(size) if self.part.len() + piece.len() as u64 > size => {
                    return Err(request.over("the server sends more than it announced".into()));
                }
                Some(_) => {}
                // Nobody knows how much there will be.
                None => space::check(self.folder(), piece.len() as u64)?,
            }
            self.part.write(&piece)?;
            self.meter.count(Phase::Downloading, self.part.len(), size);
            next = self.piece(answer).await?;
        }
        match size {
            Some(size) if self.part.len() < size => {
                Err(again(format!("the connection ended after {} of {size} bytes", self.part.len())))
            }
            _ => Ok(()),
        }
    }
}
