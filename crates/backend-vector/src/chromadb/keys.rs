//! Ids of the records on the server. They say all about a record but its numbers, so that heads and
//! hits are read without their metadata.

use std::sync::Arc;

use dbmanager_core::{
    backend::{Head, Mutation},
    model::{ChunkVector, Passage, Version},
};

/// A head: `<version, 16 hexadecimal digits>.<number of chunks, or deleted>.<id>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeadKey {
    pub(super) version: Version,
    /// Absent: deleted.
    pub(super) chunks: Option<usize>,
    pub(super) id: Arc<str>,
}

impl HeadKey {
    pub(super) fn of(mutation: &Mutation) -> Self {
        Self {
            version: mutation.version,
            chunks: mutation
                .state
                .record()
                .map(|record| record.vectors().vectors.len()),
            id: Arc::clone(&mutation.id),
        }
    }

    pub(super) fn head(&self) -> Head {
        Head {
            version: self.version,
            deleted: self.chunks.is_none(),
        }
    }

    pub(super) fn write(&self) -> String {
        let version = self.version.as_u64();
        match self.chunks {
            Some(chunks) => format!("{version:016x}.{chunks}.{}", self.id),
            None => format!("{version:016x}.deleted.{}", self.id),
        }
    }

    /// The key in this text; `None` if no head has such an id.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.');
        let version = read_version(parts.next()?)?;
        let chunks = match parts.next()? {
            "deleted" => None,
            number => Some(number.parse().ok()?),
        };
        Some(Self {
            version,
            chunks,
            id: parts.next()?.into(),
        })
    }
}

/// A chunk: `<version>.<chunk>.<first byte>-<end>.<id>`; without a passage nothing stands between
/// the dots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChunkKey {
    pub(super) version: Version,
    pub(super) chunk: u32,
    pub(super) passage: Option<Passage>,
    pub(super) id: Arc<str>,
}

impl ChunkKey {
    pub(super) fn new(mutation: &Mutation, vector: &ChunkVector) -> Self {
        Self {
            version: mutation.version,
            chunk: vector.chunk,
            passage: vector.passage,
            id: Arc::clone(&mutation.id),
        }
    }

    pub(super) fn write(&self) -> String {
        let (version, chunk) = (self.version.as_u64(), self.chunk);
        match self.passage {
            Some(Passage { start, end }) => {
                format!("{version:016x}.{chunk}.{start}-{end}.{}", self.id)
            }
            None => format!("{version:016x}.{chunk}..{}", self.id),
        }
    }

    /// The key in this text; `None` if no chunk has such an id.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, '.');
        let version = read_version(parts.next()?)?;
        let chunk = parts.next()?.parse().ok()?;
        let passage = match parts.next()? {
            "" => None,
            range => {
                let (start, end) = range.split_once('-')?;
                Some(Passage {
                    start: start.parse().ok()?,
                    end: end.parse().ok()?,
                })
            }
        };
        Some(Self {
            version,
            chunk,
            passage,
            id: parts.next()?.into(),
        })
    }
}

fn read_version(text: &str) -> Option<Version> {
    let number = u64::from_str_radix(text, 16).ok()?;
    (text.len() == 16).then(|| Version::from_u64(number))
}

/// The highest slot.
pub(super) const MAX_SLOT: i64 = i64::MAX;

/// The place of a document in listings: a number that depends on the id alone, so that pages are
/// ranges of it, whatever is written or deleted between them. FNV-1a (Fowler, Noll, Vo), its bits
/// mixed by the finaliser of MurmurHash3; two ids may share one. Part of the layout.
pub(super) fn slot(id: &str) -> i64 {
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    ((mixed ^ (mixed >> 33)) >> 1) as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Slots are stored: another function would lose every document.
    #[test]
    fn slots_stay_what_they_are() {
        let slots = ["", "a", "b", "doc 1"].map(slot);
        assert!(slots.iter().all(|slot| *slot >= 0));
        assert_eq!(
            slots,
            [
                8_640_173_135_264_257_171,
                4_706_636_184_713_914_157,
                3_977_691_414_227_413_352,
                5_327_346_930_582_107_858
            ]
        );
    }

    #[test]
    fn what_is_no_key_is_not_read() {
        for text in [
            "",
            "a",
            "0.1.a",
            "0000000000000001.x.a",
            "0000000000000001.1",
        ] {
            assert_eq!(HeadKey::read(text), None, "{text}");
            assert_eq!(ChunkKey::read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn keys_come_back(
            id in "\\PC{1,20}|[.0-9-]{1,20}",
            version in any::<u64>(),
            chunks in proptest::option::of(0_usize..20_000),
            chunk in any::<u32>(),
            range in proptest::option::of(any::<(u32, u32)>()),
        ) {
            let version = Version::from_u64(version);
            let id: Arc<str> = id.into();
            let head = HeadKey { version, chunks, id: Arc::clone(&id) };
            prop_assert_eq!(HeadKey::read(&head.write()), Some(head));
            let passage = range.map(|(start, end)| Passage { start, end });
            let key = ChunkKey { version, chunk, passage, id };
            prop_assert_eq!(ChunkKey::read(&key.write()), Some(key));
        }
    }
}
