//! What is kept of all sequences: the prefix tree, its pages in the backend, resume points, and what goes to the tiers
//! below and comes back.
//!
//! Every stretch between regular resume points is saved as soon as it is computed. The ends of prompts and answers change
//! with every turn, so they are saved when a long prompt was read, before they leave RAM, and when the engine ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ds4_kv::{Fetched, Hit, Key, Node, Segment, Tree, Vault};
use ds4_model::{CacheLayout, PAGE_TOKENS};

use crate::metrics::Counters;
use crate::runner::Runner;
use crate::seat::Seat;
use crate::steering::is_steered;
use crate::{Model, Options};

/// Pages for so many tokens.
pub(crate) fn pages_for(tokens: usize) -> usize {
    tokens.div_ceil(PAGE_TOKENS)
}

/// Why a resume point is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Every so many tokens, or because others part there.
    OnTheWay,
    /// The end of a prompt or an answer.
    End,
    /// The end of a prompt that took long to read.
    EndOfLongPrompt,
}

/// The prefix tree with its memory and the tiers below.
pub(crate) struct Prefixes {
    tree: Tree,
    layout: CacheLayout,
    /// Most bytes of resume points.
    point_budget: usize,
    /// Tokens between regular resume points.
    every: usize,
    /// Shorter prefixes are not saved.
    save_from: usize,
    vault: Option<Arc<Vault>>,
    /// Segments that the tiers had lost, and when that was looked at.
    lost: (u64, Instant),
    counters: Arc<Counters>,
}

/// After a tier lost something, everything is offered to it again at most so often.
const OFFER_AGAIN: Duration = Duration::from_secs(60);

impl Prefixes {
    pub(crate) fn new(
        model: &Model,
        options: &Options,
        layout: &CacheLayout,
        vault: Option<Arc<Vault>>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            tree: Tree::new(model.root_key(options.numerics), layout.plan.pages),
            layout: layout.clone(),
            point_budget: options.point_budget(layout),
            every: options.resume_every,
            save_from: options.save_from,
            vault,
            lost: (0, Instant::now()),
            counters,
        }
    }

    /// The longest resume point of `tokens` at or below `most`.
    pub(crate) fn find(&self, tokens: &[u32], most: usize) -> Hit {
        self.tree.find(tokens, most)
    }

    /// Pages of a prefix.
    pub(crate) fn depth(&self, node: Node) -> usize {
        self.tree.depth(node)
    }

    /// Pages that can be had.
    pub(crate) fn available(&self) -> usize {
        self.tree.free() + self.tree.idle()
    }

    /// Tells how much memory is in use.
    pub(crate) fn count(&self) {
        let (all, free, idle) = (self.layout.plan.pages, self.tree.free(), self.tree.idle());
        self.counters.pages.set(all);
        self.counters.pages_used.set(all - free - idle);
        self.counters.pages_kept.set(idle);
        self.counters.point_bytes.set(self.tree.point_bytes());
    }

    /// Holds a prefix.
    pub(crate) fn pin(&mut self, node: Node) {
        self.tree.pin(node);
    }

    /// Lets go of a prefix.
    pub(crate) fn unpin(&mut self, node: Node) {
        self.tree.unpin(node);
    }

    /// A place in `slot` after a prefix, which is pinned already.
    pub(crate) fn seat(&self, slot: usize, node: Node) -> Seat {
        Seat { slot, node, table: self.tree.path(node).into_iter().map(|node| self.tree.page(node).1).collect() }
    }

    /// Gives a sequence pages for so many tokens, dropping what is worth least; false when all others are in use.
    pub(crate) fn cover(&mut self, seat: &mut Seat, tokens: usize, runner: &mut Runner) -> bool {
        while seat.table.len() < pages_for(tokens) {
            match self.take_page(runner) {
                Some(page) => seat.table.push(page),
                None => return false,
            }
        }
        true
    }

    fn take_page(&mut self, runner: &mut Runner) -> Option<u32> {
        if self.tree.free() == 0 {
            let victim = self.tree.victim()?;
            self.save_ends(victim, runner);
            self.tree.drop_leaf(victim);
            self.counters.pages_dropped.add(1);
        }
        self.tree.take_page()
    }

    /// `computed` are all tokens whose rows the sequence has: pages that are full now can be shared.
    pub(crate) fn share(&mut self, seat: &mut Seat, computed: &[u32]) {
        for (i, page) in computed.chunks_exact(PAGE_TOKENS).enumerate().skip(self.depth(seat.node)) {
            seat.node = self.tree.extend(seat.node, page, seat.table[i]);
            seat.table[i] = self.tree.page(seat.node).1;
        }
    }

    /// Makes a resume point after `computed`, all tokens whose rows the sequence has.
    pub(crate) fn keep(&mut self, seat: &Seat, computed: &[u32], why: Why, runner: &mut Runner) {
        let rest = &computed[self.depth(seat.node) * PAGE_TOKENS..];
        if computed.is_empty() {
            return;
        }
        if self.tree.has_point(seat.node, rest) {
            return self.tree.touch(seat.node, rest);
        }
        let bytes = runner.export_point(seat, computed.len());
        self.counters.points_made.add(1);
        self.add_point(seat.node, rest, bytes, why != Why::OnTheWay, false, runner);
        if computed.len().is_multiple_of(self.every) || why == Why::EndOfLongPrompt {
            self.save(seat.node, rest, runner);
        }
    }

    fn add_point(&mut self, node: Node, rest: &[u32], bytes: Arc<[u8]>, end: bool, stored: bool, runner: &mut Runner) {
        for (node, point) in self.tree.add_point(node, rest, bytes, end, stored) {
            let len = self.depth(node) * PAGE_TOKENS + point.rest.len();
            if let Some(vault) = &self.vault
                && point.stored
                && !len.is_multiple_of(self.every)
            {
                let key = self.tree.key(node);
                let key = if point.rest.is_empty() { key } else { key.then(&point.rest) };
                vault.forget(self.key_before(node, len), len, key);
            }
        }
        while self.tree.point_bytes() > self.point_budget
            && let Some((node, rest)) = self.tree.point_victim()
        {
            self.save_end(node, &rest, runner);
            self.tree.drop_victim(node, &rest);
            self.counters.points_dropped.add(1);
        }
    }

    /// Where the stretch begins that ends after `len` tokens.
    fn stretch(&self, len: usize) -> usize {
        (len - 1) / self.every * self.every
    }

    /// The key of what lies before the stretch that ends after `len` tokens, at a prefix or within the page after it.
    fn key_before(&self, node: Node, len: usize) -> Key {
        match (self.stretch(len) / PAGE_TOKENS).checked_sub(1) {
            None => self.tree.key(Node::ROOT),
            Some(last) => self.tree.key(self.tree.path(node)[last]),
        }
    }

    /// Saves a resume point, and first the regular ones before it that the tiers lack: without them nothing leads there.
    fn save(&mut self, node: Node, rest: &[u32], runner: &mut Runner) {
        let Some(vault) = &self.vault else { return };
        // What steered tokens are called means nothing to other processes.
        let steered = |tokens: &[u32]| tokens.iter().any(|token| is_steered(*token));
        if steered(rest) || self.tree.path(node).into_iter().any(|on| steered(self.tree.page(on).0)) {
            return;
        }
        if self.lost.1.elapsed() >= OFFER_AGAIN && vault.lost() > self.lost.0 {
            self.offer_again();
        }
        let pages = self.every / PAGE_TOKENS;
        for on in self.tree.path(node).into_iter().skip(pages - 1).step_by(pages) {
            self.save_stretch(on, &[], runner);
        }
        self.save_stretch(node, rest, runner);
    }

    /// A tier may have lost anything: it is offered everything again.
    fn offer_again(&mut self) {
        let Some(vault) = &self.vault else { return };
        self.lost = (vault.lost(), Instant::now());
        self.tree.forget_stored();
    }

    /// Saves a resume point with the pages that lead to it from the last regular one, unless that was done.
    fn save_stretch(&mut self, node: Node, rest: &[u32], runner: &mut Runner) {
        let Some(vault) = &self.vault else { return };
        let Some(point) = self.tree.points(node).iter().find(|p| *p.rest == *rest && !p.stored) else { return };
        let start = self.stretch(self.depth(node) * PAGE_TOKENS + rest.len());
        let (mut tokens, mut pages) = (Vec::new(), Vec::new());
        for on in self.tree.path(node).split_off(start / PAGE_TOKENS) {
            let (text, page) = self.tree.page(on);
            tokens.extend_from_slice(text);
            pages.push(runner.export_page(page));
        }
        tokens.extend_from_slice(rest);
        let parent = self.key_before(node, start + tokens.len());
        if vault.save(Segment { parent, start, tokens, pages, point: point.bytes.to_vec() }) {
            self.tree.set_stored(node, rest);
        }
    }

    /// Saves a resume point that is about to leave RAM, if it is worth it.
    fn save_end(&mut self, node: Node, rest: &[u32], runner: &mut Runner) {
        let len = self.depth(node) * PAGE_TOKENS + rest.len();
        let end = self.tree.points(node).iter().any(|p| *p.rest == *rest && p.end);
        if (end || len.is_multiple_of(self.every)) && len >= self.save_from {
            self.save(node, rest, runner);
        }
    }

    /// Saves the ends of prompts and answers at a prefix.
    fn save_ends(&mut self, node: Node, runner: &mut Runner) {
        let rests: Vec<Box<[u32]>> = self.tree.points(node).iter().map(|p| p.rest.clone()).collect();
        rests.iter().for_each(|rest| self.save_end(node, rest, runner));
    }

    /// Saves what only RAM holds, and waits until it is written.
    pub(crate) fn save_all(&mut self, runner: &mut Runner) {
        let Some(vault) = self.vault.clone() else { return };
        if vault.lost() > self.lost.0 {
            self.offer_again();
        }
        for (node, rest) in self.tree.unstored() {
            self.save_end(node, &rest, runner);
            vault.flush(); // one at a time: all must find room
        }
    }

    /// Asks the tiers below for what RAM lacks of the first `most` of `tokens`; `reply` hears it on another thread. None
    /// if there is nothing to ask; else what RAM has, pinned.
    pub(crate) fn fetch(
        &mut self,
        tokens: &[u32],
        most: usize,
        wanted: impl Fn() -> bool + Send + 'static,
        reply: impl FnOnce(Fetched) + Send + 'static,
    ) -> Option<Node> {
        let vault = self.vault.clone()?;
        let have = self.tree.find(tokens, most).len;
        if most < self.save_from.max(have + 1) {
            return None;
        }
        let held = self.tree.longest(&tokens[..most]);
        self.tree.pin(held);
        vault.fetch(tokens[..most].to_vec(), have, most, wanted, reply);
        Some(held)
    }

    /// Takes in what the tiers below had of `tokens`, as far as pages can be had; true if there is more now.
    pub(crate) fn take_in(&mut self, tokens: &[u32], fetched: Fetched, runner: &mut Runner) -> bool {
        let mut node = self.tree.longest(tokens);
        self.tree.pin(node);
        let mut more = false;
        for segment in fetched.segments {
            if !self.take_in_pages(&mut node, &segment, runner) {
                break;
            }
            let rest = &segment.tokens[segment.pages.len() * PAGE_TOKENS..];
            let end = !segment.end().is_multiple_of(self.every);
            // The prefix may be longer than the segment by now, where RAM had more.
            let last = (segment.end() / PAGE_TOKENS).checked_sub(1);
            let at = last.map_or(Node::ROOT, |last| self.tree.path(node)[last]);
            self.add_point(at, rest, segment.point.into(), end, true, runner);
            more = true;
        }
        self.tree.unpin(node);
        more
    }

    /// Adds a segment's pages to a pinned prefix; false if they cannot be had or do not fit.
    fn take_in_pages(&mut self, node: &mut Node, segment: &Segment, runner: &mut Runner) -> bool {
        let sizes = segment.pages.iter().all(|page| page.len() == self.layout.page_bytes());
        let first = segment.start / PAGE_TOKENS;
        if !sizes || segment.point.len() != self.layout.point_bytes(segment.end()) || first > self.depth(*node) {
            return false;
        }
        for (i, (tokens, bytes)) in segment.tokens.chunks(PAGE_TOKENS).zip(&segment.pages).enumerate() {
            if first + i < self.depth(*node) {
                continue;
            }
            let Some(page) = self.take_page(runner) else { return false };
            runner.import_page(page, bytes);
            *node = self.tree.extend(*node, tokens, page);
        }
        true
    }

    /// A sequence leaves its place.
    pub(crate) fn leave(&mut self, seat: &mut Seat) {
        let own = seat.table.split_off(self.depth(seat.node));
        own.into_iter().for_each(|page| self.tree.give_page(page));
        self.tree.unpin(seat.node);
    }

    /// Drops everything that nobody uses.
    pub(crate) fn forget(&mut self) {
        while let Some(victim) = self.tree.victim() {
            self.tree.drop_leaf(victim);
        }
        while let Some((node, rest)) = self.tree.point_victim().filter(|(node, _)| *node == Node::ROOT) {
            self.tree.drop_victim(node, &rest);
        }
    }
}
