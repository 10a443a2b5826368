//! Heads and fingerprints.

use std::collections::{BTreeMap, BTreeSet};

use super::{EVERY_ROLE, cases};
use crate::{
    backend::Head,
    conformance::{
        data::{sample, version},
        expect::Expected,
        trial::{CaseResult, Trial},
    },
    model::ContentHash,
};

cases!(EVERY_ROLE;
    heads_follow_the_ids_asked_for,
    fingerprints_of_follow_the_ids_asked_for,
    fingerprints_list_each_document_once,
    fingerprints_are_those_of_the_content,
    fingerprints_survive_changes_between_pages,
    fingerprints_of_an_empty_collection_are_none,
);

const ASKED: [&str; 7] = ["c", "missing", "a", "b", "c", "a", "A"];

async fn heads_follow_the_ids_asked_for(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put(1, &sample("a", 1)).await?;
    client.delete(2, "b").await?;
    client.put(3, &sample("c", 3)).await?;
    let head = |number, deleted| {
        Some(Head {
            version: version(number),
            deleted,
        })
    };
    let (a, b, c) = (head(1, false), head(2, true), head(3, false));
    ensure_eq!(
        client.heads(&ASKED).await?,
        [c, None, a, b, c, a, None],
        "heads"
    );
    ensure_eq!(client.heads(&[]).await?, [], "heads of no ids");
    ensure_eq!(client.heads(&["missing"]).await?, [None], "heads");
    Ok(())
}

async fn fingerprints_of_follow_the_ids_asked_for(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put(1, &sample("a", 1)).await?;
    client.delete(2, "b").await?;
    client.put(3, &sample("c", 3)).await?;
    let found = client.fingerprints_of(&ASKED).await?;
    let ids: Vec<_> = found.iter().map(|f| f.as_ref().map(|f| &*f.id)).collect();
    let (a, b, c) = (Some("a"), Some("b"), Some("c"));
    ensure_eq!(ids, [c, None, a, b, c, a, None], "fingerprints");
    let none = client.fingerprints_of(&[]).await?;
    ensure_eq!(none, [], "fingerprints of no ids");
    Ok(())
}

async fn fingerprints_list_each_document_once(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let records: Vec<_> = (1..=23).map(|n| sample(&format!("id {n}"), n)).collect();
    client.put_all(&records).await?;
    for number in [30, 31, 32] {
        client.delete(number, &format!("id {number}")).await?;
    }
    let expected: BTreeSet<String> = (1..=23).chain(30..=32).map(|n| format!("id {n}")).collect();
    for limit in [1, 2, 13, 25, 26, 27, 1_000] {
        let listed = client.fingerprints(limit).await?;
        let ids: BTreeSet<String> = listed.iter().map(|f| f.id.to_string()).collect();
        ensure_eq!(ids, expected, "ids listed {limit} at a time");
        ensure_eq!(
            listed.len(),
            expected.len(),
            "items listed {limit} at a time"
        );
    }
    Ok(())
}

async fn fingerprints_are_those_of_the_content(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let records: Vec<_> = (1..=12).map(|n| sample(&format!("id {n}"), n)).collect();
    client.put_all(&records).await?;
    client.delete(20, "id 2").await?;
    client.put(21, &sample("id 3", 4)).await?;
    client.put(1, &sample("id 4", 9)).await?;
    let listed: BTreeMap<String, _> = client
        .fingerprints(5)
        .await?
        .into_iter()
        .map(|f| (f.id.to_string(), f))
        .collect();
    let expected = (4..=12)
        .map(|n| (n, n, n))
        .chain([(1, 1, 1), (3, 21, 4)])
        .map(|(id, number, content)| {
            let id = format!("id {id}");
            let record = sample(&id, content);
            (id, Expected::Live(version(number), record))
        })
        .chain([("id 2".to_owned(), Expected::Deleted(version(20)))]);
    for (id, state) in expected {
        let found = listed.get(&id);
        if let Some(hash) = client.content_hash(&state) {
            ensure_eq!(
                found.map(|f| f.content_hash),
                Some(hash),
                "content hash of {id:?} in the list"
            );
        }
        client.expect(&[(&id, state)]).await?;
    }
    let tombstone = listed.get("id 2").map(|f| (f.head.deleted, f.content_hash));
    ensure_eq!(
        tombstone,
        Some((true, ContentHash::TOMBSTONE)),
        "tombstone in the list"
    );
    Ok(())
}

/// Between the pages documents come, change and go; the others are listed exactly once.
async fn fingerprints_survive_changes_between_pages(trial: Trial) -> CaseResult {
    use crate::{backend::ListRequest, conformance::data::persist};

    let client = trial.store().await?;
    let steady: BTreeSet<String> = (1..=20).map(|n| format!("{n:02} steady")).collect();
    for (number, id) in (1..).zip(&steady) {
        client.put(number, &sample(id, number)).await?;
        client
            .put(number, &sample(&format!("{number:02} changing"), 1))
            .await?;
    }
    let (mut listed, mut after, mut number) = (Vec::new(), None, 100);
    loop {
        let request = ListRequest::new(client.collection.clone(), 4).after(after);
        let page = persist(&client.runtime, || {
            client.shared.fingerprints(request.clone())
        })
        .await?;
        listed.extend(page.items.into_iter().map(|f| f.id.to_string()));
        number += 1;
        ensure!(number < 200, "the pages do not end");
        let changing = format!("{:02} changing", number % 20 + 1);
        client.delete(number, &changing).await?;
        let other = format!("{:02} changing", (number + 7) % 20 + 1);
        client.put(number, &sample(&other, number)).await?;
        // No more than a few newcomers, so that the listing ends wherever they are put.
        if number < 105 {
            let newcomer = format!("{:02} newcomer", number % 20);
            client.put(number, &sample(&newcomer, number)).await?;
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    listed.retain(|id| id.ends_with("steady"));
    listed.sort();
    ensure_eq!(
        listed,
        steady.into_iter().collect::<Vec<_>>(),
        "documents that did not change"
    );
    Ok(())
}

async fn fingerprints_of_an_empty_collection_are_none(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    ensure_eq!(client.fingerprints(10).await?, [], "fingerprints");
    client.expect(&[("a", Expected::Never)]).await
}
