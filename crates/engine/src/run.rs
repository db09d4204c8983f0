//! A request under way, as its owner sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::Receiver;

use crate::{Engine, Event};

/// A request under way: an iterator over its events, the last of which is an end.
pub struct Run<'e> {
    engine: &'e Engine,
    events: Receiver<Event>,
    cancel: Arc<AtomicBool>,
    ended: bool,
}

impl<'e> Run<'e> {
    pub(crate) fn new(engine: &'e Engine, events: Receiver<Event>, cancel: Arc<AtomicBool>) -> Self {
        Self { engine, events, cancel, ended: false }
    }

    /// Asks the engine to stop; the end still comes as an event.
    pub fn cancel(&self) {
        self.cancel.store(true, Relaxed);
    }

    /// A flag that cancels the request when it is set, for signal handlers.
    pub fn cancel_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancel)
    }
}

impl Iterator for Run<'_> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        let event = self.events.recv().unwrap_or_else(|_| Event::Failed(self.engine.stopped().to_string()));
        self.ended = matches!(event, Event::Finished(..) | Event::Failed(_));
        Some(event)
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.cancel();
        self.for_each(drop);
    }
}
