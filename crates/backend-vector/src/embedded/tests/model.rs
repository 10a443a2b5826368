//! The store against a model that keeps everything in a map and compares with everything.

use std::collections::BTreeMap;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Upsert(u8, Vec<Vec<i8>>, Option<i8>, Vec<u8>),
    Delete(u8),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let set = prop::collection::vec(prop::collection::vec(-2_i8..3, 3), 0..4);
    let tags = prop::collection::vec(0_u8..3, 0..3);
    prop_oneof![
        8 => (0_u8..12, set, prop::option::of(0_i8..4), tags)
            .prop_map(|(id, set, year, tags)| Step::Upsert(id, set, year, tags)),
        2 => (0_u8..12).prop_map(Step::Delete),
        1 => Just(Step::Reopen),
    ]
}

fn filter() -> impl Strategy<Value = Filter> {
    let leaf = prop_oneof![
        (0_i64..4).prop_map(|year| field("year").eq(year)),
        (0_i64..4).prop_map(|year| field("year").ne(year)),
        (0_i64..4).prop_map(|year| field("year").ge(year)),
        (0_i64..3).prop_map(|tag| field("tags").eq(format!("t{tag}"))),
        prop::collection::vec(0_i64..4, 0..3).prop_map(|years| field("year").is_in(years)),
        Just(field("year").exists()),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Filter::And),
            prop::collection::vec(inner.clone(), 0..3).prop_map(Filter::Or),
            inner.prop_map(|filter| !filter),
        ]
    })
}

type Model = BTreeMap<String, (u64, Option<(Document, Vec<Vec<f32>>)>)>;

fn expected(
    model: &Model,
    metric: Metric,
    query: &[f32],
    filter: Option<&Filter>,
    only: Option<&[String]>,
) -> Vec<(String, u64, f64, u32)> {
    let mut hits: Vec<_> = model
        .iter()
        .filter_map(|(id, (version, state))| {
            let (document, set) = state.as_ref()?;
            if filter.is_some_and(|filter| !filter.matches(document))
                || only.is_some_and(|only| !only.contains(id))
            {
                return None;
            }
            let scores = (0..)
                .zip(set)
                .map(|(chunk, values)| (metric.score(query, values), chunk));
            let (score, chunk) = scores.reduce(|a, b| if b.0 > a.0 { b } else { a })?;
            Some((id.clone(), *version, score, chunk))
        })
        .collect();
    hits.sort_by(|a, b| b.2.total_cmp(&a.2).then_with(|| a.0.cmp(&b.0)));
    hits
}

/// Vector, filter, ids to restrict to, limit.
type Asked = (Vec<i8>, Option<Filter>, Vec<u8>, usize);

async fn run(metric: Metric, steps: Vec<Vec<Step>>, queries: Vec<Asked>) {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path()).await;
    let options = CollectionOptions::new().embedding_space("model", 3, metric);
    create(&store, options).await.unwrap();
    let mut model = Model::new();
    let mut version = 0;
    for batch in steps {
        let mut mutations: BTreeMap<String, Mutation> = BTreeMap::new();
        for step in batch {
            version += 1;
            match step {
                Step::Upsert(id, set, year, tags) => {
                    let id = format!("d{id}");
                    let tags: Vec<_> = tags.iter().map(|tag| format!("t{tag}")).collect();
                    let mut document = Document::new(id.clone()).metadata("tags", json!(tags));
                    if let Some(year) = year {
                        document = document.metadata("year", i64::from(year));
                    }
                    let set: Vec<Vec<f32>> = set
                        .into_iter()
                        .map(|values| values.into_iter().map(f32::from).collect())
                        .collect();
                    mutations.insert(id.clone(), upsert(document.clone(), version, &set));
                    model.insert(id, (version, Some((document, set))));
                }
                Step::Delete(id) => {
                    let id = format!("d{id}");
                    mutations.insert(id.clone(), delete(&id, version));
                    model.insert(id, (version, None));
                }
                Step::Reopen => {
                    drop(store);
                    store = open(directory.path()).await;
                }
            }
        }
        apply(&store, mutations.into_values().collect()).await;
        for (query, filter, only, limit) in &queries {
            let query: Vec<f32> = query.iter().map(|n| f32::from(*n)).collect();
            let only: Vec<String> = only.iter().map(|id| format!("d{id}")).collect();
            for only in [None, Some(only.as_slice())] {
                let mut request = VectorSearchRequest::new(key(), query.clone(), *limit)
                    .filter(filter.clone().map(Arc::new));
                if let Some(only) = only {
                    let ids: Vec<Arc<str>> = only.iter().map(|id| id.as_str().into()).collect();
                    request = request.restrict_to(ids);
                }
                let found: Vec<_> = store
                    .search_vectors(request)
                    .await
                    .unwrap()
                    .into_iter()
                    .map(|hit| {
                        (
                            hit.id.to_string(),
                            hit.version.as_u64(),
                            hit.score,
                            hit.chunk,
                        )
                    })
                    .collect();
                let mut expected = expected(&model, metric, &query, filter.as_ref(), only);
                expected.truncate(*limit);
                assert_eq!(found, expected);
            }
        }
    }
    let page = store
        .fingerprints(ListRequest::new(key(), 100))
        .await
        .unwrap();
    assert_eq!(page.items.len(), model.len());
    for item in page.items {
        let (version, state) = &model[&*item.id];
        assert_eq!(item.head.version.as_u64(), *version);
        assert_eq!(item.head.deleted, state.is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn searches_find_what_the_model_finds(
        metric in prop_oneof![Just(Metric::Cosine), Just(Metric::Dot), Just(Metric::Euclidean)],
        steps in prop::collection::vec(prop::collection::vec(step(), 1..6), 1..6),
        queries in prop::collection::vec(
            (
                prop::collection::vec(-2_i8..3, 3),
                prop::option::of(filter()),
                prop::collection::vec(0_u8..14, 0..6),
                1_usize..8,
            ),
            1..4,
        ),
    ) {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(run(metric, steps, queries));
    }
}
