//! `ds4 up`: the one server, started or found.

mod model;

use std::time::{Duration, Instant};

use clap::{CommandFactory, Parser};
use ds4_hub::{PROGRESS_EVERY, short};
use ds4_supervise::{Ready, Wanted};
use serde_json::json;

use crate::config;
use crate::failure::Failure;
use crate::pull::display::event;
use crate::serve;
use crate::supervised::{Place, failure, parse, pid};
use model::{AUTO, Chooser};

/// Starts the one server of this machine's state directory, or finds the one that runs; waits until it answers; prints its URL.
#[derive(Debug, Parser)]
#[command(name = "ds4 up", bin_name = "ds4 up", no_binary_name = true, disable_help_subcommand = true, after_help = AFTER_HELP)]
struct Up {
    /// The model: a GGUF file, a name of ds4 models or an address, which is downloaded if it is not there, or mini, the small
    /// one built into this program. A server with another model is replaced, except by auto: whatever runs, the linked
    /// model, or what suits this machine's memory.
    /// Without it: whatever runs, $DS4_MODEL, the model that ds4 pull has linked, or mini
    #[arg(long, value_name = "NAME|FILE")]
    model: Option<String>,

    /// Port to listen at, where no server runs yet [default: that of the server that is replaced, or 8000]; 0 takes any
    /// that is free
    #[arg(long, value_name = "N")]
    port: Option<u16>,

    /// Need the server for this process: it ends when the last such process has. Without it, it stays until ds4 down
    #[arg(long, value_name = "PID", value_parser = pid)]
    for_pid: Option<u32>,

    /// How long to wait until it answers [default: $DS4_READY_TIMEOUT_MS, or 600 seconds]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,

    /// Print events as JSON objects, one a line: progress, ready, failed
    #[arg(long)]
    json: bool,

    /// More flags of ds4 serve, after --
    #[arg(last = true, value_name = "SERVER FLAGS")]
    flags: Vec<String>,
}

const AFTER_HELP: &str = "\
Examples:
  ds4 up                                   whatever runs, or a new server at port 8000
  ds4 up --model FILE -- --ctx 100000      with flags of ds4 serve
  curl $(ds4 up --for-pid $$)/v1/models    as long as this shell lives

There is one server for a state directory ($DS4_DIR, default ~/.pi/ds4), however many ask at once.
ds4 status says what runs, ds4 logs shows its log, ds4 down stops it.";

/// Flags that are said to `up` itself.
const OWN: &[&str] = &["--model", "-m", "--port", "--state-dir"];

/// The command line.
pub(crate) fn command() -> clap::Command {
    Up::command()
}

/// Runs `ds4 up` with the arguments that follow it.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let up: Up = parse(args)?;
    let json = up.json;
    up.run().inspect_err(|why| {
        if json {
            event(&json!({"event": "failed", "message": why.message()}));
        }
    })
}

impl Up {
    fn run(self) -> Result<(), Failure> {
        if let Some(flag) = self.flags.iter().find(|flag| OWN.contains(&flag.split('=').next().unwrap_or_default())) {
            return Err(Failure::usage(format!("{flag} after --: give it to ds4 up itself, before the --")));
        }
        let Place { dir, mut timings, stop } = Place::new()?;
        timings.ready_timeout = self.timeout.unwrap_or(timings.ready_timeout);
        let usual = Usual::of(&self.flags)?;
        let json = self.json;
        let chooser = Chooser { dir: &dir, stop: &stop, events: json };
        let named = self.model.as_deref().filter(|name| *name != AUTO);
        let mut wanted = Wanted {
            model: named.map(|name| chooser.named("--model", name)).transpose()?,
            model_asked: named.is_some(),
            port: self.port.or(usual.port),
            for_pid: self.for_pid,
            flags: self.flags,
        };
        let mut last: Option<Instant> = None;
        let mut say = |line: &str| {
            if !json {
                eprintln!("ds4: {line}");
            } else if last.is_none_or(|last| last.elapsed() >= PROGRESS_EVERY) {
                last = Some(Instant::now());
                event(&json!({"event": "progress", "message": short(line)}));
            }
        };
        let mut ready = ds4_supervise::up(&dir, &wanted, &timings, &stop, &mut say).map_err(failure)?;
        if ready.is_none() {
            // Nothing runs, and it was not said what should.
            wanted.model = Some(match usual.model {
                Some((origin, name)) => chooser.named(&origin, &name)?,
                None => chooser.unnamed(self.model.is_some())?,
            });
            ready = ds4_supervise::up(&dir, &wanted, &timings, &stop, &mut say).map_err(failure)?;
        }
        let Ready { url, pid, model, context, adopted } = ready.ok_or("no server runs, and none was started")?;
        if json {
            event(
                &json!({"event": "ready", "url": url, "pid": pid, "model": model, "context": context, "adopted": adopted}),
            );
        } else {
            println!("{url}");
        }
        Ok(())
    }
}

/// What the settings of servers say: a file, the environment, the flags after `--`.
#[derive(Default)]
struct Usual {
    /// Where it is said, and what.
    model: Option<(String, String)>,
    port: Option<u16>,
}

impl Usual {
    fn of(flags: &[String]) -> Result<Self, Failure> {
        if std::env::var_os("DS4_SERVER_BINARY").is_some_and(|name| !name.is_empty()) {
            // Another program, which may have other flags.
            return Ok(Self::default());
        }
        let settings = config::settle(&serve::command(), flags)?;
        let model = settings
            .said("model")
            .map(|(origin, path): (_, &std::path::PathBuf)| (origin.to_owned(), path.display().to_string()));
        Ok(Self { model, port: settings.said("port").map(|(_, port)| *port) })
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(n) if (0.001..=86_400.0).contains(&n) => Ok(Duration::from_secs_f64(n)),
        _ => Err("a number of seconds from 0.001 to 86400".into()),
    }
}
