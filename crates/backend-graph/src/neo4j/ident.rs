//! Names that stand in statements: everything else goes to the server as a parameter.

use std::fmt;

use dbmanager_core::backend::{BackendError, BackendErrorKind, BackendResult};

/// The most characters of a namespace. Neo4j itself takes 65,534 for a name.
const MAX_CHARACTERS: usize = 63;

/// A name that may stand in a statement as it is: an ASCII letter, then ASCII letters, digits and
/// underscores. Nothing else can be made into one, so no statement can be changed by a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ident(String);

impl Ident {
    /// # Errors
    /// `Config`, naming the key `namespace`.
    pub(super) fn new(name: &str) -> BackendResult<Self> {
        let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic());
        let goes_on_well = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if starts_well && goes_on_well && name.len() <= MAX_CHARACTERS {
            return Ok(Self(name.to_owned()));
        }
        Err(BackendError::new(
            BackendErrorKind::Config,
            format!(
                "\"namespace\" is {name:?}; it must start with a letter and go on with at most \
                 {} ASCII letters, digits and underscores",
                MAX_CHARACTERS - 1
            ),
        )
        .not_applied())
    }

    /// The name with a suffix of ours behind it.
    fn with(&self, suffix: &'static str) -> Self {
        Self(format!("{}_{suffix}", self.0))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The labels and the names of constraints and indexes of one namespace. No suffix has an
/// underscore in it, so no two namespaces share a name.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) namespace: Ident,
    /// The one node with layout, stamp and the counter of collections.
    pub(super) store: Ident,
    /// What a write locks, see the module's page.
    pub(super) lane: Ident,
    /// A collection.
    pub(super) collection: Ident,
    /// A document or its tombstone.
    pub(super) document: Ident,
    /// What references lead to, whether or not there is such a document.
    pub(super) target: Ident,
    pub(super) store_number: Ident,
    pub(super) lane_number: Ident,
    pub(super) collection_key: Ident,
    pub(super) document_key: Ident,
    pub(super) target_key: Ident,
    pub(super) document_version: Ident,
    pub(super) titles: Ident,
}

impl Names {
    pub(super) fn new(namespace: Ident) -> Self {
        Self {
            store: namespace.with("Store"),
            lane: namespace.with("Lane"),
            collection: namespace.with("Collection"),
            document: namespace.with("Document"),
            target: namespace.with("Target"),
            store_number: namespace.with("storeNumber"),
            lane_number: namespace.with("laneNumber"),
            collection_key: namespace.with("collectionKey"),
            document_key: namespace.with("documentKey"),
            target_key: namespace.with("targetKey"),
            document_version: namespace.with("documentVersion"),
            titles: namespace.with("titles"),
            namespace,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_identifiers() {
        for name in ["a", "Veritas", "veritas_2", "a__b", &"x".repeat(63)] {
            assert_eq!(Ident::new(name).unwrap().as_str(), name);
        }
        for name in [
            "",
            "_a",
            "1a",
            "a-b",
            "a b",
            "a`b",
            "a:b",
            "ä",
            "a\n",
            "a) DETACH DELETE (n",
            &"x".repeat(64),
        ] {
            let error = Ident::new(name).unwrap_err();
            assert_eq!(error.kind(), BackendErrorKind::Config, "{name:?}");
            assert!(error.message().contains("\"namespace\""), "{error}");
        }
    }

    #[test]
    fn namespaces_share_no_names() {
        let (short, long) = (
            Names::new(Ident::new("a").unwrap()),
            Names::new(Ident::new("a_Document").unwrap()),
        );
        assert_ne!(short.document, long.document);
        assert_eq!(short.document.as_str(), "a_Document");
        assert_eq!(long.store.as_str(), "a_Document_Store");
    }
}
