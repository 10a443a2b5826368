//! Full text: which words are found, in what order, and what if the index is damaged.

use std::{path::Path, sync::Arc};

use dbmanager_core::{
    backend::{BackendErrorKind, ListRequest, TextSearchRequest},
    model::{CollectionOptions, Document, Tokenizer, field},
};
use rusqlite::Connection;

use super::{FILE, apply, create, delete, fingerprints, key, open, sample, texts, upsert};

#[tokio::test]
async fn words_are_words_whatever_they_look_like() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await.unwrap();
    create(&store, CollectionOptions::new()).await;
    let documents = [
        ("1", "running dogs"),
        ("2", "a near miss"),
        ("3", "Café society"),
    ];
    let mutations = documents
        .iter()
        .map(|(id, text)| upsert(1, Document::new(*id).text(*text)))
        .collect();
    apply(&store, mutations).await;
    assert_eq!(texts(&store, "run").await, ["1"]);
    assert_eq!(texts(&store, "cafe").await, ["3"]);
    assert_eq!(texts(&store, "cafe\u{301}").await, ["3"]);
    for hostile in [
        "dog*",
        "\"dog",
        "dog\"",
        "text:dog",
        "dog NOT dog",
        "(dog",
        "dog)",
        "dog AND zebra",
        "^dog",
        "-dog",
        "dog + 7",
        "'dog'",
        "{text}: dog",
        "dog NEAR/0 zebra",
    ] {
        assert!(
            texts(&store, hostile).await.contains(&"1".to_owned()),
            "{hostile}"
        );
    }
    assert_eq!(texts(&store, "NEAR").await, ["2"]);
    assert_eq!(texts(&store, "zebra").await, Vec::<String>::new());
    assert_eq!(texts(&store, " * \" ").await, ["1", "2", "3"]);
}

#[tokio::test]
async fn scores_rank_repeated_and_rare_words_higher_and_ties_by_id() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await.unwrap();
    create(&store, CollectionOptions::new()).await;
    let documents = [
        ("z", "rare common filler"),
        ("c", "common filler filler"),
        ("b", "common filler filler"),
        ("a", "other filler filler"),
        ("d", "nothing like it here"),
        ("e", "still nothing like it"),
        ("f", "and nothing once more"),
    ];
    let mutations = documents
        .iter()
        .map(|(id, text)| upsert(1, Document::new(*id).text(*text)))
        .collect();
    apply(&store, mutations).await;
    assert_eq!(texts(&store, "common rare").await, ["z", "b", "c"]);
    let search = |text: &str, limit| store.search_text(TextSearchRequest::new(key(), text, limit));
    let once = search("common other", 10).await.unwrap();
    let twice = search("common common other", 10).await.unwrap();
    let score = |hits: &[dbmanager_core::backend::TextHit], id: &str| {
        hits.iter().find(|hit| &*hit.id == id).unwrap().score
    };
    assert!(score(&once, "b") > 0.0);
    assert!(score(&twice, "b") > 1.9 * score(&once, "b"));
    assert!((score(&twice, "a") - score(&once, "a")).abs() < 1e-12);
    let cut = search("common", 2).await.unwrap();
    assert_eq!(
        cut.iter().map(|hit| &*hit.id).collect::<Vec<_>>(),
        ["b", "c"]
    );

    let restricted = TextSearchRequest::new(key(), "common", 10)
        .restrict_to([Arc::from("c"), Arc::from("a"), Arc::from("absent")])
        .filter(Some(Arc::new(!field("year").exists())));
    let hits = store.search_text(restricted.clone()).await.unwrap();
    assert_eq!(hits.len(), 1);
    assert_eq!(
        hits[0].score,
        score(&search("common", 10).await.unwrap(), "c")
    );
    let excluded = restricted.filter(Some(Arc::new(field("year").exists())));
    assert_eq!(store.search_text(excluded).await.unwrap(), []);
    let listed =
        TextSearchRequest::new(key(), "", 10).restrict_to([Arc::from("c"), Arc::from("a")]);
    let hits = store.search_text(listed).await.unwrap();
    assert_eq!(
        hits.iter().map(|hit| &*hit.id).collect::<Vec<_>>(),
        ["a", "c"]
    );
    assert!(hits.iter().all(|hit| hit.score == 0.0));
}

#[tokio::test]
async fn each_tokenizer_finds_what_it_is_for() {
    for (tokenizer, text, found, absent) in [
        (Tokenizer::Unicode, "Die Häuser rannten", "hauser", "rannte"),
        (Tokenizer::Trigram, "数据库的恢复测试", "恢复测", "恢测试"),
        (Tokenizer::Trigram, "crash-recovery", "cover", "carv"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path()).await.unwrap();
        create(&store, CollectionOptions::new().tokenizer(tokenizer)).await;
        apply(&store, vec![upsert(1, Document::new("a").text(text))]).await;
        assert_eq!(texts(&store, found).await, ["a"], "{found}");
        assert_eq!(
            texts(&store, absent).await,
            Vec::<String>::new(),
            "{absent}"
        );
    }
}

fn segments(directory: &Path) -> i64 {
    let raw = Connection::open(directory.join(FILE)).unwrap();
    let sql = "SELECT count(DISTINCT segid) FROM full_text_1_idx";
    raw.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// FTS5 writes what it has gathered into a new segment whenever another statement opens a savepoint
/// and whenever a row comes that is before the last one; each segment has to be merged again later.
#[tokio::test]
async fn a_batch_is_one_segment_of_the_full_text_index() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await.unwrap();
    create(&store, CollectionOptions::new()).await;
    let named = |id: &str, text: &str| Document::new(id).text(text);
    let first = ["a", "b", "c"].map(|id| upsert(1, named(id, "old")));
    apply(&store, first.into()).await;
    assert_eq!(segments(directory.path()), 1);
    // Replaced in another order than they were written first, one of them twice.
    let mut second: Vec<_> = ["c", "a", "b"].map(|id| upsert(2, named(id, "new"))).into();
    second.push(upsert(3, named("c", "newest")));
    apply(&store, second).await;
    assert_eq!(segments(directory.path()), 2);
    assert_eq!(texts(&store, "old").await, Vec::<String>::new());
    assert_eq!(texts(&store, "new").await, ["a", "b"]);
    assert_eq!(texts(&store, "newest").await, ["c"]);
}

/// FTS5 itself merges after 64 pages, and then for all of them in one write.
#[tokio::test]
async fn segments_are_merged_a_little_with_every_write() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await.unwrap();
    create(&store, CollectionOptions::new()).await;
    let mut seen = Vec::new();
    for (version, id) in (1..).zip(["a", "b", "c", "d", "e"]) {
        apply(
            &store,
            vec![upsert(version, Document::new(id).text("word"))],
        )
        .await;
        seen.push(segments(directory.path()));
    }
    assert_eq!(seen, [1, 2, 3, 1, 2]);
    assert_eq!(texts(&store, "word").await, ["a", "b", "c", "d", "e"]);
}

/// Merges that are left off and gone on with, over words of documents that were replaced or deleted
/// in between.
#[tokio::test]
async fn a_merged_index_holds_the_words_of_its_documents() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await.unwrap();
    create(&store, CollectionOptions::new()).await;
    let text = |round: u64, document: u64| -> String {
        let words = (0..400).map(|n| format!("w{:x}", (round + 7) * (document + 3) * n * 7_919));
        let words: Vec<String> = words.chain([format!("round{round}")]).collect();
        words.join(" ")
    };
    for round in 0..40 {
        let batch = (0..8).filter(|document| (round + document) % 3 != 0);
        let batch = batch.map(|document| match (round * document) % 5 {
            4 => delete(round + 1, &document.to_string()),
            _ => {
                let named = Document::new(document.to_string());
                upsert(round + 1, named.text(text(round, document)))
            }
        });
        apply(&store, batch.collect()).await;
    }
    // These compare the index with the words of the documents.
    assert_eq!(fingerprints(&store).await.len(), 8);
    assert_eq!(texts(&store, "round0").await, Vec::<String>::new());
    let last = (0..8_u64).filter(|document| (39 + document) % 3 != 0 && (39 * document) % 5 != 4);
    let last: Vec<String> = last.map(|document| document.to_string()).collect();
    let mut found = texts(&store, "round39").await;
    found.sort();
    assert_eq!(found, last);
}

#[tokio::test]
async fn a_damaged_full_text_index_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await.unwrap();
    create(&store, CollectionOptions::new()).await;
    apply(&store, vec![upsert(1, sample())]).await;
    let raw = Connection::open(directory.path().join(FILE)).unwrap();
    let changed = raw
        .execute("DELETE FROM full_text_1_data WHERE id > 10", [])
        .unwrap();
    assert!(changed > 0);
    let error = store
        .fingerprints(ListRequest::new(key(), 10))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Damaged);
    assert_eq!(
        error.message(),
        "the full-text index full_text_1 does not hold the words of its documents; to build it \
         anew: INSERT INTO full_text_1 (full_text_1) VALUES ('rebuild')"
    );
}
