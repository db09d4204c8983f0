//! Diagnostics: tokens, probabilities, logits, perplexity.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use ds4_engine::{Event, Finish, Model, Observe, Observed, Request, TokenScore};
use ds4_gguf::Format;
use ds4_tokenizer::Tokenizer;
use serde_json::{Value, json};

use crate::args::{Args, read_text};
use crate::failure::Failure;
use crate::open::{Opened, tokenizer};
use crate::progress::PromptLine;
use crate::{chat, interrupt};

/// Most alternatives per step.
const TOP_CAP: usize = 128;
/// Steps of `--dump-logprobs` unless -n says otherwise.
const STEPS: usize = 128;
/// Tokens of a scored text that are given.
const GIVEN: usize = 32;

/// `--dump-tokens`: the text exactly as written, chat markers recognised.
pub(crate) fn tokens(args: &Args) -> Result<(), Failure> {
    let text = args.prompt_text()?.unwrap_or_default();
    let tokenizer = tokenizer(&args.runtime)?;
    let ids = tokenizer.encode(&text);
    let mut out = BufWriter::new(std::io::stdout().lock());
    let list: Vec<String> = ids.iter().map(u32::to_string).collect();
    writeln!(out, "[{}]", list.join(", "))?;
    for id in ids {
        writeln!(out, "{id:6}  {}", tokenizer.decode(&[id]))?;
    }
    Ok(out.flush()?)
}

/// `--dump-logprobs` and `--dump-logits`.
pub(crate) fn observed(args: &Args) -> Result<(), Failure> {
    let prompt = args.prompt_text()?.unwrap_or_default();
    interrupt::install()?;
    let opened = Opened::new(&args.runtime)?;
    let (tokens, _) = chat::prompt_tokens(args, &opened.model, opened.builtin, &prompt)?;
    if let Some(path) = &args.dump_logits {
        dump_logits(&opened, &tokens, path)?;
    }
    if let Some(path) = &args.dump_logprobs {
        dump_logprobs(args, &opened, tokens, path)?;
    }
    Ok(())
}

fn dump_logits(opened: &Opened, tokens: &[u32], path: &Path) -> Result<(), Failure> {
    let request =
        Request { observe: Observe::Logits, ..Request::greedy(tokens.to_vec(), 0, opened.model.tokenizer.eos()) };
    let mut logits = Vec::new();
    follow(opened.engine.submit(request)?, |event| {
        if let Event::Observed(Observed::Logits(all)) = event {
            logits = all;
        }
    })?;
    let document = logits_json(&opened.model, opened.engine.options().context, tokens.len(), &logits);
    write_json(path, &document)
}

/// A file with one JSON document.
pub(crate) fn write_json(path: &Path, document: &Value) -> Result<(), Failure> {
    let mut out = create(path)?;
    serde_json::to_writer(&mut out, document)?;
    finish(out, path)
}

/// All logits after a prompt, and where they come from.
pub(crate) fn logits_json(model: &Model, context: usize, prompt: usize, logits: &[f32]) -> Value {
    let finite = |x: &f32| if x.is_finite() { json!(x) } else { Value::Null };
    let best = (0..logits.len()).filter(|i| logits[*i].is_finite()).max_by(|a, b| {
        logits[*a].total_cmp(&logits[*b]).then(b.cmp(a)) // the lower id among equals
    });
    let quant = model.weights.layers.first().map(|l| l.feed_forward.experts.gate.format);
    json!({
        "source": "ds4",
        "model": model.name,
        "backend": "cpu",
        "mt": "off",
        "quant_bits": if quant == Some(Format::Q4_K) { 4 } else { 2 },
        "prompt_tokens": prompt,
        "ctx": context,
        "vocab": logits.len(),
        "argmax_token": best,
        "argmax_logit": best.map(|i| finite(&logits[i])),
        "logits": logits.iter().map(finite).collect::<Vec<_>>(),
    })
}

fn dump_logprobs(args: &Args, opened: &Opened, tokens: Vec<u32>, path: &Path) -> Result<(), Failure> {
    let tokenizer = &opened.model.tokenizer;
    let top_k = args.logprobs_top_k.min(TOP_CAP);
    let (prompt, context) = (tokens.len(), opened.engine.options().context);
    // The end of the answer is a step too, so it does not stop the engine.
    let request = Request {
        stop: Vec::new(),
        observe: Observe::Top(top_k),
        ..Request::greedy(tokens, args.tokens.unwrap_or(STEPS), tokenizer.eos())
    };
    let mut out = create(path)?;
    write!(
        out,
        "{{\n  \"source\":\"ds4\",\n  \"prompt_tokens\":{prompt},\n  \"ctx\":{context},\n  \"top_k\":{top_k},\n  \"steps\":["
    )?;
    let run = opened.engine.submit(request)?;
    let cancel = run.cancel_flag();
    let (mut step, mut ended) = (0, false);
    let mut write_step = |selected: &TokenScore, top: &[TokenScore]| -> std::io::Result<()> {
        let separator = if step == 0 { "\n" } else { ",\n" };
        let entry = json!({
            "step": step,
            "selected": token_json(tokenizer, selected.id),
            "top_logprobs": top.iter().map(|t| json!({
                "token": token_json(tokenizer, t.id), "logit": t.logit, "logprob": t.logprob
            })).collect::<Vec<_>>(),
        });
        step += 1;
        write!(out, "{separator}    {entry}")
    };
    let mut written = Ok(());
    follow(run, |event| {
        let Event::Token(token) = event else { return };
        let Some(Observed::Top(selected, top)) = token.observed else { return };
        if !ended && written.is_ok() {
            written = write_step(&selected, &top);
            ended = token.id == tokenizer.eos();
        }
        if ended || written.is_err() {
            cancel.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    })?;
    written?;
    write!(out, "\n  ]\n}}\n")?;
    finish(out, path)
}

/// A token's id, text and bytes. Bytes that are not text show as the characters of the same number.
fn token_json(tokenizer: &Tokenizer, id: u32) -> Value {
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|b| char::from(*b)).collect(),
    };
    json!({ "id": id, "text": text, "bytes": bytes })
}

/// `--perplexity-file`
pub(crate) fn perplexity(args: &Args) -> Result<(), Failure> {
    let path = args.perplexity_file.as_deref().unwrap_or(Path::new(""));
    let text = read_text(path)?;
    interrupt::install()?;
    let opened = Opened::new(&args.runtime)?;
    let mut tokens = opened.model.tokenizer.encode_inert(&text);
    let total = tokens.len();
    if total <= GIVEN {
        return Err(Failure::from(format!(
            "{}: {total} tokens, --perplexity-file needs more than {GIVEN}",
            path.display()
        )));
    }
    let scored = (total - GIVEN).min(args.max_tokens()).min(args.runtime.ctx.saturating_sub(GIVEN));
    if scored == 0 {
        return Err(Failure::from(format!("--ctx {} leaves nothing to score after {GIVEN} tokens", args.runtime.ctx)));
    }
    tokens.truncate(GIVEN + scored);
    let request = Request { score_from: Some(GIVEN), ..Request::greedy(tokens, 0, opened.model.tokenizer.eos()) };
    let mut nll = 0.0;
    follow(opened.engine.submit(request)?, |event| {
        if let Event::Scored { logprob, .. } = event {
            nll -= logprob;
        }
    })?;
    let average = nll / scored as f64;
    println!("tokens={total} scored={scored} nll={nll:.9} avg_nll={average:.9} ppl={:.9}", average.exp());
    Ok(())
}

/// Runs a request to its end, with progress.
fn follow(run: ds4_engine::Run<'_>, mut see: impl FnMut(Event)) -> Result<(), Failure> {
    let guard = interrupt::watch(run.cancel_flag());
    let line = PromptLine::new();
    let mut reused = None;
    for event in run {
        match event {
            Event::Prefill { done, total } => line.show(done, total, *reused.get_or_insert(done)),
            Event::Failed(why) => return Err(Failure::from(why)),
            Event::Finished(Finish::Cancelled, _) if guard.pressed() => return Err(Failure::interrupted()),
            other => see(other),
        }
    }
    line.close();
    Ok(())
}

/// A file that takes what comes, or why not.
pub(crate) fn create(path: &Path) -> Result<BufWriter<File>, Failure> {
    let file = File::create(path).map_err(|e| Failure::from(format!("{}: {e}", path.display())))?;
    Ok(BufWriter::new(file))
}

fn finish(mut out: BufWriter<File>, path: &Path) -> Result<(), Failure> {
    out.flush().map_err(|e| Failure::from(format!("{}: {e}", path.display())))
}
