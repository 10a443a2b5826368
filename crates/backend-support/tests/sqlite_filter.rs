//! The compiled filter against the filter's meaning.
#![cfg(feature = "sqlite")]
// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

use std::collections::BTreeSet;

use dbmanager_backend_support::sqlite::{JobError, fields, filter};
use dbmanager_core::{
    backend::BackendErrorKind,
    model::{Comparison, Document, Field, Filter, Scalar, Timestamp, field},
};
use proptest::prelude::*;
use rusqlite::{Connection, params_from_iter};
use serde_json::{Value, json};

const COLLECTION: i64 = 7;

fn index(documents: &[Document]) -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(fields::SCHEMA).unwrap();
    connection
        .execute_batch("CREATE TABLE document (key INTEGER PRIMARY KEY)")
        .unwrap();
    for (key, document) in documents.iter().enumerate() {
        let key = key as i64;
        connection
            .execute("INSERT INTO document VALUES (?1)", [key])
            .unwrap();
        fields::insert(&connection, COLLECTION, key, document).unwrap();
        // The same in another collection must not show.
        fields::insert(&connection, COLLECTION + 1, key + 1_000_000, document).unwrap();
    }
    connection
}

fn found(connection: &Connection, filter: &Filter) -> BTreeSet<usize> {
    let condition = filter::compile(filter, COLLECTION, "document.key", 2).unwrap();
    let sql = format!(
        "SELECT key FROM document WHERE key >= ?1 AND {}",
        condition.sql
    );
    let mut statement = connection.prepare(&sql).unwrap();
    let parameters =
        std::iter::once(rusqlite::types::Value::Integer(0)).chain(condition.parameters);
    statement
        .query_map(params_from_iter(parameters), |row| row.get::<_, i64>(0))
        .unwrap()
        .map(|key| key.unwrap() as usize)
        .collect()
}

fn expected(documents: &[Document], filter: &Filter) -> BTreeSet<usize> {
    documents
        .iter()
        .enumerate()
        .filter(|(_, document)| filter.matches(document))
        .map(|(key, _)| key)
        .collect()
}

const TWO_TO_53: i64 = 1 << 53;

fn integer() -> impl Strategy<Value = i64> {
    prop_oneof![
        -2_i64..3,
        Just(TWO_TO_53),
        Just(TWO_TO_53 + 1),
        Just(i64::MAX),
        Just(i64::MIN)
    ]
}

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(-0.0),
        Just(0.5),
        Just(1.0),
        Just(-1.5),
        Just(TWO_TO_53 as f64),
        Just(9.223_372_036_854_776e18),
        Just(1e300),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("a".to_owned()),
        Just("A".to_owned()),
        Just("a ".to_owned()),
        Just("1".to_owned()),
        Just("true".to_owned()),
        Just("é".to_owned()),
        Just("e\u{301}".to_owned()),
        Just("'; DROP TABLE field; --\"]".to_owned()),
        Just("🦀\u{10ffff}".to_owned()),
        Just("x".repeat(20_000)),
        Just(format!("{}y", "x".repeat(20_000))),
    ]
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("a".to_owned()),
        Just("b".to_owned()),
        Just("title".to_owned()),
        Just("a.b".to_owned()),
        Just("\",\"".to_owned()),
        Just(String::new()),
    ]
}

fn single() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        integer().prop_map(Value::from),
        Just(json!(u64::MAX)),
        float().prop_map(Value::from),
        text().prop_map(Value::from),
    ]
}

fn json_value() -> impl Strategy<Value = Value> {
    single().prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map(key(), inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn document() -> impl Strategy<Value = Document> {
    (
        text(),
        text(),
        proptest::option::of(text()),
        proptest::option::of(-2_i64..3),
        proptest::option::of(text()),
        proptest::collection::btree_map(key(), json_value(), 0..4),
    )
        .prop_map(
            |(id, title, document_type, created_at, file_path, metadata)| {
                let mut document = Document::new(id).title(title);
                document.document_type = document_type;
                document.created_at = created_at.map(Timestamp::from_unix_milliseconds);
                document.file_path = file_path;
                document.metadata = metadata.into_iter().collect();
                document
            },
        )
}

fn any_field() -> impl Strategy<Value = Field> {
    prop_oneof![
        Just(Field::Id),
        Just(Field::Title),
        Just(Field::DocumentType),
        Just(Field::CreatedAt),
        Just(Field::FilePath),
        proptest::collection::vec(key(), 0..3).prop_map(Field::Metadata),
        key().prop_map(|key| Field::Metadata(vec![key])),
    ]
}

fn scalar() -> impl Strategy<Value = Scalar> {
    prop_oneof![
        any::<bool>().prop_map(Scalar::Bool),
        integer().prop_map(Scalar::Integer),
        float().prop_map(Scalar::Float),
        Just(Scalar::Float(f64::NAN)),
        Just(Scalar::Float(f64::INFINITY)),
        Just(Scalar::Float(f64::NEG_INFINITY)),
        text().prop_map(Scalar::Text),
        (-2_i64..3).prop_map(|ms| Scalar::from(Timestamp::from_unix_milliseconds(ms))),
    ]
}

fn any_filter() -> impl Strategy<Value = Filter> {
    let comparison = prop_oneof![
        Just(Comparison::Eq),
        Just(Comparison::Ne),
        Just(Comparison::Lt),
        Just(Comparison::Le),
        Just(Comparison::Gt),
        Just(Comparison::Ge),
    ];
    let leaf = prop_oneof![
        4 => (any_field(), comparison, scalar())
            .prop_map(|(field, comparison, value)| Filter::Compare { field, comparison, value }),
        1 => (any_field(), proptest::collection::vec(scalar(), 0..4))
            .prop_map(|(field, values)| Filter::In { field, values }),
        1 => any_field().prop_map(|field| Filter::Exists { field }),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Filter::And),
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Filter::Or),
            inner.prop_map(|inner| Filter::Not(Box::new(inner))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn sql_finds_what_the_filter_matches(
        documents in proptest::collection::vec(document(), 1..12),
        filters in proptest::collection::vec(any_filter(), 1..12),
    ) {
        let connection = index(&documents);
        for filter in &filters {
            prop_assert_eq!(found(&connection, filter), expected(&documents, filter), "{:?}", filter);
        }
    }

    #[test]
    fn the_rows_of_a_document_agree_with_it_until_one_is_changed(
        documents in proptest::collection::vec(document(), 2..6),
    ) {
        let connection = index(&documents);
        for (key, document) in documents.iter().enumerate() {
            let key = key as i64;
            prop_assert!(fields::agree(&connection, COLLECTION, key, Some(document)).unwrap());
            let rows: i64 = connection
                .query_row("SELECT count(*) FROM field WHERE document = ?1", [key], |r| r.get(0))
                .unwrap();
            prop_assert_eq!(
                fields::agree(&connection, COLLECTION, key, None).unwrap(),
                rows == 0
            );
        }
        connection
            .execute("UPDATE field SET value = value || 'x' WHERE document = 0 AND path = \
                      (SELECT key FROM field_path WHERE collection = 7 AND path = 'title')", [])
            .unwrap();
        prop_assert!(!fields::agree(&connection, COLLECTION, 0, Some(&documents[0])).unwrap());
        prop_assert!(fields::agree(&connection, COLLECTION, 1, Some(&documents[1])).unwrap());
        fields::remove(&connection, 1).unwrap();
        prop_assert!(fields::agree(&connection, COLLECTION, 1, None).unwrap());
        fields::drop_collection(&connection, COLLECTION).unwrap();
        let left: i64 = connection
            .query_row("SELECT count(*) FROM field WHERE document < 1000000", [], |r| r.get(0))
            .unwrap();
        prop_assert_eq!(left, 0);
    }
}

fn nested(levels: usize) -> Filter {
    (1..levels).fold(field("n").eq(1), |filter, level| match level % 3 {
        0 => !filter,
        1 => Filter::And(vec![filter, field("n").exists()]),
        _ => Filter::Or(vec![filter, field("n").exists()]),
    })
}

#[test]
fn the_deepest_and_the_widest_filters_run_and_deeper_ones_are_refused_by_name() {
    let documents = [Document::new("a").metadata("n", 1), Document::new("b")];
    let connection = index(&documents);
    let unsupported = |filter: &Filter| match filter::compile(filter, COLLECTION, "document.key", 1)
        .unwrap_err()
    {
        JobError::Backend(error) => {
            assert_eq!(error.kind(), BackendErrorKind::Unsupported);
            error.message().to_owned()
        }
        JobError::Sqlite(error) => panic!("{error}"),
    };

    let deepest = nested(filter::MAX_DEPTH);
    assert_eq!(found(&connection, &deepest), expected(&documents, &deepest));
    assert_eq!(
        unsupported(&nested(filter::MAX_DEPTH + 1)),
        "a filter of more than 50 levels is not supported"
    );

    let wide = field("n").is_in(0..filter::MAX_PARAMETERS as i64 - 1);
    assert_eq!(found(&connection, &wide), expected(&documents, &wide));
    assert_eq!(
        unsupported(&field("n").is_in(0..filter::MAX_PARAMETERS as i64)),
        "a filter of more than 32000 values is not supported"
    );

    let many = Filter::Or((0..3_000).map(|n| field("n").eq(n)).collect());
    assert_eq!(found(&connection, &many), expected(&documents, &many));
}
