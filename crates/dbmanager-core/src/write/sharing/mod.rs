//! One journal, several managers: which of them sends, and how the others follow.
//!
//! One manager holds the journal's lease and sends; it is the only one that stamps stores, writes
//! the roster, parks, confirms and truncates. All of them append, and all of them follow the
//! journal's changes, so that each has the same view of live entries. What the sender learns from
//! stores it publishes, so that writes through another manager are answered, too.
//!
//! The sender stops by itself before its lease can have run out: senders ask before every step, and
//! the time they count on ends earlier than the server's. An attempt that is under way then lands
//! late at worst, under an epoch that the stores refuse once they are stamped with the next, and
//! below versions that are never lowered.

mod follow;
mod lead;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, watch};

pub(super) use follow::{run_following, run_publishing};
pub(super) use lead::run_lease;

use super::{WriteRoom, journal_error};
use crate::{
    Error, ErrorKind, Result,
    journal::{JournalResult, SharedJournal},
    model::Version,
};

/// How long a sender without a lease waits before it looks again, if nothing wakes it.
const LOOK: Duration = Duration::from_millis(100);

/// What a manager keeps of a journal that it shares.
#[derive(Debug)]
pub(super) struct Sharing {
    /// Whether this manager was made the sender. Its lease may have run out all the same.
    sending: watch::Sender<bool>,
    /// The last change that was followed; held while following.
    position: tokio::sync::Mutex<u64>,
    /// Something was followed.
    followed: Notify,
    /// The lease may be free.
    lease_is_free: Notify,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    sender: Option<String>,
    epoch: u64,
    /// When all changes had been followed last, on the monotonic clock.
    up_to_date_at: Option<Duration>,
    error: Option<String>,
}

/// How a manager stands towards the others that have its journal open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharingStatus {
    pub(crate) sends: bool,
    pub(crate) epoch: u64,
    pub(crate) sender: Option<String>,
    pub(crate) behind_for: Duration,
    pub(crate) error: Option<String>,
}

impl Sharing {
    pub(super) fn new(sends: bool) -> Self {
        Self {
            sending: watch::Sender::new(sends),
            position: tokio::sync::Mutex::new(0),
            followed: Notify::new(),
            lease_is_free: Notify::new(),
            seen: Mutex::default(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_sending(&self) -> bool {
        *self.sending.borrow()
    }
}

impl WriteRoom {
    /// The shared journal and what is kept of sharing it.
    fn shared(&self) -> Option<(&dyn SharedJournal, &Sharing)> {
        Some((self.journal.shared()?, self.sharing.as_ref()?))
    }

    /// Whether this manager may send to stores at this moment.
    pub(crate) fn is_sender(&self) -> bool {
        match self.shared() {
            None => true,
            Some((journal, sharing)) => sharing.is_sending() && journal.lease().is_some(),
        }
    }

    /// Waits until this manager may send, or the room closes.
    pub(super) async fn wait_until_sender(&self) {
        let Some((_, sharing)) = self.shared() else {
            return;
        };
        let mut sending = sharing.sending.subscribe();
        while !self.is_sender() && !self.is_closing() {
            tokio::select! {
                biased;
                // The sender of the watch lives as long as the room.
                _ = sending.changed() => {}
                () = self.runtime.sleep(LOOK) => {}
                () = self.closing() => {}
            }
        }
    }

    /// Refuses what only the sending manager can do.
    ///
    /// # Errors
    /// `NotSender`, naming the one that is.
    pub(crate) fn check_sender(&self) -> Result<()> {
        if self.is_sender() {
            return Ok(());
        }
        let sender = self
            .shared()
            .and_then(|(_, sharing)| sharing.seen().sender.clone());
        let error = Error::new(
            ErrorKind::NotSender,
            "this instance does not send to the stores; ask the one that does",
        );
        Err(match sender {
            Some(sender) => error.with("sender", sender),
            None => error,
        })
    }

    /// How this manager stands; `None` if its journal is its own.
    pub(crate) fn sharing_status(&self) -> Option<SharingStatus> {
        let (journal, sharing) = self.shared()?;
        let now = self.runtime.monotonic();
        let sends = sharing.is_sending() && journal.lease().is_some();
        let seen = sharing.seen();
        Some(SharingStatus {
            sends,
            epoch: seen.epoch,
            sender: seen.sender.clone(),
            behind_for: seen.up_to_date_at.map_or(now, |at| now.saturating_sub(at)),
            error: seen.error.clone(),
        })
    }

    /// Follows every change that is committed now.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub(crate) async fn follow_now(&self) -> Result<()> {
        if self.shared().is_none() {
            return Ok(());
        }
        while self.follow_once().await.map_err(journal_error)? {}
        Ok(())
    }

    /// Waits until this manager's view holds everything up to a version.
    ///
    /// # Errors
    /// `Timeout`; `Closed`.
    pub(crate) async fn follow_to(&self, version: Version, timeout: Duration) -> Result<()> {
        let Some((_, sharing)) = self.shared() else {
            return Ok(());
        };
        let deadline = self.runtime.monotonic().saturating_add(timeout);
        loop {
            let followed = sharing.followed.notified();
            if self.backlog.followed() >= version {
                return Ok(());
            }
            self.check_open()?;
            let left = deadline.saturating_sub(self.runtime.monotonic());
            if left.is_zero() {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    "the journal was not followed up to the write in time",
                )
                .with("version", version));
            }
            tokio::select! {
                biased;
                () = followed => {}
                () = self.runtime.sleep(left) => {}
                () = self.closing() => {}
            }
        }
    }

    /// The journal's mark as of now.
    pub(super) async fn current_mark(&self) -> JournalResult<Version> {
        match self.journal.shared() {
            Some(shared) => Ok(shared.state().await?.mark),
            None => Ok(self.journal.mark()),
        }
    }
}
