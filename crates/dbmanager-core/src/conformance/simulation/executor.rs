//! The runtime: tasks polled one at a time in an order drawn from the seed.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use super::super::data::Seeded;
use crate::{BoxFuture, Runtime, RuntimeServices, model::Timestamp};

/// Notes kept for the report of a failure.
const NOTES: usize = 5_000;
/// When every simulation begins: 2026-01-01T00:00:00Z, in milliseconds since the Unix epoch.
const START: i64 = 1_767_225_600_000;
/// How often time passes although a task could go on, up to a timer at most so far away: a busy
/// machine.
const BUSY: f64 = 0.01;
const BUSY_FOR: Duration = Duration::from_millis(500);

/// Tasks that die together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process(u64);

/// A runtime whose every choice comes from a seed. Clones are the same simulation.
///
/// It is single-threaded: it runs as long as somebody calls [`Simulation::step`]. Blocking work is
/// a task like any other, done in one step.
#[derive(Clone)]
pub struct Simulation(Arc<Core>);

struct Core {
    state: Mutex<State>,
    /// Apart from the state, since wakers are called while it is locked.
    ready: Arc<Mutex<BTreeSet<u64>>>,
}

struct State {
    random: Seeded,
    monotonic: Duration,
    /// What the wall clock shows beyond the time that has passed.
    wall_offset: i64,
    tasks: BTreeMap<u64, Task>,
    timers: BTreeMap<(Duration, u64), Waker>,
    processes: BTreeSet<Process>,
    numbers: u64,
    steps: u64,
    digest: u64,
    notes: VecDeque<String>,
}

struct Task {
    process: Process,
    /// Absent while it is polled.
    future: Option<BoxFuture<'static, ()>>,
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Simulation")
            .field("steps", &state.steps)
            .field("monotonic", &state.monotonic)
            .finish_non_exhaustive()
    }
}

struct TaskWaker {
    task: u64,
    ready: Arc<Mutex<BTreeSet<u64>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        lock(&self.ready).insert(self.task);
    }
}

/// No critical section here can panic halfway through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Simulation {
    /// A simulation in which nothing has happened yet.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Core {
            state: Mutex::new(State {
                random: Seeded::new(seed),
                monotonic: Duration::ZERO,
                wall_offset: 0,
                tasks: BTreeMap::new(),
                timers: BTreeMap::new(),
                processes: BTreeSet::new(),
                numbers: 0,
                steps: 0,
                digest: 0,
                notes: VecDeque::new(),
            }),
            ready: Arc::default(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0.state)
    }

    /// A process, alive and without tasks.
    pub fn process(&self) -> Process {
        let mut state = self.lock();
        let process = Process(state.next_number());
        state.processes.insert(process);
        process
    }

    /// The runtime whose tasks belong to this process.
    pub fn runtime(&self, process: Process) -> Runtime {
        Runtime::new(Arc::new(Services {
            simulation: self.clone(),
            process,
        }))
    }

    /// Ends the process between two steps, as `kill -9` would: its tasks are dropped where they
    /// are, and what it spawns while they are dropped never runs.
    pub fn kill(&self, process: Process) {
        let dropped: Vec<Task> = {
            let mut state = self.lock();
            state.processes.remove(&process);
            let numbers: Vec<u64> = state
                .tasks
                .iter()
                .filter(|(_, task)| task.process == process)
                .map(|(number, _)| *number)
                .collect();
            numbers
                .iter()
                .filter_map(|number| state.tasks.remove(number))
                .collect()
        };
        // Not under the lock: dropping a task may wake, spawn and sleep.
        drop(dropped);
    }

    /// Polls one task that can go on; if there is none, lets time pass until there is. `false` if
    /// nothing will ever go on by itself.
    pub fn step(&self) -> bool {
        loop {
            let chosen = {
                let mut state = self.lock();
                let busy = state.random.unit() < BUSY && state.is_timer_near();
                let mut ready = lock(&self.0.ready);
                if ready.is_empty() || busy {
                    drop(ready);
                    if !state.pass_time() {
                        return false;
                    }
                    continue;
                }
                let nth = state.random.below(ready.len());
                // The set is ordered, so that who woke whom first makes no difference.
                let number = ready.iter().nth(nth).copied();
                number.inspect(|number| {
                    ready.remove(number);
                })
            };
            if chosen.is_some_and(|number| self.poll(number)) {
                return true;
            }
        }
    }

    /// Polls the task; `false` if it has ended before.
    fn poll(&self, number: u64) -> bool {
        let mut future = {
            let mut state = self.lock();
            let Some(future) = state
                .tasks
                .get_mut(&number)
                .and_then(|task| task.future.take())
            else {
                return false;
            };
            state.steps += 1;
            state.digest(number);
            future
        };
        let waker = Waker::from(Arc::new(TaskWaker {
            task: number,
            ready: Arc::clone(&self.0.ready),
        }));
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        let ended = {
            let mut state = self.lock();
            match polled {
                Poll::Pending => match state.tasks.get_mut(&number) {
                    Some(task) => {
                        task.future = Some(future);
                        None
                    }
                    // Killed by itself.
                    None => Some(future),
                },
                Poll::Ready(()) => {
                    state.tasks.remove(&number);
                    Some(future)
                }
            }
        };
        drop(ended);
        true
    }

    /// How many times a task was polled.
    pub fn steps(&self) -> u64 {
        self.lock().steps
    }

    /// Time since the start.
    pub fn monotonic(&self) -> Duration {
        self.lock().monotonic
    }

    /// Moves the wall clock, forwards or back. The time that has passed stays as it is.
    pub fn jump_clock(&self, milliseconds: i64) {
        self.lock().wall_offset += milliseconds;
    }

    /// How far the wall clock is from where it would be without jumps, in milliseconds.
    pub fn clock_offset(&self) -> i64 {
        self.lock().wall_offset
    }

    /// Adds a line to the trace.
    pub fn note(&self, line: impl Into<String>) {
        let mut state = self.lock();
        let line = format!(
            "{:>12.3} s {:>8}  {}",
            state.monotonic.as_secs_f64(),
            state.steps,
            line.into()
        );
        for byte in line.bytes() {
            state.digest(u64::from(byte));
        }
        if state.notes.len() == NOTES {
            state.notes.pop_front();
        }
        state.notes.push_back(line);
    }

    /// The last lines of the trace.
    pub fn notes(&self) -> Vec<String> {
        self.lock().notes.iter().cloned().collect()
    }

    /// A number that tells traces apart: every step and every note, in order, goes into it.
    pub fn digest(&self) -> u64 {
        self.lock().digest
    }
}

impl State {
    fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Mixes a number into the digest by the step of FNV-1a.
    fn digest(&mut self, number: u64) {
        self.digest = (self.digest ^ number).wrapping_mul(0x0100_0000_01b3);
    }

    fn is_timer_near(&self) -> bool {
        let next = self.timers.keys().next();
        next.is_some_and(|(due, _)| due.saturating_sub(self.monotonic) <= BUSY_FOR)
    }

    /// Goes on to the next timer and wakes all that are due; `false` if there is none.
    fn pass_time(&mut self) -> bool {
        let Some((due, _)) = self.timers.keys().next().copied() else {
            return false;
        };
        self.monotonic = self.monotonic.max(due);
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > due {
                break;
            }
            entry.remove().wake();
        }
        true
    }
}

struct Services {
    simulation: Simulation,
    process: Process,
}

impl RuntimeServices for Services {
    fn now(&self) -> Timestamp {
        let state = self.simulation.lock();
        let passed = i64::try_from(state.monotonic.as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_unix_milliseconds(START + state.wall_offset + passed)
    }

    fn monotonic(&self) -> Duration {
        self.simulation.monotonic()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(Sleep {
            simulation: self.simulation.clone(),
            deadline: self.simulation.monotonic().saturating_add(duration),
            timer: None,
        })
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        let mut state = self.simulation.lock();
        for chunk in bytes.chunks_mut(8) {
            let drawn = state.random.next_u64().to_le_bytes();
            chunk.copy_from_slice(&drawn[..chunk.len()]);
        }
    }

    fn spawn(&self, future: BoxFuture<'static, ()>) {
        let number = {
            let mut state = self.simulation.lock();
            if !state.processes.contains(&self.process) {
                drop(state);
                // The process is dead: the task never runs. Dropped without the lock.
                return drop(future);
            }
            let number = state.next_number();
            let task = Task {
                process: self.process,
                future: Some(future),
            };
            state.tasks.insert(number, task);
            number
        };
        lock(&self.simulation.0.ready).insert(number);
    }

    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        self.spawn(Box::pin(async move { work() }));
    }
}

struct Sleep {
    simulation: Simulation,
    deadline: Duration,
    timer: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let mut state = this.simulation.lock();
        if state.monotonic >= this.deadline {
            return Poll::Ready(());
        }
        let number = match this.timer {
            Some(number) => number,
            None => state.next_number(),
        };
        state
            .timers
            .insert((this.deadline, number), context.waker().clone());
        this.timer = Some(number);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.timer {
            self.simulation
                .lock()
                .timers
                .remove(&(self.deadline, number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order in which three tasks of one process reach their ends.
    fn order(seed: u64) -> (Vec<u64>, u64) {
        let simulation = Simulation::new(seed);
        let runtime = simulation.runtime(simulation.process());
        let ended = Arc::new(Mutex::new(Vec::new()));
        for task in 0..3 {
            let (inner, ended) = (runtime.clone(), Arc::clone(&ended));
            drop(runtime.spawn(async move {
                for _ in 0..5 {
                    inner
                        .sleep(Duration::from_millis(inner.random_u64() % 10))
                        .await;
                }
                lock(&ended).push(task);
            }));
        }
        while simulation.step() {}
        let ended = lock(&ended).clone();
        (ended, simulation.digest())
    }

    #[test]
    fn the_seed_decides_the_schedule_and_nothing_else_does() {
        let orders: BTreeSet<_> = (0..50).map(|seed| order(seed).0).collect();
        assert!(orders.len() > 3, "{orders:?}");
        for seed in 0..50 {
            assert_eq!(order(seed), order(seed));
        }
    }

    #[test]
    fn a_killed_process_does_nothing_more_and_others_go_on() {
        let simulation = Simulation::new(1);
        let (one, other) = (simulation.process(), simulation.process());
        let counts = [(one, 0_usize), (other, 1)].map(|(process, _)| {
            let runtime = simulation.runtime(process);
            let count = Arc::new(Mutex::new(0));
            let (inner, counted) = (runtime.clone(), Arc::clone(&count));
            drop(runtime.spawn(async move {
                for _ in 0..100 {
                    inner.sleep(Duration::from_secs(1)).await;
                    *lock(&counted) += 1;
                }
            }));
            count
        });
        while simulation.monotonic() < Duration::from_secs(10) {
            assert!(simulation.step());
        }
        simulation.kill(one);
        let reached = *lock(&counts[0]);
        drop(
            simulation
                .runtime(one)
                .spawn(async { unreachable!("spawned by the dead") }),
        );
        while simulation.step() {}
        assert_eq!(*lock(&counts[0]), reached);
        assert_eq!(*lock(&counts[1]), 100);
    }

    #[test]
    fn the_wall_clock_jumps_and_time_goes_on() {
        let simulation = Simulation::new(1);
        let runtime = simulation.runtime(simulation.process());
        let before = runtime.unix_milliseconds();
        simulation.jump_clock(-3_600_000);
        assert_eq!(runtime.unix_milliseconds(), before - 3_600_000);
        assert_eq!(runtime.monotonic(), Duration::ZERO);
    }
}
