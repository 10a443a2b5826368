//! Monotone, whole, and a delete is a version.

use super::{EVERY_ROLE, cases};
use crate::{
    backend::Mutation,
    conformance::{
        data::{record, sample},
        expect::Expected,
        trial::{CaseResult, Trial},
    },
    model::{Document, Version},
};

cases!(EVERY_ROLE;
    an_upsert_is_held_whole,
    versions_that_differ_by_one_are_told_apart,
    the_highest_version_is_held,
    an_equal_version_changes_nothing,
    a_stale_upsert_is_ok_and_ignored,
    a_stale_delete_is_ok_and_ignored,
    an_upsert_replaces_everything,
    a_delete_leaves_a_tombstone,
    a_delete_of_the_unknown_leaves_a_tombstone,
    a_late_upsert_stays_dead,
    a_newer_upsert_revives,
    a_tombstone_is_raised_by_a_newer_one,
    an_empty_document_is_held,
);

async fn an_upsert_is_held_whole(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.expect(&[("a", Expected::Never)]).await?;
    for number in 1..=12 {
        let id = format!("document {number}");
        client.put(number, &sample(&id, number)).await?;
        client.expect_live(number, &sample(&id, number)).await?;
    }
    Ok(())
}

/// At today's magnitude two versions that differ by 1 are the same `f64`.
async fn versions_that_differ_by_one_are_told_apart(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    for number in [100, 101, 102] {
        client.put(number, &sample("a", number)).await?;
        client.expect_live(number, &sample("a", number)).await?;
        client.put(number - 1, &sample("a", 7)).await?;
        client.expect_live(number, &sample("a", number)).await?;
    }
    client.delete(103, "a").await?;
    client.expect_deleted(103, "a").await?;
    client.put(104, &sample("a", 104)).await?;
    client.expect_live(104, &sample("a", 104)).await
}

async fn the_highest_version_is_held(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let record = sample("a", 1);
    let below = Version::from_u64(Version::MAX.as_u64() - 1);
    for version in [Version::from_u64(1), below, Version::MAX, below] {
        let mutation = Mutation::upsert("a", version, record.clone());
        client.write(&[mutation]).await?;
    }
    client
        .expect(&[("a", Expected::Live(Version::MAX, record))])
        .await?;
    let highest = client.identity().await?.highest_version;
    ensure_eq!(highest, Some(Version::MAX), "highest version");
    Ok(())
}

async fn an_equal_version_changes_nothing(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put(5, &sample("a", 3)).await?;
    client.put(5, &sample("a", 3)).await?;
    client.expect_live(5, &sample("a", 3)).await?;
    client.put(5, &sample("a", 4)).await?;
    client.expect_live(5, &sample("a", 3)).await?;
    client.delete(5, "a").await?;
    client.expect_live(5, &sample("a", 3)).await?;
    client.delete(6, "a").await?;
    client.delete(6, "a").await?;
    client.put(6, &sample("a", 4)).await?;
    client.expect_deleted(6, "a").await
}

async fn a_stale_upsert_is_ok_and_ignored(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put(5, &sample("a", 4)).await?;
    for number in [4, 1] {
        client.put(number, &sample("a", number + 10)).await?;
        client.expect_live(5, &sample("a", 4)).await?;
    }
    Ok(())
}

async fn a_stale_delete_is_ok_and_ignored(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put(5, &sample("a", 4)).await?;
    client.delete(4, "a").await?;
    client.expect_live(5, &sample("a", 4)).await
}

async fn an_upsert_replaces_everything(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let full = sample("a", 11 * 6 * 4);
    let full_of_vectors = sample("a", 9);
    let bare = record(Document::new("a"));
    client.put(1, &full).await?;
    client.put(2, &bare).await?;
    client.expect_live(2, &bare).await?;
    client.put(3, &full_of_vectors).await?;
    client.expect_live(3, &full_of_vectors).await?;
    client.put(4, &sample("a", 6)).await?;
    client.expect_live(4, &sample("a", 6)).await?;
    client.put(5, &bare).await?;
    client.expect_live(5, &bare).await
}

async fn a_delete_leaves_a_tombstone(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put(1, &sample("a", 3)).await?;
    client.delete(2, "a").await?;
    client.expect_deleted(2, "a").await
}

async fn a_delete_of_the_unknown_leaves_a_tombstone(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.delete(5, "a").await?;
    client.expect_deleted(5, "a").await?;
    client.put(4, &sample("a", 4)).await?;
    client.expect_deleted(5, "a").await
}

async fn a_late_upsert_stays_dead(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put(1, &sample("a", 3)).await?;
    client.delete(5, "a").await?;
    for number in [1, 2, 4] {
        client.put(number, &sample("a", number)).await?;
        client.expect_deleted(5, "a").await?;
    }
    Ok(())
}

async fn a_newer_upsert_revives(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put(1, &sample("a", 3)).await?;
    client.delete(2, "a").await?;
    client.put(3, &sample("a", 4)).await?;
    client.expect_live(3, &sample("a", 4)).await?;
    client.delete(2, "a").await?;
    client.expect_live(3, &sample("a", 4)).await
}

async fn a_tombstone_is_raised_by_a_newer_one(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.delete(2, "a").await?;
    client.delete(4, "a").await?;
    client.expect_deleted(4, "a").await?;
    client.delete(3, "a").await?;
    client.expect_deleted(4, "a").await?;
    client.put(3, &sample("a", 3)).await?;
    client.expect_deleted(4, "a").await
}

async fn an_empty_document_is_held(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let empty = record(Document::new("a"));
    client.put(1, &empty).await?;
    client.expect_live(1, &empty).await
}
