//! The main job: a few hundred documents are stored, found, changed, deleted, and are all there
//! after a new opening.

use dbmanager::{
    model::{Field, TraversalDirection},
    prelude::*,
};
use serde_json::json;

use super::{
    documents::{self, GROUPS, document, group, id, own_word, revised},
    ledger::{Ledger, hits},
    waiting::{PATIENCE, let_go, settled},
    world::{World, close},
};

const DOCUMENTS: usize = 300;
const COLLECTION: &str = "papers";
/// Documents that every kind of search must find.
const KNOWN: [usize; 5] = [0, 7, 123, 200, DOCUMENTS - 1];

pub(super) async fn run(world: World) {
    let db = world.open().await;
    let mut ledger = Ledger::default();
    fill(&db, &mut ledger, COLLECTION, 0..DOCUMENTS).await;
    fill(&db, &mut ledger, "others", DOCUMENTS..DOCUMENTS + 20).await;
    ledger.assert_held_by(&db).await;
    assert_found(&db, &ledger, COLLECTION, &KNOWN).await;

    change(&db, &mut ledger).await;
    ledger.assert_held_by(&db).await;
    assert_found(&db, &ledger, COLLECTION, &[0, 5, 45, 123]).await;
    let gone = Query::metadata(own_word(55));
    assert_eq!(hits(&db, COLLECTION, gone).await, [""; 0]);

    drop_and_create_again(&db, &mut ledger).await;
    ledger.assert_held_by(&db).await;
    let_go(&db).await;

    close(db).await;
    let db = world.open().await;
    settled(&db).await;
    assert_eq!(db.health().journal.entries, 0, "there is no backlog");
    ledger.assert_held_by(&db).await;
    assert_found(&db, &ledger, COLLECTION, &[510]).await;
    assert_found(&db, &ledger, "others", &[DOCUMENTS + 3]).await;
    world.finish(db).await;
}

/// Stores documents in batches, and waits until searches find them.
pub(super) async fn fill(
    db: &DatabaseManager,
    ledger: &mut Ledger,
    collection: &str,
    numbers: std::ops::Range<usize>,
) {
    let all: Vec<_> = numbers.map(document).collect();
    for batch in all.chunks(100) {
        let write = db
            .store_documents(collection, batch.to_vec())
            .level(Level::All);
        let mut last = None;
        for receipt in write.await.unwrap() {
            last = Some(receipt.unwrap());
        }
        let last = last.expect("a batch has documents");
        db.wait_for(&last, WaitFor::Searchable, PATIENCE)
            .await
            .unwrap();
    }
    for document in all {
        ledger.stored(collection, document);
    }
}

/// Overwrites with less, deletes, and stores some of the deleted again.
async fn change(db: &DatabaseManager, ledger: &mut Ledger) {
    let revisions: Vec<_> = (0..30).map(revised).collect();
    let write = db
        .store_documents(COLLECTION, revisions.clone())
        .level(Level::All);
    for (receipt, document) in write.await.unwrap().into_iter().zip(revisions) {
        receipt.unwrap();
        ledger.stored(COLLECTION, document);
    }
    let ids: Vec<_> = (30..60).map(id).collect();
    let write = db
        .delete_documents(COLLECTION, ids.clone())
        .level(Level::All);
    for (receipt, id) in write.await.unwrap().into_iter().zip(ids) {
        receipt.unwrap();
        ledger.deleted(COLLECTION, &id);
    }
    fill(db, ledger, COLLECTION, 40..50).await;
}

/// What was dropped is gone; the collection of the same name is another one.
async fn drop_and_create_again(db: &DatabaseManager, ledger: &mut Ledger) {
    db.drop_collection(COLLECTION)
        .level(Level::All)
        .await
        .unwrap();
    ledger.dropped(COLLECTION);
    assert!(db.get_document(COLLECTION, id(7)).await.unwrap().is_none());
    fill(db, ledger, COLLECTION, 500..520).await;
    settled(db).await;
    assert_eq!(
        hits(db, COLLECTION, Query::metadata(own_word(7))).await,
        [""; 0]
    );
    for query in [
        Query::semantic(document(7).text),
        Query::hybrid(own_word(7)),
    ] {
        let found = hits(db, COLLECTION, query.limit(100)).await;
        assert!(
            found.iter().all(|id| *id >= documents::id(500)),
            "{found:?}"
        );
    }
}

/// Every kind of search finds the known documents, with and without a filter.
pub(super) async fn assert_found(
    db: &DatabaseManager,
    ledger: &Ledger,
    collection: &str,
    known: &[usize],
) {
    for number in known {
        let wanted = id(*number);
        let word = Query::metadata(own_word(*number));
        assert_eq!(hits(db, collection, word).await, [&*wanted]);
        let in_group = field("group").eq(group(*number));
        let text = format!("Somebody asks about {}", own_word(*number));
        for query in [
            Query::semantic(&text),
            Query::semantic(&text).filter(in_group.clone()),
            Query::hybrid(&text),
            Query::hybrid(&text).filter(in_group.clone()),
        ] {
            assert_best(db, ledger, collection, query, &wanted).await;
        }
        assert_neighbours(db, ledger, collection, &wanted).await;
    }
    for filter in filters() {
        let query = Query::metadata("").filter(filter.clone()).limit(1_000);
        let wanted = ledger.ids(collection, &filter);
        assert_eq!(hits(db, collection, query).await, wanted, "{filter:?}");
        let count = db.count(collection, Some(filter.clone())).await.unwrap();
        assert_eq!(count.documents, wanted.len() as u64, "{filter:?}");
    }
}

/// The wanted document comes first, and all that is found is current and fulfils the filter.
async fn assert_best(
    db: &DatabaseManager,
    ledger: &Ledger,
    collection: &str,
    query: Query,
    wanted: &str,
) {
    let answer = db
        .search_documents(collection, query.clone())
        .await
        .unwrap();
    assert!(!answer.degraded(), "{answer:#?}");
    let best = answer.hits.first().map(|hit| &*hit.id);
    assert_eq!(best, Some(wanted), "{query:?}: {answer:#?}");
    for hit in &answer.hits {
        let document = hit
            .document
            .as_ref()
            .expect("a verified hit has its document");
        assert!(
            ledger.documents(collection).any(|known| known == document),
            "{document:?}"
        );
        if let Some(filter) = &query.filter {
            assert!(filter.matches(document), "{query:?}: {document:?}");
        }
    }
}

/// References are followed both ways, by kind, to what is live.
async fn assert_neighbours(db: &DatabaseManager, ledger: &Ledger, collection: &str, source: &str) {
    let live: Vec<_> = ledger.documents(collection).collect();
    for kind in ["cites", "follows"] {
        let refers = |from: &Document, to: &Document| {
            let mut references = from.references.iter();
            from.id != to.id && references.any(|r| r.kind == kind && r.target == to.id)
        };
        let own = live.iter().find(|document| document.id == source).unwrap();
        let ids = |wanted: &dyn Fn(&Document) -> bool| -> Vec<String> {
            let wanted = live.iter().filter(|document| wanted(document));
            wanted.map(|document| document.id.clone()).collect()
        };
        for (direction, wanted) in [
            (
                TraversalDirection::Outgoing,
                ids(&|other| refers(own, other)),
            ),
            (
                TraversalDirection::Incoming,
                ids(&|other| refers(other, own)),
            ),
        ] {
            let query = Query::related_to([source])
                .direction(direction)
                .edge_kind(kind)
                .limit(100);
            let found = hits(db, collection, query).await;
            assert_eq!(found, wanted, "{source} {kind} {direction:?}");
        }
    }
}

/// Conditions of every form.
fn filters() -> Vec<Filter> {
    vec![
        field("group").eq(group(3)),
        field("number").ge(100).and(field("number").lt(110)),
        field("share").gt(12.5).and(field("even").eq(true)),
        field("tags").eq("harbour").or(field("tags").eq(2)),
        field_path(["nested", "depth", "of.it"]).is_in([1, 4]),
        !field("nested").exists(),
        field("revised").ne(true).and(field("number").le(40)),
        fact(Field::DocumentType)
            .eq("note")
            .and(field("group").eq(group(GROUPS - 1))),
        fact(Field::Id).is_in([id(7), id(8), "nowhere".to_owned()]),
        field("number").eq(json!(7).to_string()),
    ]
}
