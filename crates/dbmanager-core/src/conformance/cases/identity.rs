//! Who a store belongs to: stamps, epochs, and what it knows of its own content.

use super::{EVERY_ROLE, cases};
use crate::{
    backend::{
        ApplyRequest, BackendErrorKind, CreateCollectionRequest, DropCollectionRequest, Mutation,
        Stamp, StampRequest,
    },
    conformance::{
        client::{Client, expect_kind},
        data::{self, persist, sample, stamp, version},
        expect::Expected,
        trial::{CaseResult, Failure, Trial},
    },
    model::{JournalId, StoreId, Version},
};

cases!(EVERY_ROLE;
    a_fresh_store_is_empty_and_unstamped,
    a_stamp_is_read_back,
    a_stamp_of_another_journal_is_foreign,
    a_stamp_of_another_store_is_foreign,
    a_stamp_with_a_lower_epoch_is_stale,
    a_stamp_with_lower_progress_is_foreign,
    replace_overwrites_any_stamp,
    replace_takes_nothing_back_within_its_journal,
    writes_of_an_older_epoch_are_stale,
    writes_of_a_newer_epoch_are_taken,
    identity_reports_the_highest_version,
    a_stamp_alone_leaves_the_store_empty,
);

async fn a_fresh_store_is_empty_and_unstamped(trial: Trial) -> CaseResult {
    let client = trial.open().await?;
    let identity = client.identity().await?;
    ensure_eq!(identity.stamp, None, "stamp");
    ensure_eq!(client.held_stamp().await?, None, "the stamp alone");
    ensure_eq!(identity.highest_version, None, "highest version");
    ensure!(identity.empty, "a fresh store says that it is not empty");
    Ok(())
}

async fn a_stamp_alone_leaves_the_store_empty(trial: Trial) -> CaseResult {
    let identity = trial.store().await?.identity().await?;
    ensure_eq!(identity.highest_version, None, "highest version");
    ensure!(identity.empty, "a stamp and a collection are no documents");
    Ok(())
}

async fn a_stamp_is_read_back(trial: Trial) -> CaseResult {
    let client = trial.open().await?;
    let stamps = [
        stamp(1),
        stamp(1),
        Stamp {
            progress: version(1),
            ..stamp(1)
        },
        Stamp {
            progress: version(2),
            ..stamp(u64::from(u32::MAX) + 1)
        },
        Stamp {
            store_id: StoreId::from_u128(1),
            journal_id: JournalId::from_u128(2),
            epoch: (1 << 53) - 1,
            progress: Version::MAX,
        },
    ];
    for stamp in stamps {
        client.stamp(StampRequest::new(stamp.clone())).await?;
        let held = client.held_stamp().await?;
        ensure_eq!(held, Some(stamp.clone()), "the stamp alone");
        ensure_eq!(client.identity().await?.stamp, Some(stamp), "stamp");
    }
    let extreme = Stamp {
        store_id: StoreId::from_u128(u128::MAX),
        journal_id: JournalId::from_u128(1 << 127),
        ..stamp(1)
    };
    client
        .stamp(StampRequest::new(extreme.clone()).replace())
        .await?;
    ensure_eq!(client.identity().await?.stamp, Some(extreme), "stamp");
    Ok(())
}

/// A store stamped with epoch 5 and progress 5 refuses `new` with `kind` and keeps its stamp.
async fn refuses(trial: &Trial, new: Stamp, kind: BackendErrorKind) -> CaseResult {
    let client = trial.open().await?;
    let held = Stamp {
        progress: version(5),
        ..stamp(5)
    };
    client.stamp(StampRequest::new(held.clone())).await?;
    let answer = client.stamp(StampRequest::new(new)).await;
    expect_kind(answer, kind, "write_stamp")?;
    ensure_eq!(
        client.identity().await?.stamp,
        Some(held),
        "stamp after a refused one"
    );
    Ok(())
}

async fn a_stamp_of_another_journal_is_foreign(trial: Trial) -> CaseResult {
    let new = Stamp {
        journal_id: JournalId::from_u128(9),
        progress: version(9),
        ..stamp(9)
    };
    refuses(&trial, new, BackendErrorKind::Foreign).await
}

async fn a_stamp_of_another_store_is_foreign(trial: Trial) -> CaseResult {
    let new = Stamp {
        store_id: StoreId::from_u128(9),
        progress: version(9),
        ..stamp(9)
    };
    refuses(&trial, new, BackendErrorKind::Foreign).await
}

async fn a_stamp_with_a_lower_epoch_is_stale(trial: Trial) -> CaseResult {
    let new = Stamp {
        progress: version(9),
        ..stamp(4)
    };
    refuses(&trial, new, BackendErrorKind::StaleEpoch).await
}

async fn a_stamp_with_lower_progress_is_foreign(trial: Trial) -> CaseResult {
    let new = Stamp {
        progress: version(4),
        ..stamp(9)
    };
    refuses(&trial, new, BackendErrorKind::Foreign).await
}

async fn replace_overwrites_any_stamp(trial: Trial) -> CaseResult {
    let client = trial.open().await?;
    let held = Stamp {
        progress: version(5),
        ..stamp(5)
    };
    client.stamp(StampRequest::new(held)).await?;
    let new = Stamp {
        store_id: StoreId::from_u128(8),
        journal_id: JournalId::from_u128(9),
        epoch: 1,
        progress: Version::ZERO,
    };
    client
        .stamp(StampRequest::new(new.clone()).replace())
        .await?;
    ensure_eq!(client.identity().await?.stamp, Some(new), "stamp");
    Ok(())
}

async fn replace_takes_nothing_back_within_its_journal(trial: Trial) -> CaseResult {
    let client = trial.open().await?;
    let held = Stamp {
        progress: version(5),
        ..stamp(5)
    };
    client.stamp(StampRequest::new(held.clone())).await?;
    let another_store = Stamp {
        store_id: StoreId::from_u128(8),
        progress: Version::ZERO,
        ..stamp(4)
    };
    let lower_progress = Stamp {
        progress: version(4),
        ..stamp(5)
    };
    for (new, kind) in [
        (another_store.clone(), BackendErrorKind::StaleEpoch),
        (stamp(4), BackendErrorKind::StaleEpoch),
        (lower_progress, BackendErrorKind::Foreign),
    ] {
        let answer = client.stamp(StampRequest::new(new).replace()).await;
        expect_kind(answer, kind, "write_stamp")?;
        ensure_eq!(
            client.identity().await?.stamp,
            Some(held.clone()),
            "stamp after a refused one"
        );
    }
    let another_store = Stamp {
        epoch: 5,
        ..another_store
    };
    client
        .stamp(StampRequest::new(another_store.clone()).replace())
        .await?;
    ensure_eq!(client.identity().await?.stamp, Some(another_store), "stamp");
    Ok(())
}

/// What a write of this epoch answers; a refusal may stand for the batch or for its one item.
async fn put_in_epoch(
    client: &Client,
    epoch: u64,
    number: u64,
) -> CaseResult<Result<(), BackendErrorKind>> {
    let record = sample("a", number);
    let mutations = [Mutation::upsert("a", version(number), record)];
    let request = ApplyRequest::new(client.collection.clone(), epoch, mutations);
    let answer = persist(&client.runtime, || async {
        let items = client.shared.apply(request.clone()).await?;
        items.into_iter().collect::<Result<Vec<()>, _>>()
    })
    .await;
    match answer {
        Ok(items) if items.len() == 1 => Ok(Ok(())),
        Ok(items) => Err(Failure::new(format!(
            "{} answers to one mutation",
            items.len()
        ))),
        Err(error) => Ok(Err(error.kind())),
    }
}

async fn writes_of_an_older_epoch_are_stale(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put(1, &sample("a", 1)).await?;
    client.stamp(StampRequest::new(stamp(5))).await?;
    let stale = BackendErrorKind::StaleEpoch;
    ensure_eq!(put_in_epoch(&client, 4, 2).await?, Err(stale), "apply");
    let created = persist(&client.runtime, || {
        let request = CreateCollectionRequest::new(data::named("later", 2), 4);
        client.shared.create_collection(request)
    });
    expect_kind(created.await, stale, "create_collection")?;
    let dropped = persist(&client.runtime, || {
        let request = DropCollectionRequest::new(client.collection.clone(), 4);
        client.shared.drop_collection(request)
    });
    expect_kind(dropped.await, stale, "drop_collection")?;
    client.expect_live(1, &sample("a", 1)).await?;
    let collections = persist(&client.runtime, || client.shared.collections()).await?;
    ensure_eq!(collections, vec![client.collection.clone()], "collections");
    ensure_eq!(put_in_epoch(&client, 5, 2).await?, Ok(()), "apply");
    client.expect_live(2, &sample("a", 2)).await
}

async fn writes_of_a_newer_epoch_are_taken(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    ensure_eq!(put_in_epoch(&client, 7, 1).await?, Ok(()), "apply");
    client.expect_live(1, &sample("a", 1)).await?;
    let held = client.identity().await?.stamp.map(|stamp| stamp.epoch);
    ensure_eq!(held, Some(1), "epoch after a write of a newer one");
    Ok(())
}

async fn identity_reports_the_highest_version(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let other = data::named("other", 2);
    client.create(&other).await?;
    client.put(7, &sample("a", 7)).await?;
    client.put(3, &sample("b", 3)).await?;
    let identity = client.identity().await?;
    ensure!(
        !identity.empty,
        "a store with documents says that it is empty"
    );
    ensure_eq!(
        identity.highest_version,
        Some(version(7)),
        "highest version"
    );
    client.on(&other.key).delete(9, "a").await?;
    let identity = client.identity().await?;
    ensure_eq!(
        identity.highest_version,
        Some(version(9)),
        "highest version, a tombstone's in another collection"
    );
    client.drop_collection(&client.collection).await?;
    ensure!(
        !client.identity().await?.empty,
        "a store with a tombstone says that it is empty"
    );
    client
        .on(&other.key)
        .expect(&[("a", Expected::Deleted(version(9)))])
        .await?;
    client.drop_collection(&other.key).await?;
    ensure!(
        client.identity().await?.empty,
        "a store whose collections were dropped says that it is not empty"
    );
    Ok(())
}
