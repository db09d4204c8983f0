//! An object store, which several machines can share: Amazon S3 and whatever speaks like it.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig,
};
use tokio::runtime::{self, Runtime};

use super::{Entry, Error, Store};
use crate::Segment;

/// How long it may take to connect, and to hear a short answer.
const SHORT: Duration = Duration::from_secs(3);
/// How long a segment may take.
const LONG: Duration = Duration::from_secs(60);
/// After a failure nobody asks for so long, after each further one for twice the time, up to the last.
const REST: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// A bucket, or what lies under a prefix of one. After a failure it is left alone for a while, so that an outage costs
/// nobody time.
pub struct Remote {
    url: String,
    prefix: Path,
    client: AmazonS3,
    runtime: Runtime,
    outage: Mutex<Option<Outage>>,
}

/// The last thing that happened was a failure.
struct Outage {
    why: String,
    until: Instant,
    rest: Duration,
}

impl Remote {
    /// A store by URL, `s3://BUCKET` or `s3://BUCKET/PREFIX`, with the usual variables of the environment: `AWS_REGION`,
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT_URL` for other servers than Amazon's, and so on. Nothing
    /// is asked of it yet: it may come up later.
    pub fn open(url: &str, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, Error> {
        let wrong = |why: &dyn std::fmt::Display| Error::new(url, why);
        let address =
            url.strip_prefix("s3://").ok_or_else(|| wrong(&"a store is s3://BUCKET or s3://BUCKET/PREFIX"))?;
        let (bucket, prefix) = address.split_once('/').unwrap_or((address, ""));
        if bucket.is_empty() || !bucket.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_')) {
            return Err(wrong(&"the bucket's name has letters, digits, - and . only: s3://BUCKET/PREFIX"));
        }
        let prefix = Path::parse(prefix.trim_end_matches('/')).map_err(|e| wrong(&e))?;
        // Whoever started the process may have chosen another provider of TLS already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = AmazonS3Builder::new();
        for (name, value) in environment {
            if let Some(key) = Some(&name).filter(|n| n.starts_with("AWS_")).and_then(|n| n.to_lowercase().parse().ok())
            {
                builder = builder.with_config(key, value);
            }
        }
        let options = ClientOptions::new().with_timeout(LONG).with_connect_timeout(SHORT).with_allow_http(true);
        let client = builder.with_bucket_name(bucket).with_client_options(options).with_retry(retry()).build();
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self {
            url: url.trim_end_matches('/').into(),
            prefix,
            client: client.map_err(|e| wrong(&e))?,
            runtime: runtime.map_err(|e| wrong(&e))?,
            outage: Mutex::new(None),
        })
    }

    fn outage(&self) -> MutexGuard<'_, Option<Outage>> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a name is.
    fn path(&self, name: &str) -> Path {
        name.split('/').filter(|part| !part.is_empty()).fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// Does something within a time, unless there is an outage.
    fn ask<T>(
        &self,
        name: &str,
        time: Duration,
        what: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, Error> {
        if let Some(outage) = &*self.outage() {
            let rest = outage.until.saturating_duration_since(Instant::now());
            if !rest.is_zero() {
                return Err(self.error(name, &outage.why, rest));
            }
        }
        let answer = self.runtime.block_on(async { tokio::time::timeout(time, what).await });
        let why = match answer {
            Ok(Ok(done)) => {
                *self.outage() = None;
                return Ok(done);
            }
            Ok(Err(object_store::Error::NotFound { .. })) => "no such bucket".into(),
            // Waiting does not help, and others may be allowed what this is not.
            Ok(Err(
                why @ (object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }),
            )) => return Err(Error::new(format_args!("{}/{name}", self.url), innermost(&why))),
            Ok(Err(why)) => innermost(&why),
            Err(_) => format!("no answer within {} s", time.as_secs()),
        };
        let mut outage = self.outage();
        let rest = outage.as_ref().map_or(REST[0], |last| (2 * last.rest).min(REST[1]));
        *outage = Some(Outage { why: why.clone(), until: Instant::now() + rest, rest });
        Err(self.error(name, &why, rest))
    }

    fn error(&self, name: &str, why: &str, again: Duration) -> Error {
        Error { again: Some(again), ..Error::new(format_args!("{}/{name}", self.url), why) }
    }

    /// The name of an object; none for what is not under the prefix.
    fn name(&self, path: &Path) -> Option<String> {
        let parts: Vec<_> = path.prefix_match(&self.prefix)?.collect();
        Some(parts.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join("/"))
    }
}

impl Store for Remote {
    fn list(&self, prefix: &str) -> Result<Vec<Entry>, Error> {
        let path = self.path(prefix);
        let objects = self.client.list(Some(&path)).try_collect::<Vec<ObjectMeta>>();
        // A whole bucket comes in parts of a thousand names.
        let time = if prefix.matches('/').count() > 1 { SHORT } else { LONG };
        let found = self.ask(prefix, time, objects)?;
        let entry = |object: ObjectMeta| {
            let name = self.name(&object.location)?;
            Some(Entry { name, bytes: object.size, used: object.last_modified.into() })
        };
        Ok(found.into_iter().filter_map(entry).collect())
    }

    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path(name);
        let whole = async {
            let result: GetResult = self.client.get(&path).await?;
            let bytes = result.meta.size;
            if bytes <= Segment::MOST_BYTES { result.bytes().await.map(Ok) } else { Ok(Err(bytes)) }
        };
        match self.ask(name, LONG, found(whole))? {
            None => Ok(None),
            Some(Ok(bytes)) => Ok(Some(bytes.into())),
            Some(Err(bytes)) => Err(Error::new(
                format_args!("{}/{name}", self.url),
                format_args!("{bytes} bytes are more than any segment has"),
            )),
        }
    }

    fn get_start(&self, name: &str, most: usize) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path(name);
        let range = GetOptions { range: Some(GetRange::Bounded(0..most as u64)), ..GetOptions::default() };
        let start = async { self.client.get_opts(&path, range).await?.bytes().await };
        Ok(self.ask(name, LONG, found(start))?.map(Vec::from))
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.path(name);
        let there = self.ask(name, SHORT, found(self.client.head(&path)))?;
        if there.is_none_or(|object| object.size != bytes.len() as u64) {
            self.ask(name, LONG, self.client.put(&path, bytes.to_vec().into()))?;
        }
        Ok(())
    }

    /// Stores that are shared have rules of their own for what is old.
    fn touch(&self, _name: &str) -> Result<(), Error> {
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        let path = self.path(name);
        self.ask(name, SHORT, found(self.client.delete(&path))).map(|_| ())
    }
}

/// One more try, soon.
fn retry() -> RetryConfig {
    let soon = Duration::from_millis(100);
    let backoff = BackoffConfig { init_backoff: soon, max_backoff: soon, base: 2.0 };
    RetryConfig { backoff, max_retries: 1, retry_timeout: SHORT }
}

/// None where there is no such name.
async fn found<T>(what: impl Future<Output = object_store::Result<T>>) -> object_store::Result<Option<T>> {
    match what.await {
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        found => found.map(Some),
    }
}

/// The cause of all, in one line, without the wrappers that repeat URL and time.
fn innermost(why: &dyn std::error::Error) -> String {
    let mut cause = why;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
