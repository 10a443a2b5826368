//! The lease: one holder, and fencing of whoever was overtaken.

use std::{sync::Arc, time::Duration};

use super::{
    super::trial::{CaseResult, Failure},
    bench::{Bench, append_one, kind, new_entry, shared, truncation},
    records::{parked, store},
};
use crate::{
    Runtime,
    journal::{Changes, Confirmation, Journal, JournalErrorKind, Lease, SharedChange},
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

pub(super) async fn a_lease_goes_on_under_a_raised_epoch(bench: Bench) -> CaseResult {
    let f = bench.fixture().await?;
    let other = f.another().await?;
    let before = shared(&other)?.state().await?;
    let lease = shared(&f.journal)?.lease();
    let raised = f.journal.raise_epoch(before.epoch + 6).await?;
    ensure_eq!(
        shared(&f.journal)?.lease(),
        lease.map(|lease| Lease {
            epoch: raised,
            ..lease
        }),
        "the lease, as long as before"
    );
    ensure_eq!(shared(&other)?.acquire().await?, None, "the lease is taken");
    let state = shared(&other)?.state().await?;
    ensure_eq!(state.epoch, raised, "the journal's epoch");
    ensure!(before.sender.is_some(), "the holder has a name");
    ensure_eq!(&state.sender, &before.sender, "the holder");
    let seen = shared(&other)?.changes(before.sequence, 10).await?;
    let Changes::Next(seen) = seen else {
        return Err(Failure::new("changes are no longer kept".to_owned()));
    };
    let seen: Vec<SharedChange> = seen.into_iter().map(|(_, change)| change).collect();
    let expected = SharedChange::Sender {
        epoch: raised,
        holder: before.sender,
    };
    ensure_eq!(seen, [expected], "what the other follows");
    let renewed = shared(&f.journal)?.renew().await?;
    ensure_eq!(renewed.epoch, raised, "renewing keeps the fencing number");
    ensure!(
        Some(renewed.counts_until) >= lease.map(|lease| lease.counts_until),
        "its time goes on"
    );
    ensure_eq!(f.journal.epoch(), raised, "epoch");
    shared(&f.journal)?.release().await?;
    let next = shared(&other)?.acquire().await?;
    ensure!(
        next.is_some_and(|lease| lease.epoch > raised),
        "the next holder's {next:?} is above {raised}"
    );
    Ok(())
}

pub(super) async fn renewing_and_confirming_go_on_while_the_epoch_is_raised(
    bench: Bench,
) -> CaseResult {
    const ROUNDS: usize = 30;
    let f = bench.fixture().await?;
    let journal = &f.journal;
    let raising = async {
        for _ in 0..ROUNDS {
            journal.raise_epoch(0).await?;
        }
        CaseResult::Ok(())
    };
    let renewing = async {
        let mut before = 0;
        for _ in 0..ROUNDS {
            let renewed = shared(journal)?.renew().await?.epoch;
            ensure!(renewed >= before, "{renewed} was renewed after {before}");
            before = renewed;
        }
        Ok(())
    };
    let confirming = async {
        for _ in 0..ROUNDS {
            let forgotten = Confirmation::Forgotten(StoreId::from_u128(1));
            shared(journal)?.confirm(vec![forgotten]).await?;
        }
        CaseResult::Ok(())
    };
    let looking = async {
        let mut before = 0;
        for _ in 0..ROUNDS {
            let state = shared(journal)?.state().await?.epoch;
            let own = journal.epoch();
            ensure!(
                own >= state && own >= before,
                "{own} after {before}, with {state} in the journal"
            );
            ensure!(shared(journal)?.lease().is_some(), "the lease is lost");
            before = own;
        }
        Ok(())
    };
    let (raised, renewed, confirmed, looked) = tokio::join!(raising, renewing, confirming, looking);
    raised?;
    renewed?;
    confirmed?;
    looked?;
    let state = shared(journal)?.state().await?;
    ensure_eq!(state.epoch, journal.epoch(), "the epoch in the end");
    ensure_eq!(state.epoch, ROUNDS as u64 + 1, "every raise counted once");
    Ok(())
}

pub(super) async fn only_the_holder_raises_the_epoch(bench: Bench) -> CaseResult {
    let f = bench.fixture().await?;
    let other = f.another().await?;
    let raised = other.raise_epoch(7).await;
    ensure_eq!(kind(raised), NOT_SENDER, "by one that has no lease");
    ensure_eq!(other.epoch(), 0, "its epoch");
    let state = shared(&other)?.state().await?;
    ensure_eq!(state.epoch, 1, "the journal's epoch");
    shared(&f.journal)?.release().await?;
    let raised = f.journal.raise_epoch(7).await;
    ensure_eq!(kind(raised), NOT_SENDER, "by one that gave it up");
    shared(&other)?.acquire().await?;
    let raised = f.journal.raise_epoch(7).await;
    ensure_eq!(kind(raised), NOT_SENDER, "by one that was followed");
    ensure_eq!(f.journal.epoch(), 1, "its epoch");
    ensure_eq!(other.raise_epoch(7).await?, 8, "by the one that has it");
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
    ensure_eq!(kind(old.raise_epoch(9).await), NOT_SENDER, "raise_epoch");
    let adopted = shared(old)?.authority_adopted().await;
    ensure_eq!(kind(adopted), NOT_SENDER, "authority_adopted");
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
