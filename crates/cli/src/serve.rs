//! `ds4 serve`: the server.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser};
use ds4_dialog::Turns;
use ds4_engine::{Model, Options, Steering};
use ds4_server::{Config, Control, Keys, LogFormat, Policy, SteeringConfig};

use ds4_supervise::Description;

use crate::args::{explain, positive, read_text, refuse_foreign, sessions};
use crate::builtin;
use crate::config;
use crate::failure::Failure;
use crate::kv::KvFlags;
use crate::open::{self, Opened};
use crate::runtime::Runtime;
use crate::steering::SteeringFlags;
use crate::watched::Watched;

/// Serves the model over HTTP: the OpenAI chat and responses APIs and the Anthropic messages API.
#[derive(Debug, Parser)]
#[command(name = "ds4 serve", bin_name = "ds4 serve", no_binary_name = true, disable_help_subcommand = true, after_help = AFTER_HELP)]
struct Serve {
    #[command(flatten)]
    runtime: Runtime,

    /// Name or address to listen at; 0.0.0.0 lets other machines in, with a key or --insecure
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1", help_heading = "Server")]
    host: String,

    /// Port to listen at; 0 takes any that is free
    #[arg(long, value_name = "N", default_value_t = 8000, value_parser = port, help_heading = "Server")]
    port: u16,

    /// A key that clients must show; can be given several times. Others on this machine can see it: see --api-key-file
    #[arg(long, value_name = "KEY", help_heading = "Server")]
    api_key: Vec<String>,

    /// File with such keys, one on each line; lines that begin with # are comments
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    api_key_file: Option<PathBuf>,

    /// Let other machines in without a key
    #[arg(long, help_heading = "Server")]
    insecure: bool,

    /// Most tokens of an answer when the request does not say; the context's end cuts it in any case
    #[arg(short = 'n', long, value_name = "N", default_value_t = 393216, value_parser = positive, help_heading = "Server")]
    tokens: usize,

    /// Requests that run at once, each with room for a context [default: what memory allows, at most 8]
    #[arg(long, value_name = "N", value_parser = sessions, help_heading = "Server")]
    sessions: Option<usize>,

    /// Milliseconds of each step that prompts may take while answers are written
    #[arg(long, value_name = "MS", default_value_t = 250, value_parser = quantum, allow_negative_numbers = true, help_heading = "Server")]
    prefill_quantum: u64,

    /// Requests that may wait while others run; more are refused with 429
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = waiting, help_heading = "Server")]
    queue: usize,

    /// Tokenise answers that come back in a conversation, instead of putting back the tokens that were sampled
    #[arg(long, help_heading = "Server")]
    disable_exact_dsml_tool_replay: bool,

    /// Let the model write tool calls as it likes, instead of holding them to the tools' schemas
    #[arg(long, help_heading = "Server")]
    no_tool_constraint: bool,

    /// Which tokens --dir-steering-file steers: the final text of answers, all of answers, everything, or nothing
    #[arg(long, value_name = "NAME", default_value = "final-answer", value_parser = policy, help_heading = "Directional steering")]
    dir_steering_policy: Policy,

    /// Answers whose tokens are remembered
    #[arg(long, value_name = "N", default_value_t = 100000, value_parser = positive, help_heading = "Server")]
    tool_memory_max_ids: usize,

    /// Let web pages of any origin use the server
    #[arg(long, help_heading = "Server")]
    cors: bool,

    /// Read settings from this TOML file, whose keys are the names of these flags [default: $DS4_CONFIG]
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    config: Option<PathBuf>,

    /// Print all settings and where each comes from, and exit
    #[arg(long, help_heading = "Server")]
    print_config: bool,

    /// Go to this folder before anything else is opened
    #[arg(long, value_name = "DIR", help_heading = "Server")]
    chdir: Option<PathBuf>,

    /// Be the one server of this state directory, as ds4 up starts it: say so in its files, and end when nobody needs it
    #[arg(long, value_name = "DIR", help_heading = "Server")]
    state_dir: Option<PathBuf>,

    /// How the log on stderr is written: for people, or a JSON object a line
    #[arg(long, value_name = "FORMAT", value_parser = ["text", "json"], default_value = "text", help_heading = "Server")]
    log_format: String,

    /// Write prompts, cache decisions and answers to this file; they are private texts
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    trace: Option<PathBuf>,

    #[command(flatten)]
    kv: KvFlags,

    #[command(flatten)]
    steering: SteeringFlags,
}

fn policy(name: &str) -> Result<Policy, String> {
    match name {
        "final-answer" | "final" | "tool-safe" => Ok(Policy::FinalAnswer),
        "decoding" | "decode" => Ok(Policy::Decoding),
        "always" => Ok(Policy::Always),
        "off" | "none" => Ok(Policy::Off),
        _ => Err("final-answer, decoding, always or off".into()),
    }
}

const AFTER_HELP: &str = "\
Try it, in another terminal:
  curl http://127.0.0.1:8000/v1/chat/completions \\
    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"What is 7 + 8?\"}]}'
  curl http://127.0.0.1:8000/health

Clients want a base URL and any key, or one of --api-key-file:
  OpenAI SDKs     base_url http://127.0.0.1:8000/v1
  Anthropic SDKs  base_url http://127.0.0.1:8000

As many requests run at once as there are sessions, others wait in order. The first
SIGINT or SIGTERM lets the running requests end (exit 0), the second ends at once (130).
Every flag can be a line of --config FILE (queue = 8) and a variable (DS4_SERVER_QUEUE=8);
variables win over the file, flags over both. docs/server.md lists endpoints, fields,
limits and errors.";

/// Flags of the C server that come later, and why.
const LATER: &[(&[&str], &str)] =
    &[(&["-mt", "--mt", "--mpp"], "chooses Metal kernels, and this build has only the CPU")];

/// The command line.
pub(crate) fn command() -> clap::Command {
    Serve::command()
}

/// Runs `ds4 serve` with the arguments that follow it.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    args.iter().try_for_each(|arg| refuse_foreign(arg, LATER))?;
    let command = command();
    let settings = config::settle(&command, args)?;
    let serve = Serve::from_arg_matches(&settings.matches).map_err(|e| explain("ds4 serve", &e))?;
    if serve.print_config {
        print!("{}", settings.print(&command));
        return Ok(());
    }
    serve.runtime.check()?;
    serve.kv.check()?;
    if let Some(dir) = &serve.chdir {
        std::env::set_current_dir(dir).map_err(|e| Failure::from(format!("--chdir {}: {e}", dir.display())))?;
    }
    let watched = match &serve.state_dir {
        Some(dir) => Some(serve.watch(dir)?),
        None => None,
    };
    serve.run(watched.as_ref().map(Watched::control).unwrap_or_default())
}

impl Serve {
    /// Becomes the server of a state directory, with a watchdog.
    fn watch(&self, dir: &Path) -> Result<Watched, Failure> {
        // Not the link's name, which may point elsewhere tomorrow.
        let path = open::model_path(self.runtime.model.as_deref())?;
        let path = path.map(|path| std::fs::canonicalize(&path).unwrap_or(path));
        let name = path.as_deref().and_then(Path::file_stem).map(|name| name.to_string_lossy().into_owned());
        let description = Description {
            model_id: name.unwrap_or_else(|| builtin::NAME.into()),
            model_path: path,
            kv_dir: self.kv.disk_dir().map(|dir| std::path::absolute(dir).unwrap_or_else(|_| dir.into())),
            ctx: self.runtime.ctx as u64,
            port: self.port,
        };
        Watched::begin(dir, description)
    }

    /// Serves until it is asked to end.
    fn run(self, control: Arc<Control>) -> Result<(), Failure> {
        let serve = self;
        let keys = serve.keys()?;
        let addresses =
            ds4_server::addresses(&serve.host, serve.port, keys.is_empty() && !serve.insecure).map_err(|e| {
                if e.kind() == ErrorKind::PermissionDenied { Failure::usage(e.to_string()) } else { e.into() }
            })?;
        // Before the model is read, which may take minutes.
        if serve.port != 0 {
            addresses.iter().try_for_each(|address| {
                TcpListener::bind(address)
                    .map(drop)
                    .map_err(|e| Failure::from(format!("cannot listen at {address}: {e}; see --host and --port")))
            })?;
        }
        let prefill_quantum = Duration::from_millis(serve.prefill_quantum);
        let options = Options { prefill_quantum, save_from: serve.kv.save_from(), ..Options::default() };
        let opened = Opened::several(&serve.runtime, serve.sessions, options, serve.kv.open()?)?;
        let Serve { cors, tokens, queue, trace, tool_memory_max_ids, no_tool_constraint, .. } = serve;
        let constrain = !no_tool_constraint;
        let steering = serve.steering.open(&opened.model)?.map(|steering| {
            let Steering { directions, ffn, attention, .. } = steering;
            SteeringConfig { directions, ffn, attention, policy: serve.dir_steering_policy }
        });
        let log = if serve.log_format == "json" { LogFormat::Json } else { LogFormat::Text };
        let turns = match serve.disable_exact_dsml_tool_replay {
            true => None,
            false => Some(Arc::new(remembered(tool_memory_max_ids, &serve.kv, &opened.model)?)),
        };
        let config = Config {
            addresses,
            keys,
            cors,
            max_tokens: tokens,
            queue,
            turns,
            trace,
            constrain,
            steering,
            log,
            control,
        };
        ds4_server::run(Arc::new(opened.engine), opened.model, &config)?;
        Ok(())
    }

    /// The keys of both flags.
    fn keys(&self) -> Result<Keys, Failure> {
        let mut keys = Keys::default();
        let named = |why| Failure::usage(format!("invalid value for --api-key: {why}"));
        self.api_key.iter().try_for_each(|key| keys.add(key)).map_err(named)?;
        if let Some(path) = &self.api_key_file {
            let text = read_text(path)?;
            keys.add_lines(&text).map_err(|why| Failure::usage(format!("{}: {why}", path.display())))?;
        }
        Ok(keys)
    }
}

/// The tokens of answers, where prefixes are kept, too.
fn remembered(most: usize, kv: &KvFlags, model: &Model) -> Result<Turns, Failure> {
    let turns = Turns::new(most);
    match kv.open_turns()? {
        Some(store) => Ok(turns.saved_in(store, kv.turns_space(), &model.tokenizer)?),
        None => Ok(turns),
    }
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "a whole number from 0 to 65535".into())
}

fn quantum(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(n) if n <= 60_000 => Ok(n),
        _ => Err("a whole number from 0 to 60000".into()),
    }
}

fn waiting(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n <= 10_000 => Ok(n),
        _ => Err("a whole number from 0 to 10000".into()),
    }
}
