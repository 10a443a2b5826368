//! A backlog beside those of other instances.

use super::*;

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

/// What comes and goes while another instance sends leaves nothing behind.
#[test]
fn one_that_does_not_send_keeps_no_list_of_what_may_go() {
    let backlog = Backlog::new(true);
    backlog.set_participation(Role::Vector, Participation::Full);
    for number in 1..=3 {
        insert(&backlog, &[(number, "a")]);
        backlog.follow_held(Role::Vector, &[version(number)]);
        backlog.remove(&[version(number)]);
    }
    assert!(backlog.lock().settled.is_empty());
    insert(&backlog, &[(4, "a")]);
    backlog.follow_held(Role::Vector, &[version(4)]);
    assert!(candidates(&backlog).is_empty());
    // It learns nothing new of it when its turn to send comes.
    backlog.set_sending(true);
    assert_eq!(candidates(&backlog), [4]);
    backlog.set_sending(false);
    assert!(backlog.lock().settled.is_empty());
    backlog.set_sending(true);
    assert_eq!(candidates(&backlog), [4]);
}

/// A sender that reads its view anew while it parks something.
#[test]
fn a_mark_that_the_journal_did_not_have_yet_is_set_again_by_sending() {
    let backlog = backlog();
    insert(&backlog, &[(1, "a"), (2, "b")]);
    assert_eq!(ids(&backlog, Role::Vector, ALL), ["a", "b"]);
    for (id, number) in [("a", 1), ("b", 2)] {
        sent(&backlog, Role::Vector, id, number, Sent::Parked("x".into()));
    }
    backlog.replace_parked(Role::Vector, &[parked(2)]);
    assert_eq!(ids(&backlog, Role::Vector, ALL), ["a"]);
}
