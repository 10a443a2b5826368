//! One transaction over the journal's one row. Whoever holds the row's lock is alone: so versions,
//! changes and commits have the same order, and nothing is ever inserted below what a reader saw.

use std::collections::BTreeMap;
use std::sync::Arc;

use dbmanager_core::{
    journal::{JournalError, JournalErrorKind, JournalResult},
    model::{Collection, StoreId, Version},
};
use sqlx::postgres::PgConnection;

use super::{
    super::{convert::failed, pool},
    codec::{self, column, damaged, signed, unavailable, unsigned, version_number},
    engine::Engine,
};

/// The live collections by name.
pub(super) type Catalogue = BTreeMap<Arc<str>, Collection>;

/// The numbers of the journal's row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) mark: Version,
    pub(super) epoch: u64,
    pub(super) generation: u64,
    /// Operations whose own time is below this may have been forgotten.
    pub(super) horizon: u64,
    pub(super) sequence: u64,
    pub(super) pruned: u64,
    /// Counts the changes of the catalogue.
    pub(super) catalogue: u64,
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) operations: u64,
    pub(super) keys: u64,
    pub(super) parked: u64,
    /// How often another authority was adopted: what was let go of before says nothing of that one.
    pub(super) adoptions: u64,
    /// Who took the lease last and has not given it up.
    pub(super) holder: Option<String>,
}

/// The kind of a change, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub(super) enum ChangeKind {
    Appended = 0,
    Truncated = 1,
    Held = 2,
    Forgotten = 3,
    Parked = 4,
    Unparked = 5,
    Roster = 6,
    Collection = 7,
    Sender = 8,
}

impl ChangeKind {
    const ALL: [ChangeKind; 9] = [
        Self::Appended,
        Self::Truncated,
        Self::Held,
        Self::Forgotten,
        Self::Parked,
        Self::Unparked,
        Self::Roster,
        Self::Collection,
        Self::Sender,
    ];

    pub(super) fn from_number(number: i16) -> JournalResult<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| *kind as i16 == number)
            .ok_or_else(|| damaged(format!("{number} is no kind of change")))
    }
}

/// A change to be written.
struct PendingChange {
    kind: ChangeKind,
    sequence: u64,
    epoch: u64,
    mark: Version,
    store_id: Option<StoreId>,
    versions: Vec<Version>,
    content: Option<String>,
}

/// A transaction that holds the row.
pub(super) struct Transaction<'e> {
    engine: &'e Engine,
    connection: pool::Lease,
    pub(super) facts: Facts,
    before: Facts,
    pub(super) catalogue: Arc<Catalogue>,
    changes: Vec<PendingChange>,
    /// The clock in milliseconds since the Unix epoch, read once.
    pub(super) now: u64,
    /// Whether anything besides the row's numbers was written.
    pub(super) changed: bool,
    pub(super) tried_to_expire: bool,
}

// `set_config(…, true)` holds to the end of the transaction: commits are durable whatever the
// database's or role's own settings are, and a connection that was cut while it holds the row does
// not hold it for ever.
const LOCK: &str = "SELECT mark, epoch, generation, horizon, sequence, pruned, catalogue, entries,
        bytes, operations, keys, parked, adoptions, holder::text AS holder,
        set_config('synchronous_commit', 'on', true),
        set_config('idle_in_transaction_session_timeout', $1, true)
    FROM journal FOR UPDATE";

impl<'e> Transaction<'e> {
    /// Begins, and waits for the row.
    pub(super) async fn begin(engine: &'e Engine) -> JournalResult<Self> {
        let mut connection = begun(engine).await?;
        let limit = engine.attempt_timeout.as_millis().max(1).to_string();
        let row = run(sqlx::query(LOCK)
            .bind(limit)
            .fetch_optional(&mut *connection))
        .await?;
        let row = row.ok_or_else(|| damaged("its row is gone"))?;
        let facts = Facts {
            mark: codec::version(&row, "mark")?,
            epoch: unsigned(&row, "epoch")?,
            generation: unsigned(&row, "generation")?,
            horizon: unsigned(&row, "horizon")?,
            sequence: unsigned(&row, "sequence")?,
            pruned: unsigned(&row, "pruned")?,
            catalogue: unsigned(&row, "catalogue")?,
            entries: unsigned(&row, "entries")?,
            bytes: unsigned(&row, "bytes")?,
            operations: unsigned(&row, "operations")?,
            keys: unsigned(&row, "keys")?,
            parked: unsigned(&row, "parked")?,
            adoptions: unsigned(&row, "adoptions")?,
            holder: column(&row, "holder")?,
        };
        let catalogue = match engine.cached_catalogue(facts.catalogue) {
            Some(catalogue) => catalogue,
            None => Arc::new(super::catalogue::read(&mut connection).await?),
        };
        Ok(Self {
            engine,
            connection,
            before: facts.clone(),
            facts,
            catalogue,
            changes: Vec::new(),
            // A clock beyond the last version would leave none to issue.
            now: engine
                .runtime
                .unix_milliseconds()
                .min(Version::MAX.milliseconds() - 1),
            changed: false,
            tried_to_expire: false,
        })
    }

    pub(super) fn engine(&self) -> &'e Engine {
        self.engine
    }

    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Refuses whoever is not, or no longer, the sender.
    pub(super) fn check_sender(&self) -> JournalResult<()> {
        if self.is_holder() && self.engine.is_own_epoch(self.facts.epoch) {
            return Ok(());
        }
        self.engine.lose_lease();
        let own = self.engine.own_epoch();
        Err(JournalError::new(
            JournalErrorKind::NotSender,
            format!(
                "another instance may be the sender: the fencing number is {}, this one's is {own}",
                self.facts.epoch
            ),
        ))
    }

    pub(super) fn is_holder(&self) -> bool {
        self.facts.holder.as_deref() == Some(self.engine.instance.as_str())
    }

    /// Notes a change for those who follow.
    pub(super) fn publish(
        &mut self,
        kind: ChangeKind,
        store_id: Option<StoreId>,
        versions: Vec<Version>,
        content: Option<String>,
    ) {
        self.facts.sequence += 1;
        self.changes.push(PendingChange {
            kind,
            sequence: self.facts.sequence,
            epoch: self.facts.epoch,
            mark: self.facts.mark,
            store_id,
            versions,
            content,
        });
    }

    /// Commits what was done; with nothing done, ends without a trace.
    ///
    /// # Errors
    /// `Indeterminate` if the commit was under way when it failed, otherwise nothing was written.
    pub(super) async fn finish(mut self) -> JournalResult<()> {
        if !self.changed && self.facts == self.before {
            run(sqlx::raw_sql("ROLLBACK").execute(&mut *self.connection)).await?;
            self.engine.publish_facts(&self.facts, &self.catalogue);
            self.connection.release();
            return Ok(());
        }
        let engine = self.engine;
        let writing = async {
            if self.facts.sequence - self.facts.pruned > 2 * engine.options.changes_kept {
                self.prune().await?;
            }
            self.write_changes().await?;
            self.write_facts().await
        };
        engine.bounded(writing).await?;
        let commit = sqlx::raw_sql("COMMIT").execute(&mut *self.connection);
        let limit = self.engine.attempt_timeout;
        match self.engine.runtime.timeout(limit, commit).await {
            Ok(Ok(_)) => {
                self.engine.publish_facts(&self.facts, &self.catalogue);
                self.engine.changed.notify_one();
                self.connection.release();
                Ok(())
            }
            Ok(Err(error)) => Err(codec::commit_failed(failed(&error))),
            Err(_) => Err(JournalError::new(
                JournalErrorKind::Indeterminate,
                "the commit was not answered in time",
            )),
        }
    }

    /// Ends without a trace.
    pub(super) async fn abandon(mut self) -> JournalResult<()> {
        run(sqlx::raw_sql("ROLLBACK").execute(&mut *self.connection)).await?;
        self.connection.release();
        Ok(())
    }

    async fn write_changes(&mut self) -> JournalResult<()> {
        if self.changes.is_empty() {
            return Ok(());
        }
        let changes = std::mem::take(&mut self.changes);
        let numbers = |of: fn(&PendingChange) -> u64| -> Vec<i64> {
            changes.iter().map(|change| signed(of(change))).collect()
        };
        let kinds: Vec<i16> = changes.iter().map(|change| change.kind as i16).collect();
        let stores: Vec<Option<String>> = changes
            .iter()
            .map(|change| change.store_id.map(|id| id.to_string()))
            .collect();
        let versions: Vec<String> = changes.iter().map(|c| array_literal(&c.versions)).collect();
        let contents: Vec<Option<String>> = changes.iter().map(|c| c.content.clone()).collect();
        let insert = sqlx::query(
            "INSERT INTO journal_change
             SELECT sequence, kind, epoch, mark, store_id::uuid, versions::bigint[], content
             FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::bigint[], $5::text[],
                         $6::text[], $7::text[])
                 AS given (sequence, kind, epoch, mark, store_id, versions, content)",
        )
        .bind(numbers(|change| change.sequence))
        .bind(kinds)
        .bind(numbers(|change| change.epoch))
        .bind(numbers(|change| change.mark.as_u64()))
        .bind(stores)
        .bind(versions)
        .bind(contents);
        run(insert.execute(&mut *self.connection)).await?;
        Ok(())
    }

    async fn prune(&mut self) -> JournalResult<()> {
        self.facts.pruned = self
            .facts
            .sequence
            .saturating_sub(self.engine.options.changes_kept);
        let delete = sqlx::query("DELETE FROM journal_change WHERE sequence <= $1")
            .bind(signed(self.facts.pruned));
        run(delete.execute(&mut *self.connection)).await?;
        // Changes of this transaction that are pruned at once are not written.
        let pruned = self.facts.pruned;
        self.changes.retain(|change| change.sequence > pruned);
        Ok(())
    }

    async fn write_facts(&mut self) -> JournalResult<()> {
        let facts = &self.facts;
        let update = sqlx::query(
            "UPDATE journal SET mark = $1, epoch = $2, generation = $3, horizon = $4,
                 sequence = $5, pruned = $6, catalogue = $7, entries = $8, bytes = $9,
                 operations = $10, keys = $11, parked = $12, adoptions = $13
             RETURNING pg_notify($14, '')::text",
        )
        .bind(version_number(facts.mark))
        .bind(signed(facts.epoch))
        .bind(signed(facts.generation))
        .bind(signed(facts.horizon))
        .bind(signed(facts.sequence))
        .bind(signed(facts.pruned))
        .bind(signed(facts.catalogue))
        .bind(signed(facts.entries))
        .bind(signed(facts.bytes))
        .bind(signed(facts.operations))
        .bind(signed(facts.keys))
        .bind(signed(facts.parked))
        .bind(signed(facts.adoptions))
        .bind(self.engine.channel.as_str());
        run(update.execute(&mut *self.connection)).await?;
        Ok(())
    }
}

/// A connection in a transaction. Connections that rested while the server was started again are
/// found here, and passed over.
async fn begun(engine: &Engine) -> JournalResult<pool::Lease> {
    loop {
        let mut connection = engine.connection().await?;
        let begin = sqlx::raw_sql("BEGIN ISOLATION LEVEL READ COMMITTED");
        match begin.execute(&mut *connection).await {
            Ok(_) => return Ok(connection),
            Err(sqlx::Error::Io(error)) => {
                tracing::debug!(%error, "a resting connection was lost");
            }
            Err(error) => return Err(unavailable(failed(&error))),
        }
    }
}

/// Runs a statement within the transaction: if it fails, nothing was written.
pub(super) async fn run<T>(
    statement: impl Future<Output = Result<T, sqlx::Error>>,
) -> JournalResult<T> {
    statement.await.map_err(|error| unavailable(failed(&error)))
}

/// Versions as the server writes an array.
fn array_literal(versions: &[Version]) -> String {
    let numbers: Vec<String> = versions.iter().map(|v| v.as_u64().to_string()).collect();
    format!("{{{}}}", numbers.join(","))
}
