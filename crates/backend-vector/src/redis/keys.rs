//! The names of what is stored. Every key begins with `{namespace}`, a hash tag: all keys of a
//! store are in one slot of a cluster, so that one script may touch them.

use std::fmt::Write;

use dbmanager_core::model::CollectionKey;

/// The keys that a store has once.
#[derive(Clone, Debug)]
pub(super) struct StoreKeys {
    /// `{namespace}:`
    prefix: String,
    /// Hash: layout, engine and stamp.
    pub(super) store: String,
    /// Hash: collection → its name, generation and options as JSON.
    pub(super) collections: String,
    /// Hash: collection → the highest version it holds.
    pub(super) highest: String,
    /// Set: collections that were dropped and are not yet swept.
    pub(super) dropped: String,
    /// String: written to have something to wait for.
    pub(super) sync: String,
}

impl StoreKeys {
    pub(super) fn new(namespace: &str) -> Self {
        let prefix = format!("{{{namespace}}}:");
        let key = |name: &str| format!("{prefix}{name}");
        Self {
            store: key("store"),
            collections: key("collections"),
            highest: key("highest"),
            dropped: key("dropped"),
            sync: key("sync"),
            prefix,
        }
    }

    pub(super) fn collection(&self, key: &CollectionKey) -> CollectionKeys {
        let name = format!("{}:{}", key.generation, encode(&key.name));
        let index = format!("{}{name}", self.prefix);
        CollectionKeys {
            ids: format!("{index}:ids"),
            odd: format!("{index}:odd"),
            vectors: format!("{index}:vectors"),
            document: format!("{index}:d:"),
            chunk: format!("{index}:v:"),
            index,
            name,
        }
    }
}

/// The keys of one generation of a collection.
#[derive(Clone, Debug)]
pub(super) struct CollectionKeys {
    /// Generation and encoded name: the field in the hashes of the store.
    pub(super) name: String,
    /// The query engine's index.
    pub(super) index: String,
    /// Sorted set of every id, tombstones included, by bytes.
    pub(super) ids: String,
    /// Set of the ids that have vectors outside the index.
    pub(super) odd: String,
    /// The vector set.
    pub(super) vectors: String,
    /// Before an id: the document's hash.
    document: String,
    /// Before a chunk's number, a colon and an id: the hash that the query engine indexes.
    pub(super) chunk: String,
}

impl CollectionKeys {
    pub(super) fn document(&self, id: &str) -> String {
        format!("{}{id}", self.document)
    }
}

/// The name with everything but letters, digits, `_`, `-` and `.` as `%` and two hexadecimal
/// digits, so that a colon ends it.
fn encode(name: &str) -> String {
    name.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"_-.".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(encoded, "%{byte:02x}");
        }
        encoded
    })
}

/// A number as text whose order is the number's: Lua's numbers are `f64` and would make
/// neighbours equal.
pub(super) fn ordered(number: u64) -> String {
    format!("{number:016x}")
}

/// The number that [`ordered`] wrote.
pub(super) fn from_ordered(text: &str) -> Option<u64> {
    (text.len() == 16)
        .then(|| u64::from_str_radix(text, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_key_has_the_hash_tag() {
        let store = StoreKeys::new("a.b");
        let keys = store.collection(&CollectionKey::new("x:} {y", 7));
        assert_eq!(keys.name, "7:x%3a%7d%20%7by");
        for key in [
            &store.store,
            &store.sync,
            &keys.ids,
            &keys.document("{i}"),
            &keys.index,
        ] {
            assert!(key.starts_with("{a.b}:"), "{key}");
        }
    }

    proptest! {
        #[test]
        fn names_stay_apart(a in "\\PC{1,8}", b in "\\PC{1,8}") {
            prop_assert_eq!(a == b, encode(&a) == encode(&b));
            prop_assert!(!encode(&a).contains(':'));
        }

        #[test]
        fn order_is_kept(a: u64, b: u64) {
            prop_assert_eq!(a.cmp(&b), ordered(a).cmp(&ordered(b)));
            prop_assert_eq!(from_ordered(&ordered(a)), Some(a));
        }
    }
}
