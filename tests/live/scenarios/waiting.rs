//! Waiting for a condition in real time.

use std::time::{Duration, Instant};

use dbmanager::prelude::*;
use dbmanager_core::{health::StoreHealth, journal::RosterState};

/// The longest that anything may take to come about. Back-off and circuit breaker end a pause of
/// their own making after seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks.
const STEP: Duration = Duration::from_millis(20);

/// Waits until the condition holds.
///
/// # Panics
/// With what `look` saw last, when it never does.
pub(super) async fn until<T: std::fmt::Debug>(
    what: &str,
    mut look: impl AsyncFnMut() -> Result<(), T>,
) {
    let start = Instant::now();
    loop {
        let Err(seen) = look().await else { return };
        assert!(
            start.elapsed() < PATIENCE,
            "never happened: {what}; last seen: {seen:#?}"
        );
        tokio::time::sleep(STEP).await;
    }
}

/// What is known of the store of a role.
pub(super) fn store_health(db: &DatabaseManager, role: Role) -> StoreHealth {
    let health = db.health();
    health.store(role).expect("every role is enabled").clone()
}

/// Waits until every store answers, holds everything, and nothing is parked: by itself, the
/// manager is not reopened.
pub(super) async fn settled(db: &DatabaseManager) {
    until("every store is up and has caught up", async || {
        let health = db.health();
        let settled = health.status == HealthStatus::Healthy
            && health
                .stores
                .iter()
                .all(|store| store.backlog == 0 && store.state == RosterState::Active);
        if settled { Ok(()) } else { Err(health) }
    })
    .await;
}

/// Waits until the journal has let go of everything.
pub(super) async fn let_go(db: &DatabaseManager) {
    until("the journal lets go of everything", async || {
        let journal = db.health().journal;
        if journal.entries == 0 {
            Ok(())
        } else {
            Err(journal)
        }
    })
    .await;
}

/// Awaits what must end within a deadline, with a slack for a busy machine.
///
/// # Panics
/// If it takes more than three times as long and a second.
pub(super) async fn within<T>(
    what: &str,
    deadline: Duration,
    work: impl IntoFuture<Output = T>,
) -> T {
    let bound = deadline * 3 + Duration::from_secs(1);
    match tokio::time::timeout(bound, work.into_future()).await {
        Ok(value) => value,
        Err(_) => panic!("{what} with a deadline of {deadline:?} took more than {bound:?}"),
    }
}
