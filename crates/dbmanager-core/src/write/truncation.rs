//! Letting go of entries: stores are made durable and stamped with their progress first, then the
//! journal truncates.

use std::{sync::Arc, time::Duration};

use super::{WriteRoom, backlog::Participation};
use crate::{
    backend::BackendError,
    journal::TruncateRequest,
    model::{Role, StoreId, Version},
};

/// Entries let go of in one round.
const ROUND: usize = 20_000;
/// Entries that the journal lets go of in one transaction: appends wait for it.
const TRANSACTION: usize = 250;
/// The wait that lets a round grow, since each one costs a disk sync per store and for the journal,
/// while which none of them is written.
const GATHER: Duration = Duration::from_millis(500);
/// The wait after a failed round.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Truncates until the room closes.
pub(crate) async fn run_truncation(room: Arc<WriteRoom>) {
    while !room.is_closing() {
        room.backlog.truncatable.notified().await;
        if !room.is_sender() {
            room.wait_until_sender().await;
            room.backlog.truncatable.notify_one();
            continue;
        }
        if room.is_closing() {
            return;
        }
        if let Err(error) = room.give_up_disabled().await {
            tracing::warn!(%error, "the roster cannot be written");
        }
        let wait = match truncate_round(&room).await {
            Ok(ROUND..) => {
                room.backlog.truncatable.notify_one();
                continue;
            }
            Ok(_) => GATHER,
            Err(error) => {
                tracing::warn!(error, "the journal was not truncated");
                room.backlog.truncatable.notify_one();
                AFTER_FAILURE
            }
        };
        tokio::select! {
            biased;
            () = room.runtime.sleep(wait) => {}
            () = room.closing() => {}
        }
    }
}

/// Rounds until no more entries can go.
///
/// # Errors
/// Why a store could not be made durable, or the journal not truncated; nothing was let go of then.
pub(crate) async fn truncate_all(room: &WriteRoom) -> Result<(), String> {
    while truncate_round(room).await? > 0 {}
    Ok(())
}

/// Lets go of what may go, at most a round; how many entries.
async fn truncate_round(room: &WriteRoom) -> Result<usize, String> {
    let openings = openings(room);
    let versions = candidates(room).await;
    let Some(highest) = versions.iter().max().copied() else {
        return Ok(0);
    };
    let progress = make_durable(room, highest).await?;
    for versions in versions.chunks(TRANSACTION) {
        if openings.contains(&None) || openings != self::openings(room) {
            // A store was opened anew meanwhile: what it had confirmed may be gone with its cache.
            return Err("the confirmations of a store are being checked".to_owned());
        }
        let request = TruncateRequest {
            versions: versions.to_vec(),
            progress: progress
                .iter()
                .map(|(_, id, version)| (*id, *version))
                .collect(),
        };
        let truncated = room.journal.truncate(request).await;
        truncated.map_err(|error| error.to_string())?;
        for (role, _, version) in &progress {
            if let Some(store) = room.store(*role) {
                store.set_progress(*version);
            }
        }
        room.backlog.remove(versions);
    }
    Ok(versions.len())
}

/// What may go, without versions whose older ones may not be shown yet: with the newer one let go of
/// alone, those would come back to reads, here and in a manager that opens next.
async fn candidates(room: &WriteRoom) -> Vec<Version> {
    let mut known = room.journal.mark();
    if room.journal.shared().is_some() {
        known = known.min(room.backlog.followed());
    }
    // All below the mark was appended by somebody who has begun before.
    room.appends.shown().await;
    let mut versions = room.backlog.truncation_candidates(ROUND);
    let found = versions.len();
    versions.retain(|version| *version <= known);
    if versions.len() < found {
        room.backlog.truncatable.notify_one();
    }
    versions
}

fn confirms(room: &WriteRoom, role: Role) -> bool {
    matches!(
        room.backlog.participation(role),
        Participation::Full | Participation::Rebuilding
    )
}

fn openings(room: &WriteRoom) -> Vec<Option<u64>> {
    room.stores
        .iter()
        .filter(|store| confirms(room, store.role))
        .map(|store| store.trusted_opening())
        .collect()
}

/// Makes every store that holds truncation durable, and stamps it with its new progress.
async fn make_durable(
    room: &WriteRoom,
    highest: Version,
) -> Result<Vec<(Role, StoreId, Version)>, String> {
    let mut progress = Vec::new();
    for store in room
        .stores
        .iter()
        .filter(|store| confirms(room, store.role))
    {
        let describe = |error: BackendError| {
            store.note_failure(&error);
            format!("{}: {error}", store.role)
        };
        let backend = store.connect().await.map_err(describe)?.as_backend();
        let version = store.record().progress.max(highest);
        store
            .stamp(backend.as_ref(), version)
            .await
            .map_err(describe)?;
        progress.push((store.role, store.store_id(), version));
    }
    Ok(progress)
}
