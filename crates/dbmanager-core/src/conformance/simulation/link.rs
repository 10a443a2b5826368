//! The way to a store: calls become messages that are lost, delayed, repeated and overtaken.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    super::fault_plan::{CallKind, Fault, Faults},
    Simulation,
};
use crate::{
    Runtime,
    backend::{BackendError, BackendErrorKind, BackendResult, Head, Mutation, Stamp},
    model::CollectionKey,
};

/// Which messages a partition swallows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Requests do not arrive.
    Requests,
    /// Requests arrive and take effect, answers do not come back.
    Answers,
}

/// What a store has just done, told to whoever watches the link.
#[derive(Debug)]
pub enum Applied<'a> {
    /// It was handed these mutations, and holds these heads of their documents now.
    Mutations {
        /// The collection.
        collection: &'a CollectionKey,
        /// What was applied, if it was newer.
        mutations: &'a [Mutation],
        /// What the store holds after it, in the same order.
        heads: &'a [Option<Head>],
    },
    /// It has refused this mutation for good.
    Refused(&'a Mutation),
    /// It is this store from now on.
    Stamped(&'a Stamp),
    /// It has a collection, made now or before.
    Created(&'a CollectionKey),
    /// It has dropped a collection.
    Dropped(&'a CollectionKey),
}

type Watcher = Arc<dyn Fn(&Applied<'_>) + Send + Sync>;
type Refusal = Arc<dyn Fn(&Mutation) -> bool + Send + Sync>;
type Hook = Arc<dyn Fn() + Send + Sync>;

/// The link to one store. Clones are the same link.
///
/// A request is a message: once sent it arrives even if the caller gives up or is killed, unless it
/// is lost, or the store restarts before. Faults are drawn per call at the rates of [`Faults`];
/// what changes the store can also arrive late (after the caller was told of a failure) and twice.
#[derive(Clone)]
pub struct Link(Arc<Shared>);

struct Shared {
    name: String,
    simulation: Simulation,
    /// Of the world, not of the caller: messages outlive it.
    runtime: Runtime,
    faults: Faults,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Rises when the store restarts: what is under way then is lost.
    connection: u64,
    down: bool,
    partition: Option<Direction>,
    slowness: Duration,
    refusal: Option<Refusal>,
    watcher: Option<Watcher>,
    on_durable: Option<Hook>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("name", &self.0.name)
            .field("faults", &self.0.faults)
            .finish_non_exhaustive()
    }
}

/// What becomes of one request.
pub(super) struct Fate {
    fault: Fault,
    /// One wait for each time that the request arrives.
    arrivals: Vec<Duration>,
    /// Whether the caller hears nothing at all.
    silent: bool,
    answer_delay: Duration,
}

impl Fate {
    pub(super) fn error(&self) -> BackendError {
        self.fault.error()
    }

    /// The fate of what is left of a batch of which some items fail by the fault.
    pub(super) fn whole(self) -> Self {
        Self {
            fault: Fault::None,
            ..self
        }
    }
}

impl Link {
    /// A link of this name (for the trace) whose messages travel on `runtime`.
    pub fn new(
        name: impl Into<String>,
        simulation: &Simulation,
        runtime: &Runtime,
        faults: &Faults,
    ) -> Self {
        Self(Arc::new(Shared {
            name: name.into(),
            simulation: simulation.clone(),
            runtime: runtime.clone(),
            faults: faults.clone(),
            state: Mutex::default(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock halfway through a change.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rates at which calls fail.
    pub fn faults(&self) -> &Faults {
        &self.0.faults
    }

    /// Lets nothing through in one direction, or everything again.
    pub fn partition(&self, direction: Option<Direction>) {
        self.state().partition = direction;
    }

    /// Makes every request take so much longer.
    pub fn slow_down(&self, by: Duration) {
        self.state().slowness = by;
    }

    /// Refuses connections, or takes them again.
    pub fn set_down(&self, down: bool) {
        self.state().down = down;
    }

    /// Has the store refuse for good what this says `true` of.
    pub fn refuse(&self, refusal: Option<Refusal>) {
        self.state().refusal = refusal;
    }

    /// Tells this of everything that takes effect.
    pub fn watch(&self, watcher: impl Fn(&Applied<'_>) + Send + Sync + 'static) {
        self.state().watcher = Some(Arc::new(watcher));
    }

    /// Calls this whenever everything that the store holds has become durable.
    pub fn on_durable(&self, hook: impl Fn() + Send + Sync + 'static) {
        self.state().on_durable = Some(Arc::new(hook));
    }

    /// Breaks every connection: requests that have not arrived are lost, and their callers hear of
    /// it; so do the next callers on an old connection.
    pub fn restart(&self) {
        self.state().connection += 1;
    }

    pub(super) fn connection(&self) -> u64 {
        self.state().connection
    }

    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.state().refusal.clone()
    }

    pub(super) fn applied(&self, applied: &Applied<'_>) {
        let watcher = self.state().watcher.clone();
        if let Some(watcher) = watcher {
            watcher(applied);
        }
    }

    pub(super) fn durable(&self) {
        let hook = self.state().on_durable.clone();
        if let Some(hook) = hook {
            hook();
        }
    }

    /// Which of the items of a batch fail by the fault of this call.
    pub(super) fn draw_failing(&self, fate: &Fate, items: usize) -> Option<Vec<bool>> {
        let partial = matches!(fate.fault, Fault::RefusedBefore | Fault::LostBefore);
        let failing = partial.then(|| self.0.faults.draw_failing(items))?;
        failing.contains(&false).then_some(failing)
    }

    /// Draws what becomes of a request.
    pub(super) fn draw(&self, kind: CallKind, call: &str) -> Fate {
        // Every change can arrive late and twice, not only a batch of mutations.
        let drawn_as = match kind {
            CallKind::Read => CallKind::Read,
            CallKind::Change | CallKind::Apply => CallKind::Apply,
        };
        let faults = &self.0.faults;
        let (partition, slowness, down) = {
            let state = self.state();
            (state.partition, state.slowness, state.down)
        };
        let delay = || slowness + faults.draw_delay().unwrap_or_default();
        let fault = match down {
            true => Fault::RefusedBefore,
            false => faults.draw(drawn_as),
        };
        let mut arrivals = match fault {
            Fault::Late => vec![faults.draw_lateness()],
            Fault::Duplicate => vec![delay(), faults.draw_lateness()],
            _ => vec![delay()],
        };
        if partition == Some(Direction::Requests) {
            arrivals.clear();
        }
        let fate = Fate {
            fault,
            arrivals,
            silent: partition.is_some() && !down,
            answer_delay: delay() - slowness,
        };
        let plain = fate.arrivals == [Duration::ZERO] && !fate.silent && fault == Fault::None;
        if plain && kind == CallKind::Read {
            return fate;
        }
        self.0.simulation.note(format!(
            "{} {call}: {fault:?} {:?}{}",
            self.0.name,
            fate.arrivals,
            if fate.silent { ", silence" } else { "" },
        ));
        fate
    }

    /// Sends a request over this connection and waits for its answer.
    pub(super) async fn send<T, C>(
        &self,
        connection: u64,
        fate: Fate,
        call: impl Fn() -> C + Send + Sync + 'static,
    ) -> BackendResult<T>
    where
        C: Future<Output = BackendResult<T>> + Send + 'static,
        T: Send + 'static,
    {
        if connection != self.connection() {
            return Err(closed().not_applied());
        }
        let Fate {
            fault,
            arrivals,
            silent,
            answer_delay,
        } = fate;
        if !silent && matches!(fault, Fault::RefusedBefore | Fault::LostBefore) {
            self.0.runtime.sleep(answer_delay).await;
            return Err(fault.error());
        }
        let (answer, answered) = oneshot::channel();
        let mut answer = Some(answer);
        let call = Arc::new(call);
        for arrival in arrivals {
            let (link, call, answer) = (self.clone(), Arc::clone(&call), answer.take());
            drop(self.0.runtime.spawn(async move {
                link.0.runtime.sleep(arrival).await;
                if connection != link.connection() {
                    return;
                }
                let result = call().await;
                link.0.runtime.sleep(answer_delay).await;
                if let Some(answer) = answer.filter(|_| connection == link.connection()) {
                    // Nobody may be waiting any more.
                    drop(answer.send(result));
                }
            }));
        }
        if silent {
            return std::future::pending().await;
        }
        if fault == Fault::Late {
            return Err(fault.error());
        }
        match answered.await {
            Ok(result) if fault == Fault::LostAfter => result.and(Err(fault.error())),
            Ok(result) => result,
            Err(_) => Err(closed()),
        }
    }
}

fn closed() -> BackendError {
    BackendError::new(BackendErrorKind::Unavailable, "the connection was closed")
}
