//! Every call of the storage fails, once and from then on.
//!
//! The [script](super::script) runs anew for each call that it makes. At the first error of the
//! journal it stops: the call that met it must be refused as the contract says, everything after it
//! too, and on the disk, opened again, is what was acknowledged and of the call under way all or
//! nothing.
//!
//! The script changes the disk by some 380 calls and reads by some 210; every sync fails in a test
//! of its own. By default one of every [`SAMPLE`] changes and of [`READ_SAMPLE`] reads is made to
//! fail; `DBMANAGER_TEST_EVERY_IO=all` takes every one, a number those that start there.

use std::io::ErrorKind;

use super::{
    crashes::{Crashes, Variants},
    disk::{Call, Disk, Fault},
    every_io::{Around, Recording, agrees, asked_for},
    script::{ACTIONS, Action, open_storage, snapshot},
    world::World,
    *,
};
use crate::journal::JournalState;

const SAMPLE: usize = 5;
const READ_SAMPLE: usize = 7;

/// Runs that ended with an error, and that came to their end in spite of it.
#[derive(Debug, Default)]
struct Runs {
    refused: usize,
    unharmed: usize,
}

/// Fails every call that `fault` counts, one per run, a `sample`th of them by default.
async fn fail_each(fault: Fault, sample: usize) -> Runs {
    let recording = Recording::new().await;
    let asked = asked_for();
    let (start, step) = match asked.as_deref() {
        Some("all") => (0, 1),
        Some(number) => (number.parse().unwrap_or(0) % sample, sample),
        None => (0, sample),
    };
    let mut runs = Runs::default();
    for after in (start..).step_by(step) {
        let mut world = World::new();
        world.disk.fail(Fault { after, ..fault });
        match run(&mut world).await {
            Stopped::NothingFailed => break,
            Stopped::Unharmed(action) => {
                // Nobody waits for the commit of an ordered end. A page for which the cache is too
                // small is written before its commit, and again if that failed.
                let early = world.disk.failed() == Some(Call::Write) && !fault.lasting;
                assert!(
                    early || matches!(action, Action::Open),
                    "{action:?} passed it over"
                );
                runs.unharmed += 1;
                end_unharmed(&recording, &world).await;
            }
            Stopped::Refused { done, error } => {
                runs.refused += 1;
                end_refused(&recording, &mut world, done, &error, fault).await;
            }
        }
    }
    runs
}

enum Stopped {
    /// No call failed.
    NothingFailed,
    /// A call failed in this action, and the script came to its end.
    Unharmed(Action),
    /// The journal refused the action after so many were done.
    Refused {
        done: usize,
        error: JournalErrorKind,
    },
}

/// Runs the script up to the first error of the journal.
async fn run(world: &mut World) -> Stopped {
    let mut failed_in = None;
    for (done, action) in ACTIONS.iter().enumerate() {
        let epoch = world.shown_epoch();
        if let Err(error) = world.act(*action).await {
            // What may not be on the disk must not be used yet.
            if !matches!(action, Action::Open) {
                assert_eq!(
                    world.shown_epoch(),
                    epoch,
                    "{action:?} was not acknowledged"
                );
            }
            let error = error.kind().clone();
            return Stopped::Refused { done, error };
        }
        if failed_in.is_none() && world.disk.failed().is_some() {
            failed_in = Some(*action);
        }
    }
    failed_in.map_or(Stopped::NothingFailed, Stopped::Unharmed)
}

async fn end_unharmed(recording: &Recording, world: &World) {
    let around = Around {
        before: recording.states.last().unwrap(),
        after: None,
        action: None,
        operations: &recording.operations,
    };
    check_disks(&around, &world.disk).await;
}

async fn end_refused(
    recording: &Recording,
    world: &mut World,
    done: usize,
    error: &JournalErrorKind,
    fault: Fault,
) {
    let action = &ACTIONS[done];
    let what = format!("{action:?}, {:?} failed: {error:?}", world.disk.failed());
    let mut around = Around {
        before: &recording.states[done],
        after: recording.states.get(done + 1),
        action: Some(action),
        operations: &recording.operations,
    };
    match (action, error) {
        (Action::Open, JournalErrorKind::Unavailable) => {}
        (Action::Read, JournalErrorKind::ReadOnly) => assert_read_only(&around, world, &what).await,
        (_, JournalErrorKind::Indeterminate) => assert_read_only(&around, world, &what).await,
        // Without a reserve nothing is taken.
        (_, JournalErrorKind::Full) if fault.kind == ErrorKind::StorageFull => around.after = None,
        _ => panic!("{what}"),
    }
    if let Some(journal) = world.journal.take() {
        journal.close().await.unwrap();
    }
    if fault.lasting && *error != JournalErrorKind::Full {
        let again = open_storage(world.disk.clone(), &Clock::start()).await;
        assert_eq!(kind_of(again), JournalErrorKind::Unavailable, "{what}");
    }
    check_disks(&around, &world.disk).await;
}

/// Nothing is written any more, though the disk may work again; what was committed can be read
/// wherever it still can.
async fn assert_read_only(around: &Around<'_>, world: &mut World, what: &str) {
    let journal = world.journal();
    let state = journal.health().state;
    assert!(
        matches!(state, JournalState::ReadOnly(_)),
        "{what}: {state:?}"
    );
    let options = CollectionOptions::new();
    let created = journal.create_collection("later", options).await;
    assert_eq!(kind_of(created), JournalErrorKind::ReadOnly, "{what}");
    match snapshot(&journal, around.operations).await {
        Ok(found) => assert!(agrees(around.before, &found), "{what}: {found:#?}"),
        Err(error) => assert_eq!(*error.kind(), JournalErrorKind::ReadOnly, "{what}"),
    }
}

/// The disk as the next process finds it, and as crashes leave it.
async fn check_disks(around: &Around<'_>, disk: &Disk) {
    let steps = disk.steps();
    let mut disks = vec![disk.to_bytes()];
    let mut crashes = Crashes::new(Vec::new(), &steps, &[], Variants::Few);
    disks.extend(crashes.last_images().into_iter().map(|image| image.bytes));
    for bytes in disks {
        let outcome = around.check(Disk::new(bytes)).await;
        assert_eq!(
            outcome,
            Ok(()),
            "{:?}, {:?} failed",
            around.action,
            disk.failed()
        );
    }
}

fn fault(counts: fn(Call) -> bool, lasting: bool, kind: ErrorKind) -> Fault {
    Fault {
        counts,
        after: 0,
        lasting,
        kind,
        partial: lasting,
    }
}

#[tokio::test]
async fn a_change_that_fails_once_is_indeterminate_and_ends_the_writing() {
    let runs = fail_each(fault(Call::changes, false, ErrorKind::Other), SAMPLE).await;
    println!("{runs:?}");
    assert!(runs.refused >= 50, "{runs:?}");
}

#[tokio::test]
async fn changes_that_fail_for_ever_are_indeterminate_and_end_the_writing() {
    let runs = fail_each(fault(Call::changes, true, ErrorKind::Other), SAMPLE).await;
    println!("{runs:?}");
    assert!(runs.refused >= 50, "{runs:?}");
}

/// After a failed sync the system may take what was written for clean: readers see it, and no later
/// sync writes it. The next opening must not build on it.
#[tokio::test]
async fn what_a_failed_sync_forgot_is_not_built_on() {
    let recording = Recording::new().await;
    let mut refused = 0;
    for after in 0.. {
        let mut world = World::new();
        let syncs = |call: Call| call == Call::Sync;
        world.disk.fail(Fault {
            after,
            ..fault(syncs, false, ErrorKind::Other)
        });
        match run(&mut world).await {
            Stopped::NothingFailed => break,
            Stopped::Unharmed(_) => end_unharmed(&recording, &world).await,
            Stopped::Refused { done, .. } => {
                refused += 1;
                if let Some(journal) = world.journal.take() {
                    journal.close().await.unwrap();
                }
                let around = Around {
                    before: &recording.states[done],
                    after: recording.states.get(done + 1),
                    action: Some(&ACTIONS[done]),
                    operations: &recording.operations,
                };
                let reopened = around.check(world.disk.clone()).await;
                assert_eq!(reopened, Ok(()), "sync {after} failed");
                assert_keeps_what_came_after(&world.disk, after).await;
            }
        }
    }
    assert!(refused >= 50, "{refused}");
}

/// What the check wrote is there after a crash that leaves only what was synced.
async fn assert_keeps_what_came_after(disk: &Disk, sync: usize) {
    let steps = disk.steps();
    let images = Crashes::new(Vec::new(), &steps, &[], Variants::Few).last_images();
    for image in images {
        // Later than anything the script did.
        let clock = Clock::at(2 * START, 1 << 33);
        let journal = open_storage(Disk::new(image.bytes), &clock).await.unwrap();
        let live = journal.live_entries(Version::ZERO, usize::MAX).await;
        let newest = live.unwrap().pop().unwrap();
        assert_eq!(&*newest.id, "afterwards", "sync {sync} failed");
    }
}

#[tokio::test]
async fn a_disk_that_is_full_once_or_for_ever_loses_nothing() {
    for lasting in [false, true] {
        let fault = fault(Call::changes, lasting, ErrorKind::StorageFull);
        let runs = fail_each(fault, SAMPLE).await;
        println!("{lasting}: {runs:?}");
        assert!(runs.refused >= 40, "{runs:?}");
    }
}

#[tokio::test]
async fn a_read_that_fails_once_or_for_ever_loses_nothing() {
    let reads = |call: Call| !call.changes();
    for lasting in [false, true] {
        let runs = fail_each(fault(reads, lasting, ErrorKind::Other), READ_SAMPLE).await;
        println!("{lasting}: {runs:?}");
        assert!(runs.refused >= 20, "{runs:?}");
    }
}
