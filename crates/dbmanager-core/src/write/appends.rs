//! Appends under way. What the journal has made durable is shown to reads a moment later, by the
//! task that appended it; whoever was refused for it must not read before that.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// The appends whose entries are not yet shown.
#[derive(Debug, Default)]
pub(super) struct Appends {
    state: Mutex<State>,
    shown: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    under_way: BTreeSet<u64>,
}

/// An append under way, until it is dropped.
#[derive(Debug)]
pub(super) struct Append<'a> {
    appends: &'a Appends,
    number: u64,
}

impl Appends {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an append.
    pub(super) fn begin(&self) -> Append<'_> {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.under_way.insert(number);
        Append {
            appends: self,
            number,
        }
    }

    /// Waits until every append that is under way now is shown. The caller's own must have ended,
    /// or two would wait for each other.
    pub(super) async fn shown(&self) {
        let last = self.state().next;
        loop {
            let mut shown = std::pin::pin!(self.shown.notified());
            // Before the look, so that what ends after it is not missed.
            shown.as_mut().enable();
            if self.state().under_way.range(..last).next().is_none() {
                return;
            }
            shown.await;
        }
    }
}

impl Drop for Append<'_> {
    fn drop(&mut self) {
        self.appends.state().under_way.remove(&self.number);
        self.appends.shown.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_was_under_way_is_waited_for() {
        let appends = Appends::default();
        appends.shown().await;
        let first = appends.begin();
        let mut waiting = std::pin::pin!(appends.shown());
        let pending = futures_util::poll!(waiting.as_mut()).is_pending();
        assert!(pending);
        let later = appends.begin();
        drop(first);
        waiting.await;
        drop(later);
    }
}
