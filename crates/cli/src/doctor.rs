//! `ds4 doctor`: what is wrong, and what this machine can run.

mod gpus;

use clap::{CommandFactory, Parser};
use ds4_cpu::MachineLimits;
use ds4_engine::Machine;
use ds4_hub::{Catalogue, Store};
use ds4_supervise::doctor::{self, Recovery};
use ds4_supervise::{StateDir, Timings};

use crate::failure::Failure;
use crate::open::existing;
use crate::supervised::{Place, failure, parse};

/// Looks at what earlier servers left, and says what this machine can run and how fast.
#[derive(Debug, Parser)]
#[command(name = "ds4 doctor", bin_name = "ds4 doctor", no_binary_name = true, disable_help_subcommand = true, after_help = AFTER_HELP)]
struct Arguments {
    /// Remove what a dead server left, if nobody changes anything and none lives
    #[arg(long)]
    fix: bool,
}

const AFTER_HELP: &str = "\
Nothing is ever ended: a process that lives is named, and to end it is your decision (ds4 down, or kill PID).
Exit codes of --fix: 0 clean, 1 somebody changes something, 2 a server lives.";

/// Models of the catalogue, and the GB that one token of each reads: sums over the tensors of its file (docs/performance.md),
/// attention, shared experts, output, and the routed experts of one token.
const PER_TOKEN: [(&str, f64); 2] = [("q2-imatrix", 9.3), ("q4-imatrix", 11.1)];

/// The command line.
pub(crate) fn command() -> clap::Command {
    Arguments::command()
}

/// Runs `ds4 doctor` with the arguments that follow it.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let arguments: Arguments = parse(args)?;
    let Place { dir, .. } = Place::new()?;
    println!("state directory: {}", dir.root().display());
    for line in doctor::inspect(&dir).map_err(failure)? {
        println!("{line}");
    }
    if !arguments.fix {
        needed(&dir)?;
        linked(&dir);
        machine();
        return Ok(());
    }
    match doctor::recover(&dir).map_err(failure)? {
        Recovery::AlreadyClean => println!("lifecycle already clean"),
        Recovery::Cleaned(pid, leases) => {
            let pid = pid.map(|pid| format!(" of process {pid}")).unwrap_or_default();
            println!("removed the state{pid} and {leases} leases");
        }
        Recovery::StillAlive(pid) => return Err(Failure::coded(format!("refuse: pid {pid} still alive."), 2)),
        Recovery::LockHeld(owner) => return Err(Failure::coded(format!("the lifecycle lock is held; {owner}"), 1)),
    }
    Ok(())
}

/// Why a server stays, and where it says what is wrong.
fn needed(dir: &StateDir) -> Result<(), Failure> {
    let status = ds4_supervise::status(dir, &Timings::from_environment().map_err(failure)?).map_err(failure)?;
    let kept = if status.kept { ", kept until ds4 down" } else { "" };
    println!("server: {}, {} leases{kept}; log: {}", status.state.name(), status.leases.len(), dir.log().display());
    Ok(())
}

/// The model that answers where none is named.
fn linked(dir: &StateDir) {
    let store = Store::at(dir.root());
    match existing(store.link()) {
        Ok(Some(link)) => {
            let file = std::fs::canonicalize(&link).unwrap_or(link);
            let state = ds4_gguf::File::open(&file)
                .map_or_else(|why| format!("cannot be used: {why}"), |_| file.display().to_string());
            println!("linked model: {state}");
        }
        Ok(None) => println!("linked model: none ({} is not there); ds4 pull", store.link().display()),
        Err(why) => println!("linked model: {}", why.message()),
    }
}

/// What this machine has, and what fits.
fn machine() {
    let Some(machine) = Machine::measure() else {
        println!("memory: unknown");
        return;
    };
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    println!("memory: {:.0} GB, {:.0} GB of it free", gigabytes(machine.total), gigabytes(machine.available));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    gpus::lines().iter().for_each(|line| println!("{line}"));
    let read = match MachineLimits::measure(threads) {
        Ok(limits) => {
            println!(
                "memory is read at {:.0} GB/s by {threads} threads, measured now, beside whatever else runs",
                limits.read / 1e9
            );
            Some(limits.read / 1e9)
        }
        Err(why) => {
            println!("the rate of memory cannot be measured: {why}");
            None
        }
    };
    let catalogue = Catalogue::new();
    for (name, token) in PER_TOKEN {
        let Some(model) = catalogue.find(name) else { continue };
        let fits = model.fits(machine.total);
        let rate = read.filter(|_| fits).map(|read| format!(", at most {:.1} tokens/s", read / token));
        let (fits, rate) = (if fits { "fits" } else { "does not fit" }, rate.unwrap_or_default());
        println!("{name} ({:.0} GB, wants {} GB): {fits}{rate}", model.size_gb, model.ram_gb);
    }
    let pick = catalogue.pick(Some(machine.total), cfg!(target_os = "macos"));
    pick.ok().and_then(|pick| pick.note).iter().for_each(|note| println!("  {note}"));
    println!("V4-mini (built in): fits");
}
