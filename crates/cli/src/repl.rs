//! A conversation in the terminal.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use ds4_chat::{Conversation, Message, Options, Role};
use ds4_dialog::{Answer, Prompt, Think, Turns};
use ds4_engine::{Error, Finish, Request, Steering};
use rustyline::error::ReadlineError;
use rustyline::{Config, DefaultEditor};

use crate::args::{Args, positive, read_text};
use crate::failure::Failure;
use crate::interrupt::{self, Guard};
use crate::once::{print_answer, report};
use crate::open::Opened;
use crate::printer::Printer;
use crate::{chat, terminal};

/// More answers than a conversation has.
const MOST_TURNS: usize = 100_000;
const PROMPT: &str = "ds4> ";
const HELP: &str = "\
/help               this list
/think              think before answering
/think-max          think as hard as possible; needs a context of 393216
/nothink            answer at once
/new                start again
/ctx N              start again with a context of N tokens
/read FILE          send a file's text as the next message
/quit, /exit        leave; Ctrl-D too
Ctrl-C              stop the answer under way";
const MORE_ROOM: &str = "/new starts again, /ctx N with more room";

/// What the loop does next.
enum Next {
    /// Read another line.
    Line,
    /// Start over with this context.
    Context(usize),
    /// Leave.
    Quit,
}

/// `ds4` without a prompt.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    terminal::keep()?;
    interrupt::install()?;
    let mut lines = Lines::new()?;
    let mut think = args.thinking();
    let mut opened = Opened::new(&args.runtime)?;
    loop {
        let context = opened.engine.options().context;
        let mut talk = Talk {
            args,
            opened: &opened,
            conversation: chat::begin(args, opened.builtin),
            think,
            options: chat::options(args, &opened.model, think, context),
            turns: Turns::new(MOST_TURNS),
            steering: args.steering.open(&opened.model)?.and_then(Steering::effective),
        };
        let next = loop {
            let Some((line, guard)) = lines.read()? else { break Next::Quit };
            match talk.line(&line, &guard)? {
                Next::Line => {}
                other => break other,
            }
        };
        think = talk.think;
        drop(talk);
        match next {
            Next::Context(n) => opened = opened.restart(&args.runtime, n)?,
            _ => return Ok(()),
        }
    }
}

/// Lines from the terminal, with history.
struct Lines {
    editor: DefaultEditor,
    history: Option<PathBuf>,
}

impl Lines {
    fn new() -> Result<Self, Failure> {
        let config = Config::builder().max_history_size(512)?.auto_add_history(true).build();
        let mut editor = DefaultEditor::with_config(config)?;
        let history = std::env::home_dir().map(|home| home.join(".ds4_history"));
        if let Some(path) = &history {
            let _ = editor.load_history(path); // none yet
        }
        Ok(Self { editor, history })
    }

    /// The next line that is not empty, from which on Ctrl-C stops what comes of it; none at the end of input.
    fn read(&mut self) -> Result<Option<(String, Guard)>, Failure> {
        loop {
            match self.editor.readline(PROMPT) {
                Ok(line) if line.trim().is_empty() => {}
                Ok(line) => {
                    let guard = interrupt::watch(Arc::default());
                    if let Some(path) = &self.history
                        && let Err(error) = self.editor.append_history(path)
                    {
                        eprintln!("ds4: {}: {error}", path.display());
                        self.history = None;
                    }
                    return Ok(Some((line, guard)));
                }
                Err(ReadlineError::Interrupted) => eprintln!("ds4: /quit or Ctrl-D leaves"),
                Err(ReadlineError::Eof) => return Ok(None),
                // What was typed is gone with it.
                Err(ReadlineError::Io(error)) if error.kind() == ErrorKind::InvalidData => {
                    eprintln!("ds4: the line is dropped: it is not valid UTF-8");
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A conversation under way.
struct Talk<'a> {
    args: &'a Args,
    opened: &'a Opened,
    conversation: Conversation,
    think: Think,
    options: Options,
    /// Its answers, token by token.
    turns: Turns,
    steering: Option<Steering>,
}

impl Talk<'_> {
    fn line(&mut self, line: &str, guard: &Guard) -> Result<Next, Failure> {
        let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        match command {
            "/help" => println!("{HELP}"),
            "/think" => self.set_thinking(Think::On),
            "/think-max" => self.set_thinking(Think::Max),
            "/nothink" => self.set_thinking(Think::Off),
            "/quit" | "/exit" => return Ok(Next::Quit),
            "/new" => self.conversation = chat::begin(self.args, self.opened.builtin),
            "/ctx" | "/read" if rest.is_empty() => eprintln!("ds4: missing value for {command}; /help says which"),
            "/ctx" => match positive(rest) {
                Ok(n) => match self.opened.check(&self.args.runtime, n) {
                    Ok(()) => return Ok(Next::Context(n)),
                    Err(failure) => drop(failure.report()),
                },
                Err(why) => eprintln!("ds4: invalid value for /ctx: {rest} ({why})"),
            },
            "/read" => match read_text(rest.as_ref()) {
                Ok(text) => self.say(&text, guard)?,
                Err(failure) => drop(failure.report()),
            },
            _ if command.starts_with('/') => eprintln!("ds4: unknown command: {command}; /help lists them"),
            _ => self.say(line, guard)?,
        }
        Ok(Next::Line)
    }

    fn set_thinking(&mut self, think: Think) {
        self.think = think;
        let context = self.opened.engine.options().context;
        self.options = chat::options(self.args, &self.opened.model, think, context);
    }

    /// The user's turn and the answer to it.
    fn say(&mut self, text: &str, guard: &Guard) -> Result<(), Failure> {
        self.conversation.messages.push(Message::new(Role::User, text));
        let tokenizer = &self.opened.model.tokenizer;
        let prompt = Prompt::new(&self.conversation, &self.options, tokenizer, Some(&self.turns))?;
        let request = Request {
            sampling: self.args.sampling(),
            steering: self.steering.clone(),
            ..Request::greedy(prompt.tokens, self.args.max_tokens(), tokenizer.eos())
        };
        let answer = Answer::new(tokenizer, prompt.thinking, None, Vec::new());
        let mut printer = Printer::new();
        let run = match self.opened.engine.submit(request) {
            Ok(run) => run,
            Err(error) => {
                self.conversation.messages.pop();
                match error {
                    Error::ContextExceeded { prompt, context } => {
                        eprintln!("ds4: the prompt has {prompt} tokens, the context holds {context}; {MORE_ROOM}");
                    }
                    error => eprintln!("ds4: {error}"),
                }
                return Ok(());
            }
        };
        guard.hand_over(run.cancel_flag());
        let (finish, usage, turn) = print_answer(run, answer, &mut printer)?;
        report(finish, &usage, MORE_ROOM);
        if finish == Finish::Cancelled && usage.generated == 0 {
            self.conversation.messages.pop();
            return Ok(());
        }
        self.turns.remember(prompt.place, &turn);
        self.conversation.messages.push(turn.given);
        Ok(())
    }
}
