//! A sequence as its owner sees it.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use crate::pages::lock;
use crate::resident::Resident;
use crate::scheduler::Command;
use crate::{Engine, Error, Event, Request};

/// One conversation's state in the engine. The engine may take it away while it rests and memory is short; it is computed
/// again then.
pub struct Sequence<'e> {
    engine: &'e Engine,
    slot: usize,
    resident: Arc<Mutex<Resident>>,
}

impl<'e> Sequence<'e> {
    pub(crate) fn open(engine: &'e Engine, slot: usize) -> Result<Self, Error> {
        let resident = Arc::new(Mutex::new(Resident::default()));
        engine.send(Command::Open { slot, resident: Arc::clone(&resident) })?;
        Ok(Self { engine, slot, resident })
    }

    /// Tokens whose rows the cache holds. The last generated token joins when something follows it.
    pub fn tokens(&self) -> Vec<u32> {
        lock(&self.resident).tokens.clone()
    }

    /// How many of `tokens` a request would find here.
    pub fn reusable(&self, tokens: &[u32]) -> usize {
        lock(&self.resident).start(tokens, tokens.len().saturating_sub(1)).len
    }

    /// Continues `request.tokens`. The longest prefix that can be kept is not computed again; see [`Event::Prefill`].
    /// What can be kept: everything, all but the last [`ds4_model::ROLLBACK`] tokens, or what was there before the last
    /// token of the previous request, where a template opens or closes the reasoning.
    ///
    /// Events arrive as they happen; dropping the [`Run`] cancels the request within one step.
    pub fn submit(&mut self, request: Request) -> Result<Run<'_, 'e>, Error> {
        self.engine.check(&request)?;
        let (sender, events) = channel();
        let cancel = Arc::new(AtomicBool::new(false));
        let (slot, flag) = (self.slot, Arc::clone(&cancel));
        self.engine.send(Command::Run { slot, request, events: sender, cancel: flag })?;
        Ok(Run { sequence: self, events, cancel, ended: false })
    }

    /// Takes the last `count` tokens back, exactly; at most [`ds4_model::ROLLBACK`] from the longest state so far.
    pub fn rollback(&mut self, count: usize) -> Result<(), Error> {
        let mut resident = lock(&self.resident);
        let (len, possible) = (resident.tokens.len(), resident.possible());
        if count > possible {
            return Err(Error::Rollback { asked: count, possible });
        }
        resident.truncate(len - count);
        Ok(())
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        lock(&self.resident).clear();
    }
}

impl Drop for Sequence<'_> {
    fn drop(&mut self) {
        let _ = self.engine.send(Command::Close { slot: self.slot }); // it may have stopped
        self.engine.free(self.slot);
    }
}

/// A request under way: an iterator over its events, the last of which is an end.
pub struct Run<'s, 'e> {
    sequence: &'s mut Sequence<'e>,
    events: Receiver<Event>,
    cancel: Arc<AtomicBool>,
    ended: bool,
}

impl Run<'_, '_> {
    /// Asks the engine to stop; the end still comes as an event.
    pub fn cancel(&self) {
        self.cancel.store(true, Relaxed);
    }

    /// A flag that cancels the request when it is set, for signal handlers.
    pub fn cancel_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancel)
    }
}

impl Iterator for Run<'_, '_> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        let event = self.events.recv().unwrap_or_else(|_| Event::Failed(self.sequence.engine.stopped().to_string()));
        self.ended = matches!(event, Event::Finished(..) | Event::Failed(_));
        Some(event)
    }
}

impl Drop for Run<'_, '_> {
    fn drop(&mut self) {
        self.cancel();
        self.for_each(drop);
    }
}
