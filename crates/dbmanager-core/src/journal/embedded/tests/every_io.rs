//! A crash after every single step that the journal does to its disk, and after every step of the
//! recovery from it.
//!
//! The [script](super::script) runs once; what it did to the disk is kept step by step, and with it
//! what was acknowledged when. Every disk that a crash can leave is made from that: everything done
//! so far, nothing since the last sync, the last write torn, steps since the last sync left out,
//! and random subsets of them with torn writes among them. On each the journal must open, hold what
//! was acknowledged and of the call under way all or nothing, and take writes again.
//!
//! The script does 411 steps, 342 of them writes and changes of length. By default 6 disks are made
//! at each of these, and of one in [`SAMPLE`] of all that there are the recovery is crashed at
//! every step too. `DBMANAGER_TEST_EVERY_IO` asks for more: `all` for all 9,786 disks, and a number
//! for the recoveries of the sample that starts there; the numbers below `SAMPLE` together cover
//! every one.

use std::{collections::BTreeMap, fmt};

use super::{
    crashes::{Crashes, Image, Mode, Variants},
    disk::{Disk, Step},
    script::{ACTIONS, Action, State, open_storage, snapshot},
    snapshot::Snapshot,
    world::World,
    *,
};
use crate::journal::OperationLookup;

/// Of one in so many disks the recovery is crashed as well.
const SAMPLE: usize = 500;

/// What the environment asks for.
pub(super) fn asked_for() -> Option<String> {
    std::env::var("DBMANAGER_TEST_EVERY_IO").ok()
}

/// A recorded run: what was done to the disk, what was known after each action, and all operations.
pub(super) struct Recording {
    steps: Vec<Step>,
    pub(super) states: Vec<State>,
    pub(super) operations: Vec<OperationId>,
}

impl Recording {
    pub(super) async fn new() -> Self {
        let mut world = World::new();
        let states = world.record().await;
        Self {
            steps: world.disk.steps(),
            states,
            operations: world.operations,
        }
    }

    /// The same run on a disk whose syncs did nothing.
    fn without_syncs(self) -> Self {
        let mut left = 0;
        let mut counts = vec![0];
        for step in &self.steps {
            left += usize::from(!matches!(step, Step::Sync));
            counts.push(left);
        }
        let lied = |step: &Step| !matches!(step, Step::Sync);
        let states = self.states.into_iter().map(|state| State {
            steps: counts[state.steps],
            ..state
        });
        Self {
            states: states.collect(),
            steps: self.steps.into_iter().filter(lied).collect(),
            operations: self.operations,
        }
    }

    fn acknowledged(&self) -> Vec<usize> {
        self.states.iter().map(|state| state.steps).collect()
    }

    /// What was known when so many steps were done, and what would have been known next.
    fn around(&self, steps: usize) -> Around<'_> {
        let known = self.states.partition_point(|state| state.steps <= steps);
        Around {
            before: &self.states[known - 1],
            after: self.states.get(known),
            action: ACTIONS.get(known - 1),
            operations: &self.operations,
        }
    }
}

/// What a journal may hold.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    /// What was acknowledged.
    pub(super) before: &'a State,
    /// What the action under way would have acknowledged.
    pub(super) after: Option<&'a State>,
    pub(super) action: Option<&'a Action>,
    /// Every operation of the script.
    pub(super) operations: &'a [OperationId],
}

impl Around<'_> {
    /// Opens the journal on this disk and holds it against what it must hold.
    pub(super) async fn check(&self, disk: Disk) -> Result<(), String> {
        // Ids made from here on are not those of the script.
        let clock = Clock::at(self.before.now, 1 << 32);
        let journal = open_storage(disk, &clock)
            .await
            .map_err(|error| format!("refused: {:?} {error}", error.kind()))?;
        let epoch = journal.epoch();
        // Openings that were never acknowledged may have counted.
        let follows = |state: &State| (1..=3).contains(&epoch.saturating_sub(state.epoch));
        if !follows(self.before) && !self.after.is_some_and(follows) {
            return Err(format!("the epoch is {epoch} after {}", self.before.epoch));
        }
        let found = snapshot(&journal, self.operations)
            .await
            .map_err(|error| format!("unreadable: {error}"))?;
        let of_before = agrees(self.before, &found);
        if !of_before && !self.after.is_some_and(|after| agrees(after, &found)) {
            return Err(format!("something else is there: {found:#?}"));
        }
        if of_before {
            self.assert_refusal_is_final(&journal, &found).await;
        }
        assert_takes_writes(&journal, &clock, found.mark).await;
        journal.close().await.map_err(|error| error.to_string())
    }

    /// An operation that is not there can be recorded as refused, and is never accepted then.
    async fn assert_refusal_is_final(&self, journal: &EmbeddedJournal, found: &Snapshot) {
        let lookups = self.operations.iter().zip(&found.operations);
        let mut unknown = lookups.filter(|(_, lookup)| **lookup == OperationLookup::Unknown);
        let Some((operation_id, _)) = unknown.next_back() else {
            return;
        };
        let recorded = journal.refuse_operation(*operation_id).await.unwrap();
        assert_eq!(recorded, OperationLookup::Refused);
        let late = append(journal, *operation_id, CollectionKey::new("papers", 1)).await;
        assert_eq!(kind_of(late), JournalErrorKind::OperationIdUsed);
    }
}

/// Whether exactly this is there; of operations that came later nothing.
pub(super) fn agrees(state: &State, found: &Snapshot) -> bool {
    let known = state.snapshot.as_ref();
    let count = known.map_or(0, |known| known.operations.len());
    let nothing = [OperationLookup::Unknown, OperationLookup::Expired];
    if found.operations[count..]
        .iter()
        .any(|lookup| !nothing.contains(lookup))
    {
        return false;
    }
    let mut found = found.clone();
    found.operations.truncate(count);
    match known {
        Some(known) => *known == found,
        None => {
            found.mark == Version::ZERO
                && found.entries.is_empty()
                && found.collections.is_empty()
                && found.roster.is_empty()
        }
    }
}

async fn append(
    journal: &EmbeddedJournal,
    operation_id: OperationId,
    collection: CollectionKey,
) -> JournalResult<Appended> {
    let request = AppendRequest {
        operation_id,
        idempotency_key: None,
        collection,
        id: "afterwards".into(),
        change: Change::Upsert(record("afterwards", "text")),
        precondition: None,
    };
    journal.append(vec![request]).await.remove(0)
}

async fn assert_takes_writes(journal: &EmbeddedJournal, clock: &Clock, mark: Version) {
    let options = CollectionOptions::new();
    let created = journal.create_collection("afterwards", options).await;
    let operation_id = clock.runtime().new_operation_id();
    let appended = append(journal, operation_id, created.unwrap().0.key).await;
    let Appended::New(header) = appended.unwrap() else {
        panic!("an operation that was never used is repeated");
    };
    assert!(header.version > mark);
    let newest = journal.live_entries(mark, 2).await.unwrap();
    assert_eq!(newest, [header]);
}

/// How many disks of each mode were checked, and what was wrong with them.
#[derive(Debug, Default)]
struct Outcome {
    checked: BTreeMap<Mode, usize>,
    wrong: Vec<String>,
}

impl Outcome {
    fn count(&self) -> usize {
        self.checked.values().sum()
    }

    async fn check(&mut self, around: &Around<'_>, image: &Image, disk: Disk) {
        *self.checked.entry(image.mode).or_default() += 1;
        if let Err(why) = around.check(disk).await {
            self.wrong.push(format!(
                "{:?} after step {} in {:?}: {why}",
                image.mode, image.after, around.action
            ));
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, wrong) = (self.count(), self.wrong.len());
        write!(f, "{wrong} of {count} disks wrong: {:?}", self.checked)
    }
}

/// Every disk that a crash of the run can leave, one after the other.
fn crashes<'a>(
    recording: &'a Recording,
    acknowledged: &'a [usize],
    variants: Variants,
) -> Crashes<'a> {
    Crashes::new(Vec::new(), &recording.steps, acknowledged, variants)
}

/// Crashes after every step.
async fn crash_everywhere(recording: &Recording, variants: Variants) -> Outcome {
    let mut outcome = Outcome::default();
    let acknowledged = recording.acknowledged();
    let mut crashes = crashes(recording, &acknowledged, variants);
    while let Some(images) = crashes.next_images() {
        for image in images {
            let disk = Disk::new(image.bytes.clone());
            let around = recording.around(image.after);
            outcome.check(&around, &image, disk).await;
        }
    }
    outcome
}

#[tokio::test]
async fn a_crash_after_any_step_loses_nothing_that_was_acknowledged() {
    let all = asked_for().is_some_and(|asked| asked == "all");
    let variants = if all { Variants::All } else { Variants::Few };
    let recording = Recording::new().await;
    let outcome = crash_everywhere(&recording, variants).await;
    println!("{} steps, {outcome}", recording.steps.len());
    assert_eq!(outcome.wrong, [""; 0]);
    let least = if all { 9_500 } else { 1_900 };
    assert!(outcome.count() >= least, "{outcome}");
    assert!(recording.steps.len() >= 400);
}

/// The check on the test above: on a disk whose syncs do nothing it must find losses.
#[tokio::test]
async fn a_disk_that_lies_about_syncs_is_found_out() {
    let recording = Recording::new().await.without_syncs();
    let outcome = crash_everywhere(&recording, Variants::Few).await;
    println!("{outcome}");
    let lost = outcome
        .wrong
        .iter()
        .filter(|why| why.starts_with("Unsynced"));
    assert!(lost.count() >= 10, "{outcome}");
}

/// Opens the journal on this disk and crashes after each of the steps that takes.
async fn crash_recovery(around: &Around<'_>, image: &Image, outcome: &mut Outcome) {
    let disk = Disk::new(image.bytes.clone());
    let clock = Clock::at(around.before.now, 1 << 32);
    let journal = open_storage(disk.clone(), &clock).await.unwrap();
    let steps = disk.steps();
    journal.close().await.unwrap();
    let mut crashes = Crashes::new(image.bytes.clone(), &steps, &[], Variants::Few);
    while let Some(images) = crashes.next_images() {
        for again in images {
            let disk = Disk::new(again.bytes.clone());
            outcome.check(around, &again, disk).await;
        }
    }
}

#[tokio::test]
async fn a_recovery_that_crashes_at_any_step_can_be_repeated() {
    let start = asked_for()
        .and_then(|asked| asked.parse().ok())
        .unwrap_or(0);
    let recording = Recording::new().await;
    let acknowledged = recording.acknowledged();
    let mut crashes = crashes(&recording, &acknowledged, Variants::All);
    let mut outcome = Outcome::default();
    let mut number = 0;
    while let Some(images) = crashes.next_images() {
        for image in images {
            if number % SAMPLE == start % SAMPLE {
                let around = recording.around(image.after);
                crash_recovery(&around, &image, &mut outcome).await;
            }
            number += 1;
        }
    }
    println!("recoveries of {} disks: {outcome}", number / SAMPLE);
    assert_eq!(outcome.wrong, [""; 0]);
    assert!(outcome.count() >= 500, "{outcome}");
}
