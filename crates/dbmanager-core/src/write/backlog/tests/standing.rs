//! How a version stands at a store, and who is told of a change.

use super::*;

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

/// A write that waits for a store which turns out to need a rebuild is answered at once.
#[test]
fn a_change_of_standing_wakes_who_waits() {
    let backlog = backlog();
    insert(&backlog, &[(1, "a")]);
    let waiter = backlog.subscribe(&key("a"));
    backlog.set_participation(Role::Vector, Participation::Skipped);
    assert!(is_notified(&waiter));
}

/// Whatever a store is found to hold when it is compared again.
#[test]
fn what_was_given_up_stays_given_up() {
    let backlog = backlog();
    insert(&backlog, &[(1, "a")]);
    sent(&backlog, Role::Vector, "a", 1, Sent::Parked("no".into()));
    assert!(backlog.give_up(Role::Vector, version(1)));
    let before = backlog.revisions.of_all();
    backlog.forget_confirmations(Role::Vector);
    assert_eq!(ids(&backlog, Role::Vector, ALL), Vec::<String>::new());
    assert_ne!(before, backlog.revisions.of_all(), "no kept answer counts");
    insert(&backlog, &[(2, "a")]);
    assert_eq!(ids(&backlog, Role::Vector, ALL), ["a"]);
}
