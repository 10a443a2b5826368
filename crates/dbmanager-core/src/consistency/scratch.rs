//! A sorted scratch file: stores list in any order and may hold more than memory does.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use redb::{Database, Durability, ReadableDatabase, TableDefinition};

use crate::{
    Error, ErrorKind, Result, Runtime,
    backend::{Fingerprint, Head},
    model::{ContentHash, Version},
};

const FINGERPRINTS: TableDefinition<'_, &str, (u64, bool, [u8; 32])> =
    TableDefinition::new("fingerprints");

/// Memory for pages of the file: by default it would be a GiB.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// Fingerprints by id, in a temporary file that goes with the value.
pub(super) struct Scratch {
    runtime: Runtime,
    file: Arc<File>,
}

struct File {
    /// Taken before the path is removed.
    database: Mutex<Option<Database>>,
    path: PathBuf,
}

impl Drop for File {
    fn drop(&mut self) {
        drop(
            self.database
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a scratch file was left behind");
        }
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the scratch file of the comparison failed",
    )
    .with_source(error)
}

impl Scratch {
    /// An empty scratch file in the system's directory for temporary files.
    pub(super) async fn create(runtime: &Runtime) -> Result<Self> {
        // The process too: simulations of one seed draw the same id.
        let name = format!(
            "dbmanager-scratch-{}-{}.redb",
            std::process::id(),
            runtime.new_operation_id()
        );
        let path = std::env::temp_dir().join(name);
        let file = runtime
            .blocking(move || {
                // What a process of the same number left when it was killed would be read.
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(failed(error));
                    }
                    _ => {}
                }
                let database = Database::builder()
                    .set_cache_size(CACHE_BYTES)
                    .create(&path)
                    .map_err(failed)?;
                Ok::<_, Error>(File {
                    database: Mutex::new(Some(database)),
                    path,
                })
            })
            .await
            .map_err(failed)??;
        Ok(Self {
            runtime: runtime.clone(),
            file: Arc::new(file),
        })
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T> {
        let file = Arc::clone(&self.file);
        self.runtime
            .blocking(move || {
                let database = file.database.lock().unwrap_or_else(PoisonError::into_inner);
                match &*database {
                    Some(database) => work(database).map_err(failed),
                    None => Err(Error::new(ErrorKind::Internal, "the scratch file is gone")),
                }
            })
            .await
            .map_err(failed)?
    }

    /// Keeps these fingerprints.
    pub(super) async fn add(&self, fingerprints: Vec<Fingerprint>) -> Result<()> {
        self.with(move |database| {
            let mut transaction = database.begin_write()?;
            // Nothing is lost if the machine stops: the comparison starts again.
            transaction.set_durability(Durability::None)?;
            {
                let mut table = transaction.open_table(FINGERPRINTS)?;
                for print in &fingerprints {
                    let Head { version, deleted } = print.head;
                    let value = (version.as_u64(), deleted, print.content_hash.0);
                    table.insert(&*print.id, value)?;
                }
            }
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    /// Takes out the fingerprint of each id, in the order given.
    pub(super) async fn take(&self, ids: Vec<Arc<str>>) -> Result<Vec<Option<Fingerprint>>> {
        self.with(move |database| {
            let mut transaction = database.begin_write()?;
            transaction.set_durability(Durability::None)?;
            let mut taken = Vec::with_capacity(ids.len());
            {
                let mut table = transaction.open_table(FINGERPRINTS)?;
                for id in ids {
                    let value = table.remove(&*id)?.map(|guard| guard.value());
                    taken.push(value.map(|value| fingerprint(id, value)));
                }
            }
            transaction.commit()?;
            Ok(taken)
        })
        .await
    }

    /// What was not taken, above `after`, by id.
    pub(super) async fn rest(
        &self,
        after: Option<Arc<str>>,
        limit: usize,
    ) -> Result<Vec<Fingerprint>> {
        self.with(move |database| {
            let transaction = database.begin_read()?;
            let table = match transaction.open_table(FINGERPRINTS) {
                Ok(table) => table,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let start = after.as_deref().unwrap_or("");
            let mut rest = Vec::new();
            for row in table.range(start..)? {
                let (id, value) = row?;
                if after.as_deref() == Some(id.value()) {
                    continue;
                }
                rest.push(fingerprint(Arc::from(id.value()), value.value()));
                if rest.len() == limit {
                    break;
                }
            }
            Ok(rest)
        })
        .await
    }
}

fn fingerprint(id: Arc<str>, value: (u64, bool, [u8; 32])) -> Fingerprint {
    let (version, deleted, hash) = value;
    Fingerprint {
        id,
        head: Head {
            version: Version::from_u64(version),
            deleted,
        },
        content_hash: ContentHash(hash),
    }
}
