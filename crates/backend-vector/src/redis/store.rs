//! The store: what every role does.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use dbmanager_core::{
    backend::{
        ApplyRequest, Backend, BackendError, BackendErrorKind, BackendResult, Capabilities,
        CreateCollectionRequest, DropCollectionRequest, Fingerprint, Head, Identity, IdsRequest,
        ListRequest, OpenContext, Page, Stamp, StampRequest, StoredVectors, VectorBackend,
        VectorHit, VectorSearchRequest,
    },
    model::{CollectionKey, CollectionOptions, Metric, Role},
};
use redis::{Cmd, Value, cmd};

use super::{
    SERVICE,
    config::{Config, Engine, Index},
    connection::Session,
    convert::{damaged, integer, list, optional_text, text, unexpected},
    document::parse_version,
    keys::{CollectionKeys, StoreKeys, ordered},
    server::{self, FORMAT, Server, check_layout},
};

/// A namespace of a server.
pub(super) struct Redis {
    pub(super) session: Session,
    pub(super) keys: StoreKeys,
    pub(super) server: Server,
    pub(super) index: Index,
    capabilities: Capabilities,
    known: Mutex<HashMap<CollectionKey, Arc<Known>>>,
    /// Index → how many connections had been made when it was seen whole.
    pub(super) whole: Mutex<HashMap<String, u64>>,
}

/// A collection as it was last read.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) keys: CollectionKeys,
    /// Exactly as it is stored, to tell whether it still is.
    pub(super) json: String,
    pub(super) options: CollectionOptions,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("session", &self.session)
            .field("store", &self.keys.store)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

fn capabilities(server: &Server) -> Capabilities {
    let mut capabilities = Capabilities::new();
    capabilities.durable = server.durable;
    capabilities.durable_on_apply = server.durable_on_apply;
    if server.engine == Engine::VectorSets {
        capabilities.metrics = vec![Metric::Cosine];
    }
    capabilities
}

impl Redis {
    fn identity_call(&self) -> Cmd {
        let script = &self.session.scripts().identity;
        script.on(&[&self.keys.store, &self.keys.highest])
    }

    pub(super) async fn open(config: &Config, context: &OpenContext) -> BackendResult<Self> {
        let session = Session::new(config, context).await?;
        let keys = StoreKeys::new(&config.namespace);
        let server = server::inspect(&session, config, &keys).await?;
        session.connect_all().await?;
        Ok(Self {
            capabilities: capabilities(&server),
            session,
            keys,
            server,
            index: config.index,
            known: Mutex::default(),
            whole: Mutex::default(),
        })
    }

    pub(super) fn engine(&self) -> Engine {
        self.server.engine
    }

    fn known_collections(&self) -> MutexGuard<'_, HashMap<CollectionKey, Arc<Known>>> {
        // Entries are replaced whole, so a panic under the lock leaves none half written.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The collection as it was last read, or is now.
    pub(super) async fn known(&self, key: &CollectionKey) -> BackendResult<Arc<Known>> {
        let known = self.known_collections().get(key).cloned();
        match known {
            Some(known) => Ok(known),
            None => self.look_up(key).await,
        }
    }

    /// The collection as it is now.
    pub(super) async fn look_up(&self, key: &CollectionKey) -> BackendResult<Arc<Known>> {
        let keys = self.keys.collection(key);
        let mut read = cmd("HGET");
        read.arg(&self.keys.collections).arg(&keys.name);
        let held = optional_text("a collection", self.session.call(read).await?)?;
        let Some(json) = held else {
            self.forget(key);
            return Err(missing(key));
        };
        let known = Arc::new(Known {
            keys,
            options: parse_collection(&json)?.1,
            json,
        });
        self.known_collections()
            .insert(key.clone(), Arc::clone(&known));
        Ok(known)
    }

    pub(super) fn forget(&self, key: &CollectionKey) {
        self.known_collections().remove(key);
    }

    /// Waits until the append-only file is on the disk. A write of its own stands behind every
    /// one before it, whichever connection those came by.
    async fn wait_for_disk(&self) -> BackendResult<()> {
        let patience = self.session.timeout() / 10 * 9;
        let write = self.session.scripts().touch.whole_on(&self.keys.sync);
        let mut wait = cmd("WAITAOF");
        wait.arg(1).arg(0).arg(patience.as_millis().max(1) as u64);
        let mut answers = self
            .session
            .call_waiting(vec![write, wait])
            .await?
            .into_iter();
        let mut next = || answers.next().unwrap_or(Ok(Value::Nil));
        next()?;
        let mut counts = list("WAITAOF", next()?)?.into_iter();
        let local = integer("WAITAOF", counts.next().unwrap_or(Value::Nil))?;
        if local >= 1 {
            return Ok(());
        }
        Err(BackendError::new(
            BackendErrorKind::Timeout,
            "the append-only file was not on the disk in time",
        ))
    }
}

/// The collection as JSON, in the order of the layout.
pub(super) fn collection_json(
    key: &CollectionKey,
    options: &CollectionOptions,
) -> BackendResult<String> {
    serde_json::to_string(&(key, options))
        .map_err(|error| damaged(format!("a collection is not JSON: {error}")).not_applied())
}

/// What [`collection_json`] wrote.
pub(super) fn parse_collection(json: &str) -> BackendResult<(CollectionKey, CollectionOptions)> {
    serde_json::from_str(json).map_err(|error| damaged(format!("a collection: {error}")))
}

pub(super) fn missing(key: &CollectionKey) -> BackendError {
    BackendError::new(
        BackendErrorKind::CollectionMissing,
        format!("collection {key} was not created here"),
    )
    .not_applied()
}

pub(super) fn stale_epoch(epoch: u64, held: &str) -> BackendError {
    let held = super::keys::from_ordered(held);
    BackendError::new(
        BackendErrorKind::StaleEpoch,
        match held {
            Some(held) => format!("epoch {epoch} is behind the store's {held}"),
            None => format!("epoch {epoch} is behind the store's"),
        },
    )
    .not_applied()
}

/// The first word of a script's answer, and what follows.
pub(super) fn outcome(value: Value) -> BackendResult<(String, Vec<Value>)> {
    let mut parts = list("a script", value)?;
    if parts.is_empty() {
        return Err(unexpected("a script", &Value::Nil));
    }
    let rest = parts.split_off(1);
    let first = parts.pop().unwrap_or(Value::Nil);
    Ok((text("a script", first)?, rest))
}

/// The text that follows in a script's answer.
pub(super) fn detail(rest: Vec<Value>) -> BackendResult<String> {
    let first = rest.into_iter().next().unwrap_or(Value::Nil);
    Ok(optional_text("a script", first)?.unwrap_or_default())
}

/// What the script `identity` answers.
fn parse_identity(answer: Value) -> BackendResult<Identity> {
    let mut parts = list("the identity", answer)?.into_iter();
    let held = list("the identity", parts.next().unwrap_or(Value::Nil))?;
    let mut fields = held
        .into_iter()
        .map(|field| optional_text("the identity", field));
    let mut next = || fields.next().unwrap_or(Ok(None));
    check_layout(next()?.as_deref(), next()?.as_deref())?;
    let stamp = parse_stamp([next()?, next()?, next()?, next()?])?;
    let highest = text("the highest version", parts.next().unwrap_or(Value::Nil))?;
    let highest = match highest.as_str() {
        "" => None,
        version => Some(parse_version(version)?),
    };
    Ok(Identity::new(stamp, highest, highest.is_none()))
}

fn parse_stamp(fields: [Option<String>; 4]) -> BackendResult<Option<Stamp>> {
    let [store, journal, epoch, progress] = fields;
    let (store, journal, epoch, progress) = match (store, journal, epoch, progress) {
        (Some(store), Some(journal), Some(epoch), Some(progress)) => {
            (store, journal, epoch, progress)
        }
        (None, None, None, None) => return Ok(None),
        _ => return Err(damaged("the stamp lacks a part")),
    };
    let damage = |error: &dyn fmt::Display| damaged(format!("the stamp: {error}"));
    Ok(Some(Stamp {
        store_id: store.parse().map_err(|error| damage(&error))?,
        journal_id: journal.parse().map_err(|error| damage(&error))?,
        epoch: parse_version(&epoch)?.as_u64(),
        progress: parse_version(&progress)?,
    }))
}

#[async_trait]
impl Backend for Redis {
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
        let mut read = cmd("HGET");
        read.arg(&self.keys.store).arg("format");
        optional_text("the layout", self.session.call(read).await?).map(drop)
    }

    async fn read_stamp(&self) -> BackendResult<Option<Stamp>> {
        // Not in doubt: a server that was restarted is to be found out, and not taken for granted.
        let answer = self.session.call(self.identity_call()).await?;
        Ok(parse_identity(answer)?.stamp)
    }

    async fn identity(&self) -> BackendResult<Identity> {
        let answer = self.session.call_in_doubt(self.identity_call()).await?;
        let identity = parse_identity(answer)?;
        // What was known of the collections may have been known of another run of the server.
        self.known_collections().clear();
        Ok(identity)
    }

    async fn write_stamp(&self, request: StampRequest) -> BackendResult<()> {
        let stamp = &request.stamp;
        let mut call = self.session.scripts().stamp.on(&[&self.keys.store]);
        call.arg(FORMAT)
            .arg(self.engine().as_str())
            .arg(u8::from(request.replace))
            .arg(stamp.store_id.to_string())
            .arg(stamp.journal_id.to_string())
            .arg(ordered(stamp.epoch))
            .arg(ordered(stamp.progress.as_u64()));
        let (outcome, rest) = outcome(self.session.call(call).await?)?;
        match outcome.as_str() {
            "written" => self.sync().await,
            "stale" => Err(stale_epoch(stamp.epoch, &detail(rest)?)),
            "foreign" => {
                Err(BackendError::new(BackendErrorKind::Foreign, detail(rest)?).not_applied())
            }
            "layout" => Err(other_layout(rest)),
            other => Err(damaged(format!("the script answered {other:?}"))),
        }
    }

    async fn create_collection(&self, request: CreateCollectionRequest) -> BackendResult<()> {
        self.create(request).await
    }

    async fn drop_collection(&self, request: DropCollectionRequest) -> BackendResult<()> {
        self.remove(request).await
    }

    async fn collections(&self) -> BackendResult<Vec<CollectionKey>> {
        let mut read = cmd("HVALS");
        read.arg(&self.keys.collections);
        list("the collections", self.session.call(read).await?)?
            .into_iter()
            .map(|json| Ok(parse_collection(&text("a collection", json)?)?.0))
            .collect()
    }

    async fn apply(&self, request: ApplyRequest) -> BackendResult<Vec<BackendResult<()>>> {
        self.write(&request).await
    }

    async fn heads(&self, request: IdsRequest) -> BackendResult<Vec<Option<Head>>> {
        let held = self.read(&request.collection, &request.ids, "").await?;
        Ok(held.into_iter().map(|held| Some(held?.head)).collect())
    }

    async fn fingerprints(&self, request: ListRequest) -> BackendResult<Page<Fingerprint>> {
        self.page_of_fingerprints(request).await
    }

    async fn fingerprints_of(
        &self,
        request: IdsRequest,
    ) -> BackendResult<Vec<Option<Fingerprint>>> {
        self.fingerprints_by_id(&request.collection, &request.ids)
            .await
    }

    async fn sync(&self) -> BackendResult<()> {
        if self.server.durable {
            self.wait_for_disk().await
        } else {
            self.probe().await
        }
    }

    async fn refresh(&self) -> BackendResult<()> {
        self.probe().await
    }

    async fn close(&self) -> BackendResult<()> {
        let synced = match self.sync().await {
            // Closed before.
            Err(error) if error.message() == super::connection::CLOSED => Ok(()),
            synced => synced,
        };
        self.session.close().await;
        synced
    }
}

/// Another layout was written since the store was opened.
pub(super) fn other_layout(rest: Vec<Value>) -> BackendError {
    let mut fields = rest
        .into_iter()
        .map(|field| optional_text("the layout", field));
    let mut next = || fields.next().unwrap_or(Ok(None)).ok().flatten();
    match check_layout(next().as_deref(), next().as_deref()) {
        Err(error) => error,
        Ok(_) => super::config::wrong("the store was made for another engine since it was opened"),
    }
}

#[async_trait]
impl VectorBackend for Redis {
    async fn search_vectors(&self, request: VectorSearchRequest) -> BackendResult<Vec<VectorHit>> {
        self.search(&request).await
    }

    async fn vectors(&self, request: IdsRequest) -> BackendResult<Vec<Option<StoredVectors>>> {
        let held = self.read(&request.collection, &request.ids, "se").await?;
        Ok(held
            .into_iter()
            .map(|held| {
                held.filter(|held| !held.head.deleted)
                    .map(|held| StoredVectors {
                        version: held.head.version,
                        vectors: held.vectors,
                    })
            })
            .collect())
    }
}
