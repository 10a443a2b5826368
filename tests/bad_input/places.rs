//! Configurations, directories and store files that are not what they should be.

use std::{fs, path::Path};

use dbmanager::prelude::*;
use dbmanager_core::{
    backend::ServiceConfig,
    journal::RosterState,
    model::{CollectionOptions, Tokenizer},
};

use crate::{
    common::embedded::{Home, assert_sound, close, get, store},
    numbered::{assert_filled, document, fill},
};

/// A store at another file than its own.
fn at(file: &Path) -> ServiceConfig {
    let mut config = ServiceConfig::new();
    let file = file.to_str().unwrap();
    config.insert("database_path".to_owned(), file.into());
    config
}

fn state(db: &DatabaseManager, role: Role) -> RosterState {
    let health = db.health();
    health.stores.iter().find(|s| s.role == role).unwrap().state
}

#[tokio::test]
async fn an_unknown_key_of_a_store_is_named_with_the_nearest_one() {
    let home = Home::new();
    for (role, service, key, near) in [
        (Role::Relational, "sqlite", "database_pth", "database_path"),
        (Role::Graph, "sqlite", "enable_wall", "enable_wal"),
        (Role::Vector, "embedded", "databasepath", "database_path"),
    ] {
        let mut config = at(&home.path().join("own.db"));
        config.insert(key.to_owned(), true.into());
        let error = home
            .refusal(home.config().store(role, service, config))
            .await;
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        let message = error.to_string();
        assert!(message.contains(key) && message.contains(near), "{message}");
    }
}

#[tokio::test]
async fn a_data_directory_below_a_file_is_a_config_error_that_names_it() {
    let home = Home::new();
    let file = home.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    let error = home.refusal(Config::embedded(file.join("data"))).await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("file/data/journal"), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "not a directory");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_data_directory_in_a_file_system_without_writing_is_a_config_error() {
    let home = Home::new();
    let error = home.refusal(Config::embedded("/proc/dbmanager")).await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("/proc/dbmanager"), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_directory_without_the_right_to_write_is_a_config_error_except_for_root() {
    use std::os::unix::fs::PermissionsExt;

    let home = Home::new();
    let locked = home.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    let stopped = fs::write(locked.join("probe"), "").is_err();
    let opened = DatabaseManager::open(Config::embedded(&locked)).await;
    if stopped {
        assert_eq!(opened.unwrap_err().kind(), ErrorKind::Config);
    } else {
        let db = opened.unwrap();
        store(&db, "c", document(0)).await;
        close(db).await;
    }
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn a_store_that_cannot_be_made_is_down_and_gets_everything_once_it_can() {
    let home = Home::new();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    let own = at(&file.join("vector.db"));
    let config = home.config().store(Role::Vector, "embedded", own);
    let db = DatabaseManager::open(config.clone()).await.unwrap();
    let receipt = db.store_document("c", document(0)).await.unwrap();
    let pending: Vec<_> = receipt.pending().map(|s| s.role).collect();
    assert_eq!(pending, [Role::Vector]);
    let error = receipt.pending().next().unwrap().error.clone();
    let error = error.unwrap_or_default();
    assert!(error.contains("file"), "{error}");
    close(db).await;
    fs::remove_file(&file).unwrap();
    let db = DatabaseManager::open(config).await.unwrap();
    assert_sound(&db, 1).await;
    close(db).await;
}

#[tokio::test]
async fn one_file_for_two_stores_is_a_config_error_however_it_is_written() {
    let home = Home::new();
    fs::create_dir(home.path().join("sub")).unwrap();
    let plain = at(&home.path().join("same.db"));
    let winding = at(&home.path().join("sub/../same.db"));
    let config = home.config().store(Role::Graph, "sqlite", plain).store(
        Role::Relational,
        "sqlite",
        winding,
    );
    let error = home.refusal(config).await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("same place"), "{error}");
    // Nothing is left locked.
    close(home.open().await).await;
}

#[tokio::test]
async fn a_vector_or_graph_store_put_back_from_a_copy_is_rebuilt() {
    for role in [Role::Vector, Role::Graph] {
        let home = Home::new();
        let db = home.open().await;
        fill(&db, 0..3).await;
        close(db).await;
        let older = home.copy_store(role);
        let db = home.open().await;
        fill(&db, 3..6).await;
        db.delete_document("c", "d001")
            .level(Level::All)
            .await
            .unwrap();
        close(db).await;
        home.put_back(role, &older);
        let db = home.open().await;
        assert_eq!(state(&db, role), RosterState::NeedsRebuild);
        assert_eq!(get(&db, "c", "d001").await, None);
        db.rebuild(role).await.unwrap();
        assert_eq!(state(&db, role), RosterState::Active);
        assert_filled(&db, 2..6).await;
        assert_sound(&db, 5).await;
        close(db).await;
    }
}

#[tokio::test]
async fn a_relational_store_put_back_from_a_copy_needs_a_restore_and_reads_are_errors() {
    let home = Home::new();
    let db = home.open().await;
    fill(&db, 0..3).await;
    close(db).await;
    let older = home.copy_store(Role::Relational);
    let db = home.open().await;
    fill(&db, 3..6).await;
    close(db).await;
    let newest = home.copy_store(Role::Relational);
    home.put_back(Role::Relational, &older);
    let db = home.open().await;
    assert_eq!(state(&db, Role::Relational), RosterState::NeedsRestore);
    for id in ["d000", "d004", "never"] {
        let error = db.get_document("c", id).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{id}: {error}");
        assert!(!error.is_retryable());
    }
    assert!(db.count("c", None).await.is_err());
    assert!(db.list_documents("c", None, None, 10).await.is_err());
    assert!(db.check_consistency().await.is_err());
    close(db).await;
    // What was kept aside is the restore.
    home.put_back(Role::Relational, &newest);
    let db = home.open().await;
    assert_eq!(state(&db, Role::Relational), RosterState::Active);
    assert_filled(&db, 0..6).await;
    assert_sound(&db, 6).await;
    close(db).await;
}

#[tokio::test]
async fn a_wiped_vector_or_graph_store_is_rebuilt() {
    for role in [Role::Vector, Role::Graph] {
        let home = Home::new();
        let db = home.open().await;
        fill(&db, 0..3).await;
        close(db).await;
        home.wipe(role);
        let db = home.open().await;
        assert_eq!(state(&db, role), RosterState::NeedsRebuild);
        assert_filled(&db, 0..3).await;
        assert_eq!(db.rebuild(role).await.unwrap().documents, 3);
        fill(&db, 3..4).await;
        assert_sound(&db, 4).await;
        close(db).await;
    }
}

#[tokio::test]
async fn a_wiped_relational_store_needs_a_restore_and_reads_are_errors() {
    let home = Home::new();
    let db = home.open().await;
    fill(&db, 0..3).await;
    close(db).await;
    home.wipe(Role::Relational);
    let db = home.open().await;
    assert_eq!(state(&db, Role::Relational), RosterState::NeedsRestore);
    let error = db.get_document("c", "d000").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    close(db).await;
}

#[tokio::test]
async fn a_store_file_that_is_no_database_is_refused_as_damaged() {
    for role in Role::ALL {
        let home = Home::new();
        let db = home.open().await;
        fill(&db, 0..2).await;
        close(db).await;
        let kept = home.copy_store(role);
        fs::write(home.store_file(role), "this was a database".repeat(500)).unwrap();
        let error = home.refusal(home.config()).await;
        assert_eq!(error.kind(), ErrorKind::Damaged, "{role}: {error}");
        home.put_back(role, &kept);
        let db = home.open().await;
        assert_filled(&db, 0..2).await;
        assert_sound(&db, 2).await;
        close(db).await;
    }
}

/// The stores were open by then, and those who send to them.
#[tokio::test]
async fn an_opening_that_fails_at_a_collection_leaves_no_store_locked() {
    let home = Home::new();
    let db = home.open().await;
    let created = db.create_collection("c", CollectionOptions::default());
    created.await.unwrap();
    close(db).await;
    let options = CollectionOptions::default().tokenizer(Tokenizer::Trigram);
    let error = home.refusal(home.config().collection("c", options)).await;
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    close(home.open().await).await;
}
