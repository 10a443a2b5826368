//! Directories that are still there after the power went.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::Path,
};

/// Makes a directory and those above it that are not there, so that none of them is lost with the
/// power: what an embedded store keeps is only as durable as the names that lead to it.
///
/// # Errors
/// Of the operating system; what was made until then stays.
pub fn create_directories(directory: &Path) -> io::Result<()> {
    create_durably(directory, &OnDisk)
}

/// What is done to directories; tests put a disk here that forgets.
pub(crate) trait Directories {
    fn exists(&self, path: &Path) -> bool;
    /// Makes one directory in one that is there.
    fn create(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in it durable.
    fn sync(&self, path: &Path) -> io::Result<()>;
}

/// Those of the operating system.
pub(crate) struct OnDisk;

impl Directories for OnDisk {
    fn exists(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn create(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        if cfg!(unix) {
            File::open(path)?.sync_all()
        } else {
            Ok(())
        }
    }
}

/// Makes the directory and those above it that are not there. Each is durable in the one above it
/// before the next one is made, so that of an attempt that was cut off only the deepest one that is
/// there may not be.
pub(crate) fn create_durably(directory: &Path, directories: &impl Directories) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut there = directory;
    while !directories.exists(there) {
        missing.push(there);
        match above(there) {
            Some(path) => there = path,
            None => break,
        }
    }
    if let Some(path) = above(there) {
        match directories.sync(path) {
            // Whoever may not look into it did not make anything in it.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
                ) => {}
            synced => synced?,
        }
    }
    for path in missing.into_iter().rev() {
        match directories.create(path) {
            // Somebody else was faster; a file of that name is none.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && directories.exists(path) => {}
            created => created?,
        }
        if let Some(path) = above(path) {
            directories.sync(path)?;
        }
    }
    Ok(())
}

/// The directory in which this one has its name.
fn above(path: &Path) -> Option<&Path> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Some(Path::new(".")),
        parent => parent,
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::BTreeMap, path::PathBuf};

    use super::*;

    /// Directories with whether their name is durable, and how many calls succeed before the end.
    struct Simulated {
        names: RefCell<BTreeMap<PathBuf, bool>>,
        calls_left: RefCell<usize>,
    }

    impl Simulated {
        fn new() -> Self {
            let names = ["/", "/data"].map(|path| (path.into(), true));
            Self {
                names: RefCell::new(names.into()),
                calls_left: RefCell::new(usize::MAX),
            }
        }

        fn call(&self) -> io::Result<()> {
            let mut left = self.calls_left.borrow_mut();
            if *left == 0 {
                return Err(io::Error::other("the process ended"));
            }
            *left -= 1;
            Ok(())
        }

        /// Names that are not durable are gone, and with a directory all that is in it.
        fn lose_power(&self) {
            let mut names = self.names.borrow_mut();
            let lost: Vec<PathBuf> = names
                .iter()
                .filter(|(_, durable)| !**durable)
                .map(|(path, _)| path.clone())
                .collect();
            names.retain(|path, _| !lost.iter().any(|gone| path.starts_with(gone)));
        }

        /// An attempt that ends after so many calls; whether it came to its end before.
        fn attempt(&self, calls: usize) -> bool {
            *self.calls_left.borrow_mut() = calls;
            create_durably(Path::new("/data/a/b/journal"), self).is_ok()
        }
    }

    impl Directories for Simulated {
        fn exists(&self, path: &Path) -> bool {
            self.names.borrow().contains_key(path)
        }

        fn create(&self, path: &Path) -> io::Result<()> {
            self.call()?;
            assert!(self.exists(path.parent().unwrap()), "{path:?} has no place");
            self.names.borrow_mut().entry(path.into()).or_insert(false);
            Ok(())
        }

        fn sync(&self, path: &Path) -> io::Result<()> {
            self.call()?;
            for (name, durable) in self.names.borrow_mut().iter_mut() {
                *durable |= name.parent() == Some(path);
            }
            Ok(())
        }
    }

    /// Every point at which the process or the power can go in a first and a second attempt.
    #[test]
    fn a_directory_that_was_made_is_there_after_the_power_went() {
        let mut points = 0;
        for (first, second) in (0..9).flat_map(|first| (0..9).map(move |second| (first, second))) {
            for power in [[false, false], [true, false], [false, true], [true, true]] {
                let disk = Simulated::new();
                for (calls, power) in [first, second].into_iter().zip(power) {
                    let made = disk.attempt(calls);
                    if power {
                        disk.lose_power();
                    }
                    assert!(!made || disk.exists(Path::new("/data/a/b/journal")));
                }
                assert!(disk.attempt(usize::MAX));
                disk.lose_power();
                assert!(disk.exists(Path::new("/data/a/b/journal")));
                points += 1;
            }
        }
        assert_eq!(points, 324);
    }

    /// The check on the test above: a directory that was only made is lost.
    #[test]
    fn a_directory_whose_name_was_not_synced_is_lost() {
        let disk = Simulated::new();
        for path in ["/data/a", "/data/a/b", "/data/a/b/journal"] {
            disk.create(Path::new(path)).unwrap();
        }
        disk.sync(Path::new("/data/a/b/journal")).unwrap();
        disk.lose_power();
        assert!(!disk.exists(Path::new("/data/a")));
    }

    #[test]
    fn a_relative_directory_is_made_in_the_current_one() {
        assert_eq!(above(Path::new("journal")), Some(Path::new(".")));
        assert_eq!(above(Path::new("/")), None);
    }
}
