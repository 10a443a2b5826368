//! A store, or the journal, put back from an older copy.

use std::{collections::BTreeSet, future::IntoFuture, sync::Arc, time::Duration};

use dbmanager_core::{
    DifferenceKind::{Foreign, ForeignCollection, Missing, Version as OtherVersion},
    ErrorKind,
    journal::{MemoryStorage, RosterState},
    memory::MemoryPlace,
    model::{CollectionOptions, Document, Level, Precondition, Role},
};

use tokio::time::Instant;

use crate::{
    common::{Mode, Rig, eventually},
    corpus::{Finding, Ledger, Writer, assert_found, check, close, document, drained, id, state},
    hand::Hand,
};

/// Each id once: what was written after the copy.
fn after_the_copy(role: Role) -> Vec<Finding> {
    let changed = (0..5).map(|number| (role, id(number), OtherVersion));
    let deleted = (10..15).map(|number| (role, id(number), OtherVersion));
    let new = (100..110).map(|number| (role, id(number), Missing));
    changed.chain(deleted).chain(new).collect()
}

async fn write_after_the_copy(rig: &Rig, ledger: &Ledger) {
    let db = rig.open().await;
    ledger.fill(&db, 0..5, 2).await;
    for number in 10..15 {
        ledger.delete(&db, number).await;
    }
    ledger.fill(&db, 100..110, 2).await;
    drained(&db).await;
    close(db).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_put_back_from_an_older_copy_is_rebuilt_while_writes_go_on() {
    for role in [Role::Vector, Role::Graph] {
        let (mut rig, ledger) = (Rig::new(), Ledger::default());
        let db = rig.open().await;
        ledger.fill(&db, 0..100, 1).await;
        close(db).await;
        let older = rig.place(role).copy();
        write_after_the_copy(&rig, &ledger).await;
        rig.set_place(role, older);

        let db = rig.open().await;
        assert_eq!(state(&db, role), RosterState::NeedsRebuild);
        assert_found(&db, &after_the_copy(role)).await;
        rig.switch(role).set(Mode::Slow);
        let writer = Writer::start(&db, &ledger, 110);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let report = db.rebuild(role).await.unwrap();
        assert!(report.documents + report.tombstones >= 110, "{report:?}");
        assert!(writer.stop().await > 10, "writes went on meanwhile");
        assert_ne!(state(&db, role), RosterState::NeedsRebuild);
        rig.switch(role).set(Mode::Up);
        ledger.assert_sound(&db).await;
        close(db).await;
        ledger.assert_sound(&rig.open().await).await;
    }
}

/// It receives nothing until it is rebuilt: what was written again for it would get a new version
/// everywhere else, and be lacking as before.
#[tokio::test(start_paused = true)]
async fn a_store_that_needs_a_rebuild_is_compared_and_not_repaired() {
    let (mut rig, ledger) = (Rig::new(), Ledger::default());
    let db = rig.open().await;
    ledger.fill(&db, 0..20, 1).await;
    drained(&db).await;
    close(db).await;
    rig.replace(Role::Vector);
    let db = rig.open().await;
    let version = async || db.get_document("c", id(3)).await.unwrap().unwrap().version;
    let before = version().await;
    let report = db.check_consistency().repair().await.unwrap();
    let of_vector = report
        .stores
        .iter()
        .find(|s| s.role == Role::Vector)
        .unwrap();
    assert_eq!((of_vector.differences, of_vector.repaired), (20, 0));
    assert_eq!(version().await, before);
    db.rebuild(Role::Vector).await.unwrap();
    ledger.assert_sound(&db).await;
}

/// Half of it is there, under the identity that the whole one has; also with what was written
/// meanwhile, which the journal lets go of before the rebuild ends.
#[tokio::test(start_paused = true)]
async fn a_store_put_back_to_a_moment_of_its_rebuild_is_not_taken_for_the_rebuilt_one() {
    for (role, writes) in [(Role::Vector, false), (Role::Graph, true)] {
        let (mut rig, ledger) = (Rig::new(), Ledger::default());
        let db = rig.open().await;
        ledger.fill(&db, 0..5_000, 1).await;
        drained(&db).await;
        rig.switch(role).set(Mode::Slow);
        let rebuild = tokio::spawn(db.rebuild(role).into_future());
        if writes {
            tokio::time::sleep(Duration::from_millis(500)).await;
            ledger.store(&db, 5_000, 1).await;
            drained(&db).await;
        } else {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let copy = rig.place(role).copy();
        assert!(!rebuild.is_finished());
        rig.switch(role).set(Mode::Up);
        rebuild.await.unwrap().unwrap();
        ledger.assert_sound(&db).await;
        close(db).await;
        rig.set_place(role, copy);

        let db = rig.open().await;
        assert_eq!(state(&db, role), RosterState::NeedsRebuild);
        db.rebuild(role).await.unwrap();
        ledger.assert_sound(&db).await;
    }
}

/// Also after it was compared: it is looked at once more before it is stamped as whole. Between that
/// look and the stamp, a call of a tenth of a second here, nobody can tell.
#[tokio::test(start_paused = true)]
async fn a_store_wiped_unnoticed_during_its_rebuild_is_not_taken_for_the_rebuilt_one() {
    let mut comparing = 0;
    for moment in (0..30).map(|moment| Duration::from_millis(50 + 100 * moment)) {
        let (rig, ledger) = (Rig::new(), Ledger::default());
        let db = rig.open().await;
        ledger.fill(&db, 0..3, 1).await;
        drained(&db).await;
        for role in Role::ALL {
            rig.switch(role).set(Mode::Slow);
        }
        let rebuild = tokio::spawn(db.rebuild(Role::Vector).into_future());
        tokio::time::sleep(moment).await;
        if rebuild.is_finished() {
            break;
        }
        rig.place(Role::Vector).restore(&MemoryPlace::new());
        let wiped = Instant::now();
        let rebuilt = rebuild.await.unwrap();
        if wiped.elapsed() <= Duration::from_millis(100) {
            continue;
        }
        let checked = db.check_consistency().await;
        let whole = checked.is_ok_and(|report| report.is_consistent());
        assert!(rebuilt.is_err() || whole, "{moment:?}");
        let needs_rebuild = state(&db, Role::Vector) == RosterState::NeedsRebuild;
        assert!(needs_rebuild || whole, "{moment:?}");
        comparing += usize::from(!whole);
    }
    assert!(comparing > 5, "{comparing}");
}

#[tokio::test(start_paused = true)]
async fn an_authority_put_back_from_an_older_copy_is_no_authority_until_the_right_one_is_back() {
    let (mut rig, ledger) = (Rig::new(), Ledger::default());
    let db = rig.open().await;
    ledger.fill(&db, 0..100, 1).await;
    close(db).await;
    let older = rig.place(Role::Relational).copy();
    write_after_the_copy(&rig, &ledger).await;
    let right = rig.place(Role::Relational);
    rig.set_place(Role::Relational, older);

    let db = rig.open().await;
    assert_eq!(state(&db, Role::Relational), RosterState::NeedsRestore);
    // Writes go on, and what the journal holds can be read; what only the authority held is an
    // error and never an older text.
    ledger.store(&db, 3, 3).await;
    ledger.store(&db, 200, 3).await;
    ledger.delete(&db, 20).await;
    let held = db.get_document("c", id(3)).await.unwrap().unwrap();
    assert!(held.document.text.ends_with("revision 3"), "{held:?}");
    for number in [0, 10, 50] {
        let error = db.get_document("c", id(number)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    assert!(db.check_consistency().await.is_err());
    for role in [Role::Vector, Role::Graph] {
        let refused = db.rebuild(role).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
        assert_ne!(state(&db, role), RosterState::NeedsRebuild, "not emptied");
    }
    close(db).await;

    rig.set_place(Role::Relational, right);
    let db = rig.open().await;
    eventually("the authority is one again", || {
        state(&db, Role::Relational) == RosterState::Active
    })
    .await;
    ledger.assert_sound(&db).await;
}

#[tokio::test(start_paused = true)]
async fn an_empty_authority_is_none_however_often_it_is_opened_until_the_lost_one_is_back() {
    let (mut rig, ledger) = (Rig::new(), Ledger::default());
    let db = rig.open().await;
    ledger.fill(&db, 0..100, 1).await;
    ledger.delete(&db, 1).await;
    drained(&db).await;
    close(db).await;
    let lost = rig.place(Role::Relational);
    rig.replace(Role::Relational);
    for adopt in [false, false, true, false] {
        let builder = match adopt {
            true => rig.builder().adopt(),
            false => rig.builder(),
        };
        let db = builder.open().await.unwrap();
        assert_eq!(state(&db, Role::Relational), RosterState::NeedsRestore);
        assert!(db.get_document("c", id(50)).await.is_err());
        ledger.store(&db, 200, 2).await;
        ledger.delete(&db, 2).await;
        close(db).await;
    }
    rig.set_place(Role::Relational, lost);
    let db = rig.open().await;
    assert_ne!(state(&db, Role::Relational), RosterState::NeedsRestore);
    ledger.assert_sound(&db).await;
    close(db).await;
    ledger.assert_sound(&rig.open().await).await;
}

#[tokio::test(start_paused = true)]
async fn an_authority_from_a_backup_is_adopted_and_what_it_lacks_is_told() {
    let (mut rig, ledger) = (Rig::new(), Ledger::default());
    let db = rig.open().await;
    ledger.fill(&db, 0..100, 1).await;
    close(db).await;
    let backup = rig.place(Role::Relational).copy();
    let db = rig.open().await;
    ledger.fill(&db, 0..5, 2).await;
    ledger.fill(&db, 100..110, 2).await;
    drained(&db).await;
    close(db).await;

    rig.set_place(Role::Relational, backup);
    for _ in 0..2 {
        // Opening it does not make it whole.
        let db = rig.open().await;
        assert_eq!(state(&db, Role::Relational), RosterState::NeedsRestore);
        ledger.store(&db, 50, 3).await;
        close(db).await;
    }
    let db = rig.builder().adopt().open().await.unwrap();
    assert_ne!(state(&db, Role::Relational), RosterState::NeedsRestore);
    let mut expected: Vec<Finding> = Vec::new();
    for role in [Role::Vector, Role::Graph] {
        expected.extend((0..5).map(|number| (role, id(number), OtherVersion)));
        expected.extend((100..110).map(|number| (role, id(number), Foreign)));
    }
    assert_found(&db, &expected).await;
    // What came after the opening reaches it from the journal; the rest is as in the backup.
    db.check_consistency().repair().await.unwrap();
    for number in 100..110 {
        assert_eq!(db.get_document("c", id(number)).await.unwrap(), None);
        db.delete_document("c", id(number)).await.unwrap();
    }
    assert!(check(&db).await.is_consistent());
    for (number, revision) in [(0, 1), (50, 3), (70, 1)] {
        let held = db.get_document("c", id(number)).await.unwrap().unwrap();
        assert_eq!(held.document, document(number, revision));
    }
    close(db).await;
    let db = rig.open().await;
    assert_eq!(state(&db, Role::Relational), RosterState::Active);
    assert!(check(&db).await.is_consistent());
}

#[tokio::test(start_paused = true)]
async fn stores_adopted_by_an_older_copy_of_their_journal_keep_everything_and_are_told_apart() {
    let (mut rig, ledger) = (Rig::new(), Ledger::default());
    let db = rig.open().await;
    ledger.fill(&db, 0..50, 1).await;
    drained(&db).await;
    close(db).await;
    let older = MemoryStorage::from_bytes(rig.storage.to_bytes());

    // After the copy: changes that one store is still to get, and a collection of its own.
    let db = rig.open().await;
    ledger.fill(&db, 50..60, 1).await;
    let later = db.store_document("later", Document::new("l").text("kept"));
    later.level(Level::All).await.unwrap();
    rig.switch(Role::Vector).set(Mode::Down);
    ledger.store(&db, 0, 2).await;
    ledger.store(&db, 60, 2).await;
    ledger.delete(&db, 1).await;
    eventually("the others have it", || {
        let stores = db.health().stores;
        stores
            .iter()
            .all(|s| s.role == Role::Vector || s.backlog == 0)
    })
    .await;
    let newest = Hand::on(&rig, Role::Graph, &db, "c")
        .version(&id(1))
        .await
        .unwrap();
    close(db).await;
    rig.switch(Role::Vector).set(Mode::Up);

    rig.storage = Arc::new(older);
    let error = rig.builder().open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignStore, "{error}");
    let db = rig.builder().adopt().open().await.unwrap();
    // What the lost journal had yet to send is found, as is the collection that this one does not
    // know, and nothing of either is gone.
    let mut expected: Vec<Finding> = vec![
        (Role::Vector, id(0), OtherVersion),
        (Role::Vector, id(1), OtherVersion),
        (Role::Vector, id(60), Missing),
    ];
    expected.extend(Role::ALL.map(|role| (role, String::new(), ForeignCollection)));
    expected.sort();
    assert_found(&db, &expected).await;
    let report = db.check_consistency().repair().await.unwrap();
    let repaired: BTreeSet<_> = report
        .differences
        .iter()
        .filter(|d| d.repaired)
        .collect_ids();
    assert_eq!(repaired, [id(0), id(1), id(60)].into());
    ledger.assert_kept(&db).await;

    let receipt = db.store_document("c", Document::new("above")).into_future();
    assert!(
        receipt.await.unwrap().version > newest,
        "the clock was lifted"
    );
    db.delete_document("c", "above")
        .level(Level::All)
        .await
        .unwrap();
    // Known again under its name, the collection is whole.
    let options = CollectionOptions::default();
    db.create_collection("later", options).await.unwrap();
    assert!(check(&db).await.is_consistent());
    let kept = db.get_document("later", "l").await.unwrap().unwrap();
    assert_eq!(kept.document.text, "kept");
    close(db).await;
    let db = rig.open().await;
    ledger.assert_kept(&db).await;
    assert!(check(&db).await.is_consistent());
}

trait CollectIds {
    fn collect_ids(self) -> BTreeSet<String>;
}

impl<'a, I: Iterator<Item = &'a dbmanager_core::Difference>> CollectIds for I {
    fn collect_ids(self) -> BTreeSet<String> {
        self.map(|difference| difference.id.to_string()).collect()
    }
}

/// Found out by the read itself, before anybody else has looked.
#[tokio::test(start_paused = true)]
async fn an_authority_put_back_in_mid_run_is_not_read_once() {
    let (rig, ledger) = (Rig::new(), Ledger::default());
    let db = rig.builder_with(rig.bare_config()).open().await.unwrap();
    ledger.fill(&db, 0..3, 1).await;
    drained(&db).await;
    let older = rig.place(Role::Relational).copy();
    ledger.fill(&db, 0..6, 2).await;
    drained(&db).await;
    let relational = rig.switch(Role::Relational);
    relational.set(Mode::Down);
    db.get_document("c", id(0)).await.unwrap_err();
    rig.place(Role::Relational).restore(&older);
    relational.set(Mode::Up);
    for number in 0..6 {
        let error = db.get_document("c", id(number)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    let absent = db
        .store_document("c", document(5, 3))
        .precondition(Precondition::Absent);
    absent.await.unwrap_err();
    assert_eq!(state(&db, Role::Relational), RosterState::NeedsRestore);
}

/// So fast that no call has failed: the next round of truncation would stamp it as if it had all.
#[tokio::test(start_paused = true)]
async fn a_store_wiped_or_put_back_unnoticed_is_found_out_before_it_is_stamped() {
    for role in [Role::Vector, Role::Graph] {
        for wiped in [true, false] {
            let (rig, ledger) = (Rig::new(), Ledger::default());
            let db = rig.open().await;
            ledger.fill(&db, 0..3, 1).await;
            drained(&db).await;
            let older = match wiped {
                true => MemoryPlace::new(),
                false => rig.place(role).copy(),
            };
            ledger.fill(&db, 3..6, 1).await;
            drained(&db).await;
            rig.place(role).restore(&older);
            ledger.store(&db, 7, 1).await;
            let found = || state(&db, role) == RosterState::NeedsRebuild;
            eventually("it is found out", found).await;
            db.rebuild(role).await.unwrap();
            ledger.assert_sound(&db).await;
        }
    }
}
