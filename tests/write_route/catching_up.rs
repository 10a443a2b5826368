//! How a store gets what it has yet to receive, and what the journal lets go of then.

use std::time::Duration;

use dbmanager_core::{
    CircuitState, DatabaseManager, ErrorKind,
    model::{Level, Role},
};

use crate::{
    common::{Mode, Rig, caught_up, eventually},
    document,
};

#[tokio::test(start_paused = true)]
async fn what_a_store_is_found_to_hold_is_not_sent_again() {
    let rig = Rig::new();
    let db = rig.open().await;
    rig.switch(Role::Vector).set(Mode::Down);
    for n in 0..5 {
        let write = db.store_document("c", document(&n.to_string()));
        write.await.unwrap();
    }
    db.close(Duration::from_secs(10)).await.unwrap();
    let sent = rig.switch(Role::Graph).applies();
    let db = rig.open().await;
    rig.switch(Role::Vector).set(Mode::Up);
    eventually("the journal lets go", || db.health().journal.entries == 0).await;
    assert_eq!(rig.switch(Role::Graph).applies(), sent);
    assert!(db.check_consistency().await.unwrap().is_consistent());
}

/// Stores batches of 500 documents.
async fn store_batches(db: &DatabaseManager, batches: usize, level: Level) {
    for batch in 0..batches {
        let documents = (0..500).map(|n| document(&format!("{batch}-{n}")));
        let write = db.store_documents("c", documents).level(level);
        for answer in write.await.unwrap() {
            answer.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_write_does_not_stand_behind_a_long_backlog() {
    let rig = Rig::new();
    let db = rig.open().await;
    rig.switch(Role::Vector).set(Mode::Down);
    store_batches(&db, 4, Level::Quorum).await;
    rig.switch(Role::Vector).set(Mode::Slow);
    let vector = |db: &DatabaseManager| db.health().store(Role::Vector).unwrap().backlog;
    eventually("the vector store is back", || vector(&db) < 2_000).await;
    for (collection, id) in [("c", "new"), ("d", "new"), ("c", "2-250")] {
        db.store_document(collection, document(id).title("another"))
            .level(Level::All)
            .timeout(Duration::from_secs(1))
            .await
            .unwrap();
        assert!(vector(&db) > 500, "the backlog is not through yet");
    }
    eventually("the vector store catches up", || caught_up(&db)).await;
    assert!(db.check_consistency().await.unwrap().is_consistent());
}

/// A manager whose vector store is slow and has 6,000 documents to catch up on.
async fn with_a_backlog(rig: &Rig) -> DatabaseManager {
    let vector = rig.switch(Role::Vector);
    let db = rig.open().await;
    vector.set(Mode::Down);
    store_batches(&db, 12, Level::Quorum).await;
    vector.set(Mode::Slow);
    let before = vector.applies();
    eventually("it is tried again", || vector.applies() > before).await;
    db
}

/// Batches that the vector store takes within two seconds.
async fn batches_taken(rig: &Rig) -> u64 {
    let vector = rig.switch(Role::Vector);
    let before = vector.applies();
    tokio::time::sleep(Duration::from_secs(2)).await;
    vector.applies() - before
}

/// The same while one document is written after the other.
async fn batches_taken_beside_writing(rig: &Rig, db: &DatabaseManager, level: Level) -> u64 {
    let writing = async {
        for n in 0.. {
            let write = db.store_document("c", document(&n.to_string()));
            write.level(level).await.unwrap();
            tokio::time::sleep(Duration::from_millis(70)).await;
        }
    };
    tokio::select! {
        () = writing => unreachable!("it goes on and on"),
        batches = batches_taken(rig) => batches,
    }
}

#[tokio::test(start_paused = true)]
async fn a_backlog_gives_way_to_those_who_write_and_to_nobody_else() {
    let rig = Rig::new();
    let db = with_a_backlog(&rig).await;
    let alone = batches_taken(&rig).await;
    let beside_others = batches_taken_beside_writing(&rig, &db, Level::Quorum).await;
    assert!((19..=20).contains(&alone), "{alone} batches alone");
    assert!(
        (9..=11).contains(&beside_others),
        "{beside_others} batches beside those who write"
    );
    eventually("the vector store catches up", || caught_up(&db)).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_writes_wait_for_does_not_rest() {
    let rig = Rig::new();
    let db = with_a_backlog(&rig).await;
    rig.switch(Role::Graph).set(Mode::Down);
    db.store_document("c", document("it is down"))
        .await
        .unwrap();
    let batches = batches_taken_beside_writing(&rig, &db, Level::Quorum).await;
    assert!((19..=20).contains(&batches), "{batches} batches");
}

#[tokio::test(start_paused = true)]
async fn what_the_others_have_not_acknowledged_is_sent_without_a_rest() {
    let rig = Rig::new();
    let db = rig.open().await;
    for role in Role::ALL {
        rig.switch(role).set(Mode::Slow);
    }
    store_batches(&db, 12, Level::Journaled).await;
    let batches = batches_taken_beside_writing(&rig, &db, Level::Journaled).await;
    // Each store has to make the collection ready first.
    assert!((17..=20).contains(&batches), "{batches} batches");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_back_is_waited_for_though_it_had_nothing_left_to_receive() {
    let rig = Rig::new();
    let db = rig.open().await;
    rig.switch(Role::Vector).set(Mode::LoseAnswers);
    db.store_document("c", document("a")).await.unwrap();
    let vector = rig.switch(Role::Vector);
    eventually("it is applied", || vector.applies() > 0).await;
    vector.set(Mode::Down);
    eventually("the circuit opens", || {
        let health = db.health();
        let vector = health.store(Role::Vector).unwrap();
        matches!(vector.circuit, CircuitState::Open { .. })
    })
    .await;
    vector.set(Mode::Up);
    eventually("what was applied is seen", || caught_up(&db)).await;
    db.store_document("c", document("b"))
        .level(Level::All)
        .await
        .unwrap();
}

/// Without a circuit that opens, the sender's own back-off alone decides when it asks again.
#[tokio::test(start_paused = true)]
async fn attempts_become_rare_and_frequent_again_after_a_success() {
    let rig = Rig::new();
    let db = rig.builder_with(rig.bare_config()).open().await.unwrap();
    let vector = rig.switch(Role::Vector);
    let calls_within = async |seconds| {
        let before = vector.calls();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        vector.calls() - before
    };
    for id in ["a", "b"] {
        vector.set(Mode::Down);
        db.store_document("c", document(id)).await.unwrap();
        let at_first = calls_within(1).await;
        calls_within(60).await;
        let later = calls_within(60).await;
        assert!((3..=6).contains(&at_first), "{at_first} calls at first");
        assert!((20..=40).contains(&later), "{later} calls in a minute");
        vector.set(Mode::Up);
        eventually("it catches up", || caught_up(&db)).await;
    }
}

/// As a server does that sheds load: it takes a part of what it is sent.
#[tokio::test(start_paused = true)]
async fn a_store_that_takes_a_part_of_every_batch_is_given_a_moment_and_gets_the_rest() {
    let rig = Rig::new();
    let config = rig.bare_config();
    let config = config.adjust(|settings| settings.performance.batch_size = 10);
    let db = rig.builder_with(config).open().await.unwrap();
    let vector = rig.switch(Role::Vector);
    vector.set(Mode::Down);
    let ids = (0..300).map(|n| n.to_string()).chain(["poison".to_owned()]);
    let documents: Vec<_> = ids.map(|id| document(&id)).collect();
    for batch in documents.chunks(100) {
        db.store_documents("c", batch.to_vec()).await.unwrap();
    }
    vector.set(Mode::FailPoison);
    let before = vector.applies();
    eventually("it is tried again", || vector.applies() > before).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let applies = vector.applies() - before;
    // It waits 50 to 100 ms after each with the document that fails: every second one at least.
    assert!((8..=42).contains(&applies), "{applies} batches in a second");
    // What it never takes holds up nothing else.
    eventually("the others arrive", || {
        db.health().store(Role::Vector).unwrap().backlog == 1
    })
    .await;
    vector.set(Mode::Up);
    eventually("it catches up", || caught_up(&db)).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_lost_a_collection_gets_it_again_with_the_next_write() {
    let rig = Rig::new();
    let db = rig.open().await;
    let empty = rig.place(Role::Graph).copy();
    let write = |id| db.store_document("c", document(id)).level(Level::All);
    write("a").await.unwrap();
    rig.place(Role::Graph).restore(&empty);
    let receipt = write("b").await;
    assert!(receipt.is_ok(), "{receipt:?}");
}

#[tokio::test(start_paused = true)]
async fn a_journal_found_full_has_let_go_of_what_may_go_when_it_said_to_try_again() {
    let rig = Rig::new();
    let config = rig.config();
    let config = config.adjust(|settings| settings.journal.max_entries = Some(10));
    let db = rig.builder_with(config).open().await.unwrap();
    let write = async |n: u64| {
        let write = db.store_document("c", document(&n.to_string()));
        write.level(Level::All).await
    };
    let mut rejected = 0;
    for n in 0..100 {
        let Err(error) = write(n).await else { continue };
        rejected += 1;
        assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
        tokio::time::sleep(error.retry_after().unwrap()).await;
        write(n).await.unwrap();
    }
    assert!((5..=10).contains(&rejected), "{rejected} were rejected");
}

#[tokio::test(start_paused = true)]
async fn closing_lets_go_of_all_that_every_store_holds() {
    let rig = Rig::new();
    let db = rig.open().await;
    for id in ["a", "b", "c"] {
        let write = db.store_document("c", document(id)).level(Level::All);
        write.await.unwrap();
    }
    db.close(Duration::from_secs(10)).await.unwrap();
    rig.switch(Role::Graph).set(Mode::Down);
    let db = rig.open().await;
    assert_eq!(db.health().journal.entries, 0);
}
