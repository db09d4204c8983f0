//! `ds4 status`: what runs.

use std::time::{Duration, UNIX_EPOCH};

use clap::{CommandFactory, Parser};
use ds4_supervise::{LeaseRecord, State, Status};
use serde_json::json;

use crate::failure::Failure;
use crate::supervised::{Place, failure, parse};

/// Says what server runs, and who needs it.
#[derive(Debug, Parser)]
#[command(name = "ds4 status", bin_name = "ds4 status", no_binary_name = true, disable_help_subcommand = true, after_help = AFTER_HELP)]
struct Arguments {
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
States: running, starting, stopping, stopped, stale (server.json is of a server that is gone; ds4 up goes on from there).
Exit codes: 0 running, 3 not.";

/// What the exit code says when no server takes requests.
const NOT_RUNNING: u8 = 3;

/// The year 5138, in milliseconds: anybody can write a lease.
const MOST: u64 = 100_000_000_000_000;

/// The command line.
pub(crate) fn command() -> clap::Command {
    Arguments::command()
}

/// Runs `ds4 status` with the arguments that follow it.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let arguments: Arguments = parse(args)?;
    let Place { dir, timings, .. } = Place::new()?;
    let status = ds4_supervise::status(&dir, &timings).map_err(failure)?;
    if arguments.json {
        let record = status.record.as_ref();
        let leases: Vec<_> =
            status.leases.iter().map(|l| json!({"pid": l.pid, "cwd": l.cwd, "since": since(l)})).collect();
        println!(
            "{}",
            json!({
                "state": status.state.name(),
                "url": record.filter(|record| !record.starting).map(|record| &record.base_url),
                "pid": status.pid,
                "model": record.and_then(|record| record.model_id.as_ref()),
                "context": record.and_then(|record| record.ctx),
                "leases": leases,
                "kept": status.kept,
                "adopted": record.is_some_and(|record| record.adopted),
                "log": dir.log(),
                "dir": dir.root(),
            })
        );
    } else {
        print(&status);
        println!("log: {}", dir.log().display());
    }
    if status.state == State::Running { Ok(()) } else { Err(Failure::silent(NOT_RUNNING)) }
}

fn print(status: &Status) {
    let pid = status.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
    println!("{}{pid}", status.state.name());
    if let Some(record) = &status.record {
        let silent = status.state == State::Starting && !record.starting;
        println!("url: {}{}", record.base_url, if silent { " (does not answer)" } else { "" });
        if record.adopted {
            println!("adopted: ds4 did not start it and does not end it");
        }
        if let Some(model) = &record.model_id {
            println!("model: {model}");
        }
        if let Some(context) = record.ctx {
            println!("context: {context}");
        }
    }
    if let Some(why) = &status.stale {
        println!("stale: {why}");
    }
    for lease in &status.leases {
        println!("needed by: process {} in {} since {}", lease.pid, lease.cwd, since(lease));
    }
    if status.kept && status.pid.is_some() && !status.record.as_ref().is_some_and(|record| record.adopted) {
        println!("kept until ds4 down");
    }
}

/// When a lease was taken.
fn since(lease: &LeaseRecord) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(lease.started_at.min(MOST));
    ds4_supervise::iso(time)
}
