//! Letting go of entries, and forgetting what was recorded of them.

use dbmanager_core::{
    journal::{JournalError, JournalErrorKind, JournalResult, OperationLookup, TruncateRequest},
    model::{OperationId, StoreId, Version},
};

use super::{
    codec::{column, parse_id, signed, version_number},
    lookup::absent,
    transaction::{ChangeKind, Facts, Transaction, run},
};

/// Operations forgotten by a truncation beyond twice its entries, so that a backlog shrinks.
const EXPIRY_MINIMUM: usize = 256;
/// The most operations that are forgotten to make room for new ones.
const EXPIRY_STEP: usize = 4_096;

/// A limit is reached.
pub(super) fn full(message: impl Into<String>) -> JournalError {
    JournalError::new(JournalErrorKind::Full, message)
}

impl Transaction<'_> {
    /// Lets go of the entries and records the stores' progress, which never goes back.
    pub(super) async fn truncate(&mut self, request: &TruncateRequest) -> JournalResult<()> {
        self.check_sender()?;
        self.let_go(&request.versions).await?;
        self.raise_progress(&request.progress).await?;
        self.expire(EXPIRY_MINIMUM + 2 * request.versions.len())
            .await
    }

    async fn let_go(&mut self, versions: &[Version]) -> JournalResult<()> {
        if versions.is_empty() {
            return Ok(());
        }
        let numbers: Vec<i64> = versions.iter().copied().map(version_number).collect();
        let delete = sqlx::query(
            "WITH gone AS (
                 DELETE FROM journal_entry WHERE version = ANY ($1)
                 RETURNING version, bytes, operation_id
             ), unparked AS (
                 DELETE FROM journal_parked WHERE version = ANY ($1) RETURNING version
             ), ended AS (
                 UPDATE journal_operation AS o SET ended = greatest($2, o.claimed), adoptions = $3
                 FROM gone WHERE o.operation_id = gone.operation_id
             )
             SELECT coalesce(array_agg(version ORDER BY version), '{}') AS versions,
                    coalesce(sum(bytes), 0)::bigint AS bytes,
                    (SELECT count(*) FROM unparked) AS unparked
             FROM gone",
        )
        .bind(numbers)
        .bind(signed(self.now))
        .bind(signed(self.facts.adoptions));
        let row = run(delete.fetch_one(self.connection())).await?;
        let gone: Vec<i64> = column(&row, "versions")?;
        if gone.is_empty() {
            return Ok(());
        }
        let bytes = super::codec::unsigned(&row, "bytes")?;
        let unparked = super::codec::unsigned(&row, "unparked")?;
        self.facts.entries = self.facts.entries.saturating_sub(gone.len() as u64);
        self.facts.bytes = self.facts.bytes.saturating_sub(bytes);
        self.facts.parked = self.facts.parked.saturating_sub(unparked);
        let gone = gone
            .into_iter()
            .map(|number| Version::from_u64(u64::try_from(number).unwrap_or(0)))
            .collect();
        self.publish(ChangeKind::Truncated, None, gone, None);
        self.engine().set_refused_for_room(false);
        Ok(())
    }

    async fn raise_progress(&mut self, progress: &[(StoreId, Version)]) -> JournalResult<()> {
        if progress.is_empty() {
            return Ok(());
        }
        let ids: Vec<String> = progress.iter().map(|(id, _)| id.to_string()).collect();
        let numbers: Vec<i64> = progress.iter().map(|(_, v)| version_number(*v)).collect();
        let update = sqlx::query(
            "UPDATE journal_store AS s SET progress = given.progress
             FROM unnest($1::text[], $2::bigint[]) AS given (store_id, progress)
             WHERE s.store_id = given.store_id::uuid AND s.progress < given.progress",
        )
        .bind(ids)
        .bind(numbers);
        let updated = run(update.execute(self.connection()))
            .await?
            .rows_affected();
        self.changed |= updated > 0;
        Ok(())
    }

    /// Forgets operations and keys that have been kept long enough, at most `limit`.
    async fn expire(&mut self, limit: usize) -> JournalResult<()> {
        let due_below = self.now.saturating_sub(self.engine().retention());
        let delete = sqlx::query(
            "WITH due AS MATERIALIZED (
                 SELECT operation_id, ended, key FROM journal_operation
                 WHERE ended < $1 ORDER BY ended LIMIT $2
             ), keys AS (
                 DELETE FROM journal_key AS k USING due WHERE k.place = due.key RETURNING k.place
             ), operations AS (
                 DELETE FROM journal_operation AS o USING due
                 WHERE o.operation_id = due.operation_id RETURNING o.operation_id
             )
             SELECT (SELECT max(ended) FROM due) AS last, (SELECT count(*) FROM keys) AS keys,
                    (SELECT count(*) FROM operations) AS operations",
        )
        .bind(signed(due_below))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let row = run(delete.fetch_one(self.connection())).await?;
        let Some(last) = column::<Option<i64>>(&row, "last")? else {
            return Ok(());
        };
        // Kept for ever: whoever asks for an id this old learns that nothing is known of it.
        let last = u64::try_from(last).unwrap_or(0);
        self.facts.horizon = self.facts.horizon.max(last + 1);
        let (keys, operations) = (
            super::codec::unsigned(&row, "keys")?,
            super::codec::unsigned(&row, "operations")?,
        );
        self.facts.keys = self.facts.keys.saturating_sub(keys);
        self.facts.operations = self.facts.operations.saturating_sub(operations);
        self.changed = true;
        Ok(())
    }

    /// Whether fewer than `limit` records are there by `count`, if need be after forgetting what
    /// has been kept long enough: refused writes bring no truncation that would do so.
    pub(super) async fn has_place(
        &mut self,
        limit: u64,
        count: fn(&Facts) -> u64,
    ) -> JournalResult<bool> {
        if count(&self.facts) < limit {
            return Ok(true);
        }
        if std::mem::replace(&mut self.tried_to_expire, true) {
            return Ok(false);
        }
        self.expire(EXPIRY_STEP).await?;
        Ok(count(&self.facts) < limit)
    }

    /// Records the operation as refused unless something is known of it.
    pub(super) async fn refuse_operation(
        &mut self,
        operation_id: OperationId,
    ) -> JournalResult<JournalResult<OperationLookup>> {
        if let Some(known) = self.known_operation(operation_id).await? {
            return Ok(Ok(known.into_lookup()));
        }
        let horizon = self.engine().lookup_horizon(self.now, self.facts.horizon);
        let known = absent(operation_id, horizon);
        if known != OperationLookup::Unknown {
            return Ok(Ok(known));
        }
        let limit = self.engine().options.max_operations;
        if !self.has_place(limit, |facts| facts.operations).await? {
            return Ok(Err(full(format!(
                "max_operations ({limit}) records of operations are kept"
            ))));
        }
        let claimed = operation_id.unix_milliseconds();
        // An id that claims a later time is kept until after that: `Expired` must hold of
        // everything forgotten.
        let ended = self.now.max(claimed);
        let insert = sqlx::query(
            "INSERT INTO journal_operation (operation_id, claimed, ended)
             VALUES ($1::uuid, $2, $3)",
        )
        .bind(operation_id.to_string())
        .bind(signed(claimed))
        .bind(signed(ended));
        run(insert.execute(self.connection())).await?;
        self.facts.operations += 1;
        Ok(Ok(OperationLookup::Refused))
    }
}

/// An id among the values of a change.
pub(super) fn store_id(text: Option<&str>) -> JournalResult<StoreId> {
    parse_id(text.unwrap_or_default())
}
