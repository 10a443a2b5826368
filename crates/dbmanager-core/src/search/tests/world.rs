//! Three in-memory stores that can be made to fail, and a view of the current documents that can
//! be ahead of them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;

use super::super::{
    CurrentDocument, SearchContext, SearchRoute, SearchSettings, SearchStore, SearchStores,
};
use crate::{
    Runtime,
    backend::*,
    embed::{EmbedError, Embedder, EmbedderKind},
    memory::{MemoryGraph, MemoryPlace, MemoryRelational, MemoryVector},
    model::*,
};

/// The model of the test embedder and of the test collections' vectors.
pub(super) const MODEL: &str = "compass";

/// What a store does when it is asked.
#[derive(Clone, Debug, Default)]
pub(super) enum Behaviour {
    #[default]
    Answer,
    AnswerAfter(Duration),
    Hang,
    Fail(BackendErrorKind),
    /// Answers this many requests in all, then fails.
    AnswerOnly(usize),
}

/// A store that can be made to fail, and counts what it is asked.
#[derive(Debug)]
pub(super) struct Unreliable<S> {
    inner: S,
    capabilities: Mutex<&'static Capabilities>,
    behaviour: Mutex<Behaviour>,
    requests: AtomicUsize,
    filters: AtomicUsize,
}

impl<S: Backend> Unreliable<S> {
    fn new(inner: S) -> Self {
        let capabilities = Box::leak(Box::new(inner.capabilities().clone()));
        Self {
            inner,
            capabilities: Mutex::new(capabilities),
            behaviour: Mutex::default(),
            requests: AtomicUsize::new(0),
            filters: AtomicUsize::new(0),
        }
    }

    pub(super) fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    pub(super) fn cannot_filter(&self) {
        let mut capabilities = self.inner.capabilities().clone();
        capabilities.filter = false;
        *self.capabilities.lock().unwrap() = Box::leak(Box::new(capabilities));
    }

    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// How many searches came with a filter.
    pub(super) fn filters(&self) -> usize {
        self.filters.load(Ordering::SeqCst)
    }

    async fn ask(&self, filter: bool) -> BackendResult<()> {
        let before = self.requests.fetch_add(1, Ordering::SeqCst);
        self.filters
            .fetch_add(usize::from(filter), Ordering::SeqCst);
        let behaviour = self.behaviour.lock().unwrap().clone();
        match behaviour {
            Behaviour::Answer => Ok(()),
            Behaviour::AnswerAfter(delay) => {
                tokio::time::sleep(delay).await;
                Ok(())
            }
            Behaviour::Hang => std::future::pending().await,
            Behaviour::Fail(kind) => Err(BackendError::new(kind, "made to fail")),
            Behaviour::AnswerOnly(requests) if before < requests => Ok(()),
            Behaviour::AnswerOnly(_) => Err(BackendError::new(
                BackendErrorKind::Unavailable,
                "made to fail",
            )),
        }
    }
}

#[async_trait]
impl<S: Backend> Backend for Unreliable<S> {
    fn role(&self) -> Role {
        self.inner.role()
    }
    fn service(&self) -> &str {
        self.inner.service()
    }
    fn capabilities(&self) -> &Capabilities {
        *self.capabilities.lock().unwrap()
    }
    async fn probe(&self) -> BackendResult<()> {
        self.inner.probe().await
    }
    async fn identity(&self) -> BackendResult<Identity> {
        self.inner.identity().await
    }
    async fn write_stamp(&self, request: StampRequest) -> BackendResult<()> {
        self.inner.write_stamp(request).await
    }
    async fn create_collection(&self, request: CreateCollectionRequest) -> BackendResult<()> {
        self.inner.create_collection(request).await
    }
    async fn drop_collection(&self, request: DropCollectionRequest) -> BackendResult<()> {
        self.inner.drop_collection(request).await
    }
    async fn collections(&self) -> BackendResult<Vec<CollectionKey>> {
        self.inner.collections().await
    }
    async fn apply(&self, request: ApplyRequest) -> BackendResult<Vec<BackendResult<()>>> {
        self.inner.apply(request).await
    }
    async fn heads(&self, request: IdsRequest) -> BackendResult<Vec<Option<Head>>> {
        self.inner.heads(request).await
    }
    async fn fingerprints(&self, request: ListRequest) -> BackendResult<Page<Fingerprint>> {
        self.inner.fingerprints(request).await
    }
    async fn fingerprints_of(
        &self,
        request: IdsRequest,
    ) -> BackendResult<Vec<Option<Fingerprint>>> {
        self.inner.fingerprints_of(request).await
    }
    async fn sync(&self) -> BackendResult<()> {
        self.inner.sync().await
    }
    async fn close(&self) -> BackendResult<()> {
        self.inner.close().await
    }
}

#[async_trait]
impl VectorBackend for Unreliable<MemoryVector> {
    async fn search_vectors(&self, request: VectorSearchRequest) -> BackendResult<Vec<VectorHit>> {
        self.ask(request.filter.is_some()).await?;
        self.inner.search_vectors(request).await
    }
    async fn vectors(&self, request: IdsRequest) -> BackendResult<Vec<Option<StoredVectors>>> {
        self.inner.vectors(request).await
    }
}

#[async_trait]
impl GraphBackend for Unreliable<MemoryGraph> {
    async fn neighbourhood(&self, request: NeighbourhoodRequest) -> BackendResult<Vec<Neighbour>> {
        self.ask(false).await?;
        self.inner.neighbourhood(request).await
    }
    async fn paths(&self, request: PathsRequest) -> BackendResult<Vec<Path>> {
        self.inner.paths(request).await
    }
    async fn match_titles(&self, request: TextSearchRequest) -> BackendResult<Vec<TextHit>> {
        self.ask(request.filter.is_some()).await?;
        self.inner.match_titles(request).await
    }
    async fn edges(&self, request: IdsRequest) -> BackendResult<Vec<Option<Edges>>> {
        self.ask(false).await?;
        self.inner.edges(request).await
    }
}

#[async_trait]
impl RelationalBackend for Unreliable<MemoryRelational> {
    async fn get(&self, request: IdsRequest) -> BackendResult<Vec<Option<StoredRecord>>> {
        self.inner.get(request).await
    }
    async fn search_text(&self, request: TextSearchRequest) -> BackendResult<Vec<TextHit>> {
        self.ask(request.filter.is_some()).await?;
        self.inner.search_text(request).await
    }
    async fn list(&self, request: ListDocumentsRequest) -> BackendResult<Vec<StoredRecord>> {
        self.inner.list(request).await
    }
    async fn count(
        &self,
        collection: CollectionKey,
        filter: Option<Arc<Filter>>,
    ) -> BackendResult<u64> {
        self.inner.count(collection, filter).await
    }
}

/// An embedder that knows four words, one per direction.
#[derive(Debug)]
pub(super) struct Compass {
    pub(super) kind: EmbedderKind,
    pub(super) broken: bool,
}

pub(super) fn vector_of(text: &str) -> Vec<f32> {
    let number = |word| text.split_whitespace().filter(|w| *w == word).count() as f32;
    vec![
        number("east") - number("west"),
        number("north") - number("south"),
    ]
}

#[async_trait]
impl Embedder for Compass {
    fn model(&self) -> &str {
        MODEL
    }
    fn kind(&self) -> EmbedderKind {
        self.kind
    }
    fn dimension(&self) -> u32 {
        2
    }
    async fn embed_documents(&self, texts: Vec<Arc<str>>) -> Result<Vec<Vec<f32>>, EmbedError> {
        Ok(texts.iter().map(|text| vector_of(text)).collect())
    }
    async fn embed_query(&self, text: Arc<str>) -> Result<Vec<f32>, EmbedError> {
        if self.broken {
            return Err(EmbedError::new("made to fail"));
        }
        match vector_of(&text) {
            vector if vector.iter().all(|number| *number == 0.0) => Ok(Vec::new()),
            vector => Ok(vector),
        }
    }
}

/// What is current, by collection and id.
type View = BTreeMap<(Arc<str>, Arc<str>), CurrentDocument>;

/// Everything a search needs, in a test's hands.
pub(super) struct World {
    pub(super) runtime: Runtime,
    pub(super) vector: Arc<Unreliable<MemoryVector>>,
    pub(super) graph: Arc<Unreliable<MemoryGraph>>,
    pub(super) relational: Arc<Unreliable<MemoryRelational>>,
    pub(super) scope: Vec<Collection>,
    pub(super) absent: Mutex<Vec<Role>>,
    pub(super) behind: Mutex<Vec<Role>>,
    pub(super) down: Mutex<Vec<Role>>,
    pub(super) embedder: Mutex<Option<Arc<Compass>>>,
    /// The view: ahead of the stores where a test says so.
    pub(super) view: Mutex<View>,
    pub(super) view_is_down: AtomicBool,
    pub(super) view_hangs: AtomicBool,
    pub(super) reads: AtomicUsize,
    versions: AtomicUsize,
    pub(super) route: SearchRoute,
}

pub(super) fn collection(name: &str) -> Collection {
    Collection {
        key: CollectionKey::new(name, 1),
        options: CollectionOptions::new().embedding_space(MODEL, 2, Metric::Cosine),
    }
}

impl World {
    pub(super) async fn new(collections: &[&str]) -> Self {
        let world = Self {
            runtime: Runtime::tokio(),
            vector: Arc::new(Unreliable::new(
                MemoryVector::open(&MemoryPlace::new()).unwrap(),
            )),
            graph: Arc::new(Unreliable::new(
                MemoryGraph::open(&MemoryPlace::new()).unwrap(),
            )),
            relational: Arc::new(Unreliable::new(
                MemoryRelational::open(&MemoryPlace::new()).unwrap(),
            )),
            scope: collections.iter().map(|name| collection(name)).collect(),
            absent: Mutex::default(),
            behind: Mutex::default(),
            down: Mutex::default(),
            embedder: Mutex::new(Some(Arc::new(Compass {
                kind: EmbedderKind::Semantic,
                broken: false,
            }))),
            view: Mutex::default(),
            view_is_down: AtomicBool::new(false),
            view_hangs: AtomicBool::new(false),
            reads: AtomicUsize::new(0),
            versions: AtomicUsize::new(0),
            route: SearchRoute::new(),
        };
        for collection in &world.scope {
            for role in Role::ALL {
                let request = CreateCollectionRequest::new(collection.clone(), 1);
                world
                    .backend(role)
                    .create_collection(request)
                    .await
                    .unwrap();
            }
        }
        world
    }

    fn backend(&self, role: Role) -> &dyn Backend {
        match role {
            Role::Vector => &*self.vector,
            Role::Graph => &*self.graph,
            Role::Relational => &*self.relational,
        }
    }

    fn next_version(&self) -> Version {
        Version::from_u64(self.versions.fetch_add(1, Ordering::SeqCst) as u64 + 1)
    }

    fn key(&self, name: &str) -> CollectionKey {
        self.scope
            .iter()
            .find(|c| &*c.key.name == name)
            .unwrap()
            .key
            .clone()
    }

    async fn apply(&self, name: &str, mutation: &Mutation, roles: &[Role]) {
        for role in roles {
            let request = ApplyRequest::new(self.key(name), 1, [mutation.clone()]);
            let answers = self.backend(*role).apply(request).await.unwrap();
            assert!(answers.iter().all(Result::is_ok));
        }
    }

    fn set(&self, name: &str, id: &str, current: CurrentDocument) {
        self.view
            .lock()
            .unwrap()
            .insert((name.into(), id.into()), current);
    }

    /// A write that only these stores have received; the others lack it.
    pub(super) async fn write_to(&self, name: &str, document: Document, roles: &[Role]) -> Version {
        let version = self.next_version();
        let id = document.id.clone();
        let values = vector_of(&document.text);
        let vectors = match values.iter().all(|x| *x == 0.0) {
            true => VectorSet::empty(),
            false => VectorSet {
                origin: VectorOrigin::Embedder,
                text_hash: None,
                vectors: vec![ChunkVector {
                    chunk: 0,
                    passage: Some(Passage {
                        start: 0,
                        end: document.text.len() as u32,
                    }),
                    values,
                }],
            },
        };
        let record = Arc::new(DocumentRecord::new(document, vectors).unwrap());
        let mutation = Mutation::upsert(id.as_str(), version, Arc::clone(&record));
        self.apply(name, &mutation, roles).await;
        let lacking = Role::ALL
            .into_iter()
            .filter(|role| !roles.contains(role))
            .collect();
        self.set(
            name,
            &id,
            CurrentDocument::Live {
                version,
                record: Some(record),
                lacking,
            },
        );
        version
    }

    /// A write that every store has received.
    pub(super) async fn write(&self, name: &str, document: Document) -> Version {
        self.write_to(name, document, &Role::ALL).await
    }

    /// A delete that only these stores have received.
    pub(super) async fn delete_from(&self, name: &str, id: &str, roles: &[Role]) {
        let mutation = Mutation::delete(id, self.next_version());
        self.apply(name, &mutation, roles).await;
        self.set(name, id, CurrentDocument::Gone);
    }

    /// Every store is said to have confirmed the document's current version.
    pub(super) fn confirm(&self, name: &str, id: &str) {
        let mut view = self.view.lock().unwrap();
        match view.get_mut(&(Arc::from(name), Arc::from(id))) {
            Some(CurrentDocument::Live { lacking, .. }) => lacking.clear(),
            other => panic!("{id} is {other:?}"),
        }
    }

    pub(super) fn without(&self, role: Role) {
        self.absent.lock().unwrap().push(role);
    }

    pub(super) fn goes_down(&self, role: Role) {
        self.down.lock().unwrap().push(role);
    }

    pub(super) fn falls_behind(&self, role: Role) {
        self.behind.lock().unwrap().push(role);
    }

    pub(super) fn set_embedder(&self, embedder: Option<Compass>) {
        *self.embedder.lock().unwrap() = embedder.map(Arc::new);
    }

    pub(super) async fn try_search(&self, query: Query) -> crate::Result<SearchResponse> {
        self.search_in(&self.scope, query).await
    }

    pub(super) async fn search_in(
        &self,
        scope: &[Collection],
        query: Query,
    ) -> crate::Result<SearchResponse> {
        let settings = SearchSettings::default();
        let response = self.route.search(self, scope, query, &settings).await?;
        for hit in &response.hits {
            let sum: f64 = hit.contributions.iter().map(|c| c.contribution).sum();
            assert!(
                (sum - hit.score).abs() < 1e-9 && hit.score.is_finite(),
                "{hit:?}"
            );
        }
        Ok(response)
    }

    pub(super) async fn search(&self, query: Query) -> SearchResponse {
        self.try_search(query).await.unwrap()
    }

    pub(super) fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    fn store<B: ?Sized>(&self, role: Role, backend: Arc<B>) -> SearchStore<B> {
        if self.absent.lock().unwrap().contains(&role) {
            return SearchStore::NotConfigured;
        }
        if self.down.lock().unwrap().contains(&role) {
            let kind = BackendErrorKind::CircuitOpen;
            return SearchStore::Unavailable(BackendError::new(kind, "not asked"));
        }
        SearchStore::Ready {
            backend,
            caught_up: !self.behind.lock().unwrap().contains(&role),
        }
    }
}

#[async_trait]
impl SearchContext for World {
    fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    async fn stores(&self, _: &[Role], _: Duration) -> SearchStores {
        SearchStores {
            vector: self.store(
                Role::Vector,
                Arc::clone(&self.vector) as Arc<dyn VectorBackend>,
            ),
            graph: self.store(
                Role::Graph,
                Arc::clone(&self.graph) as Arc<dyn GraphBackend>,
            ),
            relational: self.store(
                Role::Relational,
                Arc::clone(&self.relational) as Arc<dyn RelationalBackend>,
            ),
        }
    }

    fn collections(&self) -> Arc<[CollectionKey]> {
        self.scope.iter().map(|c| c.key.clone()).collect()
    }

    fn embedder(&self) -> Option<Arc<dyn Embedder>> {
        let embedder = self.embedder.lock().unwrap().clone();
        embedder.map(|embedder| embedder as Arc<dyn Embedder>)
    }

    fn verified_by(&self) -> Option<Role> {
        None
    }

    async fn current(
        &self,
        collection: &CollectionKey,
        ids: Arc<[Arc<str>]>,
    ) -> Vec<CurrentDocument> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        if self.view_hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let down = self.view_is_down.load(Ordering::SeqCst);
        let view = self.view.lock().unwrap();
        let one = |id: &Arc<str>| match view.get(&(Arc::clone(&collection.name), Arc::clone(id))) {
            _ if down => CurrentDocument::Unknown,
            Some(current) => current.clone(),
            None => CurrentDocument::Gone,
        };
        ids.iter().map(one).collect()
    }
}

pub(super) fn ids(response: &SearchResponse) -> Vec<&str> {
    response.hits.iter().map(|hit| &*hit.id).collect()
}

pub(super) fn hit<'a>(response: &'a SearchResponse, id: &str) -> &'a Hit {
    let found = response.hits.iter().find(|hit| &*hit.id == id);
    found.unwrap_or_else(|| panic!("{id} is not among {:?}", ids(response)))
}

pub(super) fn leg(response: &SearchResponse, name: LegName) -> &LegReport {
    response.legs.iter().find(|leg| leg.leg == name).unwrap()
}
