//! Writers and readers that know what they must see.

use std::{collections::BTreeMap, time::Duration};

use dbmanager::prelude::*;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::{documents::document, ledger::Ledger};

const COLLECTION: &str = "work";
const WRITERS: usize = 5;
/// Documents that only one writer writes.
const OWN: usize = 8;
/// Documents that all of them write.
const SHARED: usize = 3;
/// Of each writer, so that a fault meets some seconds of work and not all of it at once.
const PACE: Duration = Duration::from_millis(15);

/// Of a search.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(5);

/// What became of a document: its newest accepted version, and what that is.
type Accepted = (Version, Option<Document>);

/// Several writers at work.
pub(super) struct Workload {
    writers: JoinSet<Writer>,
    /// How many operations they have done.
    done: watch::Sender<usize>,
    stop: watch::Sender<bool>,
}

impl Workload {
    pub(super) fn start(db: &DatabaseManager, disturbed: Role) -> Self {
        let stop = watch::Sender::new(false);
        let mut writers = JoinSet::new();
        let done = watch::Sender::new(0);
        for number in 0..WRITERS {
            let writer = Writer {
                db: db.clone(),
                disturbed,
                number,
                random: number as u64 + 1,
                once: 0,
                own: BTreeMap::new(),
                shared: BTreeMap::new(),
            };
            writers.spawn(writer.work(done.clone(), stop.subscribe()));
        }
        Self {
            writers,
            done,
            stop,
        }
    }

    /// Waits until the writers have done so many operations more.
    pub(super) async fn until_done(&mut self, more: usize) {
        let mut done = self.done.subscribe();
        let wanted = *done.borrow_and_update() + more;
        tokio::select! {
            done = done.wait_for(|done| *done >= wanted) => {
                done.expect("the sender is kept here");
            }
            ended = self.writers.join_next() => {
                ended.expect("there are writers").expect("no writer fails");
                panic!("a writer ended before it was told to");
            }
        }
    }

    /// Ends the work and tells what must be there now.
    pub(super) async fn stop(self) -> Ledger {
        self.stop.send_replace(true);
        let mut newest: BTreeMap<String, Accepted> = BTreeMap::new();
        for writer in self.writers.join_all().await {
            for (id, accepted) in writer.own.into_iter().chain(writer.shared) {
                let known = newest.entry(id).or_insert_with(|| accepted.clone());
                if accepted.0 > known.0 {
                    *known = accepted;
                }
            }
        }
        let mut ledger = Ledger::default();
        for (id, (_, document)) in newest {
            match document {
                Some(document) => ledger.stored(COLLECTION, document),
                None => ledger.deleted(COLLECTION, &id),
            }
        }
        ledger
    }
}

struct Writer {
    db: DatabaseManager,
    /// The role of the store whose wire misbehaves.
    disturbed: Role,
    number: usize,
    random: u64,
    /// How many documents were written that are not touched again.
    once: usize,
    own: BTreeMap<String, Accepted>,
    /// What this writer wrote last, and the newest version it has read.
    shared: BTreeMap<String, Accepted>,
}

impl Writer {
    async fn work(mut self, done: watch::Sender<usize>, stop: watch::Receiver<bool>) -> Self {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.write(self.own_id(0)).await;
        while !*stop.borrow() {
            pace.tick().await;
            let own = self.own_id(self.draw(OWN));
            match self.draw(20) {
                0..5 => self.write(own).await,
                5..9 => self.write_once().await,
                9..12 => self.delete(own).await,
                12..15 => self.read(&own).await,
                15..17 => self.search().await,
                17 => self.delete(format!("shared {}", self.draw(SHARED))).await,
                _ => self.write(format!("shared {}", self.draw(SHARED))).await,
            }
            self.random = step(self.random);
            done.send_modify(|done| *done += 1);
        }
        self
    }

    fn own_id(&self, which: usize) -> String {
        format!("own {} {which}", self.number)
    }

    fn owner(&self) -> String {
        format!("writer {}", self.number)
    }

    /// A number below `bound`.
    fn draw(&self, bound: usize) -> usize {
        let mixed = step(self.random.wrapping_mul(bound as u64 + 1));
        (mixed >> 33) as usize % bound
    }

    async fn write(&mut self, id: String) {
        let number = (self.random >> 40) as usize % 10_000;
        let mut document = document(number).metadata("owner", self.owner());
        document.id.clone_from(&id);
        document
            .metadata
            .insert("drawn".to_owned(), self.random.into());
        document.references = vec![
            Reference::new(self.own_id(number % OWN)),
            Reference::new(format!("shared {}", number % SHARED)),
        ];
        let write = self.db.store_document(COLLECTION, document.clone());
        let answer = match number % 4 {
            0 => write.level(Level::All).timeout(PACE).await,
            _ => write.await,
        };
        self.accept(id, answer, Some(document));
    }

    /// A document that nobody touches again: nothing later makes up for it if it is lost.
    async fn write_once(&mut self) {
        let id = format!("once {} {}", self.number, self.once);
        self.once += 1;
        self.write(id).await;
    }

    async fn delete(&mut self, id: String) {
        let write = self.db.delete_document(COLLECTION, &*id);
        let answer = match self.draw(4) {
            0 => write.level(Level::All).timeout(PACE).await,
            _ => write.await,
        };
        self.accept(id, answer, None);
    }

    /// Journaled is accepted: it reaches every store, whatever the level.
    fn accept(&mut self, id: String, answer: Result<Receipt, Error>, document: Option<Document>) {
        let receipt = match answer {
            Ok(receipt) => receipt,
            Err(error) => match error.write_outcome() {
                Some(WriteOutcome::Pending(receipt)) => (**receipt).clone(),
                _ => panic!("{id}: {error:?}"),
            },
        };
        let known = match id.starts_with("shared") {
            true => &mut self.shared,
            false => &mut self.own,
        };
        let before = known.insert(id, (receipt.version, document));
        assert!(before.is_none_or(|before| before.0 < receipt.version));
    }

    /// A manager reads its own writes, and versions never go back.
    async fn read(&mut self, own: &str) {
        match self.db.get_document(COLLECTION, own).await {
            Ok(found) => {
                let found = found.map(|found| (found.version, found.document));
                let known = self.own.get(own).cloned();
                let known = known.and_then(|(version, document)| Some((version, document?)));
                assert_eq!(found, known, "{own}");
            }
            Err(error) => self.assert_excused(Role::Relational, &error),
        }
        let shared = format!("shared {}", self.draw(SHARED));
        match self.db.get_document(COLLECTION, &shared).await {
            Ok(Some(found)) => {
                if let Some((version, _)) = self.shared.get(&shared) {
                    assert!(found.version >= *version, "{shared} went back");
                }
                let seen = (found.version, Some(found.document));
                self.shared.insert(shared, seen);
            }
            // Another writer deleted it, or nobody has written it yet.
            Ok(None) => {}
            Err(error) => self.assert_excused(Role::Relational, &error),
        }
    }

    /// What a search shows of the own documents is current, and complete unless it says otherwise.
    async fn search(&self) {
        let mine = field("owner").eq(self.owner()).and(field("number").ge(0));
        let (query, role) = match self.draw(2) {
            0 => (Query::metadata(""), Role::Relational),
            _ => (Query::semantic("harbour lantern"), Role::Vector),
        };
        let query = query.filter(mine).limit(1_000).timeout(SEARCH_TIMEOUT);
        let answer = match self.db.search_documents(COLLECTION, query).await {
            Ok(answer) => answer,
            Err(error) => return self.assert_excused(role, &error),
        };
        for hit in answer
            .hits
            .iter()
            .filter(|hit| !hit.id.starts_with("shared"))
        {
            let known = self
                .own
                .get(&*hit.id)
                .and_then(|(_, document)| document.as_ref());
            assert_eq!(hit.document.as_ref(), known, "{answer:#?}");
        }
        if role == Role::Relational && !answer.degraded() {
            for (id, (_, document)) in &self.own {
                let shown = answer.hits.iter().any(|hit| *hit.id == **id);
                assert_eq!(shown, document.is_some(), "{id}: {answer:#?}");
            }
        }
    }

    /// Only what needs the disturbed store may fail, and only for a reason that passes.
    fn assert_excused(&self, needed: Role, error: &Error) {
        let passing = matches!(
            error.kind(),
            ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Overloaded
        );
        assert!(passing && needed == self.disturbed, "{error:?}");
    }
}

/// The next of a row of numbers that look drawn.
fn step(number: u64) -> u64 {
    number
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407)
}
