//! What several tests share: stores in memory that can be switched off, made to hang or to refuse.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its own part, as its own module, and may panic"
)]

pub mod embedded;
pub mod gated_storage;
pub mod recorder;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use dbmanager_core::{
    DatabaseManager, ManagerBuilder,
    backend::*,
    config::Config,
    journal::{JournalSource, MemoryStorage},
    memory::{MemoryFactory, MemoryPlace},
    model::{CollectionKey, Filter, Level, Role},
};

/// What a switched store does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// It works.
    Up,
    /// It answers `Unavailable`, nothing applied.
    Down,
    /// It never answers.
    Hang,
    /// It refuses every mutation for good.
    Refuse,
    /// It refuses every batch that holds a document `poison`, as a whole.
    RefuseBatch,
    /// It applies and then reports a failure of unknown effect.
    LoseAnswers,
    /// It works, and takes a tenth of a second for every call.
    Slow,
    /// It works, takes 20 ms for every call, and refuses more than two at once.
    Strained,
    /// It answers `Unavailable`, nothing applied, to two calls of three.
    Flaky,
    /// It answers `Overloaded`, and to try again in a millisecond.
    Busy,
    /// It works, and answers `Unavailable`, not applied, for the document `poison`.
    FailPoison,
    /// It works, and refuses to make the collection `refused` ready for good.
    RefuseCollection,
    /// It works, but never tells which versions it holds.
    HangHeads,
}

/// What a strained store takes for every call.
pub const STRAINED_CALL: Duration = Duration::from_millis(20);
/// Calls that a strained store works on at once.
const STRAINED_CALLS: usize = 2;

/// Switches one store.
#[derive(Clone)]
pub struct Switch {
    mode: Arc<AtomicU8>,
    applies: Arc<AtomicU64>,
    calls: Arc<AtomicU64>,
    /// Batches that fail before the store works again.
    failing_applies: Arc<AtomicU64>,
    /// Calls that work before the store is down.
    working_calls: Arc<AtomicU64>,
    under_way: Arc<tokio::sync::Semaphore>,
    /// Called whenever the store has made durable what it holds; nothing is written meanwhile.
    on_durable: Arc<Mutex<Option<OnDurable>>>,
    /// Held by every write, and while `on_durable` runs.
    writing: Arc<tokio::sync::Mutex<()>>,
}

type OnDurable = Box<dyn Fn() + Send>;

impl std::fmt::Debug for Switch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.mode().fmt(f)
    }
}

impl Switch {
    pub fn new() -> Self {
        Self {
            mode: Arc::new(AtomicU8::new(Mode::Up as u8)),
            applies: Arc::default(),
            calls: Arc::default(),
            failing_applies: Arc::default(),
            working_calls: Arc::new(AtomicU64::new(u64::MAX)),
            under_way: Arc::new(tokio::sync::Semaphore::new(STRAINED_CALLS)),
            on_durable: Arc::default(),
            writing: Arc::default(),
        }
    }

    /// Has `hook` called whenever the store has made durable what it holds.
    pub fn on_durable(&self, hook: impl Fn() + Send + 'static) {
        *self.on_durable.lock().unwrap() = Some(Box::new(hook));
    }

    /// Lets nothing be written while the guard lives.
    pub async fn freeze(&self) -> tokio::sync::OwnedMutexGuard<()> {
        Arc::clone(&self.writing).lock_owned().await
    }

    fn is_durable(&self) {
        if let Some(hook) = &*self.on_durable.lock().unwrap() {
            hook();
        }
    }

    pub fn set(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::SeqCst);
    }

    /// Answers `Unavailable`, nothing applied, to so many batches.
    pub fn fail_applies(&self, count: u64) {
        self.failing_applies.store(count, Ordering::SeqCst);
    }

    /// Answers `Unavailable` to all calls but the next `count`.
    pub fn down_after(&self, count: u64) {
        self.working_calls.store(count, Ordering::SeqCst);
    }

    /// Counts one off; whether there was one.
    fn count_off(counter: &AtomicU64) -> bool {
        let less = |count: u64| count.checked_sub(1);
        counter
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
            .is_ok()
    }

    fn mode(&self) -> Mode {
        match self.mode.load(Ordering::SeqCst) {
            0 => Mode::Up,
            1 => Mode::Down,
            2 => Mode::Hang,
            3 => Mode::Refuse,
            4 => Mode::RefuseBatch,
            5 => Mode::LoseAnswers,
            6 => Mode::Slow,
            7 => Mode::Strained,
            8 => Mode::Flaky,
            9 => Mode::Busy,
            10 => Mode::FailPoison,
            11 => Mode::RefuseCollection,
            _ => Mode::HangHeads,
        }
    }

    /// How many batches were sent to the store.
    pub fn applies(&self) -> u64 {
        self.applies.load(Ordering::SeqCst)
    }

    /// How many calls of any kind were sent to the store, each attempt counted.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    async fn pass(&self) -> BackendResult<()> {
        let earlier = self.calls.fetch_add(1, Ordering::SeqCst);
        if !Self::count_off(&self.working_calls) {
            return Err(switched_off());
        }
        match self.mode() {
            Mode::Down => Err(switched_off()),
            Mode::Flaky if !earlier.is_multiple_of(3) => Err(switched_off()),
            Mode::Busy => Err(BackendError::new(BackendErrorKind::Overloaded, "busy")
                .not_applied()
                .with_retry_after(Duration::from_millis(1))),
            Mode::Hang => std::future::pending().await,
            Mode::Slow => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Ok(())
            }
            Mode::Strained => {
                let Ok(_working) = self.under_way.try_acquire() else {
                    let kind = BackendErrorKind::Overloaded;
                    return Err(BackendError::new(kind, "too many calls at once").not_applied());
                };
                tokio::time::sleep(STRAINED_CALL).await;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn switched_off() -> BackendError {
    BackendError::new(BackendErrorKind::Unavailable, "switched off").not_applied()
}

fn refused_for_good() -> BackendError {
    BackendError::new(BackendErrorKind::Refused, "refused by the test").not_applied()
}

#[derive(Debug)]
struct Switched<B: ?Sized> {
    switch: Switch,
    inner: Arc<B>,
}

#[async_trait]
impl<B: Backend + ?Sized> Backend for Switched<B> {
    fn role(&self) -> Role {
        self.inner.role()
    }
    fn service(&self) -> &str {
        "switched"
    }
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }
    async fn probe(&self) -> BackendResult<()> {
        self.switch.pass().await?;
        self.inner.probe().await
    }
    async fn identity(&self) -> BackendResult<Identity> {
        self.switch.pass().await?;
        self.inner.identity().await
    }
    async fn write_stamp(&self, request: StampRequest) -> BackendResult<()> {
        self.switch.pass().await?;
        let _writing = self.switch.writing.lock().await;
        self.inner.write_stamp(request).await?;
        self.switch.is_durable();
        Ok(())
    }
    async fn create_collection(&self, request: CreateCollectionRequest) -> BackendResult<()> {
        self.switch.pass().await?;
        let _writing = self.switch.writing.lock().await;
        let refused = &*request.collection.key.name == "refused";
        if refused && self.switch.mode() == Mode::RefuseCollection {
            return Err(refused_for_good());
        }
        self.inner.create_collection(request).await
    }
    async fn drop_collection(&self, request: DropCollectionRequest) -> BackendResult<()> {
        self.switch.pass().await?;
        let _writing = self.switch.writing.lock().await;
        self.inner.drop_collection(request).await
    }
    async fn collections(&self) -> BackendResult<Vec<CollectionKey>> {
        self.switch.pass().await?;
        self.inner.collections().await
    }
    async fn apply(&self, request: ApplyRequest) -> BackendResult<Vec<BackendResult<()>>> {
        self.switch.pass().await?;
        let _writing = self.switch.writing.lock().await;
        self.switch.applies.fetch_add(1, Ordering::SeqCst);
        if Switch::count_off(&self.switch.failing_applies) {
            return Err(switched_off());
        }
        match self.switch.mode() {
            Mode::Refuse => Ok(request
                .mutations
                .iter()
                .map(|_| Err(refused_for_good()))
                .collect()),
            Mode::RefuseBatch if request.mutations.iter().any(|m| &*m.id == "poison") => {
                Err(refused_for_good())
            }
            Mode::FailPoison => {
                let others = request.mutations.iter().filter(|m| &*m.id != "poison");
                let others: Vec<Mutation> = others.cloned().collect();
                let (collection, epoch) = (request.collection.clone(), request.epoch);
                let others = ApplyRequest::new(collection, epoch, others);
                let mut answers = self.inner.apply(others).await?.into_iter();
                let answer = |m: &Mutation| match &*m.id {
                    "poison" => Err(switched_off()),
                    _ => answers.next().unwrap(),
                };
                Ok(request.mutations.iter().map(answer).collect())
            }
            Mode::LoseAnswers => {
                self.inner.apply(request).await?;
                Err(BackendError::new(
                    BackendErrorKind::Unavailable,
                    "the answer was lost",
                ))
            }
            _ => self.inner.apply(request).await,
        }
    }
    async fn heads(&self, request: IdsRequest) -> BackendResult<Vec<Option<Head>>> {
        self.switch.pass().await?;
        if self.switch.mode() == Mode::HangHeads {
            std::future::pending::<()>().await;
        }
        self.inner.heads(request).await
    }
    async fn fingerprints(&self, request: ListRequest) -> BackendResult<Page<Fingerprint>> {
        self.switch.pass().await?;
        self.inner.fingerprints(request).await
    }
    async fn fingerprints_of(
        &self,
        request: IdsRequest,
    ) -> BackendResult<Vec<Option<Fingerprint>>> {
        self.switch.pass().await?;
        self.inner.fingerprints_of(request).await
    }
    async fn sync(&self) -> BackendResult<()> {
        self.switch.pass().await?;
        let _writing = self.switch.writing.lock().await;
        self.inner.sync().await?;
        self.switch.is_durable();
        Ok(())
    }
    async fn close(&self) -> BackendResult<()> {
        self.inner.close().await
    }
}

#[async_trait]
impl<B: VectorBackend + ?Sized> VectorBackend for Switched<B> {
    async fn search_vectors(&self, request: VectorSearchRequest) -> BackendResult<Vec<VectorHit>> {
        self.switch.pass().await?;
        self.inner.search_vectors(request).await
    }
    async fn vectors(&self, request: IdsRequest) -> BackendResult<Vec<Option<StoredVectors>>> {
        self.switch.pass().await?;
        self.inner.vectors(request).await
    }
}

#[async_trait]
impl<B: GraphBackend + ?Sized> GraphBackend for Switched<B> {
    async fn neighbourhood(&self, request: NeighbourhoodRequest) -> BackendResult<Vec<Neighbour>> {
        self.switch.pass().await?;
        self.inner.neighbourhood(request).await
    }
    async fn paths(&self, request: PathsRequest) -> BackendResult<Vec<Path>> {
        self.switch.pass().await?;
        self.inner.paths(request).await
    }
    async fn match_titles(&self, request: TextSearchRequest) -> BackendResult<Vec<TextHit>> {
        self.switch.pass().await?;
        self.inner.match_titles(request).await
    }
    async fn edges(&self, request: IdsRequest) -> BackendResult<Vec<Option<Edges>>> {
        self.switch.pass().await?;
        self.inner.edges(request).await
    }
}

#[async_trait]
impl<B: RelationalBackend + ?Sized> RelationalBackend for Switched<B> {
    async fn get(&self, request: IdsRequest) -> BackendResult<Vec<Option<StoredRecord>>> {
        self.switch.pass().await?;
        self.inner.get(request).await
    }
    async fn search_text(&self, request: TextSearchRequest) -> BackendResult<Vec<TextHit>> {
        self.switch.pass().await?;
        self.inner.search_text(request).await
    }
    async fn list(&self, request: ListDocumentsRequest) -> BackendResult<Vec<StoredRecord>> {
        self.switch.pass().await?;
        self.inner.list(request).await
    }
    async fn count(
        &self,
        collection: CollectionKey,
        filter: Option<Arc<Filter>>,
    ) -> BackendResult<u64> {
        self.switch.pass().await?;
        self.inner.count(collection, filter).await
    }
}

/// Opens the stores of another factory behind a switch.
pub struct SwitchedFactory<F> {
    pub inner: F,
    pub switch: Switch,
}

#[async_trait]
impl<F: BackendFactory> BackendFactory for SwitchedFactory<F> {
    fn role(&self) -> Role {
        self.inner.role()
    }
    fn service(&self) -> &str {
        "switched"
    }
    fn location(&self, config: &ServiceConfig, context: &OpenContext) -> BackendResult<String> {
        self.inner.location(config, context)
    }
    async fn open(
        &self,
        config: &ServiceConfig,
        context: &OpenContext,
    ) -> BackendResult<AnyBackend> {
        self.switch.pass().await?;
        let switch = self.switch.clone();
        Ok(match self.inner.open(config, context).await? {
            AnyBackend::Vector(inner) => AnyBackend::Vector(Arc::new(Switched { switch, inner })),
            AnyBackend::Graph(inner) => AnyBackend::Graph(Arc::new(Switched { switch, inner })),
            AnyBackend::Relational(inner) => {
                AnyBackend::Relational(Arc::new(Switched { switch, inner }))
            }
        })
    }
}

/// Three stores in memory, each with a switch, and a journal: they outlive their managers.
pub struct Rig {
    places: Vec<(Role, MemoryPlace, Switch)>,
    pub storage: Arc<MemoryStorage>,
}

impl Rig {
    pub fn new() -> Self {
        let places = Role::ALL
            .into_iter()
            .map(|role| (role, MemoryPlace::new(), Switch::new()))
            .collect();
        Self {
            places,
            storage: Arc::new(MemoryStorage::new()),
        }
    }

    pub fn switch(&self, role: Role) -> &Switch {
        &self.places.iter().find(|place| place.0 == role).unwrap().2
    }

    /// Puts another, empty store in the place of one.
    pub fn replace(&mut self, role: Role) {
        self.places
            .iter_mut()
            .find(|place| place.0 == role)
            .unwrap()
            .1 = MemoryPlace::new();
    }

    pub fn place(&self, role: Role) -> MemoryPlace {
        self.places
            .iter()
            .find(|place| place.0 == role)
            .unwrap()
            .1
            .clone()
    }

    pub fn set_place(&mut self, role: Role, with: MemoryPlace) {
        self.places
            .iter_mut()
            .find(|place| place.0 == role)
            .unwrap()
            .1 = with;
    }

    pub fn config(&self) -> Config {
        Role::ALL
            .into_iter()
            .fold(Config::in_memory(), |config, role| {
                config.store(role, "switched", ServiceConfig::new())
            })
            .write(Level::Quorum, Duration::from_secs(5))
    }

    /// Without retries and circuits, so that each attempt is one call.
    pub fn bare_config(&self) -> Config {
        self.config().adjust(|settings| {
            settings.performance.circuit_breaker_threshold = 0;
            settings.performance.retry_attempts = 0;
        })
    }

    pub fn builder(&self) -> ManagerBuilder {
        self.builder_with(self.config())
    }

    pub fn builder_with(&self, config: Config) -> ManagerBuilder {
        self.places.iter().fold(
            DatabaseManager::builder(config)
                .journal(JournalSource::Storage(Arc::clone(&self.storage) as _)),
            |builder, (role, place, switch)| {
                builder.register(SwitchedFactory {
                    inner: MemoryFactory::of(*role).at(place),
                    switch: switch.clone(),
                })
            },
        )
    }

    pub async fn open(&self) -> DatabaseManager {
        self.builder().open().await.unwrap()
    }
}

/// Waits until the condition holds, in steps of the (paused) clock, for at most a minute of it.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never happened: {what}");
}

/// Whether no store has anything left to receive.
pub fn caught_up(db: &DatabaseManager) -> bool {
    db.health().stores.iter().all(|store| store.backlog == 0)
}
