//! The catalogue, the roster, parked entries, the epoch.

use super::{
    super::trial::CaseResult,
    bench::{Bench, kind, truncation},
};
use crate::{
    journal::{
        Journal, JournalErrorKind, JournalResult, JournalState, ParkedEntry, RosterRecord,
        RosterState, TruncateRequest,
    },
    model::{
        CollectionKey, CollectionOptions, EmbeddingSpace, Metric, Role, StoreId, Tokenizer, Version,
    },
};

fn space(model: &str) -> EmbeddingSpace {
    EmbeddingSpace {
        model: model.to_owned(),
        dimension: 3,
        metric: Metric::Cosine,
    }
}

pub(super) fn store(number: u128, progress: u64) -> RosterRecord {
    RosterRecord {
        store_id: StoreId::from_u128(number),
        role: Role::Graph,
        service: "memory".to_owned(),
        location: "here".to_owned(),
        state: RosterState::Active,
        enabled: true,
        stamped: true,
        progress: Version::from_u64(progress),
    }
}

pub(super) fn parked(version: Version, store: u128, error: &str) -> ParkedEntry {
    ParkedEntry {
        version,
        store_id: StoreId::from_u128(store),
        error: error.to_owned(),
    }
}

pub(super) async fn a_collection_that_has_what_is_asked_for_is_returned(
    bench: Bench,
) -> CaseResult {
    let mut f = bench.fixture().await?;
    let plain = CollectionOptions::new();
    let with_space = |model: &str| plain.clone().embedding_space(model, 3, Metric::Cosine);
    let (books, new) = f
        .journal
        .create_collection("books", with_space("m"))
        .await?;
    ensure!(new, "the first is new");
    for asked in [plain.clone(), with_space("m")] {
        let found = f.journal.create_collection("books", asked).await?;
        ensure_eq!(found, (books.clone(), false), "asked again");
    }
    for (name, asked) in [
        ("books", with_space("other")),
        ("books", plain.clone().tokenizer(Tokenizer::Trigram)),
        ("papers", with_space("m")),
    ] {
        let found = f.journal.create_collection(name, asked).await;
        ensure_eq!(
            kind(found),
            Some(JournalErrorKind::CollectionConflict),
            "{name}"
        );
    }
    f.reopen().await?;
    let found = f.journal.collections().await?;
    ensure_eq!(found.len(), 2, "collections");
    ensure_eq!(found[0], books, "the first by name");
    ensure_eq!(found[1].key, f.collection, "the second by name");
    ensure!(
        found[0].key.generation > found[1].key.generation,
        "generations rise"
    );
    Ok(())
}

pub(super) async fn the_loser_of_a_race_for_the_embedding_space_gets_the_winners(
    bench: Bench,
) -> CaseResult {
    let f = bench.fixture().await?;
    let first = f.journal.set_embedding_space(&f.collection, space("first"));
    let second = f
        .journal
        .set_embedding_space(&f.collection, space("second"));
    let (first, second) = tokio::join!(first, second);
    let (first, second) = (first?, second?);
    ensure_eq!(first, second, "both get the same");
    ensure!(first.options.embedding_space.is_some(), "it is set");
    let missing = CollectionKey::new("missing", 1);
    ensure_eq!(
        kind(f.journal.set_embedding_space(&missing, space("m")).await),
        Some(JournalErrorKind::CollectionNotFound),
        "a missing collection"
    );
    let other = CollectionKey::new("papers", f.collection.generation + 1);
    ensure_eq!(
        kind(f.journal.set_embedding_space(&other, space("m")).await),
        Some(JournalErrorKind::CollectionChanged),
        "another generation"
    );
    Ok(())
}

pub(super) async fn progress_is_recorded_with_the_truncation_and_never_goes_back(
    bench: Bench,
) -> CaseResult {
    let mut f = bench.fixture().await?;
    f.journal.put_store(store(2, 0)).await?;
    f.journal.put_store(store(1, 50)).await?;
    let progress = [(1, 40), (2, 60), (3, 70)]
        .map(|(store, version)| (StoreId::from_u128(store), Version::from_u64(version)));
    let request = TruncateRequest {
        versions: Vec::new(),
        progress: progress.to_vec(),
    };
    f.journal.truncate(request).await?;
    f.reopen().await?;
    ensure_eq!(
        f.journal.roster().await?,
        [store(1, 50), store(2, 60)],
        "a store that is not on the roster does not come onto it"
    );
    let changed = RosterRecord {
        state: RosterState::Removed,
        ..store(2, 0)
    };
    f.journal.put_store(changed.clone()).await?;
    let expected = RosterRecord {
        progress: Version::from_u64(60),
        ..changed
    };
    ensure_eq!(
        f.journal.roster().await?,
        [store(1, 50), expected],
        "a record that is written replaces the old one, but for a progress that is behind"
    );
    Ok(())
}

pub(super) async fn parked_marks_live_as_long_as_their_entry(mut bench: Bench) -> CaseResult {
    bench.options.max_parked = 3;
    let mut f = bench.fixture().await?;
    let first = f.accepted(f.upsert("a")).await?.version;
    let second = f.accepted(f.upsert("b")).await?.version;
    f.journal.park(parked(second, 1, "too long")).await?;
    f.journal.park(parked(first, 2, "too long")).await?;
    f.journal.park(parked(first, 1, "too long")).await?;
    f.journal.park(parked(first, 1, "too deep")).await?;
    let more = f.journal.park(parked(second, 2, "one too many")).await;
    ensure_eq!(kind(more), Some(JournalErrorKind::Full), "one too many");
    let gone = parked(Version::from_u64(1), 1, "no such entry");
    f.journal.park(gone).await?;
    f.reopen().await?;
    ensure_eq!(
        f.journal.parked().await?,
        [
            parked(first, 1, "too deep"),
            parked(first, 2, "too long"),
            parked(second, 1, "too long")
        ],
        "parked entries"
    );
    f.journal.unpark(second, StoreId::from_u128(9)).await?;
    f.journal.unpark(first, StoreId::from_u128(2)).await?;
    f.journal.truncate(truncation(&[second])).await?;
    f.reopen().await?;
    let left = f.journal.parked().await?;
    ensure_eq!(left, [parked(first, 1, "too deep")], "what is left");
    Ok(())
}

pub(super) async fn the_epoch_rises_by_one_with_every_opening(bench: Bench) -> CaseResult {
    let mut f = bench.fixture().await?;
    let id = f.journal.journal_id();
    for epoch in 1..4 {
        ensure_eq!(f.journal.epoch(), epoch, "epoch");
        f.reopen().await?;
        ensure_eq!(f.journal.journal_id(), id, "journal id");
    }
    Ok(())
}

pub(super) async fn a_raised_epoch_is_above_both_and_stays_so(bench: Bench) -> CaseResult {
    let mut f = bench.fixture().await?;
    let mut highest = f.journal.epoch();
    for above in [0, highest, highest + 40, highest] {
        let raised = f.journal.raise_epoch(above).await?;
        ensure!(
            raised > highest && raised > above,
            "{raised} above {highest} and {above}"
        );
        ensure_eq!(f.journal.epoch(), raised, "the epoch from then on");
        highest = raised;
    }
    ensure_eq!(
        kind(f.journal.raise_epoch(u64::MAX).await),
        Some(JournalErrorKind::Open),
        "above the highest there can be"
    );
    ensure_eq!(f.journal.epoch(), highest, "the epoch after a refusal");
    f.reopen().await?;
    ensure!(
        f.journal.epoch() > highest,
        "the next opening's {} is above {highest}",
        f.journal.epoch()
    );
    Ok(())
}

pub(super) async fn epochs_raised_at_once_are_distinct(bench: Bench) -> CaseResult {
    let f = bench.fixture().await?;
    let journal = &f.journal;
    let raise = || journal.raise_epoch(0);
    let (a, b, c, d) = tokio::join!(raise(), raise(), raise(), raise());
    let mut raised = vec![journal.epoch(), a?, b?, c?, d?];
    raised.sort_unstable();
    let highest = raised.pop();
    ensure_eq!(highest, raised.last().copied(), "the epoch is the last one");
    ensure!(
        raised.is_sorted_by(|a, b| a < b),
        "one raised it twice: {raised:?}"
    );
    Ok(())
}

pub(super) async fn what_is_done_under_a_raised_epoch_counts(bench: Bench) -> CaseResult {
    let mut f = bench.fixture().await?;
    let before = f.accepted(f.upsert("a")).await?.version;
    f.journal.raise_epoch(0).await?;
    let gone = f.accepted(f.upsert("b")).await?.version;
    let kept = f.accepted(f.upsert("c")).await?.version;
    f.journal.put_store(store(1, 0)).await?;
    f.journal.park(parked(kept, 1, "refused")).await?;
    f.journal.park(parked(before, 1, "refused")).await?;
    f.journal.unpark(before, StoreId::from_u128(1)).await?;
    f.truncate(&[gone]).await?;
    f.reopen().await?;
    ensure_eq!(f.live_versions().await?, [before, kept], "live entries");
    ensure_eq!(f.journal.roster().await?, [store(1, 0)], "the roster");
    ensure_eq!(
        f.journal.parked().await?,
        [parked(kept, 1, "refused")],
        "parked entries"
    );
    Ok(())
}

pub(super) async fn a_closed_journal_answers_closed(bench: Bench) -> CaseResult {
    fn is_closed<T>(answer: JournalResult<T>) -> bool {
        kind(answer) == Some(JournalErrorKind::Closed)
    }
    let f = bench.fixture().await?;
    f.journal.close().await?;
    f.journal.close().await?;
    ensure_eq!(f.journal.health().state, JournalState::Closed, "state");
    let journal: &dyn Journal = f.journal.as_ref();
    ensure!(is_closed(f.append_one(f.upsert("a")).await), "append");
    ensure!(is_closed(journal.roster().await), "roster");
    ensure!(is_closed(journal.put_store(store(1, 0)).await), "put_store");
    ensure!(is_closed(journal.raise_epoch(0).await), "raise_epoch");
    let live = journal.live_entries(Version::ZERO, 1).await;
    ensure!(is_closed(live), "live_entries");
    Ok(())
}
