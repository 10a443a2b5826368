//! One write from submission to answer. It runs in a task of the manager's own: dropping the
//! caller's future gives up the answer, never the operation.

use std::{sync::Arc, time::Duration};

use tracing::Instrument;

use super::{
    WriteRoom,
    backlog::DocumentKey,
    decide::{Answer, Demand, decide},
    journal_error,
    prepare::discard,
    stage::{Stage, append_error},
};
use crate::{
    Error, ErrorKind, Result, WriteOutcome,
    journal::{AppendRequest, Appended, Change, EntryHeader, OperationLookup},
    model::{
        Document, Level, OnTimeout, OperationId, Precondition, Receipt, StoreReceipt, Version,
    },
};

/// The wait between two looks for a write that is about to be seen.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// What a write does to its document.
#[derive(Clone, Debug)]
pub(crate) enum ItemChange {
    /// Stores this document.
    Upsert(Box<Document>),
    /// Deletes the document.
    Delete,
}

/// One write as the caller gave it.
#[derive(Clone, Debug)]
pub(crate) struct WriteItem {
    pub(crate) operation_id: OperationId,
    pub(crate) idempotency_key: Option<Arc<str>>,
    pub(crate) id: Arc<str>,
    pub(crate) change: ItemChange,
    pub(crate) precondition: Option<Precondition>,
}

impl WriteItem {
    /// Drops the item without recursion: its depth may not have been checked yet.
    pub(super) fn discard(self) {
        if let ItemChange::Upsert(document) = self.change {
            discard(*document);
        }
    }
}

/// What the caller asked for, for all items of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WriteOptions {
    pub(crate) level: Level,
    pub(crate) with_authority: bool,
    pub(crate) timeout: Duration,
    pub(crate) on_timeout: OnTimeout,
}

/// Nothing of the write was journaled, and nothing will be.
pub(super) fn rejected(error: Error) -> Error {
    error.with_outcome(WriteOutcome::Rejected)
}

/// Rejects what would have to be appended. A known key is answered from its record even now: saying
/// that no store ever shows the write would be wrong.
pub(super) fn turn_away(stages: &mut [Stage], error: &Error) {
    for stage in stages {
        if matches!(stage, Stage::Ready { .. }) {
            *stage = Stage::Answered(Err(error.clone()));
        }
    }
}

impl WriteRoom {
    /// Writes each item to the collection, and answers for each in the order given.
    ///
    /// # Errors
    /// Only if nothing was journaled.
    pub(crate) async fn write(
        self: Arc<Self>,
        collection: Arc<str>,
        items: Vec<WriteItem>,
        options: WriteOptions,
    ) -> Result<Vec<Result<Receipt>>> {
        let span = tracing::info_span!(
            "dbmanager.store",
            "db.system.name" = "dbmanager",
            "db.operation.name" = "store",
            "db.operation.batch.size" = items.len(),
        );
        let started = self.runtime.monotonic();
        let result = Arc::clone(&self)
            .write_items(collection, items, options)
            .instrument(span)
            .await;
        let elapsed = self
            .runtime
            .monotonic()
            .saturating_sub(started)
            .as_secs_f64();
        match &result {
            Ok(answers) => answers
                .iter()
                .for_each(|answer| measure(answer.as_ref(), elapsed)),
            Err(error) => measure(Err(error), elapsed),
        }
        result
    }

    async fn write_items(
        self: Arc<Self>,
        collection: Arc<str>,
        items: Vec<WriteItem>,
        options: WriteOptions,
    ) -> Result<Vec<Result<Receipt>>> {
        if let Err(error) = self.check_open() {
            items.into_iter().for_each(WriteItem::discard);
            return Err(rejected(error));
        }
        let admitted = self.admission.admit(items.len());
        let keyed = items.iter().any(|item| item.idempotency_key.is_some());
        if admitted.is_none() && !keyed {
            items.into_iter().for_each(WriteItem::discard);
            return Err(rejected(self.admission.overloaded()));
        }
        let mut stages = self.stage(&collection, items).await;
        if admitted.is_none() {
            turn_away(&mut stages, &rejected(self.admission.overloaded()));
        }
        let appended = self.append_stages(&collection, &mut stages).await?;
        // From here on: what embedding takes is the model's, and says nothing of the stores.
        let deadline = self.runtime.monotonic().saturating_add(options.timeout);
        let mut answers: Vec<Option<Result<Receipt>>> = Vec::with_capacity(stages.len());
        let mut waiting = Vec::new();
        let mut appended = appended.into_iter().peekable();
        for (index, stage) in stages.into_iter().enumerate() {
            let accepted = match stage {
                Stage::Answered(answer) => {
                    answers.push(Some(answer));
                    continue;
                }
                Stage::Repeated(document, operation, version) => {
                    Ok(((document, operation, version), true))
                }
                Stage::Ready { item, .. } => match appended.next_if(|(at, _)| *at == index) {
                    Some((_, result)) => result.and_then(|appended| {
                        let repeated = matches!(appended, Appended::Repeated(_));
                        Ok((accepted(appended, item.operation_id)?, repeated))
                    }),
                    None => Err(rejected(Error::new(
                        ErrorKind::Internal,
                        "a write was not appended",
                    ))),
                },
            };
            answers.push(match accepted {
                Ok(accepted) => {
                    waiting.push((index, accepted));
                    None
                }
                Err(error) => Some(Err(error)),
            });
        }
        for (index, ((document, operation_id, version), repeated)) in waiting {
            if repeated && let Err(error) = self.until_shown(operation_id, version, deadline).await
            {
                let outcome = WriteOutcome::Indeterminate(operation_id);
                answers[index] = Some(Err(error.with_outcome(outcome)));
                continue;
            }
            let answer = self
                .settle(&document, version, options, deadline, false)
                .await;
            let receipt = self.receipt(&document, operation_id, version, options.level, answer);
            answers[index] = Some(conclude(receipt, answer, options));
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// Drops a collection: everything in it is gone at once for readers, and is removed from every
    /// store like any write.
    pub(crate) async fn drop_collection(
        self: Arc<Self>,
        name: Arc<str>,
        options: WriteOptions,
        operation_id: OperationId,
    ) -> Result<Receipt> {
        self.check_open().map_err(rejected)?;
        let _admitted = self
            .admission
            .admit(1)
            .ok_or_else(|| rejected(self.admission.overloaded()))?;
        let collection = self.collection(&name).ok_or_else(|| {
            rejected(
                Error::new(ErrorKind::CollectionNotFound, "there is no such collection")
                    .with("collection", &name),
            )
        })?;
        let request = AppendRequest {
            operation_id,
            idempotency_key: None,
            collection: collection.key.clone(),
            id: Arc::from(""),
            change: Change::DropCollection,
            precondition: None,
        };
        let answer = self.journal.append(vec![request]).await.into_iter().next();
        let appended = answer
            .ok_or_else(|| rejected(Error::new(ErrorKind::Internal, "the drop was not appended")))?
            .map_err(|error| append_error(error, operation_id))?;
        self.forget_collection(&collection.key);
        if let Appended::New(header) = &appended {
            self.backlog.insert(header.clone(), None);
        }
        let (document, operation_id, version) = accepted(appended, operation_id)?;
        let deadline = self.runtime.monotonic().saturating_add(options.timeout);
        let answer = self
            .settle(&document, version, options, deadline, false)
            .await;
        let receipt = self.receipt(&document, operation_id, version, options.level, answer);
        conclude(receipt, answer, options)
    }

    /// Waits until the backlog shows an accepted write that the journal holds live. Whoever appended
    /// it may not have come to that yet, and another instance's has yet to be followed; until then
    /// it would pass for one that every store holds.
    ///
    /// # Errors
    /// The journal cannot be read, or the time ran out.
    pub(crate) async fn until_shown(
        &self,
        operation_id: OperationId,
        version: Version,
        deadline: Duration,
    ) -> Result<()> {
        while !self.backlog.shows(version) {
            let lookup = self.journal.operation(operation_id).await;
            match lookup.map_err(journal_error)? {
                OperationLookup::Accepted { live: true, .. } => {}
                _ => return Ok(()),
            }
            if self.runtime.monotonic() >= deadline {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    "the write is in the journal and was not seen here in time",
                )
                .with("version", version));
            }
            self.runtime.sleep(BETWEEN_LOOKS).await;
        }
        Ok(())
    }

    /// Waits until the level is reached, cannot be reached now (or, if `patient`, cannot be reached
    /// before someone acts), or the time runs out.
    pub(crate) async fn settle(
        &self,
        document: &DocumentKey,
        version: Version,
        options: WriteOptions,
        deadline: Duration,
        patient: bool,
    ) -> Answer {
        let demand = Demand {
            level: options.level,
            with_authority: options.with_authority,
        };
        let changed = self.backlog.subscribe(document);
        loop {
            let standing = self.backlog.standing(document, version);
            let stores: Vec<_> = standing
                .iter()
                .map(|s| (s.role, s.acknowledgement))
                .collect();
            let answer = decide(demand, &stores);
            let left = deadline.saturating_sub(self.runtime.monotonic());
            let hopeful = answer == Answer::Wait
                || patient && answer == Answer::Pending { unreachable: false };
            if !hopeful || self.is_closing() || left.is_zero() {
                return answer;
            }
            tokio::select! {
                biased;
                () = changed.notified() => {}
                () = self.runtime.sleep(left) => {}
                () = self.closing() => {}
            }
        }
    }

    /// The receipt of a journaled write as it stands now.
    pub(crate) fn receipt(
        &self,
        document: &DocumentKey,
        operation_id: OperationId,
        version: Version,
        level: Level,
        answer: Answer,
    ) -> Receipt {
        let stores = self
            .backlog
            .standing(document, version)
            .into_iter()
            .filter_map(|standing| {
                let store = self.store(standing.role)?;
                Some(StoreReceipt {
                    store_id: store.store_id(),
                    role: standing.role,
                    service: Arc::clone(&store.service),
                    state: standing.acknowledgement.receipt_state(),
                    error: standing.error.as_deref().map(str::to_owned),
                })
            })
            .collect();
        Receipt {
            operation_id,
            collection: Arc::clone(&document.collection.name),
            id: Arc::clone(&document.id),
            version,
            level,
            reached: answer == Answer::Reached,
            unreachable: answer == Answer::Pending { unreachable: true },
            stores,
        }
    }
}

/// The document, operation and version of an accepted append.
fn accepted(
    appended: Appended,
    operation: OperationId,
) -> Result<(DocumentKey, OperationId, Version)> {
    match appended {
        Appended::New(EntryHeader {
            collection,
            id,
            version,
            operation_id,
            ..
        }) => Ok((DocumentKey::new(collection, id), operation_id, version)),
        Appended::Repeated(OperationLookup::Accepted {
            operation_id,
            version,
            collection,
            id,
            ..
        }) => Ok((DocumentKey::new(collection, id), operation_id, version)),
        Appended::Repeated(_) => Err(Error::new(
            ErrorKind::Internal,
            "the idempotency key names an operation that is not recorded",
        )
        .with_outcome(WriteOutcome::Indeterminate(operation))),
    }
}

/// Turns a receipt into the call's answer.
fn conclude(receipt: Receipt, answer: Answer, options: WriteOptions) -> Result<Receipt> {
    match answer {
        Answer::Reached => Ok(receipt),
        _ if options.on_timeout == OnTimeout::ReturnPending => Ok(receipt),
        _ => {
            let missing: Vec<String> = receipt
                .pending()
                .map(|s| match &s.error {
                    Some(error) => format!("{} ({error})", s.role),
                    None => s.role.to_string(),
                })
                .collect();
            let message = format!(
                "the write is journaled and will reach every store, but these do not hold it yet: {}",
                missing.join(", ")
            );
            Err(Error::new(ErrorKind::LevelNotReached, message)
                .with("id", &receipt.id)
                .with("version", receipt.version)
                .with_outcome(WriteOutcome::Pending(Box::new(receipt))))
        }
    }
}

fn measure(answer: Result<&Receipt, &Error>, elapsed: f64) {
    let outcome = match answer {
        Ok(receipt) if receipt.level_reached() => "ok",
        Ok(_) => "pending",
        Err(error) => match error.write_outcome() {
            Some(WriteOutcome::Pending(_)) => "pending",
            Some(WriteOutcome::Indeterminate(_)) => "indeterminate",
            _ => "rejected",
        },
    };
    metrics::histogram!("dbmanager_store_seconds", "outcome" => outcome).record(elapsed);
    metrics::counter!("dbmanager_store_total", "outcome" => outcome).increment(1);
}
