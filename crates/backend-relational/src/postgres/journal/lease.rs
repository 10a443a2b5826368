//! The lease: who sends to the stores, and until when.

use std::time::Duration;

use dbmanager_core::{
    journal::{Confirmation, JournalError, JournalErrorKind, JournalResult, Lease, SharedState},
    model::Version,
};

use super::{
    codec::{column, unsigned, version},
    engine::Engine,
    transaction::{ChangeKind, Transaction, run},
};

/// The part of its time after which the holder no longer counts on a lease: what is left is for
/// attempts under way and for clocks that run at different speeds.
const MARGIN: u32 = 4;

/// The next number above this one.
fn epoch_above(epoch: u64) -> JournalResult<u64> {
    // The highest that the server's integers hold.
    i64::try_from(epoch)
        .ok()
        .filter(|epoch| *epoch < i64::MAX)
        .map(|_| epoch + 1)
        .ok_or_else(|| {
            JournalError::new(
                JournalErrorKind::Open,
                format!("there is no epoch above {epoch}"),
            )
        })
}

impl Engine {
    fn interval(&self) -> f64 {
        self.options.lease.as_secs_f64()
    }

    fn counts_until(&self, asked_at: Duration) -> Duration {
        asked_at + self.options.lease - self.options.lease / MARGIN
    }

    /// Takes the lease unless another opening has one that has not run out.
    pub(super) async fn acquire(&self) -> JournalResult<Option<Lease>> {
        let asked_at = self.runtime.monotonic();
        let attempt = self.bounded(async {
            let mut transaction = Transaction::begin(self).await?;
            let update = sqlx::query(
                "UPDATE journal
                 SET holder = $1::uuid, holder_name = $2,
                     lease_until = clock_timestamp() + make_interval(secs => $3)
                 WHERE holder IS NULL OR holder = $1::uuid OR lease_until <= clock_timestamp()",
            )
            .bind(self.instance.as_str())
            .bind(self.instance_name.as_str())
            .bind(self.interval());
            let taken = run(update.execute(transaction.connection())).await?;
            let taken = taken.rows_affected() == 1;
            if taken {
                transaction.facts.epoch += 1;
                let holder = Some(self.instance_name.clone());
                transaction.publish(ChangeKind::Sender, None, Vec::new(), holder);
            }
            Ok((transaction, taken))
        });
        let (transaction, taken) = attempt.await?;
        let epoch = transaction.facts.epoch;
        self.commit(transaction).await?;
        if !taken {
            return Ok(None);
        }
        self.note_epoch(epoch);
        Ok(Some(self.take_lease(self.counts_until(asked_at))))
    }

    /// Raises the sender's epoch above what it is and above `above`.
    pub(super) async fn raise_epoch(&self, above: u64) -> JournalResult<u64> {
        let attempt = self.bounded(async {
            let mut transaction = Transaction::begin(self).await?;
            transaction.check_sender()?;
            transaction.facts.epoch = epoch_above(transaction.facts.epoch.max(above))?;
            let holder = Some(self.instance_name.clone());
            transaction.publish(ChangeKind::Sender, None, Vec::new(), holder);
            Ok(transaction)
        });
        let transaction = attempt.await?;
        let raised = transaction.facts.epoch;
        // Not used before it is committed: a store must not be stamped with what the journal may
        // yet not have.
        self.announce_epoch(raised);
        self.commit(transaction).await?;
        self.note_epoch(raised);
        Ok(raised)
    }

    /// Lets the lease last from now.
    pub(super) async fn renew(&self) -> JournalResult<Lease> {
        let asked_at = self.runtime.monotonic();
        let update = async {
            let mut connection = self.connection().await?;
            let update = sqlx::query(
                "UPDATE journal SET lease_until = clock_timestamp() + make_interval(secs => $2)
                 WHERE holder = $1::uuid
                 RETURNING epoch",
            )
            .bind(self.instance.as_str())
            .bind(self.interval());
            let renewed = run(update.fetch_optional(&mut *connection)).await?;
            connection.release();
            renewed.map(|row| unsigned(&row, "epoch")).transpose()
        };
        // A lower one than its own was raised since, by this opening: it was the holder.
        let renewed = self
            .bounded(update)
            .await?
            .is_some_and(|epoch| self.is_own_epoch(epoch) || epoch < self.own_epoch());
        if !renewed {
            self.lose_lease();
            return Err(JournalError::new(
                JournalErrorKind::NotSender,
                "another instance has taken the lease",
            ));
        }
        Ok(self.take_lease(self.counts_until(asked_at)))
    }

    /// Gives the lease up, if this opening has it.
    pub(super) async fn release(&self) -> JournalResult<()> {
        self.lose_lease();
        if self.own_epoch() == 0 {
            return Ok(());
        }
        let attempt = self.bounded(async {
            let mut transaction = Transaction::begin(self).await?;
            if transaction.is_holder() {
                let update = "UPDATE journal
                     SET holder = NULL, holder_name = NULL, lease_until = NULL";
                run(sqlx::query(update).execute(transaction.connection())).await?;
                transaction.publish(ChangeKind::Sender, None, Vec::new(), None);
            }
            Ok(transaction)
        });
        let transaction = attempt.await?;
        self.commit(transaction).await
    }

    /// Publishes what the stores hold.
    pub(super) async fn confirm(&self, confirmations: Vec<Confirmation>) -> JournalResult<()> {
        let attempt = self.bounded(async {
            let mut transaction = Transaction::begin(self).await?;
            transaction.check_sender()?;
            for confirmation in confirmations {
                match confirmation {
                    Confirmation::Held { store_id, versions } => {
                        transaction.publish(ChangeKind::Held, Some(store_id), versions, None);
                    }
                    Confirmation::Forgotten(store_id) => {
                        let store_id = Some(store_id);
                        transaction.publish(ChangeKind::Forgotten, store_id, Vec::new(), None);
                    }
                }
            }
            Ok(transaction)
        });
        let transaction = attempt.await?;
        self.commit(transaction).await
    }

    /// The journal's state as of now.
    pub(super) async fn shared_state(&self) -> JournalResult<SharedState> {
        let mut connection = self.connection().await?;
        let query = sqlx::query(
            "SELECT mark, epoch, sequence, pruned, entries, bytes,
                    holder IS NOT DISTINCT FROM $1::uuid AS own,
                    CASE WHEN lease_until > clock_timestamp() THEN holder_name END AS sender
             FROM journal",
        )
        .bind(self.instance.as_str());
        let row = run(query.fetch_one(&mut *connection)).await?;
        connection.release();
        let mark: Version = version(&row, "mark")?;
        self.publish_size(mark, unsigned(&row, "entries")?, unsigned(&row, "bytes")?);
        let epoch = unsigned(&row, "epoch")?;
        if column(&row, "own")? {
            // Whoever compares the two finds them equal, even while the commit is being answered.
            self.is_own_epoch(epoch);
        }
        Ok(SharedState {
            mark,
            epoch,
            sequence: unsigned(&row, "sequence")?,
            pruned: unsigned(&row, "pruned")?,
            sender: column(&row, "sender")?,
        })
    }
}
