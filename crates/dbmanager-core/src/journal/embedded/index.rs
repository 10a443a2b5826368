//! What the journal knows of its live entries without reading them: the versions of each id, and
//! how much they take. Rebuilt at every open.

use std::collections::HashMap;

use super::super::{EntryHeader, EntryKind};
use crate::{backend::Head, model::Version};

/// Live versions by collection and id. Costs about 60 bytes and the id per document.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// By generation, which no two collections of a journal share.
    collections: HashMap<u64, HashMap<Box<str>, Versions>>,
    entries: u64,
    bytes: u64,
}

/// A version with a mark for a tombstone, in 8 bytes: versions leave the highest bit free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packed(u64);

const DELETED: u64 = 1 << 63;

impl Packed {
    fn new(version: Version, deleted: bool) -> Self {
        Self(version.as_u64() | if deleted { DELETED } else { 0 })
    }

    fn head(self) -> Head {
        Head {
            version: Version::from_u64(self.0 & !DELETED),
            deleted: self.0 & DELETED != 0,
        }
    }
}

/// The live versions of one id, ascending; nearly always one.
#[derive(Debug)]
enum Versions {
    One(Packed),
    Many(Vec<Packed>),
}

impl Versions {
    fn newest(&self) -> Option<Packed> {
        match self {
            Versions::One(only) => Some(*only),
            Versions::Many(all) => all.last().copied(),
        }
    }

    fn push(&mut self, newest: Packed) {
        match self {
            Versions::One(only) => *self = Versions::Many(vec![*only, newest]),
            Versions::Many(all) => all.push(newest),
        }
    }

    /// Removes a version; whether none is left.
    fn remove(&mut self, version: Version) -> bool {
        match self {
            Versions::One(only) => only.head().version == version,
            Versions::Many(all) => {
                all.retain(|packed| packed.head().version != version);
                if let [only] = all[..] {
                    *self = Versions::One(only);
                    return false;
                }
                all.is_empty()
            }
        }
    }
}

impl Index {
    /// Live entries.
    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    /// Bytes of live entries.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The newest live entry of an id.
    pub(super) fn newest(&self, generation: u64, id: &str) -> Option<Head> {
        let versions = self.collections.get(&generation)?.get(id)?;
        versions.newest().map(Packed::head)
    }

    /// Adds an entry that is newer than all others.
    pub(super) fn insert(&mut self, header: &EntryHeader) {
        self.entries += 1;
        self.bytes += header.bytes;
        if header.kind == EntryKind::DropCollection {
            return;
        }
        let packed = Packed::new(header.version, header.kind == EntryKind::Delete);
        let collection = self
            .collections
            .entry(header.collection.generation)
            .or_default();
        match collection.get_mut(&*header.id) {
            Some(versions) => versions.push(packed),
            None => {
                collection.insert((&*header.id).into(), Versions::One(packed));
            }
        }
    }

    /// Takes an entry out that is there.
    pub(super) fn remove(&mut self, header: &EntryHeader) {
        self.entries = self.entries.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(header.bytes);
        let generation = header.collection.generation;
        let Some(collection) = self.collections.get_mut(&generation) else {
            return;
        };
        if let Some(versions) = collection.get_mut(&*header.id)
            && versions.remove(header.version)
        {
            collection.remove(&*header.id);
        }
        if collection.is_empty() {
            self.collections.remove(&generation);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{CollectionKey, OperationId, Timestamp};

    fn header(version: u64, generation: u64, id: &str, kind: EntryKind) -> EntryHeader {
        EntryHeader {
            version: Version::from_u64(version),
            operation_id: OperationId::from_u128(u128::from(version)),
            collection: CollectionKey::new("c", generation),
            id: id.into(),
            kind,
            bytes: 10 + version,
            appended_at: Timestamp::default(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Against a plain map of all live entries, whatever the order of removal.
        #[test]
        fn newest_is_that_of_all_live_entries(
            steps in proptest::collection::vec((any::<bool>(), 0_u64..2, 0_u64..3, 0_usize..3, any::<prop::sample::Index>()), 1..60)
        ) {
            let mut index = Index::default();
            let mut model: BTreeMap<u64, EntryHeader> = BTreeMap::new();
            for (number, (add, generation, id, kind, pick)) in steps.into_iter().enumerate() {
                if add || model.is_empty() {
                    let kind = [EntryKind::Upsert, EntryKind::Delete, EntryKind::DropCollection][kind];
                    let id = if kind == EntryKind::DropCollection { String::new() } else { id.to_string() };
                    let entry = header(number as u64 + 1, generation, &id, kind);
                    index.insert(&entry);
                    model.insert(number as u64 + 1, entry);
                } else {
                    let version = *pick.get(&model.keys().copied().collect::<Vec<_>>());
                    index.remove(&model.remove(&version).unwrap());
                }
                prop_assert_eq!(index.entries(), model.len() as u64);
                prop_assert_eq!(index.bytes(), model.values().map(|e| e.bytes).sum::<u64>());
                for generation in 0..2 {
                    for id in ["0", "1", "2"] {
                        let expected = model.values().rev().find(|e| {
                            e.collection.generation == generation && &*e.id == id
                        });
                        let found = index.newest(generation, id);
                        prop_assert_eq!(
                            found,
                            expected.map(|e| Head { version: e.version, deleted: e.kind == EntryKind::Delete })
                        );
                    }
                }
            }
        }
    }
}
