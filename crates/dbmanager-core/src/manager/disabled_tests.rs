//! The backlog of a disabled store above its limit: a vector or graph store is given up for a
//! rebuild, the authority never. The limit is a hundred thousand entries elsewhere.

use std::{sync::Arc, time::Duration};

use super::DatabaseManager;
use crate::{
    config::Config,
    journal::{JournalSource, MemoryStorage, RosterState},
    memory::{MemoryFactory, MemoryPlace},
    model::{Document, Level, Role},
};

const LIMIT: u64 = 10;
/// Several rounds of truncation.
const ROUNDS: Duration = Duration::from_secs(30);

/// Three stores and a journal that outlive their managers.
struct Stores {
    places: [(Role, MemoryPlace); 3],
    journal: MemoryStorage,
}

impl Stores {
    fn new() -> Self {
        Self {
            places: Role::ALL.map(|role| (role, MemoryPlace::new())),
            journal: MemoryStorage::new(),
        }
    }

    async fn open(&self, config: Config) -> DatabaseManager {
        let mut builder = DatabaseManager::builder(config)
            .journal(JournalSource::Storage(Arc::new(self.journal.clone())));
        for (role, place) in &self.places {
            builder = builder.register(MemoryFactory::of(*role).at(place));
        }
        builder.disabled_backlog = LIMIT;
        builder.open().await.unwrap()
    }

    /// A manager without a store that held a document before, with a backlog of exactly the limit.
    async fn open_without(&self, role: Role) -> DatabaseManager {
        let db = self.open(Config::in_memory()).await;
        store(&db, 0).await;
        drained(&db).await;
        close(db).await;
        let db = self.open(Config::in_memory().disable(role)).await;
        for number in 1..=LIMIT {
            store(&db, number).await;
        }
        tokio::time::sleep(ROUNDS).await;
        assert_eq!(
            db.health().journal.entries,
            LIMIT,
            "the limit is not passed"
        );
        assert_eq!(state(&db, role).await, RosterState::Active);
        db
    }
}

async fn store(db: &DatabaseManager, number: u64) {
    let document = Document::new(format!("d{number}")).text("some words");
    let write = db.store_document("c", document).level(Level::All);
    write.await.unwrap();
}

async fn close(db: DatabaseManager) {
    db.close(Duration::from_secs(10)).await.unwrap();
}

async fn drained(db: &DatabaseManager) {
    for _ in 0..ROUNDS.as_secs() {
        if db.health().journal.entries == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("the journal does not let go");
}

/// As the journal has it: a disabled store is not in the health.
async fn state(db: &DatabaseManager, role: Role) -> RosterState {
    let roster = db.room().journal.roster().await.unwrap();
    let mut records = roster.into_iter().filter(|record| record.role == role);
    let record = records.next().unwrap();
    assert!(records.next().is_none());
    record.state
}

/// Every store holds every document.
async fn assert_sound(db: &DatabaseManager, documents: u64) {
    let report = db.check_consistency().await.unwrap();
    assert!(report.is_consistent(), "{report:?}");
    let held: Vec<_> = report.stores.iter().map(|s| s.documents).collect();
    assert_eq!(held, [documents; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_disabled_store_is_given_up_when_its_backlog_passes_the_limit() {
    for role in [Role::Vector, Role::Graph] {
        let stores = Stores::new();
        let db = stores.open_without(role).await;
        store(&db, LIMIT + 1).await;
        drained(&db).await;
        assert_eq!(state(&db, role).await, RosterState::NeedsRebuild);
        // It holds nothing any more, not even what stays below the limit.
        store(&db, LIMIT + 2).await;
        drained(&db).await;
        close(db).await;

        let db = stores.open(Config::in_memory()).await;
        assert_eq!(
            db.health().store(role).unwrap().state,
            RosterState::NeedsRebuild
        );
        db.rebuild(role).await.unwrap();
        assert_sound(&db, LIMIT + 3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_disabled_authority_is_never_given_up() {
    let role = Role::Relational;
    let stores = Stores::new();
    let db = stores.open_without(role).await;
    for number in LIMIT + 1..=3 * LIMIT {
        store(&db, number).await;
    }
    tokio::time::sleep(ROUNDS).await;
    assert_eq!(db.health().journal.entries, 3 * LIMIT, "all is kept for it");
    assert_eq!(state(&db, role).await, RosterState::Active);
    close(db).await;

    let db = stores.open(Config::in_memory()).await;
    drained(&db).await;
    assert_eq!(state(&db, role).await, RosterState::Active);
    assert_sound(&db, 3 * LIMIT + 1).await;
}
