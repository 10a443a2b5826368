//! The approximate index in a file, so that opening a large collection does not build it anew.
//!
//! A file is written once and never changed; its name holds a random number, and a row of the
//! table `index_file`, committed after the file is on disk, names it with the hash of its bytes.
//! Whoever reads that row has a history that includes the state the index was built from, and
//! since keys of vectors are never used twice, every vector of that state has still its meaning;
//! what was written since is the index' tail. Any other file is removed, any doubt means building
//! anew.

use std::{
    fs::File,
    hash::{DefaultHasher, Hasher},
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use dbmanager_backend_support::sqlite::{JobError, JobResult};
use dbmanager_core::{
    backend::{BackendError, BackendErrorKind, BackendResult},
    model::Metric,
};
use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};

use super::{hnsw::HnswIndex, store::Shared, tables::State};

/// What the table knows of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Facts {
    token: u64,
    bytes: u64,
    hash: u64,
    covered: i64,
    metric: Metric,
    dimension: usize,
    connectivity: usize,
}

/// The index of the collection, if its file is there, unchanged, and made with these settings.
pub(super) async fn load(shared: &Shared, state: &State) -> Option<HnswIndex> {
    let collection = state.collection;
    let facts = shared
        .database
        .read(move |connection| read_facts(connection, collection))
        .await
        .ok()??;
    let options = shared.keeper.options;
    let (metric, dimension) = (state.metric, state.dimension);
    if (facts.metric, facts.dimension, facts.connectivity)
        != (metric, dimension, options.connectivity)
    {
        return None;
    }
    let path = file_path(shared.database.path(), collection, facts.token);
    shared
        .keeper
        .runtime
        .blocking(move || {
            let unchanged = digest(&path).ok()? == (facts.bytes, facts.hash);
            unchanged
                .then(|| HnswIndex::load(&options, metric, dimension, &path, facts.covered).ok())?
        })
        .await
        .ok()?
}

/// Writes the index to a new file and removes the file before.
///
/// # Errors
/// The file could not be written or recorded; the file before stands.
pub(super) async fn save(
    shared: &Shared,
    state: &State,
    index: &Arc<HnswIndex>,
) -> BackendResult<()> {
    let _files = shared.keeper.files.lock().await;
    let token = shared.keeper.runtime.random_u64();
    let path = file_path(shared.database.path(), state.collection, token);
    let (state, index) = (*state, Arc::clone(index));
    let connectivity = shared.keeper.options.connectivity;
    let facts = shared
        .keeper
        .runtime
        .blocking(move || -> BackendResult<Facts> {
            let covered = index.save(&path).map_err(unwritten)?;
            File::open(&path)
                .and_then(|file| file.sync_all())
                .map_err(unwritten)?;
            let (bytes, hash) = digest(&path).map_err(unwritten)?;
            Ok(Facts {
                token,
                bytes,
                hash,
                covered,
                metric: state.metric,
                dimension: state.dimension,
                connectivity,
            })
        })
        .await
        .map_err(unwritten)
        .flatten();
    let recorded = match facts {
        Ok(facts) => {
            // Durable, and with it every write before: the index holds no vector that a power
            // loss could take back.
            shared
                .database
                .write_durable(move |transaction| write_facts(transaction, &state, &facts))
                .await
        }
        Err(error) => Err(error),
    };
    sweep_files(shared).await?;
    recorded
}

/// Removes files that no row names: of dropped collections, and of writes that did not end.
pub(super) async fn sweep(shared: &Shared) -> BackendResult<()> {
    let _files = shared.keeper.files.lock().await;
    sweep_files(shared).await
}

async fn sweep_files(shared: &Shared) -> BackendResult<()> {
    let database = shared.database.path().to_owned();
    let names = shared.database.read(file_names(&database)).await?;
    let remove = move || -> std::io::Result<()> {
        let Some(directory) = database.parent() else {
            return Ok(());
        };
        let prefix = file_prefix(&database);
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let ours = name
                .as_encoded_bytes()
                .starts_with(prefix.as_encoded_bytes());
            if ours && !names.contains(&entry.path()) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    };
    shared
        .keeper
        .runtime
        .blocking(remove)
        .await
        .map_err(unwritten)?
        .map_err(unwritten)
}

fn file_names(
    database: &Path,
) -> impl FnOnce(&Connection) -> JobResult<Vec<PathBuf>> + Send + 'static {
    let database = database.to_owned();
    move |connection| {
        let mut statement = connection.prepare_cached("SELECT collection FROM index_file")?;
        let collections: Vec<i64> = statement
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let mut names = Vec::with_capacity(collections.len());
        for collection in collections {
            if let Some(facts) = read_facts(connection, collection)? {
                names.push(file_path(&database, collection, facts.token));
            }
        }
        Ok(names)
    }
}

/// A row that is not understood counts as none: then the index is built anew.
fn read_facts(connection: &Connection, collection: i64) -> JobResult<Option<Facts>> {
    let facts: Option<String> = connection
        .prepare_cached("SELECT facts FROM index_file WHERE collection = ?1")?
        .query_row([collection], |row| row.get(0))
        .optional()?;
    Ok(facts.and_then(|facts| serde_json::from_str(&facts).ok()))
}

fn write_facts(connection: &Connection, state: &State, facts: &Facts) -> JobResult<()> {
    let facts = serde_json::to_string(facts)
        .map_err(|_| JobError::refused("the facts of an index cannot be written as JSON"))?;
    // Nothing is written for a collection that was dropped meanwhile.
    let written = connection
        .prepare_cached(
            "INSERT OR REPLACE INTO index_file
             SELECT collection, ?2 FROM vector_state WHERE collection = ?1",
        )?
        .execute((state.collection, facts))?;
    if written == 1 {
        Ok(())
    } else {
        Err(JobError::refused("the collection was dropped"))
    }
}

fn file_prefix(database: &Path) -> std::ffi::OsString {
    let mut prefix = database.file_name().unwrap_or_default().to_owned();
    prefix.push("-hnsw-");
    prefix
}

fn file_path(database: &Path, collection: i64, token: u64) -> PathBuf {
    let mut name = file_prefix(database);
    name.push(format!("{collection}-{token:016x}"));
    database.with_file_name(name)
}

/// Length and hash of a file. The hash need not be the same in every release of the standard
/// library: a difference means building anew.
fn digest(path: &Path) -> std::io::Result<(u64, u64)> {
    let mut file = File::open(path)?;
    let mut hasher = DefaultHasher::new();
    let mut buffer = vec![0; 1 << 16];
    let mut bytes = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((bytes, hasher.finish()));
        }
        hasher.write(&buffer[..count]);
        bytes += count as u64;
    }
}

fn unwritten(error: impl std::fmt::Display) -> BackendError {
    BackendError::new(
        BackendErrorKind::Unavailable,
        format!("the file of an index: {error}"),
    )
    .not_applied()
}
