//! Stores in trouble under constant load, each role in turn, on the simulated clock: a store that
//! comes and goes, one that fails for a minute, one that fails two calls of three, and one that is
//! sent ten times what it can take.
//!
//! In each of them, asserted by [`World::end`] and [`assert_recovered`]:
//! - **attempts**: what arrives at the adapter is at most 1.1 times the first attempts, that is the
//!   calls that were let through to the store. Where calls are few and most of them fail, the
//!   retry budget's reserve comes to it (`world::RESERVE` and one a second);
//! - **memory**: the journal never holds more entries than `max_entries`, and never more writes
//!   are under way than `write.max_in_flight`;
//! - **answers**: a write is acknowledged, pending, or rejected as `Overloaded` with the time after
//!   which to try again; nothing else;
//! - **recovery**: ten seconds after the store is well again, at least nine tenths of what was
//!   acknowledged before are, its circuit is closed and its backlog drained;
//! - **content**: what was acknowledged or pending is there, what was rejected is not, and every
//!   store holds exactly what it should.
#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

mod common;

#[path = "overload/load.rs"]
mod load;
#[path = "overload/world.rs"]
mod world;

use std::{future::IntoFuture, time::Duration};

use common::{Mode, Rig, caught_up, eventually};
use dbmanager_core::{
    ErrorKind, WriteOutcome,
    model::{Document, Level, Role},
};
use load::Tally;
use world::World;

/// What the stores are sent when nothing is wrong.
const CALM: u32 = 50;
const SECOND: Duration = Duration::from_secs(1);

/// From the healing on: how long the stores have until everything is as before.
const RECOVERY: Duration = Duration::from_secs(10);
/// The same where no call is left that waits for an answer: one round of the health monitor finds
/// the store, and the sender does not wait any longer then.
const RECOVERY_BY_MONITOR: Duration = Duration::from_millis(5_500);

/// This long after the healing at least nine tenths of the goodput of before are back.
async fn assert_recovered(world: &mut World, level: Level, before: &Tally, within: Duration) {
    world.load.run(CALM, level, within).await;
    world.assert_drained();
    let after = world.load.run(CALM, level, 5 * SECOND).await;
    assert!(
        10 * after.acknowledged() >= 9 * before.acknowledged(),
        "{before:?} before, {after:?} after"
    );
}

async fn a_store_that_comes_and_goes(role: Role, seed: u64) {
    let mut world = World::new(role, seed).await;
    let before = world.load.run(CALM, Level::Quorum, 5 * SECOND).await;
    let mut left = 20 * SECOND;
    let mut mode = Mode::Down;
    while !left.is_zero() {
        let span = Duration::from_millis(100 + world.random() % 500).min(left);
        world.switch().set(mode);
        world.load.run(CALM, Level::Quorum, span).await;
        left -= span;
        mode = match mode {
            Mode::Down => Mode::Up,
            _ => Mode::Down,
        };
    }
    world.switch().set(Mode::Up);
    assert_recovered(&mut world, Level::Quorum, &before, RECOVERY).await;
    world.assert_few_attempts();
    world.end().await;
}

/// Never enough failures in a row to open the circuit: only the budget bounds the retries.
async fn a_store_that_fails_two_calls_of_three(role: Role, seed: u64) {
    let mut world = World::new(role, seed).await;
    let before = world.load.run(CALM, Level::Quorum, 5 * SECOND).await;
    world.switch().set(Mode::Flaky);
    world.load.run(CALM, Level::Quorum, 30 * SECOND).await;
    world.switch().set(Mode::Up);
    assert_recovered(&mut world, Level::Quorum, &before, RECOVERY).await;
    world.end().await;
}

async fn a_store_that_fails_for_a_minute(role: Role, mode: Mode, level: Level, seed: u64) {
    let mut world = World::new(role, seed).await;
    let before = world.load.run(CALM, level, 5 * SECOND).await;
    world.switch().set(mode);
    let calls = world.switch().calls();
    // Not a whole number of rounds of the monitor: the healing comes at any moment of one.
    let outage = 60 * SECOND + Duration::from_millis(world.random() % 5_000);
    let during = world.load.run(CALM, level, outage).await;
    let calls = world.switch().calls() - calls;
    assert!(calls <= 80, "a dead store was asked {calls} times");
    assert!(during.rejected > 0, "the journal's limit was not reached");
    world.switch().set(Mode::Up);
    let within = match mode {
        Mode::Hang => RECOVERY,
        _ => RECOVERY_BY_MONITOR,
    };
    assert_recovered(&mut world, level, &before, within).await;
    world.assert_few_attempts();
    world.end().await;
}

async fn ten_times_what_a_store_can_take(role: Role, level: Level, seed: u64) {
    let mut world = World::new(role, seed).await;
    let before = world.load.run(CALM, level, 5 * SECOND).await;
    world.switch().set(Mode::Strained);
    let during = world
        .load
        .run(10 * world.capacity(), level, 4 * SECOND)
        .await;
    assert!(during.rejected > 0, "no limit was reached");
    assert!(during.acknowledged() > 0, "what can be taken is taken");
    world.switch().set(Mode::Up);
    assert_recovered(&mut world, level, &before, RECOVERY).await;
    world.assert_few_attempts();
    world.end().await;
}

/// Without a circuit that opens, only the sender's own back-off keeps it from taking the store at
/// its word.
#[tokio::test(start_paused = true)]
async fn a_store_that_asks_to_be_tried_again_at_once_is_not_hammered() {
    for role in Role::ALL {
        let rig = Rig::new();
        let config = rig.config();
        let config = config.adjust(|settings| settings.performance.circuit_breaker_threshold = 0);
        let db = rig.builder_with(config).open().await.unwrap();
        rig.switch(role).set(Mode::Busy);
        let before = rig.switch(role).calls();
        db.store_document("c", Document::new("a").text("kept"))
            .await
            .unwrap();
        tokio::time::sleep(60 * SECOND).await;
        let calls = rig.switch(role).calls() - before;
        assert!(calls <= 200, "{role} was asked {calls} times in a minute");
        rig.switch(role).set(Mode::Up);
        eventually("it catches up", || caught_up(&db)).await;
        assert!(db.check_consistency().await.unwrap().is_consistent());
    }
}

#[tokio::test(start_paused = true)]
async fn while_no_more_writes_are_let_in_a_known_key_is_still_answered() {
    let rig = Rig::new();
    let config = rig.config();
    let config = config.adjust(|settings| settings.write.max_in_flight = 1);
    let db = rig.builder_with(config).open().await.unwrap();
    let write = |id: &str, key: &str| {
        db.store_document("c", Document::new(id).text("kept"))
            .idempotency_key(key)
    };
    let receipt = write("a", "known").await.unwrap();
    rig.switch(Role::Vector).set(Mode::Hang);
    let waiting = tokio::spawn(write("b", "other").level(Level::All).into_future());
    tokio::time::sleep(Duration::from_millis(1)).await;

    assert_eq!(write("a", "known").await.unwrap().version, receipt.version);
    let refused = [
        write("c", "new").await.unwrap_err(),
        db.store_document("c", Document::new("d"))
            .await
            .unwrap_err(),
        db.delete_document("c", "a").await.unwrap_err(),
        db.drop_collection("c").await.unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
        assert_eq!(error.write_outcome(), Some(&WriteOutcome::Rejected));
        assert!(error.retry_after().is_some(), "{error}");
    }
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LevelNotReached, "{error}");
    db.store_document("c", Document::new("d")).await.unwrap();
}

macro_rules! for_each_role {
    ($($name:ident, $seeds:expr, |$role:ident, $seed:ident| $scenario:expr;)*) => {
        $(
            mod $name {
                use super::*;

                async fn run($role: Role) {
                    for $seed in $seeds {
                        // Shown by the test harness if it fails.
                        println!("{}, seed {}", $role, $seed);
                        $scenario.await;
                    }
                }

                #[tokio::test(start_paused = true)]
                async fn vector() {
                    run(Role::Vector).await;
                }

                #[tokio::test(start_paused = true)]
                async fn graph() {
                    run(Role::Graph).await;
                }

                #[tokio::test(start_paused = true)]
                async fn relational() {
                    run(Role::Relational).await;
                }
            }
        )*
    };
}

for_each_role! {
    flapping, 1..=2, |role, seed| a_store_that_comes_and_goes(role, seed);
    flaky, 1..=1, |role, seed| a_store_that_fails_two_calls_of_three(role, seed);
    refusing_connections, 1..=2, |role, seed|
        a_store_that_fails_for_a_minute(role, Mode::Down, Level::Quorum, seed);
    silent, 1..=1, |role, seed|
        a_store_that_fails_for_a_minute(role, Mode::Hang, Level::Quorum, seed);
    strained_behind_a_quorum, 1..=1, |role, seed|
        ten_times_what_a_store_can_take(role, Level::Quorum, seed);
    strained_and_waited_for, 1..=1, |role, seed|
        ten_times_what_a_store_can_take(role, Level::All, seed);
}
