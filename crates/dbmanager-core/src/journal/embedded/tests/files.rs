//! The journal in a directory.

use std::{fs, path::Path};

use super::*;

async fn open_directory(directory: &Path) -> JournalResult<Arc<EmbeddedJournal>> {
    EmbeddedJournal::open(
        JournalSource::Directory(directory.to_owned()),
        JournalOptions::default(),
        Runtime::tokio(),
    )
    .await
}

#[tokio::test]
async fn a_directory_keeps_the_journal_and_one_handle_has_it() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("deep").join("journal");
    let journal = open_directory(&directory).await.unwrap();
    journal
        .create_collection("papers", CollectionOptions::new())
        .await
        .unwrap();
    assert_eq!(
        kind_of(open_directory(&directory).await),
        JournalErrorKind::Locked
    );
    journal.close().await.unwrap();
    let again = open_directory(&directory).await.unwrap();
    assert_eq!(again.journal_id(), journal.journal_id());
    assert_eq!(again.epoch(), 2);
    assert_eq!(again.collections().await.unwrap().len(), 1);
    again.close().await.unwrap();
    for name in ["journal.redb", "journal.lock", "journal.reserve"] {
        assert!(directory.join(name).is_file(), "{name}");
    }
    let reserve = fs::metadata(directory.join("journal.reserve")).unwrap();
    assert_eq!(reserve.len(), 16 << 20);
}

#[tokio::test]
async fn a_data_file_that_is_gone_is_not_a_new_journal() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open_directory(directory.path()).await.unwrap();
    journal.close().await.unwrap();
    fs::remove_file(directory.path().join("journal.redb")).unwrap();
    let error = open_directory(directory.path()).await.unwrap_err();
    assert_eq!(error.kind(), &JournalErrorKind::Damaged);
    assert!(error.message().contains("empty"), "{error}");
}

/// The length was set, and the power went before anything else.
#[tokio::test]
async fn a_first_opening_that_was_cut_off_starts_over_unless_the_journal_was_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("journal.redb");
    fs::write(&data, vec![0; 1 << 20]).unwrap();
    let journal = open_directory(directory.path()).await.unwrap();
    journal.close().await.unwrap();
    fs::write(&data, vec![0; 1 << 20]).unwrap();
    let error = open_directory(directory.path()).await.unwrap_err();
    assert_eq!(error.kind(), &JournalErrorKind::Damaged);
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let below = file.path().join("journal");
    let error = open_directory(&below).await.unwrap_err();
    assert_eq!(error.kind(), &JournalErrorKind::Open);
    assert!(error.message().contains("journal"), "{error}");
}
