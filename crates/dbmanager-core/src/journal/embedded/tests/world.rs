//! The [script](super::script) at work on a disk.

use super::{
    disk::Disk,
    script::{ACTIONS, Action, State, open_storage, options, snapshot},
    *,
};
use crate::{
    journal::{Entry, ParkedEntry, RosterRecord, RosterState, TruncateRequest},
    model::{EmbeddingSpace, Metric, Role, StoreId},
};

const STORE: StoreId = StoreId::from_u128(1);
/// By so much an epoch is raised, at least: more than a few openings do.
const RAISE: u64 = 100;

/// The script under way.
pub(super) struct World {
    pub(super) disk: Disk,
    pub(super) journal: Option<Arc<EmbeddedJournal>>,
    pub(super) operations: Vec<OperationId>,
    clock: Clock,
    now: i64,
    collection: Option<CollectionKey>,
    dropped: Option<CollectionKey>,
    /// The live entries with what was sent, by what was acknowledged.
    live: Vec<(EntryHeader, Change)>,
    key_operation: Option<OperationId>,
    /// The entries that are marked as parked.
    parked: Vec<Version>,
    /// Of each live collection.
    spaces: Vec<Option<EmbeddingSpace>>,
    /// The number of the last opening that was acknowledged, or what it was raised to.
    epoch: u64,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            disk: Disk::new(Vec::new()),
            journal: None,
            operations: Vec::new(),
            clock: Clock::start(),
            now: START,
            collection: None,
            dropped: None,
            live: Vec::new(),
            key_operation: None,
            parked: Vec::new(),
            spaces: Vec::new(),
            epoch: 0,
        }
    }

    /// Runs the whole script; what was known after each action, and before the first.
    pub(super) async fn record(&mut self) -> Vec<State> {
        let mut states = vec![self.state().await];
        for action in ACTIONS {
            self.act(*action).await.unwrap();
            let state = self.state().await;
            self.assert_holds_what_was_acknowledged(&state);
            self.epoch += u64::from(matches!(action, Action::Open));
            assert_eq!(state.epoch, self.epoch, "after {action:?}");
            states.push(state);
        }
        states
    }

    async fn state(&self) -> State {
        let snapshot = match &self.journal {
            None => None,
            Some(journal) => Some(snapshot(journal, &self.operations).await.unwrap()),
        };
        State {
            steps: self.disk.step_count(),
            now: self.now,
            epoch: self.shown_epoch(),
            snapshot,
        }
    }

    /// A snapshot is taken from the journal itself; here it is compared with what was sent.
    fn assert_holds_what_was_acknowledged(&self, state: &State) {
        let snapshot = state.snapshot.as_ref().unwrap();
        let found: Vec<&Entry> = snapshot.live().collect();
        assert_eq!(found.len(), self.live.len());
        for (entry, (header, change)) in found.into_iter().zip(&self.live) {
            assert_eq!(&entry.header, header);
            match change {
                Change::Upsert(sent) => assert_eq!(entry.state.record(), Some(sent)),
                _ => assert_eq!(entry.state.record(), None),
            }
        }
        let parked: Vec<_> = snapshot.parked.iter().map(|p| p.version).collect();
        assert_eq!(parked, self.parked);
        let spaces = snapshot.collections.iter();
        let spaces: Vec<_> = spaces.map(|c| c.options.embedding_space.clone()).collect();
        assert_eq!(spaces, self.spaces);
        let newest = self.live.last().map(|(header, _)| header.version);
        assert!(snapshot.mark >= newest.unwrap_or(Version::ZERO));
    }

    /// Carries one action out; the first error that is not the script's own doing.
    pub(super) async fn act(&mut self, action: Action) -> JournalResult<()> {
        match action {
            Action::Open => self.open().await,
            Action::Create(name) => self.create(name).await,
            Action::PutStore => self.journal().put_store(store()).await,
            Action::SetSpace => self.set_space().await,
            Action::Batch => self.batch().await,
            Action::Group => self.group().await,
            Action::Repeat => self.repeat().await,
            Action::Replace => self.replace().await,
            Action::Grow => self.grow().await,
            Action::Park => self.park().await,
            Action::Unpark => self.unpark().await,
            Action::Truncate => self.truncate(2).await,
            Action::TruncateAll => self.truncate(1).await,
            Action::LiftMark => self.lift_mark().await,
            Action::RaiseEpoch => self.raise_epoch().await,
            Action::Refuse => self.refuse().await,
            Action::Wait => self.wait(),
            Action::Drop => self.drop_collection().await,
            Action::Stale => self.stale().await,
            Action::Delete => self.append(vec![("large", Change::Delete)]).await,
            Action::Read => self.read().await,
        }
    }

    pub(super) fn journal(&self) -> Arc<EmbeddedJournal> {
        self.journal.clone().unwrap()
    }

    /// The epoch that the journal shows; 0 if none is open.
    pub(super) fn shown_epoch(&self) -> u64 {
        self.journal.as_ref().map_or(0, |journal| journal.epoch())
    }

    async fn open(&mut self) -> JournalResult<()> {
        if let Some(journal) = self.journal.take() {
            journal.close().await?;
        }
        self.journal = Some(open_storage(self.disk.clone(), &self.clock).await?);
        Ok(())
    }

    async fn create(&mut self, name: &str) -> JournalResult<()> {
        let options = CollectionOptions::new();
        let (created, new) = self.journal().create_collection(name, options).await?;
        assert!(new);
        self.collection = Some(created.key);
        self.spaces.push(None);
        Ok(())
    }

    async fn set_space(&mut self) -> JournalResult<()> {
        let collection = self.collection.clone().unwrap();
        let journal = self.journal();
        journal.set_embedding_space(&collection, space()).await?;
        self.spaces = vec![Some(space())];
        Ok(())
    }

    /// A request under an operation id of its own, which every later snapshot looks up.
    pub(super) fn request(&mut self, id: &str, change: Change) -> AppendRequest {
        let operation_id = self.clock.runtime().new_operation_id();
        self.operations.push(operation_id);
        AppendRequest {
            operation_id,
            idempotency_key: None,
            collection: self.collection.clone().unwrap(),
            id: id.into(),
            change,
            precondition: None,
        }
    }

    fn upsert(&mut self, id: &str, length: usize) -> AppendRequest {
        self.request(id, Change::Upsert(record(id, &"x".repeat(length))))
    }

    async fn send(&mut self, requests: Vec<AppendRequest>) -> JournalResult<()> {
        let changes: Vec<_> = requests.iter().map(|r| r.change.clone()).collect();
        let answers = self.journal().append(requests).await;
        for (answer, change) in answers.into_iter().zip(changes) {
            self.accepted(answer?, change);
        }
        Ok(())
    }

    fn accepted(&mut self, answer: Appended, change: Change) {
        match answer {
            Appended::New(header) => self.live.push((header, change)),
            Appended::Repeated(_) => panic!("the script repeats no key here"),
        }
    }

    async fn append(&mut self, changes: Vec<(&str, Change)>) -> JournalResult<()> {
        let requests = changes
            .into_iter()
            .map(|(id, change)| self.request(id, change))
            .collect();
        self.send(requests).await
    }

    async fn batch(&mut self) -> JournalResult<()> {
        let mut requests = vec![self.upsert("large", 3_000)];
        let mut keyed = self.upsert("keyed", 10);
        // Of a later batch the key is another one.
        let key = if self.key_operation.is_none() {
            "key"
        } else {
            "other"
        };
        keyed.idempotency_key = Some(idempotency_key(key, 1));
        self.key_operation = Some(keyed.operation_id);
        requests.push(keyed);
        requests.push(self.upsert("small", 10));
        requests.push(self.upsert("small", 20));
        self.send(requests).await
    }

    async fn group(&mut self) -> JournalResult<()> {
        let (first, second) = (self.upsert("first", 50), self.upsert("second", 500));
        let refused = AppendRequest {
            precondition: Some(precondition(Precondition::Version(Version::from_u64(7)))),
            ..self.upsert("refused", 10)
        };
        let changes = [first.change.clone(), second.change.clone()];
        let journal = self.journal();
        let (first, refused, second) = tokio::join!(
            journal.append(vec![first]),
            journal.append(vec![refused]),
            journal.append(vec![second]),
        );
        for (answer, change) in [first, second].into_iter().flatten().zip(changes) {
            self.accepted(answer?, change);
        }
        refused_as(refused, JournalErrorKind::PreconditionFailed(None))
    }

    async fn repeat(&mut self) -> JournalResult<()> {
        let mut same = self.upsert("keyed", 10);
        same.idempotency_key = Some(idempotency_key("key", 1));
        let answers = self.journal().append(vec![same]).await;
        for answer in answers {
            assert!(matches!(answer?, Appended::Repeated(_)));
        }
        let mut other = self.upsert("keyed", 11);
        other.idempotency_key = Some(idempotency_key("key", 2));
        let answers = self.journal().append(vec![other]).await;
        refused_as(answers, JournalErrorKind::IdempotencyConflict)
    }

    async fn replace(&mut self) -> JournalResult<()> {
        let known = self.live.iter().rev().find(|(h, _)| &*h.id == "first");
        let version = known.unwrap().0.version;
        let request = AppendRequest {
            precondition: Some(precondition(Precondition::Version(version))),
            ..self.upsert("first", 60)
        };
        self.send(vec![request]).await
    }

    async fn grow(&mut self) -> JournalResult<()> {
        let requests = (0..8).map(|number| self.upsert(&format!("{number}"), 12_000));
        let requests = requests.collect();
        self.send(requests).await
    }

    async fn park(&mut self) -> JournalResult<()> {
        let entry = ParkedEntry {
            version: self.live[0].0.version,
            store_id: STORE,
            error: "too long".to_owned(),
        };
        let version = entry.version;
        self.journal().park(entry).await?;
        self.parked.push(version);
        Ok(())
    }

    async fn unpark(&mut self) -> JournalResult<()> {
        let version = self.live[0].0.version;
        self.journal().unpark(version, STORE).await?;
        self.parked.clear();
        Ok(())
    }

    async fn truncate(&mut self, one_of: usize) -> JournalResult<()> {
        let live = self.live.iter().map(|(header, _)| header.version);
        let versions: Vec<_> = live.step_by(one_of).collect();
        let request = TruncateRequest {
            progress: vec![(STORE, versions[0])],
            versions: versions.clone(),
        };
        self.journal().truncate(request).await?;
        self.live.retain(|(h, _)| !versions.contains(&h.version));
        self.parked.retain(|parked| !versions.contains(parked));
        Ok(())
    }

    async fn lift_mark(&mut self) -> JournalResult<()> {
        let mark = self.journal().mark();
        let above = Version::from_u64(mark.as_u64() + 1_000);
        self.journal().lift_mark(above).await
    }

    async fn raise_epoch(&mut self) -> JournalResult<()> {
        let above = self.shown_epoch() + RAISE;
        self.epoch = self.journal().raise_epoch(above).await?;
        assert!(self.epoch > above);
        Ok(())
    }

    async fn refuse(&mut self) -> JournalResult<()> {
        let operation_id = self.clock.runtime().new_operation_id();
        self.operations.push(operation_id);
        self.journal().refuse_operation(operation_id).await?;
        Ok(())
    }

    fn wait(&mut self) -> JournalResult<()> {
        let time = i64::try_from(options().retention.as_millis()).unwrap() + 1;
        self.clock.advance(time);
        self.now += time;
        Ok(())
    }

    async fn drop_collection(&mut self) -> JournalResult<()> {
        self.append(vec![("", Change::DropCollection)]).await?;
        self.dropped = self.collection.clone();
        self.spaces.clear();
        Ok(())
    }

    async fn stale(&mut self) -> JournalResult<()> {
        let request = AppendRequest {
            collection: self.dropped.clone().unwrap(),
            ..self.upsert("stale", 10)
        };
        let answers = self.journal().append(vec![request]).await;
        refused_as(answers, JournalErrorKind::CollectionNotFound)
    }

    async fn read(&self) -> JournalResult<()> {
        snapshot(&self.journal(), &self.operations).await?;
        Ok(())
    }
}

fn refused_as(answers: Vec<JournalResult<Appended>>, kind: JournalErrorKind) -> JournalResult<()> {
    match answers.into_iter().next().unwrap() {
        Ok(appended) => panic!("accepted: {appended:?}"),
        Err(error) if *error.kind() == kind => Ok(()),
        Err(error) => Err(error),
    }
}

fn idempotency_key(key: &str, input: u8) -> IdempotencyKey {
    IdempotencyKey {
        key: key.into(),
        input_hash: [input; 32],
    }
}

fn precondition(precondition: Precondition) -> PreconditionRequest {
    PreconditionRequest {
        precondition,
        known: None,
    }
}

fn store() -> RosterRecord {
    RosterRecord {
        store_id: STORE,
        role: Role::Vector,
        service: "memory".to_owned(),
        location: "here".to_owned(),
        state: RosterState::Active,
        enabled: true,
        stamped: true,
        progress: Version::ZERO,
    }
}

fn space() -> EmbeddingSpace {
    EmbeddingSpace {
        model: "model".to_owned(),
        dimension: 3,
        metric: Metric::Cosine,
    }
}
