//! `ds4 connect`: what makes a coding agent use this machine's server, in a profile beside its own.
//!
//! - `target.rs`: the server, as a client needs to know it
//! - `settings.rs`: our settings in a client's file, beside what it and people have put there
//! - `profile.rs`: files, variables and the command of one client; printed, written, or run
//! - `codex.rs`, `claude.rs`, `opencode.rs`, `pi.rs`: what each of them reads
//! - `snippets.rs`: clients whose one configuration people edit themselves

mod claude;
mod codex;
mod opencode;
mod pi;
mod profile;
mod settings;
mod snippets;
mod target;

use std::path::PathBuf;

use clap::{CommandFactory, Parser, ValueEnum};
use ds4_supervise::StateDir;

use crate::args::{explain, positive};
use crate::failure::Failure;
use crate::supervised;
use profile::Profile;
use target::Target;

/// Shows, writes or uses a profile with which a coding agent asks the server of this machine. Its usual profile stays as it is.
#[derive(Debug, Parser)]
#[command(name = "ds4 connect", bin_name = "ds4 connect", no_binary_name = true, disable_help_subcommand = true, after_help = AFTER_HELP)]
struct Connect {
    /// The client
    client: Client,

    /// The server's URL [default: the one that ds4 status names, or http://127.0.0.1:8000]
    #[arg(long, value_name = "URL")]
    url: Option<String>,

    /// Context to tell the client, where no server can be asked [default: what the server says]
    #[arg(long, value_name = "N", value_parser = positive)]
    context: Option<usize>,

    /// The key that the server wants [default: $DS4_API_KEY, or one that says nothing]
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,

    /// Write into the profile's files what they lack, after showing it; what was there is kept as FILE.backup.N
    #[arg(long)]
    write: bool,

    /// Folder of the profile [default: profiles/CLIENT in the state directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Client {
    Codex,
    Claude,
    Opencode,
    Pi,
    Openclaw,
    Hermes,
}

const AFTER_HELP: &str = "\
Examples:
  ds4 connect codex                    what the profile is
  ds4 connect codex --write            its files, and the command that uses them
  ds4 connect codex -- exec \"Hello\"    starts the server if there is none, then Codex
  codex-ds4 exec \"Hello\"               the same; there are claude-ds4 and pi-ds4, too

The server that ds4 connect starts ends some seconds after its last client. For openclaw and hermes, which have one
configuration, it prints what to add. docs/clients.md has a page for each client.";

/// The command line.
pub(crate) fn command() -> clap::Command {
    Connect::command()
}

/// Runs `ds4 connect` with the arguments that follow it.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let end = args.iter().position(|arg| arg == "--");
    let (own, theirs) = match end {
        Some(end) => (&args[..end], Some(&args[end + 1..])),
        None => (args, None),
    };
    let connect = Connect::try_parse_from(own).map_err(|e| explain("ds4 connect", &e))?;
    let name = connect.name();
    if connect.write && theirs.is_some() {
        return Err(Failure::usage("--write and -- exclude each other: arguments after -- run the client"));
    }
    let state = StateDir::from_environment().map_err(supervised::failure)?;
    if let Some(text) = snippets::of(connect.client) {
        if connect.write || theirs.is_some() {
            let what = "has one configuration, which is yours; add what is printed to it";
            return Err(Failure::usage(format!("ds4 connect {name} only prints: {name} {what}")));
        }
        print!("{}", text(&connect.target(&state)?));
        return Ok(());
    }
    let dir = connect.dir.clone().unwrap_or_else(|| state.root().join("profiles").join(&name));
    let dir = std::path::absolute(&dir).map_err(|e| Failure::usage(format!("--dir {}: {e}", dir.display())))?;
    match theirs {
        None => {
            let profile = connect.profile(&dir, &connect.target(&state)?)?;
            if connect.write {
                profile.write(true)?
            };
            print!("{}", profile.text(!connect.write)?);
            Ok(())
        }
        Some(theirs) => {
            installed(&name)?;
            let target = match connect.url {
                Some(_) => connect.target(&state)?,
                None => connect.start()?,
            };
            let profile = connect.profile(&dir, &target)?;
            profile.write(false)?;
            Err(profile.become_client(theirs))
        }
    }
}

/// Whether a client is there, before a server is started for it, which may take minutes.
fn installed(name: &str) -> Result<(), Failure> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    match std::env::split_paths(&folders).any(|folder| folder.join(name).is_file()) {
        true => Ok(()),
        false => Err(Failure::from(format!("cannot run {name}: it is in no folder of PATH; is it installed?"))),
    }
}

impl Connect {
    fn name(&self) -> String {
        self.client.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn key(&self) -> Option<String> {
        let variable = std::env::var("DS4_API_KEY").ok();
        self.api_key.clone().or(variable).filter(|key| !key.is_empty())
    }

    /// The server that runs, or is told of.
    fn target(&self, state: &StateDir) -> Result<Target, Failure> {
        let url = self.url.clone().unwrap_or_else(|| target::url(state));
        Target::ask(&url, self.key(), self.context)
    }

    /// The server, started if there is none, for as long as this process and what it becomes live.
    fn start(&self) -> Result<Target, Failure> {
        Target::ask(&target::up()?, self.key(), self.context)
    }

    fn profile(&self, dir: &std::path::Path, target: &Target) -> Result<Profile, Failure> {
        Ok(match self.client {
            Client::Codex => codex::profile(dir, target),
            Client::Claude => claude::profile(dir, target),
            Client::Opencode => opencode::profile(dir, target),
            Client::Pi => pi::profile(dir, target),
            Client::Openclaw | Client::Hermes => return Err(Failure::usage("this client has no profile of ours")),
        })
    }
}
