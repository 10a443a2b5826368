//! One of many writers: it writes its own documents in all the ways there are, one write at a time,
//! and knows therefore what each of them must answer.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use dbmanager::{
    DatabaseManager, Error, ErrorKind, Result as Answer, WriteOutcome,
    model::{Level, Precondition, Receipt, Version},
};
use futures_util::future::join;

use super::{
    documents::{COLLECTION, document, id},
    ledger::{Intent, Ledger, Line},
    random::Random,
    state::{Held, Open},
};

/// Documents of each writer.
pub(crate) const DOCUMENTS: usize = 8;
/// Most documents in a batch.
const BATCH: usize = 4;

type Outcome<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What the writers share.
pub(crate) struct Shared {
    pub(crate) db: DatabaseManager,
    pub(crate) ledger: Ledger,
    pub(crate) next_write: AtomicU64,
}

/// A writer, as the ledger knows it.
pub(crate) struct Writer {
    pub(crate) number: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) random: Random,
    pub(crate) held: BTreeMap<String, Held>,
    /// Writes with a key that were not acknowledged before the last kill.
    pub(crate) open: Vec<Open>,
    /// Acknowledged writes with a key.
    pub(crate) completed: Vec<(Intent, Vec<Version>)>,
}

impl Writer {
    /// Writes until something is not as it must be.
    ///
    /// # Errors
    /// What is not.
    pub(crate) async fn run(mut self) -> Outcome<std::convert::Infallible> {
        for open in std::mem::take(&mut self.open) {
            self.send_again(open).await?;
        }
        loop {
            match self.random.below(16) {
                0..7 => self.upsert().await?,
                7..10 => self.delete().await?,
                10 => self.refused().await?,
                11 => self.twice().await?,
                _ => self.repeat().await?,
            }
        }
    }

    /// Ids of this writer that are live, or those that are not.
    fn ids(&self, live: bool) -> Vec<String> {
        let is_live = |id: &String| self.held.get(id).is_some_and(|held| !held.deleted);
        (0..DOCUMENTS)
            .map(|number| id(self.number, number))
            .filter(|id| is_live(id) == live)
            .collect()
    }

    fn pick(&mut self, mut ids: Vec<String>, most: usize) -> Vec<String> {
        let count = 1 + self.random.below(most);
        let mut picked = Vec::new();
        while picked.len() < count && !ids.is_empty() {
            picked.push(ids.swap_remove(self.random.below(ids.len())));
        }
        picked
    }

    fn intent(&mut self, ids: Vec<String>, delete: bool) -> Intent {
        Intent {
            write: self.shared.next_write.fetch_add(1, Ordering::Relaxed),
            writer: self.number,
            ids,
            delete,
            keyed: self.random.below(3) > 0,
            precondition: None,
        }
    }

    /// One document or a batch, absent or present before; a single one also under a precondition
    /// that holds.
    async fn upsert(&mut self) -> Outcome<()> {
        let live = self.random.below(2) == 0;
        let most = [1, BATCH][self.random.below(2)];
        let ids = self.pick([self.ids(live), self.ids(!live)].concat(), most);
        let mut intent = self.intent(ids, false);
        if intent.ids.len() == 1 && self.random.below(2) == 0 {
            let held = self.held.get(&intent.ids[0]).filter(|held| !held.deleted);
            let version = held.map(|held| held.version);
            intent.precondition = Some(version.map_or(Precondition::Absent, Precondition::Version));
        }
        self.send(intent).await
    }

    async fn delete(&mut self) -> Outcome<()> {
        let most = [1, 1, BATCH][self.random.below(3)];
        let ids = self.pick(self.ids(true), most);
        if ids.is_empty() {
            return Ok(());
        }
        let intent = self.intent(ids, true);
        self.send(intent).await
    }

    /// A precondition that does not hold. The ledger has no word of it: any effect is a violation.
    async fn refused(&mut self) -> Outcome<()> {
        let ids = self.pick(self.ids(true), 1);
        if ids.is_empty() {
            return Ok(());
        }
        let older = Version::from_u64(self.held[&ids[0]].version.as_u64() - 1);
        let mut intent = self.intent(ids, false);
        intent.precondition =
            Some([Precondition::Absent, Precondition::Version(older)][self.random.below(2)]);
        match self.attempt(&intent).await {
            Err(error) if error.kind() == ErrorKind::PreconditionFailed => Ok(()),
            answer => Err(format!("{intent:?} was not refused: {answer:?}").into()),
        }
    }

    /// The same key from two callers at the same time.
    async fn twice(&mut self) -> Outcome<()> {
        let ids = self.pick([self.ids(true), self.ids(false)].concat(), 1);
        let mut intent = self.intent(ids, false);
        intent.keyed = true;
        self.note(&Line::Intent(intent.clone()))?;
        let (one, other) = join(self.attempt(&intent), self.attempt(&intent)).await;
        let (one, other) = (one?, other?);
        if one != other {
            return Err(format!("{intent:?} has versions {one:?} and {other:?}").into());
        }
        self.acknowledged(intent, one)
    }

    /// A write that was acknowledged before, perhaps by a process that was killed since.
    async fn repeat(&mut self) -> Outcome<()> {
        if self.completed.is_empty() {
            return Ok(());
        }
        let index = self.random.below(self.completed.len());
        let (intent, versions) = &self.completed[index];
        let again = self.attempt(intent).await?;
        if again == *versions {
            return Ok(());
        }
        Err(format!("{intent:?} of {versions:?} has {again:?} when it is repeated").into())
    }

    /// A write of which nobody heard whether it was accepted: if it was, it must be this write.
    async fn send_again(&mut self, open: Open) -> Outcome<()> {
        self.note(&Line::Again(open.intent.write))?;
        let versions = self.attempt(&open.intent).await?;
        for ((found, version), id) in open.found.iter().zip(&versions).zip(&open.intent.ids) {
            let held = self.held.get(id).map(|held| held.version);
            let as_found = found.is_none_or(|found| found == *version);
            let newer = found.is_some() || held.is_none_or(|held| *version > held);
            if !as_found || !newer {
                return Err(format!("{open:?} has {versions:?} when it is sent again").into());
            }
        }
        self.acknowledged(open.intent, versions)
    }

    async fn send(&mut self, intent: Intent) -> Outcome<()> {
        self.note(&Line::Intent(intent.clone()))?;
        let versions = self.attempt(&intent).await?;
        self.acknowledged(intent, versions)
    }

    fn note(&self, line: &Line) -> Outcome<()> {
        Ok(self.shared.ledger.write(line)?)
    }

    fn acknowledged(&mut self, intent: Intent, versions: Vec<Version>) -> Outcome<()> {
        self.note(&Line::Acknowledged(intent.write, versions.clone()))?;
        for (id, version) in intent.ids.iter().zip(&versions) {
            let held = self.held.get(id).map(|held| held.version);
            if held.is_some_and(|held| held > *version) {
                return Err(format!("{intent:?} has {versions:?}, below {held:?}").into());
            }
            let held = Held {
                version: *version,
                write: intent.write,
                deleted: intent.delete,
            };
            self.held.insert(id.clone(), held);
        }
        if intent.keyed {
            self.completed.push((intent, versions));
        }
        Ok(())
    }

    /// Sends a write; the versions in the order of its ids.
    async fn attempt(&self, intent: &Intent) -> Answer<Vec<Version>> {
        let db = &self.shared.db;
        let level = [Level::Quorum, Level::Journaled, Level::All, Level::Quorum]
            [(intent.write % 4) as usize];
        let key = intent.keyed.then(|| format!("write {}", intent.write));
        // Evaluates a builder, with the options that all of them have.
        macro_rules! with_options {
            ($write:expr) => {{
                let mut write = $write.level(level);
                if let Some(key) = key {
                    write = write.idempotency_key(key);
                }
                write
            }};
        }
        let (ids, write) = (&intent.ids, intent.write);
        let answers = match (ids.as_slice(), intent.delete) {
            ([id], false) => {
                let mut write = with_options!(db.store_document(COLLECTION, document(id, write)));
                if let Some(precondition) = intent.precondition {
                    write = write.precondition(precondition);
                }
                vec![write.await]
            }
            ([id], true) => vec![with_options!(db.delete_document(COLLECTION, id)).await],
            (ids, false) => {
                let documents: Vec<_> = ids.iter().map(|id| document(id, write)).collect();
                with_options!(db.store_documents(COLLECTION, documents)).await?
            }
            (ids, true) => with_options!(db.delete_documents(COLLECTION, ids.to_vec())).await?,
        };
        answers.into_iter().map(version).collect()
    }
}

/// What is journaled will be applied, whether or not the level was reached in time.
fn version(answer: Answer<Receipt>) -> Answer<Version> {
    match answer {
        Ok(receipt) => Ok(receipt.version),
        Err(error) => match error.write_outcome() {
            Some(WriteOutcome::Pending(receipt)) => Ok(receipt.version),
            _ => Err(Error::clone(&error)),
        },
    }
}
