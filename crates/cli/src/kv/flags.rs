//! The server's flags that say where prefixes are kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ds4_kv::Tier;
use ds4_kv::store::{Disk, Remote, Store};

use crate::args::positive;
use crate::failure::Failure;

/// Space on the disk when nothing is said, in MB.
const SPACE_MB: usize = 4096;

/// The share of the disk's space that the tokens of answers may take.
const TURNS_SHARE: u64 = 16;

/// Where prefixes are kept beside memory.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Cache")]
pub(crate) struct KvFlags {
    /// Keep what was computed in this folder, so that a restart finds it; made if it is not there
    #[arg(long, value_name = "DIR")]
    kv_disk_dir: Option<PathBuf>,

    /// Megabytes that may be kept in the folder; what is used least goes first [default: 4096]
    #[arg(long, value_name = "N", value_parser = positive)]
    kv_disk_space_mb: Option<usize>,

    /// Keep it in an object store, too, which several machines can share: s3://BUCKET or s3://BUCKET/PREFIX, with
    /// AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION as usual
    #[arg(long, value_name = "URL")]
    kv_store: Option<String>,

    /// Tokens from which on the end of a prompt or an answer is kept in these places
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = tokens, allow_negative_numbers = true)]
    kv_cache_min_tokens: usize,

    #[command(flatten)]
    knobs: Knobs,
}

/// Other knobs of the C server's cache. They are checked as it does; nothing here needs them.
#[derive(Debug, clap::Args)]
struct Knobs {
    #[arg(long, value_name = "N", value_parser = tokens, hide = true, allow_negative_numbers = true)]
    kv_cache_cold_max_tokens: Option<usize>,
    #[arg(long, value_name = "N", value_parser = tokens, hide = true, allow_negative_numbers = true)]
    kv_cache_continued_interval_tokens: Option<usize>,
    #[arg(long, value_name = "N", value_parser = tokens, hide = true, allow_negative_numbers = true)]
    kv_cache_boundary_trim_tokens: Option<usize>,
    #[arg(long, value_name = "N", value_parser = tokens, hide = true, allow_negative_numbers = true)]
    kv_cache_boundary_align_tokens: Option<usize>,
    #[arg(long, hide = true)]
    kv_cache_reject_different_quant: bool,
}

impl KvFlags {
    /// The folder of `--kv-disk-dir`.
    pub(crate) fn disk_dir(&self) -> Option<&Path> {
        self.kv_disk_dir.as_deref()
    }

    /// Refuses what cannot be meant, and says which flags do nothing.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let least = self.kv_cache_min_tokens;
        if self.knobs.kv_cache_cold_max_tokens.is_some_and(|most| most != 0 && most < least) {
            let message =
                format!("--kv-cache-cold-max-tokens is 0 or at least --kv-cache-min-tokens, which is {least}");
            return Err(Failure::usage(message));
        }
        if self.kv_disk_dir.is_none() && self.kv_disk_space_mb.is_some() {
            eprintln!("ds4: --kv-disk-space-mb does nothing without --kv-disk-dir");
        }
        let unneeded = self.knobs.given();
        if !unneeded.is_empty() {
            eprintln!(
                "ds4: not needed and ignored, as prefixes are kept in pages that conversations share: {unneeded}"
            );
        }
        if self.knobs.kv_cache_reject_different_quant {
            eprintln!("ds4: --kv-cache-reject-different-quant does nothing: another model's prefixes are never used");
        }
        Ok(())
    }

    /// Tokens from which on the end of a prompt or an answer is kept.
    pub(crate) fn save_from(&self) -> usize {
        self.kv_cache_min_tokens
    }

    /// Opens the places, the nearest first. A folder that cannot be used is said and left out: the server can do without.
    pub(crate) fn open(&self) -> Result<Vec<Tier>, Failure> {
        let mut tiers = Vec::new();
        if let Some(dir) = &self.kv_disk_dir {
            let budget = self.space() - self.turns_space().unwrap_or(0);
            match Disk::open(dir) {
                Ok(disk) => tiers.push(Tier { store: Box::new(disk), name: "disk".into(), budget: Some(budget) }),
                Err(why) => eprintln!("ds4: --kv-disk-dir {why}; nothing is kept on disk"),
            }
        }
        if let Some(url) = &self.kv_store {
            let store = remote(url).map_err(|e| Failure::usage(format!("--kv-store {e}")))?;
            tiers.push(Tier { store: Box::new(store), name: "store".into(), budget: None });
        }
        Ok(tiers)
    }

    /// Where the tokens of answers are kept: with the machines that share a store, else on the disk.
    pub(crate) fn open_turns(&self) -> Result<Option<Arc<dyn Store>>, Failure> {
        if let Some(url) = &self.kv_store {
            let store = remote(url).map_err(|e| Failure::usage(format!("--kv-store {e}")))?;
            return Ok(Some(Arc::new(store)));
        }
        let disk = self.kv_disk_dir.as_ref().and_then(|dir| Disk::open(dir).ok()); // a failure was told before
        Ok(disk.map(|disk| Arc::new(disk) as Arc<dyn Store>))
    }

    /// The part of the disk's space that the tokens of answers may take; none where they are in a store.
    pub(crate) fn turns_space(&self) -> Option<u64> {
        self.kv_store.is_none().then(|| self.space() / TURNS_SHARE)
    }

    /// Bytes that may be kept in the folder.
    fn space(&self) -> u64 {
        (self.kv_disk_space_mb.unwrap_or(SPACE_MB) as u64) << 20
    }
}

impl Knobs {
    /// The names of those that were given and do nothing.
    fn given(&self) -> String {
        let knobs = [
            ("cold-max", self.kv_cache_cold_max_tokens),
            ("continued-interval", self.kv_cache_continued_interval_tokens),
            ("boundary-trim", self.kv_cache_boundary_trim_tokens),
            ("boundary-align", self.kv_cache_boundary_align_tokens),
        ];
        let given = knobs.iter().filter(|(_, value)| value.is_some());
        given.map(|(name, _)| format!("--kv-cache-{name}-tokens")).collect::<Vec<_>>().join(", ")
    }
}

/// An object store, with this process's environment.
pub(super) fn remote(url: &str) -> Result<Remote, ds4_kv::store::Error> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    Remote::open(url, std::env::vars_os().filter_map(text))
}

fn tokens(text: &str) -> Result<usize, String> {
    match text.parse::<u32>() {
        Ok(n) if n <= i32::MAX as u32 => Ok(n as usize),
        _ => Err("a whole number from 0 to 2147483647".into()),
    }
}
