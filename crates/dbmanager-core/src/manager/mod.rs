//! The facade: thin, every verb delegates to its room.

mod builder;
mod cached_search;
#[cfg(test)]
mod disabled_tests;
mod search_context;
mod verbs;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

pub use builder::ManagerBuilder;
pub use verbs::{DeleteDocument, DeleteDocuments, DropCollection, StoreDocument, StoreDocuments};

use self::{cached_search::CachedSearch, search_context::ManagerSearch};
use crate::{
    Error, ErrorKind, Result,
    config::{Config, Settings},
    consistency::{CheckConsistency, Rebuild},
    health::{BackendVerification, Health, Monitor},
    journal::OperationLookup,
    model::{
        Collection, CollectionOptions, Document, Filter, OnTimeout, OperationId, OperationStatus,
        ParkedWrite, Query, Receipt, Role, SearchResponse, StoredDocument, Version, WaitFor,
    },
    read::{Count, DocumentPage},
    search::{SearchRoute, SearchSettings, validate, validate_filter},
    write::{
        DocumentKey, ItemChange, WriteOptions, WriteRoom, journal_error, truncate_all,
        validate_collection_name,
    },
};

/// The most documents a page of `list_documents` has.
const MAX_LIST: usize = 1_000;

/// Keeps documents in a vector, a graph and a relational store in step, and searches them as one.
///
/// Cheap to clone; every clone is the same manager. Dropping the last clone closes it without
/// losing anything that was acknowledged; [`DatabaseManager::close`] does so in an orderly way.
///
/// ```
/// # use dbmanager_core::{DatabaseManager, model::{Document, Query}};
/// # async fn run() -> dbmanager_core::Result<()> {
/// let db = DatabaseManager::in_memory().await?;
/// db.store_document("papers", Document::new("p1").title("Crash recovery")).await?;
/// let found = db.search_documents("papers", Query::hybrid("recovery")).await?;
/// assert_eq!(&*found.hits[0].id, "p1");
/// # Ok(())
/// # }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(run()).unwrap();
/// ```
#[derive(Clone)]
pub struct DatabaseManager {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) room: Arc<WriteRoom>,
    pub(crate) search: SearchRoute,
    pub(crate) monitor: Arc<Monitor>,
    pub(crate) settings: Settings,
    journal_location: String,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.room.begin_close();
    }
}

impl std::fmt::Debug for DatabaseManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatabaseManager")
            .field("stores", &self.inner.room.stores)
            .finish()
    }
}

/// The collections a search looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// These, by name; an unknown one is an error.
    Collections(Vec<String>),
    /// Every live collection.
    All,
}

impl From<&str> for Scope {
    fn from(name: &str) -> Self {
        Scope::Collections(vec![name.to_owned()])
    }
}

impl From<String> for Scope {
    fn from(name: String) -> Self {
        Scope::Collections(vec![name])
    }
}

impl<S: Into<String>, const N: usize> From<[S; N]> for Scope {
    fn from(names: [S; N]) -> Self {
        Scope::Collections(names.into_iter().map(Into::into).collect())
    }
}

impl From<Vec<String>> for Scope {
    fn from(names: Vec<String>) -> Self {
        Scope::Collections(names)
    }
}

impl DatabaseManager {
    /// Starts a manager from a configuration; the `dbmanager` crate's `open` does so with the
    /// services that are compiled in.
    pub fn builder(config: Config) -> ManagerBuilder {
        ManagerBuilder::new(config)
    }

    /// A manager over in-memory stores and an in-memory journal, for users' own tests. It has the
    /// same semantics as any other, and loses everything when it is dropped.
    ///
    /// # Errors
    /// Never in practice; the signature is that of every opening.
    pub async fn in_memory() -> Result<Self> {
        Self::builder(Config::in_memory()).open().await
    }

    /// Where the journal is kept.
    pub fn journal_location(&self) -> &str {
        &self.inner.journal_location
    }

    /// Stores a document, replacing the one with the same id. A first write creates the
    /// collection.
    ///
    /// Awaiting the builder answers when the level (default [`crate::model::Level::Quorum`]) is
    /// reached. A quorum counts write acknowledgements: a search leg may still lack the document;
    /// [`DatabaseManager::wait_for`] waits for it.
    ///
    /// # Errors
    /// [`Error::write_outcome`] says what the failed write may have done: `Rejected` (no store
    /// ever shows it), `Pending` (journaled, will be applied) or `Indeterminate`.
    pub fn store_document(
        &self,
        collection: impl Into<String>,
        document: Document,
    ) -> StoreDocument {
        StoreDocument::new(self, collection.into(), document)
    }

    /// Stores documents independently of each other: each has its own outcome, in the order given.
    ///
    /// # Errors
    /// The outer error means that nothing was journaled. A document whose id stands earlier in the
    /// batch is `Rejected`.
    pub fn store_documents(
        &self,
        collection: impl Into<String>,
        documents: impl IntoIterator<Item = Document>,
    ) -> StoreDocuments {
        StoreDocuments::new(self, collection.into(), documents.into_iter().collect())
    }

    /// Deletes a document. Deleting one that is not there is a write like any other: it leaves a
    /// tombstone that keeps late writes from bringing it back.
    ///
    /// # Errors
    /// As for [`DatabaseManager::store_document`]; `CollectionNotFound` if there is none.
    pub fn delete_document(
        &self,
        collection: impl Into<String>,
        id: impl Into<String>,
    ) -> DeleteDocument {
        DeleteDocument::new(self, collection.into(), id.into())
    }

    /// Deletes documents independently of each other.
    ///
    /// # Errors
    /// As for [`DatabaseManager::store_documents`].
    pub fn delete_documents<I: Into<String>>(
        &self,
        collection: impl Into<String>,
        ids: impl IntoIterator<Item = I>,
    ) -> DeleteDocuments {
        let ids = ids.into_iter().map(|id| Arc::from(id.into())).collect();
        DeleteDocuments::new(self, collection.into(), ids)
    }

    /// The current document, or `None` if there is none. Sees the journal: a manager reads its own
    /// writes, whatever stores are down.
    ///
    /// # Errors
    /// The authority cannot be read and the journal does not hold the id: never `None` then.
    pub async fn get_document(
        &self,
        collection: impl AsRef<str>,
        id: impl AsRef<str>,
    ) -> Result<Option<StoredDocument>> {
        let ids = [Arc::from(id.as_ref())];
        let answers = self.inner.room.get(collection.as_ref(), &ids).await?;
        answers.into_iter().next().unwrap_or(Ok(None))
    }

    /// Waits until this manager sees a write that another instance with the same journal
    /// acknowledged, and hands the manager back for the read:
    /// `db.at_least(&receipt, timeout).await?.get_document(…)`; a receipt's version does as well.
    /// Without this, what others wrote is seen as soon as the journal's changes were followed; see
    /// [`SharingReport::behind_for`](crate::health::SharingReport::behind_for). A manager always
    /// sees its own writes.
    ///
    /// # Errors
    /// `Timeout`; `Closed`.
    pub async fn at_least(&self, write: impl Into<Version>, timeout: Duration) -> Result<&Self> {
        let (room, version) = (&self.inner.room, write.into());
        if !room.backlog.is_live(version) {
            room.follow_to(version, timeout).await?;
        }
        Ok(self)
    }

    /// The current documents, in the order of the ids; `None` for those that are not there.
    ///
    /// # Errors
    /// As for [`DatabaseManager::get_document`], if any of them cannot be told.
    pub async fn get_documents<I: AsRef<str>>(
        &self,
        collection: impl AsRef<str>,
        ids: impl IntoIterator<Item = I>,
    ) -> Result<Vec<Option<StoredDocument>>> {
        let ids: Vec<Arc<str>> = ids.into_iter().map(|id| Arc::from(id.as_ref())).collect();
        self.inner
            .room
            .get(collection.as_ref(), &ids)
            .await?
            .into_iter()
            .collect()
    }

    /// Searches one collection, several or all.
    ///
    /// A failed leg is never an empty result: see [`SearchResponse::degraded`] and the leg
    /// reports. Every hit was checked against the current document and explains itself.
    ///
    /// # Errors
    /// The query is wrong, a collection does not exist, or no leg answered.
    pub async fn search_documents(
        &self,
        scope: impl Into<Scope>,
        query: Query,
    ) -> Result<SearchResponse> {
        self.inner.room.check_readable()?;
        validate(&query)?;
        let collections = self.resolve(scope.into())?;
        let search = async |query| {
            let context = ManagerSearch::new(&self.inner);
            let settings = SearchSettings {
                timeout: self.inner.settings.search.timeout,
            };
            let route = &self.inner.search;
            route.search(&context, &collections, query, &settings).await
        };
        match &self.inner.room.cache {
            Some(cache) if query.cursor.is_none() => {
                let cached = CachedSearch::new(&self.inner, cache, &collections, &query);
                match cached.find() {
                    Some(response) => Ok(response),
                    None => {
                        let response = search(query).await?;
                        cached.keep(&response);
                        Ok(response)
                    }
                }
            }
            _ => search(query).await,
        }
    }

    fn resolve(&self, scope: Scope) -> Result<Vec<Collection>> {
        let mut named = BTreeSet::new();
        match scope {
            Scope::All => Ok(self.inner.room.collections()),
            Scope::Collections(names) => names
                .into_iter()
                // Else its documents would come as often as it is named.
                .filter(|name| named.insert(name.clone()))
                .map(|name| {
                    self.inner.room.collection(&name).ok_or_else(|| {
                        Error::new(ErrorKind::CollectionNotFound, "there is no such collection")
                            .with("collection", name)
                    })
                })
                .collect(),
        }
    }

    /// A page of documents by the bytes of their id, at most 1,000; `after` is the last page's
    /// `next`.
    ///
    /// # Errors
    /// `InvalidInput` for a limit of 0 or above 1,000, or a filter that breaks a stated limit;
    /// `CollectionNotFound`; the authority cannot be read.
    pub async fn list_documents(
        &self,
        collection: impl AsRef<str>,
        filter: Option<Filter>,
        after: Option<String>,
        limit: usize,
    ) -> Result<DocumentPage> {
        if limit == 0 || limit > MAX_LIST {
            return Err(
                Error::new(ErrorKind::InvalidInput, "the limit is out of range")
                    .with("limit", limit)
                    .with("highest", MAX_LIST),
            );
        }
        filter.as_ref().map_or(Ok(()), validate_filter)?;
        self.inner
            .room
            .list(collection.as_ref(), after, limit, filter.map(Arc::new))
            .await
    }

    /// How many live documents the authority holds.
    ///
    /// # Errors
    /// `InvalidInput` for a filter that breaks a stated limit; `CollectionNotFound`; the authority
    /// cannot be read.
    pub async fn count(
        &self,
        collection: impl AsRef<str>,
        filter: Option<Filter>,
    ) -> Result<Count> {
        filter.as_ref().map_or(Ok(()), validate_filter)?;
        self.inner
            .room
            .count(collection.as_ref(), filter.map(Arc::new))
            .await
    }

    /// The live collections, by name.
    pub fn collections(&self) -> Vec<Collection> {
        self.inner.room.collections()
    }

    /// Creates a collection, or returns the one that exists if `options` ask for nothing it does
    /// not have.
    ///
    /// # Errors
    /// `InvalidInput`: a bad name, or the collection exists with other options. `Unsupported`: a
    /// store cannot compare vectors by the metric.
    pub async fn create_collection(
        &self,
        name: impl AsRef<str>,
        options: CollectionOptions,
    ) -> Result<Collection> {
        let room = &self.inner.room;
        room.check_open()?;
        validate_collection_name(name.as_ref(), &room.limits())?;
        room.check_metric(options.embedding_space.as_ref())?;
        let (collection, _) = room
            .journal
            .create_collection(name.as_ref(), options)
            .await
            .map_err(journal_error)?;
        room.remember_collection(collection.clone());
        Ok(collection)
    }

    /// Drops a collection with everything in it. It is gone at once for readers, and is removed
    /// from every store like any write is applied.
    ///
    /// # Errors
    /// `CollectionNotFound`; otherwise as for [`DatabaseManager::store_document`].
    pub fn drop_collection(&self, name: impl Into<String>) -> DropCollection {
        DropCollection::new(self, name.into())
    }

    /// What became of an operation. An operation that was never accepted is recorded as refused,
    /// so that the answer `NeverAccepted` stays true.
    ///
    /// # Errors
    /// `InvalidInput` for an id whose time is more than a day ahead; the journal cannot be read or
    /// written.
    pub async fn status(&self, operation_id: OperationId) -> Result<OperationStatus> {
        let room = &self.inner.room;
        let mut lookup = room
            .journal
            .operation(operation_id)
            .await
            .map_err(journal_error)?;
        if lookup == OperationLookup::Unknown {
            room.check_operation_id(operation_id)?;
            lookup = room
                .journal
                .refuse_operation(operation_id)
                .await
                .map_err(journal_error)?;
        }
        Ok(match lookup {
            OperationLookup::Accepted {
                version,
                collection,
                id,
                live,
                ..
            } => {
                if live {
                    let now = room.runtime.monotonic();
                    let deadline = now.saturating_add(room.settings.timeout);
                    room.until_shown(operation_id, version, deadline).await?;
                }
                self.accepted_status(&DocumentKey::new(collection, id), version, live)
            }
            OperationLookup::Refused => OperationStatus::NeverAccepted,
            OperationLookup::Expired => OperationStatus::Expired,
            OperationLookup::Unknown => {
                return Err(Error::new(
                    ErrorKind::Internal,
                    "the journal recorded an operation as refused and does not know it",
                ));
            }
        })
    }

    fn accepted_status(
        &self,
        document: &DocumentKey,
        version: Version,
        live: bool,
    ) -> OperationStatus {
        use crate::write::Acknowledgement;
        let backlog = &self.inner.room.backlog;
        if !live || !backlog.is_live(version) {
            return OperationStatus::Done(version);
        }
        let standing = backlog.standing(document, version);
        if standing
            .iter()
            .any(|s| s.acknowledgement == Acknowledgement::Parked)
        {
            OperationStatus::Parked(version)
        } else if standing
            .iter()
            .all(|s| s.acknowledgement == Acknowledgement::Applied)
        {
            OperationStatus::Done(version)
        } else {
            OperationStatus::Pending(version)
        }
    }

    /// Waits until a write has reached a level, or is found by searches, and returns its receipt
    /// as it stands then.
    ///
    /// # Errors
    /// `LevelNotReached` with the write outcome `Pending` if the time runs out or the level cannot
    /// be reached now.
    pub async fn wait_for(
        &self,
        receipt: &Receipt,
        what: impl Into<WaitFor>,
        timeout: Duration,
    ) -> Result<Receipt> {
        verbs::wait_for(&self.inner, receipt, what.into(), timeout).await
    }

    /// The monitor's last result and its age.
    pub fn health(&self) -> Health {
        self.inner.monitor.last(&self.inner)
    }

    /// Probes the journal and every store now.
    pub async fn health_check(&self) -> Health {
        self.inner.monitor.check(&self.inner).await
    }

    /// Opens and verifies the connection to every enabled store: that it answers, and that it
    /// belongs to this journal.
    pub async fn verify_backends(&self) -> Vec<BackendVerification> {
        crate::health::verify_backends(&self.inner.room).await
    }

    /// Compares every store with the authority and the journal. Reads only, unless it is asked to
    /// repair.
    ///
    /// # Errors
    /// When awaited: `Unsupported` without a relational store, which is the authority; what cannot be
    /// read.
    pub fn check_consistency(&self) -> CheckConsistency {
        CheckConsistency::new(Arc::clone(&self.inner.room))
    }

    /// Empties a store and fills it again from the authority, while writes go on. Dropping the future
    /// does not stop it. A document that the store refuses for good is written again, under a new
    /// version, unless the journal still has it: so it is parked, and its other stores go on.
    ///
    /// # Errors
    /// When awaited: `Unsupported` for the relational store, which is the authority: it is restored
    /// from a backup; `Overloaded` while the store is being rebuilt already; `NotSender`; what cannot
    /// be read or written. The store is left as `NeedsRebuild` then, and can be rebuilt again.
    pub fn rebuild(&self, role: Role) -> Rebuild {
        Rebuild::new(Arc::clone(&self.inner.room), role)
    }

    /// What the enabled stores refused for good, by role and in the order of writing; from memory,
    /// without asking a store.
    pub fn parked_writes(&self) -> Vec<ParkedWrite> {
        let room = &self.inner.room;
        let roles = room.stores.iter().map(|store| store.role);
        roles.flat_map(|role| room.backlog.parked(role)).collect()
    }

    /// Sends a parked write to its store again.
    ///
    /// # Errors
    /// `InvalidInput` if nothing is parked under this version and role; `NotSender`; the journal
    /// cannot be written.
    pub async fn retry_parked(&self, role: Role, version: Version) -> Result<()> {
        verbs::clear_parked(&self.inner, role, version, verbs::Clearing::Retry).await
    }

    /// Gives a parked write up: its store goes without this version, and the journal may let go of
    /// it. `check_consistency` reports the document until a newer version is written. If the
    /// manager is opened again before the journal has let go of it, it is sent once more.
    ///
    /// # Errors
    /// `Unsupported` for the relational store: what the authority lacks would be lost, and only a
    /// newer version clears it there. Otherwise as for [`DatabaseManager::retry_parked`].
    pub async fn give_up_parked(&self, role: Role, version: Version) -> Result<()> {
        if role == Role::Relational {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "what the authority refused is not given up: write a newer version",
            ));
        }
        verbs::clear_parked(&self.inner, role, version, verbs::Clearing::GiveUp).await
    }

    /// Takes a store that is no longer enabled off the roster, so that it no longer holds the
    /// journal's truncation. If it comes back it needs a rebuild.
    ///
    /// # Errors
    /// `InvalidInput` if the role has no disabled store; `NotSender`; the journal cannot be written.
    pub async fn remove_store(&self, role: Role) -> Result<()> {
        verbs::remove_store(&self.inner, role).await
    }

    /// Closes the manager: refuses new writes, finishes the append under way, stops starting
    /// attempts, waits for running ones, makes the stores durable and releases every lock.
    /// Whatever a store has yet to receive stays in the journal. Reads that come later are refused
    /// with `Closed`, and no store is opened again. Repeating it is `Ok`.
    ///
    /// # Errors
    /// `Timeout` if the deadline passes first; nothing acknowledged is lost by it.
    pub async fn close(&self, deadline: Duration) -> Result<()> {
        let room = Arc::clone(&self.inner.room);
        room.begin_close();
        let work = async {
            room.join().await;
            if room.is_sender() {
                // A store that does not answer must not keep the others, and the journal, open.
                let truncating = room.runtime.timeout(deadline / 2, truncate_all(&room));
                let why = match truncating.await {
                    Ok(truncated) => truncated.err(),
                    Err(elapsed) => Some(elapsed.to_string()),
                };
                if let Some(why) = why {
                    tracing::info!(why, "entries stay in the journal for the next opening");
                }
            }
            let failed = room.close_stores().await;
            room.journal.close().await.map_err(journal_error)?;
            match failed {
                None => Ok(()),
                Some((role, error)) => Err(crate::read::read_error(role, error)),
            }
        };
        match room.runtime.timeout(deadline, work).await {
            Ok(result) => result,
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                "closing took longer than its deadline",
            )),
        }
    }

    pub(crate) fn default_options(&self) -> WriteOptions {
        let settings = &self.inner.room.settings;
        WriteOptions {
            level: settings.level,
            with_authority: false,
            timeout: settings.timeout,
            on_timeout: OnTimeout::Error,
        }
    }

    pub(crate) fn room(&self) -> &Arc<WriteRoom> {
        &self.inner.room
    }

    pub(crate) fn upsert(document: Document) -> (Arc<str>, ItemChange) {
        (
            Arc::from(document.id.as_str()),
            ItemChange::Upsert(Box::new(document)),
        )
    }
}
