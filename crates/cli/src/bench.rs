//! `ds4 bench`: speed at growing context lengths, as a table.

mod sequences;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{CommandFactory, FromArgMatches, Parser, parser::ValueSource};
use ds4_chat::{Conversation, Message, Role};
use ds4_cpu::MachineLimits;
use ds4_dialog::{Prompt, Think};
use ds4_engine::Model;
use ds4_lab::bench::{Limits, Plan, Profile, Report, Row, Work};

use crate::args::{ELSEWHERE, explain, positive, read_text, refuse_foreign, sessions};
use crate::dump::{create, logits_json, write_json};
use crate::failure::Failure;
use crate::open::Opened;
use crate::runtime::Runtime;

/// What is not measured here.
const STEERING: &[(&[&str], &str)] = &[(
    &["--dir-steering-file", "--dir-steering-ffn", "--dir-steering-attn"],
    "is not measured here: it costs next to nothing",
)];

/// Measures prefill and decode at growing context lengths and prints a table (CSV).
#[derive(Parser)]
#[command(name = "ds4 bench", bin_name = "ds4 bench", disable_help_subcommand = true)]
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

    /// Measure N times; a row has the medians
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    repeat: usize,
    /// Measure how fast this machine reads memory and multiplies bytes, and add to each row what share of that it reached
    #[arg(long)]
    limits: bool,

    /// Write the table to a file
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write machine, model, limits and rows as one JSON object to a file, or with - to stdout in place of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw both rates against the context, with the limits if measured, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Write all logits at each context length to DIR/frontier_NNNNNN.logits.json
    #[arg(long, value_name = "DIR")]
    dump_frontier_logits_dir: Option<PathBuf>,
    /// Then read the longest context once more with a watch on every operation, and say on stderr where the time goes
    #[arg(long)]
    profile: bool,
    /// Instead of the table: let N sequences read up to --ctx-start tokens of different parts of the text each, and compare
    /// their speed together with that of one alone
    #[arg(long, value_name = "N", value_parser = sessions, conflicts_with_all = ["csv", "json", "plot", "profile", "dump_frontier_logits_dir", "limits", "repeat", "ctx_max", "ctx_alloc", "step_incr", "step_mul"])]
    sequences: Option<usize>,

    #[command(flatten)]
    runtime: Runtime,
}

/// The command line.
pub(crate) fn command() -> clap::Command {
    Bench::command()
}

/// `ds4 bench …`
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let words = words(args)?;
    let matches = command().try_get_matches_from(words).map_err(|e| explain("ds4 bench", &e))?;
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
    match bench.sequences {
        Some(count) => sequences::run(bench, count),
        None => bench.measure(),
    }
}

/// The arguments with `-sys` spelled out; flags that are known and not there are refused.
fn words(args: &[String]) -> Result<Vec<&str>, Failure> {
    let mut words = Vec::new();
    let mut text_follows = false;
    for arg in args {
        if !text_follows {
            refuse_foreign(arg, ELSEWHERE)?;
            refuse_foreign(arg, STEERING)?;
        }
        let arg = if !text_follows && arg == "-sys" { "--system" } else { arg };
        text_follows = arg == "--system" && !text_follows;
        words.push(arg);
    }
    Ok(words)
}

impl Bench {
    fn measure(&self) -> Result<(), Failure> {
        let opened = Opened::new(&self.runtime)?;
        let tokens = self.tokens(&opened.model)?;
        if tokens.len() < self.ctx_max {
            let message = format!("the prompt has {} tokens, --ctx-max {} needs as many", tokens.len(), self.ctx_max);
            return Err(Failure::from(message));
        }
        let mut files = Files::create(self)?;
        let options = *opened.engine.options();
        let machine = self.limits.then(|| MachineLimits::measure(options.threads)).transpose();
        let machine =
            machine.map_err(|e| Failure::from(format!("--limits: {e}; free memory, or leave --limits out")))?;
        let weights = &opened.model.weights;
        let limits = machine.map(|machine| Limits { machine, work: Work::of(weights, options.numerics.rows) });
        if let Some(limits) = &limits {
            eprintln!("ds4: {}", limits.describe(options.threads, self.ctx_max));
        }
        let plan = self.plan();
        files.head(limits.as_ref())?;
        let mut rows = Vec::new();
        ds4_lab::bench::run(&opened.engine, &tokens, &plan, |row, logits| -> Result<(), Failure> {
            rows.push(*row);
            if let Some(folder) = &self.dump_frontier_logits_dir {
                let path = folder.join(format!("frontier_{:06}.logits.json", row.context));
                write_json(&path, &logits_json(&opened.model, options.context, row.context, logits))?;
            }
            files.row(row, limits.as_ref())
        })?;
        files.report(&Report { engine: &opened.engine, plan: &plan, limits: limits.as_ref(), rows: &rows })?;
        if self.profile {
            drop(opened.engine);
            eprint!("{}", Profile::measure(&opened.model, &options, &tokens[..self.ctx_max], self.gen_tokens));
        }
        Ok(())
    }

    fn plan(&self) -> Plan {
        Plan {
            start: self.ctx_start,
            max: self.ctx_max,
            increment: self.step_incr,
            factor: self.step_mul,
            generate: self.gen_tokens,
            repeat: self.repeat,
            logits: self.dump_frontier_logits_dir.is_some(),
        }
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
        Ok(Prompt::new(&conversation, &options, &model.tokenizer, None)?.tokens)
    }
}

/// Where results go.
struct Files<'b> {
    bench: &'b Bench,
    /// None when stdout has the JSON.
    table: Option<Box<dyn Write>>,
    json: Option<Box<dyn Write>>,
    plot: Option<BufWriter<File>>,
}

impl<'b> Files<'b> {
    /// Creates what was asked for, so that a name that cannot be written shows before an hour of measuring.
    fn create(bench: &'b Bench) -> Result<Self, Failure> {
        let to_stdout = bench.json.as_deref() == Some(Path::new("-"));
        let table: Option<Box<dyn Write>> = match &bench.csv {
            Some(path) => Some(Box::new(create(path)?)),
            None if to_stdout => None,
            None => Some(Box::new(std::io::stdout())),
        };
        let json: Option<Box<dyn Write>> = match &bench.json {
            Some(_) if to_stdout => Some(Box::new(std::io::stdout())),
            Some(path) => Some(Box::new(create(path)?)),
            None => None,
        };
        let plot = bench.plot.as_deref().map(create).transpose()?;
        if let Some(folder) = &bench.dump_frontier_logits_dir {
            std::fs::create_dir_all(folder).map_err(|e| Failure::from(format!("{}: {e}", folder.display())))?;
        }
        Ok(Self { bench, table, json, plot })
    }

    fn head(&mut self, limits: Option<&Limits>) -> Result<(), Failure> {
        let more = if limits.is_some() { format!(",{}", Limits::HEADER) } else { String::new() };
        self.line(&format!("{}{more}", Row::HEADER))
    }

    fn row(&mut self, row: &Row, limits: Option<&Limits>) -> Result<(), Failure> {
        let shares = limits.map(|l| l.shares(row).map(|s| format!(",{s:.3}")).concat()).unwrap_or_default();
        self.line(&format!("{}{shares}", row.csv()))
    }

    /// A line of the table, at once.
    fn line(&mut self, line: &str) -> Result<(), Failure> {
        let Some(table) = &mut self.table else { return Ok(()) };
        let name = self.bench.csv.as_deref().unwrap_or(Path::new("stdout"));
        let written = writeln!(table, "{line}").and_then(|()| table.flush());
        written.map_err(|e| Failure::from(format!("{}: {e}", name.display())))
    }

    fn report(self, report: &Report) -> Result<(), Failure> {
        if let (Some(mut out), Some(path)) = (self.json, &self.bench.json) {
            let written = writeln!(out, "{:#}", report.json()).and_then(|()| out.flush());
            written.map_err(|e| Failure::from(format!("{}: {e}", path.display())))?;
        }
        if let (Some(mut out), Some(path)) = (self.plot, &self.bench.plot) {
            let written = out.write_all(report.svg().as_bytes()).and_then(|()| out.flush());
            written.map_err(|e| Failure::from(format!("{}: {e}", path.display())))?;
        }
        Ok(())
    }
}

fn factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if (1.0..=1000.0).contains(&x) => Ok(x),
        _ => Err("a number from 1 to 1000".into()),
    }
}
