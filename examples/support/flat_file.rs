//! The adapter: everything in a map, and the map in one file that `sync` replaces.
//!
//! It is for small collections: a search looks at every vector, and a sync writes every one.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    ops::Bound,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use dbmanager::{
    Runtime,
    backend::*,
    model::{ChunkVector, CollectionKey, CollectionOptions, ContentHash, Metric, Role, Version},
};
use serde::{Deserialize, Serialize};

/// The name under `type` in the configuration.
pub(crate) const SERVICE: &str = "flat_file";

/// Opens `vectors.json` in the data directory.
pub(crate) struct FlatFileFactory;

/// The service takes no settings; any is refused by its name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoSettings {}

fn file(config: &ServiceConfig, context: &OpenContext) -> BackendResult<PathBuf> {
    let NoSettings {} = parse_service_config(Role::Vector, SERVICE, config)?;
    let directory = context.data_directory.as_ref().ok_or_else(|| {
        BackendError::new(BackendErrorKind::Config, "there is no data directory").not_applied()
    })?;
    Ok(directory.join("vectors.json"))
}

#[async_trait]
impl BackendFactory for FlatFileFactory {
    fn role(&self) -> Role {
        Role::Vector
    }

    fn service(&self) -> &str {
        SERVICE
    }

    fn location(&self, config: &ServiceConfig, context: &OpenContext) -> BackendResult<String> {
        Ok(format!("file {}", file(config, context)?.display()))
    }

    async fn open(
        &self,
        config: &ServiceConfig,
        context: &OpenContext,
    ) -> BackendResult<AnyBackend> {
        let file = file(config, context)?;
        let opened = context
            .runtime
            .blocking(move || Place::open(file))
            .await
            .map_err(lost)?;
        let mut capabilities = Capabilities::new();
        // Filters are left to the facade, which over-fetches and evaluates them.
        capabilities.filter = false;
        let store = FlatFile {
            place: Arc::new(opened?),
            runtime: context.runtime.clone(),
            capabilities,
        };
        Ok(AnyBackend::Vector(Arc::new(store)))
    }
}

/// What the file holds.
#[derive(Default, Serialize, Deserialize)]
struct Data {
    stamp: Option<Stamp>,
    /// Pairs, because keys of a JSON object are text.
    collections: Vec<(CollectionKey, Held)>,
}

#[derive(Serialize, Deserialize)]
struct Held {
    options: CollectionOptions,
    documents: BTreeMap<Arc<str>, Item>,
}

/// A document's vectors at a version, or its tombstone.
#[derive(Serialize, Deserialize)]
struct Item {
    version: Version,
    vectors: Option<Vec<ChunkVector>>,
}

impl Item {
    fn head(&self) -> Head {
        Head {
            version: self.version,
            deleted: self.vectors.is_none(),
        }
    }

    fn fingerprint(&self, id: &Arc<str>) -> Fingerprint {
        let hash = |vectors: &Vec<ChunkVector>| ContentHash::of_vectors(vectors.iter());
        Fingerprint {
            id: Arc::clone(id),
            head: self.head(),
            content_hash: self.vectors.as_ref().map_or(ContentHash::TOMBSTONE, hash),
        }
    }
}

impl Data {
    fn check_epoch(&self, epoch: u64) -> BackendResult<()> {
        match &self.stamp {
            Some(stamp) => stamp.check_epoch(epoch),
            None => Ok(()),
        }
    }

    fn held(&self, key: &CollectionKey) -> BackendResult<&Held> {
        let found = self.collections.iter().find(|(held, _)| held == key);
        found.map(|(_, held)| held).ok_or_else(|| missing(key))
    }

    fn held_mut(&mut self, key: &CollectionKey) -> BackendResult<&mut Held> {
        let found = self.collections.iter_mut().find(|(held, _)| held == key);
        found.map(|(_, held)| held).ok_or_else(|| missing(key))
    }
}

impl Held {
    /// Applies a mutation above the version held, and only there.
    fn apply(&mut self, mutation: &Mutation) -> BackendResult<()> {
        let vectors = mutation
            .state
            .record()
            .map(|record| record.vectors().vectors.clone());
        let space = self.options.embedding_space.as_ref();
        let dimension = space.map_or(0, |space| space.dimension as usize);
        if vectors
            .iter()
            .flatten()
            .any(|vector| vector.values.len() != dimension)
        {
            return Err(refuse(
                BackendErrorKind::Refused,
                "a vector has another dimension",
            ));
        }
        let held = self.documents.get(&mutation.id);
        if held.is_none_or(|held| held.version < mutation.version) {
            let item = Item {
                version: mutation.version,
                vectors,
            };
            self.documents.insert(Arc::clone(&mutation.id), item);
        }
        Ok(())
    }

    fn search(&self, request: &VectorSearchRequest) -> BackendResult<Vec<VectorHit>> {
        let Some(space) = &self.options.embedding_space else {
            return Ok(Vec::new());
        };
        if request.vector.len() != space.dimension as usize {
            return Err(refuse(
                BackendErrorKind::Refused,
                "the query has another dimension",
            ));
        }
        let wanted = |id: &Arc<str>| {
            request
                .restrict_to
                .as_ref()
                .is_none_or(|only| only.contains(id))
        };
        let mut hits: Vec<VectorHit> = self
            .documents
            .iter()
            .filter(|(id, _)| wanted(id))
            .filter_map(|(id, item)| best_chunk(space.metric, &request.vector, id, item))
            .collect();
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
        hits.truncate(request.limit);
        Ok(hits)
    }
}

fn best_chunk(metric: Metric, query: &[f32], id: &Arc<str>, item: &Item) -> Option<VectorHit> {
    let scored = item
        .vectors
        .iter()
        .flatten()
        .map(|v| (metric.score(query, &v.values), v));
    let best = scored.min_by(|a, b| b.0.total_cmp(&a.0).then(a.1.chunk.cmp(&b.1.chunk)));
    best.map(|(score, v)| VectorHit::new(Arc::clone(id), item.version, score, v.chunk, v.passage))
}

/// The file and what it holds; `None` once it is closed.
struct Place {
    file: PathBuf,
    open: Mutex<Option<Open>>,
}

struct Open {
    data: Data,
    /// Keeps a second program from opening the file; released when it is dropped.
    _lock: File,
}

impl Place {
    fn open(file: PathBuf) -> BackendResult<Self> {
        let directory = file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory).map_err(failed)?;
        let lock = File::create(file.with_extension("lock")).map_err(failed)?;
        lock.try_lock().map_err(|error| {
            BackendError::new(BackendErrorKind::Locked, error.to_string()).not_applied()
        })?;
        let data = match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| refuse(BackendErrorKind::Damaged, &error.to_string()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Data::default(),
            Err(error) => return Err(failed(error)),
        };
        Ok(Self {
            file,
            open: Mutex::new(Some(Open { data, _lock: lock })),
        })
    }

    /// A panic leaves no document half written: they are replaced whole.
    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the data in the file's place in one step. The lock is held, so that a sync is never
    /// overtaken by one with older data.
    fn save(&self, data: &Data) -> io::Result<()> {
        let next = self.file.with_extension("next");
        let mut written = File::create(&next)?;
        written.write_all(&serde_json::to_vec(data)?)?;
        written.sync_all()?;
        fs::rename(&next, &self.file)?;
        File::open(self.file.parent().unwrap_or(Path::new(".")))?.sync_all()
    }
}

/// An open store.
struct FlatFile {
    place: Arc<Place>,
    runtime: Runtime,
    capabilities: Capabilities,
}

impl std::fmt::Debug for FlatFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlatFile")
            .field("file", &self.place.file)
            .finish_non_exhaustive()
    }
}

impl FlatFile {
    fn with<T>(&self, work: impl FnOnce(&mut Data) -> BackendResult<T>) -> BackendResult<T> {
        work(&mut self.place.lock().as_mut().ok_or_else(closed)?.data)
    }

    fn by_id<T>(
        &self,
        request: &IdsRequest,
        answer: impl Fn(&Arc<str>, &Item) -> T,
    ) -> BackendResult<Vec<Option<T>>> {
        self.with(|data| {
            let documents = &data.held(&request.collection)?.documents;
            let one = |id| {
                documents
                    .get_key_value(id)
                    .map(|(id, item)| answer(id, item))
            };
            Ok(request.ids.iter().map(one).collect())
        })
    }

    async fn save(&self, close: bool) -> BackendResult<()> {
        let place = Arc::clone(&self.place);
        let saved = self.runtime.blocking(move || {
            let mut open = place.lock();
            match open.as_ref() {
                None if close => return Ok(()),
                None => return Err(closed()),
                Some(open) => place.save(&open.data).map_err(failed)?,
            }
            if close {
                *open = None;
            }
            Ok(())
        });
        saved.await.map_err(lost)?
    }
}

#[async_trait]
impl Backend for FlatFile {
    fn role(&self) -> Role {
        Role::Vector
    }

    fn service(&self) -> &str {
        SERVICE
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn probe(&self) -> BackendResult<()> {
        self.with(|_| Ok(()))
    }

    async fn identity(&self) -> BackendResult<Identity> {
        self.with(|data| {
            let items = data
                .collections
                .iter()
                .flat_map(|(_, held)| held.documents.values());
            let highest = items.map(|item| item.version).max();
            Ok(Identity::new(
                data.stamp.clone(),
                highest,
                highest.is_none(),
            ))
        })
    }

    async fn write_stamp(&self, request: StampRequest) -> BackendResult<()> {
        self.with(|data| {
            if let Some(held) = &data.stamp {
                request.check_over(held)?;
            }
            data.stamp = Some(request.stamp);
            Ok(())
        })?;
        self.save(false).await
    }

    async fn create_collection(&self, request: CreateCollectionRequest) -> BackendResult<()> {
        self.with(|data| {
            data.check_epoch(request.epoch)?;
            let asked = request.collection;
            if let Ok(held) = data.held_mut(&asked.key) {
                let filled_in = held.options.filled_in(&asked.options);
                held.options = filled_in.ok_or_else(|| {
                    refuse(
                        BackendErrorKind::Refused,
                        "the collection exists with other options",
                    )
                })?;
                return Ok(());
            }
            let held = Held {
                options: asked.options,
                documents: BTreeMap::new(),
            };
            data.collections.push((asked.key, held));
            Ok(())
        })
    }

    async fn drop_collection(&self, request: DropCollectionRequest) -> BackendResult<()> {
        self.with(|data| {
            data.check_epoch(request.epoch)?;
            data.collections
                .retain(|(key, _)| *key != request.collection);
            Ok(())
        })
    }

    async fn collections(&self) -> BackendResult<Vec<CollectionKey>> {
        self.with(|data| {
            Ok(data
                .collections
                .iter()
                .map(|(key, _)| key.clone())
                .collect())
        })
    }

    async fn apply(&self, request: ApplyRequest) -> BackendResult<Vec<BackendResult<()>>> {
        self.with(|data| {
            data.check_epoch(request.epoch)?;
            let held = data.held_mut(&request.collection)?;
            Ok(request
                .mutations
                .iter()
                .map(|mutation| held.apply(mutation))
                .collect())
        })
    }

    async fn heads(&self, request: IdsRequest) -> BackendResult<Vec<Option<Head>>> {
        self.by_id(&request, |_, item| item.head())
    }

    async fn fingerprints(&self, request: ListRequest) -> BackendResult<Page<Fingerprint>> {
        self.with(|data| {
            let documents = &data.held(&request.collection)?.documents;
            let after = request
                .after
                .as_deref()
                .map_or(Bound::Unbounded, Bound::Excluded);
            let mut rest = documents.range::<str, _>((after, Bound::Unbounded));
            let page = rest.by_ref().take(request.limit);
            let items: Vec<_> = page.map(|(id, item)| item.fingerprint(id)).collect();
            let last = items.last().map(|item| item.id.to_string());
            Ok(Page {
                next: last.filter(|_| rest.next().is_some()),
                items,
            })
        })
    }

    async fn fingerprints_of(
        &self,
        request: IdsRequest,
    ) -> BackendResult<Vec<Option<Fingerprint>>> {
        self.by_id(&request, |id, item| item.fingerprint(id))
    }

    async fn sync(&self) -> BackendResult<()> {
        self.save(false).await
    }

    async fn close(&self) -> BackendResult<()> {
        self.save(true).await
    }
}

#[async_trait]
impl VectorBackend for FlatFile {
    async fn search_vectors(&self, request: VectorSearchRequest) -> BackendResult<Vec<VectorHit>> {
        self.with(|data| {
            if request.filter.is_some() {
                return Err(BackendError::unsupported("a filter"));
            }
            data.held(&request.collection)?.search(&request)
        })
    }

    async fn vectors(&self, request: IdsRequest) -> BackendResult<Vec<Option<StoredVectors>>> {
        let stored = |_: &Arc<str>, item: &Item| {
            let vectors = item.vectors.clone()?;
            Some(StoredVectors {
                version: item.version,
                vectors,
            })
        };
        let found = self.by_id(&request, stored)?;
        Ok(found.into_iter().map(Option::flatten).collect())
    }
}

fn refuse(kind: BackendErrorKind, message: &str) -> BackendError {
    BackendError::new(kind, message).not_applied()
}

fn missing(key: &CollectionKey) -> BackendError {
    let message = format!("collection {key} was not created here");
    refuse(BackendErrorKind::CollectionMissing, &message)
}

fn closed() -> BackendError {
    refuse(BackendErrorKind::Unavailable, "the store is closed")
}

/// The disk failed: whether the data is there now is unknown.
fn failed(error: io::Error) -> BackendError {
    BackendError::new(BackendErrorKind::Unavailable, error.to_string()).with_source(error)
}

fn lost(error: dbmanager::TaskLost) -> BackendError {
    BackendError::new(BackendErrorKind::Unavailable, error.to_string()).with_source(error)
}
