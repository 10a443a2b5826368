//! What is stored: strings that look like syntax, titles in every tokenizer, tampering, wiping.

use dbmanager_core::{
    backend::{
        BackendErrorKind, DropCollectionRequest, Mutation, NeighbourhoodRequest, NodeKey,
        StampRequest, TextSearchRequest,
    },
    model::{CollectionKey, Document, Reference, Tokenizer, Version},
};

use super::{
    data::{self, create, edges, head, ids, key, persist, prepare, record, refused, upsert, write},
    server::Server,
};
use crate::environment::report;

/// Strings that Cypher, Lucene, JSON or the layout's own keys could take for syntax.
const INJECTIONS: [&str; 14] = [
    "' OR 1=1 //",
    "\" }) DETACH DELETE n //",
    "`) MATCH (n) DETACH DELETE n",
    "$items",
    "{id: 1}",
    "\\u0027",
    "a/b",
    "1/a",
    "*:*",
    "title:(a OR b)~2^4 && !c",
    "[1 TO 2}",
    "/regex.*/",
    "//",
    "\n\r\t\u{2028}",
];

#[tokio::test]
async fn neo4j_takes_no_value_for_syntax() {
    let Some(server) = Server::from_environment() else {
        return;
    };
    let store = server.open(&server.namespace()).await.unwrap();
    prepare(&*store).await.unwrap();
    for (number, text) in (1..).zip(INJECTIONS) {
        let document = Document::new(text)
            .title(format!("needle{number} {text}"))
            .document_type(text)
            .references([
                Reference::new(text).kind(text).property(text, text),
                Reference::new(text).collection(text).kind(text),
            ]);
        write(&*store, &[upsert(number, document.clone())])
            .await
            .unwrap();
        let found = edges(&*store, text).await.unwrap().unwrap();
        assert_eq!(found.references, document.references, "{text:?}");
        let search = TextSearchRequest::new(key(), format!("needle{number} {text}"), 1);
        let hits = store.match_titles(search).await.unwrap();
        assert_eq!(&*hits[0].id, text);
        let other = CollectionKey::new(text, 1);
        create(&*store, other.clone(), Tokenizer::Unicode)
            .await
            .unwrap();
        assert!(store.collections().await.unwrap().contains(&other));
        let request = NeighbourhoodRequest::new([NodeKey::new(key(), text)], [key(), other])
            .edge_kinds([text.to_owned()]);
        assert!(store.neighbourhood(request).await.unwrap().is_empty());
    }
    let all = store.heads(ids(INJECTIONS)).await.unwrap();
    assert!(all.iter().all(Option::is_some), "{all:?}");
    server.clean().await;
}

#[tokio::test]
async fn neo4j_matches_titles_in_every_tokenizer() {
    let Some(server) = Server::from_environment() else {
        return;
    };
    let store = server.open(&server.namespace()).await.unwrap();
    store
        .write_stamp(StampRequest::new(data::stamp(1)))
        .await
        .unwrap();
    let titles = ["Recovering databases", "Élan vital", "東京都庁", "of the"];
    for (tokenizer, finds) in [
        (
            Tokenizer::English,
            &[
                ("recovery", None),
                ("recovered", Some("0")),
                ("ELAN", Some("1")),
                ("the", Some("3")),
            ][..],
        ),
        (
            Tokenizer::Unicode,
            &[
                ("recovered", None),
                ("RECOVERING", Some("0")),
                ("élan", Some("1")),
            ],
        ),
        (
            Tokenizer::Trigram,
            &[("cover", Some("0")), ("京都庁", Some("2")), ("京都", None)],
        ),
    ] {
        // The same name and generation again, with another tokenizer.
        create(&*store, key(), tokenizer).await.unwrap();
        let documents: Vec<_> = titles
            .iter()
            .enumerate()
            .map(|(id, title)| upsert(1, Document::new(id.to_string()).title(*title)))
            .collect();
        write(&*store, &documents).await.unwrap();
        for (word, expected) in finds {
            let hits = store
                .match_titles(TextSearchRequest::new(key(), *word, 1))
                .await
                .unwrap();
            let found = hits.first().map(|hit| hit.id.to_string());
            assert_eq!(found.as_deref(), *expected, "{word} in {tokenizer:?}");
        }
        let drop = DropCollectionRequest::new(key(), 1);
        store.drop_collection(drop).await.unwrap();
    }
    server.clean().await;
}

/// A title as long as a text is cut, indexed and found like any other.
#[tokio::test]
async fn neo4j_holds_a_title_of_200_kilobytes() {
    let Some(server) = Server::from_environment() else {
        return;
    };
    let title: String = (0..20_000)
        .map(|number| format!("word{number:05} "))
        .collect();
    for tokenizer in [Tokenizer::Unicode, Tokenizer::Trigram] {
        let store = server.open(&server.namespace()).await.unwrap();
        store
            .write_stamp(StampRequest::new(data::stamp(1)))
            .await
            .unwrap();
        create(&*store, key(), tokenizer).await.unwrap();
        let long = Document::new("long").title(title.as_str());
        write(
            &*store,
            &[upsert(1, Document::new("other")), upsert(1, long.clone())],
        )
        .await
        .unwrap();
        let search = TextSearchRequest::new(key(), "word19999", 2);
        let hits = store.match_titles(search).await.unwrap();
        let found: Vec<&str> = hits.iter().map(|hit| &*hit.id).collect();
        assert_eq!(found, ["long"], "{tokenizer:?}");
        // The hash of a document whose title's words are held as the index wants them.
        let held = store
            .fingerprints_of(ids(["long"]))
            .await
            .unwrap()
            .remove(0);
        let expected = record(long).content_hash("papers", dbmanager_core::model::Role::Graph);
        assert_eq!(held.unwrap().content_hash, expected, "{tokenizer:?}");
    }
    server.clean().await;
}

async fn count(server: &Server, namespace: &str, label: &str) -> i64 {
    let statement = format!("MATCH (n:{namespace}_{label}) RETURN count(n) AS count");
    let mut answer = server.client().execute_read(statement).await.unwrap();
    answer.next().await.unwrap().unwrap().get("count").unwrap()
}

/// Targets go with the last reference to them, unless a document has their name.
#[tokio::test]
async fn neo4j_keeps_no_target_that_nothing_refers_to() {
    let Some(server) = Server::from_environment() else {
        return;
    };
    let namespace = server.namespace();
    let store = server.open(&namespace).await.unwrap();
    prepare(&*store).await.unwrap();
    let document = |id: &str, targets: &[&str]| Document::new(id).references(targets.to_vec());
    write(
        &*store,
        &[
            upsert(1, document("a", &["b", "shared", "former 1", "handed on"])),
            upsert(1, document("b", &["shared", "former 2"])),
        ],
    )
    .await
    .unwrap();
    assert_eq!(count(&server, &namespace, "Target").await, 6);
    // Of one batch, the first lets go of what the second takes up.
    write(
        &*store,
        &[
            upsert(2, document("a", &["shared"])),
            upsert(2, document("b", &["handed on", "a"])),
        ],
    )
    .await
    .unwrap();
    assert_eq!(count(&server, &namespace, "Target").await, 4);
    let targets = |found: Option<dbmanager_core::backend::Edges>| -> Vec<String> {
        let references = found.unwrap().references;
        references
            .iter()
            .map(|held| held.target.to_string())
            .collect()
    };
    assert_eq!(targets(edges(&*store, "a").await.unwrap()), ["shared"]);
    assert_eq!(
        targets(edges(&*store, "b").await.unwrap()),
        ["handed on", "a"]
    );
    let gone = ["a", "b"].map(|id| Mutation::delete(id, Version::from_u64(3)));
    write(&*store, &gone).await.unwrap();
    assert_eq!(count(&server, &namespace, "Target").await, 2);
    server.clean().await;
}

/// Documents take up and let go of the same targets all at once: no reference is lost, no call
/// fails for good, and whoever reads meanwhile sees whole documents.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neo4j_loses_no_reference_to_a_target_that_others_let_go_of() {
    const WRITERS: usize = 6;
    const ROUNDS: u64 = 150;
    let Some(server) = Server::from_environment() else {
        return;
    };
    let namespace = server.namespace();
    let store = server.open(&namespace).await.unwrap();
    prepare(&*store).await.unwrap();
    let wanted = |writer: usize, round: u64| -> Vec<String> {
        let taken = (0..4_u64).filter(|target| (round + writer as u64 + target).is_multiple_of(3));
        taken.map(|target| format!("target {target}")).collect()
    };
    // The server locks a node with many edges in another way than one with few.
    let crowd = |round: u64, targets: usize| -> Vec<Mutation> {
        let targets = || (0..targets).map(|target| format!("target {target}"));
        (0..60)
            .map(|id| {
                upsert(
                    round,
                    Document::new(format!("crowd {id}")).references(targets()),
                )
            })
            .collect()
    };
    persist(&*store, &crowd(1, 4)).await.unwrap();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = std::sync::Arc::clone(&store);
            tokio::spawn(async move {
                let id = format!("id {writer}");
                for round in 1..=ROUNDS {
                    let document = Document::new(&*id).references(wanted(writer, round));
                    persist(&*store, &[upsert(round, document)]).await.unwrap();
                    let held = edges(&*store, &id).await.unwrap().unwrap();
                    assert_eq!(held.version.as_u64(), round);
                    let held: Vec<_> = held.references.iter().map(|r| &*r.target).collect();
                    assert_eq!(held, wanted(writer, round), "{id} in round {round}");
                }
            })
        })
        .collect();
    persist(&*store, &crowd(2, 0)).await.unwrap();
    let all: Vec<String> = (0..WRITERS).map(|writer| format!("id {writer}")).collect();
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        let request = ids(all.iter().map(String::as_str));
        store.edges(request).await.unwrap();
    }
    for writer in writers {
        writer.await.unwrap();
    }
    for id in &all {
        let document = Document::new(&**id);
        persist(&*store, &[upsert(ROUNDS + 1, document)])
            .await
            .unwrap();
    }
    let documents = count(&server, &namespace, "Document").await;
    assert_eq!(count(&server, &namespace, "Target").await, documents);
    server.clean().await;
}

#[tokio::test]
async fn neo4j_shows_what_was_changed_behind_its_back() {
    let Some(server) = Server::from_environment() else {
        return;
    };
    let namespace = server.namespace();
    let store = server.open(&namespace).await.unwrap();
    prepare(&*store).await.unwrap();
    let document = |id: &str| {
        Document::new(id)
            .title("alpha beta")
            .document_type("paper")
            .references([
                Reference::new("b").property("weight", 0.5),
                Reference::new("c"),
            ])
    };
    let expected = record(document("a")).content_hash("papers", dbmanager_core::model::Role::Graph);
    for (number, change) in (1..).zip([
        "SET d.title = 'gamma'",
        "SET d.title_terms = 'gamma'",
        "REMOVE d.title_terms",
        "REMOVE d.title",
        "SET d.document_type = 'book'",
        "SET d.id = 'other'",
        "SET d.collection = 9",
        "SET d.deleted = true",
        "WITH d MATCH (d)-[r:REFERS {ordinal: 0}]->() DELETE r",
        "WITH d MATCH (d)-[r:REFERS {ordinal: 0}]->() SET r.properties = 'null'",
        "WITH d MATCH (d)-[r:REFERS {ordinal: 0}]->() SET r.kind = 'other'",
        "WITH d MATCH (d)-[r:REFERS {ordinal: 1}]->(t) SET t.id = 'other'",
        "WITH d MATCH (d)-[r:AT]->() DELETE r",
    ]) {
        write(&*store, &[upsert(2 * number, document("a"))])
            .await
            .unwrap();
        let found = store.fingerprints_of(ids(["a"])).await.unwrap().remove(0);
        assert_eq!(found.unwrap().content_hash, expected, "before {change}");
        server
            .run(&format!(
                "MATCH (d:{namespace}_Document {{key: '1/a'}}) {change}"
            ))
            .await;
        let found = store.fingerprints_of(ids(["a"])).await.unwrap().remove(0);
        let found = found.unwrap();
        let hash = found.content_hash;
        assert!(hash != expected, "{change} does not show");
        // The next version repairs everything that belongs to the document.
        server
            .run(&format!(
                "MATCH (t:{namespace}_Target) WHERE t.id = 'other' SET t.id = 'c'"
            ))
            .await;
        server
            .run(&format!(
                "MATCH (d:{namespace}_Document) SET d.id = 'a', d.collection = 1"
            ))
            .await;
    }
    server.clean().await;
}

#[tokio::test]
async fn neo4j_is_found_empty_when_it_was_wiped_and_can_be_filled_again() {
    let Some(server) = Server::from_environment() else {
        return;
    };
    let namespace = server.namespace();
    let store = server.open(&namespace).await.unwrap();
    prepare(&*store).await.unwrap();
    write(&*store, &[upsert(5, Document::new("a").references(["b"]))])
        .await
        .unwrap();
    let older = store.identity().await.unwrap();
    assert_eq!(older.stamp, Some(data::stamp(1)));
    for label in ["Document", "Target", "Collection", "Lane", "Store"] {
        server
            .run(&format!("MATCH (n:{namespace}_{label}) DETACH DELETE n"))
            .await;
    }
    let wiped = store.identity().await.unwrap();
    assert_eq!(
        (wiped.stamp, wiped.highest_version, wiped.empty),
        (None, None, true)
    );
    let error = refused(write(&*store, &[upsert(6, Document::new("a"))]).await);
    assert_eq!(error.kind(), BackendErrorKind::CollectionMissing, "{error}");
    prepare(&*store).await.unwrap();
    write(&*store, &[upsert(5, Document::new("a"))])
        .await
        .unwrap();
    assert_eq!(
        head(&*store, "a").await.unwrap().unwrap().version.as_u64(),
        5
    );
    // Opening it again finds the layout complete.
    let again = server.open(&namespace).await.unwrap();
    assert_eq!(again.identity().await.unwrap().stamp, Some(data::stamp(1)));
    server.clean().await;
}

/// Nothing of a dropped collection stays behind but what other collections refer to.
#[tokio::test]
async fn neo4j_drops_a_collection_without_leaving_anything() {
    let Some(server) = Server::from_environment() else {
        return;
    };
    let namespace = server.namespace();
    let store = server.open(&namespace).await.unwrap();
    prepare(&*store).await.unwrap();
    let other = CollectionKey::new("people", 2);
    create(&*store, other.clone(), Tokenizer::Unicode)
        .await
        .unwrap();
    let documents: Vec<_> = (0..500)
        .map(|number| {
            let references = (0..30).map(|i| format!("target {number} {i}"));
            upsert(1, Document::new(format!("{number}")).references(references))
        })
        .collect();
    for part in documents.chunks(100) {
        write(&*store, part).await.unwrap();
    }
    let request = dbmanager_core::backend::ApplyRequest::new(
        other.clone(),
        1,
        [upsert(
            1,
            Document::new("x").references([Reference::new("7").collection("papers")]),
        )],
    );
    store.apply(request).await.unwrap();
    store
        .drop_collection(DropCollectionRequest::new(key(), 1))
        .await
        .unwrap();
    for (label, expected) in [("Document", 1), ("Target", 2), ("Collection", 1)] {
        assert_eq!(count(&server, &namespace, label).await, expected, "{label}");
    }
    server.clean().await;
}

/// Two references deep in a graph of tens of thousands; how long it takes is reported.
#[tokio::test]
async fn neo4j_walks_two_references_deep_in_a_large_graph() {
    const DOCUMENTS: usize = 10_000;
    const EDGES: usize = 4;
    let Some(server) = Server::from_environment() else {
        return;
    };
    let store = server.open(&server.namespace()).await.unwrap();
    prepare(&*store).await.unwrap();
    // Multiplication by an odd number scatters the targets, and is easily followed by hand.
    let targets = |from: usize| (1..=EDGES).map(move |i| (from * 7_919 + i * 104_729) % DOCUMENTS);
    let start = std::time::Instant::now();
    for part in (0..DOCUMENTS).collect::<Vec<_>>().chunks(1_000) {
        let documents: Vec<_> = part
            .iter()
            .map(|number| {
                let references = targets(*number).map(|target| target.to_string());
                upsert(1, Document::new(number.to_string()).references(references))
            })
            .collect();
        write(&*store, &documents).await.unwrap();
    }
    let writing = start.elapsed();
    let mut times = Vec::new();
    for seed in (0..DOCUMENTS).step_by(DOCUMENTS / 50) {
        let request = NeighbourhoodRequest::new([NodeKey::new(key(), seed.to_string())], [key()])
            .direction(dbmanager_core::model::TraversalDirection::Outgoing)
            .depth(2)
            .limit(1_000);
        let start = std::time::Instant::now();
        let found = store.neighbourhood(request).await.unwrap();
        times.push(start.elapsed());
        let mut expected: std::collections::BTreeSet<usize> = targets(seed)
            .flat_map(targets)
            .chain(targets(seed))
            .collect();
        expected.remove(&seed);
        let ids: std::collections::BTreeSet<usize> =
            found.iter().map(|n| n.node.id.parse().unwrap()).collect();
        assert_eq!(ids, expected, "around {seed}");
    }
    times.sort();
    report(&format!(
        "neo4j: {DOCUMENTS} documents with {} references written in {writing:?}; two references \
         deep: median {:?}, longest {:?}",
        DOCUMENTS * EDGES,
        times[times.len() / 2],
        times[times.len() - 1]
    ));
    server.clean().await;
}
