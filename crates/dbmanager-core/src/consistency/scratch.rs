//! A sorted scratch file: stores list in any order and may hold more than memory does.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use redb::{
    Database, Durability, ReadableDatabase, StorageBackend, TableDefinition, backends::FileBackend,
};

use crate::{
    Error, ErrorKind, Result, Runtime,
    backend::{Fingerprint, Head},
    model::{ContentHash, Version},
};

const FINGERPRINTS: TableDefinition<'_, &str, (u64, bool, [u8; 32])> =
    TableDefinition::new("fingerprints");

/// Memory for pages of the file: by default it would be a GiB.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// Fingerprints by id, in a temporary file that goes with the value, or with the process.
pub(super) struct Scratch {
    runtime: Runtime,
    database: Arc<Mutex<Database>>,
}

/// A file that is never synced: nothing is lost with the machine, since the comparison starts again.
#[derive(Debug)]
struct Unsynced(FileBackend);

impl StorageBackend for Unsynced {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
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
    /// An empty scratch file in the system's directory for temporary files, under no name there.
    pub(super) async fn create(runtime: &Runtime) -> Result<Self> {
        let database = runtime
            .blocking(|| {
                let file = tempfile::tempfile().map_err(failed)?;
                Database::builder()
                    .set_cache_size(CACHE_BYTES)
                    .create_with_backend(Unsynced(FileBackend::new(file).map_err(failed)?))
                    .map_err(failed)
            })
            .await
            .map_err(failed)??;
        Ok(Self {
            runtime: runtime.clone(),
            database: Arc::new(Mutex::new(database)),
        })
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T> {
        let database = Arc::clone(&self.database);
        self.runtime
            .blocking(move || work(&database.lock().unwrap_or_else(PoisonError::into_inner)))
            .await
            .map_err(failed)?
            .map_err(failed)
    }

    /// Keeps these fingerprints.
    pub(super) async fn add(&self, fingerprints: Vec<Fingerprint>) -> Result<()> {
        self.with(move |database| {
            let mut transaction = database.begin_write()?;
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
