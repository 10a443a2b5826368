//! The lease: one holder, and fencing of whoever was overtaken.

use std::{sync::Arc, time::Duration};

use super::{
    super::trial::CaseResult,
    bench::{Bench, append_one, kind, new_entry, shared, truncation},
    records::{parked, store},
};
use crate::{
    Runtime,
    journal::{Confirmation, Journal, JournalErrorKind, Lease},
    model::{StoreId, Version},
};

const NOT_SENDER: Option<JournalErrorKind> = Some(JournalErrorKind::NotSender);

/// Asks until the lease is free.
async fn take(journal: &Arc<dyn Journal>, runtime: &Runtime) -> CaseResult<Lease> {
    loop {
        if let Some(lease) = shared(journal)?.acquire().await? {
            return Ok(lease);
        }
        runtime.sleep(Duration::from_millis(10)).await;
    }
}

pub(super) async fn one_opening_holds_the_lease(bench: Bench) -> CaseResult {
    let f = bench.fixture().await?;
    let other = f.another().await?;
    ensure_eq!(other.epoch(), 0, "an opening without a lease");
    for _ in 0..3 {
        ensure_eq!(shared(&other)?.acquire().await?, None, "the lease is taken");
    }
    ensure!(shared(&other)?.lease().is_none(), "no lease");
    let held = shared(&f.journal)?.lease().map(|lease| lease.epoch);
    ensure_eq!(held, Some(1), "the holder's epoch");
    let state = shared(&other)?.state().await?;
    ensure_eq!(state.epoch, 1, "the journal's epoch");
    ensure!(state.sender.is_some(), "the holder has a name");
    other.close().await?;
    ensure!(
        shared(&f.journal)?.renew().await.is_ok(),
        "another's close takes nothing away"
    );
    Ok(())
}

pub(super) async fn a_lease_that_was_given_up_is_free_at_once(bench: Bench) -> CaseResult {
    let f = bench.fixture().await?;
    let other = f.another().await?;
    shared(&f.journal)?.release().await?;
    shared(&f.journal)?.release().await?;
    ensure!(shared(&f.journal)?.lease().is_none(), "it is given up");
    let state = shared(&other)?.state().await?;
    ensure_eq!(state.sender, None, "nobody holds it");
    let lease = shared(&other)?.acquire().await?;
    ensure_eq!(
        lease.map(|lease| lease.epoch),
        Some(2),
        "the next fencing number"
    );
    ensure_eq!(other.epoch(), 2, "epoch");
    other.close().await?;
    let lease = shared(&f.journal)?.acquire().await?;
    let epoch = lease.map(|lease| lease.epoch);
    ensure_eq!(epoch, Some(3), "closing gives it up too");
    let again = shared(&f.journal)?.acquire().await?;
    let epoch = again.map(|lease| lease.epoch);
    ensure_eq!(epoch, Some(4), "its holder may take it anew");
    Ok(())
}

pub(super) async fn a_renewed_lease_is_not_taken(mut bench: Bench) -> CaseResult {
    bench.options.lease = Duration::from_millis(400);
    let f = bench.fixture().await?;
    let runtime = f.bench.runtime();
    let other = f.another().await?;
    let first = shared(&f.journal)?.lease().map(|lease| lease.counts_until);
    let start = runtime.monotonic();
    while runtime.monotonic().saturating_sub(start) < Duration::from_millis(1_000) {
        let renewed = shared(&f.journal)?.renew().await?;
        ensure_eq!(renewed.epoch, 1, "renewing keeps the fencing number");
        ensure!(Some(renewed.counts_until) >= first, "its time goes on");
        ensure_eq!(shared(&other)?.acquire().await?, None, "the lease is taken");
        runtime.sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

pub(super) async fn what_runs_out_is_taken_over_and_the_old_sender_is_fenced(
    mut bench: Bench,
) -> CaseResult {
    bench.options.lease = Duration::from_millis(300);
    let f = bench.fixture().await?;
    let runtime = f.bench.runtime();
    f.journal.put_store(store(1, 0)).await?;
    let entry = f.accepted(f.upsert("a")).await?;
    let other = f.another().await?;
    let before = shared(&f.journal)?.lease();
    let taken = take(&other, &runtime).await?;
    ensure_eq!(taken.epoch, 2, "the next fencing number");
    ensure!(
        before.is_none_or(|lease| lease.counts_until < runtime.monotonic()),
        "the old holder counted on it when it was taken"
    );
    ensure!(
        shared(&f.journal)?.lease().is_none(),
        "the old holder knows"
    );
    let old = &f.journal;
    let held = Confirmation::Held {
        store_id: StoreId::from_u128(1),
        versions: vec![entry.version],
    };
    let confirmed = shared(old)?.confirm(vec![held.clone()]).await;
    ensure_eq!(kind(confirmed), NOT_SENDER, "confirm");
    ensure_eq!(kind(shared(old)?.renew().await), NOT_SENDER, "renew");
    let truncated = old.truncate(truncation(&[entry.version])).await;
    ensure_eq!(kind(truncated), NOT_SENDER, "truncate");
    let park = old.park(parked(entry.version, 1, "no")).await;
    ensure_eq!(kind(park), NOT_SENDER, "park");
    let unpark = old.unpark(entry.version, StoreId::from_u128(1)).await;
    ensure_eq!(kind(unpark), NOT_SENDER, "unpark");
    ensure_eq!(
        kind(old.put_store(store(1, 9)).await),
        NOT_SENDER,
        "put_store"
    );
    shared(old)?.release().await?;
    ensure_eq!(
        other.roster().await?,
        [store(1, 0)],
        "the roster is untouched"
    );
    ensure_eq!(other.parked().await?, [], "nothing is parked");
    let live = other.live_entries(Version::ZERO, 10).await?;
    ensure_eq!(live, std::slice::from_ref(&entry), "live entries");
    // What everyone may do, it may still do.
    new_entry(append_one(old.as_ref(), f.upsert("b")).await)?;
    shared(&other)?.renew().await?;
    shared(&other)?.confirm(vec![held]).await?;
    other.truncate(truncation(&[entry.version])).await?;
    Ok(())
}
