//! What a crash leaves: drop everything but the bytes that a disk would hold.

use super::*;
use crate::journal::TruncateRequest;

/// Numbers from a seed (xorshift64).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

#[tokio::test]
async fn every_acknowledged_append_survives_a_crash() {
    let f = Fixture::new().await;
    let mut acknowledged = Vec::new();
    for number in 0..40 {
        let header = f.accepted(f.upsert(&format!("{}", number % 7))).await;
        acknowledged.push(header.version);
        if number % 5 == 4 {
            let versions = acknowledged.drain(..2).collect();
            let request = TruncateRequest {
                versions,
                progress: Vec::new(),
            };
            f.journal.truncate(request).await.unwrap();
        }
        let image = f.storage.crash_image();
        let journal = open(&image, &f.options, &f.clock).await.unwrap();
        assert_eq!(live_versions(&journal).await, acknowledged);
        assert_eq!(journal.mark(), header.version);
    }
}

/// The check on the test above: with a disk whose syncs do nothing, it must find losses.
#[tokio::test]
async fn a_disk_that_lies_about_syncs_loses_what_was_acknowledged() {
    let f = Fixture::new().await;
    f.accepted(f.upsert("kept")).await;
    f.storage.ignore_syncs();
    let lost = f.accepted(f.upsert("lost")).await;
    let image = f.storage.crash_image();
    let journal = open(&image, &f.options, &f.clock).await.unwrap();
    let versions = live_versions(&journal).await;
    assert_eq!(versions.len(), 1);
    assert!(!versions.contains(&lost.version));
}

/// A disk may keep any of the writes since the last sync. Wherever the crash falls in a commit,
/// the acknowledged entries are there, and the group under way is there whole or not at all.
#[tokio::test]
async fn any_part_of_an_unsynced_commit_may_reach_the_disk() {
    let mut random = Random::new(1);
    let (mut whole, mut absent) = (0, 0);
    for writes_until_failure in 0..40 {
        let f = Fixture::new().await;
        let acknowledged = [
            f.accepted(f.upsert("a")).await.version,
            f.accepted(f.upsert("b")).await.version,
        ];
        f.storage.fail_writes_after(writes_until_failure);
        let under_way = vec![f.upsert("a"), f.upsert("c"), f.upsert("d")];
        let answers = f.journal.append(under_way).await;
        let indeterminate = answers.iter().all(|answer| {
            matches!(answer, Err(error) if *error.kind() == JournalErrorKind::Indeterminate)
        });
        let committed = answers.iter().all(Result::is_ok);
        assert!(indeterminate || committed, "{answers:?}");
        for _ in 0..8 {
            let image = f.storage.crash_image_with(|_| random.below(2) == 0);
            let journal = open(&image, &f.options, &f.clock).await.unwrap();
            let versions = live_versions(&journal).await;
            assert_eq!(versions[..2], acknowledged);
            match versions.len() {
                2 => {
                    assert!(!committed, "an acknowledged group is lost");
                    absent += 1;
                }
                5 => whole += 1,
                other => panic!("{other} entries: a part of a group"),
            }
        }
        if committed {
            assert!(whole > 0 && absent > 0, "{whole} whole, {absent} absent");
            return;
        }
    }
    panic!("no commit came to its end");
}

#[tokio::test]
async fn an_opening_that_crashes_can_be_repeated() {
    let f = Fixture::new().await;
    let version = f.accepted(f.upsert("a")).await.version;
    let mut completed = false;
    for writes in 0..60 {
        let image = f.storage.crash_image();
        image.fail_writes_after(writes);
        let first = open(&image, &f.options, &f.clock).await;
        completed = first.is_ok();
        let again = image.crash_image();
        let journal = open(&again, &f.options, &f.clock).await.unwrap();
        assert_eq!(live_versions(&journal).await, [version]);
        if completed {
            assert_eq!(journal.epoch(), 3, "the completed opening counted");
            break;
        }
    }
    assert!(completed);
}
