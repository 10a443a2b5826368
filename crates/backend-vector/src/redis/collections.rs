//! Collections: made, filled in, removed.

use dbmanager_core::{
    backend::{
        BackendError, BackendErrorKind, BackendResult, CreateCollectionRequest,
        DropCollectionRequest,
    },
    model::{CollectionKey, CollectionOptions, EmbeddingSpace, Metric},
};
use redis::{Cmd, Value, cmd};

use super::{
    config::{Algorithm, Engine},
    convert::{damaged, is_missing_index, list, optional_text, pairs, take, text},
    keys::{CollectionKeys, ordered},
    server::FORMAT,
    store::{Redis, collection_json, detail, other_layout, outcome, parse_collection, stale_epoch},
};

/// Documents that one step of a removal takes.
const SWEPT_AT_ONCE: usize = 200;
/// How often a creation is repeated because another one came between.
const MOST_REPEATS: usize = 8;

impl Redis {
    pub(super) async fn create(&self, request: CreateCollectionRequest) -> BackendResult<()> {
        let key = &request.collection.key;
        let keys = self.keys.collection(key);
        for _ in 0..MOST_REPEATS {
            let held = self.registered(&keys, request.epoch).await?;
            let options = match &held {
                Some(json) => merge(&parse_collection(json)?.1, &request.collection.options)?,
                None => request.collection.options.clone(),
            };
            if let Some(space) = &options.embedding_space {
                let empty = match &held {
                    Some(json) => parse_collection(json)?.1.embedding_space.is_none(),
                    None => true,
                };
                self.make_index(&keys, space, empty).await?;
            }
            let json = collection_json(key, &options)?;
            let expected = held.unwrap_or_default();
            if expected == json {
                return Ok(());
            }
            if self
                .register(&keys, request.epoch, &expected, &json)
                .await?
            {
                self.forget(key);
                return Ok(());
            }
        }
        Err(BackendError::new(
            BackendErrorKind::Unavailable,
            format!("collection {key} is being changed by others"),
        )
        .not_applied())
    }

    /// The collection's JSON, if it is there; refuses an epoch that is over.
    async fn registered(&self, keys: &CollectionKeys, epoch: u64) -> BackendResult<Option<String>> {
        let mut read_epoch = cmd("HGET");
        read_epoch.arg(&self.keys.store).arg("epoch");
        let mut read = cmd("HGET");
        read.arg(&self.keys.collections).arg(&keys.name);
        let mut answers = self
            .session
            .call_all(vec![read_epoch, read])
            .await?
            .into_iter();
        let mut next = || answers.next().unwrap_or(Ok(Value::Nil));
        if let Some(held) = optional_text("the epoch", next()?)?
            && held > ordered(epoch)
        {
            return Err(stale_epoch(epoch, &held));
        }
        optional_text("a collection", next()?)
    }

    /// Whether the collection was registered; `false` if it is no longer as expected.
    async fn register(
        &self,
        keys: &CollectionKeys,
        epoch: u64,
        expected: &str,
        json: &str,
    ) -> BackendResult<bool> {
        let mut call = self.session.scripts().register.on(&[
            &self.keys.store,
            &self.keys.collections,
            &self.keys.dropped,
        ]);
        call.arg(FORMAT)
            .arg(self.engine().as_str())
            .arg(ordered(epoch))
            .arg(&keys.name)
            .arg(expected)
            .arg(json);
        let (outcome, rest) = outcome(self.session.call(call).await?)?;
        match outcome.as_str() {
            "registered" => Ok(true),
            "changed" => Ok(false),
            // A removal that did not come to its end goes first.
            "dropped" => self.sweep(keys).await.map(|()| false),
            "stale" => Err(stale_epoch(epoch, &detail(rest)?)),
            "layout" => Err(other_layout(rest)),
            other => Err(damaged(format!("the script answered {other:?}"))),
        }
    }

    /// Makes what searches look at. `empty`: no vector of the collection is stored yet.
    async fn make_index(
        &self,
        keys: &CollectionKeys,
        space: &EmbeddingSpace,
        empty: bool,
    ) -> BackendResult<()> {
        match self.engine() {
            Engine::VectorSets if space.metric != Metric::Cosine => {
                Err(BackendError::unsupported(format!(
                    "the metric {:?} of a vector set, which knows cosine,",
                    space.metric
                )))
            }
            // The first vector makes the set.
            Engine::VectorSets => Ok(()),
            Engine::QueryEngine => {
                let create = self.create_index(keys, space, empty);
                match self.session.call(create).await {
                    Ok(_) => {
                        self.forget_whole(&keys.index);
                        Ok(())
                    }
                    Err(error) if error.message().contains("index already exists") => {
                        self.check_index(keys, space).await
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }

    fn create_index(&self, keys: &CollectionKeys, space: &EmbeddingSpace, empty: bool) -> Cmd {
        let mut create = cmd("FT.CREATE");
        create.arg(&keys.index).arg("ON").arg("HASH");
        create.arg("PREFIX").arg(1).arg(&keys.chunk);
        if empty {
            create.arg("SKIPINITIALSCAN");
        }
        create.arg("SCHEMA").arg("e").arg("VECTOR");
        let metric = metric_name(space.metric);
        let mut attributes = vec![
            ("TYPE", "FLOAT32".to_owned()),
            ("DIM", space.dimension.to_string()),
            ("DISTANCE_METRIC", metric.to_owned()),
        ];
        match self.index.algorithm {
            Algorithm::Flat => {
                create.arg("FLAT");
            }
            Algorithm::Hnsw => {
                create.arg("HNSW");
                attributes.push(("M", self.index.connectivity.to_string()));
                attributes.push(("EF_CONSTRUCTION", self.index.expansion_add.to_string()));
                attributes.push(("EF_RUNTIME", self.index.expansion_search.to_string()));
            }
        }
        create.arg(attributes.len() * 2);
        for (name, value) in attributes {
            create.arg(name).arg(value);
        }
        create
            .arg("t")
            .arg("TAG")
            .arg("SEPARATOR")
            .arg(",")
            .arg("CASESENSITIVE");
        create
    }

    /// Refuses an index of this name that is not the one that would be made.
    async fn check_index(
        &self,
        keys: &CollectionKeys,
        space: &EmbeddingSpace,
    ) -> BackendResult<()> {
        let mut info = cmd("FT.INFO");
        info.arg(&keys.index);
        let mut info = pairs("FT.INFO", self.session.call(info).await?)?;
        let definition = take(&mut info, "index_definition").unwrap_or(Value::Nil);
        let mut definition = pairs("FT.INFO", definition)?;
        let prefixes = take(&mut definition, "prefixes").unwrap_or(Value::Nil);
        let prefixes = list("FT.INFO", prefixes)?
            .into_iter()
            .map(|prefix| text("FT.INFO", prefix))
            .collect::<BackendResult<Vec<_>>>()?;
        let found = list(
            "FT.INFO",
            take(&mut info, "attributes").unwrap_or(Value::Nil),
        )?
        .into_iter()
        .map(describe)
        .collect::<BackendResult<Vec<_>>>()?;
        let expected = format!(
            "e VECTOR FLOAT32 {} {}",
            space.dimension,
            metric_name(space.metric)
        );
        if prefixes == [keys.chunk.as_str()] && found == [expected.as_str(), "t TAG"] {
            return Ok(());
        }
        Err(damaged(format!(
            "there is an index {:?} over {prefixes:?} with {found:?}, where {expected:?} over {:?} \
             is needed; drop it",
            keys.index, keys.chunk
        ))
        .not_applied())
    }

    pub(super) async fn remove(&self, request: DropCollectionRequest) -> BackendResult<()> {
        let keys = self.keys.collection(&request.collection);
        let mut call = self.session.scripts().drop.on(&[
            &self.keys.store,
            &self.keys.collections,
            &self.keys.highest,
            &self.keys.dropped,
        ]);
        call.arg(ordered(request.epoch)).arg(&keys.name);
        let (outcome, rest) = outcome(self.session.call(call).await?)?;
        self.forget_collection(&request.collection, &keys);
        match outcome.as_str() {
            "absent" => Ok(()),
            "dropped" => self.sweep(&keys).await,
            "stale" => Err(stale_epoch(request.epoch, &detail(rest)?)),
            other => Err(damaged(format!("the script answered {other:?}"))),
        }
    }

    fn forget_collection(&self, key: &CollectionKey, keys: &CollectionKeys) {
        self.forget(key);
        self.forget_whole(&keys.index);
    }

    /// Removes what a dropped collection left, step by step. The index goes first, so that it
    /// does not follow every step.
    async fn sweep(&self, keys: &CollectionKeys) -> BackendResult<()> {
        if self.engine() == Engine::QueryEngine {
            let mut drop = cmd("FT.DROPINDEX");
            drop.arg(&keys.index);
            match self.session.call(drop).await {
                Err(error) if !is_missing_index(error.message()) => return Err(error),
                _ => {}
            }
        }
        loop {
            let mut call = self.session.scripts().sweep.on(&[
                &self.keys.collections,
                &self.keys.dropped,
                &keys.ids,
                &keys.odd,
                &keys.vectors,
            ]);
            call.arg(&keys.name)
                .arg(keys.document(""))
                .arg(&keys.chunk)
                .arg(self.engine().as_str())
                .arg(SWEPT_AT_ONCE);
            if outcome(self.session.call(call).await?)?.0 == "swept" {
                return Ok(());
            }
        }
    }
}

fn metric_name(metric: Metric) -> &'static str {
    match metric {
        Metric::Dot => "IP",
        Metric::Euclidean => "L2",
        _ => "COSINE",
    }
}

/// A field of an index in short.
fn describe(attribute: Value) -> BackendResult<String> {
    let mut fields = pairs("FT.INFO", attribute)?;
    let mut parts = Vec::new();
    for key in ["identifier", "type", "data_type", "dim", "distance_metric"] {
        match take(&mut fields, key) {
            None => {}
            Some(Value::Int(number)) => parts.push(number.to_string()),
            Some(value) => parts.push(text("FT.INFO", value)?),
        }
    }
    Ok(parts.join(" "))
}

/// The options after `new` was asked for.
fn merge(held: &CollectionOptions, new: &CollectionOptions) -> BackendResult<CollectionOptions> {
    held.filled_in(new)
        .ok_or_else(|| super::convert::refused("the collection exists with other options"))
}
