//! Where an example keeps its data.

use std::{
    io,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// A directory the user named, or a temporary one that is removed at the end.
pub(crate) enum DataDirectory {
    Named(PathBuf),
    Temporary(TempDir),
}

impl DataDirectory {
    pub(crate) fn new(named: Option<PathBuf>) -> io::Result<Self> {
        match named {
            Some(path) => {
                std::fs::create_dir_all(&path)?;
                Ok(Self::Named(path))
            }
            None => tempfile::Builder::new()
                .prefix("dbmanager-")
                .tempdir()
                .map(Self::Temporary),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Named(path) => path,
            Self::Temporary(directory) => directory.path(),
        }
    }
}

impl std::fmt::Display for DataDirectory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path().display())?;
        match self {
            Self::Named(_) => Ok(()),
            Self::Temporary(_) => f.write_str(" (temporary; --data DIR keeps it)"),
        }
    }
}
