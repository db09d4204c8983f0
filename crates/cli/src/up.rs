//! `ds4 up`: the one server, started or found.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{CommandFactory, Parser};
use ds4_engine::Machine;
use ds4_hub::{Catalogue, Progress, Source, Store};
use ds4_supervise::{Model, Ready, State, StateDir, Timings, Wanted};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::pull;
use crate::pull::display::Display;
use crate::supervised::{Place, SIGNALS, failure, parse, pid};

/// Starts the one server of this machine's state directory, or finds the one that runs; waits until it answers; prints its URL.
#[derive(Debug, Parser)]
#[command(name = "ds4 up", bin_name = "ds4 up", no_binary_name = true, disable_help_subcommand = true, after_help = AFTER_HELP)]
struct Up {
    /// The model: a GGUF file, a name of ds4 models or an address, which is downloaded if it is not there, or mini, the small
    /// one built into this program. A server with another model is replaced, except by auto: whatever runs, the linked
    /// model, or what suits this machine's memory.
    /// Without it: whatever runs, $DS4_MODEL, support/ds4flash.gguf in the state directory, or mini
    #[arg(long, value_name = "NAME|FILE")]
    model: Option<String>,

    /// Port to listen at, where no server runs yet [default: 8000]; 0 takes any that is free
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
/// A name for the link's model, or, without one, for what suits this machine.
const AUTO: &str = "auto";
/// Between two pieces of news in JSON.
const NEWS: Duration = Duration::from_millis(750);
/// Most characters of one.
const MOST: usize = 160;

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
        let (model, note) = model(self.model.as_deref(), &dir, self.json)?;
        let (port, for_pid, flags) = (self.port, self.for_pid, self.flags);
        let wanted = Wanted { model, model_asked: self.model.is_some_and(|name| name != AUTO), port, for_pid, flags };
        let mut last: Option<Instant> = None;
        let mut say = |line: &str| {
            if !self.json {
                eprintln!("ds4: {line}");
                if line.starts_with("starting")
                    && let Some(note) = note
                {
                    eprintln!("ds4: {note}");
                }
            } else if last.is_none_or(|last| last.elapsed() >= NEWS) {
                last = Some(Instant::now());
                let message: String = line.chars().take(MOST).collect();
                event(&json!({"event": "progress", "message": message}));
            }
        };
        let ready = ds4_supervise::up(&dir, &wanted, &timings, &stop, &mut say).map_err(failure)?;
        let Ready { url, pid, model, context, adopted } = ready;
        if self.json {
            event(
                &json!({"event": "ready", "url": url, "pid": pid, "model": model, "context": context, "adopted": adopted}),
            );
        } else {
            println!("{url}");
        }
        Ok(())
    }
}

fn event(event: &Value) {
    println!("{event}");
}

/// A model, and what is to be said about it.
type Chosen = (Model, Option<&'static str>);

/// The model that a name means. One of the catalogue, or one with an address, is downloaded if it is not there.
fn model(name: Option<&str>, dir: &StateDir, events: bool) -> Result<Chosen, Failure> {
    let variable = std::env::var("DS4_MODEL").ok().filter(|name| !name.is_empty());
    let (origin, name) = match (name, &variable) {
        (Some(name), _) if name != AUTO => ("--model", name),
        (_, Some(name)) => ("DS4_MODEL", name.as_str()),
        _ if dir.model_link().exists() => return Ok((Model::File(dir.model_link()), None)),
        (Some(_), None) => return fitting(dir, events),
        (None, None) => return Ok((Model::Builtin, Some(crate::builtin::NOTICE))),
    };
    let source = Source::parse(name, &Catalogue::new());
    match source.map_err(|e| Failure::usage(format!("{origin} {e}")))? {
        Source::BuiltIn => Ok((Model::Builtin, None)),
        Source::File(path) => Ok((Model::File(path), None)),
        source => obtain(&source, dir, &mut Display::new(events)).map(|path| (Model::File(path), None)),
    }
}

/// What suits this machine's memory, downloaded if it is not there; nothing while a server runs, whatever its model.
fn fitting(dir: &StateDir, events: bool) -> Result<Chosen, Failure> {
    let status = ds4_supervise::status(dir, &Timings::default()).map_err(failure)?;
    if matches!(status.state, State::Running | State::Starting) {
        return Ok((Model::Builtin, None));
    }
    let (catalogue, mut display) = (Catalogue::new(), Display::new(events));
    let ram = Machine::measure().map(|machine| machine.total);
    let pick = catalogue.pick(ram, cfg!(target_os = "macos")).map_err(|e| pull::failure(&e))?;
    display.note(&pick.why);
    pick.note.iter().for_each(|note| display.note(note));
    let source = Source::parse(&pick.model.name, &catalogue).map_err(|e| pull::failure(&e))?;
    obtain(&source, dir, &mut display).map(|path| (Model::File(path), None))
}

/// The file of a published model.
fn obtain(source: &Source, dir: &StateDir, display: &mut Display) -> Result<PathBuf, Failure> {
    let store = Store::at(dir.root());
    let settings = pull::settings(None).map_err(|e| pull::failure(&e))?;
    for signal in SIGNALS {
        let handled = signal_hook::flag::register(signal, Arc::clone(&settings.stop));
        handled.map_err(|e| format!("signal {signal} cannot be handled: {e}"))?;
    }
    let path = ds4_hub::obtain(source, &store, &settings, display);
    display.clear();
    path.map_err(|e| pull::failure(&e))?.ok_or_else(|| Failure::usage("a model without a file"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(n) if (0.001..=86_400.0).contains(&n) => Ok(Duration::from_secs_f64(n)),
        _ => Err("a number of seconds from 0.001 to 86400".into()),
    }
}
