//! `ds4 bench`: speed at growing context lengths, as a table.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches, Parser, parser::ValueSource};
use ds4_chat::{Conversation, Message, Role};
use ds4_cpu::{Family, MachineLimits};
use ds4_dialog::{Prompt, Think};
use ds4_engine::Model;
use ds4_lab::bench::{Plan, Row, Work};

use crate::args::{explain, positive, read_text};
use crate::failure::Failure;
use crate::open::Opened;
use crate::runtime::Runtime;

/// Measures prefill and decode at growing context lengths and prints a table (CSV).
#[derive(Parser)]
#[command(name = "ds4 bench", disable_help_subcommand = true)]
struct Bench {
    /// Text to read, taken as it is; at least --ctx-max tokens
    #[arg(long, value_name = "FILE")]
    prompt_file: Option<PathBuf>,
    /// Text to read as the user's turn of a conversation
    #[arg(long, value_name = "FILE")]
    chat_prompt_file: Option<PathBuf>,
    /// System text of the conversation, also -sys
    #[arg(long, value_name = "TEXT", default_value = "You are a helpful assistant.", allow_hyphen_values = true)]
    system: String,

    /// First context length
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = positive)]
    ctx_start: usize,
    /// Last context length
    #[arg(long, value_name = "N", default_value_t = 32768, value_parser = positive)]
    ctx_max: usize,
    /// Tokens from one context length to the next
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = positive)]
    step_incr: usize,
    /// Factor from one context length to the next, at least 1; 1 adds --step-incr instead
    #[arg(long, value_name = "F", default_value_t = 1.0, value_parser = factor)]
    step_mul: f64,
    /// Context to allocate [default: --ctx-max + --gen-tokens + 1]
    #[arg(long, value_name = "N", value_parser = positive)]
    ctx_alloc: Option<usize>,
    /// Tokens to generate at each context length, also --tokens
    #[arg(short = 'n', long, alias = "tokens", value_name = "N", default_value_t = 128, value_parser = positive)]
    gen_tokens: usize,

    /// Write the table to a file
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Measure how fast this machine reads memory and multiplies bytes, and add to each row what share of that it reached
    #[arg(long)]
    limits: bool,

    #[command(flatten)]
    runtime: Runtime,
}

/// `ds4 bench …`
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let args = args.iter().map(|a| if a == "-sys" { "--system" } else { a });
    let matches = Bench::command().try_get_matches_from(args).map_err(|e| explain("ds4 bench", &e))?;
    let mut bench = Bench::from_arg_matches(&matches).map_err(|e| explain("ds4 bench", &e))?;
    if matches.value_source("ctx") == Some(ValueSource::CommandLine) {
        return Err(Failure::usage("--ctx: a benchmark's context is --ctx-alloc"));
    }
    bench.runtime.check()?;
    let least = bench.ctx_max + bench.gen_tokens + 1;
    bench.runtime.ctx = bench.ctx_alloc.unwrap_or(least);
    if bench.runtime.ctx < least {
        let message = format!(
            "--ctx-alloc {}: --ctx-max {} and --gen-tokens {} need {least}",
            bench.runtime.ctx, bench.ctx_max, bench.gen_tokens
        );
        return Err(Failure::usage(message));
    }
    if bench.prompt_file.is_some() == bench.chat_prompt_file.is_some() {
        return Err(Failure::usage("specify one of --prompt-file and --chat-prompt-file"));
    }
    bench.measure()
}

impl Bench {
    fn measure(&self) -> Result<(), Failure> {
        let opened = Opened::new(&self.runtime)?;
        let tokens = self.tokens(&opened.model)?;
        if tokens.len() < self.ctx_max {
            let message = format!("the prompt has {} tokens, --ctx-max {} needs as many", tokens.len(), self.ctx_max);
            return Err(Failure::from(message));
        }
        let limits = self.limits.then(|| Limits::measure(&opened));
        let mut out: Box<dyn Write> = match &self.csv {
            Some(path) => Box::new(File::create(path).map_err(|e| Failure::from(format!("{}: {e}", path.display())))?),
            None => Box::new(std::io::stdout()),
        };
        let more = if limits.is_some() { ",prefill_share,gen_share" } else { "" };
        writeln!(out, "{}{more}", Row::HEADER)?;
        let plan = Plan {
            start: self.ctx_start,
            max: self.ctx_max,
            increment: self.step_incr,
            factor: self.step_mul,
            generate: self.gen_tokens,
        };
        ds4_lab::bench::run(&opened.engine, &tokens, &plan, |row| -> Result<(), Failure> {
            let shares = limits.as_ref().map(|l| l.shares(row)).unwrap_or_default();
            writeln!(out, "{}{shares}", row.csv())?;
            Ok(out.flush()?)
        })
    }

    fn tokens(&self, model: &Model) -> Result<Vec<u32>, Failure> {
        if let Some(path) = &self.prompt_file {
            return Ok(model.tokenizer.encode(&read_text(path)?));
        }
        let path = self.chat_prompt_file.as_ref().expect("one of the two was given");
        let mut conversation = Conversation::default();
        conversation.messages.push(Message::new(Role::System, self.system.as_str()));
        conversation.messages.push(Message::new(Role::User, read_text(path)?.as_str()));
        let options = ds4_dialog::options(model, Think::On, self.runtime.ctx, None);
        Ok(Prompt::new(&conversation, &options, &model.tokenizer)?.tokens)
    }
}

/// What machine and model allow.
struct Limits {
    /// Tokens per second.
    prefill: f64,
    decode: f64,
}

impl Limits {
    /// Measures the machine and says what was found.
    fn measure(opened: &Opened) -> Self {
        let threads = opened.engine.options().threads;
        let (machine, work) = (MachineLimits::measure(threads), Work::of(&opened.model.weights));
        let limits = Self { prefill: work.prefill_limit(machine.products), decode: work.decode_limit(machine.read) };
        eprintln!(
            "ds4: {threads} threads ({}) read {:.1} GB/s and multiply {:.0} G bytes/s; a token takes {:.0} MB to decode, \
             {:.2} G products to read: at most {:.1} and {:.0} tokens/s",
            Family::current(),
            machine.read / 1e9,
            machine.products / 1e9,
            work.decode_bytes / 1e6,
            work.prefill_products / 1e9,
            limits.decode,
            limits.prefill,
        );
        limits
    }

    /// Two more columns of a row.
    fn shares(&self, row: &Row) -> String {
        format!(",{:.3},{:.3}", row.prefill_rate / self.prefill, row.decode_rate / self.decode)
    }
}

fn factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if (1.0..=1000.0).contains(&x) => Ok(x),
        _ => Err("a number from 1 to 1000".into()),
    }
}
