//! Where tokens come from: the engine, or a script for tests and for looking at clients.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ds4_engine::{Engine, Event, Metrics, Options, Plan, Request};

use crate::Error;

/// The events of a request, and the flag that cancels it.
pub type Submitted<'s> = (Box<dyn Iterator<Item = Event> + 's>, Arc<AtomicBool>);

/// What runs requests.
pub trait Source: Send + Sync {
    /// Runs a request; dropping the events cancels it.
    fn submit(&self, request: Request) -> Result<Submitted<'_>, Error>;

    /// Why it cannot run any more, if it cannot.
    fn health(&self) -> Result<(), String>;

    /// How it runs: its context, and how many requests at once.
    fn options(&self) -> &Options;

    /// What it did so far.
    fn metrics(&self) -> Metrics {
        Metrics::default()
    }

    /// Its memory, where it has any.
    fn plan(&self) -> Option<&Plan> {
        None
    }
}

impl Source for Engine {
    fn submit(&self, request: Request) -> Result<Submitted<'_>, Error> {
        let run = Engine::submit(self, request).map_err(|e| Error::Failed(e.to_string()))?;
        let flag = run.cancel_flag();
        Ok((Box::new(run), flag))
    }

    fn health(&self) -> Result<(), String> {
        Engine::health(self).map_err(|e| e.to_string())
    }

    fn options(&self) -> &Options {
        Engine::options(self)
    }

    fn metrics(&self) -> Metrics {
        Engine::metrics(self)
    }

    fn plan(&self) -> Option<&Plan> {
        Some(Engine::plan(self))
    }
}
