//! What RAM holds: the tree of all prefixes, a page of tokens a node, and who uses it.
//!
//! Sequences with equal beginnings share their nodes. A node is pinned while a sequence runs on it or waits for it; what
//! nobody pins is dropped from the leaves when pages run out, the cheapest to compute again first (GreedyDual: what was
//! dropped raises the bar for what was not used since).

use std::collections::BTreeSet;
use std::sync::Arc;

use ds4_model::PAGE_TOKENS;

use crate::Key;

/// Points at the exact ends of prompts and answers that one conversation keeps.
const ENDS: usize = 2;

/// A prefix that ends with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node(u32);

impl Node {
    /// The empty prefix.
    pub const ROOT: Self = Self(0);
}

/// Where a sequence can go on.
#[derive(Clone, Debug)]
pub struct Point {
    /// Tokens after the last whole page.
    pub rest: Box<[u32]>,
    /// What the backend needs.
    pub bytes: Arc<[u8]>,
    /// Whether it is the exact end of a prompt or an answer; only the last few of a conversation are kept.
    pub end: bool,
    /// Whether a tier below has it, too.
    pub stored: bool,
    /// Tokens that one would compute without it.
    cost: u64,
    /// What it is worth.
    rank: u64,
}

/// The longest resume point of a prompt; the root and no bytes where there is none.
#[derive(Clone, Debug)]
pub struct Hit {
    /// The prefix of whole pages.
    pub node: Node,
    /// Tokens that need not be computed.
    pub len: usize,
    /// The resume point.
    pub bytes: Option<Arc<[u8]>>,
}

/// A prefix and what is known of it.
struct Entry {
    key: Key,
    parent: Node,
    /// Of the page; the root has none.
    tokens: Box<[u32]>,
    /// Where the backend has its rows.
    page: u32,
    /// Pages up to its end.
    depth: usize,
    children: Vec<Node>,
    /// Users of this prefix or of longer ones.
    pins: usize,
    rank: u64,
    points: Vec<Point>,
}

/// The tree.
pub struct Tree {
    entries: Vec<Entry>,
    vacant: Vec<Node>,
    /// Pages that nobody has.
    free: Vec<u32>,
    /// What can be dropped.
    leaves: BTreeSet<(u64, Node)>,
    /// Nodes that nobody pins.
    idle: usize,
    /// Ranks of the page and of the point that were dropped last.
    bars: [u64; 2],
    point_bytes: usize,
}

impl Tree {
    /// A tree with `pages` free pages.
    pub fn new(root: Key, pages: usize) -> Self {
        let mut tree = Self {
            entries: Vec::new(),
            vacant: Vec::new(),
            // The first ones are handed out first.
            free: (0..pages as u32).rev().collect(),
            leaves: BTreeSet::new(),
            idle: 0,
            bars: [0; 2],
            point_bytes: 0,
        };
        tree.entries.push(Entry::new(root, Node::ROOT, &[], 0, 0));
        tree
    }

    fn at(&self, node: Node) -> &Entry {
        &self.entries[node.0 as usize]
    }

    fn at_mut(&mut self, node: Node) -> &mut Entry {
        &mut self.entries[node.0 as usize]
    }

    /// The key of a prefix.
    pub fn key(&self, node: Node) -> Key {
        self.at(node).key
    }

    /// Pages of a prefix.
    pub fn depth(&self, node: Node) -> usize {
        self.at(node).depth
    }

    /// The nodes of a prefix, the shortest first, without the root.
    pub fn path(&self, node: Node) -> Vec<Node> {
        let mut path: Vec<Node> =
            std::iter::successors(Some(node), |n| Some(self.at(*n).parent)).take_while(|n| *n != Node::ROOT).collect();
        path.reverse();
        path
    }

    /// The tokens of a node's page, and where the backend has its rows.
    pub fn page(&self, node: Node) -> (&[u32], u32) {
        let entry = self.at(node);
        (&entry.tokens, entry.page)
    }

    /// Pages that nobody has.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Pages that can be had by dropping what nobody uses.
    pub fn idle(&self) -> usize {
        self.idle
    }

    /// Bytes of all resume points.
    pub fn point_bytes(&self) -> usize {
        self.point_bytes
    }

    /// The longest resume point of `tokens` at or below `most` of them.
    pub fn find(&self, tokens: &[u32], most: usize) -> Hit {
        let mut best = Hit { node: Node::ROOT, len: 0, bytes: None };
        for node in self.along(tokens) {
            let (before, rest) = tokens.split_at(self.depth(node) * PAGE_TOKENS);
            for point in self.points(node) {
                let len = before.len() + point.rest.len();
                if len <= most && len > best.len && rest.starts_with(&point.rest) {
                    best = Hit { node, len, bytes: Some(Arc::clone(&point.bytes)) };
                }
            }
        }
        best
    }

    /// The longest prefix of whole pages that `tokens` begin with, resume point or not.
    pub fn longest(&self, tokens: &[u32]) -> Node {
        self.along(tokens).last().unwrap_or(Node::ROOT)
    }

    /// The root and its descendants that `tokens` begin with.
    fn along<'t>(&'t self, tokens: &'t [u32]) -> impl Iterator<Item = Node> + 't {
        let child = |node: &Node| {
            let page = tokens[self.depth(*node) * PAGE_TOKENS..].get(..PAGE_TOKENS)?;
            self.child(*node, page)
        };
        std::iter::successors(Some(Node::ROOT), child)
    }

    fn child(&self, node: Node, page: &[u32]) -> Option<Node> {
        self.at(node).children.iter().copied().find(|child| *self.at(*child).tokens == *page)
    }

    /// Holds a prefix: it is not dropped until it is unpinned as often as it was pinned.
    pub fn pin(&mut self, node: Node) {
        self.path(node).into_iter().for_each(|node| self.pin_one(node));
    }

    fn pin_one(&mut self, node: Node) {
        if self.at(node).pins == 0 {
            self.idle -= 1;
            self.set_leaf(node, false);
        }
        self.at_mut(node).pins += 1;
    }

    /// Lets go of a prefix.
    pub fn unpin(&mut self, node: Node) {
        for node in self.path(node) {
            self.at_mut(node).pins -= 1;
            if self.at(node).pins == 0 {
                self.idle += 1;
                self.set_leaf(node, true);
            }
        }
    }

    /// A prefix and `rest` were used: raises what leads there to what it is worth now, which is what it would take to
    /// compute it again from the point before.
    pub fn touch(&mut self, node: Node, rest: &[u32]) {
        let [bar, point_bar] = self.bars;
        let mut last = 0; // tokens of the last point on the way
        for (node, next) in self.way(node, rest) {
            let entry = self.at_mut(node);
            for point in entry.points.iter_mut().filter(|point| next.starts_with(&point.rest)) {
                let len = entry.depth * PAGE_TOKENS + point.rest.len();
                // Reading it back costs something, too.
                point.cost = (len - last) as u64 / if point.stored { 8 } else { 1 };
                point.rank = point_bar + point.cost;
                last = len;
            }
            let most = entry.points.iter().map(|point| point.cost).max().unwrap_or(0);
            self.set_rank(node, bar + most);
        }
    }

    /// The root and the nodes of a prefix, each with the tokens that follow it on the way to `rest`.
    fn way(&self, node: Node, rest: &[u32]) -> Vec<(Node, Box<[u32]>)> {
        let path = self.path(node);
        let nodes = std::iter::once(Node::ROOT).chain(path.iter().copied());
        let following = path.iter().map(|node| self.at(*node).tokens.clone()).chain([rest.into()]);
        nodes.zip(following).collect()
    }

    fn set_rank(&mut self, node: Node, rank: u64) {
        self.set_leaf(node, false);
        self.at_mut(node).rank = rank;
        self.set_leaf(node, true);
    }

    /// Puts a node among those that can be dropped, if nobody pins it and nothing follows it; or takes it out.
    fn set_leaf(&mut self, node: Node, can: bool) {
        let entry = self.at(node);
        let place = (entry.rank, node);
        if can && entry.children.is_empty() && entry.pins == 0 && node != Node::ROOT {
            self.leaves.insert(place);
        } else {
            self.leaves.remove(&place);
        }
    }

    /// A free page, if there is one.
    pub fn take_page(&mut self) -> Option<u32> {
        self.free.pop()
    }

    /// A page that is not needed any more.
    pub fn give_page(&mut self, page: u32) {
        self.free.push(page);
    }

    /// The page after a pinned prefix is full: it becomes a node, pinned once. If there is one already, `page` is given
    /// back, and that one's rows, which are the same, take its place.
    pub fn extend(&mut self, parent: Node, tokens: &[u32], page: u32) -> Node {
        assert_eq!(tokens.len(), PAGE_TOKENS, "a whole page");
        if let Some(node) = self.child(parent, tokens) {
            self.give_page(page);
            self.pin_one(node);
            return node;
        }
        let entry = Entry::new(self.key(parent).then(tokens), parent, tokens, page, self.depth(parent) + 1);
        let entry = Entry { pins: 1, ..entry };
        let node = self.vacant.pop().unwrap_or(Node(self.entries.len() as u32));
        match self.entries.get_mut(node.0 as usize) {
            Some(place) => *place = entry,
            None => self.entries.push(entry),
        }
        self.at_mut(parent).children.push(node);
        node
    }

    /// What would be dropped for its page: the leaf worth least.
    pub fn victim(&self) -> Option<Node> {
        self.leaves.first().map(|(_, node)| *node)
    }

    /// Drops a leaf that nobody pins, with its points. Its page is free.
    pub fn drop_leaf(&mut self, node: Node) {
        self.set_leaf(node, false);
        let entry = std::mem::replace(self.at_mut(node), Entry::new(Key::root(&[]), Node::ROOT, &[], 0, 0));
        assert!(entry.pins == 0 && entry.children.is_empty() && node != Node::ROOT, "a leaf that nobody uses");
        self.idle -= 1;
        self.bars[0] = self.bars[0].max(entry.rank);
        self.point_bytes -= entry.points.iter().map(|p| p.bytes.len()).sum::<usize>();
        self.free.push(entry.page);
        self.vacant.push(node);
        self.at_mut(entry.parent).children.retain(|child| *child != node);
        self.set_leaf(entry.parent, true);
    }

    /// The points within the page after a prefix, or at its end.
    pub fn points(&self, node: Node) -> &[Point] {
        &self.at(node).points
    }

    /// Whether there is a point after a prefix and `rest`.
    pub fn has_point(&self, node: Node, rest: &[u32]) -> bool {
        self.points(node).iter().any(|point| *point.rest == *rest)
    }

    /// A resume point after a pinned prefix and `rest`, fewer tokens than a page. Of the ends before it in the same
    /// conversation, the last ones stay; the others are returned, with their prefixes.
    pub fn add_point(
        &mut self,
        node: Node,
        rest: &[u32],
        bytes: Arc<[u8]>,
        end: bool,
        stored: bool,
    ) -> Vec<(Node, Point)> {
        assert!(rest.len() < PAGE_TOKENS, "less than a page");
        if self.has_point(node, rest) {
            return Vec::new();
        }
        let gone = if end { self.supersede(node, rest) } else { Vec::new() };
        self.point_bytes += bytes.len();
        let point = Point { rest: rest.into(), bytes, end, stored, cost: 0, rank: 0 };
        let points = &mut self.at_mut(node).points;
        let place = points.partition_point(|p| p.rest.len() < rest.len());
        points.insert(place, point);
        self.touch(node, rest);
        gone
    }

    /// Removes the ends that lead to this one, but for the last.
    fn supersede(&mut self, node: Node, rest: &[u32]) -> Vec<(Node, Point)> {
        let mut ends = Vec::new();
        for (on, next) in self.way(node, rest) {
            ends.extend(
                self.points(on).iter().filter(|p| p.end && next.starts_with(&p.rest)).map(|p| (on, p.rest.clone())),
            );
        }
        let gone = (ends.len() + 1).saturating_sub(ENDS);
        ends.drain(..gone).filter_map(|(node, rest)| Some((node, self.drop_point(node, &rest)?))).collect()
    }

    /// Whether a point is stored below, too.
    pub fn set_stored(&mut self, node: Node, rest: &[u32]) {
        if let Some(point) = self.at_mut(node).points.iter_mut().find(|point| *point.rest == *rest) {
            point.stored = true;
        }
    }

    /// No point is known to be stored below any more.
    pub fn forget_stored(&mut self) {
        self.entries.iter_mut().flat_map(|entry| &mut entry.points).for_each(|point| point.stored = false);
    }

    /// The point that would be dropped for its bytes: one that no running sequence stands on, worth least.
    pub fn point_victim(&self) -> Option<(Node, Box<[u32]>)> {
        let of = |i: u32| self.at(Node(i)).points.iter().map(move |point| (Node(i), point));
        let all = (0..self.entries.len() as u32).flat_map(of);
        let least = all.min_by_key(|(node, point)| (self.at(*node).pins > 0, point.rank))?;
        Some((least.0, least.1.rest.clone()))
    }

    /// Drops a point.
    pub fn drop_point(&mut self, node: Node, rest: &[u32]) -> Option<Point> {
        let points = &mut self.at_mut(node).points;
        let point = points.remove(points.iter().position(|point| *point.rest == *rest)?);
        self.point_bytes -= point.bytes.len();
        if self.points(node).is_empty() {
            self.set_rank(node, self.bars[0]); // of no use but for what follows
        }
        Some(point)
    }

    /// Drops the point worth least because there are too many; see [`Tree::point_victim`].
    pub fn drop_victim(&mut self, node: Node, rest: &[u32]) {
        if let Some(point) = self.drop_point(node, rest) {
            self.bars[1] = self.bars[1].max(point.rank);
        }
    }

    /// All points that only RAM holds, with their prefixes.
    pub fn unstored(&self) -> Vec<(Node, Box<[u32]>)> {
        let of = |i: u32| self.at(Node(i)).points.iter().map(move |point| (Node(i), point));
        let all = (0..self.entries.len() as u32).flat_map(of);
        all.filter(|(_, point)| !point.stored).map(|(node, point)| (node, point.rest.clone())).collect()
    }
}

impl Entry {
    fn new(key: Key, parent: Node, tokens: &[u32], page: u32, depth: usize) -> Self {
        let (children, points) = (Vec::new(), Vec::new());
        Self { key, parent, tokens: tokens.into(), page, depth, children, pins: 0, rank: 0, points }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROOT: Node = Node::ROOT;

    fn page(n: u32) -> Vec<u32> {
        vec![n; PAGE_TOKENS]
    }

    fn bytes(n: usize) -> Arc<[u8]> {
        vec![0; n].into()
    }

    /// A path of pages below `node`, pinned.
    fn grow(tree: &mut Tree, mut node: Node, pages: &[u32]) -> Node {
        for &n in pages {
            let free = tree.take_page().expect("there are pages");
            node = tree.extend(node, &page(n), free);
        }
        node
    }

    #[test]
    fn sequences_share_what_they_have_in_common() {
        let mut tree = Tree::new(Key::root(&[]), 10);
        let a = grow(&mut tree, ROOT, &[1, 2, 3]);
        let b = grow(&mut tree, ROOT, &[1, 2, 4]);
        assert_eq!(tree.free(), 6);
        assert_eq!(tree.path(a)[..2], tree.path(b)[..2]);
        assert_eq!(tree.key(b), Key::root(&[]).after(&[page(1), page(2), page(4)].concat()));
        tree.unpin(a);
        assert_eq!((tree.idle(), tree.victim()), (1, Some(a)), "b still needs the rest");
        tree.unpin(b);
        assert_eq!(tree.idle(), 4);
    }

    #[test]
    fn the_longest_point_of_a_prompt_is_found() {
        let mut tree = Tree::new(Key::root(&[]), 10);
        let node = grow(&mut tree, ROOT, &[1, 2]);
        tree.add_point(ROOT, &[1; 7], bytes(7), false, false);
        tree.add_point(node, &[], bytes(1), false, false);
        tree.add_point(node, &[5, 6], bytes(2), true, false);
        let prompt = [page(1), page(2), vec![5, 6, 7]].concat();
        let len = |tokens: &[u32], most| tree.find(tokens, most).len;
        assert_eq!(len(&prompt, 1000), 258);
        assert_eq!(len(&prompt, 257), 256);
        assert_eq!(len(&prompt[..257], 1000), 256);
        assert_eq!(len(&prompt[..255], 1000), 7);
        assert_eq!(len(&[1, 1, 1], 1000), 0);
        assert_eq!(tree.depth(tree.longest(&prompt[..255])), 1);
    }

    #[test]
    fn a_conversation_keeps_its_last_two_ends() {
        let mut tree = Tree::new(Key::root(&[]), 10);
        let one = grow(&mut tree, ROOT, &[1]);
        assert!(tree.add_point(ROOT, &[1; 9], bytes(1), true, false).is_empty());
        assert!(tree.add_point(one, &[2], bytes(1), true, false).is_empty());
        assert!(
            tree.add_point(one, &[3], bytes(1), true, false).is_empty(),
            "another conversation, with one end before"
        );
        let gone = tree.add_point(one, &[2, 2], bytes(1), true, false);
        assert_eq!(gone.iter().map(|(node, p)| (*node, p.rest.len())).collect::<Vec<_>>(), [(ROOT, 9)]);
        let two = grow(&mut tree, one, &[2]);
        let gone = tree.add_point(two, &[], bytes(1), true, false);
        assert_eq!(gone.iter().map(|(node, p)| (*node, &*p.rest)).collect::<Vec<_>>(), [(one, &[2][..])]);
        assert_eq!(tree.point_bytes(), 3);
    }

    #[test]
    fn what_is_cheap_to_compute_again_goes_first() {
        let mut tree = Tree::new(Key::root(&[]), 20);
        let cheap = grow(&mut tree, ROOT, &[1, 2]);
        let on_the_way = tree.path(cheap)[0];
        tree.add_point(on_the_way, &[], bytes(1), false, false);
        tree.add_point(cheap, &[], bytes(1), false, false);
        let dear = grow(&mut tree, ROOT, &[3, 4, 5]);
        tree.add_point(dear, &[], bytes(1), false, false);
        let useless = grow(&mut tree, dear, &[6]);
        for node in [useless, cheap] {
            tree.unpin(node);
            tree.touch(node, &[]);
        }
        let mut order = Vec::new();
        while let Some(node) = tree.victim() {
            order.push(node);
            tree.drop_leaf(node);
        }
        assert_eq!(order[..2], [useless, cheap]);
        assert_eq!((order[2], tree.free(), tree.idle(), tree.point_bytes()), (on_the_way, 20, 0, 0));
    }

    #[test]
    fn the_point_worth_least_goes_first_and_running_ones_last() {
        let mut tree = Tree::new(Key::root(&[]), 20);
        let a = grow(&mut tree, ROOT, &[1, 2, 3]);
        tree.add_point(a, &[], bytes(1), false, false);
        tree.add_point(a, &[9; 5], bytes(1), false, false);
        let b = grow(&mut tree, ROOT, &[4]);
        tree.add_point(b, &[], bytes(1), false, false);
        tree.unpin(a);
        assert_eq!(tree.point_victim(), Some((a, vec![9; 5].into())), "five tokens after another one");
        tree.drop_victim(a, &[9; 5]);
        assert_eq!(tree.point_victim(), Some((a, [].into())), "somebody stands on the other");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Random sequences come, grow and go; pages are never lost, never shared by two prefixes, and what is found is right.
        #[test]
        fn pages_add_up(steps in prop::collection::vec((0usize..4, 0u32..3, 0u32..3, 0usize..5), 1..120)) {
            const PAGES: usize = 12;
            let mut tree = Tree::new(Key::root(&[]), PAGES);
            let mut running: Vec<Vec<Node>> = vec![vec![]; 3];
            for (what, who, token, rest) in steps {
                let path = &mut running[who as usize];
                let node = path.last().copied().unwrap_or(ROOT);
                match what {
                    0 | 1 => {
                        while tree.free() == 0 && let Some(victim) = tree.victim() {
                            tree.drop_leaf(victim);
                        }
                        if let Some(free) = tree.take_page() {
                            path.push(tree.extend(node, &page(token), free));
                        }
                    }
                    2 => drop(tree.add_point(node, &vec![token; rest], bytes(1), rest % 2 == 1, false)),
                    _ => {
                        tree.unpin(node);
                        path.clear();
                    }
                }
                let all: BTreeSet<Node> = running.iter().flatten().copied().collect();
                prop_assert_eq!(PAGES - tree.free() - tree.idle(), all.len(), "pinned nodes");
                for path in &running {
                    let node = path.last().copied().unwrap_or(ROOT);
                    prop_assert_eq!(&tree.path(node), path);
                    let tokens: Vec<u32> = path.iter().flat_map(|n| tree.page(*n).0.to_vec()).collect();
                    prop_assert_eq!(tree.key(node), Key::root(&[]).after(&tokens));
                    prop_assert_eq!(tree.longest(&tokens), node);
                    let hit = tree.find(&tokens, usize::MAX);
                    prop_assert!(hit.len <= tokens.len() && (hit.len == 0) == hit.bytes.is_none());
                }
                let mut pages: Vec<u32> = all.iter().map(|n| tree.page(*n).1).collect();
                pages.extend(&tree.free);
                let count = pages.len();
                pages.sort_unstable();
                pages.dedup();
                prop_assert_eq!(pages.len(), count, "no page twice");
            }
            running.iter().for_each(|path| tree.unpin(path.last().copied().unwrap_or(ROOT)));
            while let Some(victim) = tree.victim() {
                tree.drop_leaf(victim);
            }
            prop_assert_eq!(tree.free(), PAGES);
        }
    }
}
