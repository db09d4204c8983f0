//! One prompt, one answer.

use ds4_chat::Mode;
use ds4_dialog::{Answer, Turn};
use ds4_engine::{Event, Finish, Request, Run, Steering, Usage};

use crate::args::Args;
use crate::failure::Failure;
use crate::open::Opened;
use crate::printer::Printer;
use crate::progress::PromptLine;
use crate::{chat, interrupt};

/// `ds4 -p TEXT`
pub(crate) fn run(args: &Args, prompt: &str) -> Result<(), Failure> {
    interrupt::install()?;
    let opened = Opened::new(&args.runtime)?;
    let (tokens, options) = chat::prompt_tokens(args, &opened.model, opened.builtin, prompt)?;
    let tokenizer = &opened.model.tokenizer;
    let steering = args.steering.open(&opened.model)?.and_then(Steering::effective);
    let request =
        Request { sampling: args.sampling(), steering, ..Request::greedy(tokens, args.max_tokens(), tokenizer.eos()) };
    let answer = Answer::new(tokenizer, options.mode == Mode::Thinking, None, Vec::new());
    let run = opened.engine.submit(request)?;
    let _guard = interrupt::watch(run.cancel_flag());
    let (finish, usage, _) = print_answer(run, answer, &mut Printer::new())?;
    report(finish, &usage, "raise --ctx for more");
    match finish {
        Finish::Cancelled => Err(Failure::interrupted()),
        _ => Ok(()),
    }
}

/// Prints an answer while it is made; returns how it ended and all of it.
pub(crate) fn print_answer(
    run: Run<'_>,
    mut answer: Answer<'_>,
    printer: &mut Printer,
) -> Result<(Finish, Usage, Turn), Failure> {
    let line = PromptLine::new();
    let mut reused = None;
    let mut end = None;
    for event in run {
        match event {
            Event::Prefill { done, total } => line.show(done, total, *reused.get_or_insert(done)),
            Event::Token(token) => printer.push(answer.push(token.id))?,
            Event::Finished(finish, usage) => end = Some((finish, usage)),
            Event::Failed(why) => return Err(Failure::from(why)),
            Event::Queued { .. } | Event::Scored { .. } | Event::Observed(_) => {}
        }
    }
    line.close();
    let (pieces, turn, _) = answer.finish();
    printer.push(pieces)?;
    printer.finish()?;
    let (finish, usage) = end.ok_or_else(|| Failure::from("the engine stopped without an answer"))?;
    Ok((finish, usage, turn))
}

/// Speeds, and why an answer is shorter than it would be, with the way out of a full context.
pub(crate) fn report(finish: Finish, usage: &Usage, way_out: &str) {
    let total = usage.prompt + usage.generated;
    match finish {
        Finish::Context => eprintln!("ds4: the context is full at {total} tokens; {way_out}"),
        Finish::Length => eprintln!("ds4: stopped after {} tokens (-n)", usage.generated),
        Finish::Cancelled => eprintln!("ds4: interrupted"),
        Finish::Stop => {}
    }
    let (prefill, decode) = (usage.prefill_rate(), usage.decode_rate());
    eprintln!("ds4: prefill: {prefill:.2} t/s, generation: {decode:.2} t/s");
}
