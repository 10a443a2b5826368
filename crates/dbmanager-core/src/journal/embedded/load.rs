//! Entries by their versions.

use redb::{AccessGuard, Range};

use super::{
    super::{Entry, EntryKind},
    codec,
    failure::Failure,
    tables::{ReadTable, Records, Tables, decode_header, version_key},
};
use crate::{backend::DocumentState, model::Version};

/// Records that are passed over one by one before the table is searched again. A search reads a
/// page of each level of the tree, so it is worth as much as several neighbours.
const MOST_PASSED_OVER: usize = 8;

/// The entries of these versions, in the order of the versions; `None` where there is none.
pub(super) fn load(
    tables: &Tables<ReadTable>,
    versions: &[Version],
) -> Result<Vec<Option<Entry>>, Failure> {
    let mut order: Vec<usize> = (0..versions.len()).collect();
    order.sort_by_key(|index| versions[*index]);
    let mut headers = Rising::new(&tables.headers);
    let mut contents = Rising::new(&tables.contents);
    let mut entries = vec![None; versions.len()];
    for index in order {
        entries[index] = load_entry(&mut headers, &mut contents, versions[index])?;
    }
    Ok(entries)
}

fn load_entry(
    headers: &mut Rising<'_>,
    contents: &mut Rising<'_>,
    version: Version,
) -> Result<Option<Entry>, Failure> {
    let key = version_key(version);
    let header = headers.get(&key, |table, content| {
        decode_header(table, version, content)
    })?;
    let Some(header) = header else {
        return Ok(None);
    };
    let state = if header.kind == EntryKind::Upsert {
        let content = contents.get(&key, |table, content| {
            codec::decode_content(table, &key, content)
        })?;
        content.ok_or_else(|| Failure::damaged(format!("entry {version} has no content")))?
    } else {
        DocumentState::Deleted
    };
    Ok(Some(Entry { header, state }))
}

/// Records of one table by rising keys. What is read together was mostly written together and lies
/// side by side, so that each page is read once, and not once for each of its records.
struct Rising<'a> {
    records: &'a Records<ReadTable>,
    /// What comes after `next`; absent before the first search.
    range: Option<Range<'a, &'static [u8], &'static [u8]>>,
    /// The record that was read last.
    next: Option<Record<'a>>,
}

type Record<'a> = (
    AccessGuard<'a, &'static [u8]>,
    AccessGuard<'a, &'static [u8]>,
);

impl<'a> Rising<'a> {
    fn new(records: &'a Records<ReadTable>) -> Self {
        Self {
            records,
            range: None,
            next: None,
        }
    }

    /// What `read` makes of the table's name and the content under the key, which is not below any
    /// key that was asked for before.
    fn get<T>(
        &mut self,
        key: &[u8],
        read: impl FnOnce(&str, &[u8]) -> Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        self.advance(key)?;
        match &self.next {
            Some((found, record)) if found.value() == key => {
                let name = self.records.name();
                let content = codec::unseal(name, key, record.value())?;
                read(name, content).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Reads on to the first record that is not below the key.
    fn advance(&mut self, key: &[u8]) -> Result<(), Failure> {
        for _ in 0..MOST_PASSED_OVER {
            match &self.next {
                Some((found, _)) if found.value() < key => {}
                Some(_) => return Ok(()),
                None => break,
            }
            let Some(range) = &mut self.range else { break };
            self.next = range.next().transpose()?;
        }
        if self
            .next
            .as_ref()
            .is_none_or(|(found, _)| found.value() < key)
        {
            let mut range = self.records.range_from(key)?;
            self.next = range.next().transpose()?;
            self.range = Some(range);
        }
        Ok(())
    }
}
