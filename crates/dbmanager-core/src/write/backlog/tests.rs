//! The backlog by itself: what is queued for which store, what may be let go of, how a version
//! stands. `tests/` asks the same of the whole manager, where a second try hides many a mistake.

use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::Notify;

use super::{super::decide::Acknowledgement, *};
use crate::{
    journal::EntryKind,
    model::{CollectionKey, OperationId, StoreId, Timestamp},
};

const ALL: usize = 100;

fn collection(generation: u64) -> CollectionKey {
    CollectionKey::new("c", generation)
}

fn key(id: &str) -> DocumentKey {
    DocumentKey::new(collection(1), id.into())
}

fn version(number: u64) -> Version {
    Version::from_u64(number)
}

fn header(number: u64, id: &str) -> EntryHeader {
    EntryHeader {
        version: version(number),
        operation_id: OperationId::from_u128(u128::from(number)),
        collection: collection(1),
        id: id.into(),
        kind: EntryKind::Delete,
        bytes: 10,
        appended_at: Timestamp::from_unix_milliseconds(i64::try_from(number).unwrap()),
    }
}

fn drop_of(number: u64, generation: u64) -> EntryHeader {
    EntryHeader {
        collection: collection(generation),
        kind: EntryKind::DropCollection,
        ..header(number, "")
    }
}

/// Three stores that take part in full.
fn backlog() -> Backlog {
    let backlog = Backlog::new(false);
    for role in Role::ALL {
        backlog.set_participation(role, Participation::Full);
    }
    backlog
}

fn insert(backlog: &Backlog, entries: &[(u64, &str)]) {
    for (number, id) in entries {
        backlog.insert(header(*number, id), Some(DocumentState::Deleted));
    }
}

/// What a sender takes, by id and version.
fn take(backlog: &Backlog, role: Role, limit: usize) -> Vec<(String, u64)> {
    let batch = backlog.take_batch(role, limit);
    let sent = batch.into_iter();
    sent.map(|s| (s.document.id.to_string(), s.newest.version.as_u64()))
        .collect()
}

fn ids(backlog: &Backlog, role: Role, limit: usize) -> Vec<String> {
    let taken = take(backlog, role, limit).into_iter();
    taken.map(|(id, _)| id).collect()
}

/// What stands in a store's queue.
fn queue(backlog: &Backlog, role: Role) -> Vec<DocumentKey> {
    let inner = backlog.lock();
    inner.queues[slot(role)].ready.iter().cloned().collect()
}

fn sent(backlog: &Backlog, role: Role, id: &str, number: u64, sent: Sent) {
    backlog.record(role, vec![(key(id), version(number), sent)]);
}

fn confirm(backlog: &Backlog, id: &str, number: u64) {
    for role in Role::ALL {
        sent(backlog, role, id, number, Sent::Confirmed);
    }
}

fn candidates(backlog: &Backlog) -> Vec<u64> {
    let mut versions: Vec<u64> = backlog
        .truncation_candidates(ALL)
        .into_iter()
        .map(Version::as_u64)
        .collect();
    versions.sort_unstable();
    versions
}

fn standing(backlog: &Backlog, id: &str, number: u64, role: Role) -> Acknowledgement {
    let standings = backlog.standing(&key(id), version(number));
    let of_role = standings.iter().find(|s| s.role == role);
    of_role.unwrap().acknowledgement
}

fn parked(number: u64) -> ParkedEntry {
    ParkedEntry {
        version: version(number),
        store_id: StoreId::from_u128(1),
        error: "refused".to_owned(),
    }
}

/// Whether a notification is there, which is used up.
fn is_notified(notify: &Notify) -> bool {
    notify.notified().now_or_never().is_some()
}

#[test]
fn only_the_newest_version_is_sent_once_and_its_confirmation_covers_older_ones() {
    let backlog = backlog();
    insert(&backlog, &[(1, "a"), (2, "b"), (3, "a")]);
    let mut batch = take(&backlog, Role::Graph, ALL);
    batch.sort();
    assert_eq!(batch, [("a".to_owned(), 3), ("b".to_owned(), 2)]);
    assert_eq!(take(&backlog, Role::Graph, ALL), []);
    assert!(!backlog.is_confirmed(Role::Graph, &key("a"), version(1)));
    sent(&backlog, Role::Graph, "a", 3, Sent::Confirmed);
    for number in [1, 3] {
        assert!(backlog.is_confirmed(Role::Graph, &key("a"), version(number)));
        assert!(!backlog.is_confirmed(Role::Vector, &key("a"), version(number)));
    }
    assert_eq!(take(&backlog, Role::Graph, ALL), []);
    assert!(!backlog.is_caught_up(Role::Graph));
    sent(&backlog, Role::Graph, "b", 2, Sent::Confirmed);
    assert!(backlog.is_caught_up(Role::Graph));
    assert!(!backlog.is_caught_up(Role::Vector));
}

#[test]
fn what_failed_or_was_overtaken_under_way_is_sent_again_and_what_is_parked_is_not() {
    let backlog = backlog();
    insert(&backlog, &[(1, "a")]);
    assert_eq!(ids(&backlog, Role::Vector, ALL), ["a"]);
    // Under way: nobody else sends it.
    insert(&backlog, &[(2, "a")]);
    assert_eq!(queue(&backlog, Role::Vector), []);
    assert_eq!(take(&backlog, Role::Vector, ALL), []);
    sent(&backlog, Role::Vector, "a", 1, Sent::Confirmed);
    assert_eq!(take(&backlog, Role::Vector, ALL), [("a".to_owned(), 2)]);
    sent(&backlog, Role::Vector, "a", 2, Sent::Failed("down".into()));
    assert_eq!(take(&backlog, Role::Vector, ALL), [("a".to_owned(), 2)]);
    sent(&backlog, Role::Vector, "a", 2, Sent::Parked("no".into()));
    assert_eq!(take(&backlog, Role::Vector, ALL), []);
    assert_eq!(
        standing(&backlog, "a", 2, Role::Vector),
        Acknowledgement::Parked
    );
    // A newer version is another question.
    insert(&backlog, &[(3, "a")]);
    assert_eq!(take(&backlog, Role::Vector, ALL), [("a".to_owned(), 3)]);
}

#[test]
fn batches_come_from_both_ends_in_turns_and_keep_the_order_of_what_is_left() {
    let backlog = backlog();
    let entries = [(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e"), (6, "f")];
    insert(&backlog, &entries);
    assert_eq!(ids(&backlog, Role::Vector, 3), ["f", "a", "e"]);
    assert_eq!(ids(&backlog, Role::Vector, 2), ["b", "d"]);
    assert_eq!(ids(&backlog, Role::Vector, 2), ["c"]);
}

#[test]
fn a_document_written_again_while_it_waits_goes_with_the_newest_and_only_once() {
    let backlog = backlog();
    insert(
        &backlog,
        &[(1, "a"), (2, "b"), (3, "c"), (4, "a"), (5, "a")],
    );
    assert_eq!(take(&backlog, Role::Vector, 1), [("a".to_owned(), 5)]);
    assert_eq!(ids(&backlog, Role::Vector, ALL), ["b", "c"]);
}

#[test]
fn a_batch_is_of_one_collection_and_a_drop_comes_alone() {
    let backlog = backlog();
    let other = |number, id| EntryHeader {
        collection: collection(2),
        ..header(number, id)
    };
    backlog.insert(header(1, "a"), None);
    backlog.insert(other(2, "x"), None);
    backlog.insert(header(3, "b"), None);
    backlog.insert(other(4, "y"), None);
    backlog.insert(drop_of(5, 3), None);
    // Whichever end it begins at, others stay where they were.
    assert_eq!(ids(&backlog, Role::Vector, ALL), [""]);
    let graph: Vec<_> = (0..4).map(|_| ids(&backlog, Role::Graph, 3)).collect();
    let mut all: Vec<String> = graph.concat();
    all.sort();
    assert_eq!(all, ["", "a", "b", "x", "y"]);
    assert!(graph.contains(&vec![String::new()]), "{graph:?}");
    assert_eq!(ids(&backlog, Role::Vector, ALL), ["a", "b"]);
    assert_eq!(ids(&backlog, Role::Vector, ALL), ["y", "x"]);
}

#[test]
fn what_waits_behind_another_collection_is_looked_for_no_further_than_a_batch() {
    let backlog = backlog();
    let other = |number| EntryHeader {
        collection: collection(2),
        ..header(number, &number.to_string())
    };
    for number in [1, 2, 3] {
        backlog.insert(other(number), None);
    }
    insert(&backlog, &[(4, "a")]);
    backlog.insert(other(5), None);
    insert(&backlog, &[(6, "b")]);
    // From both ends: b, 1, 5, 2 and no more; a would be the next.
    assert_eq!(ids(&backlog, Role::Vector, 3), ["b"]);
    assert_eq!(queue(&backlog, Role::Vector).len(), 5);
}

#[test]
fn a_dropped_collection_needs_no_store_and_takes_late_entries_with_it() {
    let backlog = backlog();
    insert(&backlog, &[(1, "a"), (2, "b")]);
    let waiter = backlog.subscribe(&key("a"));
    backlog.insert(drop_of(3, 1), None);
    assert!(is_notified(&waiter), "a document is gone");
    assert_eq!(candidates(&backlog), [1, 2]);
    insert(&backlog, &[(4, "a")]);
    assert_eq!(candidates(&backlog), [1, 2, 4]);
    assert_eq!(backlog.truncation_candidates(2).len(), 2);
    for number in [1, 2, 4] {
        assert!(!backlog.is_live(version(number)));
        assert!(backlog.shows(version(number)));
    }
    assert!(backlog.is_live(version(3)));
    assert!(backlog.newest(&key("a")).is_none());
    assert_eq!(ids(&backlog, Role::Vector, ALL), [""]);
    assert!(!backlog.is_caught_up(Role::Vector));
    confirm(&backlog, "", 3);
    assert!(backlog.is_caught_up(Role::Vector));
    assert_eq!(candidates(&backlog), [1, 2, 3, 4]);
    backlog.remove(&[1, 2, 3, 4].map(version));
    assert!(candidates(&backlog).is_empty());
    assert!(!backlog.shows(version(1)));
}

#[test]
fn an_entry_goes_when_every_store_that_holds_truncation_has_it() {
    let backlog = backlog();
    insert(&backlog, &[(1, "a"), (2, "a"), (3, "b")]);
    sent(&backlog, Role::Vector, "a", 2, Sent::Confirmed);
    sent(&backlog, Role::Graph, "a", 2, Sent::Confirmed);
    assert!(candidates(&backlog).is_empty());
    sent(&backlog, Role::Relational, "a", 1, Sent::Confirmed);
    assert_eq!(candidates(&backlog), [1]);
    // A round that failed is tried again.
    assert_eq!(candidates(&backlog), [1]);
    sent(&backlog, Role::Relational, "a", 2, Sent::Confirmed);
    assert_eq!(candidates(&backlog), [1, 2]);
    assert_eq!(backlog.truncation_candidates(0), []);
    backlog.remove(&[version(1), version(2)]);
    assert!(candidates(&backlog).is_empty());
    assert!(!backlog.is_live(version(1)));
    // What went is held by whoever acknowledges.
    assert!(backlog.is_confirmed(Role::Vector, &key("a"), version(2)));
    sent(&backlog, Role::Graph, "b", 3, Sent::Confirmed);
    sent(&backlog, Role::Relational, "b", 3, Sent::Confirmed);
    assert!(candidates(&backlog).is_empty());
    // Looked at until something changes.
    assert!(backlog.lock().settled.is_empty());
    for (participation, holds) in [
        (Participation::Absent, false),
        (Participation::Skipped, false),
        (Participation::Disabled, true),
        (Participation::Rebuilding, true),
        (Participation::NeedsRestore, true),
    ] {
        backlog.set_participation(Role::Vector, participation);
        let expected = if holds { vec![] } else { vec![3] };
        assert_eq!(candidates(&backlog), expected, "{participation:?}");
    }
}

#[test]
fn a_pin_holds_truncation_until_the_last_one_is_gone() {
    let backlog = backlog();
    insert(&backlog, &[(1, "a")]);
    backlog.pin(&key("a"));
    backlog.pin(&key("a"));
    confirm(&backlog, "a", 1);
    assert!(candidates(&backlog).is_empty());
    backlog.unpin(&key("a"));
    assert!(candidates(&backlog).is_empty());
    is_notified(&backlog.truncatable);
    backlog.unpin(&key("a"));
    assert!(is_notified(&backlog.truncatable));
    assert_eq!(candidates(&backlog), [1]);
}

#[test]
fn a_pinned_document_is_kept_without_entries_and_forgotten_with_the_pin() {
    let backlog = backlog();
    backlog.pin(&key("a"));
    insert(&backlog, &[(1, "a")]);
    backlog.remove(&[version(1)]);
    assert!(backlog.lock().documents.contains_key(&key("a")));
    assert!(backlog.is_caught_up(Role::Vector));
    assert_eq!(backlog.live_documents(), []);
    backlog.unpin(&key("a"));
    assert!(backlog.lock().documents.is_empty());
    insert(&backlog, &[(2, "b"), (3, "a")]);
    assert_eq!(backlog.live_documents(), [key("a"), key("b")]);
    backlog.pin(&key("b"));
    backlog.unpin(&key("b"));
    assert!(backlog.lock().documents.contains_key(&key("b")));
}

#[test]
fn how_a_version_stands_at_a_store() {
    let backlog = Backlog::new(false);
    insert(&backlog, &[(5, "a")]);
    assert!(backlog.standing(&key("a"), version(5)).is_empty());
    for role in Role::ALL {
        backlog.set_participation(role, Participation::Full);
    }
    let of_vector = |number| standing(&backlog, "a", number, Role::Vector);
    assert_eq!(of_vector(5), Acknowledgement::Waiting);
    // What is no longer live was confirmed by every store.
    assert_eq!(of_vector(4), Acknowledgement::Applied);
    assert_eq!(
        standing(&backlog, "gone", 9, Role::Vector),
        Acknowledgement::Applied
    );
    backlog.set_reachability(Role::Vector, true, Some("circuit".into()));
    assert_eq!(of_vector(5), Acknowledgement::CircuitOpen);
    let error = |backlog: &Backlog| backlog.standing(&key("a"), version(5))[0].error.clone();
    assert_eq!(error(&backlog).as_deref(), Some("circuit"));
    sent(&backlog, Role::Vector, "a", 5, Sent::Failed("own".into()));
    assert_eq!(error(&backlog).as_deref(), Some("own"));
    sent(&backlog, Role::Vector, "a", 5, Sent::Parked("no".into()));
    assert_eq!(of_vector(5), Acknowledgement::Parked);
    assert_eq!(error(&backlog).as_deref(), Some("no"));
    sent(&backlog, Role::Vector, "a", 5, Sent::Confirmed);
    assert_eq!(of_vector(5), Acknowledgement::Applied);
    assert_eq!(error(&backlog), None);
    for participation in [
        Participation::Skipped,
        Participation::NeedsRestore,
        Participation::Rebuilding,
    ] {
        backlog.set_participation(Role::Vector, participation);
        assert_eq!(of_vector(5), Acknowledgement::Skipped);
        assert!(!backlog.is_confirmed(Role::Vector, &key("a"), version(5)));
        assert!(backlog.is_held(Role::Vector, &key("a"), version(5)));
    }
    backlog.set_participation(Role::Vector, Participation::Disabled);
    assert_eq!(backlog.standing(&key("a"), version(5)).len(), 2);
}

#[test]
fn a_change_of_reachability_wakes_who_waits_and_no_change_does_not() {
    let backlog = backlog();
    insert(&backlog, &[(1, "a")]);
    let waiter = backlog.subscribe(&key("a"));
    backlog.set_reachability(Role::Vector, false, None);
    assert!(!is_notified(&waiter));
    backlog.set_reachability(Role::Vector, true, None);
    assert!(is_notified(&waiter));
    backlog.set_reachability(Role::Vector, true, None);
    assert!(!is_notified(&waiter));
    backlog.set_reachability(Role::Vector, true, Some("why".into()));
    assert!(is_notified(&waiter));
    sent(&backlog, Role::Graph, "a", 1, Sent::Confirmed);
    assert!(is_notified(&waiter));
    backlog.confirm_held(Role::Vector, vec![(key("a"), version(1))]);
    assert!(is_notified(&waiter));
}

#[test]
fn waiters_that_are_gone_are_forgotten() {
    let backlog = backlog();
    insert(&backlog, &[(1, "a")]);
    let kept = backlog.subscribe(&key("a"));
    drop(backlog.subscribe(&key("a")));
    let _last = backlog.subscribe(&key("a"));
    let inner = backlog.lock();
    assert_eq!(inner.documents[&key("a")].waiters.len(), 2);
    assert_eq!(Arc::strong_count(&kept), 2);
}

#[test]
fn what_is_parked_can_be_sent_again_given_up_or_cleared() {
    let backlog = backlog();
    insert(&backlog, &[(1, "a")]);
    take(&backlog, Role::Vector, ALL);
    sent(&backlog, Role::Vector, "a", 1, Sent::Parked("no".into()));
    assert!(!backlog.unpark(Role::Graph, version(1)));
    assert!(!backlog.unpark(Role::Vector, version(2)));
    assert!(!backlog.give_up(Role::Vector, version(2)));
    assert!(!backlog.give_up(Role::Graph, version(1)));
    assert_eq!(take(&backlog, Role::Vector, ALL), []);
    assert!(backlog.unpark(Role::Vector, version(1)));
    assert_eq!(ids(&backlog, Role::Vector, ALL), ["a"]);
    sent(&backlog, Role::Vector, "a", 1, Sent::Parked("no".into()));
    assert!(backlog.give_up(Role::Vector, version(1)));
    assert!(backlog.is_confirmed(Role::Vector, &key("a"), version(1)));
    backlog.mark_parked(Role::Graph, &parked(1));
    assert_eq!(backlog.store_backlog(Role::Graph).parked, 1);
    assert_eq!(
        standing(&backlog, "a", 1, Role::Graph),
        Acknowledgement::Parked
    );
    backlog.clear_parked(Role::Graph);
    assert_eq!(backlog.store_backlog(Role::Graph).parked, 0);
    // A confirmation clears the mark of what it covers.
    backlog.mark_parked(Role::Graph, &parked(1));
    backlog.confirm_held(Role::Graph, vec![(key("a"), version(0))]);
    assert_eq!(backlog.store_backlog(Role::Graph).parked, 1);
    backlog.confirm_held(Role::Graph, vec![(key("a"), version(1))]);
    assert_eq!(backlog.store_backlog(Role::Graph).parked, 0);
    // What was queued before it was parked is not sent while it is.
    backlog.mark_parked(Role::Relational, &parked(1));
    assert_eq!(take(&backlog, Role::Relational, ALL), []);
}

#[test]
fn confirmations_that_are_forgotten_are_earned_again() {
    let backlog = backlog();
    insert(&backlog, &[(2, "b"), (1, "a"), (3, "c")]);
    for (id, number) in [("a", 1), ("b", 2), ("c", 3)] {
        confirm(&backlog, id, number);
    }
    assert_eq!(take(&backlog, Role::Vector, ALL), []);
    backlog.forget_confirmations(Role::Vector);
    assert!(!backlog.is_caught_up(Role::Vector));
    assert!(!backlog.is_held(Role::Vector, &key("a"), version(1)));
    assert!(candidates(&backlog).is_empty());
    let mut again = Vec::new();
    while let [id] = &ids(&backlog, Role::Vector, 1)[..] {
        again.push(id.clone());
    }
    again.sort();
    assert_eq!(again, ["a", "b", "c"]);
    assert_eq!(take(&backlog, Role::Graph, ALL), []);
    backlog.forget_confirmations(Role::Graph);
    // Oldest first, whatever the order of the documents.
    assert_eq!(queue(&backlog, Role::Graph), [key("a"), key("b"), key("c")]);
}

#[test]
fn a_store_that_is_not_sent_to_has_no_queue_and_gets_one_when_it_is() {
    let backlog = backlog();
    insert(&backlog, &[(1, "a")]);
    for participation in [
        Participation::Disabled,
        Participation::Skipped,
        Participation::NeedsRestore,
        Participation::Absent,
    ] {
        backlog.set_participation(Role::Vector, participation);
        assert_eq!(backlog.participation(Role::Vector), participation);
        insert(&backlog, &[(2, "b")]);
        sent(&backlog, Role::Vector, "a", 1, Sent::Failed("x".into()));
        assert_eq!(queue(&backlog, Role::Vector), [], "{participation:?}");
        assert_eq!(take(&backlog, Role::Vector, ALL), [], "{participation:?}");
        backlog.set_participation(Role::Vector, Participation::Rebuilding);
        assert_eq!(take(&backlog, Role::Vector, ALL).len(), 2);
        for (id, number) in [("a", 1), ("b", 2)] {
            sent(&backlog, Role::Vector, id, number, Sent::Failed("x".into()));
        }
    }
}

#[test]
fn what_a_store_has_yet_to_confirm_is_counted() {
    let backlog = backlog();
    assert_eq!(backlog.store_backlog(Role::Vector), StoreBacklog::default());
    insert(&backlog, &[(5, "a"), (7, "a"), (6, "b"), (3, "c")]);
    sent(&backlog, Role::Vector, "c", 3, Sent::Confirmed);
    backlog.set_reachability(Role::Vector, false, Some("why".into()));
    let expected = StoreBacklog {
        entries: 3,
        parked: 0,
        oldest: Some(Timestamp::from_unix_milliseconds(5)),
        error: Some("why".into()),
    };
    assert_eq!(backlog.store_backlog(Role::Vector), expected);
    sent(&backlog, Role::Vector, "a", 5, Sent::Confirmed);
    let of_vector = backlog.store_backlog(Role::Vector);
    assert_eq!(of_vector.entries, 2);
    assert_eq!(of_vector.oldest, Some(Timestamp::from_unix_milliseconds(6)));
}

#[test]
fn caught_up_to_a_version_looks_at_older_ones_and_not_at_what_is_parked() {
    let backlog = backlog();
    insert(&backlog, &[(1, "a"), (5, "b"), (9, "a")]);
    let to = |number| backlog.is_caught_up_to(Role::Vector, version(number));
    assert!(to(0));
    assert!(!to(1));
    sent(&backlog, Role::Vector, "a", 1, Sent::Confirmed);
    assert!(to(1) && to(4) && !to(5));
    sent(&backlog, Role::Vector, "b", 5, Sent::Parked("no".into()));
    assert!(to(8) && !to(9));
    sent(&backlog, Role::Vector, "a", 9, Sent::Confirmed);
    assert!(to(10));
}

#[test]
fn contents_are_kept_up_to_a_bound_and_let_go_of() {
    const HALF: u64 = 128 * 1024 * 1024;
    let large = |number, id, bytes| EntryHeader {
        bytes,
        ..header(number, id)
    };
    let backlog = backlog();
    let has_content = |id: &str| backlog.newest(&key(id)).unwrap().content.is_some();
    let content = || Some(DocumentState::Deleted);
    backlog.insert(large(1, "a", HALF), content());
    backlog.insert(large(2, "b", HALF), content());
    backlog.insert(large(3, "c", 1), content());
    assert!(has_content("a") && has_content("b") && !has_content("c"));
    // What was followed without its content gets it afterwards, if there is room.
    backlog.insert(large(3, "c", 1), content());
    assert!(!has_content("c"));
    backlog.remove(&[version(1)]);
    assert_eq!(backlog.lock().content_bytes, HALF);
    backlog.insert(large(3, "c", HALF), content());
    assert!(has_content("c"));
    assert_eq!(backlog.lock().content_bytes, 2 * HALF);
    backlog.insert(large(3, "c", HALF), content());
    assert_eq!(backlog.lock().content_bytes, 2 * HALF);
    backlog.remove(&[version(2)]);
    assert_eq!(backlog.lock().content_bytes, HALF);
    // Neither is counted twice, nor what has no content.
    backlog.insert(large(3, "c", 1), content());
    backlog.insert(large(4, "d", 1), None);
    backlog.insert(large(4, "d", 1), None);
    backlog.remove(&[version(4)]);
    assert_eq!(backlog.lock().content_bytes, HALF);
}

#[test]
fn an_own_entry_that_was_followed_and_is_gone_does_not_come_back() {
    let backlog = Backlog::new(true);
    for role in Role::ALL {
        backlog.set_participation(role, Participation::Full);
    }
    backlog.set_sending(true);
    backlog.follow(vec![header(5, "b")], version(6));
    insert(&backlog, &[(4, "a"), (5, "b"), (6, "a"), (7, "c")]);
    assert_eq!(backlog.live_documents(), [key("b"), key("c")]);
    assert!(backlog.newest(&key("b")).unwrap().content.is_some());
}

#[test]
fn a_sender_tells_what_it_learnt_and_others_tell_nothing() {
    let alone = backlog();
    insert(&alone, &[(1, "a")]);
    confirm(&alone, "a", 1);
    assert_eq!(alone.take_learnt(), []);

    let shared = Backlog::new(true);
    shared.set_participation(Role::Vector, Participation::Full);
    insert(&shared, &[(1, "a"), (2, "a")]);
    assert_eq!(take(&shared, Role::Vector, ALL), []);
    sent(&shared, Role::Vector, "a", 1, Sent::Confirmed);
    assert_eq!(shared.take_learnt(), []);
    shared.set_sending(true);
    assert_eq!(take(&shared, Role::Vector, ALL), [("a".to_owned(), 2)]);
    let index = slot(Role::Vector);
    sent(&shared, Role::Vector, "a", 2, Sent::Failed("x".into()));
    assert_eq!(shared.take_learnt(), []);
    sent(&shared, Role::Vector, "a", 2, Sent::Confirmed);
    assert_eq!(shared.take_learnt(), [Learnt::Held(index, version(2))]);
    // A version that is not live here is told by the newest live one below it.
    shared.confirm_held(Role::Vector, vec![(key("a"), version(9))]);
    assert_eq!(shared.take_learnt(), [Learnt::Held(index, version(2))]);
    shared.confirm_held(Role::Vector, vec![(key("a"), version(0))]);
    assert_eq!(shared.take_learnt(), []);
    shared.confirm_held(Role::Vector, vec![(key("a"), version(1))]);
    assert_eq!(shared.take_learnt(), [Learnt::Held(index, version(1))]);
    shared.forget_confirmations(Role::Vector);
    assert_eq!(shared.take_learnt(), [Learnt::Forgotten(index)]);
}

#[test]
fn what_changes_is_told_to_senders_truncation_and_caches() {
    let backlog = backlog();
    let work = |role| is_notified(&backlog.work[slot(role)]);
    let all_revisions = || backlog.revisions.of_all();
    let _ = Role::ALL.map(work);
    is_notified(&backlog.truncatable);
    assert!(backlog.work(Role::Graph).now_or_never().is_none());
    backlog.wake(Role::Graph);
    assert!(backlog.work(Role::Graph).now_or_never().is_some());
    let before = all_revisions();
    insert(&backlog, &[(1, "a")]);
    assert_ne!(all_revisions(), before);
    assert_eq!(Role::ALL.map(work), [true; 3]);
    assert!(is_notified(&backlog.truncatable));
    sent(&backlog, Role::Graph, "a", 1, Sent::Confirmed);
    assert_eq!(Role::ALL.map(work), Role::ALL.map(|r| r == Role::Graph));
    assert!(is_notified(&backlog.truncatable));
    assert!(is_notified(&backlog.learnt));
    let before = all_revisions();
    backlog.remove(&[version(1)]);
    assert_eq!(all_revisions(), before);
    // Another instance's, which came and went unseen.
    backlog.remove(&[version(8)]);
    assert_ne!(all_revisions(), before);
    let before = all_revisions();
    backlog.set_participation(Role::Vector, Participation::Skipped);
    assert_ne!(all_revisions(), before);
}
