//! The collections on the server that this store's collections are made of.
//!
//! A collection is two on the server: its heads, from its creation on, and its vectors, as soon as
//! its embedding space is known. What they are stands in their metadata, which is compared with
//! what was asked for: a name alone proves nothing.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use dbmanager_core::{
    backend::{BackendError, BackendErrorKind, BackendResult},
    model::{Collection, CollectionKey, EmbeddingSpace, Metric},
};
use serde_json::{Map, Value, json};

use super::{
    api::Api,
    config::Hnsw,
    convert::{self, ServerCollection},
    names::{self, Kind},
};

/// The layout described in the module's documentation.
pub(super) const FORMAT: u64 = 1;

pub(super) const FORMAT_KEY: &str = "dbmanager_format";
const KIND: &str = "dbmanager_kind";
const PREFIX: &str = "dbmanager_prefix";
const NAME: &str = "dbmanager_collection";
const GENERATION: &str = "dbmanager_generation";
const TOKENIZER: &str = "dbmanager_tokenizer";
const MODEL: &str = "dbmanager_model";
const DIMENSION: &str = "dbmanager_dimension";
const METRIC: &str = "dbmanager_metric";

/// Where a collection's records are.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The server's id of the heads.
    pub(super) heads: String,
    /// The vectors; absent: the collection has no embedding space yet.
    pub(super) vectors: Option<Vectors>,
}

/// Where a collection's vectors are, and what they are.
#[derive(Clone, Debug)]
pub(super) struct Vectors {
    pub(super) id: String,
    pub(super) space: EmbeddingSpace,
}

/// The collections, with the server's ids that were asked for once.
#[derive(Debug)]
pub(super) struct Catalogue {
    prefix: String,
    hnsw: Hnsw,
    // Only those with an embedding space: it may be filled in by another program at any time.
    known: Mutex<HashMap<CollectionKey, Place>>,
}

fn config_error(message: String) -> BackendError {
    BackendError::new(BackendErrorKind::Config, message).not_applied()
}

fn text<'a>(metadata: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    metadata.get(key).and_then(Value::as_str)
}

/// Whether a collection is in our layout.
///
/// # Errors
/// `Config`: it is in a newer one, or in none of ours.
pub(super) fn check_format(collection: &ServerCollection) -> BackendResult<()> {
    let metadata = collection.metadata.as_ref();
    match metadata.and_then(|metadata| metadata.get(FORMAT_KEY)?.as_u64()) {
        Some(FORMAT) => Ok(()),
        Some(format) => Err(config_error(format!(
            "the collection {:?} on the server has layout {format}; this version reads layout \
             {FORMAT}",
            collection.name
        ))),
        None => Err(config_error(format!(
            "the collection {:?} on the server was not made by this library; choose another \
             collection_prefix",
            collection.name
        ))),
    }
}

impl Catalogue {
    pub(super) fn new(prefix: &str, hnsw: Hnsw) -> Self {
        Self {
            prefix: prefix.to_owned(),
            hnsw,
            known: Mutex::default(),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<CollectionKey, Place>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the server's ids of a collection.
    pub(super) fn forget(&self, key: &CollectionKey) {
        self.known().remove(key);
    }

    /// Where a collection is.
    ///
    /// # Errors
    /// `CollectionMissing`: it was never created here.
    pub(super) async fn place(&self, api: &Api, key: &CollectionKey) -> BackendResult<Place> {
        if let Some(place) = self.known().get(key) {
            return Ok(place.clone());
        }
        let Some(heads) = self.find(api, Kind::Heads, key).await? else {
            return Err(BackendError::new(
                BackendErrorKind::CollectionMissing,
                format!("the collection {key} was not created here"),
            )
            .not_applied());
        };
        let vectors = match self.find(api, Kind::Vectors, key).await? {
            Some(found) => Some(vectors(found)?),
            None => None,
        };
        let place = Place {
            heads: heads.id,
            vectors,
        };
        if place.vectors.is_some() {
            self.known().insert(key.clone(), place.clone());
        }
        Ok(place)
    }

    async fn find(
        &self,
        api: &Api,
        kind: Kind,
        key: &CollectionKey,
    ) -> BackendResult<Option<ServerCollection>> {
        let name = names::physical(&self.prefix, kind, key);
        match api.collection(&name).await? {
            Some(found) => {
                self.check(&found, kind, key)?;
                Ok(Some(found))
            }
            None => Ok(None),
        }
    }

    /// Whether what has the name is what was meant by it.
    fn check(
        &self,
        found: &ServerCollection,
        kind: Kind,
        key: &CollectionKey,
    ) -> BackendResult<()> {
        check_format(found)?;
        let held = found.metadata.as_ref();
        let same = self
            .metadata(kind, key)
            .iter()
            .all(|(name, value)| held.and_then(|held| held.get(name)) == Some(value));
        match same {
            true => Ok(()),
            false => Err(config_error(format!(
                "the collection {:?} on the server is not {} of {key} under the prefix {:?}",
                found.name,
                kind.as_str(),
                self.prefix
            ))),
        }
    }

    /// What stands in the metadata of every collection of ours.
    fn metadata(&self, kind: Kind, key: &CollectionKey) -> Map<String, Value> {
        let entries = [
            (FORMAT_KEY, json!(FORMAT)),
            (KIND, json!(kind.as_str())),
            (PREFIX, json!(self.prefix)),
            (NAME, json!(&*key.name)),
            // As text: the server's whole numbers have a sign.
            (GENERATION, json!(key.generation.to_string())),
        ];
        Map::from_iter(entries.map(|(name, value)| (name.to_owned(), value)))
    }

    /// Creates what is not there of a collection.
    ///
    /// # Errors
    /// `Refused`: it is there with other options.
    pub(super) async fn create(&self, api: &Api, collection: &Collection) -> BackendResult<()> {
        let key = &collection.key;
        let tokenizer = serde_json::to_value(collection.options.tokenizer)
            .map_err(|error| convert::protocol(error.to_string()))?;
        let mut metadata = self.metadata(Kind::Heads, key);
        metadata.insert(TOKENIZER.to_owned(), tokenizer.clone());
        let name = names::physical(&self.prefix, Kind::Heads, key);
        let heads = api.create_collection(&name, &metadata, json!({})).await?;
        self.check(&heads, Kind::Heads, key)?;
        let held = heads.metadata.as_ref().and_then(|held| held.get(TOKENIZER));
        if held != Some(&tokenizer) {
            return Err(other_options(format!("its tokenizer is not {tokenizer}")));
        }
        match &collection.options.embedding_space {
            Some(space) => self.create_vectors(api, key, space).await,
            None => Ok(()),
        }
    }

    async fn create_vectors(
        &self,
        api: &Api,
        key: &CollectionKey,
        space: &EmbeddingSpace,
    ) -> BackendResult<()> {
        let Some(server_space) = convert::space(space.metric) else {
            return Err(BackendError::unsupported(format!(
                "the metric {:?}",
                space.metric
            )));
        };
        let mut metadata = self.metadata(Kind::Vectors, key);
        metadata.insert(MODEL.to_owned(), json!(space.model));
        metadata.insert(DIMENSION.to_owned(), json!(space.dimension));
        metadata.insert(METRIC.to_owned(), json!(space.metric));
        let mut hnsw = json!({ "space": server_space });
        for (name, value) in [
            ("ef_construction", self.hnsw.ef_construction),
            ("ef_search", self.hnsw.ef_search),
            ("max_neighbors", self.hnsw.max_neighbors),
        ] {
            if let Some(value) = value {
                hnsw[name] = value.into();
            }
        }
        let name = names::physical(&self.prefix, Kind::Vectors, key);
        let created = api.create_collection(&name, &metadata, hnsw).await?;
        self.check(&created, Kind::Vectors, key)?;
        let held = vectors(created)?;
        if held.space != *space {
            return Err(other_options(format!(
                "its embedding space is {:?}, not {space:?}",
                held.space
            )));
        }
        Ok(())
    }

    /// Removes both of a collection: the vectors first, for nothing finds them without heads.
    pub(super) async fn drop(&self, api: &Api, key: &CollectionKey) -> BackendResult<()> {
        self.forget(key);
        for kind in [Kind::Vectors, Kind::Heads] {
            if let Some(found) = self.find(api, kind, key).await? {
                api.drop_collection(&found.name).await?;
            }
        }
        self.forget(key);
        Ok(())
    }

    /// The collections of this store, each with the server's id of its heads.
    pub(super) async fn list(&self, api: &Api) -> BackendResult<Vec<(CollectionKey, String)>> {
        let mut list = Vec::new();
        for found in api.collections().await? {
            let Some(metadata) = &found.metadata else {
                continue;
            };
            let ours = text(metadata, PREFIX) == Some(&self.prefix)
                && text(metadata, KIND) == Some(Kind::Heads.as_str());
            if !ours {
                continue;
            }
            let generation = text(metadata, GENERATION).and_then(|text| text.parse().ok());
            let (Some(name), Some(generation)) = (text(metadata, NAME), generation) else {
                return Err(damaged(&found.name));
            };
            let key = CollectionKey::new(name, generation);
            // A copy under another name is not the collection.
            if names::physical(&self.prefix, Kind::Heads, &key) == found.name {
                check_format(&found)?;
                list.push((key, found.id));
            }
        }
        Ok(list)
    }
}

fn damaged(name: &str) -> BackendError {
    BackendError::new(
        BackendErrorKind::Damaged,
        format!("the metadata of the collection {name:?} on the server is incomplete"),
    )
    .not_applied()
}

fn other_options(what: String) -> BackendError {
    BackendError::new(
        BackendErrorKind::Refused,
        format!("the collection exists with other options: {what}"),
    )
    .not_applied()
}

/// The vectors in a collection of ours.
fn vectors(found: ServerCollection) -> BackendResult<Vectors> {
    let metadata = found.metadata.as_ref();
    let space = metadata.and_then(|metadata| {
        Some(EmbeddingSpace {
            model: text(metadata, MODEL)?.to_owned(),
            dimension: u32::try_from(metadata.get(DIMENSION)?.as_u64()?).ok()?,
            metric: serde_json::from_value::<Metric>(metadata.get(METRIC)?.clone()).ok()?,
        })
    });
    let Some(space) = space else {
        return Err(damaged(&found.name));
    };
    if let Some(held) = found.dimension
        && held != u64::from(space.dimension)
    {
        return Err(config_error(format!(
            "the collection {:?} on the server holds vectors of dimension {held}, its metadata \
             says {}",
            found.name, space.dimension
        )));
    }
    Ok(Vectors {
        id: found.id,
        space,
    })
}
