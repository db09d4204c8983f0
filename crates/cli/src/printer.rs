//! The answer on stdout: reasoning dim on a terminal, tags never.

use std::io::{IsTerminal, Write};

use ds4_chat::Event;

use crate::failure::Failure;

const DIM: &str = "\x1b[90m";
const PLAIN: &str = "\x1b[0m";

/// Prints an answer as it comes and keeps its two parts.
pub(crate) struct Printer {
    color: bool,
    dim: bool,
    line_open: bool,
    /// What the model thought.
    pub(crate) reasoning: String,
    /// What it answered.
    pub(crate) text: String,
}

impl Printer {
    /// A printer for the next answer.
    pub(crate) fn new() -> Self {
        let color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let (reasoning, text) = Default::default();
        Self { color, dim: false, line_open: false, reasoning, text }
    }

    /// Prints more of the answer.
    pub(crate) fn push(&mut self, events: Vec<Event>) -> Result<(), Failure> {
        events.into_iter().try_for_each(|event| self.show(event))?;
        std::io::stdout().flush().map_err(Failure::from)
    }

    /// Ends the line.
    pub(crate) fn finish(&mut self) -> Result<(), Failure> {
        self.set_dim(false)?;
        if self.line_open {
            self.write("\n")?;
        }
        std::io::stdout().flush().map_err(Failure::from)
    }

    fn show(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Reasoning(part) => {
                self.set_dim(true)?;
                self.write(&part)?;
                self.reasoning.push_str(&part);
            }
            Event::Text(part) => {
                self.set_dim(false)?;
                if self.text.is_empty() && !self.reasoning.is_empty() && self.line_open {
                    self.write("\n")?;
                }
                self.write(&part)?;
                self.text.push_str(&part);
            }
        }
        Ok(())
    }

    fn set_dim(&mut self, dim: bool) -> Result<(), Failure> {
        if self.color && self.dim != dim {
            self.dim = dim;
            print!("{}", if dim { DIM } else { PLAIN });
        }
        Ok(())
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        std::io::stdout().write_all(text.as_bytes())?;
        if let Some(last) = text.chars().last() {
            self.line_open = last != '\n';
        }
        Ok(())
    }
}
