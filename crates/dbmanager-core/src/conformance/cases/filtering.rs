//! The one filter language, compared with [`Filter::matches`].

use std::{collections::BTreeSet, sync::Arc};

use super::{FILTERING, cases};
use crate::{
    backend::{
        AnyBackend, BackendErrorKind, ListDocumentsRequest, TextSearchRequest, VectorSearchRequest,
    },
    conformance::{
        client::{Client, expect_kind},
        data::{Seeded, persist, sample},
        filters, random_filters,
        trial::{CaseResult, Failure, Trial},
    },
    model::{Document, DocumentRecord, Filter, field},
};

/// The most steps from a random filter to a small one that fails too.
const MOST_STEPS: usize = 50;

cases!(FILTERING;
    a_filter_is_applied needs |c| c.filter,
    negations_are_true_for_a_missing_field needs |c| c.filter,
    types_do_not_mix needs |c| c.filter,
    integers_are_compared_exactly needs |c| c.filter,
    lists_match_by_element needs |c| c.filter,
    keys_are_taken_as_they_are needs |c| c.filter,
    facts_are_filtered needs |c| c.filter,
    empty_forms_have_a_meaning needs |c| c.filter,
    every_comparison_agrees_with_the_model needs |c| c.filter,
    random_filters_agree_with_the_model needs |c| c.filter,
    random_filters_agree_on_random_documents needs |c| c.filter,
    a_filter_sees_the_newest_version needs |c| c.filter,
    a_filter_without_the_capability_is_unsupported needs |c| !c.filter,
);

/// The ids each way of reading finds with this filter, by the name of the way.
async fn found(client: &Client, filter: &Filter) -> CaseResult<Vec<(&'static str, Vec<String>)>> {
    let key = || client.collection.clone();
    let filter = || Some(Arc::new(filter.clone()));
    let names = |ids: Vec<Arc<str>>| ids.iter().map(|id| id.to_string()).collect();
    match &client.backend {
        AnyBackend::Vector(vector) => {
            let hits = persist(&client.runtime, || {
                let all = VectorSearchRequest::new(key(), [1.0, 0.0, 0.0], 1_000);
                vector.search_vectors(all.filter(filter()).exact())
            });
            let ids = hits.await?.into_iter().map(|hit| hit.id).collect();
            Ok(vec![("search_vectors", names(ids))])
        }
        AnyBackend::Relational(relational) => {
            let mut found = Vec::new();
            let list = persist(&client.runtime, || {
                relational.list(ListDocumentsRequest::new(key(), 1_000).filter(filter()))
            });
            let ids = list.await?.into_iter().map(|record| record.id).collect();
            found.push(("list", names(ids)));
            if relational.capabilities().full_text {
                let hits = persist(&client.runtime, || {
                    let all = TextSearchRequest::new(key(), "", 1_000);
                    relational.search_text(all.filter(filter()))
                });
                let ids = hits.await?.into_iter().map(|hit| hit.id).collect();
                found.push(("search_text", names(ids)));
            }
            Ok(found)
        }
        AnyBackend::Graph(_) => Ok(Vec::new()),
    }
}

/// Each filter finds what the model says, in order of the ids.
async fn agree(
    client: &Client,
    corpus: &[Arc<DocumentRecord>],
    filters: impl IntoIterator<Item = Filter>,
) -> CaseResult {
    for filter in filters {
        if !client.shared.can_filter(&filter) {
            refuses(client, &filter).await?;
            continue;
        }
        let mut expected: Vec<String> = corpus
            .iter()
            .filter(|record| filter.matches(record.document()))
            .map(|record| record.document().id.clone())
            .collect();
        expected.sort();
        for (way, ids) in found(client, &filter).await? {
            let (a, b): (BTreeSet<_>, BTreeSet<_>) =
                (ids.iter().collect(), expected.iter().collect());
            let unwanted: Vec<_> = a.difference(&b).collect();
            let lacking: Vec<_> = b.difference(&a).collect();
            ensure!(
                a == b,
                "{way} with {filter:?}: found wrongly {unwanted:?}, not found {lacking:?}"
            );
            ensure_eq!(ids, expected, "order of {way} with {filter:?}");
        }
        if let AnyBackend::Relational(relational) = &client.backend {
            let count = persist(&client.runtime, || {
                relational.count(client.collection.clone(), Some(Arc::new(filter.clone())))
            });
            ensure_eq!(count.await?, expected.len() as u64, "count with {filter:?}");
        }
    }
    Ok(())
}

/// A filter that the store cannot take is refused by name, never ignored.
async fn refuses(client: &Client, filter: &Filter) -> CaseResult {
    let filter = || Some(Arc::new(filter.clone()));
    let key = || client.collection.clone();
    let unsupported = BackendErrorKind::Unsupported;
    match &client.backend {
        AnyBackend::Vector(vector) => {
            let found = persist(&client.runtime, || {
                let request = VectorSearchRequest::new(key(), [1.0, 0.0, 0.0], 1);
                vector.search_vectors(request.filter(filter()))
            });
            expect_kind(found.await, unsupported, "search_vectors with a filter")
        }
        AnyBackend::Relational(relational) => {
            let found = persist(&client.runtime, || {
                let request = TextSearchRequest::new(key(), "text", 1);
                relational.search_text(request.filter(filter()))
            });
            expect_kind(found.await, unsupported, "search_text with a filter")?;
            let list = persist(&client.runtime, || {
                relational.list(ListDocumentsRequest::new(key(), 1).filter(filter()))
            });
            expect_kind(list.await, unsupported, "list with a filter")?;
            let count = persist(&client.runtime, || relational.count(key(), filter()));
            expect_kind(count.await, unsupported, "count with a filter")
        }
        AnyBackend::Graph(_) => Ok(()),
    }
}

/// The corpus, and beside it what no filter may find: a tombstone and another collection.
async fn filled(trial: &Trial) -> CaseResult<(Client, Vec<Arc<DocumentRecord>>)> {
    let corpus = filters::corpus();
    let client = filled_with(trial, &corpus).await?;
    Ok((client, corpus))
}

async fn filled_with(trial: &Trial, corpus: &[Arc<DocumentRecord>]) -> CaseResult<Client> {
    let client = trial.store().await?;
    client.put_all(corpus).await?;
    client.put(500, &sample("deleted", 4)).await?;
    client.delete(501, "deleted").await?;
    let other = crate::conformance::data::named("other", 1);
    client.create(&other).await?;
    client
        .on(&other.key)
        .put(1, &sample("elsewhere", 4))
        .await?;
    client.settle().await?;
    Ok(client)
}

/// Looks for a smaller filter that fails as well, again and again, as long as there is one.
async fn smallest(
    client: &Client,
    corpus: &[Arc<DocumentRecord>],
    filter: Filter,
    failure: Failure,
) -> Failure {
    let mut least = (filter, failure);
    'smaller: for _ in 0..MOST_STEPS {
        for less in random_filters::smaller(&least.0) {
            if let Err(failure) = agree(client, corpus, [less.clone()]).await {
                least = (less, failure);
                continue 'smaller;
            }
        }
        break;
    }
    least.1
}

async fn a_filter_is_applied(trial: Trial) -> CaseResult {
    let (client, corpus) = filled(&trial).await?;
    for filter in [field("v").eq(10), field("v").eq("a")] {
        ensure!(
            client.shared.can_filter(&filter),
            "a store that filters must take {filter:?}"
        );
        agree(&client, &corpus, [filter]).await?;
    }
    Ok(())
}

async fn negations_are_true_for_a_missing_field(trial: Trial) -> CaseResult {
    let (client, corpus) = filled(&trial).await?;
    agree(&client, &corpus, filters::missing()).await
}

async fn types_do_not_mix(trial: Trial) -> CaseResult {
    let (client, corpus) = filled(&trial).await?;
    agree(&client, &corpus, filters::types()).await
}

async fn integers_are_compared_exactly(trial: Trial) -> CaseResult {
    let (client, corpus) = filled(&trial).await?;
    agree(&client, &corpus, filters::integers()).await
}

async fn lists_match_by_element(trial: Trial) -> CaseResult {
    let (client, corpus) = filled(&trial).await?;
    agree(&client, &corpus, filters::lists()).await
}

async fn keys_are_taken_as_they_are(trial: Trial) -> CaseResult {
    let (client, corpus) = filled(&trial).await?;
    agree(&client, &corpus, filters::keys()).await
}

async fn facts_are_filtered(trial: Trial) -> CaseResult {
    let (client, corpus) = filled(&trial).await?;
    agree(&client, &corpus, filters::facts()).await
}

async fn empty_forms_have_a_meaning(trial: Trial) -> CaseResult {
    let (client, corpus) = filled(&trial).await?;
    agree(&client, &corpus, filters::empty_forms()).await
}

async fn every_comparison_agrees_with_the_model(trial: Trial) -> CaseResult {
    let (client, corpus) = filled(&trial).await?;
    let mut seeded = Seeded::new(trial.seed);
    agree(&client, &corpus, filters::comparisons(&mut seeded)).await
}

async fn random_filters_agree_with_the_model(trial: Trial) -> CaseResult {
    let (client, corpus) = filled(&trial).await?;
    let mut seeded = Seeded::new(trial.seed);
    let random: Vec<_> = (0..100).map(|_| filters::random(&mut seeded, 3)).collect();
    agree(&client, &corpus, random).await
}

async fn random_filters_agree_on_random_documents(trial: Trial) -> CaseResult {
    let mut seeded = Seeded::new(trial.seed);
    let corpus = random_filters::corpus(&mut seeded, 40);
    let client = filled_with(&trial, &corpus).await?;
    let mut random = random_filters::Filters::new(seeded, &corpus);
    for number in 0..100 {
        let filter = random.next(4);
        if let Err(failure) = agree(&client, &corpus, [filter.clone()]).await {
            let failure = smallest(&client, &corpus, filter, failure).await;
            let seed = trial.seed;
            return Err(failure.during(format!("filter {number} of seed {seed}, made small")));
        }
    }
    Ok(())
}

async fn a_filter_sees_the_newest_version(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let tenant = |tenant: &str| {
        let document = Document::new("a").metadata("tenant", tenant);
        crate::conformance::data::record(document.vector([1.0, 0.0, 0.0]))
    };
    let filters = || [field("tenant").eq("red"), field("tenant").eq("blue")];
    for (number, name) in [(1, "red"), (2, "blue"), (3, "red")] {
        client.put(number, &tenant(name)).await?;
        client.settle().await?;
        agree(&client, &[tenant(name)], filters()).await?;
    }
    client.delete(4, "a").await?;
    client.settle().await?;
    agree(&client, &[], filters()).await
}

async fn a_filter_without_the_capability_is_unsupported(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put(1, &sample("a", 4)).await?;
    client.settle().await?;
    refuses(&client, &field("number").eq(4)).await
}
