//! Appending: keys, operations, generations, preconditions, limits, versions.

use super::{
    super::{
        AppendRequest, Appended, Change, EntryKind, JournalError, JournalErrorKind, JournalResult,
        PreconditionRequest,
    },
    codec::{self, StoredHeader, StoredKey, StoredOperation},
    failure::Failure,
    group::{Group, full},
    tables,
};
use crate::{
    backend::Head,
    model::{CollectionKey, Precondition, Version},
};

impl Group<'_, '_> {
    /// Appends one entry, or refuses it without a trace.
    pub(super) fn append(
        &mut self,
        request: &AppendRequest,
    ) -> Result<JournalResult<Appended>, Failure> {
        if let Some(answer) = self.answer_from_key(request)? {
            return Ok(answer);
        }
        for check in [
            Self::check_operation,
            Self::check_collection,
            Self::check_precondition,
        ] {
            if let Err(refusal) = check(self, request)? {
                return Ok(Err(refusal));
            }
        }
        self.write_entry(request)
    }

    /// The answer for a key that is known.
    fn answer_from_key(
        &self,
        request: &AppendRequest,
    ) -> Result<Option<JournalResult<Appended>>, Failure> {
        let Some(key) = &request.idempotency_key else {
            return Ok(None);
        };
        let place = codec::idempotency_place(&request.collection.name, &key.key);
        let Some(known) = self.tables.stored_key(&place)? else {
            return Ok(None);
        };
        if known.input_hash != key.input_hash {
            return Ok(Some(Err(JournalError::new(
                JournalErrorKind::IdempotencyConflict,
                "the idempotency key was used with another input",
            ))));
        }
        let lookup = self.lookup(known.operation_id)?;
        Ok(Some(Ok(Appended::Repeated(lookup))))
    }

    fn check_operation(&mut self, request: &AppendRequest) -> Result<JournalResult<()>, Failure> {
        let operation_id = request.operation_id;
        let used = |why: &str| {
            Ok(Err(JournalError::new(
                JournalErrorKind::OperationIdUsed,
                format!("operation {operation_id} {why}"),
            )))
        };
        match self.tables.stored_operation(operation_id)? {
            Some(StoredOperation::Refused) => used("was recorded as refused"),
            Some(StoredOperation::Accepted { .. }) => used("was accepted before"),
            // Its record may have been forgotten, so that it may have been accepted or refused.
            None if operation_id.unix_milliseconds() < self.state.horizon => {
                used("is older than the records that are kept")
            }
            None => Ok(Ok(())),
        }
    }

    fn check_collection(&mut self, request: &AppendRequest) -> Result<JournalResult<()>, Failure> {
        let found = self.tables.collection(&request.collection.name)?;
        Ok(check_generation(
            &request.collection,
            found.as_ref().map(|collection| &collection.key),
        ))
    }

    fn check_precondition(
        &mut self,
        request: &AppendRequest,
    ) -> Result<JournalResult<()>, Failure> {
        let Some(precondition) = &request.precondition else {
            return Ok(Ok(()));
        };
        let journal = self
            .state
            .index
            .newest(request.collection.generation, &request.id);
        Ok(check_precondition(precondition, journal))
    }

    /// Writes the entry under a new version, if there is room.
    fn write_entry(&mut self, request: &AppendRequest) -> Result<JournalResult<Appended>, Failure> {
        let (kind, content) = match &request.change {
            Change::Upsert(record) => (EntryKind::Upsert, codec::encode_content(record)?),
            Change::Delete => (EntryKind::Delete, Vec::new()),
            Change::DropCollection => (EntryKind::DropCollection, Vec::new()),
        };
        let content_bytes = if content.is_empty() {
            0
        } else {
            (codec::SEAL_BYTES + content.len()) as u64
        };
        let stored = StoredHeader {
            operation_id: request.operation_id,
            collection: request.collection.clone(),
            id: request.id.clone(),
            kind,
            appended_at: i64::try_from(self.now).unwrap_or(i64::MAX),
            content_bytes,
        };
        let header_content = codec::encode(&stored)?;
        let header_bytes = (codec::SEAL_BYTES + header_content.len()) as u64;
        if let Err(refusal) = self.check_room(header_bytes + content_bytes, request)? {
            return Ok(Err(refusal));
        }

        let version = self.state.mark.next(self.now);
        let key = tables::version_key(version);
        self.tables.headers.put(&key, &header_content)?;
        if !content.is_empty() {
            self.tables.contents.put(&key, &content)?;
        }
        self.record_operation(request, version)?;
        if kind == EntryKind::DropCollection {
            let name = request.collection.name.as_bytes();
            self.tables.collections.remove(name)?;
        }
        let header = stored.into_header(version, header_bytes);
        self.state.mark = version;
        self.state.index.insert(&header);
        self.changed = true;
        Ok(Ok(Appended::New(header)))
    }

    fn check_room(
        &mut self,
        bytes: u64,
        request: &AppendRequest,
    ) -> Result<JournalResult<()>, Failure> {
        let options = self.options;
        let index = &self.state.index;
        let refusal = if !self.state.has_reserve {
            Some("the disk has no room left for truncating the journal".to_owned())
        } else if index.entries() >= options.max_entries {
            Some(format!("max_entries ({}) are live", options.max_entries))
        } else if index.bytes().saturating_add(bytes) > options.max_bytes {
            Some(format!("max_bytes ({}) are live", options.max_bytes))
        } else if self.state.mark >= Version::MAX {
            Some("every version was issued".to_owned())
        } else if !self.has_place(options.max_operations, |tables| tables.operations.count())? {
            Some(format!(
                "max_operations ({}) records of operations are kept",
                options.max_operations
            ))
        } else {
            None
        };
        if let Some(refusal) = refusal {
            // An entry too large for an empty journal says nothing about the next one.
            let too_large = self.state.index.entries() == 0 && bytes > options.max_bytes;
            self.state.refused_for_room = !too_large;
            return Ok(Err(full(refusal)));
        }
        if self.state.index.entries() == 0 {
            // No truncation would say so.
            self.state.refused_for_room = false;
        }
        if request.idempotency_key.is_some()
            && !self.has_place(options.max_keys, |tables| tables.keys.count())?
        {
            return Ok(Err(full(format!(
                "max_keys ({}) idempotency keys are kept",
                options.max_keys
            ))));
        }
        Ok(Ok(()))
    }

    fn record_operation(
        &mut self,
        request: &AppendRequest,
        version: Version,
    ) -> Result<(), Failure> {
        let mut place = None;
        if let Some(key) = &request.idempotency_key {
            let at = codec::idempotency_place(&request.collection.name, &key.key);
            let stored = StoredKey {
                input_hash: key.input_hash,
                operation_id: request.operation_id,
            };
            self.tables.keys.put(&at, &codec::encode(&stored)?)?;
            place = Some(at);
        }
        let stored = StoredOperation::Accepted {
            version,
            collection: request.collection.clone(),
            id: request.id.clone(),
            key: place,
        };
        let key = tables::operation_key(request.operation_id);
        let content = codec::encode(&stored)?;
        self.tables.operations.put(&key, &content)?;
        Ok(())
    }
}

/// Whether the generation asked for is the one that lives.
pub(super) fn check_generation(
    wanted: &CollectionKey,
    found: Option<&CollectionKey>,
) -> JournalResult<()> {
    match found {
        None => Err(JournalError::new(
            JournalErrorKind::CollectionNotFound,
            format!("there is no collection {:?}", wanted.name),
        )),
        Some(found) if found.generation != wanted.generation => Err(JournalError::new(
            JournalErrorKind::CollectionChanged,
            format!(
                "collection {wanted} is now of generation {}",
                found.generation
            ),
        )),
        Some(_) => Ok(()),
    }
}

/// Whether the newest of what the journal and the caller know fulfils the precondition.
fn check_precondition(request: &PreconditionRequest, journal: Option<Head>) -> JournalResult<()> {
    let newest = [journal, request.known]
        .into_iter()
        .flatten()
        .max_by_key(|head| head.version);
    let live = newest.filter(|head| !head.deleted).map(|head| head.version);
    let holds = match request.precondition {
        Precondition::Absent => live.is_none(),
        Precondition::Version(wanted) => live == Some(wanted),
    };
    if holds {
        Ok(())
    } else {
        Err(JournalError::new(
            JournalErrorKind::PreconditionFailed(live),
            match live {
                Some(version) => format!("the live document has version {version}"),
                None => "there is no live document".to_owned(),
            },
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(version: u64, deleted: bool) -> Head {
        Head {
            version: Version::from_u64(version),
            deleted,
        }
    }

    #[test]
    fn preconditions_look_at_the_newest_of_journal_and_caller() {
        let (absent, version) = (Precondition::Absent, |v| {
            Precondition::Version(Version::from_u64(v))
        });
        let cases = [
            (absent, None, None, true),
            (absent, Some(head(1, false)), None, false),
            (absent, None, Some(head(1, false)), false),
            (absent, Some(head(1, true)), None, true),
            (absent, None, Some(head(1, true)), true),
            (absent, Some(head(2, true)), Some(head(1, false)), true),
            (absent, Some(head(1, true)), Some(head(2, false)), false),
            (version(1), None, None, false),
            (version(1), Some(head(1, false)), None, true),
            (version(1), None, Some(head(1, false)), true),
            (version(1), Some(head(1, true)), None, false),
            (
                version(1),
                Some(head(2, false)),
                Some(head(1, false)),
                false,
            ),
            (version(2), Some(head(2, false)), Some(head(1, false)), true),
            (version(2), Some(head(1, false)), Some(head(2, false)), true),
            (version(1), Some(head(2, true)), Some(head(1, false)), false),
            (version(3), Some(head(2, false)), None, false),
        ];
        for (precondition, journal, known, expected) in cases {
            let request = PreconditionRequest {
                precondition,
                known,
            };
            assert_eq!(
                check_precondition(&request, journal).is_ok(),
                expected,
                "{request:?} with {journal:?} in the journal"
            );
        }
    }
}
