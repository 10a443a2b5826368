//! Journals that are damaged, gone, copied, or on a full disk.

use std::{
    fs::{self, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
    sync::Arc,
};

use dbmanager::prelude::*;
use dbmanager_core::{
    journal::{JournalSource, MemoryStorage},
    model::OperationStatus,
};

use crate::{
    common::{
        caught_up,
        embedded::{Home, PATIENCE, assert_sound, close, copy_directory, get, store},
        eventually,
    },
    numbered::{assert_filled, document, fill},
};

#[tokio::test]
async fn on_a_full_disk_writes_are_refused_and_nothing_acknowledged_is_lost() {
    let home = Home::new();
    let storage = MemoryStorage::new();
    let open = || async {
        dbmanager::builder(home.config())
            .journal(JournalSource::Storage(Arc::new(storage.clone())))
            .open()
            .await
            .unwrap()
    };
    let large = |number: usize| document(number).text("word ".repeat(60_000));
    let db = open().await;
    store(&db, "c", large(0)).await;
    storage.set_capacity(storage.to_bytes().len() as u64);
    let mut acknowledged = 1;
    let failed = loop {
        match db
            .store_document("c", large(acknowledged))
            .level(Level::All)
            .await
        {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 100, "the disk never fills up");
    };
    let unknown = match failed.write_outcome() {
        Some(WriteOutcome::Indeterminate(operation)) => Some(*operation),
        Some(WriteOutcome::Rejected) => None,
        _ => panic!("{failed:?}"),
    };
    for number in 500..503 {
        let error = db.store_document("c", document(number)).await.unwrap_err();
        assert_eq!(
            error.write_outcome(),
            Some(&WriteOutcome::Rejected),
            "{error}"
        );
    }
    assert!(!db.health().journal.writable);
    for number in 0..acknowledged {
        let wanted = large(number);
        assert_eq!(get(&db, "c", &wanted.id).await, Some(wanted));
    }
    // A journal that is read-only may not be closed cleanly; it must be released.
    drop(db.close(PATIENCE).await);
    drop(db);
    storage.heal();
    let db = open().await;
    for number in 0..acknowledged {
        let wanted = large(number);
        assert_eq!(get(&db, "c", &wanted.id).await, Some(wanted));
    }
    assert_eq!(get(&db, "c", "d500").await, None);
    let mut count = acknowledged as u64;
    if let Some(operation) = unknown {
        let landed = get(&db, "c", &large(acknowledged).id).await.is_some();
        let status = db.status(operation).await.unwrap();
        assert_eq!(
            landed,
            status != OperationStatus::NeverAccepted,
            "{status:?}"
        );
        count += u64::from(landed);
    }
    store(&db, "c", document(900)).await;
    assert_sound(&db, count + 1).await;
    close(db).await;
}

/// A closed home whose journal still has what a disabled store lacks.
async fn with_live_entries() -> Home {
    let home = Home::new();
    let db = home.open().await;
    fill(&db, 0..5).await;
    close(db).await;
    let config = home.config().disable(Role::Graph);
    let db = DatabaseManager::open(config).await.unwrap();
    fill(&db, 5..20).await;
    assert_eq!(db.health().journal.entries, 15);
    close(db).await;
    home
}

/// Opens a home whose journal was damaged: refused by name, or everything is there.
async fn refused_or_whole(home: &Home, damage: &str) -> bool {
    match DatabaseManager::open(home.config()).await {
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Damaged, "{damage}: {error}");
            let place = home.journal().display().to_string();
            assert!(error.to_string().contains(&place), "{damage}: {error}");
            true
        }
        Ok(db) => {
            eventually("the graph catches up", || caught_up(&db)).await;
            assert_filled(&db, 0..20).await;
            assert_sound(&db, 20).await;
            close(db).await;
            false
        }
    }
}

async fn damaged_journal(damage: &str, change: impl Fn(&mut fs::File, u64)) -> bool {
    let home = with_live_entries().await;
    let path = home.journal().join("journal.redb");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let length = file.metadata().unwrap().len();
    change(&mut file, length);
    drop(file);
    refused_or_whole(&home, damage).await
}

#[tokio::test]
async fn a_journal_whose_tail_is_cut_is_refused_or_whole() {
    damaged_journal("one byte less", |file, length| {
        file.set_len(length - 1).unwrap();
    })
    .await;
    let refused = damaged_journal("half of it", |file, length| {
        file.set_len(length / 2).unwrap();
    })
    .await;
    assert!(refused, "half a journal is not whole");
}

#[tokio::test]
async fn a_journal_with_a_flipped_byte_is_refused_or_whole() {
    for part in [2, 3, 5] {
        damaged_journal("a flipped byte", |file, length| {
            let mut byte = [0];
            file.seek(SeekFrom::Start(length / part)).unwrap();
            file.read_exact(&mut byte).unwrap();
            file.seek(SeekFrom::Start(length / part)).unwrap();
            file.write_all(&[byte[0] ^ 0x40]).unwrap();
        })
        .await;
    }
}

#[tokio::test]
async fn a_journal_with_a_zeroed_page_is_refused_or_whole() {
    let refused = damaged_journal("the first page", |file, _| {
        file.write_all(&[0; 4_096]).unwrap();
    })
    .await;
    assert!(refused, "the first page is needed");
    for page in 1..4 {
        damaged_journal("a zeroed page", |file, _| {
            file.seek(SeekFrom::Start(page * 4_096)).unwrap();
            file.write_all(&[0; 4_096]).unwrap();
        })
        .await;
    }
}

#[tokio::test]
async fn a_journal_that_is_gone_is_not_replaced_by_an_empty_one() {
    let home = with_live_entries().await;
    let moved = home.path().join("moved");
    fs::rename(home.journal(), &moved).unwrap();
    let error = home.refusal(home.config()).await;
    assert_eq!(error.kind(), ErrorKind::ForeignStore, "{error}");
    fs::remove_dir_all(home.journal()).unwrap();
    fs::rename(&moved, home.journal()).unwrap();
    assert!(!refused_or_whole(&home, "moved away and back").await);
}

/// The configuration of a home with the copy of its journal.
fn with_journal(home: &Home, journal: &Path) -> Config {
    let journal = journal.to_owned();
    home.config()
        .adjust(move |settings| settings.journal.path = Some(journal.clone()))
}

#[tokio::test]
async fn a_copied_journal_is_foreign_to_stores_that_went_on() {
    let home = Home::new();
    let db = home.open().await;
    fill(&db, 0..3).await;
    close(db).await;
    let copy = tempfile::tempdir().unwrap();
    copy_directory(&home.journal(), copy.path());
    let db = home.open().await;
    fill(&db, 3..5).await;
    close(db).await;
    let error = home.refusal(with_journal(&home, copy.path())).await;
    assert_eq!(error.kind(), ErrorKind::ForeignStore, "{error}");
    let db = home.open().await;
    assert_filled(&db, 0..5).await;
    assert_sound(&db, 5).await;
    close(db).await;
}

#[tokio::test]
async fn a_copied_journal_finds_the_stores_locked_while_the_original_runs() {
    let home = Home::new();
    let db = home.open().await;
    fill(&db, 0..3).await;
    close(db).await;
    let copy = tempfile::tempdir().unwrap();
    copy_directory(&home.journal(), copy.path());
    let db = home.open().await;
    let error = home.refusal(with_journal(&home, copy.path())).await;
    assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
    assert!(error.is_retryable());
    let error = home.refusal(home.config()).await;
    assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
    fill(&db, 3..5).await;
    assert_filled(&db, 0..5).await;
    assert_sound(&db, 5).await;
    close(db).await;
}
