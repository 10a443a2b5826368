//! Three stores of which one gets into trouble, a bounded manager over them, and what must hold of
//! both at the end.

use std::time::Duration;

use dbmanager_core::{
    CircuitState, DatabaseManager,
    config::Config,
    health::StoreHealth,
    model::{Level, Role},
};
use metrics::LocalRecorderGuard;

use crate::{
    common::{Rig, STRAINED_CALL, Switch, caught_up, eventually, recorder::Recorder},
    load::Load,
};

/// Live entries at which the journal rejects further writes.
pub(crate) const MAX_ENTRIES: u64 = 1_500;
/// Documents whose writes may be under way at once.
pub(crate) const MAX_IN_FLIGHT: usize = 300;
/// Retries that the budget of a store grants at first, whatever the number of calls.
pub(crate) const RESERVE: u64 = 10;
/// Documents sent to a store at once.
const BATCH: u32 = 5;

pub(crate) struct World {
    role: Role,
    rig: Rig,
    db: DatabaseManager,
    pub(crate) load: Load,
    recorder: Recorder,
    started: tokio::time::Instant,
    random: u64,
    _recording: LocalRecorderGuard<'static>,
}

impl World {
    pub(crate) async fn new(role: Role, seed: u64) -> Self {
        // The guard cannot borrow from the value that holds it.
        let recorder: &'static Recorder = Box::leak(Box::default());
        let recording = metrics::set_default_local_recorder(recorder);
        let rig = Rig::new();
        let db = rig.builder_with(config(&rig)).open().await.unwrap();
        Self {
            role,
            load: Load::new(db.clone()),
            rig,
            db,
            recorder: recorder.clone(),
            started: tokio::time::Instant::now(),
            random: seed,
            _recording: recording,
        }
    }

    /// The switch of the store that gets into trouble.
    pub(crate) fn switch(&self) -> &Switch {
        self.rig.switch(self.role)
    }

    /// Documents that a strained store can take in a second.
    pub(crate) fn capacity(&self) -> u32 {
        let batches = Duration::from_secs(1).as_millis() / STRAINED_CALL.as_millis();
        u32::try_from(batches).unwrap() * BATCH
    }

    /// The next number of a linear congruential generator (Knuth's MMIX).
    pub(crate) fn random(&mut self) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.random >> 33
    }

    /// Nothing waits any longer, and no circuit is open.
    pub(crate) fn assert_drained(&self) {
        let health = self.db.health();
        for store in &health.stores {
            assert_eq!(store.circuit, CircuitState::Closed, "{store:?}");
            let waits = store.oldest_pending.unwrap_or_default();
            assert!(waits < Duration::from_secs(1), "{store:?}");
        }
    }

    /// What must hold at the end of every scenario.
    pub(crate) async fn end(self) {
        self.assert_retries_within_budget();
        let peaks = self.load.peaks();
        assert!(peaks.entries <= MAX_ENTRIES, "{peaks:?}");
        assert!(peaks.under_way <= MAX_IN_FLIGHT, "{peaks:?}");
        eventually("every store has everything", || caught_up(&self.db)).await;
        eventually("the journal lets go", || {
            self.db.health().journal.entries == 0
        })
        .await;
        let closed = |store: &StoreHealth| store.circuit == CircuitState::Closed;
        assert!(self.db.health().stores.iter().all(closed));
        self.load.assert_kept().await;
        let report = self.db.check_consistency().await.unwrap();
        assert!(report.is_consistent(), "{report:?}");
        for store in &report.stores {
            assert_eq!(store.documents, self.load.accepted() as u64, "{store:?}");
        }
        self.db.close(Duration::from_secs(10)).await.unwrap();
    }

    /// Attempts at the troubled store are at most 1.1 times the first attempts. Attempts are what
    /// arrived at the adapter; first attempts are the calls that were let through, as the metrics
    /// count them.
    pub(crate) fn assert_few_attempts(&self) {
        let attempts = self.switch().calls();
        let first = self.calls(self.role);
        assert!(
            10 * attempts <= 11 * first,
            "{attempts} attempts of {first}"
        );
    }

    fn assert_retries_within_budget(&self) {
        let seconds = self.started.elapsed().as_secs();
        for role in Role::ALL {
            let attempts = self.rig.switch(role).calls();
            let first = self.calls(role);
            let granted = first / 10 + RESERVE + seconds;
            assert!(attempts >= first, "{attempts} attempts of {first} calls");
            assert!(
                attempts - first <= granted,
                "{role}: {attempts} attempts of {first} calls in {seconds} s"
            );
        }
    }

    fn calls(&self, role: Role) -> u64 {
        let series = self.recorder.series("dbmanager_backend_operations_total");
        let let_through = series.into_iter().filter(|(labels, _)| {
            labels["role"] == role.as_str()
                && labels["outcome"] != "circuit_open"
                && labels["operation"] != "close"
        });
        let_through.map(|(_, calls)| calls as u64).sum()
    }
}

fn config(rig: &Rig) -> Config {
    rig.config()
        .write(Level::Quorum, Duration::from_secs(5))
        .adjust(|settings| {
            settings.journal.max_entries = Some(MAX_ENTRIES);
            settings.write.max_in_flight = MAX_IN_FLIGHT;
            settings.performance.batch_size = BATCH as usize;
            settings.performance.query_timeout = Duration::from_secs(3);
        })
}
