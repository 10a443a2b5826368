//! Storage whose first opening never came to its end.

use std::io;

use super::JournalStorage;

/// What redb writes at the beginning of the first page, and syncs, before it writes any page but
/// the first.
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";
const PAGE: usize = 4_096;
const CHUNK: usize = 1 << 16;

/// Whether there was never a commit: nothing is there, or a first page that is not marked as redb's
/// and beside it only zeros. A crash in the first opening leaves that; the length may be lost, and
/// the mark torn, which is written once the length is durable. A journal with a commit has other
/// pages, so damage to its first page alone does not make it blank, nor does a cut.
pub(super) fn is_blank(storage: &dyn JournalStorage) -> io::Result<bool> {
    let length = storage.len()?;
    let mut beginning = [0; MAGIC.len()];
    let there = beginning
        .len()
        .min(usize::try_from(length).unwrap_or(usize::MAX));
    storage.read(0, &mut beginning[..there])?;
    if length <= PAGE as u64 {
        return Ok(beginning == [0; MAGIC.len()]);
    }
    Ok(beginning != MAGIC && is_zero(storage, PAGE as u64, length)?)
}

fn is_zero(storage: &dyn JournalStorage, from: u64, to: u64) -> io::Result<bool> {
    let mut chunk = vec![0; CHUNK];
    for offset in (from..to).step_by(CHUNK) {
        let chunk = &mut chunk[..CHUNK.min((to - offset) as usize)];
        storage.read(offset, chunk)?;
        if chunk.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}
