//! The bytes of records, as properties: a record reads back as it was written, and anything else
//! is refused.

use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::{
    backend::DocumentState,
    journal::{
        EntryKind, ParkedEntry, RosterRecord,
        embedded::codec::{self, StoredHeader, StoredKey, StoredOperation},
    },
    model::{Collection, Passage},
};

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..most)
}

fn finite() -> impl Strategy<Value = f32> {
    any::<f32>().prop_filter("finite", |number| number.is_finite())
}

fn metadata() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|members| json!(members)),
        ]
    })
}

fn vectors() -> impl Strategy<Value = VectorSet> {
    let vector = (
        any::<u32>(),
        any::<Option<(u32, u32)>>(),
        prop::collection::vec(finite(), 1..5),
    );
    let vectors = prop::collection::vec(vector, 0..4);
    (any::<Option<[u8; 32]>>(), vectors).prop_map(|(text_hash, vectors)| VectorSet {
        origin: VectorOrigin::Caller,
        text_hash,
        vectors: vectors
            .into_iter()
            .map(|(chunk, passage, values)| ChunkVector {
                chunk,
                passage: passage.map(|(start, end)| Passage { start, end }),
                values,
            })
            .collect(),
    })
}

prop_compose! {
    fn any_record()(
        id in any::<String>(),
        text in any::<String>(),
        value in metadata(),
        vectors in vectors(),
    ) -> DocumentRecord {
        let document = Document::new(id).text(text).metadata("value", value);
        DocumentRecord::new(document, vectors).unwrap()
    }
}

/// A change of a record that is one: no two of them are the same bytes.
#[derive(Clone, Debug)]
enum Damage {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Longer(Vec<u8>),
}

impl Damage {
    fn apply(&self, record: &mut Vec<u8>) {
        match self {
            Damage::Flip(place, bit) => {
                let place = place.index(record.len());
                record[place] ^= 1 << bit;
            }
            Damage::Cut(length) => record.truncate(length.index(record.len())),
            Damage::Longer(more) => record.extend(more),
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (any::<prop::sample::Index>(), 0_u8..8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        2 => any::<prop::sample::Index>().prop_map(Damage::Cut),
        1 => prop::collection::vec(any::<u8>(), 1..9).prop_map(Damage::Longer),
    ]
}

fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> bool {
    codec::decode::<T>("table", b"key", bytes).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_record_reads_back_and_no_other_bytes_do(
        table in any::<String>(),
        key in bytes(40),
        content in bytes(200),
        damage in damage(),
        other_key in bytes(40),
    ) {
        let record = codec::seal(&table, &key, &content);
        prop_assert_eq!(codec::unseal(&table, &key, &record).unwrap(), &content[..]);

        let mut damaged = record.clone();
        damage.apply(&mut damaged);
        let failure = codec::unseal(&table, &key, &damaged).unwrap_err();
        prop_assert!(failure.damaged && failure.message.starts_with("record "));

        if other_key != key {
            prop_assert!(codec::unseal(&table, &other_key, &record).is_err());
        }
        let other_table = table + "s";
        prop_assert!(codec::unseal(&other_table, &key, &record).is_err());
    }

    /// What lies between table and key, or key and content, must not be movable.
    #[test]
    fn the_parts_of_a_record_do_not_run_into_each_other(
        whole in prop::collection::vec(b'a'..=b'c', 3..12),
        first in any::<prop::sample::Index>(),
        further in any::<prop::sample::Index>(),
    ) {
        let first = first.index(whole.len());
        let second = (first + 1 + further.index(whole.len() - 1)) % whole.len();
        let record = codec::seal("table", &whole[..first], &whole[first..]);
        let mut moved = record[..codec::SEAL_BYTES].to_vec();
        moved.extend(&whole[second..]);
        prop_assert!(codec::unseal("table", &whole[..second], &moved).is_err());
    }

    #[test]
    fn a_format_number_reads_back_and_no_other_bytes_do(
        number in any::<u32>(),
        damage in damage(),
        garbage in bytes(20),
    ) {
        let record = codec::encode_format(number);
        prop_assert_eq!(codec::decode_format(&record), Some(number));
        let mut damaged = record;
        damage.apply(&mut damaged);
        prop_assert_eq!(codec::decode_format(&damaged), None);
        prop_assert_eq!(codec::decode_format(&garbage), None);
    }

    #[test]
    fn a_document_reads_back(record in any_record()) {
        let content = codec::encode_content(&record).unwrap();
        let state = codec::decode_content("contents", b"key", &content).unwrap();
        let DocumentState::Live(found) = state else {
            panic!("a document became a tombstone");
        };
        prop_assert_eq!(&*found, &record);
        prop_assert_eq!(found.canonical(), record.canonical());
    }

    /// The checksum keeps damage away from the decoders; what gets through all the same, as from
    /// another program, is refused.
    #[test]
    fn no_content_makes_a_decoder_panic(
        garbage in bytes(300),
        record in any_record(),
        damage in damage(),
    ) {
        let mut content = codec::encode_content(&record).unwrap();
        damage.apply(&mut content);
        for bytes in [&garbage, &content] {
            let document = codec::decode_content("contents", b"key", bytes);
            if let Err(failure) = document {
                prop_assert!(failure.damaged);
            }
            let known = [
                decoded::<StoredHeader>(bytes),
                decoded::<StoredOperation>(bytes),
                decoded::<StoredKey>(bytes),
                decoded::<ParkedEntry>(bytes),
                codec::decode_json::<Collection>("table", b"key", bytes).is_ok(),
                codec::decode_json::<RosterRecord>("table", b"key", bytes).is_ok(),
            ];
            prop_assert!(!known[4] && !known[5], "bytes that are no JSON object");
        }
    }

    #[test]
    fn a_header_reads_back(
        operation in any::<u128>(),
        name in any::<String>(),
        generation in any::<u64>(),
        id in any::<String>(),
        kind in prop::sample::select(vec![EntryKind::Upsert, EntryKind::Delete, EntryKind::DropCollection]),
        appended_at in any::<i64>(),
        content_bytes in 0_u64..1 << 40,
        key in any::<Option<[u8; 32]>>(),
        version in any::<u64>(),
    ) {
        let collection = CollectionKey::new(name.as_str(), generation);
        let id: Arc<str> = id.as_str().into();
        let stored = StoredHeader {
            operation_id: OperationId::from_u128(operation),
            collection: collection.clone(),
            id: id.clone(),
            kind,
            appended_at,
            content_bytes,
        };
        let bytes = codec::encode(&stored).unwrap();
        let found: StoredHeader = codec::decode("headers", b"key", &bytes).unwrap();
        let header = |stored: StoredHeader| stored.into_header(Version::from_u64(version), 7);
        prop_assert_eq!(header(found), header(stored));

        let stored = StoredOperation::Accepted {
            version: Version::from_u64(version),
            collection,
            id,
            key,
        };
        let bytes = codec::encode(&stored).unwrap();
        let found: StoredOperation = codec::decode("operations", b"key", &bytes).unwrap();
        prop_assert_eq!(codec::encode(&found).unwrap(), bytes);
    }
}
