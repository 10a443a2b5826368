//! Writing: one script for each document.

use std::sync::Arc;

use dbmanager_core::{
    backend::{ApplyRequest, BackendError, BackendErrorKind, BackendResult, Mutation},
    model::{ChunkVector, CollectionOptions, DocumentRecord, EmbeddingSpace, Metric},
};
use redis::{Cmd, Value};

use super::{
    config::Engine,
    convert::{damaged, refused},
    document::{exact, facts, is_odd, passage_text, shapes, to_bytes},
    filter::tags,
    keys::ordered,
    store::{Known, Redis, detail, missing, outcome, stale_epoch},
};

/// Bytes of requests that are sent at once.
const BYTES_AT_ONCE: usize = 8 * 1024 * 1024;
/// Requests that are sent at once.
const REQUESTS_AT_ONCE: usize = 250;
/// How often a write is repeated because the collection's options were filled in meanwhile.
const MOST_REPEATS: usize = 4;

/// A request and its bytes.
struct Call {
    command: Cmd,
    bytes: usize,
}

/// What became of a mutation that was sent.
enum Sent {
    Answered(BackendResult<()>),
    /// The collection is no longer as it was known.
    Changed,
}

impl Redis {
    pub(super) async fn write(
        &self,
        request: &ApplyRequest,
    ) -> BackendResult<Vec<BackendResult<()>>> {
        let mut answers: Vec<Option<BackendResult<()>>> = vec![None; request.mutations.len()];
        let mut known = self.known(&request.collection).await?;
        if known.options.embedding_space.is_none() {
            // It may have been filled in by another manager.
            known = self.look_up(&request.collection).await?;
        }
        for _ in 0..MOST_REPEATS {
            let open: Vec<usize> = (0..answers.len())
                .filter(|index| answers[*index].is_none())
                .collect();
            if open.is_empty() {
                break;
            }
            if self.attempt(request, &known, &open, &mut answers).await? {
                known = self.look_up(&request.collection).await?;
            }
        }
        let changing = || {
            Err(BackendError::new(
                BackendErrorKind::Unavailable,
                "the collection is being changed by others",
            )
            .not_applied())
        };
        Ok(answers
            .into_iter()
            .map(|answer| answer.unwrap_or_else(changing))
            .collect())
    }

    /// Sends what is open; whether the collection has changed meanwhile.
    ///
    /// # Errors
    /// Nothing is known of any of them.
    async fn attempt(
        &self,
        request: &ApplyRequest,
        known: &Arc<Known>,
        open: &[usize],
        answers: &mut [Option<BackendResult<()>>],
    ) -> BackendResult<bool> {
        let mut changed = false;
        let mut calls: Vec<(usize, Cmd)> = Vec::new();
        let mut bytes = 0;
        let mut heard = open.len() < answers.len();
        for (position, index) in open.iter().enumerate() {
            match self.prepare(request, known, &request.mutations[*index]) {
                Err(error) => answers[*index] = Some(Err(error)),
                Ok(call) => {
                    bytes += call.bytes;
                    calls.push((*index, call.command));
                }
            }
            let last = position + 1 == open.len();
            if !last && bytes < BYTES_AT_ONCE && calls.len() < REQUESTS_AT_ONCE {
                continue;
            }
            bytes = 0;
            let (indexes, commands): (Vec<_>, Vec<_>) =
                std::mem::take(&mut calls).into_iter().unzip();
            match self.session.call_all(commands).await {
                Ok(found) => {
                    heard = true;
                    for (index, value) in indexes.into_iter().zip(found) {
                        match self.read_answer(request, value) {
                            Sent::Answered(answer) => answers[index] = Some(answer),
                            Sent::Changed => changed = true,
                        }
                    }
                }
                Err(error) if !heard => return Err(error),
                Err(error) => {
                    indexes
                        .iter()
                        .for_each(|index| answers[*index] = Some(Err(error.clone())));
                    // The rest was not sent.
                    let unsent = error.not_applied();
                    open[position + 1..]
                        .iter()
                        .for_each(|index| answers[*index] = Some(Err(unsent.clone())));
                    break;
                }
            }
        }
        Ok(changed)
    }

    fn read_answer(&self, request: &ApplyRequest, value: BackendResult<Value>) -> Sent {
        let read = value.and_then(outcome).and_then(|(outcome, rest)| {
            Ok(match outcome.as_str() {
                "applied" | "held" => Sent::Answered(Ok(())),
                "changed" => Sent::Changed,
                "missing" => {
                    self.forget(&request.collection);
                    Sent::Answered(Err(missing(&request.collection)))
                }
                "stale" => Sent::Answered(Err(stale_epoch(request.epoch, &detail(rest)?))),
                "failed" => Sent::Answered(Err(damaged(format!(
                    "the vector set takes no vector of this collection: {}",
                    detail(rest)?.to_lowercase()
                ))
                .not_applied())),
                other => Sent::Answered(Err(damaged(format!("the script answered {other:?}")))),
            })
        });
        read.unwrap_or_else(|error| Sent::Answered(Err(error)))
    }

    /// The request that writes one document, unless the document itself cannot be written.
    fn prepare(
        &self,
        request: &ApplyRequest,
        known: &Known,
        mutation: &Mutation,
    ) -> BackendResult<Call> {
        let keys = &known.keys;
        let document = keys.document(&mutation.id);
        let mut command = self.session.scripts().write.on(&[
            &self.keys.store,
            &self.keys.collections,
            &self.keys.highest,
            &keys.ids,
            &keys.odd,
            &document,
            &keys.vectors,
        ]);
        command
            .arg(ordered(request.epoch))
            .arg(&keys.name)
            .arg(&known.json)
            .arg(self.engine().as_str())
            .arg(&keys.chunk)
            .arg(&*mutation.id)
            .arg(ordered(mutation.version.as_u64()));
        let parts = match mutation.state.record() {
            None => Parts::default(),
            Some(record) => self.parts(&known.options, record)?,
        };
        command
            .arg(u8::from(mutation.state.record().is_none()))
            .arg(&parts.facts)
            .arg(&parts.shapes)
            .arg(&parts.exact)
            .arg(u8::from(parts.odd))
            .arg(&parts.tags)
            .arg(self.index.connectivity)
            .arg(self.index.expansion_add);
        let mut bytes = parts.facts.len() + parts.shapes.len() + parts.exact.len();
        for chunk in parts.indexed {
            bytes += 4 * chunk.values.len() + parts.tags.len();
            command
                .arg(chunk.chunk)
                .arg(passage_text(chunk.passage))
                .arg(to_bytes(&chunk.values));
        }
        Ok(Call { command, bytes })
    }

    fn parts<'a>(
        &self,
        options: &CollectionOptions,
        record: &'a DocumentRecord,
    ) -> BackendResult<Parts<'a>> {
        let vectors = &record.vectors().vectors;
        let metric = check_vectors(options.embedding_space.as_ref(), vectors)?;
        let (odd, indexed): (Vec<_>, Vec<_>) = vectors
            .iter()
            .partition(|vector| is_odd(metric, &vector.values));
        let tags = match self.engine() {
            Engine::QueryEngine if !indexed.is_empty() => tags(record.document()),
            _ => String::new(),
        };
        let parts = Parts {
            facts: facts(record)?,
            shapes: shapes(vectors)?,
            exact: exact(self.engine(), metric, vectors)?,
            odd: !odd.is_empty(),
            tags,
            indexed,
        };
        let longest = parts
            .facts
            .len()
            .max(parts.shapes.len())
            .max(parts.exact.len())
            .max(
                parts
                    .indexed
                    .iter()
                    .map(|v| v.values.len() * 4)
                    .max()
                    .unwrap_or(0),
            );
        if longest > self.server.longest_argument {
            return Err(refused(format!(
                "{longest} bytes are more than the server takes at once, {} \
                 (proto-max-bulk-len)",
                self.server.longest_argument
            )));
        }
        Ok(parts)
    }
}

/// What is stored of a live document.
#[derive(Default)]
struct Parts<'a> {
    facts: Vec<u8>,
    shapes: Vec<u8>,
    exact: Vec<u8>,
    odd: bool,
    tags: String,
    indexed: Vec<&'a ChunkVector>,
}

/// The metric of the collection, if the vectors are of its dimension.
fn check_vectors(space: Option<&EmbeddingSpace>, vectors: &[ChunkVector]) -> BackendResult<Metric> {
    let Some(space) = space else {
        return if vectors.is_empty() {
            Ok(Metric::default())
        } else {
            Err(refused("the collection has no embedding space"))
        };
    };
    match vectors
        .iter()
        .find(|vector| vector.values.len() != space.dimension as usize)
    {
        Some(vector) => Err(refused(format!(
            "a vector has {} numbers, the collection's have {}",
            vector.values.len(),
            space.dimension
        ))),
        None => Ok(space.metric),
    }
}
