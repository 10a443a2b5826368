//! What a writer was about to do and what was acknowledged, outside of what is tested: a file that
//! only grows, every line written in one piece and without a sync. What a killed process has
//! written, the operating system keeps.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
};

use dbmanager::model::{Precondition, Version};
use serde::{Deserialize, Serialize};

/// A write, noted before it is sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Intent {
    /// Its number, which no other write has.
    pub(crate) write: u64,
    pub(crate) writer: usize,
    /// More than one: a batch.
    pub(crate) ids: Vec<String>,
    pub(crate) delete: bool,
    /// Whether it is sent under an idempotency key, so that it can be sent again.
    pub(crate) keyed: bool,
    pub(crate) precondition: Option<Precondition>,
}

/// A line of the ledger.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Line {
    /// This is about to be sent.
    Intent(Intent),
    /// A write that was not acknowledged is about to be sent again under its key.
    Again(u64),
    /// It was acknowledged, with these versions in the order of its ids.
    Acknowledged(u64, Vec<Version>),
    /// It was not acknowledged before a kill; this is what was found of it afterwards.
    Found(u64, Vec<Option<Version>>),
}

/// The open file.
#[derive(Debug)]
pub(crate) struct Ledger(File);

impl Ledger {
    /// Opens it, and reads what it holds.
    pub(crate) fn open(path: &Path) -> Result<(Self, Vec<Line>), Box<dyn std::error::Error>> {
        let named = |error: io::Error| format!("{}: {error}", path.display());
        let mut options = OpenOptions::new();
        let mut file = options
            .create(true)
            .append(true)
            .open(path)
            .map_err(named)?;
        let text = fs::read_to_string(path).map_err(named)?;
        let mut lines = Vec::new();
        for line in text.split_inclusive('\n') {
            match serde_json::from_str(line) {
                Ok(line) => lines.push(line),
                // The write of a killed process may end within the line: what it was about to say
                // was told to nobody. The start after it has ended that line.
                Err(error) if error.is_eof() => {}
                Err(error) => return Err(format!("{}: {error}", path.display()).into()),
            }
        }
        if !text.is_empty() && !text.ends_with('\n') {
            file.write_all(b"\n").map_err(named)?;
        }
        Ok((Self(file), lines))
    }

    /// Appends a line.
    pub(crate) fn write(&self, line: &Line) -> io::Result<()> {
        let line = serde_json::to_string(line)? + "\n";
        (&self.0).write_all(line.as_bytes())
    }
}
