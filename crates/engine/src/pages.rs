//! The pages that all sequences share, and who holds them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ds4_model::PAGE_TOKENS;

use crate::resident::Resident;

/// Pages for so many tokens.
pub(crate) fn pages_for(tokens: usize) -> usize {
    tokens.div_ceil(PAGE_TOKENS)
}

/// A live sequence.
struct Seat {
    resident: Arc<Mutex<Resident>>,
    /// When it last ran: a number that grows.
    used: u64,
}

/// Free pages, and what each live sequence holds.
pub(crate) struct Pages {
    free: Vec<u32>,
    seats: Vec<Option<Seat>>,
    clock: u64,
}

impl Pages {
    /// All of `pages` are free, and none of `slots` is taken.
    pub(crate) fn new(pages: usize, slots: usize) -> Self {
        let seats = (0..slots).map(|_| None).collect();
        // The first ones are handed out first.
        Self { free: (0..pages as u32).rev().collect(), seats, clock: 0 }
    }

    /// Pages that nobody holds.
    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    /// A sequence takes a slot.
    pub(crate) fn open(&mut self, slot: usize, resident: Arc<Mutex<Resident>>) {
        self.seats[slot] = Some(Seat { resident, used: 0 });
    }

    /// It is gone; so is all that it held.
    pub(crate) fn close(&mut self, slot: usize) {
        self.evict(slot);
        self.seats[slot] = None;
    }

    /// What the sequence in `slot` holds.
    pub(crate) fn resident(&self, slot: usize) -> MutexGuard<'_, Resident> {
        let seat = self.seats[slot].as_ref().expect("the sequence lives while it has requests");
        lock(&seat.resident)
    }

    /// The sequence in `slot` has run.
    pub(crate) fn touch(&mut self, slot: usize) {
        self.clock += 1;
        if let Some(seat) = &mut self.seats[slot] {
            seat.used = self.clock;
        }
    }

    /// Live sequences other than `busy` ones that hold pages, the one that has not run for longest first.
    pub(crate) fn idle(&self, busy: impl Fn(usize) -> bool) -> Vec<usize> {
        let holds = |slot: &usize| !self.resident(*slot).pages.is_empty();
        let live = (0..self.seats.len()).filter(|slot| self.seats[*slot].is_some());
        let mut idle: Vec<usize> = live.filter(|slot| !busy(*slot)).filter(holds).collect();
        idle.sort_by_key(|slot| self.seats[*slot].as_ref().map(|seat| seat.used));
        idle
    }

    /// Takes everything from a sequence, which will be read again when it is needed.
    pub(crate) fn evict(&mut self, slot: usize) {
        let Some(seat) = &self.seats[slot] else { return };
        let mut resident = lock(&seat.resident);
        resident.clear();
        self.free.append(&mut resident.pages);
    }

    /// Frees the pages after those that the sequence's tokens need.
    pub(crate) fn trim(&mut self, slot: usize) {
        let Some(seat) = &self.seats[slot] else { return };
        let mut resident = lock(&seat.resident);
        let kept = pages_for(resident.tokens.len()).min(resident.pages.len());
        self.free.extend(resident.pages.drain(kept..));
    }

    /// Gives the sequence pages for so many tokens; false when there are too few.
    pub(crate) fn cover(&mut self, slot: usize, tokens: usize) -> bool {
        let Some(seat) = &self.seats[slot] else { return false };
        let mut resident = lock(&seat.resident);
        let more = pages_for(tokens).saturating_sub(resident.pages.len());
        if more > self.free.len() {
            return false;
        }
        let first = self.free.len() - more;
        resident.pages.extend(self.free.drain(first..).rev());
        true
    }
}

/// A panic elsewhere leaves nothing half done that matters: what lies under these locks is whole at any moment.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
