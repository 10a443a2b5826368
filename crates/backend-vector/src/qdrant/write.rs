//! Applies mutations.
//!
//! The server has no transaction over several points. Each mutation is three operations, sent
//! together and carried out in this order: its chunks, of which every one is a point of its own
//! version that is only ever inserted; its head, which replaces an older one only; and the removal
//! of the document's chunks of lower versions. A reader counts the chunks of the head's version
//! and nothing else, so it sees the old set or the new one, wherever a crash falls between.

use std::{collections::VecDeque, sync::Arc};

use dbmanager_core::{
    backend::{
        ApplyRequest, BackendError, BackendErrorKind, BackendResult, DocumentState, Head, Mutation,
    },
    model::{Metric, Version},
};
use qdrant_client::qdrant::{
    Condition, Filter as Conditions, HasIdCondition, PointStruct, PointsSelector,
    PointsUpdateOperation, UpdateMode,
    condition::ConditionOneOf,
    points_selector::PointsSelectorOneOf,
    points_update_operation::{DeletePoints, Operation, PointStructList},
};

use super::{
    collections::Held,
    convert::{is_invalid, status_error},
    facts::Facts,
    filter::within,
    layout::{
        StoredHead, below, chunk_point, facts_payload, head_id, head_point, is_chunk, of_document,
    },
    read::on,
    store::Qdrant,
};

/// Documents whose heads are written with one operation: its condition has a few parts for each,
/// and a server in strict mode may limit their number.
const DOCUMENTS_A_UNIT: usize = 32;
/// Bytes of chunks, roughly, in one request.
const BYTES_A_REQUEST: usize = 4 << 20;

/// A mutation in the server's terms.
struct Prepared {
    /// Its place in the request.
    index: usize,
    id: Arc<str>,
    head: StoredHead,
    /// Rough bytes of each chunk.
    chunk_bytes: usize,
    chunks: Vec<PointStruct>,
}

impl Prepared {
    fn version(&self) -> Version {
        self.head.head.version
    }

    fn bytes(&self) -> usize {
        self.chunks.len() * self.chunk_bytes
    }
}

fn refused(message: impl Into<String>) -> BackendError {
    BackendError::new(BackendErrorKind::Refused, message).not_applied()
}

/// # Errors
/// `Refused` for vectors that the collection does not take.
fn prepare(held: &Held, index: usize, mutation: &Mutation) -> BackendResult<Prepared> {
    let record = match &mutation.state {
        DocumentState::Live(record) => Some(record),
        DocumentState::Deleted => None,
    };
    let vectors = record.map_or(&[][..], |record| &record.vectors().vectors);
    for vector in vectors {
        let numbers = vector.values.len();
        match held.space() {
            None => return Err(refused("the collection has no embedding space")),
            Some(space) if space.dimension as usize != numbers => {
                return Err(refused(format!(
                    "a vector has {numbers} numbers, the collection's have {}",
                    space.dimension
                )));
            }
            Some(_) if !vector.values.iter().all(|value| value.is_finite()) => {
                return Err(refused("a vector has a number that is not finite"));
            }
            Some(_) => {}
        }
    }
    let chunks = u32::try_from(vectors.len()).map_err(|_| refused("too many vectors"))?;
    let metric = held.space().map_or(Metric::Cosine, |space| space.metric);
    let facts = match record {
        Some(record) if !vectors.is_empty() => Facts::of(record.document()),
        _ => Facts::default(),
    };
    let payload = facts_payload(&facts);
    let points = (0..).zip(vectors).map(|(ordinal, vector)| {
        chunk_point(
            &mutation.id,
            mutation.version,
            ordinal,
            vector,
            metric,
            &payload,
        )
    });
    let numbers = vectors.first().map_or(0, |vector| vector.values.len());
    Ok(Prepared {
        index,
        id: Arc::clone(&mutation.id),
        head: StoredHead {
            head: Head {
                version: mutation.version,
                deleted: record.is_none(),
            },
            chunks,
        },
        chunk_bytes: 256 + 2 * mutation.id.len() + 4 * numbers + facts.bytes(),
        chunks: points.collect(),
    })
}

fn operation(operation: Operation) -> PointsUpdateOperation {
    PointsUpdateOperation {
        operation: Some(operation),
    }
}

fn any(should: Vec<Condition>) -> Conditions {
    Conditions {
        should,
        ..Conditions::default()
    }
}

fn all(must: Vec<Condition>) -> Condition {
    within(Conditions {
        must,
        ..Conditions::default()
    })
}

/// Inserts these chunks; what is there already has the same content.
fn insert_chunks(points: Vec<PointStruct>) -> PointsUpdateOperation {
    operation(Operation::Upsert(PointStructList {
        points,
        update_mode: Some(UpdateMode::InsertOnly as i32),
        ..PointStructList::default()
    }))
}

/// Writes the heads; one that is there is replaced only by a higher version.
fn raise_heads(unit: &[Prepared]) -> PointsUpdateOperation {
    let lower = unit.iter().map(|item| {
        let this = Condition {
            condition_one_of: Some(ConditionOneOf::HasId(HasIdCondition {
                has_id: vec![head_id(&item.id)],
            })),
        };
        all(vec![this, below(item.version())])
    });
    operation(Operation::Upsert(PointStructList {
        update_filter: Some(any(lower.collect())),
        points: unit.iter().map(|i| head_point(&i.id, i.head)).collect(),
        ..PointStructList::default()
    }))
}

/// Removes the chunks of each document that are below this version.
fn sweep<'a>(below_these: impl IntoIterator<Item = (&'a str, Version)>) -> PointsUpdateOperation {
    let old = below_these
        .into_iter()
        .map(|(id, version)| all(vec![of_document(id), below(version)]));
    let filter = Conditions {
        must: vec![is_chunk()],
        ..any(old.collect())
    };
    operation(Operation::DeletePoints(DeletePoints {
        points: Some(PointsSelector {
            points_selector_one_of: Some(PointsSelectorOneOf::Filter(filter)),
        }),
        shard_key_selector: None,
    }))
}

/// The requests that apply the unit, in order. Only a set too big for one is spread over several.
fn requests(unit: &mut [Prepared]) -> Vec<Vec<PointsUpdateOperation>> {
    let mut requests = Vec::new();
    let (mut points, mut bytes) = (Vec::new(), 0);
    for item in unit.iter_mut() {
        for chunk in item.chunks.drain(..) {
            if bytes > 0 && bytes + item.chunk_bytes > BYTES_A_REQUEST {
                requests.push(vec![insert_chunks(std::mem::take(&mut points))]);
                bytes = 0;
            }
            points.push(chunk);
            bytes += item.chunk_bytes;
        }
    }
    let mut last = Vec::new();
    if !points.is_empty() {
        last.push(insert_chunks(points));
    }
    last.push(raise_heads(unit));
    last.push(sweep(unit.iter().map(|item| (&*item.id, item.version()))));
    requests.push(last);
    requests
}

impl Qdrant {
    pub(super) async fn write(
        &self,
        request: &ApplyRequest,
    ) -> BackendResult<Vec<BackendResult<()>>> {
        self.check_epoch(request.epoch).await?;
        let held = self.held(&request.collection).await?;
        let mut answers = vec![Ok(()); request.mutations.len()];
        let mut unit: Vec<Prepared> = Vec::new();
        let mut failed: Option<BackendError> = None;
        let mut rest: VecDeque<(usize, &Mutation)> = request.mutations.iter().enumerate().collect();
        while let Some((index, mutation)) = rest.pop_front() {
            if let Some(error) = &failed {
                // The server does not answer: the rest is not even sent.
                answers[index] = Err(error.clone().not_applied());
                continue;
            }
            match prepare(&held, index, mutation) {
                Ok(item) => unit.push(item),
                Err(error) => answers[index] = Err(error),
            }
            let bytes: usize = unit.iter().map(Prepared::bytes).sum();
            if unit.len() == DOCUMENTS_A_UNIT || bytes >= BYTES_A_REQUEST || rest.is_empty() {
                failed = self
                    .write_unit(&held, &mut unit, &request.mutations, &mut answers)
                    .await;
                unit.clear();
            }
        }
        if failed.is_none() && answers.iter().all(Result::is_err) {
            // Nothing was written that would have shown that the collection is gone.
            self.read_heads(&held, []).await?;
        }
        match failed {
            Some(error) if error.kind() == BackendErrorKind::CollectionMissing => {
                self.forget(&request.collection);
                Err(error)
            }
            _ => Ok(answers),
        }
    }

    /// Applies the unit and answers for each of it. An error that concerns the server and not one
    /// document is returned, so that the rest is not tried.
    async fn write_unit(
        &self,
        held: &Held,
        unit: &mut [Prepared],
        mutations: &[Mutation],
        answers: &mut [BackendResult<()>],
    ) -> Option<BackendError> {
        if unit.is_empty() {
            // The condition of a sweep for no document would hold for every chunk.
            return None;
        }
        match self.send(held, unit).await {
            Sent::Applied => {}
            Sent::Invalid(error) if unit.len() == 1 => {
                let item = unit.first()?;
                answers[item.index] = Err(error);
                return None;
            }
            // One of them is to blame: each alone shows which.
            Sent::Invalid(_) => {
                for item in unit.iter() {
                    let again = prepare(held, item.index, &mutations[item.index]);
                    let failed = match again {
                        Ok(alone) => {
                            let unit = &mut [alone];
                            Box::pin(self.write_unit(held, unit, mutations, answers)).await
                        }
                        Err(error) => {
                            answers[item.index] = Err(error);
                            None
                        }
                    };
                    if failed.is_some() {
                        return failed;
                    }
                }
                return None;
            }
            Sent::Failed(error) => {
                for item in unit.iter() {
                    answers[item.index] = Err(error.clone());
                }
                return Some(error);
            }
        }
        if let Err(error) = self.confirm(held, unit, answers).await {
            for item in unit.iter() {
                answers[item.index] = Err(error.clone());
            }
            return Some(error);
        }
        None
    }

    async fn send(&self, held: &Held, unit: &mut [Prepared]) -> Sent {
        for request in requests(unit) {
            match self.client.update(&held.name, request, None).await {
                Ok(Ok(())) => {}
                Ok(Err(status)) if is_invalid(&status) => {
                    let error = status_error(status);
                    return Sent::Invalid(refused(error.message()).with_source(error));
                }
                Ok(Err(status)) => {
                    let error = on::<()>(held, Err(status_error(status)));
                    return error.map_or_else(Sent::Failed, |()| Sent::Applied);
                }
                Err(error) => return Sent::Failed(error),
            }
        }
        Sent::Applied
    }

    /// The server answers alike whether a head was raised or was already higher: what it holds now
    /// is read. Chunks of a version that came too late are removed.
    async fn confirm(
        &self,
        held: &Held,
        unit: &[Prepared],
        answers: &mut [BackendResult<()>],
    ) -> BackendResult<()> {
        let heads = self
            .read_heads(held, unit.iter().map(|item| &item.id))
            .await?;
        let mut late = Vec::new();
        for item in unit {
            match heads.get(&item.id).map(|head| head.head.version) {
                Some(version) if version > item.version() && item.head.chunks > 0 => {
                    late.push((&*item.id, version));
                }
                Some(version) if version >= item.version() => {}
                _ => {
                    answers[item.index] = Err(BackendError::new(
                        BackendErrorKind::Unavailable,
                        "the version that was written is not there yet",
                    ));
                }
            }
        }
        if late.is_empty() {
            return Ok(());
        }
        let sent = self
            .client
            .update(&held.name, vec![sweep(late)], None)
            .await?;
        on(held, sent.map_err(status_error))
    }
}

/// What became of a unit's requests.
enum Sent {
    Applied,
    /// The server refuses the content of one of the documents.
    Invalid(BackendError),
    Failed(BackendError),
}
