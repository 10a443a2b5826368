//! Ids and names as properties: any text is taken and comes back as it was, or is refused with a
//! reason.

use std::collections::BTreeSet;

use dbmanager::prelude::*;
use proptest::{
    prelude::*,
    test_runner::{Config as Cases, TestCaseResult, TestRunner},
};

use crate::common::embedded::World;

/// Texts that meet: few letters, their other cases and forms, and what patterns are made of.
fn alike() -> impl Strategy<Value = String> {
    let parts = [
        "a",
        "A",
        "\u{e4}",
        "a\u{308}",
        "\u{c4}",
        " ",
        "%",
        "_",
        "*",
        "'",
        "\"",
        "\\",
        "/",
        ".",
        ":",
        "|",
        "\u{200b}",
        "\u{feff}",
        "\u{1f980}",
        "\n",
        "\t",
        "\0",
    ];
    prop::collection::vec(prop::sample::select(parts.to_vec()), 0..4).prop_map(|p| p.concat())
}

fn text(limit: usize) -> impl Strategy<Value = String> {
    prop_oneof![
        4 => alike(),
        3 => any::<String>(),
        1 => prop::sample::select(vec!["x", "\u{e4}", "\u{1f980}"])
            .prop_flat_map(move |letter| {
                let most = limit / letter.len();
                (most - 1..most + 2).prop_map(move |count| letter.repeat(count))
            }),
    ]
}

fn is_right(text: &str, limit: usize) -> bool {
    (1..=limit).contains(&text.len()) && !text.contains('\0')
}

/// Stores under these ids in a collection of this name, and reads back what was taken.
async fn stored_and_read(
    db: &DatabaseManager,
    name: &str,
    ids: &BTreeSet<String>,
) -> TestCaseResult {
    let mut taken = Vec::new();
    for id in ids {
        let document = Document::new(id.as_str())
            .text("harbour")
            .metadata("name", id.as_str());
        let stored = db.store_document(name, document).level(Level::All).await;
        if is_right(name, 255) && is_right(id, 512) {
            prop_assert!(stored.is_ok(), "{name:?} {id:?}: {stored:?}");
            taken.push(id.as_str());
        } else {
            let error = stored.unwrap_err();
            prop_assert_eq!(error.kind(), ErrorKind::InvalidInput);
            prop_assert!(
                ["empty", "too long", "NUL"]
                    .iter()
                    .any(|why| error.message().contains(why))
            );
        }
    }
    if taken.is_empty() {
        return Ok(());
    }
    for id in &taken {
        let found = db.get_document(name, *id).await.unwrap().unwrap().document;
        prop_assert_eq!(&found.id, id);
        prop_assert_eq!(&found.metadata["name"], id);
    }
    let page = db.list_documents(name, None, None, 1_000).await.unwrap();
    let listed: Vec<_> = page
        .documents
        .iter()
        .map(|found| &*found.document.id)
        .collect();
    prop_assert_eq!(
        &listed,
        &taken,
        "the collection {:?} holds exactly these",
        name
    );
    let query = Query::hybrid("harbour").limit(100);
    let found = db.search_documents(name, query).await.unwrap();
    let found: BTreeSet<&str> = found.hits.iter().map(|hit| &*hit.id).collect();
    prop_assert_eq!(found, taken.into_iter().collect());
    db.drop_collection(name).await.unwrap();
    Ok(())
}

#[test]
fn any_text_is_an_id_and_a_name_that_come_back_or_is_refused_with_a_reason() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(World::new());
    let ids = prop::collection::btree_set(text(512), 1..8);
    let cases = (text(255), ids);
    let config = Cases {
        failure_persistence: None,
        ..Cases::with_cases(150)
    };
    let run = TestRunner::new(config).run(&cases, |(name, ids)| {
        runtime.block_on(stored_and_read(&world.db, &name, &ids))
    });
    run.unwrap();
    runtime.block_on(world.end_with(0));
}
