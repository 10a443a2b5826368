//! Random documents, random conditions on them, and the way back to a small one that fails.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::data::{Seeded, record};
use crate::model::{Comparison, Document, DocumentRecord, Field, Filter, Scalar, Timestamp};

/// Keys of the documents and of the conditions; the first ones often, so that paths meet.
const KEYS: [&str; 20] = [
    "v",
    "v",
    "v",
    "v",
    "v",
    "v",
    "a",
    "a",
    "a",
    "b",
    "a.b",
    "it's",
    "\"",
    "",
    "$",
    "0",
    "[0]",
    "v.w",
    "\u{e4}",
    "\u{1f980}",
];

/// Texts are made of these.
const FRAGMENTS: [&str; 18] = [
    "a",
    "A",
    "b",
    "1",
    "0",
    " ",
    "%",
    "_",
    "*",
    "?",
    "'",
    "\"",
    "\\",
    "$",
    "{",
    "\u{e4}",
    "a\u{308}",
    "\u{1f980}",
];

const COMPARISONS: [Comparison; 6] = [
    Comparison::Eq,
    Comparison::Ne,
    Comparison::Lt,
    Comparison::Le,
    Comparison::Gt,
    Comparison::Ge,
];

/// Mostly so short that many are the same.
fn text(seeded: &mut Seeded) -> String {
    (0..*seeded.pick(&[0, 1, 1, 1, 2, 3]))
        .map(|_| *seeded.pick(&FRAGMENTS))
        .collect()
}

/// Small numbers that meet each other, and those about which integers and `f64` disagree.
fn integer(seeded: &mut Seeded) -> i64 {
    let near = seeded.below(5) as i64 - 2;
    let base = *seeded.pick(&[0, 0, 0, 1 << 53, -(1 << 53), 1 << 62]);
    match seeded.below(12) {
        0 => i64::MAX,
        1 => i64::MIN,
        _ => base + near,
    }
}

fn float(seeded: &mut Seeded) -> f64 {
    match seeded.below(6) {
        0 => -0.0,
        1 => *seeded.pick(&[0.1, 0.5, -1.5, 1e-7, 1e300, -1e300, 9.3e18]),
        2 => integer(seeded) as f64 + 0.5,
        _ => integer(seeded) as f64,
    }
}

fn timestamp(seeded: &mut Seeded) -> Timestamp {
    let days = *seeded.pick(&[0, 1, -1, 20_000]);
    Timestamp::from_unix_milliseconds(days * 86_400_000 + seeded.below(3) as i64)
}

/// A value at most `depth` levels deep.
fn value(seeded: &mut Seeded, depth: usize) -> Value {
    match seeded.below(if depth == 0 { 8 } else { 11 }) {
        0 => Value::Null,
        1 => (seeded.below(2) == 0).into(),
        2 | 3 => integer(seeded).into(),
        4 => float(seeded).into(),
        5 if seeded.below(8) == 0 => u64::MAX.into(),
        5..=7 => text(seeded).into(),
        8 => (0..seeded.below(4))
            .map(|_| value(seeded, depth - 1))
            .collect(),
        _ => Value::Object(object(seeded, depth - 1)),
    }
}

fn object(seeded: &mut Seeded, depth: usize) -> Map<String, Value> {
    (0..seeded.below(4))
        .map(|_| ((*seeded.pick(&KEYS)).to_owned(), value(seeded, depth)))
        .collect()
}

/// So many random documents that all have the vector (1, 0, 0), in order of their ids.
pub(super) fn corpus(seeded: &mut Seeded, count: usize) -> Vec<Arc<DocumentRecord>> {
    (0..count).map(|number| document(seeded, number)).collect()
}

fn document(seeded: &mut Seeded, number: usize) -> Arc<DocumentRecord> {
    let mut document = Document::new(format!("{number:03}{}", text(seeded)));
    if seeded.below(3) > 0 {
        document = document.title(text(seeded));
    }
    if seeded.below(3) > 0 {
        document = document.document_type(text(seeded));
    }
    if seeded.below(3) > 0 {
        document = document.file_path(text(seeded));
    }
    if seeded.below(3) > 0 {
        document = document.created_at(timestamp(seeded));
    }
    for _ in 0..1 + seeded.below(5) {
        let key = *seeded.pick(&KEYS);
        document = document.metadata(key, value(seeded, 2));
    }
    record(document.vector([1.0, 0.0, 0.0]))
}

fn field(seeded: &mut Seeded) -> Field {
    match seeded.below(12) {
        0 => Field::Id,
        1 => Field::Title,
        2 => Field::DocumentType,
        3 => Field::CreatedAt,
        4 => Field::FilePath,
        5 => Field::Metadata(vec!["absent".to_owned()]),
        _ => {
            let levels = *seeded.pick(&[1, 1, 1, 2, 2, 3]);
            let keys = (0..levels).map(|_| (*seeded.pick(&KEYS)).to_owned());
            Field::Metadata(keys.collect())
        }
    }
}

/// A value to compare with; for a date mostly a date, else nearly all answers would be the same.
fn scalar(seeded: &mut Seeded, field: &Field) -> Scalar {
    if *field == Field::CreatedAt && seeded.below(4) > 0 {
        return timestamp(seeded).into();
    }
    match seeded.below(8) {
        0 => (seeded.below(2) == 0).into(),
        1 | 2 => integer(seeded).into(),
        3 => float(seeded).into(),
        4 => (*seeded.pick(&[f64::INFINITY, f64::NEG_INFINITY, 0.0, 1.0])).into(),
        _ => text(seeded).into(),
    }
}

/// Random conditions on a corpus. Most compare a field with what some document has there: at random
/// the two would hardly ever meet.
pub(super) struct Filters {
    seeded: Seeded,
    known: Vec<(Field, Scalar)>,
}

impl Filters {
    pub(super) fn new(seeded: Seeded, corpus: &[Arc<DocumentRecord>]) -> Self {
        let mut known = Vec::new();
        for record in corpus {
            let document = record.document();
            known.push((Field::Title, document.title.as_str().into()));
            known.extend(document.created_at.map(|at| (Field::CreatedAt, at.into())));
            for (key, value) in &document.metadata {
                collect(std::slice::from_ref(key), value, &mut known);
            }
        }
        Self { seeded, known }
    }

    fn field_and_value(&mut self) -> (Field, Scalar) {
        let seeded = &mut self.seeded;
        if seeded.below(4) > 0 && !self.known.is_empty() {
            return seeded.pick(&self.known).clone();
        }
        let field = field(seeded);
        let value = scalar(seeded, &field);
        (field, value)
    }

    /// The next condition, at most `depth` levels deep.
    pub(super) fn next(&mut self, depth: usize) -> Filter {
        match if depth == 0 { 0 } else { self.seeded.below(8) } {
            0..=2 => self.compare(),
            3 => self.one_of(),
            4 => Filter::Exists {
                field: self.field_and_value().0,
            },
            5 => !self.next(depth - 1),
            6 => Filter::And(self.several(depth)),
            _ => Filter::Or(self.several(depth)),
        }
    }

    fn compare(&mut self) -> Filter {
        let (field, value) = self.field_and_value();
        Filter::Compare {
            field,
            comparison: *self.seeded.pick(&COMPARISONS),
            value,
        }
    }

    fn one_of(&mut self) -> Filter {
        let (field, first) = self.field_and_value();
        let others = (0..self.seeded.below(3)).map(|_| scalar(&mut self.seeded, &field));
        let mut values: Vec<_> = others.collect();
        if self.seeded.below(4) > 0 {
            values.push(first);
        }
        Filter::In { field, values }
    }

    fn several(&mut self, depth: usize) -> Vec<Filter> {
        (0..*self.seeded.pick(&[0, 1, 2, 2, 2, 3, 3, 3]))
            .map(|_| self.next(depth - 1))
            .collect()
    }
}

/// Every single value below `path`.
fn collect(path: &[String], value: &Value, known: &mut Vec<(Field, Scalar)>) {
    let mut found = |scalar| known.push((Field::Metadata(path.to_vec()), scalar));
    match value {
        Value::Bool(value) => found((*value).into()),
        Value::String(text) => found(text.as_str().into()),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => found(integer.into()),
            (None, Some(float)) => found(float.into()),
            (None, None) => {}
        },
        Value::Array(elements) => {
            for element in elements.iter().filter(|e| !e.is_array() && !e.is_object()) {
                collect(path, element, known);
            }
        }
        Value::Object(members) => {
            for (key, value) in members {
                let below: Vec<_> = path.iter().chain([key]).cloned().collect();
                collect(&below, value, known);
            }
        }
        Value::Null => {}
    }
}

/// Every condition that is this one with one thing less.
pub(super) fn smaller(filter: &Filter) -> Vec<Filter> {
    match filter {
        Filter::Compare { .. } | Filter::Exists { .. } => Vec::new(),
        Filter::In { field, values } => without_one(values)
            .map(|values| Filter::In {
                field: field.clone(),
                values,
            })
            .collect(),
        Filter::And(all) => smaller_list(all, Filter::And),
        Filter::Or(any) => smaller_list(any, Filter::Or),
        Filter::Not(inner) => {
            let below = smaller(inner).into_iter().map(|less| !less);
            std::iter::once((**inner).clone()).chain(below).collect()
        }
    }
}

fn smaller_list(list: &[Filter], of: impl Fn(Vec<Filter>) -> Filter) -> Vec<Filter> {
    let mut found: Vec<Filter> = list.to_vec();
    found.extend(without_one(list).map(&of));
    for (place, part) in list.iter().enumerate() {
        for less in smaller(part) {
            let mut parts = list.to_vec();
            parts[place] = less;
            found.push(of(parts));
        }
    }
    found
}

fn without_one<T: Clone>(list: &[T]) -> impl Iterator<Item = Vec<T>> + '_ {
    (0..list.len()).map(|left_out| {
        let kept = list.iter().enumerate();
        kept.filter(|(place, _)| *place != left_out)
            .map(|(_, item)| item.clone())
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A condition that nearly all documents fulfil, or nearly none, tells little.
    #[test]
    fn the_random_conditions_divide_the_random_documents() {
        let mut seeded = Seeded::new(1);
        let corpus = corpus(&mut seeded, 40);
        let mut random = Filters::new(seeded, &corpus);
        let filters: Vec<_> = (0..400).map(|_| random.next(4)).collect();
        let divides = |filter: &&Filter| {
            let matching = corpus.iter().filter(|r| filter.matches(r.document()));
            (1..corpus.len()).contains(&matching.count())
        };
        let dividing = filters.iter().filter(divides).count();
        assert!(dividing > 200, "{dividing} of {}", filters.len());
    }

    #[test]
    fn a_condition_shrinks_to_the_part_that_matters() {
        let part = Filter::Exists {
            field: Field::FilePath,
        };
        let rest = Filter::Exists { field: Field::Id };
        let whole = !Filter::Or(vec![rest.clone(), Filter::And(vec![rest, !part.clone()])]);
        let mut least = whole;
        while let Some(less) = smaller(&least)
            .into_iter()
            .find(|less| format!("{less:?}").contains("FilePath"))
        {
            least = less;
        }
        assert_eq!(least, part);
    }
}
