//! What may be let go of, and what goes with it.

use super::*;

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

/// It may have confirmed before it lost something, and nothing else is left of what it lost.
#[test]
fn an_authority_that_lacks_data_holds_what_it_once_confirmed() {
    let backlog = backlog();
    insert(&backlog, &[(1, "a")]);
    confirm(&backlog, "a", 1);
    assert_eq!(candidates(&backlog), [1]);
    backlog.set_participation(Role::Relational, Participation::NeedsRestore);
    assert!(candidates(&backlog).is_empty());
    backlog.set_participation(Role::Relational, Participation::Full);
    assert_eq!(candidates(&backlog), [1]);
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
fn candidates_are_found_beyond_one_step_and_none_is_named_twice() {
    let backlog = backlog();
    let ids: Vec<String> = (0..3 * CANDIDATES_STEP).map(|n| n.to_string()).collect();
    for first in [1, 10_000] {
        for (number, id) in (first..).zip(&ids) {
            insert(&backlog, &[(number, id)]);
            confirm(&backlog, id, number);
        }
        // Those that went may stand among what is looked at; they are back under the same ids.
        let found = backlog.truncation_candidates(usize::MAX);
        let expected: Vec<Version> = (first..).map(version).take(ids.len()).collect();
        assert_eq!(found, expected);
        assert_eq!(backlog.truncation_candidates(usize::MAX), expected);
        backlog.remove(&found);
    }
    assert!(backlog.truncation_candidates(usize::MAX).is_empty());
    assert!(backlog.lock().settled.is_empty());
}
