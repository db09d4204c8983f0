//! What a store keeps, and what it can do without.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::time::SystemTime;

use crate::store::{Entry, Error, Store};
use crate::{Key, SegmentName};

/// The segments of a store, as they were when it was looked through: the names tell everything.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    kept: Vec<Kept>,
    /// Where each (root, key) is in `kept`.
    ends: HashMap<(Key, Key), usize>,
}

/// A segment in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What and where it is.
    pub name: SegmentName,
    /// Its size.
    pub bytes: u64,
    /// When it was written or last used.
    pub used: SystemTime,
    /// Tokens before it; none where what comes before is missing, so that nothing can lead to it.
    pub start: Option<usize>,
}

impl Catalogue {
    /// Looks through a store. What has other names than segments is passed over.
    pub fn read(store: &dyn Store) -> Result<Self, Error> {
        Ok(Self::of(store.list("")?))
    }

    fn of(entries: Vec<Entry>) -> Self {
        let name = |entry: &Entry| entry.name.parse::<SegmentName>().ok();
        let kept = |e: Entry| name(&e).map(|name| Kept { name, bytes: e.bytes, used: e.used, start: None });
        let mut kept: Vec<Kept> = entries.into_iter().filter_map(kept).collect();
        kept.sort_by_key(|k| (k.name.root, k.name.end, k.name.key, k.name.parent));
        let mut ends = HashMap::new();
        for (at, one) in kept.iter_mut().enumerate() {
            // What comes before ends before, so it was here already.
            let SegmentName { root, parent, end, key } = one.name;
            let before = ends.get(&(root, parent)).map(|(_, end)| *end);
            one.start = before.or((parent == root).then_some(0)).filter(|start| *start < end);
            if one.start.is_some() {
                ends.entry((root, key)).or_insert((at, end));
            }
        }
        Self { kept, ends: ends.into_iter().map(|(key, (at, _))| (key, at)).collect() }
    }

    /// All segments, of each root those that end first before others.
    pub fn kept(&self) -> &[Kept] {
        &self.kept
    }

    /// Bytes of all.
    pub fn bytes(&self) -> u64 {
        self.kept.iter().map(|k| k.bytes).sum()
    }

    /// The segments that lead to the end of this one, itself last; only itself where what comes before is missing.
    pub fn path(&self, last: &Kept) -> Vec<&Kept> {
        let last = self.kept.iter().find(|kept| kept.name == last.name);
        let mut path: Vec<&Kept> =
            std::iter::successors(last, |kept| self.before(kept).map(|at| &self.kept[at])).collect();
        path.reverse();
        path
    }

    /// The segments of a root, each followed by what continues it; last, those that nothing leads to.
    pub fn in_order(&self, root: Key) -> Vec<&Kept> {
        let mut after: HashMap<Key, Vec<&Kept>> = HashMap::new();
        let (reached, lost): (Vec<&Kept>, Vec<&Kept>) =
            self.kept.iter().filter(|k| k.name.root == root).partition(|k| k.start.is_some());
        reached.into_iter().rev().for_each(|kept| after.entry(kept.name.parent).or_default().push(kept));
        let mut ordered = Vec::new();
        // The last of these comes next: what goes farthest is last.
        let mut next = after.remove(&root).unwrap_or_default();
        while let Some(kept) = next.pop() {
            ordered.push(kept);
            next.extend(after.remove(&kept.name.key).unwrap_or_default());
        }
        ordered.extend(lost);
        ordered
    }

    /// The segments that were not used since then, nor anything that continues them; the ends of conversations first.
    pub fn unused_since(&self, then: SystemTime) -> Vec<&Kept> {
        let mut needed = vec![false; self.kept.len()];
        let mut unused = Vec::new();
        for (at, kept) in self.kept.iter().enumerate().rev() {
            match needed[at] || kept.used >= then {
                true => _ = self.before(kept).map(|parent| needed[parent] = true),
                false => unused.push(kept),
            }
        }
        unused
    }

    /// The segments that no other continues.
    pub fn leaves(&self) -> impl Iterator<Item = &Kept> {
        let parents: HashSet<(Key, Key)> = self.kept.iter().map(|k| (k.name.root, k.name.parent)).collect();
        self.kept.iter().filter(move |k| !parents.contains(&(k.name.root, k.name.key)))
    }

    /// What to forget, in this order, so that at most `most` bytes stay. What leads to `needed` stays in any case.
    ///
    /// First go those that nothing leads to, then always the leaf that is worth least: few tokens for its bytes, and unused
    /// for long; an hour halves the worth. So nothing stays whose beginning went.
    pub fn surplus(&self, most: u64, needed: Option<(Key, Key)>, now: SystemTime) -> Vec<&Kept> {
        let lost = (0..self.kept.len()).filter(|at| self.kept[*at].start.is_none());
        let mut bytes = self.bytes();
        let mut surplus = Vec::new();
        let mut forget = |at: usize| {
            let over = bytes > most;
            if over {
                bytes -= self.kept[at].bytes;
                surplus.push(&self.kept[at]);
            }
            over
        };
        if !lost.rev().all(&mut forget) {
            return surplus;
        }
        let mut continued = self.continued(needed);
        let item = |at: usize| Reverse((Worth::of(&self.kept[at], now), at));
        let leaves = (0..self.kept.len()).filter(|at| continued[*at] == 0 && self.kept[*at].start.is_some());
        let mut leaves: BinaryHeap<_> = leaves.map(item).collect();
        while let Some(Reverse((_, at))) = leaves.pop()
            && forget(at)
        {
            if let Some(parent) = self.before(&self.kept[at]) {
                continued[parent] -= 1;
                if continued[parent] == 0 {
                    leaves.push(item(parent));
                }
            }
        }
        surplus
    }

    /// How many segments continue each one; `needed` counts as one more.
    fn continued(&self, needed: Option<(Key, Key)>) -> Vec<usize> {
        let mut continued = vec![0; self.kept.len()];
        let reached = self.kept.iter().filter(|k| k.start.is_some()).filter_map(|k| self.before(k));
        for at in reached.chain(needed.and_then(|end| self.ends.get(&end).copied())) {
            continued[at] += 1;
        }
        continued
    }

    /// Where the segment before this one is.
    fn before(&self, kept: &Kept) -> Option<usize> {
        self.ends.get(&(kept.name.root, kept.name.parent)).copied()
    }
}

/// What a segment is worth: the logarithm of its tokens a byte, less the hours since it was used.
#[derive(PartialEq)]
struct Worth(f64);

impl Worth {
    fn of(kept: &Kept, now: SystemTime) -> Self {
        let Some(start) = kept.start else { return Self(f64::NEG_INFINITY) };
        let hours = now.duration_since(kept.used).map_or(0.0, |age| age.as_secs_f64() / 3600.0);
        Self(((kept.name.end - start) as f64 / kept.bytes.max(1) as f64).log2() - hours)
    }
}

impl Eq for Worth {}

impl Ord for Worth {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Worth {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A key for a name in a test.
    fn key(name: &str) -> Key {
        Key::root(&[name.as_bytes()])
    }

    fn entry(parent: &str, end: usize, name: &str, bytes: u64, hours_ago: u64) -> Entry {
        let name = SegmentName { root: key("root"), parent: key(parent), end, key: key(name) };
        let used = now() - Duration::from_secs(3600 * hours_ago);
        Entry { name: name.to_string(), bytes, used }
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn forgotten(catalogue: &Catalogue, most: u64, needed: Option<&str>) -> Vec<usize> {
        let needed = needed.map(|name| (key("root"), key(name)));
        catalogue.surplus(most, needed, now()).iter().map(|k| k.name.end).collect()
    }

    /// root - a - b - c, with a tail after each of a and b.
    fn chain() -> Vec<Entry> {
        vec![
            entry("root", 2048, "a", 100, 0),
            entry("a", 4096, "b", 100, 0),
            entry("b", 6144, "c", 100, 0),
            entry("a", 2100, "a's tail", 50, 0),
            entry("b", 5000, "b's tail", 80, 0),
        ]
    }

    #[test]
    fn what_leads_to_others_stays_longest() {
        let catalogue = Catalogue::of(chain());
        assert_eq!(catalogue.bytes(), 430);
        assert_eq!(forgotten(&catalogue, 430, None), [0; 0]);
        // The tails are worth least; then from the end.
        assert_eq!(forgotten(&catalogue, 0, None), [2100, 5000, 6144, 4096, 2048]);
        assert_eq!(forgotten(&catalogue, 250, None), [2100, 5000, 6144]);
        assert_eq!(forgotten(&catalogue, 0, Some("b")), [2100, 5000, 6144]);
        assert_eq!(forgotten(&catalogue, 0, Some("c")), [2100, 5000]);
    }

    #[test]
    fn an_hour_unused_halves_the_worth() {
        let mut entries = chain();
        entries[2].used = now() - Duration::from_secs(8 * 3600);
        assert_eq!(forgotten(&Catalogue::of(entries), 330, None), [6144]);
    }

    #[test]
    fn what_nothing_leads_to_goes_first() {
        let mut entries = chain();
        entries.remove(1);
        let catalogue = Catalogue::of(entries);
        assert_eq!(catalogue.kept().iter().filter(|k| k.start.is_none()).count(), 2);
        assert_eq!(forgotten(&catalogue, 149, None), [6144, 5000, 2100]);
    }

    #[test]
    fn what_nobody_uses_is_found_from_the_ends() {
        let mut entries = chain();
        let hours_ago = |hours: u64| now() - Duration::from_secs(3600 * hours);
        for (entry, hours) in entries.iter_mut().zip([9, 9, 1, 9, 2]) {
            entry.used = hours_ago(hours);
        }
        let catalogue = Catalogue::of(entries);
        let unused = |hours| catalogue.unused_since(hours_ago(hours)).iter().map(|k| k.name.end).collect::<Vec<_>>();
        assert_eq!(unused(10), [0; 0]);
        assert_eq!(unused(5), [2100]);
        assert_eq!(unused(0), [6144, 5000, 4096, 2100, 2048]);
    }

    #[test]
    fn conversations_are_listed_from_their_beginnings() {
        let mut entries = chain();
        entries.push(entry("root", 500, "another", 10, 0));
        entries.push(entry("lost", 400, "orphan", 10, 0));
        let catalogue = Catalogue::of(entries);
        let ordered: Vec<usize> = catalogue.in_order(key("root")).iter().map(|k| k.name.end).collect();
        assert_eq!(ordered, [500, 2048, 2100, 4096, 5000, 6144, 400]);
    }

    #[test]
    fn paths_are_found_from_their_ends() {
        let catalogue = Catalogue::of(chain());
        let leaves: Vec<&Kept> = catalogue.leaves().collect();
        assert_eq!(leaves.iter().map(|k| k.name.end).collect::<Vec<_>>(), [2100, 5000, 6144]);
        let path: Vec<usize> = catalogue.path(leaves[1]).iter().map(|k| k.name.end).collect();
        assert_eq!(path, [2048, 4096, 5000]);
    }

    #[test]
    fn names_that_cannot_be_do_no_harm() {
        let mut entries = chain();
        // A circle, a key twice, a segment that ends where it starts, and other files.
        entries.push(entry("d", 7000, "e", 10, 0));
        entries.push(entry("e", 8000, "d", 10, 0));
        entries.push(entry("b", 5000, "a", 10, 0));
        entries.push(entry("a", 2048, "f", 10, 0));
        entries.push(Entry { name: "readme.txt".into(), bytes: 10, used: now() });
        let catalogue = Catalogue::of(entries);
        assert_eq!(catalogue.bytes(), 470);
        for kept in catalogue.kept() {
            assert!(catalogue.path(kept).len() <= 4);
        }
        let names: HashSet<String> = catalogue.surplus(0, None, now()).iter().map(|k| k.name.to_string()).collect();
        assert_eq!(names.len(), catalogue.kept().len(), "all can go, each once");
    }
}
