//! Ids, names and keys that are wrong, and those that only look wrong.

use dbmanager::prelude::*;
use dbmanager_core::model::Field;

use crate::common::embedded::{World, assert_sound, close, get, hits, rejected, store};

/// Texts that a path, a pattern, a query language or a log might take for something else.
const ODD: [&str; 17] = [
    "it's \"quoted\" `twice`",
    "../../../etc/passwd",
    "..",
    "a}b{c",
    "a|b||c",
    "100%_done%",
    "back\\slash\\n",
    "new\nline\r\ttab",
    "🦀 👩\u{200d}👩\u{200d}👧 🇩🇪",
    "'; DROP TABLE document; --",
    "*",
    "NULL",
    "a:b/c?d=e&f#g",
    "\u{202e}right to left",
    "\u{feff}byte order mark",
    "$.path[0].key",
    " ",
];

#[tokio::test]
async fn an_empty_id_is_rejected() {
    let world = World::new().await;
    let error = rejected(world.db.store_document("c", Document::new("").text("x"))).await;
    assert_eq!(error.message(), "the id is empty");
    rejected(world.db.delete_document("c", "")).await;
    assert_eq!(get(&world.db, "c", "").await, None);
    world.end_with(0).await;
}

#[tokio::test]
async fn an_id_of_512_bytes_is_stored_and_one_of_513_is_rejected() {
    let world = World::new().await;
    for id in ["x".repeat(512), "é".repeat(256)] {
        store(&world.db, "c", Document::new(&id).text("long")).await;
        assert!(get(&world.db, "c", &id).await.is_some());
    }
    for id in ["x".repeat(513), "é".repeat(257)] {
        let error = rejected(world.db.store_document("c", Document::new(&id))).await;
        assert!(error.context().any(|value| value == ("limit", "512")));
        rejected(world.db.delete_document("c", &id)).await;
        assert_eq!(get(&world.db, "c", &id).await, None);
    }
    world.end_with(2).await;
}

#[tokio::test]
async fn a_collection_name_of_255_bytes_is_stored_and_one_of_256_or_none_is_rejected() {
    let world = World::new().await;
    let name = "n".repeat(255);
    store(&world.db, &name, Document::new("a")).await;
    assert!(get(&world.db, &name, "a").await.is_some());
    for name in ["n".repeat(256), String::new()] {
        rejected(world.db.store_document(&name, Document::new("a"))).await;
        let error = world
            .db
            .create_collection(&name, Default::default())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(world.db.collections().len(), 2);
    world.end_with(1).await;
}

async fn stay_distinct(ids: &[&str]) {
    let world = World::new().await;
    for id in ids {
        let document = Document::new(*id).title("harbour").text("harbour");
        store(&world.db, "d", document.metadata("name", *id)).await;
    }
    let references = ids.iter().copied();
    let index = Document::new("index").references(references);
    store(&world.db, "e", index).await;
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    let count = world.db.count("d", None).await.unwrap().documents;
    assert_eq!(count, ids.len() as u64);
    for id in ids {
        let found = get(&world.db, "d", id).await.unwrap();
        assert_eq!(found.id, *id);
        assert_eq!(found.metadata["name"], *id);
    }
    let page = world
        .db
        .list_documents("d", None, None, 100)
        .await
        .unwrap()
        .documents;
    let listed: Vec<_> = page.iter().map(|found| &*found.document.id).collect();
    assert_eq!(listed, sorted, "by the bytes of the ids");
    for query in [Query::metadata("harbour"), Query::semantic("harbour")] {
        assert_eq!(hits(&world.db, "d", query.limit(100)).await, sorted);
    }
    for id in ids {
        let filter = fact(Field::Id).eq(*id);
        let query = Query::metadata("harbour").filter(filter);
        assert_eq!(hits(&world.db, "d", query).await, [*id]);
    }
    // Deleting one deletes no other.
    world
        .db
        .delete_document("d", ids[0])
        .level(Level::All)
        .await
        .unwrap();
    for id in &ids[1..] {
        assert!(get(&world.db, "d", id).await.is_some(), "{id:?}");
    }
    world.end_with(ids.len() as u64).await;
}

#[tokio::test]
async fn ids_that_differ_by_case_are_distinct() {
    stay_distinct(&["note", "Note", "NOTE", "straße", "STRASSE", "ı", "i", "İ"]).await;
}

#[tokio::test]
async fn ids_that_differ_by_unicode_form_are_distinct() {
    let forms = ["caf\u{e9}", "cafe\u{301}", "\u{fb01}sh", "fish"];
    stay_distinct(&forms).await;
}

#[tokio::test]
async fn ids_that_differ_by_space_are_distinct() {
    let spaces = ["id", "id ", " id", "id  ", "id\u{a0}", "id\t", "id\n"];
    stay_distinct(&spaces).await;
}

#[tokio::test]
async fn references_reach_the_exact_id_and_none_that_looks_like_it() {
    let world = World::new().await;
    for id in ["note", "Note", "note ", "no\u{301}te", "n\u{f3}te"] {
        store(&world.db, "c", Document::new(id)).await;
        let index = Document::new(format!("index {id}")).references([id]);
        store(&world.db, "c", index).await;
    }
    for id in ["note", "Note", "note ", "no\u{301}te", "n\u{f3}te"] {
        let query = Query::related_to([format!("index {id}")]);
        assert_eq!(hits(&world.db, "c", query).await, [id]);
    }
    world.end_with(10).await;
}

#[tokio::test]
async fn nul_is_rejected_wherever_it_stands() {
    let world = World::new().await;
    let a = || Document::new("a");
    let nested = serde_json::json!({"list": [{"deep": "x\0"}]});
    let nested_key = serde_json::json!({"list": [{"de\0ep": 1}]});
    let documents = [
        ("id", Document::new("a\0")),
        ("title", a().title("\0")),
        ("text", a().text("some\0words")),
        ("document type", a().document_type("type\0")),
        ("file path", a().file_path("/a\0b")),
        ("metadata", a().metadata("k\0", 1)),
        ("metadata", a().metadata("k", "v\0")),
        ("metadata", a().metadata("k", nested)),
        ("metadata", a().metadata("k", nested_key)),
        ("target", a().references(["b\0"])),
        ("kind", a().references([Reference::new("b").kind("k\0")])),
        (
            "collection",
            a().references([Reference::new("b").collection("c\0")]),
        ),
        (
            "properties",
            a().references([Reference::new("b").property("k\0", 1)]),
        ),
        (
            "properties",
            a().references([Reference::new("b").property("k", "\0")]),
        ),
    ];
    for (place, document) in documents {
        let error = rejected(world.db.store_document("c", document)).await;
        assert!(error.message().contains(place), "{place}: {error}");
        assert!(error.message().contains("contains NUL"), "{error}");
    }
    rejected(world.db.store_document("c\0", a())).await;
    rejected(world.db.delete_document("c", "a\0")).await;
    let created = world.db.create_collection("c\0", Default::default()).await;
    assert_eq!(created.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(get(&world.db, "c", "a").await, None);
    assert_eq!(world.db.collections().len(), 1);
    world.end_with(0).await;
}

#[tokio::test]
async fn nul_in_a_query_is_invalid_and_finds_nothing_by_accident() {
    let world = World::new().await;
    for query in [
        Query::hybrid("light\0house"),
        Query::related_to(["a\0"]),
        Query::metadata("lighthouse").filter(field("k\0").eq(1)),
        Query::metadata("lighthouse").filter(field("k").eq("\0")),
    ] {
        let error = world.db.search_documents("c", query).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    assert_eq!(get(&world.db, "c", "earlier\0").await, None);
    world.end_with(0).await;
}

#[tokio::test]
async fn odd_ids_are_stored_found_listed_and_deleted_as_they_are() {
    let world = World::new().await;
    for id in ODD {
        let document = Document::new(id).title("harbour").text(id);
        store(&world.db, "odd", document.references(ODD)).await;
    }
    let mut sorted = ODD.to_vec();
    sorted.sort_unstable();
    for id in ODD {
        let found = get(&world.db, "odd", id).await.unwrap();
        assert_eq!((&*found.id, &*found.text), (id, id));
        let filter = fact(Field::Id).eq(id);
        assert_eq!(
            world.db.count("odd", Some(filter)).await.unwrap().documents,
            1
        );
        let others: Vec<_> = sorted
            .iter()
            .copied()
            .filter(|other| *other != id)
            .collect();
        let query = Query::related_to([id]).limit(100);
        assert_eq!(hits(&world.db, "odd", query).await, others, "{id:?}");
    }
    let query = Query::hybrid("harbour").limit(100);
    assert_eq!(hits(&world.db, "odd", query).await, sorted);
    let mut listed = Vec::new();
    let mut after = None;
    loop {
        let page = world
            .db
            .list_documents("odd", None, after, 2)
            .await
            .unwrap();
        listed.extend(page.documents.into_iter().map(|found| found.document.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(listed, sorted, "also page by page");
    world
        .db
        .delete_document("odd", ODD[0])
        .level(Level::All)
        .await
        .unwrap();
    assert_eq!(get(&world.db, "odd", ODD[0]).await, None);
    world.end_with(ODD.len() as u64 - 1).await;
}

#[tokio::test]
async fn odd_collection_names_are_kept_apart_and_as_they_are() {
    let world = World::new().await;
    for name in ODD {
        store(&world.db, name, Document::new("a").text(name)).await;
    }
    for name in ODD {
        assert_eq!(get(&world.db, name, "a").await.unwrap().text, name);
        let count = world.db.count(name, None).await.unwrap().documents;
        assert_eq!(count, 1);
    }
    let gone = ODD[3];
    world
        .db
        .drop_collection(gone)
        .level(Level::All)
        .await
        .unwrap();
    close(world.db).await;
    let db = world.home.open().await;
    let mut wanted: Vec<_> = ODD.iter().copied().filter(|name| *name != gone).collect();
    wanted.push("c");
    wanted.sort_unstable();
    let collections = db.collections();
    let mut names: Vec<_> = collections.iter().map(|c| &*c.key.name).collect();
    names.sort_unstable();
    assert_eq!(names, wanted);
    assert!(get(&db, ODD[1], "a").await.is_some());
    assert_sound(&db, ODD.len() as u64).await;
    // A name is no path.
    let root = world.home.path().parent().unwrap();
    assert!(!root.join("etc").exists());
    World { db, ..world }.end_with(ODD.len() as u64 - 1).await;
}

#[tokio::test]
async fn odd_metadata_keys_and_values_are_stored_and_filtered_as_they_are() {
    let world = World::new().await;
    for (number, key) in ODD.iter().enumerate() {
        let document = Document::new(format!("n{number}"))
            .text("harbour")
            .metadata(*key, *key)
            .metadata("outer", serde_json::json!({*key: number}));
        store(&world.db, "m", document).await;
    }
    for (number, key) in ODD.iter().enumerate() {
        let id = format!("n{number}");
        let found = get(&world.db, "m", &id).await.unwrap();
        assert_eq!(found.metadata[*key], *key);
        for filter in [
            field(*key).eq(*key),
            field(*key).exists(),
            field_path(["outer", key]).eq(number as i64),
        ] {
            for query in [Query::metadata("harbour"), Query::semantic("harbour")] {
                let query = query.filter(filter.clone());
                assert_eq!(hits(&world.db, "m", query).await, [&*id], "{key:?}");
            }
            let page = world
                .db
                .list_documents("m", Some(filter), None, 10)
                .await
                .unwrap();
            assert_eq!(page.documents.len(), 1, "{key:?}");
        }
    }
    world.end_with(ODD.len() as u64).await;
}
