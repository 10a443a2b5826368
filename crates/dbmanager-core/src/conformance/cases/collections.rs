//! Collections: created, dropped, created again, kept apart.

use std::collections::BTreeSet;

use super::{EVERY_ROLE, cases};
use crate::{
    backend::{
        AnyBackend, ApplyRequest, BackendErrorKind, ListDocumentsRequest, ListRequest, Mutation,
        TextSearchRequest, VectorSearchRequest,
    },
    conformance::{
        client::{Client, expect_kind},
        data::{self, persist, sample, version},
        expect::Expected,
        trial::{CaseResult, Trial},
    },
    model::{Collection, CollectionKey, CollectionOptions, EmbeddingSpace, Metric, Tokenizer},
};

cases!(EVERY_ROLE;
    creating_again_changes_nothing,
    other_options_are_refused,
    an_embedding_space_may_be_filled_in_later,
    collections_are_listed,
    a_collection_never_created_is_missing,
    a_dropped_collection_is_missing,
    dropping_what_is_not_there_is_ok,
    dropping_removes_documents_and_tombstones,
    generations_do_not_touch_each_other,
    collections_do_not_touch_each_other,
    hostile_collection_names_stay_apart,
);

async fn creating_again_changes_nothing(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put(1, &sample("a", 1)).await?;
    client.create(&data::collection()).await?;
    client.expect_live(1, &sample("a", 1)).await
}

async fn other_options_are_refused(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put(2, &sample("a", 2)).await?;
    let options = [
        data::options().tokenizer(Tokenizer::Trigram),
        data::options().embedding_space(EmbeddingSpace::CALLER, 4, Metric::Cosine),
        data::options().embedding_space(EmbeddingSpace::CALLER, 3, Metric::Dot),
        data::options().embedding_space("another model", 3, Metric::Cosine),
    ];
    for options in options {
        let other = Collection {
            key: client.collection.clone(),
            options,
        };
        let answer = client.create(&other).await;
        let what = format!("create_collection with {:?}", other.options);
        expect_kind(answer, BackendErrorKind::Refused, &what)?;
    }
    client.put(3, &sample("a", 3)).await?;
    client.expect_live(3, &sample("a", 3)).await
}

async fn an_embedding_space_may_be_filled_in_later(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let mut collection = Collection {
        key: CollectionKey::new("later", 2),
        options: CollectionOptions::new().tokenizer(Tokenizer::Unicode),
    };
    client.create(&collection).await?;
    let on = client.on(&collection.key);
    // The fifth sample has no vectors.
    on.put(1, &sample("a", 5)).await?;
    collection.options = data::options();
    client.create(&collection).await?;
    on.expect_live(1, &sample("a", 5)).await?;
    on.put(2, &sample("a", 3)).await?;
    on.expect_live(2, &sample("a", 3)).await?;
    let other = Collection {
        options: data::options().embedding_space(EmbeddingSpace::CALLER, 4, Metric::Cosine),
        ..collection
    };
    let answer = client.create(&other).await;
    expect_kind(answer, BackendErrorKind::Refused, "another embedding space")
}

async fn listed(client: &Client) -> CaseResult<BTreeSet<CollectionKey>> {
    let list = persist(&client.runtime, || client.shared.collections()).await?;
    let count = list.len();
    let set: BTreeSet<_> = list.into_iter().collect();
    ensure_eq!(set.len(), count, "collections listed once");
    Ok(set)
}

async fn collections_are_listed(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let all = [
        data::collection(),
        data::named("papers", 2),
        data::named("Papers", 3),
    ];
    for collection in &all {
        client.create(collection).await?;
    }
    let expected: BTreeSet<_> = all.iter().map(|c| c.key.clone()).collect();
    ensure_eq!(listed(&client).await?, expected, "collections");
    client.drop_collection(&all[0].key).await?;
    let expected: BTreeSet<_> = all[1..].iter().map(|c| c.key.clone()).collect();
    ensure_eq!(listed(&client).await?, expected, "collections after a drop");
    Ok(())
}

/// Every request for the collection answers `CollectionMissing`.
async fn expect_missing(client: &Client) -> CaseResult {
    let missing = BackendErrorKind::CollectionMissing;
    let runtime = &client.runtime;
    let key = &client.collection;
    let ids = || client.ids(["a"]);
    let text = || TextSearchRequest::new(key.clone(), "text", 10);
    let mutations = [Mutation::upsert("a", version(9), sample("a", 9))];
    let request = ApplyRequest::new(key.clone(), 1, mutations);
    // A refusal may stand for the batch or for its one item.
    let applied = persist(runtime, || async {
        let items = client.shared.apply(request.clone()).await?;
        items.into_iter().collect::<Result<Vec<()>, _>>()
    });
    expect_kind(applied.await, missing, "apply")?;
    let heads = persist(runtime, || client.shared.heads(ids())).await;
    expect_kind(heads, missing, "heads")?;
    let page = persist(runtime, || {
        client
            .shared
            .fingerprints(ListRequest::new(key.clone(), 10))
    });
    expect_kind(page.await, missing, "fingerprints")?;
    let some = persist(runtime, || client.shared.fingerprints_of(ids())).await;
    expect_kind(some, missing, "fingerprints_of")?;
    match &client.backend {
        AnyBackend::Vector(vector) => {
            let vectors = persist(runtime, || vector.vectors(ids())).await;
            expect_kind(vectors, missing, "vectors")?;
            let found = persist(runtime, || {
                vector.search_vectors(VectorSearchRequest::new(key.clone(), [1.0, 0.0, 0.0], 1))
            });
            expect_kind(found.await, missing, "search_vectors")
        }
        AnyBackend::Graph(graph) => {
            let edges = persist(runtime, || graph.edges(ids())).await;
            expect_kind(edges, missing, "edges")?;
            let found = persist(runtime, || graph.match_titles(text())).await;
            expect_kind(found, missing, "match_titles")
        }
        AnyBackend::Relational(relational) => {
            let found = persist(runtime, || relational.get(ids())).await;
            expect_kind(found, missing, "get")?;
            if relational.capabilities().full_text {
                let found = persist(runtime, || relational.search_text(text())).await;
                expect_kind(found, missing, "search_text")?;
            }
            let list = persist(runtime, || {
                relational.list(ListDocumentsRequest::new(key.clone(), 10))
            });
            expect_kind(list.await, missing, "list")?;
            let count = persist(runtime, || relational.count(key.clone(), None)).await;
            expect_kind(count, missing, "count")
        }
    }
}

async fn a_collection_never_created_is_missing(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    expect_missing(&client.on(&CollectionKey::new("never", 1))).await?;
    expect_missing(&client.on(&CollectionKey::new("papers", 2))).await?;
    expect_missing(&client.on(&CollectionKey::new("Papers", 1))).await
}

async fn a_dropped_collection_is_missing(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put(1, &sample("a", 1)).await?;
    client.drop_collection(&client.collection).await?;
    expect_missing(&client).await
}

async fn dropping_what_is_not_there_is_ok(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put(1, &sample("a", 1)).await?;
    let absent = [
        CollectionKey::new("never", 1),
        CollectionKey::new("papers", 2),
        CollectionKey::new("papers", 0),
    ];
    for key in absent {
        client.drop_collection(&key).await?;
    }
    client.expect_live(1, &sample("a", 1)).await?;
    client.drop_collection(&client.collection).await?;
    client.drop_collection(&client.collection).await?;
    Ok(())
}

async fn dropping_removes_documents_and_tombstones(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put(8, &sample("a", 8)).await?;
    client.delete(9, "b").await?;
    client.drop_collection(&client.collection).await?;
    let again = data::named("papers", 2);
    client.create(&again).await?;
    let on = client.on(&again.key);
    on.expect(&[("a", Expected::Never), ("b", Expected::Never)])
        .await?;
    ensure_eq!(on.fingerprints(10).await?, [], "fingerprints");
    // The versions of the old generation are forgotten with it.
    on.put(1, &sample("a", 1)).await?;
    on.put(2, &sample("b", 2)).await?;
    on.expect_live(1, &sample("a", 1)).await?;
    on.expect_live(2, &sample("b", 2)).await
}

async fn generations_do_not_touch_each_other(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let newer = data::named("papers", 2);
    client.create(&newer).await?;
    let on = client.on(&newer.key);
    client.put(1, &sample("a", 1)).await?;
    on.put(2, &sample("a", 2)).await?;
    on.delete(3, "b").await?;
    client.put(1, &sample("b", 1)).await?;
    client.expect_live(1, &sample("a", 1)).await?;
    client.expect_live(1, &sample("b", 1)).await?;
    client.drop_collection(&client.collection).await?;
    on.expect_live(2, &sample("a", 2)).await?;
    on.expect_deleted(3, "b").await
}

async fn collections_do_not_touch_each_other(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let other = data::named("other", 1);
    client.create(&other).await?;
    let on = client.on(&other.key);
    client.put(5, &sample("a", 3)).await?;
    on.put(1, &sample("a", 4)).await?;
    on.delete(2, "b").await?;
    client.expect_live(5, &sample("a", 3)).await?;
    client.expect(&[("b", Expected::Never)]).await?;
    on.expect_live(1, &sample("a", 4)).await?;
    on.delete(6, "a").await?;
    client.expect_live(5, &sample("a", 3)).await
}

async fn hostile_collection_names_stay_apart(trial: Trial) -> CaseResult {
    let client = trial.open().await?;
    let names = data::hostile_names();
    let most = client.shared.capabilities().limits.max_collection_bytes;
    let collections: Vec<_> = (1..)
        .zip(names.iter().filter(|name| name.len() <= most))
        .map(|(number, name)| (number, data::named(name, 1)))
        .collect();
    for (number, collection) in &collections {
        client.create(collection).await?;
        let on = client.on(&collection.key);
        on.put(*number, &sample("a", *number)).await?;
    }
    let expected: BTreeSet<_> = collections.iter().map(|(_, c)| c.key.clone()).collect();
    ensure_eq!(listed(&client).await?, expected, "collections");
    for (number, collection) in &collections {
        let on = client.on(&collection.key);
        on.expect_live(*number, &sample("a", *number)).await?;
        if number % 2 == 0 {
            client.drop_collection(&collection.key).await?;
        }
    }
    for (number, collection) in collections.iter().filter(|(number, _)| number % 2 == 1) {
        let on = client.on(&collection.key);
        on.expect_live(*number, &sample("a", *number)).await?;
    }
    Ok(())
}
