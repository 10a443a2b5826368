//! Names of collections on the server.
//!
//! The server takes 3 to 512 of `[a-zA-Z0-9._-]`, the first and last a letter or digit, without
//! two dots in a row. Ours are `<prefix><kind><generation>-<name>`: the kind is one letter, and the
//! name has every byte but letters, digits and inner `_` as `.` and two hexadecimal digits, or, if
//! that is too long, is `.B` and its base 32. A hyphen stands only behind the generation, so two
//! stores whose prefixes begin alike never mean the same name.

use dbmanager_core::model::CollectionKey;

/// The longest name of a collection that is always held: 408 digits of base 32, a prefix of 64 and
/// a generation of 20 are within 512.
pub(super) const MAX_NAME_BYTES: usize = 255;

const MAX_ESCAPED_BYTES: usize = 408;

/// What a collection on the server is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One record for each chunk of each document.
    Vectors,
    /// One record for each document and version.
    Heads,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Kind::Vectors => "vectors",
            Kind::Heads => "heads",
        }
    }

    fn letter(self) -> char {
        match self {
            Kind::Vectors => 'v',
            Kind::Heads => 'h',
        }
    }
}

/// The name on the server of one of a collection's two.
pub(super) fn physical(prefix: &str, kind: Kind, key: &CollectionKey) -> String {
    format!(
        "{prefix}{}{}-{}",
        kind.letter(),
        key.generation,
        encode(&key.name)
    )
}

/// The name on the server of the collection that holds the stamp.
pub(super) fn stamp(prefix: &str) -> String {
    format!("{prefix}s0-stamp")
}

fn encode(name: &str) -> String {
    let bytes = name.as_bytes();
    let mut escaped = String::with_capacity(bytes.len());
    for (index, byte) in bytes.iter().enumerate() {
        let inner = index + 1 < bytes.len();
        if byte.is_ascii_alphanumeric() || (*byte == b'_' && inner) {
            escaped.push(char::from(*byte));
        } else {
            escaped.push_str(&format!(".{byte:02x}"));
        }
    }
    if escaped.len() <= MAX_ESCAPED_BYTES {
        escaped
    } else {
        // The digits above are lower-case, so `.B` begins no other name.
        format!(".B{}", base32(bytes))
    }
}

/// Base 32 in lower case without padding (RFC 4648 §6).
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    bytes
        .chunks(5)
        .flat_map(|group| {
            let bits = (0..5).fold(0_u64, |bits, index| {
                bits << 8 | u64::from(group.get(index).copied().unwrap_or_default())
            });
            let digits = (group.len() * 8).div_ceil(5);
            (0..digits).map(move |place| (bits >> (35 - 5 * place)) & 31)
        })
        .map(|digit| char::from(ALPHABET[digit as usize]))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn held(name: &str) -> bool {
        let alphanumeric = |c: char| c.is_ascii_alphanumeric();
        (3..=512).contains(&name.len())
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
            && name.starts_with(alphanumeric)
            && name.ends_with(alphanumeric)
            && !name.contains("..")
    }

    #[test]
    fn names_can_be_read() {
        let name = |text: &str| physical("veritas_", Kind::Heads, &CollectionKey::new(text, 7));
        assert_eq!(name("my_papers"), "veritas_h7-my_papers");
        assert_eq!(name("a/b_"), "veritas_h7-a.2fb.5f");
        assert_eq!(base32(b"foobar"), "mzxw6ytboi");
    }

    #[test]
    fn the_longest_are_held() {
        let prefix = "p".repeat(64);
        for name in ["\u{1}".repeat(255), "n".repeat(255), "é".repeat(127)] {
            let key = CollectionKey::new(name, u64::MAX);
            let physical = physical(&prefix, Kind::Vectors, &key);
            assert!(held(&physical), "{physical}");
        }
    }

    /// Two stores with prefixes that begin alike: a name of one is never a name of the other.
    #[test]
    fn prefixes_that_begin_alike_share_no_name() {
        let mut seen = HashMap::new();
        for prefix in ["a", "ah", "ah1", "ah1-", "a_", "ah1-h1-", "as0-"] {
            assert!(seen.insert(stamp(prefix), (prefix, None)).is_none());
            for name in ["x", "h1-x", "1-x", "-x", "stamp", "h1-h1-x", "s0-stamp"] {
                for generation in [0, 1, 11] {
                    for kind in [Kind::Heads, Kind::Vectors] {
                        let key = CollectionKey::new(name, generation);
                        let physical = physical(prefix, kind, &key);
                        assert!(held(&physical), "{physical}");
                        let before = seen.insert(physical, (prefix, Some((kind, key))));
                        assert!(before.is_none(), "{before:?}");
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn every_name_is_held_and_its_own(a in "\\PC{1,80}|[ -~]{1,255}", b in "\\PC{1,80}") {
            prop_assume!(a.len() <= MAX_NAME_BYTES && b.len() <= MAX_NAME_BYTES);
            let physical = "p_".to_owned() + &encode(&a);
            prop_assert!(held(&physical));
            prop_assert_eq!(a == b, encode(&a) == encode(&b));
        }
    }
}
