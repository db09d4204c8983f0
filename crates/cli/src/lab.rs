//! `ds4 lab`: making and measuring models.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use ds4_gguf::{File, Format};
use ds4_lab::convert::{self, Progress, Recipe};
use ds4_lab::{inspect, synth};
use ds4_tokenizer::Vocabulary;

use crate::args::{explain, positive, read_text};
use crate::failure::Failure;
use crate::interrupt;
use crate::progress::Bar;

/// Making and measuring models.
#[derive(Parser)]
#[command(name = "ds4 lab", bin_name = "ds4 lab", disable_help_subcommand = true)]
struct Lab {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What is in a GGUF file: sizes, layers, formats, memory
    Inspect(Inspect),
    /// Write a model with the real shapes of every layer and random weights, for measuring and testing
    Synth(Synth),
    /// Convert a Hugging Face checkpoint (safetensors) to GGUF
    #[command(after_help = CONVERT_HELP)]
    Convert(Convert),
}

#[derive(clap::Args)]
struct Inspect {
    /// GGUF file
    file: PathBuf,
    /// List every tensor: name, shape, format, bytes, offset
    #[arg(long)]
    tensors: bool,
    /// List every metadata key
    #[arg(long)]
    metadata: bool,
    /// Read everything and look for weights that are not finite
    #[arg(long)]
    check: bool,
}

#[derive(clap::Args)]
struct Synth {
    /// File to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// tokenizer.json of DeepSeek V4
    #[arg(long, value_name = "FILE")]
    tokenizer: PathBuf,
    /// Whose shapes
    #[arg(long, value_enum, default_value = "flash")]
    model: Model,
    /// Formats of the routed experts: q2 is IQ2_XXS with Q2_K, q4 is Q4_K
    #[arg(long, value_enum, default_value = "q2")]
    recipe: SynthRecipe,
    /// Layers, from the model's first
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = positive)]
    layers: usize,
    /// Routed experts per layer [default: the model's]
    #[arg(long, value_name = "N", value_parser = positive)]
    experts: Option<usize>,
    /// Another seed gives other weights
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Replace an existing file
    #[arg(long)]
    overwrite: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Model {
    Flash,
    Pro,
}

#[derive(Clone, Copy, ValueEnum)]
enum SynthRecipe {
    Q2,
    Q4,
}

const CONVERT_HELP: &str = "\
The folder is a download of a V4 model: config.json, tokenizer.json, the *.safetensors, and with several of them \
model.safetensors.index.json. Tensors may be F32, F16, BF16, F8_E4M3 with F8_E8M0 scales per 128x128, or FP4 (I8) with \
F8_E8M0 scales per row and 32 columns. FP8 and FP4 are decoded exactly and stored in the formats chosen here.

Everything is checked first: a missing or cut-off shard, a tensor of another shape or type, the space on the disk. \
Then FILE.part grows. Whatever ends the program, the same command continues from there; when the shards or the options \
have changed since, it says so, and --overwrite begins anew. Each thread needs about 4 MiB.

The default, q8_0, keeps embedding, compressor, indexer and small tensors in f16; norms, biases and sinks are f32 in \
any case. Formats of 2 to 6 bits (q4_k, q2_k, iq2_xxs) cannot be written yet.

Examples:
  ds4 lab convert DeepSeek-V4-Flash --out flash-q8.gguf
  ds4 lab convert DeepSeek-V4-Flash --out flash-f16.gguf --type f16
  ds4 lab convert DeepSeek-V4-Flash --out flash.gguf --experts q8_0 --attention bf16 --output f16
  ds4 lab convert DeepSeek-V4-Flash --out flash-mtp.gguf --mtp    the drafting block, for ds4 --mtp";

#[derive(clap::Args)]
struct Convert {
    /// Folder with config.json and *.safetensors
    #[arg(value_name = "FOLDER")]
    checkpoint: PathBuf,
    /// File to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// tokenizer.json [default: the one in the folder]
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Name of the model in the file [default: the folder's]
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Format of everything that may have it: f32, f16, bf16 or q8_0
    #[arg(long = "type", value_name = "TYPE", default_value = "q8_0", value_parser = format)]
    all: Format,
    /// Format of the token embedding
    #[arg(long, value_name = "TYPE", value_parser = format)]
    embedding: Option<Format>,
    /// Format of the output matrix
    #[arg(long, value_name = "TYPE", value_parser = format)]
    output: Option<Format>,
    /// Format of the attention projections
    #[arg(long, value_name = "TYPE", value_parser = format)]
    attention: Option<Format>,
    /// Format of compressor and indexer
    #[arg(long, value_name = "TYPE", value_parser = format)]
    compressor: Option<Format>,
    /// Format of the shared experts
    #[arg(long, value_name = "TYPE", value_parser = format)]
    shared: Option<Format>,
    /// Format of the routed experts
    #[arg(long, value_name = "TYPE", value_parser = format)]
    experts: Option<Format>,
    /// Format of router, hyper-connections and position biases: f32, f16 or bf16
    #[arg(long, value_name = "TYPE", value_parser = small_format)]
    small: Option<Format>,
    /// Convert the drafting block (mtp.0.*) to a file of its own
    #[arg(long)]
    mtp: bool,
    /// Threads that read, convert and write [default: all processors]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Replace an existing file, and an unfinished one that cannot be continued
    #[arg(long)]
    overwrite: bool,
}

fn format(text: &str) -> Result<Format, String> {
    match Format::parse(text) {
        Some(format @ (Format::F32 | Format::F16 | Format::BF16 | Format::Q8_0)) => Ok(format),
        Some(other) => Err(format!("{other} cannot be written yet; f32, f16, bf16 or q8_0")),
        None => Err("f32, f16, bf16 or q8_0".into()),
    }
}

fn small_format(text: &str) -> Result<Format, String> {
    match format(text)? {
        Format::Q8_0 => Err("f32, f16 or bf16".into()),
        format => Ok(format),
    }
}

/// The command line.
pub(crate) fn command() -> clap::Command {
    Lab::command()
}

/// `ds4 lab …`
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let matches = command().try_get_matches_from(args).map_err(|e| explain("ds4 lab", &e))?;
    match Lab::from_arg_matches(&matches).map_err(|e| explain("ds4 lab", &e))?.command {
        Command::Inspect(args) => inspect_file(&args),
        Command::Synth(args) => write_synth(&args),
        Command::Convert(args) => convert_checkpoint(&args),
    }
}

fn inspect_file(args: &Inspect) -> Result<(), Failure> {
    let file = File::open(&args.file)?;
    if args.tensors {
        print!("{}", inspect::tensors(&file));
    }
    if args.metadata {
        print!("{}", inspect::metadata(&file));
    }
    if args.check {
        let bar = Bar::new("checking");
        let checked = inspect::check(&file, &mut |done, total| bar.show(done, total));
        println!("{checked}");
        return if checked.is_sound() { Ok(()) } else { Err(Failure::silent(1)) };
    }
    if !args.tensors && !args.metadata {
        return print_summary(&file);
    }
    Ok(())
}

/// Prints what is in a file; a failure when it is not a model that runs.
pub(crate) fn print_summary(file: &File) -> Result<(), Failure> {
    let summary = inspect::summary(file);
    print!("{}", summary.text);
    if summary.loads { Ok(()) } else { Err(Failure::silent(1)) }
}

fn write_synth(args: &Synth) -> Result<(), Failure> {
    let model = match args.model {
        Model::Flash => synth::Model::Flash,
        Model::Pro => synth::Model::Pro,
    };
    let recipe = match args.recipe {
        SynthRecipe::Q2 => synth::Recipe::Q2,
        SynthRecipe::Q4 => synth::Recipe::Q4,
    };
    let options = synth::Options {
        layers: args.layers,
        experts: args.experts.unwrap_or(model.experts()),
        seed: args.seed,
        overwrite: args.overwrite,
        ..synth::Options::new(model, recipe)
    };
    let vocabulary = vocabulary(&args.tokenizer)?;
    let bar = Bar::new("writing");
    let start = std::time::Instant::now();
    let summary = synth::write(&options, &vocabulary, &args.out, &mut |done, total| bar.show(done, total))?;
    let gigabytes = summary.bytes as f64 / 1e9;
    let seconds = start.elapsed().as_secs_f64();
    println!("{}: {} tensors, {gigabytes:.2} GB in {seconds:.0} s", args.out.display(), summary.tensors);
    Ok(())
}

fn convert_checkpoint(args: &Convert) -> Result<(), Failure> {
    let folder_name = || args.checkpoint.file_name().map(|n| n.to_string_lossy().into_owned());
    let tokenizer = args.tokenizer.clone().unwrap_or_else(|| args.checkpoint.join("tokenizer.json"));
    let vocabulary = if args.mtp { None } else { Some(vocabulary(&tokenizer)?) };
    let mut recipe = Recipe::uniform(args.all);
    for (family, format) in [
        (&mut recipe.embedding, args.embedding),
        (&mut recipe.output, args.output),
        (&mut recipe.attention, args.attention),
        (&mut recipe.compressor, args.compressor),
        (&mut recipe.shared, args.shared),
        (&mut recipe.experts, args.experts),
        (&mut recipe.small, args.small),
    ] {
        *family = format.unwrap_or(*family);
    }
    let all_processors = || std::thread::available_parallelism().map_or(1, usize::from);
    let options = convert::Options {
        checkpoint: &args.checkpoint,
        vocabulary: vocabulary.as_ref(),
        name: &args.name.clone().or_else(folder_name).unwrap_or_else(|| "DeepSeek V4".into()),
        recipe,
        mtp: args.mtp,
        overwrite: args.overwrite,
        threads: args.threads.map_or_else(all_processors, usize::from),
    };
    run_conversion(&options, &args.out)?;
    let bytes = std::fs::metadata(&args.out)?.len();
    println!("{}: {:.1} MB", args.out.display(), bytes as f64 / 1e6);
    Ok(())
}

/// Converts with a bar and until Ctrl-C.
fn run_conversion(options: &convert::Options<'_>, out: &Path) -> Result<(), Failure> {
    interrupt::install()?;
    let stop = Arc::new(AtomicBool::new(false));
    let _guard = interrupt::watch(stop.clone());
    let bar = Bar::new("converting");
    let mut begun = false;
    let converted = convert::convert(options, out, &stop, &mut |Progress { done, total }| {
        if !std::mem::replace(&mut begun, true) && done > 0 {
            eprintln!("ds4: continuing from {}.part", out.display());
        }
        bar.show(done, total);
    });
    bar.clear();
    converted.map_err(|error| match error {
        convert::Error::Interrupted { .. } => Failure::interrupted_with(error.to_string()),
        error => error.into(),
    })
}

fn vocabulary(path: &Path) -> Result<Vocabulary, Failure> {
    Vocabulary::from_hf_json(&read_text(path)?).map_err(|e| Failure::from(format!("{}: {e}", path.display())))
}
