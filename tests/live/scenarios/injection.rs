//! Texts that a query language, a path or a pattern might take for something else are stored,
//! found, filtered and deleted as they are, wherever a caller can put them.

use dbmanager::{
    model::{Field, TraversalDirection},
    prelude::*,
};
use serde_json::json;

use super::{
    ledger::{Ledger, hits, store},
    waiting::settled,
    world::{World, close},
};

const COLLECTION: &str = "odd";

/// Each of them as an id, a title, a text, a key, a value, a kind and a target.
fn odd_texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "it's \"quoted\" `twice`",
        "'; DROP TABLE documents; --",
        "' OR '1'='1",
        "\\'; SELECT pg_sleep(60); --",
        "$1 $2 :name ?",
        "$where",
        "$ne",
        "dotted.key",
        "dotted.key.$[]",
        "a.$set.b",
        "{\"$gt\": \"\"}",
        "{}",
        "[]",
        "*",
        "@field:{tag}",
        "(@a:[-inf +inf]) | -b ~c",
        "}) DETACH DELETE n //",
        "` SET n.x = 1 //",
        "\\u0060 MATCH (n) RETURN n",
        "redis.call('FLUSHALL')",
        "]] return 1 --[[",
        "{braces}:{braces}",
        "new\nline\r\ttab",
        "back\\slash\\n",
        "100%_done%",
        "../../etc/passwd",
        "a/b?c=d&e#f;g",
        "%00%2e",
        "null",
        "true",
        "1",
        "-1.5e3",
        " ",
        " padded ",
        "\u{feff}mark",
        "\u{202e}right to left\u{202c}",
        "שלום עולם",
        "مرحبا",
        "🦀 👩\u{200d}👩\u{200d}👧 🇩🇪",
        "caf\u{e9}",
        "cafe\u{301}",
        "\u{1}\u{1f}\u{7f}\u{80}",
        "\u{ffff}\u{10ffff}",
        "__proto__",
        "_id",
    ]
    .map(str::to_owned)
    .to_vec();
    texts.push("x".repeat(512));
    texts.push("é".repeat(256));
    texts
}

/// What a name of a collection may also be.
fn odd_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "it's \"quoted\" `twice`",
        "'; DROP SCHEMA public CASCADE; --",
        "$cmd.system.indexes",
        "*{}@:|",
        "New\nLine",
        "new\nline",
        "../..",
        "🦀",
    ]
    .map(str::to_owned)
    .to_vec();
    names.push("n".repeat(255));
    names.push(format!("{}m", "n".repeat(254)));
    names
}

fn odd_document(text: &str) -> Document {
    Document::new(text)
        .title(text)
        .text(format!("harbour {text} lantern"))
        .document_type(text)
        .file_path(text)
        .metadata(text, text)
        .metadata("value", text)
        .metadata("list", json!([text, 1]))
        .metadata("nested", json!({text: {text: text}}))
        .references([
            Reference::new(text).kind("itself"),
            Reference::new("target").kind(text).property(text, text),
        ])
}

pub(super) async fn run(world: World) {
    let db = world.open().await;
    let mut ledger = Ledger::default();
    let texts = odd_texts();
    store_all(&db, &mut ledger, &texts).await;
    ledger.assert_held_by(&db).await;
    for text in &texts {
        assert_found(&db, &ledger, text).await;
    }
    collections(&db, &mut ledger).await;
    close(db).await;

    let db = world.open().await;
    ledger.assert_held_by(&db).await;
    // Deleting one deletes no other, and emptying one empties no other.
    for text in texts.iter().step_by(2) {
        db.delete_document(COLLECTION, text)
            .level(Level::All)
            .await
            .unwrap();
        ledger.deleted(COLLECTION, text);
    }
    for name in odd_names().iter().step_by(2) {
        db.drop_collection(name).level(Level::All).await.unwrap();
        ledger.dropped(name);
    }
    ledger.assert_held_by(&db).await;
    world.finish(db).await;
}

async fn store_all(db: &DatabaseManager, ledger: &mut Ledger, texts: &[String]) {
    let mut documents: Vec<_> = texts.iter().map(|text| odd_document(text)).collect();
    documents.push(Document::new("target").title("the target of all"));
    let write = db
        .store_documents(COLLECTION, documents.clone())
        .level(Level::All);
    for (receipt, document) in write.await.unwrap().into_iter().zip(documents) {
        receipt.unwrap_or_else(|error| panic!("{:?}: {error:?}", document.id));
        ledger.stored(COLLECTION, document);
    }
    settled(db).await;
}

/// It is found by each of its parts, alone.
async fn assert_found(db: &DatabaseManager, ledger: &Ledger, text: &str) {
    let found = db.get_document(COLLECTION, text).await.unwrap();
    assert_eq!(found.unwrap().document, odd_document(text));
    let parts = [
        fact(Field::Id).eq(text),
        fact(Field::Title).eq(text),
        fact(Field::DocumentType).eq(text),
        fact(Field::FilePath).is_in([text]),
        field(text).eq(text),
        field("value").eq(text),
        field("list").eq(text),
        field_path(["nested", text, text]).eq(text),
    ];
    // One that finds too little empties the first form, one that finds too much shows in the second.
    let all = Filter::And(parts.to_vec()).and(!field("value").eq("another"));
    let any = Filter::Or(parts.to_vec());
    for (filter, query) in [
        (field(text).eq(text), Query::metadata("")),
        (all.clone(), Query::metadata("")),
        (any, Query::metadata("")),
        (field(text).eq(text), Query::semantic("harbour")),
        (all, Query::semantic("harbour")),
    ] {
        let wanted = ledger.ids(COLLECTION, &filter);
        assert!(wanted.iter().any(|id| id == text), "{filter:?}");
        let query = query.filter(filter.clone()).limit(100);
        assert_eq!(hits(db, COLLECTION, query).await, wanted, "{filter:?}");
    }
    let out = Query::related_to([text])
        .direction(TraversalDirection::Outgoing)
        .edge_kind(text);
    assert_eq!(hits(db, COLLECTION, out).await, ["target"], "{text:?}");
    let back = Query::related_to(["target"])
        .direction(TraversalDirection::Incoming)
        .edge_kind(text)
        .limit(100);
    assert_eq!(hits(db, COLLECTION, back).await, [text], "{text:?}");
    // As the words of a search it is nothing but words.
    for query in [
        Query::metadata(text),
        Query::graph(text),
        Query::hybrid(text),
    ] {
        if !text.trim().is_empty() {
            let answer = db.search_documents(COLLECTION, query.limit(100)).await;
            let answer = answer.unwrap_or_else(|error| panic!("{text:?}: {error:?}"));
            assert!(!answer.degraded(), "{text:?}: {answer:#?}");
        }
    }
}

/// One document under the same id in each collection.
async fn collections(db: &DatabaseManager, ledger: &mut Ledger) {
    for name in odd_names() {
        let document = Document::new("a").title(&name).text("harbour");
        store(db, ledger, &name, document).await;
    }
    settled(db).await;
    for name in odd_names() {
        let answer = db
            .search_documents(&*name, Query::hybrid("harbour"))
            .await
            .unwrap();
        assert!(!answer.degraded(), "{name:?}: {answer:#?}");
        let documents = answer.hits.iter().map(|hit| hit.document.as_ref().unwrap());
        let titles: Vec<_> = documents.map(|document| &document.title).collect();
        assert_eq!(titles, [&name]);
    }
}
