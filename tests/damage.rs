//! What another hand does to the files of a closed store is found by `check_consistency`, in
//! exactly the document it was done to, and mended by its repair from the authority or the
//! journal. What neither of them knows is reported and stays as it is.
//!
//! Damage to a whole file or to the journal: `bad_input.rs`.
#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

mod common;

#[path = "damage/authority.rs"]
mod authority;

use common::embedded::{Home, assert_sound, check, close, get, hits, store};
use dbmanager::{
    ConsistencyReport, DifferenceKind,
    DifferenceKind::{Content, Deleted, Foreign, Missing, Version as OtherVersion},
    model::{Passage, Role::*, Timestamp},
    prelude::*,
};

/// Documents of a [`filled`] home, besides a deleted one.
const DOCUMENTS: u64 = 5;

fn document(number: u64) -> Document {
    let coordinate = number as f32;
    let cites = Reference::new("d0").kind("cites").property("page", number);
    Document::new(format!("d{number}"))
        .title(format!("title {number}"))
        .text(format!("the harbour of number {number}"))
        .document_type("note")
        .file_path(format!("/notes/{number}"))
        .created_at(Timestamp::from_unix_milliseconds(1_800_000_000_000))
        .metadata("city", "harbour")
        .references([cites, Reference::new("nowhere")])
        .passage_vector(Passage { start: 0, end: 3 }, [1.0, 0.0, coordinate])
        .passage_vector(Passage { start: 4, end: 11 }, [0.0, 1.0, coordinate])
}

async fn fill(db: &DatabaseManager) {
    for number in 0..DOCUMENTS {
        store(db, "c", document(number)).await;
    }
    store(db, "c", Document::new("gone").title("gone").text("gone")).await;
    db.delete_document("c", "gone")
        .level(Level::All)
        .await
        .unwrap();
    assert_sound(db, DOCUMENTS).await;
}

/// A closed home: five documents and a deleted one, all of them let go of by the journal.
async fn filled() -> Home {
    let home = Home::new();
    let db = home.open().await;
    fill(&db).await;
    close(db).await;
    home
}

/// Changes the rows of a closed store by hand.
fn edit(home: &Home, role: Role, sql: &str) {
    let connection = home.connect(role);
    let before = connection.total_changes();
    connection.execute_batch(sql).unwrap();
    assert!(connection.total_changes() > before, "{sql}");
}

type Finding<'a> = (Role, &'a str, DifferenceKind);

fn findings(report: &ConsistencyReport) -> Vec<Finding<'_>> {
    let found = &report.differences;
    assert!(
        found
            .iter()
            .all(|difference| &*difference.collection == "c")
    );
    let mut found: Vec<_> = found.iter().map(|d| (d.role, &*d.id, d.kind)).collect();
    found.sort();
    found
}

async fn assert_documents(db: &DatabaseManager) {
    for number in 0..DOCUMENTS {
        let wanted = document(number);
        assert_eq!(get(db, "c", &wanted.id).await, Some(wanted));
    }
    assert_eq!(get(db, "c", "gone").await, None);
    let all: Vec<_> = (0..DOCUMENTS).map(|number| format!("d{number}")).collect();
    for query in [
        Query::metadata("harbour"),
        Query::semantic_vector([1.0, 1.0, 0.0]),
        Query::graph("title"),
    ] {
        assert_eq!(hits(db, "c", query).await, all);
    }
}

/// Each edit is found as stated, changes nothing by being found, and is mended by the repair.
async fn found_and_mended(role: Role, edits: &[(&str, &[Finding<'_>])]) {
    let home = filled().await;
    for (sql, expected) in edits {
        edit(&home, role, sql);
        let db = home.open().await;
        assert_eq!(db.health().journal.entries, 0, "the journal has let go");
        for _ in 0..2 {
            let report = check(&db).await;
            assert_eq!(findings(&report), *expected, "{sql}");
            assert!(report.differences.iter().all(|d| !d.repaired));
        }
        let report = db.check_consistency().repair().await.unwrap();
        // What is written again for one store is on its way to the next one already.
        let mended = findings(&report);
        assert!(!mended.is_empty() && mended.iter().all(|found| expected.contains(found)));
        assert!(report.differences.iter().all(|d| d.repaired), "{sql}");
        assert_sound(&db, DOCUMENTS).await;
        assert_documents(&db).await;
        close(db).await;
    }
}

#[tokio::test]
async fn a_changed_edge_is_found_and_mended() {
    let damaged: &[Finding<'_>] = &[(Graph, "d2", Content)];
    let of = "WHERE ordinal = 0 AND source = (SELECT key FROM document WHERE id = 'd2')";
    let edits = [
        format!("UPDATE edge SET kind = 'refutes' {of}"),
        format!("UPDATE edge SET target_id = 'd1' {of}"),
        format!("UPDATE edge SET target_collection = 'C' {of}"),
        format!(r#"UPDATE edge SET properties = '{{"page":3}}' {of}"#),
        format!("UPDATE edge SET properties = '{{' {of}"),
        format!("DELETE FROM edge {of}"),
        format!(
            "INSERT INTO edge SELECT source, 9, target_collection, 'd4', kind, own_collection, \
             properties FROM edge {of}"
        ),
    ];
    let edits: Vec<_> = edits.iter().map(|sql| (sql.as_str(), damaged)).collect();
    found_and_mended(Graph, &edits).await;
}

#[tokio::test]
async fn a_changed_node_is_found_and_mended() {
    let damaged: &[Finding<'_>] = &[(Graph, "d2", Content)];
    let key = "(SELECT key FROM document WHERE id = 'd2')";
    let edits = [
        format!("UPDATE node SET title = 'title two' WHERE document = {key}"),
        format!("UPDATE node SET document_type = NULL WHERE document = {key}"),
        format!("UPDATE title_1 SET title = 'title two' WHERE rowid = {key}"),
        format!("DELETE FROM title_1 WHERE rowid = {key}"),
    ];
    let edits: Vec<_> = edits.iter().map(|sql| (sql.as_str(), damaged)).collect();
    found_and_mended(Graph, &edits).await;
}

#[tokio::test]
async fn a_changed_vector_is_found_and_mended() {
    let damaged: &[Finding<'_>] = &[(Vector, "d2", Content)];
    let of = "WHERE chunk = 1 AND document = (SELECT key FROM document WHERE id = 'd2')";
    let edits = [
        // 0, 1 and 2.0000002: the last bit of one number.
        format!("UPDATE vector SET numbers = x'000000000000803f01000040' {of}"),
        format!("UPDATE vector SET numbers = x'000000000000803f' {of}"),
        format!("UPDATE vector SET numbers = x'000000000000803f0000004000' {of}"),
        format!("UPDATE vector SET numbers = x'000000000000803f0000c07f' {of}"),
        format!("UPDATE vector SET passage_end = 12 {of}"),
        format!("UPDATE vector SET chunk = 7 {of}"),
        format!("DELETE FROM vector {of}"),
        format!(
            "INSERT INTO vector (document, chunk, passage_start, passage_end, numbers) \
             SELECT document, 2, passage_start, passage_end, numbers FROM vector {of}"
        ),
    ];
    let edits: Vec<_> = edits.iter().map(|sql| (sql.as_str(), damaged)).collect();
    found_and_mended(Vector, &edits).await;
}

#[tokio::test]
async fn a_changed_word_of_a_copy_in_the_authority_is_found_and_mended() {
    let damaged: &[Finding<'_>] = &[(Relational, "d2", Content)];
    let key = "(SELECT key FROM document WHERE id = 'd2')";
    let edits = [
        format!("UPDATE full_text_1 SET text = 'the harvest of number 2' WHERE rowid = {key}"),
        format!("UPDATE full_text_1 SET title = 'title two' WHERE rowid = {key}"),
        format!("UPDATE full_text_1_content SET c1 = 'the harvest of number 2' WHERE id = {key}"),
        format!("DELETE FROM full_text_1 WHERE rowid = {key}"),
        format!("UPDATE content SET document_type = 'vote' WHERE document = {key}"),
        format!("UPDATE content SET file_path = NULL WHERE document = {key}"),
        format!("UPDATE content SET created_at = '2000-01-01' WHERE document = {key}"),
        format!("UPDATE field SET value = 'harvest' WHERE value = 'harbour' AND document = {key}"),
        format!("DELETE FROM field WHERE value = 'harbour' AND document = {key}"),
    ];
    let edits: Vec<_> = edits.iter().map(|sql| (sql.as_str(), damaged)).collect();
    found_and_mended(Relational, &edits).await;
}

#[tokio::test]
async fn a_version_edited_by_hand_is_found_and_mended() {
    let edits: [(&str, &[Finding<'_>]); 2] = [
        (
            "UPDATE document SET version = version - 1 WHERE id = 'd1'",
            &[(Graph, "d1", OtherVersion)],
        ),
        (
            "UPDATE document SET version = version + 1 WHERE id = 'gone'",
            &[(Graph, "gone", OtherVersion)],
        ),
    ];
    found_and_mended(Graph, &edits).await;
    let edits: [(&str, &[Finding<'_>]); 2] = [
        (
            "UPDATE document SET version = version + 1 WHERE id = 'd1'",
            &[(Vector, "d1", OtherVersion)],
        ),
        (
            "UPDATE document SET version = 1 WHERE id = 'gone'",
            &[(Vector, "gone", OtherVersion)],
        ),
    ];
    found_and_mended(Vector, &edits).await;
    // The authority's word counts: the others have another version than it.
    let both: &[Finding<'_>] = &[(Vector, "d1", OtherVersion), (Graph, "d1", OtherVersion)];
    let edits = [(
        "UPDATE document SET version = version - 1 WHERE id = 'd1'",
        both,
    )];
    found_and_mended(Relational, &edits).await;
}

#[tokio::test]
async fn a_version_above_all_that_was_issued_is_found_and_only_a_rebuild_removes_it() {
    for role in [Graph, Vector] {
        let home = filled().await;
        edit(
            &home,
            role,
            "UPDATE document SET version = version + (1 << 45) WHERE id = 'd1'",
        );
        let db = home.open().await;
        let report = db.check_consistency().repair().await.unwrap();
        let [difference] = &report.differences[..] else {
            panic!("{report:?}")
        };
        assert_eq!((&*difference.id, difference.kind), ("d1", OtherVersion));
        assert!(!difference.repaired, "{report:?}");
        db.rebuild(role).await.unwrap();
        assert!(db.check_consistency().await.unwrap().is_consistent());
        close(db).await;
    }
}

#[tokio::test]
async fn a_deleted_row_is_found_and_mended() {
    let edits: [(&str, &[Finding<'_>]); 3] = [
        (
            "DELETE FROM document WHERE id = 'd3'",
            &[(Graph, "d3", Missing)],
        ),
        (
            "DELETE FROM document WHERE id = 'gone'",
            &[(Graph, "gone", Missing)],
        ),
        (
            "DELETE FROM node WHERE document = (SELECT key FROM document WHERE id = 'd3')",
            &[(Graph, "d3", Content)],
        ),
    ];
    found_and_mended(Graph, &edits).await;
    let edits: [(&str, &[Finding<'_>]); 3] = [
        (
            "DELETE FROM document WHERE id = 'd3'",
            &[(Vector, "d3", Missing)],
        ),
        (
            "DELETE FROM document WHERE id = 'gone'",
            &[(Vector, "gone", Missing)],
        ),
        (
            "DELETE FROM vector WHERE document = (SELECT key FROM document WHERE id = 'd3')",
            &[(Vector, "d3", Content)],
        ),
    ];
    found_and_mended(Vector, &edits).await;
}

#[tokio::test]
async fn a_foreign_row_is_reported_and_never_spread() {
    for (role, columns) in [(Graph, ""), (Vector, ", change")] {
        let home = filled().await;
        let sql = format!(
            "INSERT INTO document (collection, id, version, deleted {columns})
             SELECT collection, 'stranger', version, deleted {columns} FROM document
             WHERE id = 'd1'"
        );
        edit(&home, role, &sql);
        let db = home.open().await;
        for report in [
            check(&db).await,
            db.check_consistency().repair().await.unwrap(),
            check(&db).await,
        ] {
            assert_eq!(findings(&report), [(role, "stranger", Foreign)]);
            assert!(!report.differences[0].repaired);
        }
        assert_eq!(get(&db, "c", "stranger").await, None);
        assert_documents(&db).await;
        // An owner of the id takes the row over.
        store(&db, "c", Document::new("stranger").text("known")).await;
        assert_sound(&db, DOCUMENTS + 1).await;
        close(db).await;
    }
}

#[tokio::test]
async fn a_deleted_document_made_live_again_is_found_and_deleted_again() {
    let sql = "UPDATE document SET deleted = 0 WHERE id = 'gone'";
    for role in [Graph, Vector] {
        found_and_mended(role, &[(sql, &[(role, "gone", Deleted)])]).await;
    }
    // With all that a live one has.
    let sql = "UPDATE document SET deleted = 0 WHERE id = 'gone';
        INSERT INTO node SELECT key, 'title again', NULL FROM document WHERE id = 'gone';
        INSERT INTO title_1 (rowid, title)
            SELECT key, 'title again' FROM document WHERE id = 'gone'";
    found_and_mended(Graph, &[(sql, &[(Graph, "gone", Deleted)])]).await;
}

#[tokio::test]
async fn a_live_document_made_deleted_is_found_and_mended() {
    let sql = "UPDATE document SET deleted = 1 WHERE id = 'd4'";
    for role in [Graph, Vector] {
        found_and_mended(role, &[(sql, &[(role, "d4", Deleted)])]).await;
    }
}

#[tokio::test]
async fn every_damaged_document_is_found_and_no_other() {
    let home = filled().await;
    edit(
        &home,
        Graph,
        "UPDATE edge SET kind = 'k' WHERE ordinal = 0;
         DELETE FROM document WHERE id = 'd0'",
    );
    edit(&home, Vector, "DELETE FROM vector WHERE chunk = 0");
    let db = home.open().await;
    let report = check(&db).await;
    let ids = ["d0", "d1", "d2", "d3", "d4"];
    let vector = ids.map(|id| (Vector, id, Content));
    let graph = ids.map(|id| (Graph, id, if id == "d0" { Missing } else { Content }));
    assert_eq!(findings(&report), [vector, graph].concat());
    let report = db.check_consistency().repair().await.unwrap();
    assert!(report.differences.iter().all(|d| d.repaired));
    assert_sound(&db, DOCUMENTS).await;
    assert_documents(&db).await;
    close(db).await;
}
