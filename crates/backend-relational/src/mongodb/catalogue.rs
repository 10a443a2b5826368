//! Which collections the store holds, and the physical collections behind each.
//!
//! Physical names are random and never used again, so that a write which arrives after its
//! collection was dropped can show in no later one. The catalogue's entry is written before the
//! physical collections are made and removed after they are gone; whatever ends in between is
//! finished by repeating it.

use dbmanager_core::{
    backend::{BackendError, BackendErrorKind, BackendResult},
    model::{Collection, CollectionKey, CollectionOptions, Tokenizer, Version},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use mongodb::{
    bson::{Document, doc},
    options::FindOptions,
};

use super::{
    convert::{damaged, integer},
    physical,
    server::Server,
    store::{self, STORE, Upserted},
};

/// How often an entry that somebody else changes meanwhile is tried again.
const MAX_ROUNDS: usize = 20;
/// Physical collections that are asked at once.
const CONCURRENT: usize = 4;

/// A collection as the store holds it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    id: String,
    pub(super) key: CollectionKey,
    pub(super) options: CollectionOptions,
    state: State,
    /// The physical collection of the documents.
    pub(super) documents: String,
    /// The physical collection of the parts of large documents.
    pub(super) parts: String,
    /// Whether a large document was ever written.
    pub(super) has_parts: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Creating,
    Ready,
    Dropping,
}

impl State {
    const ALL: [(State, &'static str); 3] = [
        (State::Creating, "creating"),
        (State::Ready, "ready"),
        (State::Dropping, "dropping"),
    ];

    fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(state, _)| *state == self)
            .map_or("", |(_, name)| name)
    }
}

/// The catalogue of one store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Catalogue<'a> {
    pub(super) server: &'a Server,
    /// The catalogue's own physical collection.
    pub(super) name: &'a str,
    /// What every physical name starts with.
    pub(super) prefix: &'a str,
    pub(super) schema_validation: bool,
}

impl Catalogue<'_> {
    /// The collection.
    pub(super) async fn get(&self, key: &CollectionKey) -> BackendResult<Entry> {
        let id = entry_id(key);
        let filter = doc! { "_id": &id };
        let options = FindOptions::builder().limit(1).build();
        let found = self
            .server
            .find("look the collection up", self.name, filter, options)
            .await?;
        ready(found.first(), key)
    }

    /// The collection, for a write by a manager of this epoch.
    pub(super) async fn get_for_write(
        &self,
        key: &CollectionKey,
        epoch: u64,
    ) -> BackendResult<Entry> {
        let id = entry_id(key);
        let filter = doc! { "_id": { "$in": [STORE, &id] } };
        let found = self
            .server
            .find(
                "look the collection up",
                self.name,
                filter,
                FindOptions::default(),
            )
            .await?;
        let by_id = |wanted: &str| found.iter().find(|d| d.get_str("_id").ok() == Some(wanted));
        store::check_epoch(by_id(STORE), epoch)?;
        ready(by_id(&id), key)
    }

    /// Every collection that is ready.
    pub(super) async fn list(&self) -> BackendResult<Vec<Entry>> {
        let filter = doc! { "_id": { "$ne": STORE } };
        let found = self
            .server
            .find(
                "list the collections",
                self.name,
                filter,
                FindOptions::default(),
            )
            .await?;
        let entries = found.iter().map(entry).collect::<BackendResult<Vec<_>>>()?;
        Ok(entries
            .into_iter()
            .filter(|e| e.state == State::Ready)
            .collect())
    }

    /// The highest version held in any collection, tombstones included.
    pub(super) async fn highest_version(&self) -> BackendResult<Option<Version>> {
        let versions: Vec<Option<Version>> = stream::iter(self.list().await?)
            .map(|entry| async move { self.highest_of(&entry).await })
            .buffer_unordered(CONCURRENT)
            .try_collect()
            .await?;
        Ok(versions.into_iter().flatten().max())
    }

    async fn highest_of(&self, entry: &Entry) -> BackendResult<Option<Version>> {
        let options = FindOptions::builder()
            .projection(doc! { "version": 1 })
            .sort(doc! { "version": -1 })
            .limit(1)
            .build();
        let what = "read the highest version";
        let found = self
            .server
            .find(what, &entry.documents, doc! {}, options)
            .await?;
        found
            .first()
            .map(|document| {
                integer(document, "version")
                    .map(Version::from_i64)
                    .ok_or_else(|| damaged("the version of a document"))
            })
            .transpose()
    }

    /// Makes the collection ready; see `Backend::create_collection`.
    pub(super) async fn create(&self, asked: &Collection, epoch: u64) -> BackendResult<()> {
        check_storable(asked)?;
        let id = entry_id(&asked.key);
        for _ in 0..MAX_ROUNDS {
            store::check_epoch(self.document(STORE).await?.as_ref(), epoch)?;
            let Some(held) = self.document(&id).await? else {
                self.announce(&id, asked).await?;
                continue;
            };
            let held = entry(&held)?;
            if held.state == State::Dropping {
                self.remove(&held).await?;
                continue;
            }
            if !self.merge_options(&held, asked).await? {
                continue;
            }
            if held.state == State::Ready {
                return Ok(());
            }
            physical::make_documents(self.server, &held.documents, self.schema_validation).await?;
            if self.set_state(&held, State::Ready).await? {
                return Ok(());
            }
        }
        Err(contended(&asked.key))
    }

    /// Removes the collection with everything in it.
    pub(super) async fn drop_collection(
        &self,
        key: &CollectionKey,
        epoch: u64,
    ) -> BackendResult<()> {
        store::check_epoch(self.document(STORE).await?.as_ref(), epoch)?;
        let Some(held) = self.document(&entry_id(key)).await? else {
            return Ok(());
        };
        let held = entry(&held)?;
        // From here on it is missing to everybody, though its entry is there until all is gone.
        if held.state != State::Dropping && !self.set_state(&held, State::Dropping).await? {
            return Err(contended(key));
        }
        self.remove(&held).await
    }

    /// Says that large documents are there, before the first of them is written.
    pub(super) async fn announce_parts(&self, entry: &Entry) -> BackendResult<()> {
        physical::make_parts(self.server, &entry.parts).await?;
        let change = doc! { "$set": { "has_parts": true } };
        self.update(&entry.same(), change).await?;
        Ok(())
    }

    async fn document(&self, id: &str) -> BackendResult<Option<Document>> {
        let options = FindOptions::builder().limit(1).build();
        let found = self
            .server
            .find("read the catalogue", self.name, doc! { "_id": id }, options)
            .await?;
        Ok(found.into_iter().next())
    }

    async fn announce(&self, id: &str, asked: &Collection) -> BackendResult<()> {
        let runtime = &self.server.runtime;
        let name = format!("{:016x}{:016x}", runtime.random_u64(), runtime.random_u64());
        let statement = doc! {
            "q": { "_id": id },
            "u": { "$setOnInsert": {
                "name": &*asked.key.name,
                "generation": generation(&asked.key)?,
                "options": options_text(&asked.options)?,
                "state": State::Creating.name(),
                "documents": format!("{}documents_{name}", self.prefix),
                "parts": format!("{}parts_{name}", self.prefix),
                "has_parts": false,
            } },
            "upsert": true,
        };
        // Refused: another one was quicker, and its entry counts.
        match store::upsert(self.server, self.name, &statement).await? {
            Upserted::Done | Upserted::Refused => Ok(()),
        }
    }

    /// Fills an embedding space in; `false` if somebody else changed the entry meanwhile.
    async fn merge_options(&self, held: &Entry, asked: &Collection) -> BackendResult<bool> {
        let Some(merged) = held.options.filled_in(&asked.options) else {
            return Err(BackendError::new(
                BackendErrorKind::Refused,
                format!("collection {} exists with other options", asked.key),
            )
            .not_applied());
        };
        if merged == held.options {
            return Ok(true);
        }
        let mut unchanged = held.same();
        unchanged.insert("options", options_text(&held.options)?);
        let change = doc! { "$set": { "options": options_text(&merged)? } };
        self.update(&unchanged, change).await
    }

    async fn set_state(&self, held: &Entry, state: State) -> BackendResult<bool> {
        let mut unchanged = held.same();
        unchanged.insert("state", held.state.name());
        self.update(&unchanged, doc! { "$set": { "state": state.name() } })
            .await
    }

    /// Changes the entry that fulfils the condition; `false` if there is none.
    async fn update(&self, which: &Document, change: Document) -> BackendResult<bool> {
        let catalogue = self.server.collection(self.name);
        let changed = self
            .server
            .run("change the catalogue", async {
                catalogue.update_one(which.clone(), change).await
            })
            .await?;
        Ok(changed.matched_count > 0)
    }

    /// Drops the physical collections, then the entry.
    async fn remove(&self, held: &Entry) -> BackendResult<()> {
        for name in [&held.documents, &held.parts] {
            physical::remove(self.server, name).await?;
        }
        let catalogue = self.server.collection(self.name);
        self.server
            .run("remove a collection's entry", async {
                catalogue.delete_one(held.same()).await
            })
            .await?;
        Ok(())
    }
}

impl Entry {
    /// This entry, and not one that has taken its place.
    fn same(&self) -> Document {
        doc! { "_id": &self.id, "documents": &self.documents }
    }
}

/// Generations are numbers, so the first colon but one starts the name.
fn entry_id(key: &CollectionKey) -> String {
    format!("collection:{}:{}", key.generation, key.name)
}

fn generation(key: &CollectionKey) -> BackendResult<i64> {
    i64::try_from(key.generation).map_err(|_| {
        let message = "a generation above 2^63 - 1 cannot be stored";
        BackendError::new(BackendErrorKind::Refused, message).not_applied()
    })
}

fn options_text(options: &CollectionOptions) -> BackendResult<String> {
    serde_json::to_string(options)
        .map_err(|e| BackendError::new(BackendErrorKind::Refused, e.to_string()).not_applied())
}

fn check_storable(asked: &Collection) -> BackendResult<()> {
    if asked.key.name.contains('\0') {
        let message = "a collection's name contains NUL";
        return Err(BackendError::new(BackendErrorKind::Refused, message).not_applied());
    }
    match asked.options.tokenizer {
        Tokenizer::English | Tokenizer::Unicode | Tokenizer::Trigram => Ok(()),
        _ => Err(BackendError::unsupported("this tokenizer")),
    }
}

fn contended(key: &CollectionKey) -> BackendError {
    BackendError::new(
        BackendErrorKind::Unavailable,
        format!("collection {key} is being changed by somebody else"),
    )
}

fn ready(document: Option<&Document>, key: &CollectionKey) -> BackendResult<Entry> {
    match document.map(entry).transpose()? {
        Some(entry) if entry.state == State::Ready => Ok(entry),
        _ => Err(BackendError::new(
            BackendErrorKind::CollectionMissing,
            format!("collection {key} was not created here"),
        )
        .not_applied()),
    }
}

fn entry(document: &Document) -> BackendResult<Entry> {
    read_entry(document).ok_or_else(|| damaged("an entry of the catalogue"))
}

fn read_entry(document: &Document) -> Option<Entry> {
    let text = |key| document.get_str(key).ok().map(str::to_owned);
    let state = document.get_str("state").ok()?;
    let generation = u64::try_from(integer(document, "generation")?).ok()?;
    Some(Entry {
        id: text("_id")?,
        key: CollectionKey::new(text("name")?, generation),
        options: serde_json::from_str(document.get_str("options").ok()?).ok()?,
        state: State::ALL.iter().find(|(_, name)| *name == state)?.0,
        documents: text("documents")?,
        parts: text("parts")?,
        has_parts: document.get_bool("has_parts").ok()?,
    })
}
