//! `ds4 bench --sequences N`: how much more several sequences generate together than one alone.

use ds4_engine::Options;
use ds4_lab::bench::{Together, together};

use super::Bench;
use crate::failure::Failure;
use crate::open::Opened;

/// Gives each sequence a part of the text of its own, and prints one row.
pub(super) fn run(mut bench: Bench, count: usize) -> Result<(), Failure> {
    bench.runtime.ctx = bench.ctx_start + bench.gen_tokens + 1;
    let options = Options { count_experts: true, ..Options::default() };
    let opened = Opened::several(&bench.runtime, Some(count), options, Vec::new())?;
    let tokens = bench.tokens(&opened.model)?;
    let part = tokens.len() / count;
    if part == 0 {
        return Err(Failure::from(format!(
            "the prompt has {} tokens, --sequences {count} needs as many",
            tokens.len()
        )));
    }
    let read = part.min(bench.ctx_start);
    let prompts: Vec<&[u32]> = tokens.chunks_exact(part).take(count).map(|part| &part[..read]).collect();
    let row = together(&opened.engine, &prompts, bench.gen_tokens)?;
    println!("{}\n{}", Together::HEADER, row.csv());
    Ok(())
}
