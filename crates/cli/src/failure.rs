//! How the program ends when it does not succeed.

use std::process::ExitCode;

/// A message for stderr and an exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// Bad usage, or an instance that runs already.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 2 }
    }

    /// Ctrl-C.
    pub(crate) fn interrupted() -> Self {
        Self { message: String::new(), code: 130 }
    }

    /// Ctrl-C, and what became of the work.
    pub(crate) fn interrupted_with(message: String) -> Self {
        Self { message, code: 130 }
    }

    /// Text that was asked for, such as help: no failure at all.
    pub(crate) fn silent(code: u8) -> Self {
        Self { message: String::new(), code }
    }

    /// A message and its code.
    pub(crate) fn coded(message: impl Into<String>, code: u8) -> Self {
        Self { message: message.into(), code }
    }

    /// What there is to say, on one line.
    pub(crate) fn message(&self) -> String {
        self.message.lines().collect::<Vec<_>>().join(" ")
    }

    /// The same, and where what is wrong was said.
    pub(crate) fn with_origin(self, origin: &str) -> Self {
        Self { message: format!("{origin}: {}", self.message), ..self }
    }

    /// Prints the message, each line with the program's name, and gives the code.
    pub(crate) fn report(self) -> ExitCode {
        for line in self.message.lines() {
            eprintln!("ds4: {line}");
        }
        ExitCode::from(self.code)
    }
}

/// Any error of a library is a failure at run time.
impl<E: std::fmt::Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { message: error.to_string(), code: 1 }
    }
}
