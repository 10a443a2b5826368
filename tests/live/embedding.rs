//! A real sentence transformer behind the whole facade.

use std::time::Duration;

use dbmanager::{backend::ServiceConfig, prelude::*};

use crate::environment::{MINILM, report};

/// The embedder of the files that the environment names, seeing `max_length` tokens at once.
fn embedding(model: &str, max_length: u64) -> ServiceConfig {
    let directory = std::env::var("DBMANAGER_TEST_ONNX_TOKENIZER");
    let directory = directory.expect("DBMANAGER_TEST_ONNX_TOKENIZER is set beside the model");
    let settings = [
        ("model", model.into()),
        ("tokenizer_directory", directory.into()),
        ("max_length", max_length.into()),
        ("chunk_overlap", 8.into()),
    ];
    settings
        .map(|(key, value)| (key.to_owned(), value))
        .into_iter()
        .collect()
}

/// What the documents say without a word of the queries.
const SHORT: [(&str, &str, &str); 3] = [
    (
        "sleep",
        "A kitten naps on the couch.",
        "where does the cat rest",
    ),
    (
        "money",
        "The central bank raised interest rates.",
        "monetary policy and inflation",
    ),
    (
        "stars",
        "Astronomers photographed a distant galaxy.",
        "telescope picture from space",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn meaning_is_found_and_a_long_document_by_its_best_passage() {
    let Some(model) = MINILM.address() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let config = Config::embedded(directory.path()).embedding("fastembed", embedding(&model, 64));
    let db = DatabaseManager::open(config).await.unwrap();
    let filler = "The committee approved the minutes of the last meeting without discussion. ";
    let needle = "Afterwards everyone went to see the penguins at the aquarium.";
    let long = format!("{}{needle} {}", filler.repeat(10), filler.repeat(10));
    let short = SHORT.map(|(id, text, _)| Document::new(id).text(text));
    let documents = short
        .into_iter()
        .chain([Document::new("long").title("Minutes").text(&long)]);
    let stored = db
        .store_documents("notes", documents)
        .level(Level::All)
        .await;
    for receipt in stored.unwrap() {
        let receipt = receipt.unwrap();
        db.wait_for(&receipt, WaitFor::Searchable, Duration::from_secs(30))
            .await
            .unwrap();
    }
    for (id, _, words) in SHORT {
        let found = db
            .search_documents("notes", Query::semantic(words).limit(4))
            .await
            .unwrap();
        assert_eq!(&*found.hits[0].id, id, "{words}");
        assert_eq!(found.hits[0].passage(), None, "found as a whole");
    }
    let found = db
        .search_documents(
            "notes",
            Query::semantic("a visit to antarctic birds").limit(4),
        )
        .await
        .unwrap();
    let hit = &found.hits[0];
    assert_eq!(&*hit.id, "long");
    let passage = hit.passage().expect("the passage that matched");
    assert!(passage.contains("penguins"), "{passage:?}");
    assert!(passage.len() < long.len() / 4, "{} bytes", passage.len());
    let hits = found.hits.iter().filter(|hit| &*hit.id == "long").count();
    assert_eq!(hits, 1, "one hit for all its passages");
    assert!(db.check_consistency().await.unwrap().is_consistent());
    db.close(Duration::from_secs(10)).await.unwrap();
    report("minilm: meaning and passages found through the facade");
}

/// The same model looking at another number of tokens makes other vectors.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_model_is_refused_at_the_same_dimension() {
    let Some(model) = MINILM.address() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let config = |length| {
        Config::embedded(directory.path()).embedding("fastembed", embedding(&model, length))
    };
    let db = DatabaseManager::open(config(64)).await.unwrap();
    let document = || Document::new("a").text("A kitten naps on the couch.");
    db.store_document("notes", document())
        .level(Level::All)
        .await
        .unwrap();
    db.close(Duration::from_secs(10)).await.unwrap();
    let db = DatabaseManager::open(config(128)).await.unwrap();
    let changed = document().text("A dog naps on the couch.");
    let error = db.store_document("notes", changed).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::EmbeddingSpaceMismatch, "{error}");
    db.close(Duration::from_secs(10)).await.unwrap();
}
