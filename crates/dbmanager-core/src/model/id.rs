//! 128-bit identities, written as UUIDs.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The text was not a UUID.
#[derive(Clone, Debug, thiserror::Error)]
#[error("not a UUID: {text:?}")]
pub struct ParseIdError {
    text: String,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u128);

        impl $name {
            /// The id with these 128 bits.
            pub const fn from_u128(bits: u128) -> Self {
                Self(bits)
            }

            /// The 128 bits.
            pub const fn as_u128(self) -> u128 {
                self.0
            }

            /// A UUID version 7 (RFC 9562 §5.7): 48 bits of time, then random bits.
            pub fn new_v7(unix_milliseconds: u64, random: [u8; 10]) -> Self {
                let uuid = uuid::Builder::from_unix_timestamp_millis(unix_milliseconds, &random);
                Self(uuid.into_uuid().as_u128())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", uuid::Uuid::from_u128(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                uuid::Uuid::parse_str(text)
                    .map(|uuid| Self(uuid.as_u128()))
                    .map_err(|_| ParseIdError { text: text.to_owned() })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                    text.parse().map_err(de::Error::custom)
                } else {
                    u128::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}

uuid_id! {
    /// The identity of one store: one backend instance with its data. Confirmations belong to it.
    StoreId
}
uuid_id! {
    /// The identity of one journal. A store stamped by another journal is refused.
    JournalId
}
uuid_id! {
    /// The identity of one write operation, a UUID version 7. The caller may choose it beforehand.
    OperationId
}

impl OperationId {
    /// Milliseconds since the Unix epoch at which the id was made (its first 48 bits).
    pub const fn unix_milliseconds(self) -> u64 {
        (self.0 >> 80) as u64
    }
}
