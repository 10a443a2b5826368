//! Who the store belongs to: one point in a collection of its own.

use std::collections::HashMap;

use dbmanager_core::{
    backend::{BackendError, BackendErrorKind, BackendResult, Identity, Stamp, StampRequest},
    model::Version,
};
use qdrant_client::qdrant::{
    Condition, CreateCollection, Direction, Filter as Conditions, OrderBy, PointId, PointStruct,
    PointsUpdateOperation, RetrievedPoint, ScrollPoints, Value, VectorParamsMap, VectorsConfig,
    WriteOrdering, WriteOrderingType,
    r#match::MatchValue,
    point_id::PointIdOptions,
    points_update_operation::{Operation, PointStructList},
    vectors_config,
};

use super::{
    client::Selection,
    collections::{check_format, metadata},
    convert::status_error,
    filter::{matches, within},
    layout::{self, COUNTER, MILLISECONDS, Payload, integer, is_head, stamp_name, text},
    store::Qdrant,
};

const STORE: &str = "store_id";
const JOURNAL: &str = "journal_id";
/// The epoch in halves of 32 bits, for the server compares integers as `f64`.
const EPOCH_HIGH: &str = "epoch_high";
const EPOCH_LOW: &str = "epoch_low";
const PROGRESS_MILLISECONDS: &str = "progress_milliseconds";
const PROGRESS_COUNTER: &str = "progress_counter";

/// Points of a page when heads are read one after the other.
const PAGE: u32 = 1_000;

fn point_id() -> PointId {
    PointId {
        point_id_options: Some(PointIdOptions::Num(1)),
    }
}

fn halves(number: u64) -> (u64, u64) {
    (number >> 32, number & 0xffff_ffff)
}

fn payload(stamp: &Stamp) -> HashMap<String, Value> {
    let (high, low) = halves(stamp.epoch);
    [
        (STORE, text(stamp.store_id.to_string())),
        (JOURNAL, text(stamp.journal_id.to_string())),
        (EPOCH_HIGH, integer(high as i64)),
        (EPOCH_LOW, integer(low as i64)),
        (
            PROGRESS_MILLISECONDS,
            integer(stamp.progress.milliseconds() as i64),
        ),
        (PROGRESS_COUNTER, integer(stamp.progress.counter())),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

fn parse(point: &RetrievedPoint) -> BackendResult<Stamp> {
    let payload = Payload(&point.payload);
    let wrong = |key| {
        let message = format!("the stamp's {key} is no UUID");
        BackendError::new(BackendErrorKind::Damaged, message)
    };
    let store_id = payload.text(STORE)?.parse().map_err(|_| wrong(STORE))?;
    let journal_id = payload.text(JOURNAL)?.parse().map_err(|_| wrong(JOURNAL))?;
    let (high, low): (u32, u32) = (payload.integer(EPOCH_HIGH)?, payload.integer(EPOCH_LOW)?);
    Ok(Stamp {
        store_id,
        journal_id,
        epoch: u64::from(high) << 32 | u64::from(low),
        progress: payload.version(PROGRESS_MILLISECONDS, PROGRESS_COUNTER)?,
    })
}

/// Stamps whose place the requested one may take: [`StampRequest::check_over`] as a condition.
fn replaceable(request: &StampRequest) -> Conditions {
    let new = &request.stamp;
    // Not above is below the next one.
    let (high, low) = halves(new.epoch.saturating_add(1));
    let progress = Version::from_u64(new.progress.as_u64().saturating_add(1));
    let keyword = |key, value: String| matches(key, MatchValue::Keyword(value));
    let store = keyword(STORE, new.store_id.to_string());
    let journal = keyword(JOURNAL, new.journal_id.to_string());
    let epoch = layout::lower((EPOCH_HIGH, high), (EPOCH_LOW, low));
    let progress = layout::lower(
        (PROGRESS_MILLISECONDS, progress.milliseconds()),
        (PROGRESS_COUNTER, progress.counter().into()),
    );
    let successor = Conditions {
        must: vec![store.clone(), journal.clone(), epoch.clone(), progress],
        ..Conditions::default()
    };
    if !request.replace {
        return successor;
    }
    let of_another_journal = Conditions {
        must_not: vec![journal],
        ..Conditions::default()
    };
    let of_another_store = Conditions {
        must: vec![epoch],
        must_not: vec![store],
        ..Conditions::default()
    };
    Conditions {
        should: [successor, of_another_journal, of_another_store]
            .map(within)
            .into(),
        ..Conditions::default()
    }
}

impl Qdrant {
    pub(super) async fn read_stamp(&self) -> BackendResult<Option<Stamp>> {
        let name = stamp_name(&self.prefix);
        let found = self
            .client
            .get(&name, vec![point_id()], Selection::PAYLOAD)
            .await;
        match found {
            Ok(points) => points.first().map(parse).transpose(),
            Err(error) if error.kind() == BackendErrorKind::CollectionMissing => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Refuses a write of a manager that another one has followed. The server has no statement
    /// that reads one point and writes another, so a write that is already on its way may still
    /// land; being a version of its own it does no harm.
    pub(super) async fn check_epoch(&self, epoch: u64) -> BackendResult<()> {
        match self.read_stamp().await? {
            Some(held) => held.check_epoch(epoch),
            None => Ok(()),
        }
    }

    pub(super) async fn stamp(&self, request: StampRequest) -> BackendResult<()> {
        let new = &request.stamp;
        if let Some(held) = self.read_stamp().await? {
            request.check_over(&held)?;
        }
        let name = stamp_name(&self.prefix);
        self.ensure_stamp_collection(&name).await?;
        let list = PointStructList {
            points: vec![PointStruct {
                id: Some(point_id()),
                payload: payload(new),
                vectors: layout::no_vectors(),
            }],
            update_filter: Some(replaceable(&request)),
            ..PointStructList::default()
        };
        let operation = PointsUpdateOperation {
            operation: Some(Operation::Upsert(list)),
        };
        let strong = WriteOrdering {
            r#type: WriteOrderingType::Strong as i32,
        };
        let sent = self.client.update(&name, vec![operation], Some(strong));
        sent.await?.map_err(status_error)?;
        // The server answers alike whether or not the condition held.
        match self.read_stamp().await? {
            Some(held) if held == *new => Ok(()),
            held => {
                if let Some(held) = held {
                    request.check_over(&held)?;
                }
                Err(BackendError::new(
                    BackendErrorKind::Unavailable,
                    "the stamp that was written is not there yet",
                ))
            }
        }
    }

    async fn ensure_stamp_collection(&self, name: &str) -> BackendResult<()> {
        if let Some(info) = self.client.collection(name).await? {
            return check_format(name, &info);
        }
        let message = CreateCollection {
            collection_name: name.to_owned(),
            vectors_config: Some(VectorsConfig {
                config: Some(vectors_config::Config::ParamsMap(VectorParamsMap::default())),
            }),
            metadata: metadata(None),
            ..self.placed()
        };
        let created = self.client.create_collection(message).await;
        // Another manager may have been faster.
        match (created, self.client.collection(name).await?) {
            (_, Some(info)) => check_format(name, &info),
            (created, None) => created,
        }
    }

    pub(super) async fn read_identity(&self) -> BackendResult<Identity> {
        let stamp = self.read_stamp().await?;
        let mut highest = None;
        for name in self.physical_names().await? {
            highest = highest.max(self.highest_version(&name).await?);
        }
        Ok(Identity::new(stamp, highest, highest.is_none()))
    }

    /// The highest version of the server's collection; `None` if it holds none or is gone.
    async fn highest_version(&self, name: &str) -> BackendResult<Option<Version>> {
        let Some(info) = self.client.collection(name).await? else {
            return Ok(None);
        };
        check_format(name, &info)?;
        let indexed = |field| info.payload_schema.contains_key(field);
        let found = if indexed(MILLISECONDS) && indexed(COUNTER) {
            self.highest_by_index(name).await
        } else {
            // Whoever created the collection was interrupted, or someone has removed an index.
            self.highest_by_scan(name).await
        };
        match found {
            Err(error) if error.kind() == BackendErrorKind::CollectionMissing => Ok(None),
            other => other,
        }
    }

    async fn highest_by_index(&self, name: &str) -> BackendResult<Option<Version>> {
        let Some(newest) = self.last_head(name, MILLISECONDS, vec![is_head()]).await? else {
            return Ok(None);
        };
        let milliseconds: i64 = Payload(&newest.payload).integer(MILLISECONDS)?;
        let same = matches(MILLISECONDS, MatchValue::Integer(milliseconds));
        let last = self.last_head(name, COUNTER, vec![is_head(), same]).await?;
        let mut highest = None;
        // The first may have been replaced by a newer version meanwhile, and be missing here.
        for point in [Some(newest), last].into_iter().flatten() {
            highest = highest.max(Some(Payload(&point.payload).head()?.head.version));
        }
        Ok(highest)
    }

    /// The head with the highest value of an indexed field.
    async fn last_head(
        &self,
        name: &str,
        field: &str,
        must: Vec<Condition>,
    ) -> BackendResult<Option<RetrievedPoint>> {
        let message = ScrollPoints {
            collection_name: name.to_owned(),
            filter: Some(Conditions {
                must,
                ..Conditions::default()
            }),
            limit: Some(1),
            order_by: Some(OrderBy {
                key: field.to_owned(),
                direction: Some(Direction::Desc as i32),
                start_from: None,
            }),
            ..ScrollPoints::default()
        };
        let (points, _) = self.client.scroll(message).await?;
        Ok(points.into_iter().next())
    }

    async fn highest_by_scan(&self, name: &str) -> BackendResult<Option<Version>> {
        let (mut highest, mut offset) = (None, None);
        loop {
            let message = ScrollPoints {
                collection_name: name.to_owned(),
                filter: Some(Conditions {
                    must: vec![is_head()],
                    ..Conditions::default()
                }),
                offset,
                limit: Some(PAGE),
                ..ScrollPoints::default()
            };
            let (points, next) = self.client.scroll(message).await?;
            for point in &points {
                let version = Payload(&point.payload).head()?.head.version;
                highest = highest.max(Some(version));
            }
            if next.is_none() {
                return Ok(highest);
            }
            offset = next;
        }
    }
}
