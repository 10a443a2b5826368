//! Collections: one of the server's for each, with its name and options in the metadata.

use std::{collections::HashMap, sync::Arc};

use dbmanager_core::{
    backend::{
        BackendError, BackendErrorKind, BackendResult, CreateCollectionRequest,
        DropCollectionRequest,
    },
    model::{CollectionKey, CollectionOptions, EmbeddingSpace},
};
use qdrant_client::qdrant::{
    CollectionInfo, CreateCollection, CreateFieldIndexCollection, CreateVectorNameRequest,
    DenseVectorCreationConfig, UpdateCollection, Value, VectorParams, VectorParamsMap,
    VectorsConfig, create_vector_name_request, value::Kind, vectors_config,
};

use super::{
    layout::{self, FORMAT, INDEXES, Payload, VECTOR, integer, object, physical_name, text},
    store::Qdrant,
};

/// Under which key of a collection's metadata ours stands.
const METADATA: &str = "dbmanager";
const FORMAT_KEY: &str = "format";
const NAME: &str = "name";
const GENERATION: &str = "generation";
const OPTIONS: &str = "options";

/// A collection as the server has it.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// The server's name.
    pub(super) name: String,
    pub(super) key: CollectionKey,
    pub(super) options: CollectionOptions,
}

impl Held {
    /// The embedding space; absent as long as no vector can be written.
    pub(super) fn space(&self) -> Option<&EmbeddingSpace> {
        self.options.embedding_space.as_ref()
    }

    /// The error for "not found" in a call on this collection.
    pub(super) fn missing(&self) -> BackendError {
        missing(&self.key)
    }
}

fn missing(key: &CollectionKey) -> BackendError {
    BackendError::new(
        BackendErrorKind::CollectionMissing,
        format!("the collection {key} was not created here"),
    )
    .not_applied()
}

fn refused(message: String) -> BackendError {
    BackendError::new(BackendErrorKind::Refused, message).not_applied()
}

fn damaged(message: String) -> BackendError {
    BackendError::new(BackendErrorKind::Damaged, message)
}

/// What our metadata says of a collection or of the stamp's.
pub(super) fn metadata(key: Option<(&CollectionKey, &str)>) -> HashMap<String, Value> {
    let mut fields = vec![(FORMAT_KEY, integer(FORMAT))];
    if let Some((key, options)) = key {
        fields.push((NAME, text(&*key.name)));
        fields.push((GENERATION, text(key.generation.to_string())));
        fields.push((OPTIONS, text(options)));
    }
    [(METADATA.to_owned(), object(fields))].into()
}

/// Our metadata, of a format that this version reads.
///
/// # Errors
/// `Config`: the collection is not ours, or a newer version has made it.
fn own_metadata<'a>(
    name: &str,
    info: &'a CollectionInfo,
) -> BackendResult<&'a HashMap<String, Value>> {
    let config = |message| BackendError::new(BackendErrorKind::Config, message).not_applied();
    let value = info.config.as_ref().and_then(|c| c.metadata.get(METADATA));
    let Some(Kind::StructValue(ours)) = value.and_then(|value| value.kind.as_ref()) else {
        return Err(config(format!(
            "the server's collection {name:?} was not made by this library; choose another \
             collection_prefix"
        )));
    };
    let format: i64 = Payload(&ours.fields).integer(FORMAT_KEY)?;
    if format != FORMAT {
        return Err(config(format!(
            "the server's collection {name:?} has the format {format}; this version reads {FORMAT}"
        )));
    }
    Ok(&ours.fields)
}

/// Whether the server's collection is ours and of a format that this version reads.
///
/// # Errors
/// As [`own_metadata`].
pub(super) fn check_format(name: &str, info: &CollectionInfo) -> BackendResult<()> {
    own_metadata(name, info).map(drop)
}

/// The collection whose metadata these are.
pub(super) fn read(name: &str, info: &CollectionInfo) -> BackendResult<Held> {
    let fields = Payload(own_metadata(name, info)?);
    let wrong = |what: &str| damaged(format!("the metadata of {name:?} has a wrong {what}"));
    let generation = fields.text(GENERATION)?;
    let generation = generation.parse().map_err(|_| wrong(GENERATION))?;
    let options = serde_json::from_str(fields.text(OPTIONS)?).map_err(|_| wrong(OPTIONS))?;
    Ok(Held {
        name: name.to_owned(),
        key: CollectionKey::new(fields.text(NAME)?, generation),
        options,
    })
}

/// The options after `new` was asked for.
fn merge(held: &Held, new: &CollectionOptions) -> BackendResult<CollectionOptions> {
    held.options.filled_in(new).ok_or_else(|| {
        refused(format!(
            "the collection {} exists with other options",
            held.key
        ))
    })
}

fn vector_params(space: &EmbeddingSpace, on_disk: bool) -> BackendResult<VectorParams> {
    let distance = layout::distance(space.metric)
        .ok_or_else(|| BackendError::unsupported(format!("the metric {:?}", space.metric)))?;
    Ok(VectorParams {
        size: space.dimension.into(),
        distance: distance as i32,
        // Its successor `memory` is not known to servers before 1.19.
        #[expect(deprecated)]
        on_disk: on_disk.then_some(true),
        ..VectorParams::default()
    })
}

/// The vectors that the server's collection holds.
fn server_vectors(info: &CollectionInfo) -> Option<&VectorParams> {
    let params = info.config.as_ref()?.params.as_ref()?;
    match params.vectors_config.as_ref()?.config.as_ref()? {
        vectors_config::Config::ParamsMap(named) => named.map.get(VECTOR),
        vectors_config::Config::Params(_) => None,
    }
}

/// Whether the server's collection takes the vectors of this space.
fn check_vectors(name: &str, info: &CollectionInfo, space: &EmbeddingSpace) -> BackendResult<bool> {
    let Some(found) = server_vectors(info) else {
        return Ok(false);
    };
    let wanted = vector_params(space, false)?;
    if (found.size, found.distance) != (wanted.size, wanted.distance) {
        return Err(refused(format!(
            "the server's collection {name:?} has vectors of {} numbers compared by {:?}, not of \
             {} by {:?}",
            found.size,
            found.distance(),
            wanted.size,
            wanted.distance()
        )));
    }
    Ok(true)
}

impl Qdrant {
    /// The collection, read from the server unless it is known with its embedding space, which
    /// never changes then.
    pub(super) async fn held(&self, key: &CollectionKey) -> BackendResult<Arc<Held>> {
        if let Some(held) = self.known(key)
            && held.space().is_some()
        {
            return Ok(held);
        }
        self.fresh(key).await
    }

    /// The collection, read from the server.
    pub(super) async fn fresh(&self, key: &CollectionKey) -> BackendResult<Arc<Held>> {
        let name = physical_name(&self.prefix, key);
        let Some(info) = self.client.collection(&name).await? else {
            self.forget(key);
            return Err(missing(key));
        };
        let held = read(&name, &info)?;
        if held.key != *key {
            return Err(damaged(format!(
                "the server's collection {name:?} says that it is {}, not {key}",
                held.key
            )));
        }
        let held = Arc::new(held);
        self.remember(Arc::clone(&held));
        Ok(held)
    }

    /// The server's names of all collections with our prefix but the stamp's.
    pub(super) async fn physical_names(&self) -> BackendResult<Vec<String>> {
        let ours = format!("{}.", self.prefix);
        let stamp = layout::stamp_name(&self.prefix);
        let mut names = self.client.collection_names().await?;
        names.retain(|name| name.starts_with(&ours) && *name != stamp);
        Ok(names)
    }

    pub(super) async fn create(&self, request: CreateCollectionRequest) -> BackendResult<()> {
        self.check_epoch(request.epoch).await?;
        let (key, options) = (request.collection.key, request.collection.options);
        let name = physical_name(&self.prefix, &key);
        if self.client.collection(&name).await?.is_none() {
            let created = self.create_on_server(&name, &key, &options).await;
            // Another manager may have been faster: then what it has made counts.
            if let Err(error) = created
                && self.client.collection(&name).await?.is_none()
            {
                return Err(error);
            }
        }
        self.complete(&name, &key, &options).await
    }

    async fn create_on_server(
        &self,
        name: &str,
        key: &CollectionKey,
        options: &CollectionOptions,
    ) -> BackendResult<()> {
        let mut vectors = VectorParamsMap::default();
        if let Some(space) = &options.embedding_space {
            let params = vector_params(space, self.placement.on_disk)?;
            vectors.map.insert(VECTOR.to_owned(), params);
        }
        let options = options_text(options)?;
        let message = CreateCollection {
            collection_name: name.to_owned(),
            vectors_config: Some(VectorsConfig {
                config: Some(vectors_config::Config::ParamsMap(vectors)),
            }),
            metadata: metadata(Some((key, &options))),
            ..self.placed()
        };
        self.client.create_collection(message).await
    }

    /// Makes up what a collection that is there lacks: its embedding space, and the indexes, if
    /// whoever created it was interrupted.
    async fn complete(
        &self,
        name: &str,
        key: &CollectionKey,
        asked: &CollectionOptions,
    ) -> BackendResult<()> {
        let held = self.fresh(key).await?;
        let merged = merge(&held, asked)?;
        let info = self.client.collection(name).await?;
        let info = info.ok_or_else(|| held.missing())?;
        if let Some(space) = &merged.embedding_space
            && !check_vectors(name, &info, space)?
        {
            self.add_vectors(name, space).await?;
        }
        if merged != held.options {
            let options = options_text(&merged)?;
            let message = UpdateCollection {
                collection_name: name.to_owned(),
                metadata: metadata(Some((key, &options))),
                ..UpdateCollection::default()
            };
            self.client.update_collection(message).await?;
        }
        for (field, field_type) in INDEXES {
            if !info.payload_schema.contains_key(field) {
                let message = CreateFieldIndexCollection {
                    collection_name: name.to_owned(),
                    field_name: field.to_owned(),
                    field_type: Some(field_type as i32),
                    ..CreateFieldIndexCollection::default()
                };
                self.client.create_index(message).await?;
            }
        }
        self.fresh(key).await.map(drop)
    }

    async fn add_vectors(&self, name: &str, space: &EmbeddingSpace) -> BackendResult<()> {
        let params = vector_params(space, self.placement.on_disk)?;
        let config = DenseVectorCreationConfig {
            size: params.size,
            distance: params.distance,
            ..DenseVectorCreationConfig::default()
        };
        let message = CreateVectorNameRequest {
            collection_name: name.to_owned(),
            vector_name: VECTOR.to_owned(),
            vector_config: Some(create_vector_name_request::VectorConfig::DenseConfig(
                config,
            )),
            ..CreateVectorNameRequest::default()
        };
        self.client.create_vector_name(message).await
    }

    pub(super) async fn remove(&self, request: DropCollectionRequest) -> BackendResult<()> {
        self.check_epoch(request.epoch).await?;
        let name = physical_name(&self.prefix, &request.collection);
        self.client.delete_collection(&name).await?;
        self.forget(&request.collection);
        Ok(())
    }

    pub(super) async fn list(&self) -> BackendResult<Vec<CollectionKey>> {
        let mut keys = Vec::new();
        for name in self.physical_names().await? {
            // One that was dropped meanwhile is no longer ours to report.
            if let Some(info) = self.client.collection(&name).await? {
                keys.push(read(&name, &info)?.key);
            }
        }
        Ok(keys)
    }

    /// A collection with the placement of the configuration and nothing else.
    pub(super) fn placed(&self) -> CreateCollection {
        CreateCollection {
            shard_number: self.placement.shard_number,
            replication_factor: self.placement.replication_factor,
            write_consistency_factor: self.placement.write_consistency_factor,
            ..CreateCollection::default()
        }
    }
}

fn options_text(options: &CollectionOptions) -> BackendResult<String> {
    serde_json::to_string(options)
        .map_err(|error| refused("the options are no JSON".to_owned()).with_source(error))
}
