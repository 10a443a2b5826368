//! Documents whole, lists and counts.

use std::sync::Arc;

use super::{RELATIONAL, cases};
use crate::{
    backend::{DocumentState, ListDocumentsRequest, StoredRecord},
    conformance::{
        client::Client,
        data::{self, persist, record, sample, version},
        trial::{CaseResult, Trial},
    },
    model::{ChunkVector, Document, DocumentRecord, VectorOrigin, VectorSet, field},
};

cases!(RELATIONAL;
    documents_come_back_bit_for_bit,
    get_follows_the_ids_asked_for,
    lists_are_in_order_of_the_bytes_of_ids,
    lists_page_without_gaps,
    lists_show_tombstones_only_if_asked,
    lists_keep_filter_and_page_together needs |c| c.filter,
    counts_are_of_live_documents,
);

async fn documents_come_back_bit_for_bit(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let chunk = |chunk, values: [f32; 3]| ChunkVector {
        chunk,
        passage: None,
        values: values.into(),
    };
    let embedded = VectorSet {
        origin: VectorOrigin::Embedder,
        text_hash: Some([7; 32]),
        vectors: vec![
            chunk(0, [0.1, -0.0, f32::MIN_POSITIVE]),
            chunk(1, [f32::MAX, f32::EPSILON, -1e-45]),
        ],
    };
    let hostile = data::hostile_document("b");
    let with_vectors =
        DocumentRecord::new(hostile.clone(), embedded).expect("a document built in memory is JSON");
    let long = "\u{1f980} words ".repeat(30_000);
    let documents = [
        record(Document::new("a")),
        Arc::new(with_vectors),
        record(Document::new("c").text(long)),
        sample("d", 24),
    ];
    client.put_all(&documents).await?;
    for (number, record) in (1..).zip(&documents) {
        client.expect_live(number, record).await?;
    }
    // Other bytes of the same document are other bytes: spaces and the order of keys are kept.
    let spaced = br#"{ "metadata" : {"b": 1.0, "a": 1e2},  "id":"e" }"#;
    let vectors = VectorSet::empty();
    let record = DocumentRecord::from_parts(spaced, vectors).expect("these bytes are a document");
    let record = Arc::new(record);
    client.put(9, &record).await?;
    client.expect_live(9, &record).await
}

async fn get_follows_the_ids_asked_for(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put(1, &sample("a", 1)).await?;
    client.delete(2, "b").await?;
    client.put(3, &sample("c", 3)).await?;
    let relational = client.relational()?;
    let request = client.ids(["c", "missing", "b", "a", "c"]);
    let found = persist(&client.runtime, || relational.get(request.clone())).await?;
    let facts: Vec<_> = found
        .iter()
        .map(|found| found.as_ref().map(facts_of))
        .collect();
    let (a, b, c) = (("a", 1, true), ("b", 2, false), ("c", 3, true));
    let expected = [Some(c), None, Some(b), Some(a), Some(c)]
        .map(|fact| fact.map(|(id, number, live)| (id, version(number), live)));
    ensure_eq!(facts, expected, "documents");
    let none = client.ids([]);
    let found = persist(&client.runtime, || relational.get(none.clone())).await?;
    ensure_eq!(found, [], "documents of no ids");
    Ok(())
}

fn facts_of(record: &StoredRecord) -> (&str, crate::model::Version, bool) {
    let live = record.state != DocumentState::Deleted;
    (&record.id, record.version, live)
}

async fn list(client: &Client, request: &ListDocumentsRequest) -> CaseResult<Vec<StoredRecord>> {
    let relational = client.relational()?;
    Ok(persist(&client.runtime, || relational.list(request.clone())).await?)
}

/// The ids of all pages; a page that is not full is the last.
async fn pages(client: &Client, request: &ListDocumentsRequest) -> CaseResult<Vec<String>> {
    let mut all: Vec<String> = Vec::new();
    loop {
        let after = all.last().map(|id| Arc::from(id.as_str()));
        let page = list(client, &request.clone().after_id(after)).await?;
        ensure!(
            page.len() <= request.limit,
            "a page of {} where at most {} were asked for",
            page.len(),
            request.limit
        );
        all.extend(page.iter().map(|record| record.id.to_string()));
        if page.len() < request.limit {
            return Ok(all);
        }
        ensure!(all.len() < 100_000, "the pages do not end");
    }
}

async fn lists_are_in_order_of_the_bytes_of_ids(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let most = client.shared.capabilities().limits.max_id_bytes;
    let mut ids = data::hostile_ids();
    ids.retain(|id| id.len() <= most);
    let documents: Vec<_> = ids
        .iter()
        .map(|id| record(Document::new(id.as_str())))
        .collect();
    client.put_all(&documents).await?;
    ids.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    for limit in [1, 7, 1_000] {
        let request = ListDocumentsRequest::new(client.collection.clone(), limit);
        let found = pages(&client, &request).await?;
        ensure_eq!(found, ids, "ids, {limit} at a time");
    }
    Ok(())
}

/// Ten documents of which the third and the sixth are deleted.
async fn ten(client: &Client) -> CaseResult {
    let documents: Vec<_> = (0..10)
        .map(|n| {
            record(
                Document::new(format!("id {n}"))
                    .metadata("n", n)
                    .metadata("odd", n % 2 == 1),
            )
        })
        .collect();
    client.put_all(&documents).await?;
    client.delete(50, "id 3").await?;
    client.delete(51, "id 6").await
}

fn names(numbers: &[u32]) -> Vec<String> {
    numbers.iter().map(|n| format!("id {n}")).collect()
}

async fn lists_page_without_gaps(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    ten(&client).await?;
    let expected = names(&[0, 1, 2, 4, 5, 7, 8, 9]);
    for limit in [1, 3, 4, 7, 8, 9] {
        let request = ListDocumentsRequest::new(client.collection.clone(), limit);
        let found = pages(&client, &request).await?;
        ensure_eq!(found, expected, "ids, {limit} at a time");
    }
    for (after, expected) in [
        ("id 4", names(&[5, 7])),
        ("id 6", names(&[7, 8])),
        ("id 45", names(&[5, 7])),
        ("", names(&[0, 1])),
        ("z", names(&[])),
    ] {
        let request = ListDocumentsRequest::new(client.collection.clone(), 2);
        let page = list(&client, &request.after_id(Some(after.into()))).await?;
        let found: Vec<_> = page.iter().map(|record| record.id.to_string()).collect();
        ensure_eq!(found, expected, "ids after {after:?}");
    }
    Ok(())
}

async fn lists_show_tombstones_only_if_asked(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    ten(&client).await?;
    let request = ListDocumentsRequest::new(client.collection.clone(), 3).include_deleted();
    let found = pages(&client, &request).await?;
    ensure_eq!(found, names(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), "ids");
    let all = ListDocumentsRequest::new(client.collection.clone(), 100).include_deleted();
    let found = list(&client, &all).await?;
    let dead: Vec<_> = found
        .iter()
        .map(facts_of)
        .filter(|(_, _, live)| !live)
        .collect();
    let expected = [("id 3", version(50), false), ("id 6", version(51), false)];
    ensure_eq!(dead, expected, "tombstones");
    Ok(())
}

async fn lists_keep_filter_and_page_together(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    ten(&client).await?;
    let odd = || Some(Arc::new(field("odd").eq(true)));
    let request = ListDocumentsRequest::new(client.collection.clone(), 2).filter(odd());
    let expected = names(&[1, 5, 7, 9]);
    ensure_eq!(pages(&client, &request).await?, expected, "ids");
    // A tombstone fulfils no filter, not even a negation.
    let request = request.include_deleted();
    ensure_eq!(pages(&client, &request).await?, expected, "ids");
    let negated = ListDocumentsRequest::new(client.collection.clone(), 3)
        .filter(Some(Arc::new(!field("absent").exists())))
        .include_deleted();
    let expected = names(&[0, 1, 2, 4, 5, 7, 8, 9]);
    ensure_eq!(pages(&client, &negated).await?, expected, "ids");
    Ok(())
}

async fn counts_are_of_live_documents(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let relational = client.relational()?;
    let count = || {
        persist(&client.runtime, || {
            relational.count(client.collection.clone(), None)
        })
    };
    ensure_eq!(count().await?, 0, "count of an empty collection");
    ten(&client).await?;
    ensure_eq!(count().await?, 8, "count");
    client.put(52, &record(Document::new("id 3"))).await?;
    client.put(53, &record(Document::new("id 4"))).await?;
    ensure_eq!(count().await?, 9, "count after a revival and an update");
    let other = data::named("other", 1);
    client.create(&other).await?;
    client.on(&other.key).put(1, &sample("a", 1)).await?;
    ensure_eq!(count().await?, 9, "count beside another collection");
    Ok(())
}
