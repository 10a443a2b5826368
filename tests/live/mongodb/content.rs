//! Content: large, poisoned, changed behind our back, and made of syntax.

use std::{collections::BTreeMap, sync::Arc};

use dbmanager_core::{
    backend::{
        BackendErrorKind, Effect, ListDocumentsRequest, ListRequest, Mutation, RelationalBackend,
        TextSearchRequest,
    },
    model::{ChunkVector, Document, DocumentRecord, Role, VectorOrigin, VectorSet, Version, field},
};
use mongodb::bson::doc;

use super::server::{
    Database, Server, apply, ids, papers, prepare, put, record_of, version_of, write,
};

/// The physical collection of the documents, or of the parts, of [`papers`].
async fn physical(database: &Database, what: &str) -> String {
    let catalogue = database.collection("s_catalogue").await;
    let entry = catalogue.find_one(doc! { "name": "papers" }).await.unwrap();
    entry.unwrap().get_str(what).unwrap().to_owned()
}

fn large(id: &str, seed: u32) -> Arc<DocumentRecord> {
    let text = format!("word{seed} ").repeat(1_600_000);
    let vectors = (0..150)
        .map(|chunk| ChunkVector {
            chunk,
            passage: None,
            values: (0..16_384).map(|n| (n * (chunk + seed)) as f32).collect(),
        })
        .collect();
    let set = VectorSet {
        origin: VectorOrigin::Embedder,
        text_hash: None,
        vectors,
    };
    let document = Document::new(id).text(&text[..9 * 1024 * 1024]);
    Arc::new(DocumentRecord::new(document, set).unwrap())
}

async fn fingerprint_is_right(store: &dyn RelationalBackend, record: &DocumentRecord) -> bool {
    let id = record.document().id.as_str();
    let found = store.fingerprints_of(ids([id])).await.unwrap();
    let expected = record.content_hash("papers", Role::Relational);
    found[0].as_ref().unwrap().content_hash == expected
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_above_the_server_s_limit_are_held_whole_and_leave_nothing_behind() {
    for server in Server::all() {
        let database = server.database();
        let config = database.config("s_");
        let context = super::server::context(60_000);
        let store = super::server::open(&config, &context).await.unwrap();
        prepare(&*store).await;
        let records: Vec<_> = (0..6).map(|seed| large("a", seed)).collect();
        let at = |version: u64, seed: usize| {
            let record = Arc::clone(&records[seed]);
            Mutation::upsert("a", Version::from_u64(version), record)
        };
        write(&*store, [at(2, 2), put(2, Document::new("b"))]).await;
        assert_eq!(*record_of(&*store, "a").await, *records[2]);
        assert!(fingerprint_is_right(&*store, &records[2]).await);
        let found = store
            .search_text(TextSearchRequest::new(papers().key, "word2", 10))
            .await
            .unwrap();
        assert_eq!(found.len(), 1);
        // An older one changes nothing, a newer one takes the place of all of it.
        write(&*store, [at(1, 1)]).await;
        assert_eq!(*record_of(&*store, "a").await, *records[2]);
        write(&*store, [at(3, 3)]).await;
        assert_eq!(*record_of(&*store, "a").await, *records[3]);
        let parts = database
            .collection(&physical(&database, "parts").await)
            .await;
        let versions = parts.distinct("version", doc! {}).await.unwrap();
        assert_eq!(versions, [3_i64.into()]);
        // A part of a write that ended before its record was written.
        let late = doc! { "_id": "late-0", "id": "a", "version": 3_i64, "bytes": "x" };
        parts.insert_one(late).await.unwrap();
        write(&*store, [put(4, Document::new("a").text("small"))]).await;
        assert_eq!(parts.count_documents(doc! {}).await.unwrap(), 0);
        // A part that is lost shows.
        write(&*store, [at(5, 5)]).await;
        parts.delete_one(doc! { "id": "a" }).await.unwrap();
        assert!(!fingerprint_is_right(&*store, &records[5]).await);
        let error = store.get(ids(["a"])).await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Damaged);
        database.behind_its_back().await.drop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poison_item_is_refused_alone() {
    for server in Server::all() {
        let database = server.database();
        let store = database.open("s_").await.unwrap();
        prepare(&*store).await;
        let documents = physical(&database, "documents").await;
        let rule = doc! {
            "collMod": documents,
            "validator": { "_id": { "$ne": "57" } },
            "validationLevel": "strict",
            "validationAction": "error",
        };
        database
            .behind_its_back()
            .await
            .run_command(rule)
            .await
            .unwrap();
        let batch: Vec<_> = (0..100)
            .map(|n| put(n + 1, Document::new(n.to_string())))
            .collect();
        let answers = apply(&*store, batch).await.unwrap();
        for (n, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok(()) => assert_ne!(n, 57),
                Err(error) => {
                    assert_eq!(n, 57, "{error}");
                    assert_eq!(error.kind(), BackendErrorKind::Refused, "{error}");
                    assert_eq!(error.effect(), Effect::NotApplied);
                }
            }
        }
        assert_eq!(store.count(papers().key, None).await.unwrap(), 99);
        database.behind_its_back().await.drop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_checks_what_is_written_by_others() {
    for server in Server::all() {
        let database = server.database();
        let store = database.open("s_").await.unwrap();
        prepare(&*store).await;
        let documents = physical(&database, "documents").await;
        let documents = database.collection(&documents).await;
        for wrong in [
            doc! { "_id": "a" },
            doc! { "_id": "a", "version": "1", "deleted": false },
            doc! { "_id": 1_i32, "version": 1_i64, "deleted": false },
        ] {
            assert!(documents.insert_one(wrong).await.is_err());
        }
        database.behind_its_back().await.drop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_copy_that_was_changed_behind_our_back_changes_the_fingerprint() {
    for server in Server::all() {
        let database = server.database();
        let store = database.open("s_").await.unwrap();
        prepare(&*store).await;
        let documents = physical(&database, "documents").await;
        let documents = database.collection(&documents).await;
        let changes = [
            doc! { "$set": { "fields.0.t": "changed" } },
            doc! { "$set": { "words": ["changed"] } },
            doc! { "$set": { "counts.0": 9_i32 } },
            doc! { "$set": { "length": 9_i32 } },
            doc! { "$set": { "partial": true } },
            doc! { "$unset": { "fields": "" } },
            doc! { "$set": { "canonical": "x" } },
            doc! { "$set": { "stranger": 1_i32 } },
            doc! { "$set": { "deleted": true } },
        ];
        for (number, change) in (1..).zip(changes) {
            let mutation = put(number, Document::new("a").title("title").metadata("n", 1));
            let record = Arc::clone(mutation.state.record().unwrap());
            write(&*store, [mutation]).await;
            assert!(fingerprint_is_right(&*store, &record).await);
            // Some of these the server's own rule refuses: then nothing is changed.
            if documents
                .update_one(doc! { "_id": "a" }, change.clone())
                .await
                .is_ok()
            {
                let page = store.fingerprints(ListRequest::new(papers().key, 10)).await;
                let found = page.unwrap().items.remove(0);
                let expected = record.content_hash("papers", Role::Relational);
                assert_ne!(found.content_hash, expected, "{change}");
            }
        }
        database.behind_its_back().await.drop().await.unwrap();
    }
}

/// Filters on documents whose entries take more room than a record has are evaluated here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_are_exact_on_metadata_too_large_to_index() {
    for server in Server::all() {
        let database = server.database();
        let store = database.open("s_").await.unwrap();
        prepare(&*store).await;
        // Each value's path repeats the long key.
        let many: serde_json::Map<_, _> = (0..500_u32).map(|n| (n.to_string(), n.into())).collect();
        let huge = |id: &str, year: i64| {
            Document::new(id)
                .text("words")
                .metadata("k".repeat(20_000), many.clone())
                .metadata("year", year)
        };
        let small = |id: &str, year: i64| Document::new(id).text("words").metadata("year", year);
        write(
            &*store,
            [
                put(1, huge("a", 1990)),
                put(2, small("b", 1990)),
                put(3, huge("c", 2000)),
                put(4, small("d", 2000)),
                put(5, huge("e", 1990)),
            ],
        )
        .await;
        write(&*store, [Mutation::delete("e", Version::from_u64(6))]).await;
        for (filter, expected) in [
            (field("year").eq(1990), vec!["a", "b"]),
            (field("year").ne(1990), vec!["c", "d"]),
            (!field("absent").exists(), vec!["a", "b", "c", "d"]),
        ] {
            let filter = Some(Arc::new(filter));
            let request = ListDocumentsRequest::new(papers().key, 10).filter(filter.clone());
            let listed = store.list(request).await.unwrap();
            let listed: Vec<_> = listed.iter().map(|record| &*record.id).collect();
            assert_eq!(listed, expected);
            let request = TextSearchRequest::new(papers().key, "words", 10).filter(filter.clone());
            let found = store.search_text(request).await.unwrap();
            let found: Vec<_> = found.iter().map(|hit| &*hit.id).collect();
            assert_eq!(found, expected);
            let count = store.count(papers().key, filter).await.unwrap();
            assert_eq!(count, expected.len() as u64);
        }
        assert!(
            fingerprint_is_right(&*store, put(1, huge("a", 1990)).state.record().unwrap()).await
        );
        database.behind_its_back().await.drop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_looks_like_a_query_is_stored_and_found_as_it_is() {
    for server in Server::all() {
        let database = server.database();
        let store = database.open("s_").await.unwrap();
        prepare(&*store).await;
        let syntax = [
            "$where",
            "$ne",
            "{\"$gt\": \"\"}",
            "a.$[].b",
            "$$ROOT",
            "'; return true; //",
            "__proto__",
        ];
        let records: BTreeMap<&str, Mutation> = (1..)
            .zip(syntax)
            .map(|(version, text)| {
                let document = Document::new(text)
                    .title(text)
                    .text(format!("common {text}"))
                    .document_type(text)
                    .metadata(text, text);
                (text, put(version, document))
            })
            .collect();
        write(&*store, records.values().cloned().collect::<Vec<_>>()).await;
        for (text, mutation) in &records {
            assert_eq!(
                version_of(&*store, text).await,
                Some(mutation.version.as_u64())
            );
            let expected = mutation.state.record().unwrap();
            assert_eq!(record_of(&*store, text).await, *expected);
            let filter = Some(Arc::new(field(*text).eq(*text)));
            let request = ListDocumentsRequest::new(papers().key, 10).filter(filter);
            let listed = store.list(request).await.unwrap();
            assert_eq!(listed.len(), 1, "{text}");
            assert_eq!(&*listed[0].id, *text);
        }
        let all = TextSearchRequest::new(papers().key, "common $where", 10);
        let found = store.search_text(all).await.unwrap();
        assert_eq!(found.len(), syntax.len());
        assert_eq!(&*found[0].id, "$where");
        // More distinct words than one pipeline counts.
        let long: String = (0..700).map(|n| format!("w{n} ")).collect();
        let long = TextSearchRequest::new(papers().key, format!("where {long}"), 10);
        let found = store.search_text(long).await.unwrap();
        assert_eq!(found.len(), 1);
        database.behind_its_back().await.drop().await.unwrap();
    }
}
