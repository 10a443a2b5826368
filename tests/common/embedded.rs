//! A directory with the embedded stores, and what every test on it asks at the end.

use std::{
    fs,
    future::IntoFuture,
    path::{Path, PathBuf},
    time::Duration,
};

use dbmanager::prelude::*;
use dbmanager_core::ConsistencyReport;

/// Long enough for a slow machine; nothing waits for it.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A directory with a journal and the three embedded stores; it outlives its managers.
pub struct Home(tempfile::TempDir);

impl Home {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn config(&self) -> Config {
        Config::embedded(self.path()).write(Level::Quorum, PATIENCE)
    }

    pub async fn open(&self) -> DatabaseManager {
        DatabaseManager::open(self.config()).await.unwrap()
    }

    /// Why it cannot be opened.
    pub async fn refusal(&self, config: Config) -> Error {
        DatabaseManager::open(config).await.unwrap_err()
    }

    pub fn store_file(&self, role: Role) -> PathBuf {
        self.path().join(format!("{}.db", role.as_str()))
    }

    pub fn journal(&self) -> PathBuf {
        self.path().join("journal")
    }

    /// Another hand on the file of a closed store.
    pub fn connect(&self, role: Role) -> rusqlite::Connection {
        let file = self.store_file(role);
        assert!(file.exists(), "{file:?}");
        rusqlite::Connection::open(file).unwrap()
    }

    /// Removes every file of a closed store, but for its lock.
    pub fn wipe(&self, role: Role) {
        for file in self.files_of(role) {
            fs::remove_file(file).unwrap();
        }
    }

    /// Copies the files of a closed store.
    pub fn copy_store(&self, role: Role) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        for file in self.files_of(role) {
            fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
        }
        copy
    }

    /// Puts a copy in the place of a closed store.
    pub fn put_back(&self, role: Role, copy: &tempfile::TempDir) {
        self.wipe(role);
        copy_directory(copy.path(), self.path());
    }

    fn files_of(&self, role: Role) -> Vec<PathBuf> {
        let name = format!("{}.db", role.as_str());
        files(self.path())
            .into_iter()
            .filter(|file| {
                let file = file.file_name().unwrap().to_str().unwrap();
                file.starts_with(&name) && !file.ends_with(".lock")
            })
            .collect()
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect()
}

/// Copies the files of a directory; one that is there is overwritten.
pub fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in files(from) {
        fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}

pub async fn close(db: DatabaseManager) {
    db.close(PATIENCE).await.unwrap();
}

/// Stores a document in every store.
pub async fn store(db: &DatabaseManager, collection: &str, document: Document) -> Receipt {
    let id = document.id.clone();
    db.store_document(collection, document)
        .level(Level::All)
        .await
        .unwrap_or_else(|error| panic!("{id:?}: {error}"))
}

pub async fn get(db: &DatabaseManager, collection: &str, id: &str) -> Option<Document> {
    let found = db.get_document(collection, id).await.unwrap();
    found.map(|found| found.document)
}

/// The ids of the hits, sorted; nothing may have failed or been dropped unverified.
pub async fn hits(db: &DatabaseManager, collection: &str, query: Query) -> Vec<String> {
    let answer = db.search_documents(collection, query).await.unwrap();
    assert!(!answer.degraded(), "{answer:?}");
    let mut ids: Vec<_> = answer.hits.iter().map(|hit| hit.id.to_string()).collect();
    ids.sort();
    ids
}

/// Why a write is refused for good; no store ever shows it.
pub async fn rejected<T: std::fmt::Debug>(
    write: impl IntoFuture<Output = Result<T, Error>>,
) -> Error {
    let error = write.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert_eq!(error.write_outcome(), Some(&WriteOutcome::Rejected));
    assert!(!error.is_retryable(), "{error}");
    error
}

/// A comparison once no store has anything left to receive.
pub async fn check(db: &DatabaseManager) -> ConsistencyReport {
    super::eventually("the stores catch up", || super::caught_up(db)).await;
    db.check_consistency().await.unwrap()
}

/// Every store holds exactly `documents` documents, and each the right content.
pub async fn assert_sound(db: &DatabaseManager, documents: u64) {
    let report = check(db).await;
    assert!(report.is_consistent(), "{report:?}");
    let held: Vec<_> = report.stores.iter().map(|s| s.documents).collect();
    assert_eq!(held, [documents; 3]);
}

/// A manager over the embedded stores that has acknowledged one document, which no test may lose.
pub struct World {
    pub home: Home,
    pub db: DatabaseManager,
}

impl World {
    pub async fn new() -> Self {
        let home = Home::new();
        let db = home.open().await;
        store(&db, "c", earlier()).await;
        Self { home, db }
    }

    /// The earlier document and `others` are there, in every store, also after a new opening.
    pub async fn end_with(self, others: u64) {
        assert_eq!(get(&self.db, "c", "earlier").await, Some(earlier()));
        assert_sound(&self.db, others + 1).await;
        close(self.db).await;
        let db = self.home.open().await;
        assert_eq!(get(&db, "c", "earlier").await, Some(earlier()));
        assert_sound(&db, others + 1).await;
        close(db).await;
    }
}

/// The document of [`World`]; no test searches for its words.
pub fn earlier() -> Document {
    Document::new("earlier")
        .title("a lighthouse")
        .text("acknowledged before")
}
