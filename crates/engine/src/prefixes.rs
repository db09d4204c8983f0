//! What is kept of all sequences: the prefix tree, its pages in the backend, and resume points.

use ds4_kv::{Hit, Key, Node, Tree};
use ds4_model::{CacheLayout, PAGE_TOKENS};

use crate::Options;
use crate::runner::Runner;
use crate::seat::Seat;

/// Pages for so many tokens.
pub(crate) fn pages_for(tokens: usize) -> usize {
    tokens.div_ceil(PAGE_TOKENS)
}

/// The prefix tree with its memory.
pub(crate) struct Prefixes {
    tree: Tree,
    /// Most bytes of resume points.
    point_budget: usize,
}

impl Prefixes {
    pub(crate) fn new(root: Key, options: &Options, layout: &CacheLayout) -> Self {
        Self { tree: Tree::new(root, layout.plan.pages), point_budget: options.point_budget(layout) }
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
    pub(crate) fn cover(&mut self, seat: &mut Seat, tokens: usize) -> bool {
        while seat.table.len() < pages_for(tokens) {
            match self.take_page() {
                Some(page) => seat.table.push(page),
                None => return false,
            }
        }
        true
    }

    fn take_page(&mut self) -> Option<u32> {
        if self.tree.free() == 0 {
            let victim = self.tree.victim()?;
            self.tree.drop_leaf(victim);
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

    /// Makes a resume point after `computed`, all tokens whose rows the sequence has; `end` if that is the end of a prompt
    /// or an answer.
    pub(crate) fn keep(&mut self, seat: &Seat, computed: &[u32], end: bool, runner: &mut Runner) {
        let rest = &computed[self.depth(seat.node) * PAGE_TOKENS..];
        if computed.is_empty() || self.tree.has_point(seat.node, rest) {
            return;
        }
        let bytes = runner.export_point(seat, computed.len());
        self.tree.add_point(seat.node, rest, bytes, end, false);
        while self.tree.point_bytes() > self.point_budget
            && let Some((node, rest)) = self.tree.point_victim()
        {
            self.tree.drop_victim(node, &rest);
        }
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
