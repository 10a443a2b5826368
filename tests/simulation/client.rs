//! What the users of one manager do, all at the same time.

use std::{collections::BTreeMap, future::IntoFuture, time::Duration};

use dbmanager_core::{
    DatabaseManager, Result, Runtime,
    conformance::Seeded,
    journal::RosterState,
    model::{
        Document, Level, OnTimeout, OperationId, Precondition, Query, Receipt, Role, Version, field,
    },
};

use super::{
    calls::{self, LONG, USUAL},
    history::History,
    operation::{Expected, Kind, Operation, Place, text_of},
};

/// Collections in use.
pub const COLLECTIONS: [&str; 2] = ["papers", "notes"];
/// Documents of each.
pub const DOCUMENTS: usize = 4;

/// Quorum is what most writes ask for.
const LEVELS: [Level; 5] = [
    Level::Quorum,
    Level::Quorum,
    Level::All,
    Level::One,
    Level::Journaled,
];

/// One user.
pub struct Client {
    pub db: DatabaseManager,
    pub runtime: Runtime,
    pub history: History,
    pub random: Seeded,
    /// Share of documents that a store may be told to refuse for good.
    pub poison: f64,
    /// What was last read of each document, for preconditions.
    pub known: BTreeMap<Place, Option<(Version, usize)>>,
}

/// A write as it is sent, possibly more than once.
struct Sending {
    number: usize,
    level: Level,
    with_authority: bool,
    timeout: Duration,
}

impl Client {
    /// So many actions, one after the other.
    pub async fn run(mut self, actions: usize) {
        for _ in 0..actions {
            if self.random.unit() < 0.5 {
                let pause = Duration::from_millis(self.random.below(2_000) as u64);
                self.runtime.sleep(pause).await;
            }
            self.act().await;
            self.history.check_parked(&self.db);
        }
    }

    async fn act(&mut self) {
        let place = self.place();
        match self.random.below(100) {
            0..35 => self.write(place, Kind::Put).await,
            35..50 => self.write(place, Kind::Delete).await,
            50..58 => self.batch().await,
            58..66 => self.repeat().await,
            66..86 => self.read(&place).await,
            86..90 => self.search(&place.0).await,
            90..92 => self.list(&place.0).await,
            92..95 => self.ask_for_status().await,
            95..97 => self.write((place.0, String::new()), Kind::Drop).await,
            97..98 => {
                // An error says that something could not be read now.
                let check = self.db.check_consistency();
                drop(self.call("check_consistency", LONG, check).await);
            }
            _ => self.wait_for_last().await,
        }
    }

    async fn call<T>(
        &self,
        name: &str,
        time: Duration,
        call: impl IntoFuture<Output = Result<T>>,
    ) -> Result<T> {
        calls::call(&self.history, &self.runtime, name, time, call).await
    }

    fn place(&mut self) -> Place {
        let collection = *self.random.pick(&COLLECTIONS);
        let id = format!("d{}", self.random.below(DOCUMENTS));
        (collection.to_owned(), id)
    }

    /// What a write expects of its document, by what this user read last.
    fn expectation(&mut self, place: &Place) -> (Option<Precondition>, Expected) {
        match self.random.below(10) {
            0 => (Some(Precondition::Absent), Expected::Absent),
            1..3 if !self.history.was_repaired() => match self.known.get(place) {
                Some(Some((version, number))) => (
                    Some(Precondition::Version(*version)),
                    Expected::Content(*number),
                ),
                _ => (Some(Precondition::Absent), Expected::Absent),
            },
            _ => (None, Expected::Anything),
        }
    }

    fn begin(&mut self, place: Place, kind: Kind) -> Sending {
        let mut operation = Operation::new(place.clone(), kind);
        let keyed = kind != Kind::Drop && self.random.unit() < 0.3;
        if kind != Kind::Drop {
            (operation.precondition, operation.expected) = self.expectation(&place);
            operation.operation_id = Some(self.runtime.new_operation_id());
        }
        Sending {
            number: self.history.begin(operation, keyed),
            level: *self.random.pick(&LEVELS),
            with_authority: self.random.unit() < 0.1,
            timeout: Duration::from_millis(*self.random.pick(&[50, 1_000, 10_000, 60_000])),
        }
    }

    async fn write(&mut self, place: Place, kind: Kind) {
        let sending = self.begin(place, kind);
        drop(self.send(sending, None).await);
    }

    pub fn document(&mut self, number: usize, id: &str) -> Document {
        // By the number, so that a repetition is the same document.
        let mut drawn = Seeded::new(number as u64);
        let poisoned = drawn.unit() < self.poison;
        Document::new(id)
            .title(format!("title {number}"))
            .text(text_of(number, poisoned))
            .metadata("number", number as u64)
            .references([format!("d{}", drawn.below(DOCUMENTS + 1))])
    }

    /// Sends the write and takes down what is answered.
    async fn send(
        &mut self,
        sending: Sending,
        operation_id: Option<OperationId>,
    ) -> Result<Receipt> {
        let number = sending.number;
        let first_id = self.history.operation(number).operation_id;
        let sent_as = operation_id.or(first_id);
        if let Some(sent_as) = sent_as {
            self.history.sending(number, sent_as);
        }
        let answer = self.submit(sending, sent_as).await;
        self.history.answered(number, sent_as, &answer);
        answer
    }

    async fn submit(
        &mut self,
        sending: Sending,
        operation_id: Option<OperationId>,
    ) -> Result<Receipt> {
        let number = sending.number;
        let Operation {
            collection,
            id,
            kind,
            precondition,
            key,
            ..
        } = self.history.operation(number);
        let pending = match self.random.below(4) {
            0 => OnTimeout::ReturnPending,
            _ => OnTimeout::Error,
        };
        macro_rules! options {
            ($write:expr) => {{
                let write = $write
                    .level(sending.level)
                    .timeout(sending.timeout)
                    .on_timeout(pending);
                if sending.with_authority {
                    write.with_authority()
                } else {
                    write
                }
            }};
        }
        macro_rules! single {
            ($write:expr) => {{
                let mut write = options!($write);
                if let Some(operation_id) = operation_id {
                    write = write.operation_id(operation_id);
                }
                if let Some(precondition) = precondition {
                    write = write.precondition(precondition);
                }
                if let Some(key) = key {
                    write = write.idempotency_key(key);
                }
                self.call("a write", sending.timeout, write).await
            }};
        }
        let answer = match kind {
            Kind::Put => {
                let document = self.document(number, &id);
                single!(self.db.store_document(collection, document))
            }
            Kind::Delete => single!(self.db.delete_document(collection, id)),
            Kind::Drop => {
                let write = options!(self.db.drop_collection(collection));
                self.call("a drop", sending.timeout, write).await
            }
        };
        if let Ok(receipt) = &answer
            && sending.with_authority
            && receipt.level_reached()
        {
            let authority = [Role::Relational];
            self.history.check_held(number, receipt.version, &authority);
        }
        answer
    }

    async fn batch(&mut self) {
        let collection = *self.random.pick(&COLLECTIONS);
        let mut numbers = Vec::new();
        let mut documents = Vec::new();
        for index in 0..1 + self.random.below(DOCUMENTS) {
            let id = format!("d{index}");
            let operation = Operation::new((collection.to_owned(), id.clone()), Kind::Put);
            let number = self.history.begin(operation, false);
            numbers.push(number);
            documents.push(self.document(number, &id));
        }
        let write = self.db.store_documents(collection, documents);
        match self.call("store_documents", USUAL, write).await {
            Ok(answers) => {
                for (number, answer) in numbers.into_iter().zip(&answers) {
                    if let Err(error) = answer {
                        calls::check(&self.history, "store_documents", error);
                    }
                    self.history.answered(number, None, answer);
                }
            }
            Err(error) => {
                let answer = Err(error);
                for number in numbers {
                    self.history.answered(number, None, &answer);
                }
            }
        }
    }

    /// Sends a write with a key again, under another operation id, as after a lost answer.
    async fn repeat(&mut self) {
        let keyed = self.history.keyed();
        if keyed.is_empty() {
            return;
        }
        let number = *self.random.pick(&keyed);
        let sending = Sending {
            number,
            level: Level::Quorum,
            with_authority: false,
            timeout: Duration::from_secs(5),
        };
        let operation_id = self.runtime.new_operation_id();
        drop(self.send(sending, Some(operation_id)).await);
    }

    async fn read(&mut self, place: &Place) {
        let reading = self.history.begin_read(place);
        // An error is an answer too: it says that nothing is known now.
        let get = self.db.get_document(&place.0, &place.1);
        if let Ok(found) = self.call("get_document", USUAL, get).await {
            let seen = found
                .as_ref()
                .map(|f| (f.version, f.document.text.as_str()));
            let number = self.history.end_read(reading, seen, true);
            self.known
                .insert(place.clone(), seen.map(|(version, _)| version).zip(number));
        }
    }

    /// Reads while nothing can fail; the version that was found.
    pub async fn read_now(&mut self, place: &Place) -> Option<Version> {
        let reading = self.history.begin_read(place);
        let get = self.db.get_document(&place.0, &place.1);
        match self.call("get_document", USUAL, get).await {
            Ok(found) => {
                let seen = found
                    .as_ref()
                    .map(|f| (f.version, f.document.text.as_str()));
                self.history.end_read(reading, seen, true);
                seen.map(|(version, _)| version)
            }
            Err(error) => {
                self.history
                    .violate("a healthy manager answers", error.to_string());
                None
            }
        }
    }

    async fn search(&mut self, collection: &str) {
        let searching = self.history.begin_search(collection);
        let query = match self.random.below(3) {
            0 => Query::metadata("harbour"),
            1 => Query::hybrid("harbour").filter(field("number").ge(0)),
            _ => Query::hybrid("harbour"),
        };
        // An error is an answer too: it says that nothing could be searched now.
        let search = self.db.search_documents(collection, query.limit(10));
        if let Ok(found) = self.call("search_documents", USUAL, search).await {
            self.history.end_search(searching, &found);
        }
    }

    /// Lists a collection. A page that says that it is complete is a read of every document.
    async fn list(&mut self, collection: &str) {
        let mut readings: BTreeMap<String, _> = (0..DOCUMENTS)
            .map(|index| {
                let place = (collection.to_owned(), format!("d{index}"));
                (place.1.clone(), self.history.begin_read(&place))
            })
            .collect();
        let list = self.db.list_documents(collection, None, None, 10);
        let Ok(page) = self.call("list_documents", USUAL, list).await else {
            return;
        };
        for found in &page.documents {
            if let Some(reading) = readings.remove(&found.document.id) {
                let seen = Some((found.version, found.document.text.as_str()));
                self.history.end_read(reading, seen, page.complete);
            }
        }
        for reading in readings.into_values().filter(|_| page.complete) {
            self.history.end_read(reading, None, true);
        }
    }

    /// Also of what was answered: its end must be the same ever after.
    async fn ask_for_status(&mut self) {
        let asked = match self.random.below(2) {
            0 => self.history.unresolved(),
            _ => self.history.named(),
        };
        if asked.is_empty() {
            return;
        }
        let number = *self.random.pick(&asked);
        self.resolve(number).await;
    }

    /// Asks what became of an operation; an error says that nothing is known now.
    pub async fn resolve(&mut self, number: usize) {
        for asked in self.history.operation(number).ids() {
            let status = self.call("status", USUAL, self.db.status(asked));
            if let Ok(status) = status.await {
                self.history
                    .resolved(number, asked, &status, &self.holders());
            }
        }
    }

    /// The roles whose store holds what is done: one that needs a rebuild may lack it.
    fn holders(&self) -> Vec<Role> {
        let stores = self.db.health().stores.into_iter();
        let whole = stores
            .filter(|store| matches!(store.state, RosterState::Active | RosterState::CatchingUp));
        whole.map(|store| store.role).collect()
    }

    async fn wait_for_last(&mut self) {
        let timeout = Duration::from_secs(20);
        let place = self.place();
        let sending = self.begin(place, Kind::Put);
        let number = sending.number;
        let Ok(receipt) = self.send(sending, None).await else {
            return;
        };
        let wait = self.db.wait_for(&receipt, Level::All, timeout);
        if let Ok(receipt) = self.call("wait_for", timeout, wait).await {
            self.history.answered(number, None, &Ok(receipt));
        }
    }
}
