//! The catalogue, the roster, parked entries.

use super::*;
use crate::{
    journal::{ParkedEntry, RosterRecord, RosterState, TruncateRequest},
    model::{EmbeddingSpace, Metric, Role, StoreId, Tokenizer},
};

fn space(model: &str) -> EmbeddingSpace {
    EmbeddingSpace {
        model: model.to_owned(),
        dimension: 3,
        metric: Metric::Cosine,
    }
}

fn store(number: u128, progress: u64) -> RosterRecord {
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

#[tokio::test]
async fn a_collection_that_has_what_is_asked_for_is_returned() {
    let mut f = Fixture::new().await;
    let plain = CollectionOptions::new();
    let with_space = |model: &str| plain.clone().embedding_space(model, 3, Metric::Cosine);
    let create = async |f: &Fixture, name: &str, options: &CollectionOptions| {
        f.journal.create_collection(name, options.clone()).await
    };
    let (books, new) = create(&f, "books", &with_space("m")).await.unwrap();
    assert!(new);
    for asked in [&plain, &with_space("m")] {
        let (found, new) = create(&f, "books", asked).await.unwrap();
        assert_eq!((found, new), (books.clone(), false));
    }
    for (name, asked) in [
        ("books", with_space("other")),
        ("books", plain.clone().tokenizer(Tokenizer::Trigram)),
        ("papers", with_space("m")),
    ] {
        assert_eq!(
            kind_of(create(&f, name, &asked).await),
            JournalErrorKind::CollectionConflict
        );
    }
    f.reopen().await;
    let names: Vec<_> = f.journal.collections().await.unwrap();
    assert_eq!(names[0], books);
    assert_eq!(names[1].key, f.collection);
    assert!(names[0].key.generation > names[1].key.generation);
}

#[tokio::test]
async fn the_loser_of_a_race_for_the_embedding_space_gets_the_winners() {
    let f = Fixture::new().await;
    let first = f.journal.set_embedding_space(&f.collection, space("first"));
    let second = f
        .journal
        .set_embedding_space(&f.collection, space("second"));
    let (first, second) = tokio::join!(first, second);
    assert_eq!(
        first.as_ref().unwrap().options.embedding_space,
        Some(space("first"))
    );
    assert_eq!(first.unwrap(), second.unwrap());
    let missing = CollectionKey::new("missing", 1);
    assert_eq!(
        kind_of(f.journal.set_embedding_space(&missing, space("m")).await),
        JournalErrorKind::CollectionNotFound
    );
    let other = CollectionKey::new("papers", f.collection.generation + 1);
    assert_eq!(
        kind_of(f.journal.set_embedding_space(&other, space("m")).await),
        JournalErrorKind::CollectionChanged
    );
}

#[tokio::test]
async fn progress_is_recorded_with_the_truncation_and_never_goes_back() {
    let mut f = Fixture::new().await;
    f.journal.put_store(store(2, 0)).await.unwrap();
    f.journal.put_store(store(1, 50)).await.unwrap();
    let progress = [(1, 40), (2, 60), (3, 70)]
        .map(|(store, version)| (StoreId::from_u128(store), Version::from_u64(version)));
    let request = TruncateRequest {
        versions: Vec::new(),
        progress: progress.to_vec(),
    };
    f.journal.truncate(request).await.unwrap();
    f.reopen().await;
    assert_eq!(
        f.journal.roster().await.unwrap(),
        [store(1, 50), store(2, 60)],
        "a store that is not on the roster does not come onto it"
    );
    let changed = RosterRecord {
        state: RosterState::Removed,
        ..store(2, 0)
    };
    f.journal.put_store(changed.clone()).await.unwrap();
    assert_eq!(
        f.journal.roster().await.unwrap(),
        [store(1, 50), changed],
        "a record that is written replaces the old one, progress included"
    );
}

#[tokio::test]
async fn parked_marks_live_as_long_as_their_entry() {
    let options = JournalOptions {
        max_parked: 3,
        ..JournalOptions::default()
    };
    let mut f = Fixture::with(options).await;
    let first = f.accepted(f.upsert("a")).await.version;
    let second = f.accepted(f.upsert("b")).await.version;
    let parked = |version, store, error: &str| ParkedEntry {
        version,
        store_id: StoreId::from_u128(store),
        error: error.to_owned(),
    };
    let park = async |f: &Fixture, entry: &ParkedEntry| f.journal.park(entry.clone()).await;
    park(&f, &parked(second, 1, "too long")).await.unwrap();
    park(&f, &parked(first, 2, "too long")).await.unwrap();
    park(&f, &parked(first, 1, "too long")).await.unwrap();
    park(&f, &parked(first, 1, "too deep")).await.unwrap();
    assert_eq!(
        kind_of(park(&f, &parked(second, 2, "one too many")).await),
        JournalErrorKind::Full
    );
    let gone = parked(Version::from_u64(1), 1, "no such entry");
    park(&f, &gone).await.unwrap();
    f.reopen().await;
    assert_eq!(
        f.journal.parked().await.unwrap(),
        [
            parked(first, 1, "too deep"),
            parked(first, 2, "too long"),
            parked(second, 1, "too long")
        ]
    );
    let absent = f.journal.unpark(second, StoreId::from_u128(9));
    absent.await.unwrap();
    let present = f.journal.unpark(first, StoreId::from_u128(2));
    present.await.unwrap();
    let request = TruncateRequest {
        versions: vec![second],
        progress: Vec::new(),
    };
    f.journal.truncate(request).await.unwrap();
    f.reopen().await;
    assert_eq!(
        f.journal.parked().await.unwrap(),
        [parked(first, 1, "too deep")]
    );
}

#[tokio::test]
async fn the_epoch_rises_by_one_with_every_opening() {
    let mut f = Fixture::new().await;
    let id = f.journal.journal_id();
    for epoch in 1..4 {
        assert_eq!(f.journal.epoch(), epoch);
        f.reopen().await;
        assert_eq!(f.journal.journal_id(), id);
    }
}

#[tokio::test]
async fn limits_of_zero_are_refused() {
    let options = JournalOptions {
        max_bytes: 0,
        ..JournalOptions::default()
    };
    let result = open(&MemoryStorage::new(), &options, &Clock::start()).await;
    let error = result.unwrap_err();
    assert_eq!(error.kind(), &JournalErrorKind::Open);
    assert_eq!(error.to_string(), "journal: max_bytes must be at least 1");
}
