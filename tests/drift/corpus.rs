//! Documents for scenarios with many of them, a ledger of what was acknowledged, and the
//! questions that every scenario ends with.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dbmanager_core::{
    ConsistencyReport, DatabaseManager, DifferenceKind,
    journal::RosterState,
    model::{Document, Level, Query, Role},
};

use crate::common::{caught_up, eventually};

pub(crate) const COLLECTION: &str = "c";

/// The document of this number and revision. Its words tell both.
pub(crate) fn document(number: u64, revision: u64) -> Document {
    Document::new(id(number))
        .title(format!("harbour {number}"))
        .text(format!("written in revision {revision}"))
        .references([id(number / 2)])
}

pub(crate) fn id(number: u64) -> String {
    format!("d{number:05}")
}

/// What must be there; `None`: deleted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(Arc<Mutex<BTreeMap<String, Option<Document>>>>);

impl Ledger {
    fn note(&self, id: String, state: Option<Document>) {
        self.0.lock().unwrap().insert(id, state);
    }

    /// Stores documents in batches, in every enabled store.
    pub(crate) async fn fill(
        &self,
        db: &DatabaseManager,
        numbers: std::ops::Range<u64>,
        revision: u64,
    ) {
        let all: Vec<Document> = numbers.map(|number| document(number, revision)).collect();
        for batch in all.chunks(500) {
            let write = db.store_documents(COLLECTION, batch.to_vec());
            for receipt in write.level(Level::All).await.unwrap() {
                receipt.unwrap();
            }
            for document in batch {
                self.note(document.id.clone(), Some(document.clone()));
            }
        }
    }

    pub(crate) async fn store(&self, db: &DatabaseManager, number: u64, revision: u64) {
        let new = document(number, revision);
        db.store_document(COLLECTION, new.clone()).await.unwrap();
        self.note(id(number), Some(new));
    }

    pub(crate) async fn delete(&self, db: &DatabaseManager, number: u64) {
        db.delete_document(COLLECTION, id(number)).await.unwrap();
        self.note(id(number), None);
    }

    /// Forgets everything, as a dropped collection does.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    /// Every document and every deletion that was acknowledged holds, by id and in searches.
    pub(crate) async fn assert_kept(&self, db: &DatabaseManager) {
        let wanted = self.0.lock().unwrap().clone();
        let found = db.get_documents(COLLECTION, wanted.keys()).await.unwrap();
        for ((id, wanted), found) in wanted.iter().zip(found) {
            assert_eq!(found.map(|found| found.document), *wanted, "{id}");
        }
        assert_eq!(
            self.assert_searched(db).await,
            4,
            "every search is answered"
        );
    }

    /// No search shows what is not there or is there no more. Answers how many of four were
    /// answered: the one whose store is down is not.
    pub(crate) async fn assert_searched(&self, db: &DatabaseManager) -> usize {
        let wanted = self.0.lock().unwrap().clone();
        let mut answered = 0;
        for query in [
            Query::semantic("harbour written in revision"),
            Query::metadata("harbour"),
            Query::graph("harbour"),
            Query::hybrid("harbour"),
        ] {
            let found = db.search_documents(COLLECTION, query.limit(500)).await;
            let Ok(found) = found else { continue };
            answered += 1;
            for hit in found.hits {
                let known = wanted.get(&*hit.id).and_then(Option::as_ref);
                let known = known.unwrap_or_else(|| panic!("{} is not there", hit.id));
                assert_eq!(hit.document.as_ref(), Some(known), "{}", hit.id);
            }
        }
        answered
    }

    /// What was acknowledged is there, and every store holds exactly that.
    pub(crate) async fn assert_sound(&self, db: &DatabaseManager) {
        let report = check(db).await;
        assert!(report.is_consistent(), "{report:?}");
        let states = self.0.lock().unwrap().clone();
        let live = states.values().filter(|state| state.is_some()).count() as u64;
        for store in &report.stores {
            assert_eq!(store.documents, live, "{store:?}");
            assert_eq!(store.tombstones, states.len() as u64 - live, "{store:?}");
        }
        self.assert_kept(db).await;
    }
}

/// A comparison once no store has anything left to receive.
pub(crate) async fn check(db: &DatabaseManager) -> ConsistencyReport {
    eventually("the stores catch up", || caught_up(db)).await;
    db.check_consistency().await.unwrap()
}

/// Waits until the journal holds nothing any more.
pub(crate) async fn drained(db: &DatabaseManager) {
    eventually("the journal lets go", || db.health().journal.entries == 0).await;
}

pub(crate) async fn close(db: DatabaseManager) {
    db.close(Duration::from_secs(10)).await.unwrap();
}

pub(crate) fn state(db: &DatabaseManager, role: Role) -> RosterState {
    db.health().store(role).unwrap().state
}

pub(crate) type Finding = (Role, String, DifferenceKind);

/// What was found, in order.
pub(crate) fn findings(report: &ConsistencyReport) -> Vec<Finding> {
    let found = report.differences.iter();
    let mut found: Vec<_> = found.map(|d| (d.role, d.id.to_string(), d.kind)).collect();
    found.sort();
    let counted: u64 = report.stores.iter().map(|store| store.differences).sum();
    assert_eq!(counted, found.len() as u64, "every difference is listed");
    found
}

/// Found as stated, and not changed by being found.
pub(crate) async fn assert_found(db: &DatabaseManager, expected: &[Finding]) {
    for _ in 0..2 {
        let report = check(db).await;
        assert_eq!(findings(&report), expected);
        assert!(report.differences.iter().all(|d| !d.repaired));
    }
}

/// Writes new, changed and deleted documents until it is told to stop.
pub(crate) struct Writer {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<u64>,
}

impl Writer {
    /// New documents get numbers from `from` on, those below are changed and deleted in turn.
    pub(crate) fn start(db: &DatabaseManager, ledger: &Ledger, from: u64) -> Self {
        let (db, ledger) = (db.clone(), ledger.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut step = 0;
            while !stopped.load(Ordering::SeqCst) {
                ledger.store(&db, from + step, 100).await;
                ledger.store(&db, step * 7 % from, 101 + step).await;
                if step % 3 == 0 {
                    ledger.delete(&db, step * 11 % from).await;
                }
                step += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            step
        });
        Self { stop, task }
    }

    /// How many rounds it made.
    pub(crate) async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap()
    }
}
