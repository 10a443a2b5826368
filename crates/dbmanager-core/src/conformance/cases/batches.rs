//! Batches are independent, answers come in order, bytes are bytes.

use std::sync::Arc;

use super::{EVERY_ROLE, cases};
use crate::{
    backend::Mutation,
    conformance::{
        data::{self, record, sample, version},
        expect::Expected,
        trial::{CaseResult, Trial},
    },
};

cases!(EVERY_ROLE;
    an_empty_batch_is_ok,
    a_batch_of_many_kinds_is_applied_item_by_item,
    a_full_batch_is_taken,
    errors_that_claim_nothing_changed_are_true,
    hostile_ids_stay_apart,
    hostile_documents_are_held,
);

async fn an_empty_batch_is_ok(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put(1, &sample("a", 1)).await?;
    client.write(&[]).await?;
    client.expect_live(1, &sample("a", 1)).await
}

/// New, newer, stale, equal, deleted, revived and unknown side by side.
async fn a_batch_of_many_kinds_is_applied_item_by_item(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let at = |id: &str, number| Mutation::upsert(id, version(number), sample(id, number));
    let gone = |id: &str, number| Mutation::delete(id, version(number));
    client
        .write(&[
            at("newer", 1),
            at("stale", 9),
            at("equal", 5),
            at("deleted", 1),
            gone("revived", 2),
            gone("dead", 9),
        ])
        .await?;
    client
        .write(&[
            at("stale", 3),
            at("new", 4),
            gone("deleted", 4),
            at("dead", 4),
            Mutation::upsert("equal", version(5), sample("equal", 6)),
            at("newer", 4),
            gone("unknown", 4),
            at("revived", 4),
        ])
        .await?;
    let live = |id, number| (id, Expected::Live(version(number), sample(id, number)));
    client
        .expect(&[
            live("newer", 4),
            live("stale", 9),
            live("equal", 5),
            live("new", 4),
            live("revived", 4),
            ("deleted", Expected::Deleted(version(4))),
            ("dead", Expected::Deleted(version(9))),
            ("unknown", Expected::Deleted(version(4))),
            ("never", Expected::Never),
        ])
        .await
}

async fn a_full_batch_is_taken(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let size = client.shared.capabilities().max_batch.clamp(1, 1_000);
    let mutations: Vec<_> = (1..=size as u64)
        .map(|number| {
            let id = format!("{number}");
            let small = record(crate::model::Document::new(id.as_str()).title(id.as_str()));
            Mutation::upsert(id, version(number), small)
        })
        .collect();
    client.write(&mutations).await?;
    let held = client.fingerprints(300).await?;
    ensure_eq!(held.len(), size, "documents of a full batch");
    Ok(())
}

/// The claim itself is checked with every write of every case; here is a case of its own.
async fn errors_that_claim_nothing_changed_are_true(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    for number in 1..=20 {
        let id = format!("{}", number % 3);
        client.put(number, &sample(&id, number)).await?;
        client.expect_live(number, &sample(&id, number)).await?;
    }
    Ok(())
}

async fn hostile_ids_stay_apart(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let most = client.shared.capabilities().limits.max_id_bytes;
    let ids: Vec<String> = data::hostile_ids()
        .into_iter()
        .filter(|id| id.len() <= most)
        .collect();
    let records: Vec<_> = (1..)
        .zip(&ids)
        .map(|(number, id)| sample(id, number))
        .collect();
    client.put_all(&records).await?;
    let mut states: Vec<(&str, Expected)> = (1..)
        .zip(&records)
        .map(|(number, record)| {
            let state = Expected::Live(version(number), Arc::clone(record));
            (record.document().id.as_str(), state)
        })
        .collect();
    client.expect(&states).await?;
    for (index, (id, state)) in states.iter_mut().enumerate() {
        if index % 2 == 0 {
            let number = 1_000 + index as u64;
            client.delete(number, id).await?;
            *state = Expected::Deleted(version(number));
        }
    }
    client.expect(&states).await?;
    let mut listed: Vec<String> = client
        .fingerprints(7)
        .await?
        .iter()
        .map(|f| f.id.to_string())
        .collect();
    let mut expected = ids;
    listed.sort();
    expected.sort();
    ensure_eq!(listed, expected, "ids listed");
    Ok(())
}

async fn hostile_documents_are_held(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let hostile = record(data::hostile_document("a"));
    client.put(1, &hostile).await?;
    client.expect_live(1, &hostile).await?;
    client
        .put(2, &record(crate::model::Document::new("a")))
        .await?;
    client.put(3, &hostile).await?;
    client.expect_live(3, &hostile).await
}
