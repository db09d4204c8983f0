//! `ds4 kv`: what was computed once and is kept on a disk or in an object store.

mod flags;

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use ds4_kv::store::{Disk, Store};
use ds4_kv::{Catalogue, Header, Kept, Segment};

use crate::args::{explain, positive};
use crate::failure::Failure;
use crate::open;

pub(crate) use flags::KvFlags;

/// Looks after the prefixes that a server keeps (--kv-disk-dir, --kv-store).
#[derive(Parser)]
#[command(name = "ds4 kv", bin_name = "ds4 kv", disable_help_subcommand = true, after_help = AFTER_HELP)]
struct Kv {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
STORE is a folder, or s3://BUCKET/PREFIX with AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION
in the environment. All of this can be done while servers use the store.

A segment is what a stretch of a conversation left behind: up to 2048 tokens, their compressed rows, and the state at its
end, from which any conversation with the same beginning goes on. It is named by a key, the hash of all tokens up to its
end; the first digits of a key are enough.

Examples:
  ds4 kv ls ~/.ds4/kv                              what is there
  ds4 kv show ~/.ds4/kv 3f2a -m ds4flash.gguf      the text up to there
  ds4 kv prune ~/.ds4/kv --unused 7d --to-mb 2000  forget what nobody used for a week, keep 2 GB at most
  ds4 kv export ~/.ds4/kv 3f2a s3://cache/kv       copy a prefix to where other machines find it";

#[derive(Subcommand)]
enum Command {
    /// List segments: tokens, size, time since the last use, key; each conversation from its beginning
    Ls {
        /// Folder or s3://BUCKET/PREFIX
        #[arg(value_name = "STORE")]
        place: String,
    },
    /// Print the text of a prefix
    Show {
        /// Folder or s3://BUCKET/PREFIX
        #[arg(value_name = "STORE")]
        place: String,
        /// First digits of the key, as ls prints it
        key: String,
        /// GGUF file whose tokenizer is used, as for ds4
        #[arg(short, long, value_name = "FILE")]
        model: Option<PathBuf>,
    },
    /// Read everything and name what is damaged; exit code 1 where something is
    Verify {
        /// Folder or s3://BUCKET/PREFIX
        #[arg(value_name = "STORE")]
        place: String,
    },
    /// Forget what is worth least, from the ends of conversations
    Prune {
        /// Folder or s3://BUCKET/PREFIX
        #[arg(value_name = "STORE")]
        place: String,
        /// Megabytes that may stay
        #[arg(long, value_name = "N", value_parser = positive, required_unless_present = "unused")]
        to_mb: Option<usize>,
        /// Forget what was not used for so long: 30m, 12h, 7d
        #[arg(long, value_name = "TIME", value_parser = time)]
        unused: Option<Duration>,
        /// Only say what would be forgotten
        #[arg(long)]
        dry_run: bool,
    },
    /// Copy a prefix to another store
    Export {
        /// Folder or s3://BUCKET/PREFIX
        #[arg(value_name = "STORE")]
        place: String,
        /// First digits of the key, as ls prints it
        key: String,
        /// Folder, made if it is not there, or s3://BUCKET/PREFIX
        #[arg(value_name = "TO")]
        to: String,
    },
}

/// The command line.
pub(crate) fn command() -> clap::Command {
    Kv::command()
}

/// `ds4 kv …`
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let matches = command().try_get_matches_from(args).map_err(|e| explain("ds4 kv", &e))?;
    match Kv::from_arg_matches(&matches).map_err(|e| explain("ds4 kv", &e))?.command {
        Command::Ls { place } => list(&*open_store(&place)?),
        Command::Show { place, key, model } => show(&*open_store(&place)?, &key, model.as_deref()),
        Command::Verify { place } => verify(&*open_store(&place)?),
        Command::Prune { place, to_mb, unused, dry_run } => prune(&*open_store(&place)?, to_mb, unused, dry_run),
        Command::Export { place, key, to } => export(&*open_store(&place)?, &key, &to),
    }
}

/// Opens a store that is there.
fn open_store(place: &str) -> Result<Box<dyn Store>, Failure> {
    if place.contains("://") {
        return Ok(Box::new(flags::remote(place).map_err(|e| Failure::usage(e.to_string()))?));
    }
    match Path::new(place).is_dir() {
        true => Ok(Box::new(Disk::open(Path::new(place))?)),
        false => Err(format!("{place}: no such folder").into()),
    }
}

fn list(store: &dyn Store) -> Result<(), Failure> {
    let catalogue = Catalogue::read(store)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let now = SystemTime::now();
    let mut roots: Vec<_> = catalogue.kept().iter().map(|k| k.name.root).collect();
    roots.dedup();
    for root in roots {
        let kept = || catalogue.kept().iter().filter(|k| k.name.root == root);
        let bytes: u64 = kept().map(|k| k.bytes).sum();
        writeln!(out, "model {}: {} segments, {}", short(root), kept().count(), megabytes(bytes))?;
        writeln!(out, "{:>17} {:>12} {:>8}  {:12}  after", "tokens", "size", "used", "key")?;
        for kept in catalogue.in_order(root) {
            let start = kept.start.map_or("?".into(), |start| start.to_string());
            let tokens = format!("{start}..{}", kept.name.end);
            let (size, used) = (megabytes(kept.bytes), age(now, kept.used));
            let parent = if kept.name.parent == root { "-".into() } else { short(kept.name.parent) };
            writeln!(out, "{tokens:>17} {size:>12} {used:>8}  {}  {parent}", short(kept.name.key))?;
        }
    }
    writeln!(out, "{} segments, {}", catalogue.kept().len(), megabytes(catalogue.bytes()))?;
    Ok(out.flush()?)
}

fn show(store: &dyn Store, key: &str, model: Option<&Path>) -> Result<(), Failure> {
    let catalogue = Catalogue::read(store)?;
    let tokenizer = open::tokenizer_of(model)?;
    let mut tokens = Vec::new();
    for kept in whole_path(&catalogue, find(&catalogue, key)?)? {
        let name = kept.name.to_string();
        let header = store.get_start(&name, Header::MOST_BYTES)?.ok_or_else(|| format!("{name} is gone"))?;
        tokens.extend(Header::decode(&header).map_err(|e| format!("{name}: {e}"))?.tokens);
    }
    if let Some(token) = tokens.iter().find(|token| tokenizer.token_bytes(**token).is_none()) {
        let message = format!("token {token} is not one of this model's; -m FILE names the model that wrote it");
        return Err(Failure::usage(message));
    }
    let mut out = std::io::stdout().lock();
    out.write_all(&tokenizer.decode_bytes(&tokens))?;
    Ok(writeln!(out)?)
}

fn verify(store: &dyn Store) -> Result<(), Failure> {
    let catalogue = Catalogue::read(store)?;
    let mut damaged = 0;
    let mut gone = 0;
    for kept in catalogue.kept() {
        let name = kept.name.to_string();
        // A server may have forgotten it meanwhile.
        let Some(bytes) = store.get(&name)? else {
            gone += 1;
            continue;
        };
        let segment = Segment::decode(&bytes).map_err(|e| e.to_string());
        let why = match segment {
            Ok(segment) if segment.name(kept.name.root) == kept.name => continue,
            Ok(_) => "it is not the segment that its name says".into(),
            Err(why) => why,
        };
        damaged += 1;
        println!("{name}: {why}");
    }
    let lost = catalogue.kept().iter().filter(|k| k.start.is_none()).count();
    let (whole, bytes) = (catalogue.kept().len() - damaged - gone, megabytes(catalogue.bytes()));
    println!("{whole} segments whole, {damaged} damaged, {lost} without what comes before; {bytes}");
    if damaged == 0 { Ok(()) } else { Err(Failure::silent(1)) }
}

fn prune(store: &dyn Store, to_mb: Option<usize>, unused: Option<Duration>, dry_run: bool) -> Result<(), Failure> {
    let catalogue = Catalogue::read(store)?;
    let now = SystemTime::now();
    let old = unused.map_or(Vec::new(), |time| catalogue.unused_since(now.checked_sub(time).unwrap_or(now)));
    let most = to_mb.map_or(u64::MAX, |mb| (mb as u64) << 20);
    let mut forgotten = catalogue.surplus(most, None, now);
    forgotten.extend(old.into_iter().filter(|kept| !forgotten.contains(kept)).collect::<Vec<_>>());
    let bytes: u64 = forgotten.iter().map(|k| k.bytes).sum();
    if !dry_run {
        forgotten.iter().try_for_each(|kept| store.remove(&kept.name.to_string()))?;
    }
    let verb = if dry_run { "would forget" } else { "forgot" };
    let stays = megabytes(catalogue.bytes() - bytes);
    println!("{verb} {} segments, {}; {stays} stay", forgotten.len(), megabytes(bytes));
    Ok(())
}

fn export(store: &dyn Store, key: &str, to: &str) -> Result<(), Failure> {
    let catalogue = Catalogue::read(store)?;
    let target: Box<dyn Store> = match to.contains("://") {
        true => open_store(to)?,
        false => Box::new(Disk::open(Path::new(to))?),
    };
    let path = whole_path(&catalogue, find(&catalogue, key)?)?;
    for kept in &path {
        let name = kept.name.to_string();
        let bytes = store.get(&name)?.ok_or_else(|| format!("{name} is gone"))?;
        Segment::decode(&bytes).map_err(|e| format!("{name}: {e}"))?;
        target.put(&name, &bytes)?;
    }
    println!("{to}: {} segments, {}", path.len(), megabytes(path.iter().map(|k| k.bytes).sum()));
    Ok(())
}

/// The one segment whose key begins like this.
fn find<'a>(catalogue: &'a Catalogue, key: &str) -> Result<&'a Kept, Failure> {
    let mut found = catalogue.kept().iter().filter(|k| k.name.key.to_string().starts_with(key));
    match (found.next(), found.next()) {
        (Some(kept), None) => Ok(kept),
        (None, _) => Err(format!("no segment has a key that begins with {key}; ds4 kv ls lists them").into()),
        (Some(_), Some(_)) => Err(format!("several keys begin with {key}: give more digits").into()),
    }
}

/// What leads to a segment, from the first token.
fn whole_path<'a>(catalogue: &'a Catalogue, kept: &Kept) -> Result<Vec<&'a Kept>, Failure> {
    match kept.start {
        Some(_) => Ok(catalogue.path(kept)),
        None => Err(format!("what comes before {} is not there any more", short(kept.name.key)).into()),
    }
}

/// The first digits of a key.
fn short(key: ds4_kv::Key) -> String {
    key.to_string()[..12].into()
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// How long ago, in one word.
fn age(now: SystemTime, then: SystemTime) -> String {
    let seconds = now.duration_since(then).map_or(0, |t| t.as_secs());
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

/// 30m, 12h, 7d.
fn time(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86400)];
    let parsed = units.iter().find_map(|(unit, seconds)| {
        let number = text.strip_suffix(unit)?.parse::<u32>().ok()?;
        Some(Duration::from_secs(u64::from(number) * seconds))
    });
    parsed.ok_or_else(|| "a whole number and s, m, h or d, as 12h".into())
}
