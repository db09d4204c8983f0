//! Who waits for the engine: as many requests run as it has sequences, a bounded number waits in order, and each can be
//! taken back at any time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use ds4_dialog::Prompt;
use ds4_engine::{Sampling, Steering};
use ds4_guide::Rules;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::Error;
use crate::calls::CallIds;
use crate::ledger::Ledger;
use crate::progress::Progress;

/// What the worker is to do.
#[derive(Debug)]
pub(crate) struct Task {
    /// Names the request in logs, with the API that it came by.
    pub(crate) id: String,
    pub(crate) api: &'static str,
    pub(crate) prompt: Prompt,
    pub(crate) sampling: Sampling,
    pub(crate) bias: Vec<(u32, f32)>,
    /// Whether the answer begins inside the reasoning, also where nothing is told apart.
    pub(crate) thinking: bool,
    /// What the answer must be like.
    pub(crate) rules: Option<Arc<Rules>>,
    pub(crate) steering: Option<Steering>,
    /// How many of the most probable tokens to tell with each.
    pub(crate) logprobs: Option<usize>,
    pub(crate) max_tokens: usize,
    pub(crate) stop: Vec<String>,
}

/// A task with its way out. The way out has no limit of its own: the task's tokens are one, and a worker that waited for a
/// slow client would let all others wait.
#[derive(Debug)]
pub(crate) struct Job {
    id: u64,
    /// When it came.
    pub(crate) since: Instant,
    pub(crate) task: Task,
    pub(crate) calls: CallIds,
    pub(crate) news: UnboundedSender<Progress>,
    pub(crate) cancel: Arc<Cancel>,
    /// Its place among those that run, once it does.
    pub(crate) place: Option<Place>,
}

/// A place among the requests that run; dropping it makes room for the next.
#[derive(Debug)]
pub(crate) struct Place {
    queue: Arc<Queue>,
    start: Instant,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.running -= 1;
        state.usual = (state.usual * 3 + self.start.elapsed()) / 4;
    }
}

/// How a request is taken back.
#[derive(Debug, Default)]
pub(crate) struct Cancel {
    wanted: AtomicBool,
    running: OnceLock<Arc<AtomicBool>>,
}

impl Cancel {
    fn cancel(&self) {
        self.wanted.store(true, SeqCst);
        if let Some(flag) = self.running.get() {
            flag.store(true, SeqCst);
        }
    }

    /// Lets the engine's own flag be set as soon as the client leaves.
    pub(crate) fn reaches(&self, flag: Arc<AtomicBool>) {
        let flag = self.running.get_or_init(|| flag);
        if self.wanted() {
            flag.store(true, SeqCst);
        }
    }

    /// Whether the client has left.
    pub(crate) fn wanted(&self) -> bool {
        self.wanted.load(SeqCst)
    }
}

/// Requests in order.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    limit: usize,
    /// Requests that can run at once.
    places: usize,
    /// Hears of those who leave before their turn.
    ledger: Arc<Ledger>,
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<Job>,
    running: usize,
    closed: bool,
    next_id: u64,
    /// How long a request takes, with the last ones counting most.
    usual: Duration,
}

/// What a look at the queue shows.
pub(crate) struct Load {
    pub(crate) running: usize,
    pub(crate) places: usize,
    pub(crate) waiting: usize,
    pub(crate) limit: usize,
    pub(crate) closed: bool,
}

impl Queue {
    /// A queue in which `limit` requests may wait while `places` run.
    pub(crate) fn new(places: usize, limit: usize, ledger: Arc<Ledger>) -> Self {
        let (waiting, usual) = (VecDeque::new(), Duration::from_secs(1));
        let state = State { waiting, running: 0, closed: false, next_id: 0, usual };
        Self { state: Mutex::new(state), changed: Condvar::new(), limit, places, ledger }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }

    /// Takes places at the end, one for each task, or none.
    pub(crate) fn enter(self: &Arc<Self>, tasks: Vec<(Task, CallIds)>) -> Result<Vec<Ticket>, Error> {
        let mut state = self.lock();
        if state.closed {
            return Err(Error::Closing);
        }
        let there = state.waiting.len() + state.running;
        if there + tasks.len() > self.places + self.limit {
            // Those for whom there is a place already do not wait.
            let waiting = there.saturating_sub(self.places);
            let seconds = state.usual.as_secs_f64() * (waiting + 1) as f64 / self.places as f64;
            return Err(Error::QueueFull { waiting, retry_after: seconds.clamp(1.0, 300.0) as u64 });
        }
        Ok(tasks.into_iter().map(|(task, calls)| self.admit(&mut state, task, calls)).collect())
    }

    fn admit(self: &Arc<Self>, state: &mut State, task: Task, calls: CallIds) -> Ticket {
        let (news, inbox) = unbounded_channel();
        let cancel = Arc::new(Cancel::default());
        let id = state.next_id;
        state.next_id += 1;
        let since = Instant::now();
        state.waiting.push_back(Job { id, since, task, calls, news, cancel: Arc::clone(&cancel), place: None });
        self.changed.notify_one();
        Ticket { id, news: inbox, cancel, queue: Arc::clone(self) }
    }

    /// The next request, as soon as there is one; none once the queue is closed.
    pub(crate) fn next(self: &Arc<Self>) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(mut job) = state.waiting.pop_front() {
                state.running += 1;
                job.place = Some(Place { queue: Arc::clone(self), start: Instant::now() });
                return Some(job);
            }
            state = self.changed.wait(state).expect("nothing panics under this lock");
        }
    }

    /// Lets the running requests end, refuses those that wait and all that come.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        for job in state.waiting.drain(..) {
            let _ = job.news.send(Progress::Failed(Error::Closing)); // it may have left
        }
        self.changed.notify_all();
    }

    /// How full it is.
    pub(crate) fn load(&self) -> Load {
        let state = self.lock();
        let (running, waiting) = (state.running, state.waiting.len());
        Load { running, places: self.places, waiting, limit: self.limit, closed: state.closed }
    }

    /// When the first `most` of those that wait came, and the tokens of their prompts.
    pub(crate) fn waiting(&self, most: usize) -> Vec<(Instant, usize)> {
        let state = self.lock();
        state.waiting.iter().take(most).map(|job| (job.since, job.task.prompt.tokens.len())).collect()
    }

    /// Requests before this one; none when it does not wait.
    fn ahead(&self, id: u64) -> Option<usize> {
        let state = self.lock();
        let place = state.waiting.iter().position(|job| job.id == id)?;
        Some(place + state.running)
    }

    fn leave(&self, id: u64) {
        let mut state = self.lock();
        let place = state.waiting.iter().position(|job| job.id == id);
        let left = place.and_then(|place| state.waiting.remove(place));
        drop(state);
        if let Some(job) = left {
            self.ledger.left(&job);
        }
    }
}

/// A client's hold on its request. Dropping it takes the request back, wherever it is.
pub(crate) struct Ticket {
    id: u64,
    news: UnboundedReceiver<Progress>,
    cancel: Arc<Cancel>,
    queue: Arc<Queue>,
}

impl Ticket {
    /// What happens next; the last news is an end or a failure.
    pub(crate) async fn news(&mut self) -> Progress {
        match self.news.recv().await {
            Some(news) => news,
            None => Progress::Failed(Error::Failed("the engine stopped without an answer".into())),
        }
    }

    /// Requests before this one; none when it does not wait.
    pub(crate) fn ahead(&self) -> Option<usize> {
        self.queue.ahead(self.id)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.cancel.cancel();
        self.queue.leave(self.id);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::LogFormat;
    use crate::calls::Style;
    use crate::log::Log;
    use crate::stats::Outcome;

    /// A task called `name`.
    pub(crate) fn task(name: &str) -> Task {
        let prompt = Prompt { text: name.into(), tokens: vec![0], ..Prompt::default() };
        Task {
            id: name.into(),
            api: "openai",
            prompt,
            sampling: Sampling::GREEDY,
            bias: Vec::new(),
            thinking: false,
            rules: None,
            steering: None,
            logprobs: None,
            max_tokens: 1,
            stop: Vec::new(),
        }
    }

    /// Enters a task whose calls have random names.
    pub(crate) fn enter(queue: &Arc<Queue>, task: Task) -> Result<Ticket, Error> {
        let style = Style { api: "openai", answer: "", call: "call_" };
        let calls = CallIds::new(&style, None, "", &task);
        queue.enter(vec![(task, calls)]).map(|mut tickets| tickets.remove(0))
    }

    /// A queue in which `limit` requests may wait while `places` run.
    pub(crate) fn queue(places: usize, limit: usize) -> Arc<Queue> {
        Arc::new(Queue::new(places, limit, Arc::new(Ledger::new(Log::new(LogFormat::Text)))))
    }

    fn name(job: &Option<Job>) -> &str {
        &job.as_ref().expect("a job").task.prompt.text
    }

    #[test]
    fn requests_run_in_order_and_those_that_left_do_not_run() {
        let queue = queue(1, 9);
        let tickets: Vec<Ticket> = ["a", "b", "c"].map(|n| enter(&queue, task(n)).unwrap()).into();
        let job = queue.next();
        assert_eq!(name(&job), "a");
        assert_eq!(tickets[2].ahead(), Some(2));
        let [a, b, c] = tickets.try_into().ok().unwrap();
        drop(b);
        assert_eq!((a.ahead(), c.ahead()), (None, Some(1)));
        drop(job);
        assert_eq!(c.ahead(), Some(0));
        assert_eq!(name(&queue.next()), "c");
    }

    #[test]
    fn who_leaves_while_it_waits_is_counted_with_those_that_ended() {
        let queue = queue(1, 9);
        let _running = enter(&queue, task("a")).unwrap();
        let _job = queue.next();
        drop(enter(&queue, task("b")).unwrap());
        let (running, totals) = queue.ledger.stats.look();
        assert_eq!((totals.started, totals.ended[Outcome::Left as usize], running.len()), (1, 1, 0));
    }

    #[test]
    fn several_tasks_have_places_or_none_of_them_has() {
        let queue = queue(2, 1);
        let style = Style { api: "openai", answer: "", call: "call_" };
        let tasks = |n| (0..n).map(|_| (task("a"), CallIds::new(&style, None, "", &task("a")))).collect();
        assert!(matches!(queue.enter(tasks(4)), Err(Error::QueueFull { waiting: 0, .. })));
        assert_eq!(queue.load().waiting, 0);
        assert_eq!(queue.ledger.stats.look().1.started, 0, "nobody has left");
        let tickets = queue.enter(tasks(3)).unwrap();
        assert_eq!(tickets.iter().map(Ticket::ahead).collect::<Vec<_>>(), [Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn a_full_queue_refuses_with_a_number_and_a_time() {
        let queue = queue(1, 1);
        let _running = enter(&queue, task("a")).unwrap();
        let _job = queue.next();
        let waiting = enter(&queue, task("b")).unwrap();
        let Err(Error::QueueFull { waiting: 1, retry_after }) = enter(&queue, task("c")) else { panic!("not refused") };
        assert!(retry_after >= 1);
        drop(waiting);
        assert!(enter(&queue, task("c")).is_ok(), "who leaves makes room");
    }

    #[test]
    fn as_many_requests_run_as_there_are_places() {
        let queue = queue(2, 1);
        let tickets: Vec<Ticket> = ["a", "b", "c"].map(|n| enter(&queue, task(n)).unwrap()).into();
        let (a, b) = (queue.next(), queue.next());
        assert_eq!((name(&a), name(&b), tickets[2].ahead()), ("a", "b", Some(2)));
        assert!(matches!(enter(&queue, task("d")), Err(Error::QueueFull { waiting: 1, .. })));
        drop(a);
        let Load { running, places, waiting, .. } = queue.load();
        assert_eq!((running, places, waiting), (1, 2, 1));
        assert!(enter(&queue, task("d")).is_ok());
    }

    #[test]
    fn without_waiting_places_one_request_still_runs() {
        let queue = queue(1, 0);
        let _a = enter(&queue, task("a")).unwrap();
        assert!(enter(&queue, task("b")).is_err());
    }

    #[test]
    fn closing_refuses_who_waits_and_who_comes() {
        let queue = queue(1, 9);
        let mut running = enter(&queue, task("a")).unwrap();
        let job = queue.next().unwrap();
        let mut waiting = enter(&queue, task("b")).unwrap();
        queue.close();
        assert!(matches!(waiting.news.try_recv(), Ok(Progress::Failed(Error::Closing))));
        assert!(matches!(enter(&queue, task("c")), Err(Error::Closing)));
        assert!(queue.next().is_none());
        job.news.send(Progress::Prefill { done: 1, total: 1 }).unwrap();
        assert!(running.news.try_recv().is_ok(), "the running request goes on");
    }

    #[test]
    fn leaving_cancels_a_run_that_starts_before_or_after() {
        for early in [true, false] {
            let queue = queue(1, 9);
            let ticket = enter(&queue, task("a")).unwrap();
            let job = queue.next().unwrap();
            let flag = Arc::new(AtomicBool::new(false));
            if early {
                drop(ticket);
                job.cancel.reaches(Arc::clone(&flag));
            } else {
                job.cancel.reaches(Arc::clone(&flag));
                assert!(!flag.load(SeqCst));
                drop(ticket);
            }
            assert!(flag.load(SeqCst) && job.cancel.wanted());
        }
    }
}
