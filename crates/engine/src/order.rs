//! Which prompts a step reads.

use std::cmp::Reverse;

use crate::Priority;

/// Steps in which others may read and one does not; then it is first.
const PATIENCE: u32 = 4;

/// A sequence whose prompt is being read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader {
    /// Whose prompts come first.
    pub(crate) priority: Priority,
    /// Tokens that are left to read.
    pub(crate) left: usize,
    /// Of these, tokens that a step can take.
    pub(crate) most: usize,
    /// Steps in a row in which others read and it did not.
    pub(crate) passed: u32,
}

/// Shares a step's `budget` of prompt tokens out: who has waited for long, then priority, then the shortest rest.
pub(crate) fn share(readers: &[Reader], budget: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..readers.len()).collect();
    order.sort_by_key(|&i| {
        let Reader { priority, left, passed, .. } = readers[i];
        let waited = if passed < PATIENCE { 0 } else { passed };
        (Reverse(waited), Reverse(priority), left, i)
    });
    let mut shares = vec![0; readers.len()];
    let mut rest = budget;
    for i in order {
        shares[i] = readers[i].most.min(rest);
        rest -= shares[i];
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reader(left: usize) -> Reader {
        Reader { priority: Priority::Normal, left, most: left, passed: 0 }
    }

    #[test]
    fn the_shortest_prompt_is_read_first_and_what_is_over_goes_to_the_next() {
        assert_eq!(share(&[reader(1000), reader(30), reader(50)], 64), [0, 30, 34]);
        assert_eq!(share(&[reader(10), reader(20)], 64), [10, 20]);
    }

    #[test]
    fn a_higher_priority_comes_before_a_shorter_prompt() {
        let background = Reader { priority: Priority::Background, ..reader(10) };
        assert_eq!(share(&[background, reader(1000)], 64), [0, 64]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// However many short prompts come, a long one gets its turn every few steps, and so do they.
        #[test]
        fn nobody_waits_for_ever(
            shorts in prop::collection::vec(1usize..200, 1..8),
            budget in 1usize..64,
            background: bool,
        ) {
            let priority = if background { Priority::Background } else { Priority::Normal };
            let mut readers = vec![Reader { priority, ..reader(100_000) }];
            readers.extend(shorts.iter().map(|n| reader(*n)));
            let bound = PATIENCE + readers.len() as u32;
            for _ in 0..500 {
                let shares = share(&readers, budget);
                prop_assert!(shares.iter().sum::<usize>() <= budget);
                for (reader, n) in readers.iter_mut().zip(shares) {
                    reader.passed = if n > 0 { 0 } else { reader.passed + 1 };
                    prop_assert!(reader.passed <= bound, "{reader:?}");
                    reader.left -= n;
                    if reader.left == 0 {
                        reader.left = 1 + reader.most % 150; // another one comes
                    }
                    reader.most = reader.left;
                }
            }
        }
    }
}
