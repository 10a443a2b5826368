//! The one filter language and its meaning.
//!
//! [`Filter::matches`] *is* the meaning; adapters that push a filter down are tested against it.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Document;

/// What a condition looks at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Field {
    /// The document's id.
    Id,
    /// The title.
    Title,
    /// The document type.
    DocumentType,
    /// The created date, compared as RFC 3339 text given to the millisecond in UTC (the form that
    /// [`super::Timestamp`] prints), so that order is time order.
    CreatedAt,
    /// The file path.
    FilePath,
    /// A metadata value: one key per level of nesting, at least one.
    Metadata(Vec<String>),
}

/// A value that a field is compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Scalar {
    /// True or false; false is below true.
    Bool(bool),
    /// An integer, compared exactly with integers and floating-point numbers.
    Integer(i64),
    /// A floating-point number; a NaN is refused by validation.
    Float(f64),
    /// Text, compared byte by byte.
    Text(String),
}

/// How a field is compared with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// Equal.
    Eq,
    /// Not equal: the plain negation of [`Comparison::Eq`], so true for a missing field.
    Ne,
    /// Less than.
    Lt,
    /// Less than or equal.
    Le,
    /// Greater than.
    Gt,
    /// Greater than or equal.
    Ge,
}

/// A condition on a document.
///
/// The meaning is the same in every store:
/// - a comparison with a missing field is false; a field whose value is null counts as missing;
/// - `Ne` and `Not` are plain negations, so they are true for a missing field;
/// - types do not mix: a number is never equal to, less or greater than a text or a bool;
/// - a list matches a comparison if one of its elements does; an object matches none;
/// - an empty `In` matches nothing, an empty `And` everything, an empty `Or` nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Filter {
    /// Compares a field with a value.
    Compare {
        /// What is compared.
        field: Field,
        /// How.
        comparison: Comparison,
        /// With what.
        value: Scalar,
    },
    /// The field equals one of the values.
    In {
        /// What is compared.
        field: Field,
        /// With what.
        values: Vec<Scalar>,
    },
    /// The field is there and is not null.
    Exists {
        /// What is looked for.
        field: Field,
    },
    /// All conditions hold.
    And(Vec<Filter>),
    /// At least one condition holds.
    Or(Vec<Filter>),
    /// The condition does not hold.
    Not(Box<Filter>),
}

/// Starts a condition on a top-level metadata key: `field("year").ge(1990)`. The key is taken as
/// it is; a dot in it has no meaning.
pub fn field(key: impl Into<String>) -> FieldBuilder {
    FieldBuilder(Field::Metadata(vec![key.into()]))
}

/// Starts a condition on a nested metadata value, one key per level.
pub fn field_path<K: Into<String>>(keys: impl IntoIterator<Item = K>) -> FieldBuilder {
    FieldBuilder(Field::Metadata(keys.into_iter().map(Into::into).collect()))
}

/// Starts a condition on any field, for the facts beside the metadata:
/// `fact(Field::DocumentType).eq("invoice")`.
pub fn fact(field: Field) -> FieldBuilder {
    FieldBuilder(field)
}

/// A field that waits for its comparison.
#[derive(Clone, Debug)]
#[must_use = "a field is no condition until it is compared"]
pub struct FieldBuilder(Field);

impl FieldBuilder {
    fn compare(self, comparison: Comparison, value: impl Into<Scalar>) -> Filter {
        Filter::Compare {
            field: self.0,
            comparison,
            value: value.into(),
        }
    }

    /// The field equals the value.
    pub fn eq(self, value: impl Into<Scalar>) -> Filter {
        self.compare(Comparison::Eq, value)
    }

    /// The field does not equal the value, or is missing.
    pub fn ne(self, value: impl Into<Scalar>) -> Filter {
        self.compare(Comparison::Ne, value)
    }

    /// The field is less than the value.
    pub fn lt(self, value: impl Into<Scalar>) -> Filter {
        self.compare(Comparison::Lt, value)
    }

    /// The field is at most the value.
    pub fn le(self, value: impl Into<Scalar>) -> Filter {
        self.compare(Comparison::Le, value)
    }

    /// The field is greater than the value.
    pub fn gt(self, value: impl Into<Scalar>) -> Filter {
        self.compare(Comparison::Gt, value)
    }

    /// The field is at least the value.
    pub fn ge(self, value: impl Into<Scalar>) -> Filter {
        self.compare(Comparison::Ge, value)
    }

    /// The field equals one of the values.
    pub fn is_in<S: Into<Scalar>>(self, values: impl IntoIterator<Item = S>) -> Filter {
        Filter::In {
            field: self.0,
            values: values.into_iter().map(Into::into).collect(),
        }
    }

    /// The field is there and not null.
    pub fn exists(self) -> Filter {
        Filter::Exists { field: self.0 }
    }
}

impl Filter {
    /// Both conditions hold.
    pub fn and(self, other: Filter) -> Filter {
        match self {
            Filter::And(mut all) => {
                all.push(other);
                Filter::And(all)
            }
            first => Filter::And(vec![first, other]),
        }
    }

    /// At least one of the two conditions holds.
    pub fn or(self, other: Filter) -> Filter {
        match self {
            Filter::Or(mut any) => {
                any.push(other);
                Filter::Or(any)
            }
            first => Filter::Or(vec![first, other]),
        }
    }

    /// Whether the document fulfils the condition.
    pub fn matches(&self, document: &Document) -> bool {
        match self {
            Filter::Compare {
                field,
                comparison,
                value,
            } => match comparison {
                Comparison::Ne => !any_value(document, field, |v| holds(v, Comparison::Eq, value)),
                _ => any_value(document, field, |v| holds(v, *comparison, value)),
            },
            Filter::In { field, values } => any_value(document, field, |found| {
                values
                    .iter()
                    .any(|value| holds(found, Comparison::Eq, value))
            }),
            Filter::Exists { field } => exists(document, field),
            Filter::And(all) => all.iter().all(|f| f.matches(document)),
            Filter::Or(any) => any.iter().any(|f| f.matches(document)),
            Filter::Not(inner) => !inner.matches(document),
        }
    }
}

impl std::ops::Not for Filter {
    type Output = Filter;

    fn not(self) -> Filter {
        Filter::Not(Box::new(self))
    }
}

impl std::ops::BitAnd for Filter {
    type Output = Filter;

    fn bitand(self, other: Filter) -> Filter {
        self.and(other)
    }
}

impl std::ops::BitOr for Filter {
    type Output = Filter;

    fn bitor(self, other: Filter) -> Filter {
        self.or(other)
    }
}

macro_rules! scalar_from {
    ($($from:ty => $variant:ident via $via:expr),* $(,)?) => {
        $(impl From<$from> for Scalar {
            fn from(value: $from) -> Self {
                Scalar::$variant($via(value))
            }
        })*
    };
}

scalar_from! {
    bool => Bool via std::convert::identity,
    i32 => Integer via i64::from,
    u32 => Integer via i64::from,
    i64 => Integer via std::convert::identity,
    f64 => Float via std::convert::identity,
    &str => Text via str::to_owned,
    String => Text via std::convert::identity,
    super::Timestamp => Text via |time: super::Timestamp| time.to_string(),
}

/// A single value found in a document.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found<'a> {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(&'a str),
}

fn metadata<'a>(document: &'a Document, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let mut value = document.metadata.get(first)?;
    for key in rest {
        value = value.as_object()?.get(key)?;
    }
    (!value.is_null()).then_some(value)
}

fn exists(document: &Document, field: &Field) -> bool {
    match field {
        Field::Id | Field::Title => true,
        Field::DocumentType => document.document_type.is_some(),
        Field::CreatedAt => document.created_at.is_some(),
        Field::FilePath => document.file_path.is_some(),
        Field::Metadata(path) => metadata(document, path).is_some(),
    }
}

fn any_value(document: &Document, field: &Field, test: impl Fn(Found<'_>) -> bool) -> bool {
    match field {
        Field::Id => test(Found::Text(&document.id)),
        Field::Title => test(Found::Text(&document.title)),
        Field::DocumentType => document
            .document_type
            .as_deref()
            .map(Found::Text)
            .is_some_and(test),
        Field::FilePath => document
            .file_path
            .as_deref()
            .map(Found::Text)
            .is_some_and(test),
        Field::CreatedAt => document
            .created_at
            .is_some_and(|time| test(Found::Text(&time.to_string()))),
        Field::Metadata(path) => match metadata(document, path) {
            Some(Value::Array(elements)) => elements.iter().filter_map(single).any(test),
            Some(value) => single(value).is_some_and(test),
            None => false,
        },
    }
}

fn single(value: &Value) -> Option<Found<'_>> {
    match value {
        Value::Bool(value) => Some(Found::Bool(*value)),
        Value::String(text) => Some(Found::Text(text)),
        Value::Number(number) => number
            .as_i64()
            .map(Found::Integer)
            .or_else(|| number.as_f64().map(Found::Float)),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn holds(found: Found<'_>, comparison: Comparison, value: &Scalar) -> bool {
    let order = match (found, value) {
        (Found::Bool(a), Scalar::Bool(b)) => Some(a.cmp(b)),
        (Found::Text(a), Scalar::Text(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        (Found::Integer(a), Scalar::Integer(b)) => Some(a.cmp(b)),
        (Found::Float(a), Scalar::Float(b)) => a.partial_cmp(b),
        (Found::Integer(a), Scalar::Float(b)) => integer_to_float(a, *b),
        (Found::Float(a), Scalar::Integer(b)) => integer_to_float(*b, a).map(Ordering::reverse),
        _ => None,
    };
    match comparison {
        Comparison::Eq => order == Some(Ordering::Equal),
        Comparison::Ne => order != Some(Ordering::Equal),
        Comparison::Lt => order == Some(Ordering::Less),
        Comparison::Le => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Comparison::Gt => order == Some(Ordering::Greater),
        Comparison::Ge => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    }
}

/// Compares exactly: converting the integer to `f64` would make distinct numbers equal above 2^53.
fn integer_to_float(integer: i64, float: f64) -> Option<Ordering> {
    const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
    if float.is_nan() {
        return None;
    }
    if float >= TWO_TO_63 {
        return Some(Ordering::Less);
    }
    if float < -TWO_TO_63 {
        return Some(Ordering::Greater);
    }
    let whole = float.trunc();
    Some(
        integer
            .cmp(&(whole as i64))
            .then_with(|| 0.0_f64.total_cmp(&(float - whole + 0.0))),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document() -> Document {
        Document::new("a")
            .metadata("year", 1990)
            .metadata("tags", json!(["x", 3]))
            .metadata("nothing", Value::Null)
            .metadata("deep", json!({"er": {"most": true}}))
            .metadata("dotted.key", "yes")
    }

    #[test]
    fn a_missing_field_fails_comparisons_and_passes_negations() {
        let d = document();
        for missing in ["absent", "nothing"] {
            assert!(!field(missing).eq(1).matches(&d));
            assert!(!field(missing).lt(1).matches(&d));
            assert!(!field(missing).exists().matches(&d));
            assert!(field(missing).ne(1).matches(&d));
            assert!((!field(missing).eq(1)).matches(&d));
        }
    }

    #[test]
    fn types_do_not_mix() {
        let d = document();
        assert!(!field("year").eq("1990").matches(&d));
        assert!(!field("year").lt("2").matches(&d));
        assert!(field("year").ne("1990").matches(&d));
        assert!(field("year").eq(1990.0).matches(&d));
    }

    #[test]
    fn lists_match_by_element_and_objects_match_nothing() {
        let d = document();
        assert!(field("tags").eq("x").matches(&d));
        assert!(field("tags").gt(2).matches(&d));
        assert!(!field("tags").ne("x").matches(&d));
        assert!(!field("deep").eq("x").matches(&d));
        assert!(field("deep").exists().matches(&d));
        assert!(field_path(["deep", "er", "most"]).eq(true).matches(&d));
        assert!(field("dotted.key").eq("yes").matches(&d));
    }

    #[test]
    fn the_empty_forms() {
        let d = document();
        assert!(!field("year").is_in(Vec::<i64>::new()).matches(&d));
        assert!(Filter::And(vec![]).matches(&d));
        assert!(!Filter::Or(vec![]).matches(&d));
    }

    #[test]
    fn integers_and_floats_compare_exactly() {
        let big = (1_i64 << 53) + 1;
        let d = Document::new("a").metadata("n", big);
        assert!(!field("n").eq((1_i64 << 53) as f64).matches(&d));
        assert!(field("n").gt((1_i64 << 53) as f64).matches(&d));
        assert!(field("n").lt(f64::INFINITY).matches(&d));
        assert!(field("n").gt(-1.5).matches(&d));
        let negative = Document::new("a").metadata("n", -1);
        assert!(field("n").gt(-1.5).matches(&negative));
        assert!(field("n").lt(-0.5).matches(&negative));
    }

    #[test]
    fn created_dates_order_by_time() {
        let d =
            Document::new("a").created_at(super::super::Timestamp::from_unix_milliseconds(1_000));
        let later = super::super::Timestamp::from_unix_milliseconds(1_001);
        assert!(fact(Field::CreatedAt).lt(later).matches(&d));
        assert!(!fact(Field::CreatedAt).ge(later).matches(&d));
    }
}
