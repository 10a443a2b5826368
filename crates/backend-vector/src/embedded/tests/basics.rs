//! The contract, sentence by sentence, where this store has its own way to fulfil it.

use super::*;

const HOSTILE: [&str; 8] = [
    "a",
    "A",
    "a ",
    "é",
    "e\u{301}",
    "'; DROP TABLE document; --",
    "\u{202e}%_?*[",
    "日本語\n\t\"\\",
];

#[tokio::test]
async fn hostile_ids_are_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let store = new_store(directory.path()).await;
    let mutations = (1..)
        .zip(HOSTILE)
        .map(|(n, id)| plain(id, n, &[vec![1.0, n as f32]]))
        .collect();
    apply(&store, mutations).await;
    for (n, id) in (1_u16..).zip(HOSTILE) {
        let request = VectorSearchRequest::new(key(), vec![1.0, f32::from(n)], 1)
            .restrict_to([Arc::from(id)]);
        assert_eq!(ids(&store.search_vectors(request).await.unwrap()), [id]);
        let stored = store.vectors(ids_request(&[id])).await.unwrap();
        let stored = stored[0].as_ref().unwrap();
        assert_eq!(stored.vectors[0].values, [1.0, f32::from(n)]);
    }
    let mut listed = Vec::new();
    let mut after = None;
    loop {
        let page = store
            .fingerprints(ListRequest::new(key(), 3).after(after))
            .await
            .unwrap();
        listed.extend(page.items.into_iter().map(|item| item.id.to_string()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    listed.sort();
    let mut expected = HOSTILE.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(listed, expected);
}

#[tokio::test]
async fn a_set_is_replaced_whole_whether_it_shrinks_grows_or_goes() {
    let directory = tempfile::tempdir().unwrap();
    let store = new_store(directory.path()).await;
    let old = vec![vec![1.0, 0.0], vec![0.0, 1.0], vec![-1.0, 0.0]];
    apply(
        &store,
        vec![plain("a", 1, &old), plain("b", 2, &[vec![0.5, 0.5]])],
    )
    .await;
    let hit = &search(&store, &[-1.0, 0.0], 1).await[0];
    assert_eq!((&*hit.id, hit.chunk), ("a", 2));
    assert_eq!(hit.passage, Some(Passage { start: 20, end: 30 }));

    apply(&store, vec![plain("a", 3, &[vec![1.0, 0.0]])]).await;
    let hits = search(&store, &[-1.0, 0.0], 5).await;
    assert_eq!(ids(&hits), ["b", "a"], "the old chunk is gone");
    assert_eq!(hits[1].score, -1.0);
    assert_eq!(hits[1].version, Version::from_u64(3));

    apply(&store, vec![plain("a", 4, &old)]).await;
    assert_eq!(search(&store, &[-1.0, 0.0], 1).await[0].chunk, 2);

    apply(&store, vec![plain("a", 5, &[])]).await;
    assert_eq!(ids(&search(&store, &[1.0, 0.0], 5).await), ["b"]);
    let heads = store.heads(ids_request(&["a"])).await.unwrap();
    assert_eq!(heads[0].unwrap().version, Version::from_u64(5));
    let stored = store.vectors(ids_request(&["a"])).await.unwrap();
    assert!(stored[0].as_ref().unwrap().vectors.is_empty());
}

#[tokio::test]
async fn older_versions_change_nothing_and_tombstones_stay() {
    let directory = tempfile::tempdir().unwrap();
    let store = new_store(directory.path()).await;
    apply(&store, vec![plain("a", 10, &[vec![1.0]])]).await;
    apply(&store, vec![plain("a", 9, &[vec![-1.0]]), delete("b", 3)]).await;
    assert_eq!(search(&store, &[1.0], 2).await[0].score, 1.0);
    apply(&store, vec![delete("a", 11)]).await;
    apply(
        &store,
        vec![plain("a", 10, &[vec![1.0]]), plain("b", 2, &[vec![1.0]])],
    )
    .await;
    assert!(search(&store, &[1.0], 2).await.is_empty());
    let request = ids_request(&["a", "b", "c"]);
    let heads = store.heads(request.clone()).await.unwrap();
    assert!(heads[0].unwrap().deleted && heads[1].unwrap().deleted);
    assert_eq!(heads[2], None);
    let fingerprints = store.fingerprints_of(request.clone()).await.unwrap();
    assert_eq!(
        fingerprints[0].as_ref().unwrap().content_hash,
        ContentHash::TOMBSTONE
    );
    assert_eq!(store.vectors(request).await.unwrap(), [None, None, None]);
    let identity = store.identity().await.unwrap();
    assert_eq!(identity.highest_version, Some(Version::from_u64(11)));
    apply(&store, vec![plain("a", 12, &[vec![1.0]])]).await;
    assert_eq!(ids(&search(&store, &[1.0], 2).await), ["a"]);
}

#[tokio::test]
async fn a_refused_item_leaves_its_neighbours_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = new_store(directory.path()).await;
    let mut twice = plain("twice", 6, &[vec![1.0, 2.0], vec![2.0, 1.0]]);
    let record = twice.state.record().unwrap();
    let mut set = record.vectors().clone();
    set.vectors[1].chunk = 0;
    let record = DocumentRecord::new(record.document().clone(), set).unwrap();
    twice = Mutation::upsert("twice", twice.version, Arc::new(record));
    let children: serde_json::Map<_, _> = (0..80).map(|n| (n.to_string(), n.into())).collect();
    let paths = Document::new("paths").metadata("k".repeat(1 << 20), children);
    let answers = try_apply(
        &store,
        vec![
            plain("mixed", 1, &[vec![1.0, 2.0], vec![1.0]]),
            plain("first", 2, &[vec![1.0, 2.0]]),
            plain("short", 3, &[vec![1.0]]),
            plain("nan", 4, &[vec![1.0, f32::NAN]]),
            plain("infinite", 5, &[vec![f32::NEG_INFINITY, 1.0]]),
            twice,
            plain("empty", 7, &[vec![]]),
            upsert(paths, 8, &[vec![1.0, 2.0]]),
            plain("last", 9, &[vec![2.0, 1.0]]),
        ],
    )
    .await
    .unwrap();
    for (index, answer) in answers.iter().enumerate() {
        match answer {
            Ok(()) => assert!([1, 8].contains(&index), "{index}"),
            Err(error) => {
                assert!(![1, 8].contains(&index), "{error}");
                assert_eq!(error.kind(), BackendErrorKind::Refused);
                assert_eq!(error.effect(), Effect::NotApplied);
            }
        }
    }
    assert_eq!(
        ids(&search(&store, &[1.0, 1.0], 9).await),
        ["first", "last"]
    );
    let heads = store
        .heads(ids_request(&["mixed", "nan", "paths"]))
        .await
        .unwrap();
    assert_eq!(heads, [None, None, None]);
}

#[tokio::test]
async fn vectors_of_another_space_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = new_store(directory.path()).await;
    let refused = |result: BackendResult<()>| {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Refused, "{error}");
    };
    let search =
        |vector: Vec<f32>| store.search_vectors(VectorSearchRequest::new(key(), vector, 3));
    assert!(search(vec![1.0; 5]).await.unwrap().is_empty());
    apply(&store, vec![plain("a", 1, &[vec![3.0, 4.0]])]).await;
    refused(search(vec![1.0; 5]).await.map(drop));
    refused(search(vec![1.0, f32::NAN]).await.map(drop));
    assert_eq!(search(vec![1.0, 0.0]).await.unwrap()[0].score, 0.6);

    let options = CollectionOptions::new;
    refused(create(&store, options().embedding_space("m", 3, Metric::Dot)).await);
    refused(create(&store, options().embedding_space("m", 0, Metric::Dot)).await);
    create(&store, options().embedding_space("m", 2, Metric::Dot))
        .await
        .unwrap();
    create(&store, options()).await.unwrap();
    assert_eq!(
        search(vec![1.0, 0.0]).await.unwrap()[0].score,
        3.0,
        "the metric is known now"
    );
    for (model, dimension, metric) in [
        ("other", 2, Metric::Dot),
        ("m", 3, Metric::Dot),
        ("m", 2, Metric::Cosine),
    ] {
        refused(create(&store, options().embedding_space(model, dimension, metric)).await);
    }
}

#[tokio::test]
async fn collections_are_apart_and_a_dropped_one_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let store = new_store(directory.path()).await;
    let second = CollectionKey::new("papers", 2);
    let request = |key: &CollectionKey| VectorSearchRequest::new(key.clone(), vec![1.0], 5);
    let missing = store.search_vectors(request(&second)).await.unwrap_err();
    assert_eq!(missing.kind(), BackendErrorKind::CollectionMissing);
    let collection = Collection {
        key: second.clone(),
        options: CollectionOptions::new(),
    };
    let create = CreateCollectionRequest::new(collection, 1);
    store.create_collection(create).await.unwrap();
    apply(&store, vec![plain("a", 1, &[vec![1.0]])]).await;
    let other = ApplyRequest::new(second.clone(), 1, vec![plain("b", 2, &[vec![1.0]])]);
    store.apply(other).await.unwrap();
    assert_eq!(
        ids(&store.search_vectors(request(&key())).await.unwrap()),
        ["a"]
    );

    let drop = DropCollectionRequest::new(key(), 1);
    store.drop_collection(drop.clone()).await.unwrap();
    store.drop_collection(drop).await.unwrap();
    let missing = store.search_vectors(request(&key())).await.unwrap_err();
    assert_eq!(missing.kind(), BackendErrorKind::CollectionMissing);
    assert_eq!(
        store.collections().await.unwrap().as_slice(),
        std::slice::from_ref(&second)
    );
    assert_eq!(
        ids(&store.search_vectors(request(&second)).await.unwrap()),
        ["b"]
    );
    super::create(&store, CollectionOptions::new())
        .await
        .unwrap();
    assert!(search(&store, &[1.0], 5).await.is_empty());
    let left: i64 = other_program(directory.path())
        .query_row("SELECT count(*) FROM vector", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 1);
}

#[tokio::test]
async fn a_fingerprint_shows_every_change_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let store = new_store(directory.path()).await;
    let mutation = plain("a", 1, &[vec![1.0, 2.0], vec![3.0, 4.0]]);
    let record = Arc::clone(mutation.state.record().unwrap());
    apply(&store, vec![mutation]).await;
    let hash = || async {
        let found = store.fingerprints_of(ids_request(&["a"])).await.unwrap();
        found[0].as_ref().unwrap().content_hash
    };
    let right = hash().await;
    assert_eq!(
        right,
        ContentHash::of_vectors(record.vectors().vectors.iter())
    );
    let file = other_program(directory.path());
    for (damage, cure) in [
        (
            "UPDATE vector SET numbers = x'0000803f00000041' WHERE chunk = 0",
            "UPDATE vector SET numbers = x'0000803f00000040' WHERE chunk = 0",
        ),
        (
            "UPDATE vector SET numbers = x'0000803f0000004000' WHERE chunk = 0",
            "UPDATE vector SET numbers = x'0000803f00000040' WHERE chunk = 0",
        ),
        (
            "UPDATE vector SET passage_end = 11 WHERE chunk = 0",
            "UPDATE vector SET passage_end = 10 WHERE chunk = 0",
        ),
        (
            "INSERT INTO vector (document, chunk, numbers) VALUES (1, 7, x'0000803f00000040')",
            "DELETE FROM vector WHERE chunk = 7",
        ),
        (
            "UPDATE vector SET chunk = 9 WHERE chunk = 1",
            "UPDATE vector SET chunk = 1 WHERE chunk = 9",
        ),
        ("DELETE FROM vector WHERE chunk = 1", "SELECT 1"),
    ] {
        file.execute_batch(damage).unwrap();
        assert_ne!(hash().await, right, "{damage}");
        file.execute_batch(cure).unwrap();
        if cure != "SELECT 1" {
            assert_eq!(hash().await, right, "{cure}");
        }
    }
}

#[tokio::test]
async fn a_damaged_vector_fails_the_search_until_it_is_written_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = new_store(directory.path()).await;
    apply(
        &store,
        vec![
            plain("a", 1, &[vec![1.0, 2.0]]),
            plain("b", 2, &[vec![2.0, 2.0]]),
        ],
    )
    .await;
    other_program(directory.path())
        .execute_batch("UPDATE vector SET numbers = x'00' WHERE document = 1")
        .unwrap();
    let request = VectorSearchRequest::new(key(), vec![1.0, 1.0], 5);
    let error = store.search_vectors(request).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Damaged);
    apply(&store, vec![plain("a", 3, &[vec![1.0, 2.0]])]).await;
    assert_eq!(ids(&search(&store, &[1.0, 1.0], 5).await), ["b", "a"]);
}

#[tokio::test]
async fn a_locked_file_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_with(directory.path(), json!({"busy_timeout": "1ms"}))
        .await
        .unwrap();
    create(&store, CollectionOptions::new()).await.unwrap();
    apply(&store, vec![plain("a", 1, &[vec![1.0]])]).await;
    assert_eq!(search(&store, &[1.0], 5).await.len(), 1);
    let file = other_program(directory.path());
    file.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = try_apply(&store, vec![delete("a", 2), plain("b", 3, &[vec![1.0]])])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Unavailable);
    assert_eq!(error.effect(), Effect::NotApplied);
    assert_eq!(ids(&search(&store, &[1.0], 5).await), ["a"]);
    file.execute_batch("ROLLBACK").unwrap();
    apply(&store, vec![plain("b", 3, &[vec![1.0]])]).await;
    assert_eq!(ids(&search(&store, &[1.0], 5).await), ["a", "b"]);
}

#[tokio::test]
async fn a_dropped_future_leaves_memory_as_the_file_is() {
    let directory = tempfile::tempdir().unwrap();
    let store = new_store(directory.path()).await;
    apply(&store, vec![plain("a", 1, &[vec![1.0]])]).await;
    assert_eq!(search(&store, &[1.0], 5).await.len(), 1);
    for round in 0..20_u64 {
        let id = format!("n{round}");
        let mut future = store.apply(ApplyRequest::new(
            key(),
            1,
            vec![plain(&id, 2 + round, &[vec![1.0]])],
        ));
        // The work is handed over at the first poll and runs to its end without the future.
        let _ = futures_poll(&mut future).await;
        drop(future);
        let found = search(&store, &[1.0], 50).await.len();
        let held = store.heads(ids_request(&[&id])).await.unwrap();
        let later = search(&store, &[1.0], 50).await.len();
        assert!(later >= found && (held[0].is_none() || later == round as usize + 2));
        // The next write waits for the one before.
        apply(&store, vec![delete("never", 1_000 + round)]).await;
        assert_eq!(search(&store, &[1.0], 50).await.len(), round as usize + 2);
    }
}

/// Polls once.
async fn futures_poll<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|context| {
        let ready = std::pin::Pin::new(&mut *future).poll(context).is_ready();
        std::task::Poll::Ready(ready)
    })
    .await
}

#[tokio::test]
async fn an_older_manager_is_fenced_off() {
    let directory = tempfile::tempdir().unwrap();
    let store = new_store(directory.path()).await;
    let stamp = Stamp {
        store_id: StoreId::from_u128(1),
        journal_id: JournalId::from_u128(2),
        epoch: 2,
        progress: Version::ZERO,
    };
    store
        .write_stamp(StampRequest::new(stamp.clone()))
        .await
        .unwrap();
    assert_eq!(store.identity().await.unwrap().stamp, Some(stamp));
    let error = try_apply(&store, vec![plain("a", 1, &[vec![1.0]])])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::StaleEpoch);
    assert_eq!(error.effect(), Effect::NotApplied);
    let drop = DropCollectionRequest::new(key(), 1);
    let error = store.drop_collection(drop).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::StaleEpoch);
    assert!(search(&store, &[1.0], 5).await.is_empty());
}

#[tokio::test]
async fn what_was_applied_is_there_after_a_crash_and_a_close_ends_everything() {
    let directory = tempfile::tempdir().unwrap();
    let store = new_store(directory.path()).await;
    apply(
        &store,
        vec![plain("a", 1, &[vec![1.0, 0.0]]), delete("b", 2)],
    )
    .await;
    let error = open_with(directory.path(), json!({})).await.unwrap_err();
    assert_eq!(
        error.kind(),
        BackendErrorKind::Locked,
        "one opening at a time"
    );
    drop(store);
    let store = open(directory.path()).await;
    assert_eq!(ids(&search(&store, &[1.0, 0.0], 5).await), ["a"]);
    store.sync().await.unwrap();
    store.refresh().await.unwrap();
    store.close().await.unwrap();
    store.close().await.unwrap();
    let request = VectorSearchRequest::new(key(), vec![1.0, 0.0], 5);
    let error = store.search_vectors(request).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Unavailable);
    assert_eq!(
        store.probe().await.unwrap_err().kind(),
        BackendErrorKind::Unavailable
    );
    let store = open(directory.path()).await;
    assert_eq!(ids(&search(&store, &[1.0, 0.0], 5).await), ["a"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_beside_writes_see_whole_sets() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(new_store(directory.path()).await);
    // Every version of the set holds the vector of its own version only.
    let set = |version: u64| vec![vec![version as f32, 1.0]; (version % 5) as usize + 1];
    apply(&store, vec![plain("a", 1, &set(1))]).await;
    let writer = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for version in 2..150 {
                apply(&store, vec![plain("a", version, &set(version))]).await;
            }
        })
    };
    let mut last = Version::ZERO;
    while !writer.is_finished() {
        let hits = search(&store, &[1.0, 0.0], 5).await;
        assert_eq!(ids(&hits), ["a"]);
        let version = hits[0].version.as_u64() as f64;
        assert!((hits[0].score - version / version.hypot(1.0)).abs() < 1e-12);
        assert!(hits[0].version >= last);
        last = hits[0].version;
    }
    writer.await.unwrap();
    assert_eq!(
        search(&store, &[1.0, 0.0], 5).await[0].version,
        Version::from_u64(149)
    );
}

#[tokio::test]
async fn a_filter_asked_again_sees_what_was_written_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let store = new_store(directory.path()).await;
    let tenant = |id: &str, version, tenant: &str| {
        upsert(
            Document::new(id).metadata("tenant", tenant),
            version,
            &[vec![1.0]],
        )
    };
    let find = async |tenant: &str| {
        let filter = Arc::new(field("tenant").eq(tenant));
        let request = VectorSearchRequest::new(key(), vec![1.0], 9).filter(Some(filter));
        let hits = store.search_vectors(request).await.unwrap();
        hits.iter()
            .map(|hit| hit.id.to_string())
            .collect::<Vec<_>>()
    };
    apply(&store, vec![tenant("a", 1, "x"), tenant("b", 2, "y")]).await;
    for _ in 0..2 {
        assert_eq!(find("x").await, ["a"]);
        assert_eq!(find("y").await, ["b"]);
    }
    apply(&store, vec![tenant("a", 3, "y")]).await;
    for _ in 0..2 {
        assert!(find("x").await.is_empty());
        assert_eq!(find("y").await, ["a", "b"]);
    }
    // More filters than are remembered.
    for n in 0..40 {
        assert!(find(&format!("t{n}")).await.is_empty());
    }
    apply(&store, vec![delete("a", 4)]).await;
    assert_eq!(find("y").await, ["b"]);
}
