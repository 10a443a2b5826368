//! Appending a group: keys, operations, generations, preconditions, limits, versions.

use std::{collections::HashMap, sync::Arc};

use dbmanager_core::{
    backend::Head,
    journal::{
        AppendRequest, Appended, Change, EntryHeader, EntryKind, JournalError, JournalErrorKind,
        JournalResult, OperationLookup, PreconditionRequest,
    },
    model::{CollectionKey, OperationId, Precondition, Timestamp, Version},
};

use super::{
    codec::{self, Content},
    engine::Engine,
    expiry::full,
    lookup::Known,
    queue::{Answers, Call},
    transaction::{ChangeKind, Transaction},
};

/// An entry on its way into the tables.
pub(super) struct Row {
    pub(super) header: EntryHeader,
    pub(super) content: Option<Content>,
    /// The place of the idempotency key and the hash of its input.
    pub(super) key: Option<([u8; 32], [u8; 32])>,
}

/// What a group knows: first what was read for all of its requests at once, then what it did.
#[derive(Default)]
pub(super) struct Group {
    pub(super) keys: HashMap<[u8; 32], ([u8; 32], OperationLookup)>,
    pub(super) operations: HashMap<OperationId, Known>,
    /// The newest accepted version of documents with a precondition.
    pub(super) heads: HashMap<(u64, Arc<str>), Head>,
    pub(super) rows: Vec<Row>,
}

impl Engine {
    /// Appends what the calls ask for in one transaction, and answers each.
    pub(super) async fn append_group(&self, calls: Vec<Call>) {
        let outcome = self.try_group(&calls).await;
        match outcome {
            Ok(answers) => {
                for (call, answers) in calls.into_iter().zip(answers) {
                    call.answer(answers);
                }
            }
            Err((error, true)) if calls.len() > 1 => {
                // The server does not take the content of one of them: it must not fail the
                // others.
                tracing::warn!(%error, "a group was refused; its calls are tried one by one");
                for call in calls {
                    match self.try_group(std::slice::from_ref(&call)).await {
                        Ok(mut answers) => call.answer(answers.pop().unwrap_or_default()),
                        Err((error, _)) => call.fail(&error),
                    }
                }
            }
            Err((error, _)) => {
                for call in calls {
                    call.fail(&error);
                }
            }
        }
    }

    /// The answers to each call, or the error and whether the server refused content.
    async fn try_group(&self, calls: &[Call]) -> Result<Vec<Answers>, (JournalError, bool)> {
        let attempt = self.bounded(async {
            let mut transaction = Transaction::begin(self).await?;
            let requests = || calls.iter().flat_map(|call| &call.requests);
            let mut group = transaction.prefetch(requests()).await?;
            let mut answers = Vec::with_capacity(calls.len());
            for call in calls {
                let mut own = Vec::with_capacity(call.requests.len());
                for request in &call.requests {
                    own.push(transaction.append(&mut group, request).await?);
                }
                answers.push(own);
            }
            transaction.write_rows(&group.rows).await?;
            let written: Vec<(OperationId, Version)> = group
                .rows
                .iter()
                .map(|row| (row.header.operation_id, row.header.version))
                .collect();
            Ok((transaction, answers, written))
        });
        let (transaction, answers, written) = attempt.await.map_err(|error| {
            let refused = super::is_refused(&error);
            (error, refused)
        })?;
        let outcome = self.commit(transaction).await;
        match outcome {
            Ok(()) => Ok(answers),
            Err(error)
                if *error.kind() == JournalErrorKind::Indeterminate && !written.is_empty() =>
            {
                match self.was_committed(&written).await {
                    Some(true) => Ok(answers),
                    Some(false) => Err((
                        JournalError::new(
                            JournalErrorKind::Unavailable,
                            format!("nothing was written: {}", error.message()),
                        ),
                        false,
                    )),
                    None => Err((error, false)),
                }
            }
            Err(error) => Err((error, false)),
        }
    }

    /// Whether a commit of unknown fate took place, if that can be found out soon: the row is free
    /// only after the old transaction has ended, one way or the other.
    async fn was_committed(&self, written: &[(OperationId, Version)]) -> Option<bool> {
        let look = self.bounded(async {
            let mut transaction = Transaction::begin(self).await?;
            let wanted = written.iter().map(|(operation_id, _)| *operation_id);
            let known = transaction.known_operations(wanted).await?;
            transaction.abandon().await?;
            Ok(proves_commit(&known, written))
        });
        look.await.ok()
    }
}

/// Whether these records are those that the group would have left. Since the group ended, an
/// operation may have been recorded as refused, or another instance may have accepted it. Every
/// record is compared: a version of a group that was rolled back is issued again, and one of them
/// may by chance have gone to the same operation.
fn proves_commit(known: &HashMap<OperationId, Known>, written: &[(OperationId, Version)]) -> bool {
    written.iter().all(|(operation_id, version)| {
        matches!(
            known.get(operation_id),
            Some(Known::Accepted {
                lookup: OperationLookup::Accepted { version: held, .. }
            }) if held == version
        )
    })
}

impl Transaction<'_> {
    /// Appends one entry, or refuses it without a trace.
    async fn append(
        &mut self,
        group: &mut Group,
        request: &AppendRequest,
    ) -> JournalResult<JournalResult<Appended>> {
        let key = request.idempotency_key.as_ref().map(|key| {
            let place = codec::key_place(&request.collection.name, &key.key);
            (place, key.input_hash)
        });
        if let Some((place, input_hash)) = key
            && let Some((known, lookup)) = group.keys.get(&place)
        {
            return Ok(if *known == input_hash {
                Ok(Appended::Repeated(lookup.clone()))
            } else {
                Err(JournalError::new(
                    JournalErrorKind::IdempotencyConflict,
                    "the idempotency key was used with another input",
                ))
            });
        }
        let checks = self
            .check_operation(group, request)
            .and_then(|()| self.check_collection(&request.collection))
            .and_then(|()| check_precondition(group, request));
        if let Err(refusal) = checks {
            return Ok(Err(refusal));
        }
        let content = match &request.change {
            Change::Upsert(record) => Some(codec::encode(record)?),
            _ => None,
        };
        let bytes = codec::entry_bytes(&request.collection.name, &request.id, content.as_ref());
        if let Err(refusal) = self.check_room(bytes, key.is_some()).await? {
            return Ok(Err(refusal));
        }
        let header = self.entry(request, bytes).await?;
        group.accept(&header, key);
        group.rows.push(Row {
            header: header.clone(),
            content,
            key,
        });
        Ok(Ok(Appended::New(header)))
    }

    fn check_operation(&self, group: &Group, request: &AppendRequest) -> JournalResult<()> {
        let operation_id = request.operation_id;
        let why = match group.operations.get(&operation_id) {
            Some(Known::Refused) => "was recorded as refused",
            Some(Known::Accepted { .. }) => "was accepted before",
            // Its record may have been forgotten, so that it may have been accepted or refused.
            None if operation_id.unix_milliseconds() < self.facts.horizon => {
                "is older than the records that are kept"
            }
            None => return Ok(()),
        };
        Err(JournalError::new(
            JournalErrorKind::OperationIdUsed,
            format!("operation {operation_id} {why}"),
        ))
    }

    /// Whether the generation asked for is the one that lives.
    pub(super) fn check_collection(&self, wanted: &CollectionKey) -> JournalResult<()> {
        match self.catalogue.get(&wanted.name) {
            None => Err(JournalError::new(
                JournalErrorKind::CollectionNotFound,
                format!("there is no collection {:?}", wanted.name),
            )),
            Some(found) if found.key.generation != wanted.generation => Err(JournalError::new(
                JournalErrorKind::CollectionChanged,
                format!(
                    "collection {wanted} is now of generation {}",
                    found.key.generation
                ),
            )),
            Some(_) => Ok(()),
        }
    }

    /// Whether there is room, if need be after forgetting what has been kept long enough.
    async fn check_room(&mut self, bytes: u64, keyed: bool) -> JournalResult<JournalResult<()>> {
        let options = &self.engine().options;
        let (max_entries, max_bytes) = (options.max_entries, options.max_bytes);
        let (max_operations, max_keys) = (options.max_operations, options.max_keys);
        let refusal = if self.facts.entries >= max_entries {
            Some(format!("max_entries ({max_entries}) are live"))
        } else if self.facts.bytes.saturating_add(bytes) > max_bytes {
            Some(format!("max_bytes ({max_bytes}) are live"))
        } else if self.facts.mark >= Version::MAX {
            Some("every version was issued".to_owned())
        } else if !self
            .has_place(max_operations, |facts| facts.operations)
            .await?
        {
            Some(format!(
                "max_operations ({max_operations}) records of operations are kept"
            ))
        } else {
            None
        };
        if let Some(refusal) = refusal {
            // An entry too large for an empty journal says nothing about the next one.
            let too_large = self.facts.entries == 0 && bytes > max_bytes;
            self.engine().set_refused_for_room(!too_large);
            return Ok(Err(full(refusal)));
        }
        if self.facts.entries == 0 {
            // No truncation would say so.
            self.engine().set_refused_for_room(false);
        }
        if keyed && !self.has_place(max_keys, |facts| facts.keys).await? {
            return Ok(Err(full(format!(
                "max_keys ({max_keys}) idempotency keys are kept"
            ))));
        }
        Ok(Ok(()))
    }

    /// Allocates the version and counts the entry.
    async fn entry(&mut self, request: &AppendRequest, bytes: u64) -> JournalResult<EntryHeader> {
        let above = Version::from_u64(self.facts.mark.as_u64() + 1);
        let version = above.max(Version::from_parts(self.now, 0));
        self.facts.mark = version;
        self.facts.entries += 1;
        self.facts.bytes += bytes;
        self.facts.operations += 1;
        self.facts.keys += u64::from(request.idempotency_key.is_some());
        let kind = match &request.change {
            Change::Upsert(_) => EntryKind::Upsert,
            Change::Delete => EntryKind::Delete,
            Change::DropCollection => {
                self.remove_collection(&request.collection.name).await?;
                EntryKind::DropCollection
            }
        };
        self.publish(ChangeKind::Appended, None, vec![version], None);
        Ok(EntryHeader {
            version,
            operation_id: request.operation_id,
            collection: request.collection.clone(),
            id: Arc::clone(&request.id),
            kind,
            bytes,
            appended_at: Timestamp::from_unix_milliseconds(codec::signed(self.now)),
        })
    }
}

impl Group {
    /// Takes note of an entry for the requests behind it.
    fn accept(&mut self, header: &EntryHeader, key: Option<([u8; 32], [u8; 32])>) {
        let lookup = OperationLookup::Accepted {
            operation_id: header.operation_id,
            version: header.version,
            collection: header.collection.clone(),
            id: Arc::clone(&header.id),
            live: true,
        };
        if let Some((place, input_hash)) = key {
            self.keys.insert(place, (input_hash, lookup.clone()));
        }
        self.operations
            .insert(header.operation_id, Known::Accepted { lookup });
        let head = Head {
            version: header.version,
            deleted: header.kind != EntryKind::Upsert,
        };
        self.heads
            .insert((header.collection.generation, Arc::clone(&header.id)), head);
    }
}

/// Whether the newest of what the journal and the caller know fulfils the precondition.
fn check_precondition(group: &Group, request: &AppendRequest) -> JournalResult<()> {
    let Some(PreconditionRequest {
        precondition,
        known,
    }) = &request.precondition
    else {
        return Ok(());
    };
    let document = (request.collection.generation, Arc::clone(&request.id));
    let journal = group.heads.get(&document).copied();
    let newest = [journal, *known]
        .into_iter()
        .flatten()
        .max_by_key(|head| head.version);
    let live = newest.filter(|head| !head.deleted).map(|head| head.version);
    let holds = match precondition {
        Precondition::Absent => live.is_none(),
        Precondition::Version(wanted) => live == Some(*wanted),
    };
    if holds {
        return Ok(());
    }
    Err(JournalError::new(
        JournalErrorKind::PreconditionFailed(live),
        match live {
            Some(version) => format!("the live document has version {version}"),
            None => "there is no live document".to_owned(),
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(number: u128) -> OperationId {
        OperationId::from_u128(number)
    }

    fn accepted(number: u128, version: u64) -> (OperationId, Known) {
        let operation_id = operation(number);
        let lookup = OperationLookup::Accepted {
            operation_id,
            version: Version::from_u64(version),
            collection: CollectionKey::new("papers", 1),
            id: Arc::from("a"),
            live: true,
        };
        (operation_id, Known::Accepted { lookup })
    }

    #[test]
    fn only_the_groups_own_records_prove_its_commit() {
        let written = [(1, 7), (2, 8)]
            .map(|(number, version)| (operation(number), Version::from_u64(version)));
        let refused = |number| (operation(number), Known::Refused);
        for (case, records, committed) in [
            ("all", vec![accepted(1, 7), accepted(2, 8)], true),
            ("none", vec![], false),
            ("refused meanwhile", vec![refused(1)], false),
            (
                "a later one refused",
                vec![accepted(1, 7), refused(2)],
                false,
            ),
            ("accepted by another", vec![accepted(1, 9)], false),
            (
                "by another, all",
                vec![accepted(1, 9), accepted(2, 10)],
                false,
            ),
            ("by another, the same version", vec![accepted(1, 7)], false),
        ] {
            let known = records.into_iter().collect();
            assert_eq!(proves_commit(&known, &written), committed, "{case}");
        }
    }
}
