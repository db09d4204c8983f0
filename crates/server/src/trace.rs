//! `--trace FILE`: what was asked, what was reused, what came of it. Private texts go there and nowhere else.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use ds4_chat::{Message, ToolCall};
use ds4_dialog::Prompt;
use ds4_engine::{Sampling, Usage};

use crate::progress::{Counts, End};

/// A trace, or nothing.
pub(crate) struct Trace {
    file: Option<Mutex<File>>,
}

impl Trace {
    /// Starts a new file at `path`, or writes nothing without one.
    pub(crate) fn new(path: Option<&Path>) -> std::io::Result<Self> {
        let open = |path: &Path| {
            let described = |e: std::io::Error| std::io::Error::new(e.kind(), format!("{}: {e}", path.display()));
            File::create(path).map(Mutex::new).map_err(described)
        };
        Ok(Self { file: path.map(open).transpose()? })
    }

    fn write(&self, id: &str, what: &str, text: &str) {
        let Some(file) = &self.file else { return };
        let mut file = file.lock().expect("nothing panics under this lock");
        // A full disk must not end the service; the trace has a gap then.
        let _ = file.write_all(format!("== {id} {what}\n{text}\n").as_bytes());
    }

    /// A request comes.
    pub(crate) fn request(&self, id: &str, prompt: &Prompt, sampling: &Sampling) {
        if self.file.is_some() {
            let Sampling { temperature, top_p, min_p, top_k, seed, .. } = sampling;
            let sampling =
                format!("temperature {temperature}, top_p {top_p}, min_p {min_p}, top_k {top_k}, seed {seed}");
            let Prompt { tokens, replayed, text, .. } = prompt;
            let what = format!("prompt: {} tokens, {replayed} answers as sampled, {sampling}", tokens.len());
            self.write(id, &what, text);
        }
    }

    /// Its turn has come.
    pub(crate) fn started(&self, id: &str, counts: &Counts) {
        self.write(id, &format!("cache: {} of {} prompt tokens reused", counts.cached, counts.prompt), "");
    }

    /// The engine is done with it; not told of answers that ended at a stop string or with their calls.
    pub(crate) fn took(&self, id: &str, usage: &Usage) {
        if self.file.is_some() {
            let Usage { reused, source, queued, prefill, decode, .. } = usage;
            let from = source.as_deref().map_or("memory".into(), |tier| format!("memory and {tier}"));
            let times = format!("queued {queued:.1?}, prompt {prefill:.1?}, answer {decode:.1?}");
            self.write(id, &format!("took: {reused} tokens from {from}; {times}"), "");
        }
    }

    /// It has ended with this text.
    pub(crate) fn ended(&self, id: &str, end: &End, given: &Message) {
        let End { why, counts, .. } = end;
        let what = format!("answer: {} tokens, {} of them reasoning, {why:?}", counts.generated, counts.reasoning);
        let Message { reasoning, content, tool_calls, .. } = given;
        let mut said = format!("-- reasoning\n{reasoning}\n-- text\n{content}");
        for ToolCall { id, name, arguments } in tool_calls {
            said += &format!("\n-- call {id}: {name}\n{arguments}");
        }
        self.write(id, &what, &said);
    }
}
