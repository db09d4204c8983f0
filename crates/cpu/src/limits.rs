//! What this machine allows: how fast its threads read memory, and how fast they multiply bytes.

use std::io;
use std::sync::Barrier;
use std::time::Instant;

use memmap2::MmapMut;

use crate::kernels::{Family, limits};

/// Measured rates of all threads together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MachineLimits {
    /// Bytes read from memory per second.
    pub read: f64,
    /// Products of 8-bit integers per second, added up in 32 bits.
    pub products: f64,
}

/// Rounds of which the middle one counts: what the machine keeps up, with its neighbours as they are.
const ROUNDS: usize = 15;
/// Bytes of all buffers together, larger than any cache.
const BYTES: usize = 1 << 29;
/// Repetitions that take a few milliseconds.
const REPEAT: usize = 200_000;

impl MachineLimits {
    /// Measures with this many threads; products with the family of kernels in use. Takes about a second and half a gigabyte.
    pub fn measure(threads: usize) -> Self {
        let words = BYTES / 8 / threads.max(1);
        let read = middle(
            threads,
            || large_pages(8 * words).expect("half a gigabyte of memory"),
            |memory| {
                std::hint::black_box(limits::read(Family::best(), bytemuck::cast_slice(memory)));
                8 * words
            },
        );
        let products = middle(threads, || (), |_| limits::multiply(Family::current(), REPEAT));
        Self { read, products }
    }
}

/// Memory in pages as large as the system gives, each of them written once: small ones cost a fifth of the rate.
///
/// # Errors
/// There is not as much memory.
#[doc(hidden)]
pub fn large_pages(bytes: usize) -> io::Result<MmapMut> {
    let mut memory = MmapMut::map_anon(bytes)?;
    // Where there are none, the usual ones do.
    #[cfg(target_os = "linux")]
    let _ = memory.advise(memmap2::Advice::HugePage);
    memory.fill(1);
    Ok(memory)
}

/// Units of work per second of all threads together, in the middle round. `work` says how many units it did.
fn middle<M>(threads: usize, memory: impl Fn() -> M + Sync, work: impl Fn(&mut M) -> usize + Sync) -> f64 {
    let (barrier, threads) = (Barrier::new(threads.max(1)), threads.max(1));
    let thread = || {
        // Each thread's own, on its own node of memory.
        let mut memory = memory();
        let mut rounds = [(0.0, 0); ROUNDS];
        for round in &mut rounds {
            barrier.wait();
            let start = Instant::now();
            let units = work(&mut memory);
            *round = (start.elapsed().as_secs_f64(), units);
        }
        rounds
    };
    let rounds: Vec<[(f64, usize); ROUNDS]> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(thread)).collect();
        let own = thread();
        std::iter::once(own).chain(others.into_iter().map(|t| t.join().expect("measuring does not panic"))).collect()
    });
    let rate = |round: usize| {
        let seconds = rounds.iter().map(|r| r[round].0).fold(1e-9, f64::max);
        rounds.iter().map(|r| r[round].1).sum::<usize>() as f64 / seconds
    };
    let mut rates: [f64; ROUNDS] = std::array::from_fn(rate);
    rates.sort_unstable_by(f64::total_cmp);
    rates[ROUNDS / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_threads_work_at_once_and_their_units_add_up() {
        let limits = MachineLimits::measure(2);
        assert!(limits.read > 1e6 && limits.products > 1e6, "{limits:?}");
        assert!(middle(3, || 0u8, |_| 0) == 0.0);
    }
}
