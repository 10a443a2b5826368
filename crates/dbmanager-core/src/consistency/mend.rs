//! Mending a difference: the same content again, under a new version.

use std::sync::Arc;

use super::{judge::Truth, report::Difference, walk::StoreCheck};
use crate::{
    Error, ErrorKind, Result,
    backend::{DocumentState, Head},
    journal::{
        AppendRequest, Appended, Change, JournalErrorKind, JournalResult, PreconditionRequest,
    },
    model::{CollectionKey, Precondition, Version},
    write::{DocumentKey, WriteRoom, journal_error},
};

/// Documents written again in one transaction of the journal.
const BATCH: usize = 100;

impl StoreCheck<'_> {
    /// Mends what comes with its truth, and reports everything.
    pub(super) async fn mend_and_report(
        &mut self,
        collection: &CollectionKey,
        found: Vec<(Difference, Option<Truth>)>,
    ) -> Result<()> {
        let mut found = found.into_iter().peekable();
        while found.peek().is_some() {
            let batch = found.by_ref().take(BATCH);
            let (mut differences, truths): (Vec<_>, Vec<_>) = batch.unzip();
            let wanted = differences
                .iter()
                .zip(truths)
                .enumerate()
                .filter_map(|(at, (difference, truth))| {
                    let document = DocumentKey::new(collection.clone(), Arc::clone(&difference.id));
                    Some((at, document, truth?))
                })
                .collect();
            let outcome = write_again(&self.options.room, wanted).await;
            let mut failed = None;
            match outcome {
                Ok(answers) => {
                    for (at, answer) in answers {
                        match answer {
                            Ok(mended) => differences[at].repaired = mended,
                            Err(error) => failed = Some(error),
                        }
                    }
                }
                Err(error) => failed = Some(error),
            }
            differences.into_iter().for_each(|d| self.report(d));
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Ok(())
    }
}

/// A document to write again; the number tells whoever asked which it was.
pub(super) type Wanted = (usize, DocumentKey, Truth);

/// Writes each document again, in a task of its own as any write: whoever drops the comparison must
/// leave no entry that only the journal knows, and no document whose truncation is held.
///
/// Answers for each whether it was appended: not if a newer version has come meanwhile.
pub(super) async fn write_again(
    room: &Arc<WriteRoom>,
    wanted: Vec<Wanted>,
) -> Result<Vec<(usize, Result<bool>)>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let runtime = room.runtime.clone();
    let room = Arc::clone(room);
    let task = runtime.spawn(async move {
        let documents: Vec<_> = wanted.iter().map(|(_, key, _)| key.clone()).collect();
        // From here on nothing newer can be truncated unseen between the reading and the append.
        documents.iter().for_each(|key| room.backlog.pin(key));
        let appended = append_again(&room, wanted).await;
        documents.iter().for_each(|key| room.backlog.unpin(key));
        appended
    });
    task.await.unwrap_or_else(|lost| {
        Err(Error::new(ErrorKind::Internal, "a repair ended early").with_source(lost))
    })
}

/// Appends each document as a new version of the same content, unless a newer one has come
/// meanwhile: then that one mends the store. Answers for each whether it was appended.
async fn append_again(room: &WriteRoom, wanted: Vec<Wanted>) -> Result<Vec<(usize, Result<bool>)>> {
    let newest = newest_versions(room, &wanted).await?;
    let mut answers = Vec::with_capacity(wanted.len());
    let mut chosen = Vec::with_capacity(wanted.len());
    for ((at, document, truth), newest) in wanted.into_iter().zip(newest) {
        if newest == Some(truth.version) {
            chosen.push((at, document, truth));
        } else {
            answers.push((at, Ok(false)));
        }
    }
    let requests = chosen
        .iter()
        .map(|(_, document, truth)| request(room, document, truth));
    let appended = room.journal.append(requests.collect()).await;
    for ((at, _, truth), appended) in chosen.into_iter().zip(appended) {
        answers.push((at, take_note(room, truth.state, appended)));
    }
    Ok(answers)
}

/// The newest version of each document that journal or authority know.
async fn newest_versions(room: &WriteRoom, wanted: &[Wanted]) -> Result<Vec<Option<Version>>> {
    let in_journal = |(_, document, _): &Wanted| room.backlog.newest(document).map(|n| n.version);
    let mut newest: Vec<Option<Version>> = wanted.iter().map(in_journal).collect();
    let unknown = |at: &usize| newest[*at].is_none();
    let unknown: Vec<usize> = (0..wanted.len()).filter(unknown).collect();
    let Some(first) = unknown.first() else {
        return Ok(newest);
    };
    let collection = &wanted[*first].1.collection;
    let ids: Vec<_> = unknown
        .iter()
        .map(|at| Arc::clone(&wanted[*at].1.id))
        .collect();
    let heads = room.authority_heads(collection, &ids).await?;
    for (at, head) in unknown.into_iter().zip(heads) {
        newest[at] = head.map(|head| head.version);
    }
    Ok(newest)
}

fn request(room: &WriteRoom, document: &DocumentKey, truth: &Truth) -> AppendRequest {
    let deleted = truth.state == DocumentState::Deleted;
    AppendRequest {
        operation_id: room.new_operation_id(),
        idempotency_key: None,
        collection: document.collection.clone(),
        id: Arc::clone(&document.id),
        change: match &truth.state {
            DocumentState::Live(record) => Change::Upsert(Arc::clone(record)),
            DocumentState::Deleted => Change::Delete,
        },
        precondition: Some(PreconditionRequest {
            precondition: match deleted {
                true => Precondition::Absent,
                false => Precondition::Version(truth.version),
            },
            known: Some(Head {
                version: truth.version,
                deleted,
            }),
        }),
    }
}

/// Shows what was appended; answers whether it was.
fn take_note(
    room: &WriteRoom,
    state: DocumentState,
    appended: JournalResult<Appended>,
) -> Result<bool> {
    match appended {
        Ok(Appended::New(header)) => {
            room.backlog.insert(header, Some(state));
            Ok(true)
        }
        Ok(Appended::Repeated(_)) => Ok(false),
        Err(error) => match error.kind() {
            JournalErrorKind::PreconditionFailed(_)
            | JournalErrorKind::CollectionChanged
            | JournalErrorKind::CollectionNotFound => Ok(false),
            _ => Err(journal_error(error)),
        },
    }
}
