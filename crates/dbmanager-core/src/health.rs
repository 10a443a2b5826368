//! Health: what the journal and the stores can do now, and what they have yet to do.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use serde::Serialize;

use crate::{
    CircuitState, Runtime,
    journal::{JournalHealth, JournalState, RosterState},
    manager::Inner,
    model::{LegName, Level, Role, StoreId, Timestamp},
    roster::Store,
    write::{Participation, WriteRoom},
};

/// The whole in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// All enabled stores answer and are active, the last attempt to send something to each did not
    /// fail, nothing is parked, and the journal takes writes.
    Healthy,
    /// Less than that, but a write quorum can be met, or reads still work.
    Degraded,
    /// Neither.
    Unhealthy,
    /// No store is configured.
    Unknown,
}

/// What a store can do now.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct StoreHealth {
    /// The role it plays.
    pub role: Role,
    /// The service behind it.
    pub service: Arc<str>,
    /// Its identity.
    pub store_id: StoreId,
    /// Its standing on the roster; `CatchingUp` while it has a backlog.
    pub state: RosterState,
    /// Whether it answers, by the monitor's thresholds; absent before the first probe.
    pub reachable: Option<bool>,
    /// Its last error, without secrets.
    pub error: Option<String>,
    /// The state of its circuit breaker.
    pub circuit: CircuitState,
    /// Entries it has yet to confirm.
    pub backlog: u64,
    /// How long its oldest unconfirmed entry has been waiting.
    pub oldest_pending: Option<Duration>,
    /// Documents whose newest version it refused for good:
    /// [`parked_writes`](crate::DatabaseManager::parked_writes) tells which.
    pub parked: u64,
    /// The last attempt to send it something failed.
    #[serde(skip)]
    failing: bool,
}

/// The journal's part.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct JournalReport {
    /// Whether it takes writes.
    pub writable: bool,
    /// Why it does not.
    pub error: Option<String>,
    /// Live entries.
    pub entries: u64,
    /// The most live entries.
    pub max_entries: u64,
    /// Bytes of live entries.
    pub bytes: u64,
    /// The most bytes of live entries.
    pub max_bytes: u64,
    /// How this instance stands towards the others that share the journal; absent if none can.
    pub sharing: Option<SharingReport>,
}

/// One instance of several that share a journal.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SharingReport {
    /// Whether this instance sends to the stores; the others append, follow and wait.
    pub sends: bool,
    /// The highest fencing number that this instance has heard of.
    pub epoch: u64,
    /// The instance that sends, as far as this one has heard; absent if there is none.
    pub sender: Option<String>,
    /// How long ago this instance had followed every change: its reads are stale by at most this
    /// and the time that a read of the journal takes.
    pub behind_for: Duration,
    /// Why the journal cannot be followed now.
    pub error: Option<String>,
}

/// The health of a manager.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// The whole in one word.
    pub status: HealthStatus,
    /// Each enabled store.
    pub stores: Vec<StoreHealth>,
    /// The journal.
    pub journal: JournalReport,
    /// When the stores were probed; absent before the first probe.
    pub checked_at: Option<Timestamp>,
    /// How long ago that was.
    pub age: Option<Duration>,
}

impl Health {
    /// Whether a write of this level can be acknowledged now.
    pub fn writes(&self, level: Level) -> bool {
        let able = self
            .stores
            .iter()
            .filter(|store| store.acknowledges())
            .count();
        self.journal.writable && able >= level.required(self.stores.len())
    }

    /// The store that plays this role; absent if none is enabled.
    pub fn store(&self, role: Role) -> Option<&StoreHealth> {
        self.stores.iter().find(|store| store.role == role)
    }

    /// Whether this leg of a search answers now.
    pub fn reads(&self, leg: LegName) -> bool {
        self.store(leg.role()).is_some_and(StoreHealth::answers)
    }
}

impl StoreHealth {
    fn answers(&self) -> bool {
        self.reachable != Some(false) && !matches!(self.circuit, CircuitState::Open { .. })
    }

    fn acknowledges(&self) -> bool {
        self.answers()
            && !self.failing
            && matches!(self.state, RosterState::Active | RosterState::CatchingUp)
    }
}

/// The status of this set of stores: a pure fold.
fn fold(stores: &[StoreHealth], journal: &JournalReport) -> HealthStatus {
    if stores.is_empty() {
        return HealthStatus::Unknown;
    }
    let whole = |store: &StoreHealth| {
        store.reachable == Some(true) && store.acknowledges() && store.parked == 0
    };
    if journal.writable && stores.iter().all(whole) {
        return HealthStatus::Healthy;
    }
    let able = stores.iter().filter(|store| store.acknowledges()).count();
    let writes = journal.writable && able >= Level::Quorum.required(stores.len());
    let reads = stores.iter().any(StoreHealth::answers);
    if writes || reads {
        HealthStatus::Degraded
    } else {
        HealthStatus::Unhealthy
    }
}

/// The result of verifying one store's connection.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct BackendVerification {
    /// The role.
    pub role: Role,
    /// The service behind it.
    pub service: Arc<str>,
    /// Where it keeps its data, without secrets.
    pub location: String,
    /// How long it took.
    pub elapsed: Duration,
    /// Why it cannot be used, without secrets; absent: it answers and belongs to this journal.
    pub error: Option<String>,
}

/// Connects to every enabled store, checks its stamp and reads from it.
pub(crate) async fn verify_backends(room: &WriteRoom) -> Vec<BackendVerification> {
    join_all(
        room.stores
            .iter()
            .map(|store| verify_backend(&room.runtime, store)),
    )
    .await
}

async fn verify_backend(runtime: &Runtime, store: &Arc<Store>) -> BackendVerification {
    let start = runtime.monotonic();
    let error = probe(store).await.err();
    BackendVerification {
        role: store.role,
        service: Arc::clone(&store.service),
        location: store.record().location,
        elapsed: runtime.monotonic().saturating_sub(start),
        error,
    }
}

async fn probe(store: &Store) -> Result<(), String> {
    let answered = async {
        if store.circuit_is_open() {
            store.look_for().await?;
        }
        store.connect().await?.as_backend().probe().await
    };
    match answered.await {
        Ok(()) => {
            store.note_answer();
            Ok(())
        }
        Err(error) => {
            store.note_failure(&error);
            Err(error.to_string())
        }
    }
}

/// When a store counts as answering or not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MonitorSettings {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    /// Failures in a row after which a store counts as not answering.
    pub(crate) failure_threshold: u32,
    /// Successes in a row after which it counts as answering again.
    pub(crate) success_threshold: u32,
}

#[derive(Clone, Debug, Default)]
struct Observed {
    reachable: Option<bool>,
    failures: u32,
    successes: u32,
    error: Option<String>,
}

impl Observed {
    /// Takes in a probe's result. The first one counts at once.
    fn observe(&mut self, result: Result<(), String>, settings: MonitorSettings) {
        match result {
            Ok(()) => {
                self.failures = 0;
                self.successes += 1;
                self.error = None;
                if self.reachable.is_none() || self.successes >= settings.success_threshold {
                    self.reachable = Some(true);
                }
            }
            Err(error) => {
                self.successes = 0;
                self.failures += 1;
                self.error = Some(error);
                if self.reachable.is_none() || self.failures >= settings.failure_threshold {
                    self.reachable = Some(false);
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct Last {
    observed: [Observed; 3],
    checked: Option<(Timestamp, Duration)>,
}

/// Probes the stores at an interval and remembers what it saw.
#[derive(Debug)]
pub(crate) struct Monitor {
    settings: MonitorSettings,
    last: Mutex<Last>,
}

impl Monitor {
    pub(crate) fn new(settings: MonitorSettings) -> Self {
        Self {
            settings,
            last: Mutex::default(),
        }
    }

    /// Probes until the room closes.
    pub(crate) async fn run(self: Arc<Self>, room: Arc<WriteRoom>) {
        while !room.is_closing() {
            let results = self.probe_all(&room).await;
            self.observe(&room, results);
            room.rest(self.settings.interval).await;
        }
    }

    async fn probe_all(&self, room: &WriteRoom) -> Vec<(Role, Result<(), String>)> {
        join_all(room.stores.iter().map(|store| async {
            let result = match room
                .runtime
                .timeout(self.settings.timeout, probe(store))
                .await
            {
                Ok(result) => result,
                Err(_) => Err("the probe timed out".to_owned()),
            };
            (store.role, result)
        }))
        .await
    }

    fn observe(&self, room: &WriteRoom, results: Vec<(Role, Result<(), String>)>) {
        let now = (room.runtime.now(), room.runtime.monotonic());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        for (role, result) in results {
            last.observed[crate::write::slot(role)].observe(result, self.settings);
        }
        last.checked = Some(now);
    }

    /// What was last observed, with backlog, circuits and journal as they are now.
    pub(crate) fn last(&self, inner: &Inner) -> Health {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let observed = |role: Role| last.observed[crate::write::slot(role)].clone();
        let age = last
            .checked
            .map(|(_, at)| inner.room.runtime.monotonic().saturating_sub(at));
        report(&inner.room, observed, last.checked.map(|(at, _)| at), age)
    }

    /// Probes now; this result counts at once, whatever the thresholds.
    pub(crate) async fn check(&self, inner: &Inner) -> Health {
        let results = self.probe_all(&inner.room).await;
        let mut now: [Observed; 3] = Default::default();
        for (role, result) in &results {
            now[crate::write::slot(*role)].observe(result.clone(), self.settings);
        }
        self.observe(&inner.room, results);
        let observed = |role: Role| now[crate::write::slot(role)].clone();
        report(
            &inner.room,
            observed,
            Some(inner.room.runtime.now()),
            Some(Duration::ZERO),
        )
    }
}

fn report(
    room: &WriteRoom,
    observed: impl Fn(Role) -> Observed,
    checked_at: Option<Timestamp>,
    age: Option<Duration>,
) -> Health {
    let stores: Vec<StoreHealth> = room
        .stores
        .iter()
        .map(|store| store_health(room, store, observed(store.role)))
        .collect();
    let mut journal = journal_report(room.journal.health());
    journal.sharing = room.sharing_status().map(|status| SharingReport {
        sends: status.sends,
        epoch: status.epoch,
        sender: status.sender,
        behind_for: status.behind_for,
        error: status.error,
    });
    Health {
        status: fold(&stores, &journal),
        stores,
        journal,
        checked_at,
        age,
    }
}

fn store_health(room: &WriteRoom, store: &Store, observed: Observed) -> StoreHealth {
    let status = store.status();
    let backlog = room.backlog.store_backlog(store.role);
    let state = match (room.backlog.participation(store.role), status.record.state) {
        (Participation::Full, _) if backlog.entries > 0 => RosterState::CatchingUp,
        (Participation::Rebuilding, _) => RosterState::NeedsRebuild,
        (_, state) => state,
    };
    let now = room.runtime.now().as_unix_milliseconds();
    let oldest_pending = backlog.oldest.map(|oldest| {
        let waited = now.saturating_sub(oldest.as_unix_milliseconds());
        Duration::from_millis(u64::try_from(waited).unwrap_or(0))
    });
    StoreHealth {
        role: store.role,
        service: Arc::clone(&store.service),
        store_id: status.record.store_id,
        state,
        reachable: observed.reachable,
        error: observed
            .error
            .or_else(|| backlog.error.as_deref().map(str::to_owned))
            .or_else(|| status.error.as_deref().map(str::to_owned)),
        circuit: status.circuit,
        backlog: backlog.entries,
        oldest_pending,
        parked: backlog.parked,
        failing: backlog.error.is_some(),
    }
}

fn journal_report(health: JournalHealth) -> JournalReport {
    let error = match &health.state {
        JournalState::Writable => None,
        JournalState::Full => Some("the journal is full".to_owned()),
        JournalState::ReadOnly(reason) | JournalState::Unavailable(reason) => Some(reason.clone()),
        JournalState::Closed => Some("the journal is closed".to_owned()),
    };
    JournalReport {
        writable: error.is_none(),
        error,
        entries: health.entries,
        max_entries: health.max_entries,
        bytes: health.bytes,
        max_bytes: health.max_bytes,
        sharing: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(role: Role, reachable: bool, state: RosterState, parked: u64) -> StoreHealth {
        StoreHealth {
            role,
            service: Arc::from("memory"),
            store_id: StoreId::from_u128(1),
            state,
            reachable: Some(reachable),
            error: None,
            circuit: CircuitState::Closed,
            backlog: 0,
            oldest_pending: None,
            parked,
            failing: false,
        }
    }

    fn journal(writable: bool) -> JournalReport {
        JournalReport {
            writable,
            error: None,
            entries: 0,
            max_entries: 1,
            bytes: 0,
            max_bytes: 1,
            sharing: None,
        }
    }

    fn three(reachable: [bool; 3], state: RosterState) -> Vec<StoreHealth> {
        Role::ALL
            .into_iter()
            .zip(reachable)
            .map(|(role, reachable)| store(role, reachable, state, 0))
            .collect()
    }

    #[test]
    fn the_fold_follows_its_definition() {
        use HealthStatus::*;
        let active = RosterState::Active;
        let status = |stores: &[StoreHealth], writable| fold(stores, &journal(writable));
        assert_eq!(status(&[], true), Unknown);
        assert_eq!(status(&three([true; 3], active), true), Healthy);
        assert_eq!(status(&three([true, true, false], active), true), Degraded);
        assert_eq!(status(&three([true, false, false], active), true), Degraded);
        assert_eq!(status(&three([false; 3], active), true), Unhealthy);
        assert_eq!(status(&three([true; 3], active), false), Degraded);
        assert_eq!(
            status(&three([true; 3], RosterState::NeedsRebuild), true),
            Degraded
        );
        let mut parked = three([true; 3], active);
        parked[0].parked = 1;
        assert_eq!(status(&parked, true), Degraded);
        // Its probe is answered, and what it is sent is not taken.
        let mut failing = three([true; 3], RosterState::CatchingUp);
        failing[0].failing = true;
        assert_eq!(status(&failing, true), Degraded);
        failing[1].failing = true;
        assert!(!failing[0].acknowledges() && failing[2].acknowledges());
    }

    #[test]
    fn thresholds_are_three_failures_and_one_success() {
        let settings = MonitorSettings {
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(3),
            failure_threshold: 3,
            success_threshold: 1,
        };
        let mut observed = Observed::default();
        observed.observe(Ok(()), settings);
        for expected in [true, true, false] {
            observed.observe(Err("down".to_owned()), settings);
            assert_eq!(observed.reachable, Some(expected));
        }
        observed.observe(Ok(()), settings);
        assert_eq!(observed.reachable, Some(true));
    }
}
