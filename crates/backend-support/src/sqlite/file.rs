//! The files of a database and the lock on them.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
};

use dbmanager_core::backend::{BackendError, BackendErrorKind, BackendResult, create_directories};

/// Held while the file is open here; the operating system lets go of it when it is dropped, also
/// after a crash. The lock file itself stays: removing it would let two processes lock two files.
#[derive(Debug)]
pub(super) struct FileLock {
    _file: File,
}

/// Creates the directory of `path`, durably, and locks the file `<path>.lock` beside it. Returns the path
/// with its links followed, so that two links to one file meet at one lock.
pub(super) fn lock(path: &Path) -> BackendResult<(PathBuf, FileLock)> {
    let absolute = std::path::absolute(path)
        .map_err(|error| unavailable("cannot find the file", path, error))?;
    if let Some(directory) = absolute.parent() {
        create_directories(directory)
            .map_err(|error| unavailable("cannot create the directory", directory, error))?;
    }
    let path = resolved(&absolute);
    let lock_path = lock_path(&path);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path)
        .map_err(|error| unavailable("cannot open the lock file", &lock_path, error))?;
    match file.try_lock() {
        Ok(()) => Ok((path, FileLock { _file: file })),
        Err(TryLockError::WouldBlock) => Err(BackendError::new(
            BackendErrorKind::Locked,
            format!("another process holds the file {}", path.display()),
        )
        .not_applied()),
        Err(TryLockError::Error(error)) => {
            Err(unavailable("cannot lock the file", &lock_path, error))
        }
    }
}

/// The path with links followed as far as it exists.
pub(super) fn resolved(path: &Path) -> PathBuf {
    if let Ok(path) = path.canonicalize() {
        return path;
    }
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => resolved(parent).join(name),
        _ => absolute,
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn unavailable(what: &str, path: &Path, error: std::io::Error) -> BackendError {
    BackendError::new(
        BackendErrorKind::Unavailable,
        format!("{what} {}: {error}", path.display()),
    )
    .not_applied()
    .with_source(error)
}
