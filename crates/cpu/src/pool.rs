//! Threads that share the work of one operation at a time.
//!
//! A pass has hundreds of parallel regions a token, so workers spin for a moment before they sleep.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, Thread};

/// Looks at the epoch before a waiting thread sleeps or yields.
const SPINS: usize = 4000;

/// A fixed set of threads; the caller's is one of them.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// A parallel region: called with task and worker numbers.
type Job = &'static (dyn Fn(usize, usize) + Sync);

struct Shared {
    /// Counts regions; a change starts one.
    epoch: AtomicUsize,
    /// The region under way.
    job: UnsafeCell<Option<Job>>,
    tasks: AtomicUsize,
    next: AtomicUsize,
    /// Workers that have not finished the region.
    running: AtomicUsize,
    panicked: AtomicBool,
    quit: AtomicBool,
    caller: Mutex<Option<Thread>>,
}

// SAFETY: `job` is written by the caller only while no worker runs (`running` is 0), and read by workers only after
// the epoch that the write precedes (release, acquire).
#[allow(unsafe_code)]
unsafe impl Sync for Shared {}

impl Pool {
    /// A pool of `threads` threads, at least one.
    pub(crate) fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            epoch: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            tasks: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            quit: AtomicBool::new(false),
            caller: Mutex::new(None),
        });
        let workers = (1..threads.max(1))
            .map(|worker| {
                let shared = Arc::clone(&shared);
                let name = format!("ds4-cpu-{worker}");
                thread::Builder::new().name(name).spawn(move || shared.work(worker)).expect("a thread can be started")
            })
            .collect();
        Self { shared, workers }
    }

    /// Number of threads.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `job(task, worker)` once for every task below `tasks` and returns when all are done. Which worker takes
    /// which task is not determined; a worker number is used by one task at a time.
    pub(crate) fn run(&mut self, tasks: usize, job: impl Fn(usize, usize) + Sync) {
        if self.workers.is_empty() || tasks <= 1 {
            (0..tasks).for_each(|task| job(task, 0));
            return;
        }
        let job: &(dyn Fn(usize, usize) + Sync) = &job;
        // SAFETY: the reference outlives every use: this function returns, or unwinds, only after `wait` has seen all
        // workers leave the region. `&mut self` keeps a second region from starting meanwhile.
        #[allow(unsafe_code)]
        unsafe {
            *self.shared.job.get() = Some(std::mem::transmute::<&(dyn Fn(usize, usize) + Sync), Job>(job));
        }
        self.shared.tasks.store(tasks, Relaxed);
        self.shared.next.store(0, Relaxed);
        self.shared.running.store(self.workers.len(), Relaxed);
        *self.shared.caller.lock().expect("never poisoned") = Some(thread::current());
        self.shared.epoch.fetch_add(1, Release);
        self.workers.iter().for_each(|w| w.thread().unpark());

        let own = catch_unwind(AssertUnwindSafe(|| self.shared.take_tasks(job, 0)));
        self.shared.wait();
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        assert!(!self.shared.panicked.swap(false, Relaxed), "a worker panicked; its message is above");
    }

    /// [`Pool::run`] over equal parts of `out`, each handed to one task.
    pub(crate) fn run_rows<T: Send>(
        &mut self,
        out: &mut [T],
        width: usize,
        job: impl Fn(usize, &mut [T], usize) + Sync,
    ) {
        let rows = out.len() / width.max(1);
        let out = SharedSlice::new(out);
        self.run(rows, |row, worker| {
            // SAFETY: tasks own distinct rows.
            #[allow(unsafe_code)]
            let part = unsafe { out.part(row * width, width) };
            job(row, part, worker);
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.quit.store(true, Relaxed);
        self.shared.epoch.fetch_add(1, Release);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn take_tasks(&self, job: &(dyn Fn(usize, usize) + Sync), worker: usize) {
        let tasks = self.tasks.load(Relaxed);
        loop {
            let task = self.next.fetch_add(1, Relaxed);
            if task >= tasks {
                return;
            }
            job(task, worker);
        }
    }

    /// A worker's life.
    fn work(&self, worker: usize) {
        let mut seen = 0;
        loop {
            seen = self.next_epoch(seen);
            if self.quit.load(Relaxed) {
                return;
            }
            // SAFETY: set before this epoch began; the caller waits for `running` before it changes it.
            #[allow(unsafe_code)]
            let job = unsafe { *self.job.get() }.expect("a region has a job");
            if catch_unwind(AssertUnwindSafe(|| self.take_tasks(job, worker))).is_err() {
                self.panicked.store(true, Relaxed);
            }
            let caller = self.caller.lock().expect("never poisoned").clone();
            if self.running.fetch_sub(1, Release) == 1
                && let Some(caller) = caller
            {
                caller.unpark();
            }
        }
    }

    fn next_epoch(&self, seen: usize) -> usize {
        let mut spins = 0;
        loop {
            let epoch = self.epoch.load(Acquire);
            if epoch != seen {
                return epoch;
            }
            spins += 1;
            if spins < SPINS { std::hint::spin_loop() } else { thread::park() }
        }
    }

    fn wait(&self) {
        let mut spins = 0;
        while self.running.load(Acquire) != 0 {
            spins += 1;
            if spins < SPINS { std::hint::spin_loop() } else { thread::park() }
        }
    }
}

/// How many of `rows`, each `cost` multiplications, make a task: few enough for `threads` threads to finish together,
/// enough to be worth handing to another one.
pub(crate) fn rows_per_task(rows: usize, cost: usize, threads: usize) -> usize {
    /// Multiplications that take long enough for what a kernel does once.
    const PLENTY: usize = 1 << 20;
    /// Rows that kernels like to have together.
    const TOGETHER: usize = 32;
    /// Tasks of a thread, so that one that is held up leaves its last ones to others.
    const EACH: usize = 4;
    let fair = rows.div_ceil(EACH * threads).clamp(worth(cost), PLENTY.div_ceil(cost.max(1)));
    fair.next_multiple_of(TOGETHER).min(rows.max(1))
}

/// How many rows, each `cost` multiplications, take about as long as waking a thread that spins.
pub(crate) fn worth(cost: usize) -> usize {
    (1usize << 16).div_ceil(cost.max(1))
}

/// A slice whose disjoint parts are written by several tasks.
pub(crate) struct SharedSlice<'a, T> {
    start: *mut T,
    len: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: it only hands out what the unsafe methods' callers promise to be disjoint.
#[allow(unsafe_code)]
unsafe impl<T: Send> Sync for SharedSlice<'_, T> {}

impl<'a, T> SharedSlice<'a, T> {
    /// Takes the slice over for as long as tasks write it.
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), lifetime: PhantomData }
    }

    /// A part of the slice.
    ///
    /// # Safety
    /// No other task touches any of its elements while the part lives.
    #[allow(unsafe_code, clippy::mut_from_ref, reason = "disjointness is the caller's promise")]
    pub(crate) unsafe fn part(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start.checked_add(len).is_some_and(|end| end <= self.len), "the part lies inside");
        // SAFETY: inside the slice; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_whatever_the_number_of_threads() {
        for threads in 1..=8 {
            let mut pool = Pool::new(threads);
            for tasks in [0, 1, 2, 7, 100] {
                let mut counts = vec![0; tasks];
                pool.run_rows(&mut counts, 1, |_, count, _| count[0] += 1);
                assert!(counts.iter().all(|c| *c == 1), "{threads} threads, {tasks} tasks: {counts:?}");
            }
        }
    }

    #[test]
    fn a_pool_that_slept_wakes_up() {
        let mut pool = Pool::new(3);
        for _ in 0..3 {
            thread::sleep(std::time::Duration::from_millis(20));
            let mut out = vec![0; 64];
            pool.run_rows(&mut out, 2, |row, part, _| part.fill(row));
            assert_eq!((out[0], out[63]), (0, 31));
        }
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_caller_and_the_pool_lives_on() {
        let mut pool = Pool::new(4);
        let broken = catch_unwind(AssertUnwindSafe(|| pool.run(50, |task, _| assert!(task != 33))));
        assert!(broken.is_err());
        let mut out = vec![0; 10];
        pool.run_rows(&mut out, 1, |_, part, _| part[0] = 1);
        assert_eq!(out, [1; 10]);
    }
}
