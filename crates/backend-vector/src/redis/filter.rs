//! Filters as the query engine sees them.
//!
//! Each indexed chunk carries tags: one for each path its document has a value at, one for each
//! type of value there, and one for each value; each tag is a hash, so that neither a separator
//! nor an escape matters. Equality, membership and existence are found by tags exactly. An order
//! between values is not: the engine's own numbers are `f64`. So a filter becomes a query that
//! finds *at least* what fulfils it, and the hits are checked with [`Filter::matches`].

use std::collections::BTreeSet;

use dbmanager_core::model::{Comparison, Document, Field, Filter, Scalar};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The tag of every chunk.
pub(super) const EVERY: &str = "all";
/// The tag of a document with more values than are worth a tag each; it is checked always.
const MANY: &str = "many";
/// Tags of a document.
const MOST_TAGS: usize = 512;
/// Bytes of a query; above, the filter is left to the check.
const LONGEST_QUERY: usize = 32 * 1024;
/// Levels of a query; the engine's parser has a limit of its own.
const DEEPEST_QUERY: usize = 20;

/// The tags of a document, separated by commas.
pub(super) fn tags(document: &Document) -> String {
    let mut tags = BTreeSet::from([EVERY.to_owned()]);
    let mut text = |field: &Field, value: Option<&str>| {
        if let Some(value) = value {
            tags.insert(tag(field, Part::Exists));
            tags.insert(tag(field, Part::Type("text")));
            tags.insert(tag(field, Part::Text(value)));
        }
    };
    text(&Field::Id, Some(&document.id));
    text(&Field::Title, Some(&document.title));
    text(&Field::DocumentType, document.document_type.as_deref());
    text(&Field::FilePath, document.file_path.as_deref());
    let created = document.created_at.map(|time| time.to_string());
    text(&Field::CreatedAt, created.as_deref());
    let mut path = Vec::new();
    metadata_tags(&document.metadata, &mut path, &mut tags);
    if tags.len() > MOST_TAGS {
        return format!("{EVERY},{MANY}");
    }
    tags.into_iter().collect::<Vec<_>>().join(",")
}

fn metadata_tags(
    values: &serde_json::Map<String, Value>,
    path: &mut Vec<String>,
    tags: &mut BTreeSet<String>,
) {
    for (key, value) in values {
        if value.is_null() || tags.len() > MOST_TAGS {
            continue;
        }
        path.push(key.clone());
        let field = Field::Metadata(path.clone());
        tags.insert(tag(&field, Part::Exists));
        match value {
            Value::Object(inner) => metadata_tags(inner, path, tags),
            Value::Array(elements) => {
                for element in elements {
                    value_tags(&field, element, tags);
                }
            }
            single => value_tags(&field, single, tags),
        }
        path.pop();
    }
}

fn value_tags(field: &Field, value: &Value, tags: &mut BTreeSet<String>) {
    let (kind, part) = match value {
        Value::Bool(value) => ("bool", Part::Bool(*value)),
        Value::String(text) => ("text", Part::Text(text)),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => ("number", Part::Integer(integer)),
            (None, Some(float)) => ("number", number_part(float)),
            (None, None) => return,
        },
        Value::Null | Value::Array(_) | Value::Object(_) => return,
    };
    tags.insert(tag(field, Part::Type(kind)));
    tags.insert(tag(field, part));
}

/// A number by its value: an integer and the floating-point number equal to it have one tag.
fn number_part<'a>(float: f64) -> Part<'a> {
    const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
    if float.trunc() == float && (-TWO_TO_63..TWO_TO_63).contains(&float) {
        Part::Integer(float as i64)
    } else {
        Part::Float(float.to_bits())
    }
}

/// What a tag says of a field.
#[derive(Clone, Copy)]
enum Part<'a> {
    Exists,
    Type(&'static str),
    Bool(bool),
    Integer(i64),
    Float(u64),
    Text(&'a str),
}

/// The first half of SHA-256 over field and part, each behind its length.
fn tag(field: &Field, part: Part<'_>) -> String {
    let mut hash = Sha256::new();
    let mut bytes = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    match field {
        Field::Id => bytes(b"id"),
        Field::Title => bytes(b"title"),
        Field::DocumentType => bytes(b"document type"),
        Field::CreatedAt => bytes(b"created at"),
        Field::FilePath => bytes(b"file path"),
        Field::Metadata(path) => {
            bytes(b"metadata");
            path.iter().for_each(|key| bytes(key.as_bytes()));
        }
        // A field of a later version of the library: no document has its tag.
        _ => bytes(b"unknown"),
    }
    bytes(&[]);
    match part {
        Part::Exists => bytes(b"exists"),
        Part::Type(kind) => bytes(kind.as_bytes()),
        Part::Bool(value) => bytes(&[b'b', u8::from(value)]),
        Part::Integer(value) => bytes(&[&b"i"[..], &value.to_le_bytes()].concat()),
        Part::Float(bits) => bytes(&[&b"f"[..], &bits.to_le_bytes()].concat()),
        Part::Text(text) => bytes(&[b"t", text.as_bytes()].concat()),
    }
    let digest = hash.finalize();
    // A letter first: a tag that begins with a digit may be read as a number.
    let hex = digest.iter().take(16).map(|byte| format!("{byte:02x}"));
    std::iter::once("t".to_owned()).chain(hex).collect()
}

/// Chunks, by their tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Query {
    /// Every one.
    Every,
    /// None.
    Nothing,
    /// Those that the query engine finds with this.
    Tags { text: String, depth: usize },
}

/// At least the chunks of the documents that fulfil the filter.
pub(super) fn superset(filter: &Filter) -> Query {
    let both = bounds(filter);
    match both.most.or(one(MANY.to_owned())) {
        Query::Tags { text, depth } if text.len() > LONGEST_QUERY || depth > DEEPEST_QUERY => {
            Query::Every
        }
        query => query,
    }
}

/// What a filter finds, from both sides: `least` only what fulfils it, `most` all that does. They
/// are the same unless an order is asked for. Documents with too many values aside.
struct Bounds {
    least: Query,
    most: Query,
}

fn bounds(filter: &Filter) -> Bounds {
    let exactly = |query: Query| Bounds {
        least: query.clone(),
        most: query,
    };
    match filter {
        Filter::Compare {
            field,
            comparison,
            value,
        } => match comparison {
            Comparison::Eq => exactly(equal(field, value)),
            Comparison::Ne => exactly(equal(field, value).not()),
            _ => Bounds {
                least: Query::Nothing,
                most: one(tag(field, Part::Type(type_of(value)))),
            },
        },
        Filter::In { field, values } => exactly(
            values
                .iter()
                .map(|value| equal(field, value))
                .fold(Query::Nothing, Query::or),
        ),
        Filter::Exists { field } => exactly(one(tag(field, Part::Exists))),
        Filter::And(all) => all
            .iter()
            .map(bounds)
            .fold(exactly(Query::Every), |a, b| Bounds {
                least: a.least.and(b.least),
                most: a.most.and(b.most),
            }),
        Filter::Or(any) => any
            .iter()
            .map(bounds)
            .fold(exactly(Query::Nothing), |a, b| Bounds {
                least: a.least.or(b.least),
                most: a.most.or(b.most),
            }),
        Filter::Not(inner) => {
            let inner = bounds(inner);
            Bounds {
                least: inner.most.not(),
                most: inner.least.not(),
            }
        }
        // A condition of a later version of the library is left to the check.
        _ => Bounds {
            least: Query::Nothing,
            most: Query::Every,
        },
    }
}

fn type_of(value: &Scalar) -> &'static str {
    match value {
        Scalar::Bool(_) => "bool",
        Scalar::Text(_) => "text",
        _ => "number",
    }
}

fn equal(field: &Field, value: &Scalar) -> Query {
    let part = match value {
        Scalar::Bool(value) => Part::Bool(*value),
        Scalar::Integer(value) => Part::Integer(*value),
        Scalar::Float(value) if value.is_nan() => return Query::Nothing,
        Scalar::Float(value) => number_part(*value),
        Scalar::Text(text) => Part::Text(text),
        _ => return Query::Nothing,
    };
    one(tag(field, part))
}

fn one(tag: String) -> Query {
    Query::Tags {
        text: format!("@t:{{{tag}}}"),
        depth: 1,
    }
}

impl Query {
    fn and(self, other: Query) -> Query {
        match (self, other) {
            (Query::Nothing, _) | (_, Query::Nothing) => Query::Nothing,
            (Query::Every, query) | (query, Query::Every) => query,
            (a, b) => a.join(b, " "),
        }
    }

    fn or(self, other: Query) -> Query {
        match (self, other) {
            (Query::Every, _) | (_, Query::Every) => Query::Every,
            (Query::Nothing, query) | (query, Query::Nothing) => query,
            (a, b) => a.join(b, "|"),
        }
    }

    fn not(self) -> Query {
        match self {
            Query::Every => Query::Nothing,
            Query::Nothing => Query::Every,
            Query::Tags { text, depth } => Query::Tags {
                text: format!("(-{text})"),
                depth: depth + 1,
            },
        }
    }

    fn join(self, other: Query, by: &str) -> Query {
        match (self, other) {
            (Query::Tags { text: a, depth: x }, Query::Tags { text: b, depth: y }) => Query::Tags {
                text: format!("({a}{by}{b})"),
                depth: x.max(y) + 1,
            },
            (a, _) => a,
        }
    }

    /// As the query engine reads it.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Query::Tags { text, .. } => Some(text),
            Query::Every | Query::Nothing => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use dbmanager_core::model::{fact, field, field_path};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Evaluates a query on a document's tags as the engine does.
    fn finds(query: &Query, tags: &str) -> bool {
        let tags: BTreeSet<&str> = tags.split(',').collect();
        match query {
            Query::Every => true,
            Query::Nothing => false,
            Query::Tags { text, .. } => {
                let mut rest = text.as_str();
                let found = evaluate(&mut rest, &tags);
                assert_eq!(rest, "", "{text}");
                found
            }
        }
    }

    fn evaluate(rest: &mut &str, tags: &BTreeSet<&str>) -> bool {
        if let Some(after) = rest.strip_prefix("(-") {
            *rest = after;
            let inner = evaluate(rest, tags);
            *rest = rest.strip_prefix(')').unwrap();
            return !inner;
        }
        if let Some(after) = rest.strip_prefix('(') {
            *rest = after;
            let a = evaluate(rest, tags);
            let (by, after) = rest.split_at(1);
            *rest = after;
            let b = evaluate(rest, tags);
            *rest = rest.strip_prefix(')').unwrap();
            return if by == "|" { a || b } else { a && b };
        }
        let (tag, after) = rest.strip_prefix("@t:{").unwrap().split_once('}').unwrap();
        *rest = after;
        tags.contains(tag)
    }

    fn values() -> Vec<Value> {
        vec![
            json!(null),
            json!(true),
            json!(1),
            json!(1.0),
            json!(-0.0),
            json!(0),
            json!((1_i64 << 53) + 1),
            json!((1_i64 << 53) as f64),
            json!(u64::MAX),
            json!("1"),
            json!("a"),
            json!([1, "a", null, [true]]),
            json!({"v": 1, "w": {"v": "a"}}),
            json!({"v.w": "a"}),
            json!([]),
        ]
    }

    fn scalars() -> Vec<Scalar> {
        vec![
            true.into(),
            1.into(),
            0.into(),
            0.0.into(),
            1.5.into(),
            (1_i64 << 53).into(),
            ((1_i64 << 53) as f64).into(),
            1.844_674_407_370_955_2e19.into(),
            "1".into(),
            "a".into(),
            f64::INFINITY.into(),
        ]
    }

    fn leaf() -> impl Strategy<Value = Filter> {
        let fields = vec![
            Field::Metadata(vec!["v".into()]),
            Field::Metadata(vec!["v".into(), "v".into()]),
            Field::Metadata(vec!["v".into(), "w".into(), "v".into()]),
            Field::Metadata(vec!["v".into(), "v.w".into()]),
            Field::Title,
            Field::DocumentType,
        ];
        let comparisons = vec![
            Comparison::Eq,
            Comparison::Ne,
            Comparison::Lt,
            Comparison::Le,
            Comparison::Gt,
            Comparison::Ge,
        ];
        (
            prop::sample::select(fields),
            prop::sample::select(comparisons),
            prop::collection::vec(prop::sample::select(scalars()), 0..3),
            0..4_u8,
        )
            .prop_map(
                |(field, comparison, values, kind)| match (kind, values.first()) {
                    (0, _) => Filter::Exists { field },
                    (1, _) | (_, None) => Filter::In { field, values },
                    (_, Some(value)) => Filter::Compare {
                        field,
                        comparison,
                        value: value.clone(),
                    },
                },
            )
    }

    fn filter() -> impl Strategy<Value = Filter> {
        leaf().prop_recursive(3, 16, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Filter::And),
                prop::collection::vec(inner.clone(), 0..3).prop_map(Filter::Or),
                inner.prop_map(|inner| !inner),
            ]
        })
    }

    fn has_order(filter: &Filter) -> bool {
        match filter {
            Filter::Compare { comparison, .. } => {
                !matches!(comparison, Comparison::Eq | Comparison::Ne)
            }
            Filter::And(all) | Filter::Or(all) => all.iter().any(has_order),
            Filter::Not(inner) => has_order(inner),
            _ => false,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Nothing that fulfils the filter is lost, and without an order nothing else is found.
        #[test]
        fn a_query_finds_what_fulfils_the_filter(filter in filter()) {
            for value in values() {
                let document = Document::new("a").title("a").metadata("v", value);
                let fulfils = filter.matches(&document);
                let found = finds(&superset(&filter), &tags(&document));
                prop_assert!(found || !fulfils, "{filter:?} {document:?}");
                if !has_order(&filter) {
                    prop_assert_eq!(found, fulfils, "{:?} {:?}", filter, document);
                }
            }
        }
    }

    #[test]
    fn a_document_with_very_many_values_is_always_found() {
        let many = (0..1_000).fold(Document::new("a"), |d, n| d.metadata(format!("{n}"), n));
        assert_eq!(tags(&many), "all,many");
        for filter in [field("5").eq(5), field("5").eq(6), !field("5").exists()] {
            assert!(finds(&superset(&filter), &tags(&many)), "{filter:?}");
        }
    }

    #[test]
    fn what_is_too_long_or_too_deep_is_left_to_the_check() {
        assert_eq!(superset(&field("a").is_in(0_i64..2_000)), Query::Every);
        let deep = (0..100).fold(field("a").eq(1), |inner, n| !(inner.and(field("b").eq(n))));
        assert_eq!(superset(&deep), Query::Every);
    }

    #[test]
    fn fields_of_one_spelling_stay_apart() {
        let tag_of = |filter: Filter| superset(&filter);
        let all = [
            field("title").eq("x"),
            fact(Field::Title).eq("x"),
            field("a.b").eq("x"),
            field_path(["a", "b"]).eq("x"),
            field("a").eq("x"),
        ];
        let distinct: Vec<_> = all.into_iter().map(tag_of).collect();
        for (index, query) in distinct.iter().enumerate() {
            assert!(!distinct[..index].contains(query));
        }
    }
}
