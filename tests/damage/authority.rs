//! What the authority itself lost, or holds changed.

use dbmanager::{
    DifferenceKind::{Content, Foreign, Missing, Unreadable},
    model::Role::*,
    prelude::*,
};

use super::{
    DOCUMENTS, assert_documents,
    common::{
        Mode, Rig,
        embedded::{Home, assert_sound, check, close, get, store},
    },
    document, edit, filled, findings,
};

const CHANGE_A_WORD: &str = "UPDATE content
    SET canonical = CAST(replace(CAST(canonical AS TEXT), 'the harbour', 'the harvest') AS BLOB)
    WHERE document = (SELECT key FROM document WHERE id = 'd2')";

/// A closed home whose journal still holds every document for a disabled store.
async fn with_live_entries(disabled: Role) -> Home {
    let home = Home::new();
    let db = home.open().await;
    close(db).await;
    let config = home.config().disable(disabled);
    let db = DatabaseManager::open(config).await.unwrap();
    for number in 0..DOCUMENTS {
        store(&db, "c", document(number)).await;
    }
    close(db).await;
    home
}

#[tokio::test]
async fn what_the_authority_holds_changed_is_mended_from_the_journal_while_that_has_it() {
    let home = with_live_entries(Graph).await;
    edit(&home, Relational, CHANGE_A_WORD);
    let db = DatabaseManager::open(home.config().disable(Graph))
        .await
        .unwrap();
    let report = check(&db).await;
    assert_eq!(findings(&report), [(Relational, "d2", Content)]);
    let report = db.check_consistency().repair().await.unwrap();
    assert!(report.differences[0].repaired);
    close(db).await;
    let db = home.open().await;
    assert_sound(&db, DOCUMENTS).await;
    assert_documents(&db).await;
    close(db).await;
}

#[tokio::test]
async fn a_row_that_the_authority_lost_comes_back_from_the_journal_at_the_next_opening() {
    let home = with_live_entries(Graph).await;
    edit(&home, Relational, "DELETE FROM document WHERE id = 'd2'");
    let db = home.open().await;
    assert_sound(&db, DOCUMENTS).await;
    assert_documents(&db).await;
    close(db).await;
}

#[tokio::test(start_paused = true)]
async fn a_row_lost_under_way_is_missing_and_mended_from_the_journal() {
    let rig = Rig::new();
    let db = rig.open().await;
    rig.switch(Graph).set(Mode::Down);
    for id in ["a", "b"] {
        db.store_document("c", Document::new(id).text("kept"))
            .await
            .unwrap();
    }
    rig.place(Relational).lose("c", "a");
    let report = db.check_consistency().role(Relational).await.unwrap();
    assert_eq!(findings(&report), [(Relational, "a", Missing)]);
    let report = db.check_consistency().role(Relational).repair().await;
    assert_eq!(findings(&report.unwrap()), [(Relational, "a", Missing)]);
    rig.switch(Graph).set(Mode::Up);
    let report = check(&db).await;
    assert!(report.is_consistent(), "{report:?}");
    assert!(report.stores.iter().all(|store| store.documents == 2));
}

#[tokio::test(start_paused = true)]
async fn a_document_that_only_the_journal_holds_is_counted_as_pending() {
    let rig = Rig::new();
    let db = rig.open().await;
    rig.switch(Relational).set(Mode::Refuse);
    db.store_document("c", Document::new("a").text("kept"))
        .await
        .unwrap();
    let report = db.check_consistency().role(Relational).await.unwrap();
    assert_eq!(findings(&report), []);
    assert_eq!(report.stores[0].pending, 1);
    assert!(!report.is_consistent());
}

#[tokio::test]
async fn a_changed_word_of_the_authoritys_own_bytes_is_found() {
    let home = filled().await;
    edit(&home, Relational, CHANGE_A_WORD);
    let db = home.open().await;
    let report = check(&db).await;
    assert_eq!(findings(&report), [(Relational, "d2", Content)]);
    // The exact bytes are the authority's word: nobody else has them whole. After the repair
    // every copy says what they say.
    db.check_consistency().repair().await.unwrap();
    assert_sound(&db, DOCUMENTS).await;
    let text = get(&db, "c", "d2").await.unwrap().text;
    assert_eq!(text, "the harvest of number 2");
    // Whoever still has the document writes it again.
    store(&db, "c", document(2)).await;
    assert_sound(&db, DOCUMENTS).await;
    assert_documents(&db).await;
    close(db).await;
}

#[tokio::test]
async fn an_unreadable_row_of_the_authority_is_a_finding_and_an_error_never_an_absent_document() {
    let key = "(SELECT key FROM document WHERE id = 'd2')";
    for (sql, id) in [
        (format!("DELETE FROM content WHERE document = {key}"), "d2"),
        (
            format!("UPDATE content SET canonical = x'7b' WHERE document = {key}"),
            "d2",
        ),
        (
            format!("UPDATE content SET vectors = x'ff' WHERE document = {key}"),
            "d2",
        ),
        (
            "UPDATE document SET deleted = 0 WHERE id = 'gone'".to_owned(),
            "gone",
        ),
    ] {
        let home = filled().await;
        edit(&home, Relational, &sql);
        let db = home.open().await;
        let named = format!("{id:?}");
        let error = db.get_document("c", id).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{sql}: {error}");
        assert!(error.message().contains(&named), "{sql}: {error}");
        // Nobody knows what the others should hold of it; every other document is compared.
        let report = db.check_consistency().repair().await.unwrap();
        assert_eq!(
            findings(&report),
            Role::ALL.map(|role| (role, id, Unreadable))
        );
        assert!(report.differences.iter().all(|d| !d.repaired), "{sql}");
        for store in &report.stores {
            let compared = store.documents + store.tombstones;
            assert_eq!(compared, DOCUMENTS, "{sql}: {store:?}");
        }
        assert_eq!(get(&db, "c", "d3").await, Some(document(3)));
        // Whoever still has the document writes it again, whoever knows it gone deletes it again.
        store(&db, "c", document(2)).await;
        db.delete_document("c", "gone")
            .level(Level::All)
            .await
            .unwrap();
        assert_sound(&db, DOCUMENTS).await;
        assert_documents(&db).await;
        close(db).await;
    }
}

#[tokio::test]
async fn an_unreadable_row_is_mended_from_the_journal_while_that_has_the_document() {
    let home = with_live_entries(Graph).await;
    edit(
        &home,
        Relational,
        "UPDATE content SET canonical = x'7b'
         WHERE document = (SELECT key FROM document WHERE id = 'd2')",
    );
    let db = DatabaseManager::open(home.config().disable(Graph))
        .await
        .unwrap();
    let report = db.check_consistency().repair().await.unwrap();
    assert_eq!(findings(&report), [(Relational, "d2", Content)]);
    assert!(report.differences[0].repaired);
    close(db).await;
    let db = home.open().await;
    assert_sound(&db, DOCUMENTS).await;
    assert_documents(&db).await;
    close(db).await;
}

#[tokio::test]
async fn a_row_deleted_from_the_authority_leaves_foreign_ones_in_the_others() {
    let home = filled().await;
    edit(&home, Relational, "DELETE FROM document WHERE id = 'd3'");
    let db = home.open().await;
    for report in [
        check(&db).await,
        db.check_consistency().repair().await.unwrap(),
        check(&db).await,
    ] {
        assert_eq!(
            findings(&report),
            [(Vector, "d3", Foreign), (Graph, "d3", Foreign)]
        );
        assert!(report.differences.iter().all(|d| !d.repaired));
    }
    store(&db, "c", document(3)).await;
    assert_sound(&db, DOCUMENTS).await;
    assert_documents(&db).await;
    close(db).await;
}
