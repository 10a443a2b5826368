//! Documents that are longer than a model sees at once: a vector for each passage, one hit for the
//! document, with the passage that was found.

#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use dbmanager::{
    embed::{
        BlockingEmbedder, BlockingModel, EmbedDocument, EmbedError, EmbedderKind, HashingModel,
        PassageText,
    },
    model::Passage,
    prelude::*,
};
use dbmanager_core::Runtime;

/// Sees one paragraph at a time.
#[derive(Debug)]
struct Paragraphs(HashingModel);

impl BlockingModel for Paragraphs {
    fn model(&self) -> &str {
        "paragraphs"
    }

    fn dimension(&self) -> u32 {
        self.0.dimension()
    }

    fn kind(&self) -> EmbedderKind {
        EmbedderKind::Semantic
    }

    fn embed_document(&self, text: &str) -> Result<Vec<f32>, EmbedError> {
        self.0.embed_document(text)
    }

    fn passages(&self, document: &EmbedDocument) -> Result<Vec<PassageText>, EmbedError> {
        let mut start = 0;
        let paragraphs = document.text.split_inclusive("\n\n").map(|paragraph| {
            let passage = Passage {
                start,
                end: start + u32::try_from(paragraph.len()).expect("a short text"),
            };
            start = passage.end;
            (Some(passage), Arc::from(paragraph))
        });
        Ok(paragraphs.collect())
    }
}

const TEXT: &str = "Penguins huddle through the antarctic winter.\n\n\
                    — … —\n\n\
                    Sourdough bread needs a patient baker.\n\n\
                    Basalt columns form when lava cools slowly.";

async fn database() -> DatabaseManager {
    let model = Paragraphs(HashingModel::new(384).unwrap());
    let embedder = BlockingEmbedder::new(Runtime::tokio(), model, NonZeroUsize::MIN);
    dbmanager::builder(Config::in_memory())
        .embedder(Arc::new(embedder))
        .open()
        .await
        .unwrap()
}

#[tokio::test]
async fn passages_of_a_document_are_one_hit_with_the_passage_that_was_found() {
    let db = database().await;
    let long = Document::new("long").title("Miscellany").text(TEXT);
    let short = Document::new("short").text("Granite is not basalt.");
    for document in [long, short] {
        let stored = db.store_document("notes", document).level(Level::All).await;
        let receipt = stored.unwrap();
        db.wait_for(&receipt, WaitFor::Searchable, Duration::from_secs(10))
            .await
            .unwrap();
    }
    for words in ["penguins winter", "sourdough bread", "lava columns"] {
        let found = db
            .search_documents("notes", Query::semantic(words).limit(10))
            .await
            .unwrap();
        let hits: Vec<_> = found.hits.iter().filter(|hit| &*hit.id == "long").collect();
        assert_eq!(hits.len(), 1, "{words}: one hit for the document");
        let shown = hits[0].passage().expect("the passage is shown");
        let first = words.split(' ').next().unwrap();
        assert!(shown.len() < TEXT.len() / 2, "{words}: {shown:?}");
        assert!(shown.to_lowercase().contains(first), "{words}: {shown:?}");
    }
}

#[tokio::test]
async fn a_passage_with_nothing_to_say_has_no_vector() {
    let db = database().await;
    let document = Document::new("long").text(TEXT);
    db.store_document("notes", document)
        .level(Level::All)
        .await
        .unwrap();
    assert!(db.check_consistency().await.unwrap().is_consistent());
    let empty = Document::new("empty").text("…\n\n—");
    db.store_document("notes", empty)
        .level(Level::All)
        .await
        .unwrap();
    assert!(db.check_consistency().await.unwrap().is_consistent());
    let stored = db.get_document("notes", "empty").await.unwrap().unwrap();
    assert_eq!(stored.document.text, "…\n\n—");
}

#[tokio::test]
async fn more_passages_than_a_store_holds_are_refused_before_anything_is_written() {
    let db = database().await;
    let document = Document::new("endless").text("word\n\n".repeat(10_001));
    let error = db.store_document("notes", document).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("passages"), "{error}");
    assert!(db.get_document("notes", "endless").await.unwrap().is_none());
}
