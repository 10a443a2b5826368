//! One namespace belongs to one journal.

use dbmanager::prelude::*;

use super::{
    documents::document,
    ledger::{Ledger, store},
    main_job::fill,
    world::{World, close},
};

const COLLECTION: &str = "papers";

pub(super) async fn run(world: World) {
    let db = world.open().await;
    let mut ledger = Ledger::default();
    fill(&db, &mut ledger, COLLECTION, 0..10).await;

    // A set-up of somebody else that was pointed at this namespace.
    let theirs = tempfile::tempdir().unwrap();
    let config = world.config().data_directory(theirs.path());
    assert_refused(&world, config.clone()).await;
    assert_refused(&world, config).await;
    store(&db, &mut ledger, COLLECTION, document(10)).await;
    ledger.assert_held_by(&db).await;
    close(db).await;

    // An older copy of the journal, put back after the stores went on.
    let copy = theirs.path().join("copy");
    copy_files(&world.journal(), &copy);
    let db = world.open().await;
    store(&db, &mut ledger, COLLECTION, document(11)).await;
    close(db).await;
    let others = tempfile::tempdir().unwrap();
    let journal = copy.clone();
    let config = world
        .config()
        .data_directory(others.path())
        .adjust(move |settings| settings.journal.path = Some(journal.clone()));
    let error = assert_refused(&world, config).await;
    assert!(error.to_string().contains("older copy"), "{error}");

    let db = world.open().await;
    store(&db, &mut ledger, COLLECTION, document(12)).await;
    ledger.assert_held_by(&db).await;
    world.finish(db).await;
}

/// The store on the server is why it cannot be opened.
async fn assert_refused(world: &World, config: Config) -> Error {
    let error = world.builder(config).open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignStore, "{error:?}");
    let role = world.role().as_str();
    assert!(
        error.context().any(|value| value == ("role", role)),
        "{error:?}"
    );
    error
}

fn copy_files(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
