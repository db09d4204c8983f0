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
    ///
    /// # Errors
    /// There is not as much memory.
    pub fn measure(threads: usize) -> io::Result<Self> {
        let threads = threads.max(1);
        let read = read_rate(threads, BYTES)?;
        let products = middle(vec![(); threads], |_| (), |_| limits::multiply(Family::current(), REPEAT));
        Ok(Self { read, products })
    }
}

/// Bytes per second from buffers of so many bytes together.
fn read_rate(threads: usize, bytes: usize) -> io::Result<f64> {
    let words = bytes / 8 / threads;
    // All of them before a thread starts: one that fails would leave the others waiting.
    let buffers = (0..threads).map(|_| map(8 * words)).collect::<io::Result<Vec<_>>>();
    let buffers = buffers.map_err(|e| {
        let problem = format!("measuring takes {} MiB of memory, which cannot be had: {e}", bytes >> 20);
        io::Error::new(e.kind(), problem)
    })?;
    let read = |memory: &mut MmapMut| {
        std::hint::black_box(limits::read(Family::best(), bytemuck::cast_slice(memory)));
        8 * words
    };
    // Written first by the thread that reads it, so that it lies on that thread's node of memory.
    Ok(middle(buffers, |memory| memory.fill(1), read))
}

/// Memory in pages as large as the system gives, each of them written once: small ones cost a fifth of the rate.
///
/// # Errors
/// There is not as much memory.
#[doc(hidden)]
pub fn large_pages(bytes: usize) -> io::Result<MmapMut> {
    let mut memory = map(bytes)?;
    memory.fill(1);
    Ok(memory)
}

fn map(bytes: usize) -> io::Result<MmapMut> {
    let memory = MmapMut::map_anon(bytes)?;
    // Where there are no large pages, the usual ones do.
    #[cfg(target_os = "linux")]
    let _ = memory.advise(memmap2::Advice::HugePage);
    Ok(memory)
}

/// Units of work per second of all threads together, in the middle round; each thread has a state, which it makes ready
/// once. `work` says how many units it did.
fn middle<S: Send>(states: Vec<S>, ready: impl Fn(&mut S) + Sync, work: impl Fn(&mut S) -> usize + Sync) -> f64 {
    let barrier = Barrier::new(states.len());
    let thread = |mut state: S| {
        ready(&mut state);
        let mut rounds = [(0.0, 0); ROUNDS];
        for round in &mut rounds {
            barrier.wait();
            let start = Instant::now();
            let units = work(&mut state);
            *round = (start.elapsed().as_secs_f64(), units);
        }
        rounds
    };
    let thread = &thread;
    let rounds: Vec<[(f64, usize); ROUNDS]> = std::thread::scope(|scope| {
        let threads: Vec<_> = states.into_iter().map(|state| scope.spawn(move || thread(state))).collect();
        threads.into_iter().map(|t| t.join().expect("measuring does not panic")).collect()
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
        let limits = MachineLimits::measure(2).unwrap();
        assert!(limits.read > 1e6 && limits.products > 1e6, "{limits:?}");
        assert!(middle(vec![(); 3], |_| (), |_| 0) == 0.0);
    }

    #[test]
    fn memory_that_cannot_be_had_is_an_error_and_nobody_waits() {
        let said = read_rate(3, 1 << 62).unwrap_err().to_string();
        assert!(said.starts_with("measuring takes 4398046511104 MiB of memory, which cannot be had: "), "{said}");
    }
}
