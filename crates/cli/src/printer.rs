//! The answer on stdout: reasoning dim on a terminal, tags never.

use std::io::Write;

use ds4_chat::Event;

use crate::failure::Failure;
use crate::terminal;

const DIM: &str = "\x1b[90m";
const PLAIN: &str = "\x1b[0m";

/// Prints an answer as it comes.
pub(crate) struct Printer {
    color: bool,
    dim: bool,
    line_open: bool,
    /// Whether only reasoning came so far, and some did.
    thinks: bool,
}

impl Printer {
    /// A printer for the next answer.
    pub(crate) fn new() -> Self {
        Self { color: terminal::has_colours(&std::io::stdout()), dim: false, line_open: false, thinks: false }
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
                self.thinks = true;
            }
            Event::Text(part) => {
                self.set_dim(false)?;
                if std::mem::take(&mut self.thinks) && self.line_open {
                    self.write("\n")?;
                }
                self.write(&part)?;
            }
            // There are no tools on offer.
            Event::Call(_) | Event::Arguments(_) | Event::Called(_) | Event::Broken(_) => {}
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
