//! What is queued for which store, and what becomes of it.

use super::*;

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
    assert_eq!(ids(&backlog, Role::Vector, 2), ["e", "f"]);
    assert_eq!(ids(&backlog, Role::Vector, 2), ["a", "b"]);
    assert_eq!(ids(&backlog, Role::Vector, 1), ["d"]);
    assert_eq!(ids(&backlog, Role::Vector, 2), ["c"]);
}

#[test]
fn a_batch_of_large_documents_has_few_of_them() {
    let backlog = backlog();
    for (number, id) in [(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e")] {
        let large = EntryHeader {
            bytes: 6 << 20,
            ..header(number, id)
        };
        backlog.insert(large, None);
    }
    let larger = EntryHeader {
        bytes: 32 << 20,
        ..header(6, "f")
    };
    backlog.insert(larger, None);
    assert_eq!(ids(&backlog, Role::Vector, ALL), ["f"]);
    assert_eq!(ids(&backlog, Role::Vector, ALL), ["a", "b", "c"]);
    assert_eq!(ids(&backlog, Role::Vector, ALL), ["d", "e"]);
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
    assert_eq!(ids(&backlog, Role::Vector, ALL), ["x", "y"]);
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
    for number in [5, 6, 7] {
        backlog.insert(other(number), None);
    }
    insert(&backlog, &[(8, "b")]);
    // From the newer end: b, 7, 6, 5 and no more; a would be the next.
    assert_eq!(ids(&backlog, Role::Vector, 3), ["b"]);
    assert_eq!(queue(&backlog, Role::Vector).len(), 7);
    // From the other end as far: 1, which 2 and 3 belong to.
    assert_eq!(ids(&backlog, Role::Vector, 3), ["1", "2", "3"]);
    assert_eq!(ids(&backlog, Role::Vector, 3), ["5", "6", "7"]);
    assert_eq!(ids(&backlog, Role::Vector, 3), ["a"]);
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

/// As at an opening, where the journal still knows what a newer version has cleared.
#[test]
fn what_was_parked_does_not_hold_up_a_newer_version() {
    for (newest, expected) in [(1, vec![]), (2, vec![("a".to_owned(), 2)])] {
        let backlog = Backlog::new(false);
        for number in 1..=newest {
            insert(&backlog, &[(number, "a")]);
        }
        backlog.mark_parked(Role::Vector, &parked(1));
        backlog.set_participation(Role::Vector, Participation::Full);
        assert_eq!(take(&backlog, Role::Vector, ALL), expected);
    }
}

/// A refusal that comes when a newer version is live already.
#[test]
fn an_overtaken_version_that_is_refused_does_not_hold_up_the_newer_one() {
    let backlog = backlog();
    insert(&backlog, &[(1, "a")]);
    assert_eq!(take(&backlog, Role::Vector, ALL), [("a".to_owned(), 1)]);
    insert(&backlog, &[(2, "a")]);
    sent(&backlog, Role::Vector, "a", 1, Sent::Parked("no".into()));
    assert_eq!(
        standing(&backlog, "a", 2, Role::Vector),
        Acknowledgement::Waiting
    );
    assert_eq!(take(&backlog, Role::Vector, ALL), [("a".to_owned(), 2)]);
}
