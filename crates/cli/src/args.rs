//! The flags of `ds4`, compatible with the C program's.

use std::num::ParseIntError;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser};
use ds4_dialog::Think;
use ds4_engine::Sampling;

use crate::commands;
use crate::failure::Failure;
use crate::runtime::Runtime;
use crate::steering::SteeringFlags;

/// Runs DeepSeek V4 locally: one prompt with -p, a conversation without.
#[derive(Debug, Parser)]
#[command(name = "ds4", version, disable_help_subcommand = true, after_help = AFTER_HELP)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) runtime: Runtime,

    /// Answer this prompt and exit. A prompt that begins with <｜begin▁of▁sentence｜> is taken as rendered text
    #[arg(short, long, value_name = "TEXT", help_heading = "Prompt and generation", allow_hyphen_values = true)]
    prompt: Option<String>,

    /// Read the prompt from a file
    #[arg(long, value_name = "FILE", help_heading = "Prompt and generation")]
    prompt_file: Option<PathBuf>,

    /// System text, also -sys; empty for none [default: "You are a helpful assistant"]
    #[arg(long, value_name = "TEXT", help_heading = "Prompt and generation", allow_hyphen_values = true)]
    pub(crate) system: Option<String>,

    /// Most tokens to generate [default: 50000; 128 with --dump-logprobs]
    #[arg(short = 'n', long, value_name = "N", value_parser = positive, help_heading = "Prompt and generation")]
    pub(crate) tokens: Option<usize>,

    /// Sampling temperature, 0 to 100; 0 always takes the most probable token
    #[arg(long, value_name = "F", default_value_t = 1.0, value_parser = temperature,
          help_heading = "Prompt and generation", allow_negative_numbers = true)]
    temp: f32,

    /// Draw from the most probable tokens up to this total, 0 to 1
    #[arg(long, value_name = "F", default_value_t = 1.0, value_parser = share, help_heading = "Prompt and generation",
          allow_negative_numbers = true)]
    top_p: f32,

    /// Drop tokens less probable than this times the most probable one, 0 to 1
    #[arg(long, value_name = "F", default_value_t = 0.05, value_parser = share, help_heading = "Prompt and generation",
          allow_negative_numbers = true)]
    min_p: f32,

    /// Start of the random numbers, for repeatable answers [default: the time]
    #[arg(long, value_name = "N", value_parser = seed, help_heading = "Prompt and generation")]
    seed: Option<u64>,

    /// Think before answering (the default); the last of the three think flags wins
    #[arg(long, overrides_with_all = ["think_max", "nothink"], help_heading = "Prompt and generation")]
    think: bool,
    /// Think as hard as possible; needs --ctx of at least 393216
    #[arg(long, overrides_with_all = ["think", "nothink"], help_heading = "Prompt and generation")]
    think_max: bool,
    /// Answer at once
    #[arg(long, overrides_with_all = ["think", "think_max"], help_heading = "Prompt and generation")]
    nothink: bool,

    /// Words about effort that the checkpoint knows [default: by the model's name]
    #[arg(long, value_name = "NAME", value_parser = ["april", "0731"], help_heading = "Prompt and generation")]
    pub(crate) release: Option<String>,

    /// Print what is in the model file and exit
    #[arg(long, help_heading = "Diagnostics")]
    pub(crate) inspect: bool,

    /// Print the prompt's tokens, taken exactly as written, and exit
    #[arg(long, help_heading = "Diagnostics")]
    pub(crate) dump_tokens: bool,

    /// Write the greedy continuation with the most probable tokens of each step as JSON
    #[arg(long, value_name = "FILE", help_heading = "Diagnostics")]
    pub(crate) dump_logprobs: Option<PathBuf>,

    /// Tokens per step in --dump-logprobs, at most 128
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = positive, help_heading = "Diagnostics")]
    pub(crate) logprobs_top_k: usize,

    /// Write all logits after the prompt as JSON
    #[arg(long, value_name = "FILE", help_heading = "Diagnostics")]
    pub(crate) dump_logits: Option<PathBuf>,

    /// Score a text: the first 32 tokens are given, up to -n more are predicted
    #[arg(long, value_name = "FILE", help_heading = "Diagnostics")]
    pub(crate) perplexity_file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) steering: SteeringFlags,
}

const AFTER_HELP: &str = "\
Without -p or --prompt-file, ds4 starts a conversation; /help lists its commands.

Examples:
  ds4 -p \"What is 7 + 8?\"                          the built-in model answers
  ds4 -m ds4flash.gguf --nothink -p \"Hello\"         a real model, without thinking
  ds4 pull                                         downloads V4 Flash; ds4 models lists all
  ds4 serve                                        the same over HTTP, for SDKs and agents
  ds4 up                                           a server in the background; ds4 down, status, logs, doctor
  ds4 kv --help                                    prefixes that a server keeps on disk
  ds4 lab inspect ds4flash.gguf                    what is in a file
  ds4 help up                                      the same as ds4 up --help
  ds4 lab --help                                   making and measuring models
  ds4 man                                          the manual page; ds4 completions for shells

Environment: DS4_MODEL (model file), DS4_THREADS (threads), DS4_LOCK_FILE (instance lock, /tmp/ds4.lock).
Exit codes: 0 success, 1 failure, 2 bad usage or another instance running, 130 interrupted.";

/// Flags that other programs, or earlier versions, have.
pub(crate) const ELSEWHERE: &[(&[&str], &str)] = &[
    (&["--server"], "is gone; the server is a program of its own (ds4-server)"),
    (&["--metal-graph-generate"], "is gone; -p generates"),
    (
        &["--imatrix-dataset", "--imatrix-out", "--imatrix-max-prompts", "--imatrix-max-tokens"],
        "is not built yet: collecting an importance matrix comes with the quantiser",
    ),
    (
        &[
            "--head-test",
            "--first-token-test",
            "--metal-graph-test",
            "--metal-graph-full-test",
            "--metal-graph-prompt-test",
        ],
        "is a diagnostic of the C program; `cargo xtask test` checks the same here",
    ),
    (&["-mt", "--mt", "--mpp"], "chooses Metal kernels, and this build has only the CPU"),
];

impl Args {
    /// Parses the command line. Help and version are printed here.
    pub(crate) fn parse(args: Vec<String>) -> Result<Self, Failure> {
        let mut words = Vec::new();
        let mut text_follows = false;
        for arg in args {
            if !text_follows {
                refuse_foreign(&arg, ELSEWHERE)?;
            }
            let arg = if !text_follows && arg == "-sys" { "--system".into() } else { arg };
            text_follows = ["-p", "--prompt", "--system"].contains(&arg.as_str()) && !text_follows;
            words.push(arg);
        }
        let matches = Self::command().try_get_matches_from(words).map_err(|e| match (e.kind(), unknown(&e)) {
            (ErrorKind::DisplayHelp, _) => {
                print!("{}", commands::overview().render_help());
                Failure::silent(0)
            }
            (_, Some(word)) if !word.starts_with('-') => commands::no_command(&word),
            _ => explain("ds4", &e),
        })?;
        let args = Self::from_arg_matches(&matches).map_err(|e| explain("ds4", &e))?;
        args.check()?;
        Ok(args)
    }

    fn check(&self) -> Result<(), Failure> {
        let sources = [self.prompt.is_some(), self.prompt_file.is_some(), self.perplexity_file.is_some()];
        if sources.iter().filter(|s| **s).count() > 1 {
            let message = "specify only one prompt source: --prompt, --prompt-file or --perplexity-file";
            return Err(Failure::usage(message));
        }
        let has_prompt = self.prompt.is_some() || self.prompt_file.is_some();
        let wants_prompt = [
            ("--dump-tokens", self.dump_tokens),
            ("--dump-logprobs", self.dump_logprobs.is_some()),
            ("--dump-logits", self.dump_logits.is_some()),
        ];
        if let Some((flag, _)) = wants_prompt.iter().find(|(_, on)| *on && !has_prompt) {
            return Err(Failure::usage(format!("{flag} needs a prompt: -p or --prompt-file")));
        }
        self.runtime.check()
    }

    /// The prompt, from wherever it comes; none starts a conversation.
    pub(crate) fn prompt_text(&self) -> Result<Option<String>, Failure> {
        match (&self.prompt, &self.prompt_file) {
            (Some(text), _) => Ok(Some(text.clone())),
            (None, Some(path)) => read_text(path).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Which of the three.
    pub(crate) fn thinking(&self) -> Think {
        match (self.nothink, self.think_max) {
            (true, _) => Think::Off,
            (_, true) => Think::Max,
            _ => Think::On,
        }
    }

    /// How to draw tokens.
    pub(crate) fn sampling(&self) -> Sampling {
        let seed = self.seed.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(1, |t| t.as_nanos() as u64)
        });
        Sampling { temperature: self.temp, top_p: self.top_p, min_p: self.min_p, seed, ..Sampling::GREEDY }
    }

    /// Most tokens to generate.
    pub(crate) fn max_tokens(&self) -> usize {
        self.tokens.unwrap_or(50_000)
    }
}

/// A file's text.
pub(crate) fn read_text(path: &std::path::Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|e| Failure::from(format!("{}: {e}", path.display())))
}

/// Refuses a flag that is known and not there, and says why.
pub(crate) fn refuse_foreign(arg: &str, known: &[(&[&str], &str)]) -> Result<(), Failure> {
    let name = arg.split('=').next().unwrap_or(arg);
    match known.iter().find(|(names, _)| names.contains(&name)) {
        Some((_, why)) => Err(Failure::usage(format!("{name} {why}"))),
        None => Ok(()),
    }
}

/// The argument that a command does not know.
fn unknown(error: &clap::Error) -> Option<String> {
    match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(text))) => Some(text.clone()),
        _ => None,
    }
}

/// Says what is wrong the way the C programs do: option and value in one line.
pub(crate) fn explain(program: &str, error: &clap::Error) -> Failure {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        _ => String::new(),
    };
    let option = context(ContextKind::InvalidArg);
    let option = option.split([' ', '=']).next().unwrap_or_default();
    let value = context(ContextKind::InvalidValue);
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            print!("{}", error.render());
            Failure::silent(0)
        }
        ErrorKind::InvalidValue if value.is_empty() => Failure::usage(format!("missing value for {option}")),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let why = match std::error::Error::source(error) {
                Some(e) if e.is::<ParseIntError>() => " (a whole number)".into(),
                Some(e) => format!(" ({e})"),
                None => String::new(),
            };
            let valid = context(ContextKind::ValidValue);
            let valid = if valid.is_empty() { why } else { format!(" (one of {valid})") };
            Failure::usage(format!("invalid value for {option}: {value}{valid}"))
        }
        ErrorKind::UnknownArgument => {
            if let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) {
                eprintln!("{usage}");
            }
            let near = context(ContextKind::SuggestedArg);
            let near = if near.is_empty() { String::new() } else { format!(" (did you mean {near}?)") };
            let what = match unknown(error) {
                Some(word) if !word.starts_with('-') => format!("unexpected argument {word}"),
                _ => format!("unknown option {option}"),
            };
            Failure::usage(format!("{what}{near}; {program} --help lists what there is"))
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            eprint!("{}", error.render());
            Failure::silent(2)
        }
        _ => {
            // Its first paragraph; tips and usage follow.
            let text = error.render().to_string();
            let said: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
            let said = said.join(" ");
            Failure::usage(format!("{}; {program} --help says more", said.trim_start_matches("error: ")))
        }
    }
}

/// A count: 1 to 2^31 - 1.
pub(crate) fn positive(text: &str) -> Result<usize, String> {
    match text.parse::<u32>() {
        Ok(n) if (1..=i32::MAX as u32).contains(&n) => Ok(n as usize),
        _ => Err("a whole number from 1 to 2147483647".into()),
    }
}

fn seed(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a whole number from 1 to 18446744073709551615".into()),
        Ok(n) => Ok(n),
    }
}

pub(crate) fn float(text: &str, least: f32, most: f32) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(x) if (least..=most).contains(&x) => Ok(x),
        _ => Err(format!("a number from {least} to {most}")),
    }
}

fn temperature(text: &str) -> Result<f32, String> {
    float(text, 0.0, 100.0)
}

fn share(text: &str) -> Result<f32, String> {
    float(text, 0.0, 1.0)
}

pub(crate) fn margin(text: &str) -> Result<f32, String> {
    float(text, 0.0, 1000.0)
}

/// Threads that compute.
pub(crate) fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=1024).contains(&n) => Ok(n),
        _ => Err("a whole number from 1 to 1024".into()),
    }
}

/// A number of sequences at once.
pub(crate) fn sessions(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=256).contains(&n) => Ok(n),
        _ => Err("a whole number from 1 to 256".into()),
    }
}
