//! The translation against [`Filter::matches`], with the server's evaluation modelled here.

use dbmanager_core::model::{Document, fact, field, field_path};
use proptest::prelude::*;
use serde_json::Map;

use super::*;

/// What the server makes of a clause, as measured: a comparison with a missing number is false,
/// `$not_contains` of a missing list true.
fn evaluate(clause: &Value, metadata: &Map<String, Value>) -> bool {
    let (key, value) = clause.as_object().unwrap().iter().next().unwrap();
    if let Value::Array(parts) = value {
        let mut parts = parts.iter().map(|part| evaluate(part, metadata));
        return match key.as_str() {
            "$and" => parts.all(|holds| holds),
            "$or" => parts.any(|holds| holds),
            other => panic!("{other}"),
        };
    }
    let (operator, asked) = value.as_object().unwrap().iter().next().unwrap();
    let held = metadata.get(key);
    if operator == "$contains" || operator == "$not_contains" {
        let there = held.is_some_and(|list| list.as_array().unwrap().contains(asked));
        return there == (operator == "$contains");
    }
    let Some(held) = held.and_then(Value::as_i64) else {
        return false;
    };
    let asked = asked.as_i64().unwrap();
    match operator.as_str() {
        "$gt" => held > asked,
        "$gte" => held >= asked,
        "$lt" => held < asked,
        "$lte" => held <= asked,
        other => panic!("{other}"),
    }
}

fn found(translated: &Where, document: &Document) -> bool {
    match translated {
        Where::All => true,
        Where::Nothing => false,
        Where::Is(clause) => evaluate(clause, &facts::metadata(document, usize::MAX).unwrap()),
    }
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        prop::sample::select(vec![
            0.0,
            -0.0,
            1.5,
            -1.5,
            9.3e18,
            -9.3e18,
            9_223_372_036_854_775_808.0,
            -9_223_372_036_854_775_808.0,
            9_007_199_254_740_992.0,
        ]),
        (-3..3_i32).prop_map(f64::from),
    ]
}

fn integer() -> impl Strategy<Value = i64> {
    let near_two_to_53 = (1_i64 << 53) - 2..(1_i64 << 53) + 3;
    prop_oneof![
        -3..4_i64,
        near_two_to_53,
        Just(i64::MAX),
        Just(i64::MAX - 600),
        Just(i64::MIN)
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "a", "b", "true", "1", "é"]).prop_map(str::to_owned)
}

fn single() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        integer().prop_map(Value::from),
        number().prop_map(Value::from),
        text().prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => single(),
        2 => prop::collection::vec(single(), 0..4).prop_map(Value::from),
        1 => single().prop_map(|inner| json!({ "b": inner })),
        1 => single().prop_map(|inner| json!([[inner]])),
    ]
}

fn times() -> impl Strategy<Value = i64> {
    prop_oneof![
        Just(i64::MIN),
        Just(YEAR_ZERO - 1),
        Just(YEAR_ZERO),
        -2..3_i64,
        Just(i64::MAX)
    ]
}

fn documents() -> impl Strategy<Value = Document> {
    let metadata = prop::collection::vec(value(), 0..3);
    (metadata, prop::option::of(times()), text()).prop_map(|(values, time, title)| {
        let mut document = Document::new("id").title(title);
        for (key, value) in ["a", "a.b", "c"].into_iter().zip(values) {
            document = document.metadata(key, value);
        }
        match time {
            Some(time) => document.created_at(Timestamp::from_unix_milliseconds(time)),
            None => document,
        }
    })
}

fn fields() -> impl Strategy<Value = Field> {
    let paths: [&[&str]; 4] = [&["a"], &["a", "b"], &["a.b"], &["c"]];
    let paths = paths.map(|path| Field::Metadata(path.iter().map(|k| (*k).to_owned()).collect()));
    let facts = [Field::Id, Field::Title, Field::CreatedAt, Field::FilePath];
    prop::sample::select([paths, facts].concat())
}

fn scalars() -> impl Strategy<Value = Scalar> {
    let dates = prop_oneof![
        times().prop_map(|time| Timestamp::from_unix_milliseconds(time).to_string()),
        prop::sample::select(vec!["1970", "1970-01-01T00:00:00.000Z!", "!", "~", "0000"])
            .prop_map(str::to_owned),
    ];
    prop_oneof![
        any::<bool>().prop_map(Scalar::Bool),
        integer().prop_map(Scalar::Integer),
        number().prop_map(Scalar::Float),
        Just(Scalar::Float(f64::INFINITY)),
        Just(Scalar::Float(f64::NEG_INFINITY)),
        text().prop_map(Scalar::Text),
        dates.prop_map(Scalar::Text),
    ]
}

fn comparisons() -> impl Strategy<Value = Comparison> {
    prop::sample::select(vec![
        Comparison::Eq,
        Comparison::Ne,
        Comparison::Lt,
        Comparison::Le,
        Comparison::Gt,
        Comparison::Ge,
    ])
}

fn filters() -> impl Strategy<Value = Filter> {
    let leaf = prop_oneof![
        4 => (fields(), comparisons(), scalars()).prop_map(|(field, comparison, value)| {
            Filter::Compare { field, comparison, value }
        }),
        1 => (fields(), prop::collection::vec(scalars(), 0..3))
            .prop_map(|(field, values)| Filter::In { field, values }),
        1 => fields().prop_map(|field| Filter::Exists { field }),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|filter| !filter),
            prop::collection::vec(inner.clone(), 0..3).prop_map(Filter::And),
            prop::collection::vec(inner, 0..3).prop_map(Filter::Or),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]
    #[test]
    fn what_is_translated_means_the_same(filter in filters(), document in documents()) {
        if let Some(translated) = translate(&filter) {
            prop_assert_eq!(
                found(&translated, &document),
                filter.matches(&document),
                "{:?} on {:?}: {:?}",
                filter,
                document,
                translated
            );
        }
    }
}

#[test]
fn all_but_the_order_of_texts_is_taken() {
    let time = Timestamp::from_unix_milliseconds(7);
    for taken in [
        field("year").ge(1990),
        field("year").lt(1990.5),
        field("flag").gt(false),
        field("tags").is_in(["a", "b"]),
        !field("a").exists(),
        field_path(["a", "b"]).eq("text"),
        fact(Field::CreatedAt).lt(time),
        fact(Field::CreatedAt).ge("2024"),
        fact(Field::Id).ne("a"),
        fact(Field::Title).gt(1),
        Filter::And(vec![]),
    ] {
        assert!(translate(&taken).is_some(), "{taken:?}");
    }
    for refused in [
        field("name").lt("m"),
        fact(Field::Id).ge("a"),
        fact(Field::CreatedAt).lt("-000001"),
        field("year").eq(1) | field("name").lt("m"),
        field("text").eq("x".repeat(facts::MAX_TEXT_BYTES + 1)),
    ] {
        assert_eq!(translate(&refused), None, "{refused:?}");
    }
}

#[test]
fn what_would_end_the_server_is_not_taken() {
    let wide = |count: i64| field("a").is_in((0..count).map(|n| format!("{n}")));
    assert!(translate(&wide(400)).is_some());
    assert_eq!(translate(&wide(401)), None);
    let deep = |count| (0..count).fold(field("a").eq("b"), |inner, _| !inner);
    assert!(translate(&deep(19)).is_some());
    assert_eq!(translate(&deep(20)), None);
    assert_eq!(translate(&deep(1_000)), None);
}

#[test]
fn long_texts_have_no_term() {
    let long = "x".repeat(facts::MAX_TEXT_BYTES + 1);
    let document = Document::new("d").title(long.as_str()).metadata("a", long);
    for filter in [
        field("a").eq("b"),
        field("a").ne("b"),
        field("a").exists(),
        fact(Field::Title).ne("b"),
    ] {
        let translated = translate(&filter).unwrap();
        assert_eq!(found(&translated, &document), filter.matches(&document));
    }
    assert!(
        Value::from(facts::metadata(&document, usize::MAX).unwrap())
            .to_string()
            .len()
            < 200
    );
}
