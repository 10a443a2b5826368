//! Documents and filters on which stores tend to disagree with [`Filter::matches`].

use std::sync::Arc;

use serde_json::{Value, json};

use super::data::{Seeded, record};
use crate::model::{
    Comparison, Document, DocumentRecord, Field, Filter, Scalar, Timestamp, fact, field, field_path,
};

const TWO_TO_53: i64 = 1 << 53;

/// Values of one metadata key, one document each.
fn values() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(-0.0),
        json!(1),
        json!(1.0),
        json!(1.5),
        json!(-1),
        json!(10),
        json!(TWO_TO_53),
        json!(TWO_TO_53 + 1),
        json!(TWO_TO_53 as f64),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1e300),
        json!(""),
        json!("1"),
        json!("10"),
        json!("a"),
        json!("A"),
        json!("a "),
        json!("true"),
        json!("null"),
        json!("\u{e4}"),
        json!("a\u{308}"),
        json!("z"),
        json!("\u{1f980}"),
        json!("\u{ffff}"),
        json!("it's \"quoted\" \\ % _ *"),
        json!([]),
        json!([1, "a", true, null]),
        json!([2.5, "b"]),
        json!([[1, "a"]]),
        json!([{"v": 1}]),
        json!({}),
        json!({"v": 1}),
        json!({"v": {"w": "a"}}),
        json!({"v": [1, 2]}),
        json!({"v.w": "a", "": "a"}),
    ]
}

/// Documents that all have the vector (1, 0, 0) and no words in common with anything.
pub(super) fn corpus() -> Vec<Arc<DocumentRecord>> {
    let with_values = values()
        .into_iter()
        .enumerate()
        .map(|(index, value)| Document::new(format!("value {index:02}")).metadata("v", value));
    let day = 86_400_000;
    let others = [
        Document::new("nothing"),
        Document::new("facts 1")
            .title("Title")
            .document_type("note")
            .file_path("/a/b")
            .created_at(Timestamp::from_unix_milliseconds(0)),
        Document::new("facts 2")
            .title("title")
            .document_type("Note")
            .file_path("/a/B")
            .created_at(Timestamp::from_unix_milliseconds(1)),
        Document::new("facts 3")
            .document_type("")
            .file_path("")
            .created_at(Timestamp::from_unix_milliseconds(-day)),
        Document::new("facts 4").created_at(Timestamp::from_unix_milliseconds(20_000 * day)),
        Document::new("keys 1")
            .metadata("a.b", "dotted")
            .metadata("a", json!({"b": "nested"}))
            .metadata("", "empty"),
        Document::new("keys 2")
            .metadata("a.b", "nested")
            .metadata("it's", 1)
            .metadata("\"", 1)
            .metadata("$", 1)
            .metadata("[0]", 1)
            .metadata("\u{1f980}", 1),
        Document::new("keys 3").metadata("a", json!({"b": {"c": 1}, "it's": {"\"": 2}})),
        Document::new("metadata of the facts' names")
            .metadata("id", "nothing")
            .metadata("title", "Title")
            .metadata("document_type", "note")
            .metadata("created_at", "1970-01-01T00:00:00.000Z")
            .metadata("file_path", "/a/b"),
    ];
    with_values
        .chain(others)
        .map(|document| record(document.vector([1.0, 0.0, 0.0])))
        .collect()
}

fn fields() -> Vec<Field> {
    let path = |keys: &[&str]| Field::Metadata(keys.iter().map(|k| (*k).to_owned()).collect());
    vec![
        path(&["v"]),
        path(&["v"]),
        path(&["v"]),
        path(&["v", "v"]),
        path(&["v", "v", "w"]),
        path(&["v", "v.w"]),
        path(&["v", ""]),
        path(&["v", "0"]),
        path(&["a.b"]),
        path(&["a", "b"]),
        path(&["a", "b", "c"]),
        path(&["a", "it's", "\""]),
        path(&[""]),
        path(&["it's"]),
        path(&["\""]),
        path(&["$"]),
        path(&["[0]"]),
        path(&["\u{1f980}"]),
        path(&["absent"]),
        path(&["title"]),
        Field::Id,
        Field::Title,
        Field::DocumentType,
        Field::CreatedAt,
        Field::FilePath,
    ]
}

fn scalars() -> Vec<Scalar> {
    vec![
        true.into(),
        false.into(),
        0.into(),
        1.into(),
        (-1).into(),
        10.into(),
        TWO_TO_53.into(),
        (TWO_TO_53 + 1).into(),
        i64::MAX.into(),
        i64::MIN.into(),
        0.0.into(),
        (-0.0).into(),
        1.0.into(),
        1.25.into(),
        (TWO_TO_53 as f64).into(),
        9.3e18.into(),
        f64::INFINITY.into(),
        f64::NEG_INFINITY.into(),
        "".into(),
        "1".into(),
        "a".into(),
        "A".into(),
        "a ".into(),
        "nested".into(),
        "note".into(),
        "nothing".into(),
        "Title".into(),
        "/a/b".into(),
        "\u{e4}".into(),
        "\u{1f980}".into(),
        "\u{ffff}".into(),
        "it's \"quoted\" \\ % _ *".into(),
        Timestamp::from_unix_milliseconds(0).into(),
        Timestamp::from_unix_milliseconds(1).into(),
    ]
}

const COMPARISONS: [Comparison; 6] = [
    Comparison::Eq,
    Comparison::Ne,
    Comparison::Lt,
    Comparison::Le,
    Comparison::Gt,
    Comparison::Ge,
];

/// A random condition, at most `depth` levels deep.
pub(super) fn random(seeded: &mut Seeded, depth: usize) -> Filter {
    let field = seeded.pick(&fields()).clone();
    let scalars = scalars();
    match if depth == 0 { 0 } else { seeded.below(8) } {
        0..=2 => Filter::Compare {
            field,
            comparison: *seeded.pick(&COMPARISONS),
            value: seeded.pick(&scalars).clone(),
        },
        3 => Filter::In {
            field,
            values: (0..seeded.below(4))
                .map(|_| seeded.pick(&scalars).clone())
                .collect(),
        },
        4 => Filter::Exists { field },
        5 => !random(seeded, depth - 1),
        6 => Filter::And(many(seeded, depth)),
        _ => Filter::Or(many(seeded, depth)),
    }
}

fn many(seeded: &mut Seeded, depth: usize) -> Vec<Filter> {
    (0..seeded.below(4))
        .map(|_| random(seeded, depth - 1))
        .collect()
}

/// One random condition of each comparison on each field.
pub(super) fn comparisons(seeded: &mut Seeded) -> Vec<Filter> {
    let scalars = scalars();
    let each = fields()
        .into_iter()
        .flat_map(|field| COMPARISONS.map(|comparison| (field.clone(), comparison)));
    each.map(|(field, comparison)| Filter::Compare {
        field,
        comparison,
        value: seeded.pick(&scalars).clone(),
    })
    .collect()
}

/// Missing fields and null: comparisons are false, negations true.
pub(super) fn missing() -> Vec<Filter> {
    vec![
        field("v").ne(1),
        !field("v").eq(1),
        !field("v").lt(5),
        field("absent").ne("a"),
        field("absent").eq("a"),
        !field("absent").exists(),
        field("v").exists(),
        !field("v").exists(),
        !field("v").is_in([1, 2]),
        fact(Field::DocumentType).ne("note"),
        !fact(Field::CreatedAt).exists(),
        fact(Field::FilePath).ne("/a/b"),
        fact(Field::Title).ne("Title"),
        fact(Field::Title).exists(),
        field_path(["v", "v"]).ne(1),
        field("v").ne("a").and(field("v").exists()),
    ]
}

/// Numbers, texts and bools are never equal to, less or greater than each other.
pub(super) fn types() -> Vec<Filter> {
    vec![
        field("v").eq("1"),
        field("v").eq(1),
        field("v").eq(true),
        field("v").eq("true"),
        field("v").lt("2"),
        field("v").gt(0),
        field("v").ge(false),
        field("v").gt(""),
        field("v").le(f64::INFINITY),
        field("v").is_in(["1", "true", "null", ""]),
        field("v").is_in::<Scalar>([1.into(), "a".into(), true.into()]),
    ]
}

/// Above 2^53 neighbouring integers are the same `f64`.
pub(super) fn integers() -> Vec<Filter> {
    vec![
        field("v").eq(TWO_TO_53),
        field("v").eq(TWO_TO_53 + 1),
        field("v").gt(TWO_TO_53),
        field("v").gt(TWO_TO_53 as f64),
        field("v").le(TWO_TO_53 as f64),
        field("v").eq(TWO_TO_53 as f64),
        field("v").lt(TWO_TO_53 + 1),
        field("v").eq(i64::MAX),
        field("v").ge(i64::MAX),
        field("v").gt(i64::MAX),
        field("v").lt(i64::MIN),
        field("v").eq(i64::MIN),
        field("v").gt(-1.5).and(field("v").lt(0.5)),
        field("v").eq(0),
        field("v").eq(1),
        field("v").eq(1.0),
    ]
}

/// A list matches if one element does; an object and a list within a list match nothing.
pub(super) fn lists() -> Vec<Filter> {
    vec![
        field("v").eq(true),
        field("v").ne("a"),
        field("v").gt(2),
        field("v").ge("b"),
        field("v").is_in([2.5, 7.0]),
        field_path(["v", "v"]).eq(1),
        field_path(["v", "v"]).eq(2),
        field_path(["v", "0"]).eq(1),
        field("v").eq("a").and(field("v").eq(1)),
    ]
}

/// A dot, a quote or a bracket in a key is a character like any other.
pub(super) fn keys() -> Vec<Filter> {
    vec![
        field("a.b").eq("dotted"),
        field("a.b").eq("nested"),
        field_path(["a", "b"]).eq("nested"),
        field_path(["a", "b"]).exists(),
        field_path(["a", "b", "c"]).eq(1),
        field_path(["a", "it's", "\""]).eq(2),
        field("").eq("empty"),
        field("it's").exists(),
        field("\"").exists(),
        field("$").eq(1),
        field("[0]").eq(1),
        field("\u{1f980}").eq(1),
        field_path(["v", "v.w"]).eq("a"),
        field_path(["v", ""]).eq("a"),
        field_path(["v", "v", "w"]).eq("a"),
        field("A").exists(),
        field("title").eq("Title"),
    ]
}

/// The facts beside the metadata, dates in order of time.
pub(super) fn facts() -> Vec<Filter> {
    let time = Timestamp::from_unix_milliseconds;
    vec![
        fact(Field::Id).eq("nothing"),
        fact(Field::Id).ne("nothing"),
        fact(Field::Id).lt("keys 2"),
        fact(Field::Title).eq("Title"),
        fact(Field::Title).eq(""),
        fact(Field::DocumentType).eq("note"),
        fact(Field::DocumentType).eq(""),
        fact(Field::DocumentType).exists(),
        fact(Field::DocumentType).is_in(["note", "Note"]),
        fact(Field::FilePath).eq("/a/b"),
        fact(Field::FilePath).gt("/a"),
        fact(Field::FilePath).exists(),
        fact(Field::CreatedAt).eq(time(0)),
        fact(Field::CreatedAt).lt(time(0)),
        fact(Field::CreatedAt).ge(time(1)),
        fact(Field::CreatedAt).ge(0),
        fact(Field::CreatedAt)
            .gt(time(1))
            .or(fact(Field::CreatedAt).eq(time(0))),
    ]
}

/// Empty lists of values and of conditions.
pub(super) fn empty_forms() -> Vec<Filter> {
    vec![
        field("v").is_in(Vec::<i64>::new()),
        !field("v").is_in(Vec::<i64>::new()),
        Filter::And(vec![]),
        Filter::Or(vec![]),
        !Filter::And(vec![]),
        !Filter::Or(vec![]),
        Filter::And(vec![Filter::And(vec![]), field("v").eq(1)]),
        Filter::Or(vec![Filter::Or(vec![]), field("v").eq(1)]),
        !(!field("v").eq(1)),
    ]
}
