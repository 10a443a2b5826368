//! Filters in the server's language.
//!
//! The server has no negation, and its `$not_contains` is true for what is missing; so negations
//! are carried down to the comparisons. It has no order of texts: a filter that asks for one is not
//! taken, but for created dates, whose texts have the order of their times. Nor is one with more
//! conditions than the server's database takes (measured: 900 are, 1,000 are not, and 20,000 end
//! the server).

use dbmanager_core::model::{Comparison, Field, Filter, Scalar, Timestamp};
use serde_json::{Value, json};

use super::facts::{self, Bound, CREATED, TERMS, ValueType};

const MAX_CONDITIONS: usize = 400;
const MAX_DEPTH: usize = 20;
/// The first millisecond of the year 0: earlier dates print with a sign before them.
const YEAR_ZERO: i64 = -62_167_219_200_000;

/// What the server is asked.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Where {
    /// Every document fulfils it.
    All,
    /// None does.
    Nothing,
    /// Those of which the server says so.
    Is(Value),
}

/// The filter in the server's language; `None` if it cannot be said there.
pub(super) fn translate(filter: &Filter) -> Option<Where> {
    let translated = condition(filter, true, MAX_DEPTH)?;
    match &translated {
        Where::Is(value) if count(value) > MAX_CONDITIONS => None,
        _ => Some(translated),
    }
}

/// How many conditions are in a clause.
fn count(clause: &Value) -> usize {
    match clause.as_object().and_then(|object| object.iter().next()) {
        Some((operator, Value::Array(parts))) if operator.starts_with('$') => {
            parts.iter().map(count).sum()
        }
        _ => 1,
    }
}

/// Whether the filter is `wanted`: false asks for its negation.
fn condition(filter: &Filter, wanted: bool, depth: usize) -> Option<Where> {
    let deeper = depth.checked_sub(1)?;
    let parts = |filters: &[Filter]| -> Option<Vec<Where>> {
        filters
            .iter()
            .map(|filter| condition(filter, wanted, deeper))
            .collect()
    };
    match filter {
        Filter::And(filters) => Some(junction(wanted, parts(filters)?)),
        Filter::Or(filters) => Some(junction(!wanted, parts(filters)?)),
        Filter::Not(inner) => condition(inner, !wanted, deeper),
        Filter::Exists { field } => existence(field, wanted),
        Filter::In { field, values } => {
            let mut terms = Vec::new();
            for value in values {
                terms.extend(equal(field, value)?);
            }
            Some(any_of(terms, wanted))
        }
        Filter::Compare {
            field,
            comparison,
            value,
        } => match comparison {
            Comparison::Eq => Some(any_of(equal(field, value)?, wanted)),
            Comparison::Ne => Some(any_of(equal(field, value)?, !wanted)),
            order => ordering(field, *order, value, wanted),
        },
        _ => None,
    }
}

fn constant(wanted: bool) -> Where {
    match wanted {
        true => Where::All,
        false => Where::Nothing,
    }
}

/// All of the parts, or any of them.
fn junction(all: bool, parts: Vec<Where>) -> Where {
    let (neutral, absorbing) = (constant(all), constant(!all));
    let mut clauses = Vec::new();
    for part in parts {
        match part {
            part if part == absorbing => return absorbing,
            Where::Is(clause) => clauses.push(clause),
            _ => {}
        }
    }
    let operator = if all { "$and" } else { "$or" };
    match clauses.len() {
        0 => neutral,
        1 => Where::Is(clauses.swap_remove(0)),
        _ => Where::Is(json!({ operator: clauses })),
    }
}

fn contains(term: &str, wanted: bool) -> Where {
    let operator = if wanted { "$contains" } else { "$not_contains" };
    Where::Is(json!({ TERMS: { operator: term } }))
}

/// One of the terms is there, or, negated, none is.
fn any_of(terms: Vec<String>, wanted: bool) -> Where {
    let parts = terms.iter().map(|term| contains(term, wanted)).collect();
    junction(!wanted, parts)
}

fn existence(field: &Field, wanted: bool) -> Option<Where> {
    match field {
        Field::Id | Field::Title => Some(constant(wanted)),
        Field::Metadata(path) => Some(contains(&facts::exists(path), wanted)),
        fact => Some(contains(facts::fact_exists(fact)?, wanted)),
    }
}

/// The terms one of which a document has that equals the value in this field; `None` if there is
/// no saying.
fn equal(field: &Field, value: &Scalar) -> Option<Vec<String>> {
    let Field::Metadata(path) = field else {
        return match value {
            Scalar::Text(text) => Some(vec![facts::fact_is(field, text)?]),
            // Facts are texts.
            Scalar::Bool(_) | Scalar::Integer(_) | Scalar::Float(_) => Some(Vec::new()),
            _ => None,
        };
    };
    let has = |value_type, text: &str| facts::has(path, value_type, text);
    Some(match value {
        Scalar::Bool(value) => vec![has(ValueType::Bool, &value.to_string())],
        Scalar::Text(text) if text.len() > facts::MAX_TEXT_BYTES => return None,
        Scalar::Text(text) => vec![has(ValueType::Text, text)],
        Scalar::Integer(integer) => {
            let mut terms = vec![has(ValueType::Integer, &integer.to_string())];
            let float = *integer as f64;
            if float as i128 == i128::from(*integer) {
                terms.push(has(ValueType::Float, &facts::ordered(float).to_string()));
            }
            terms
        }
        Scalar::Float(float) if float.is_nan() => Vec::new(),
        Scalar::Float(float) => {
            let mut terms = vec![has(ValueType::Float, &facts::ordered(*float).to_string())];
            if let Ok(integer) = i64::try_from(*float as i128)
                && float.trunc() == *float
                && float.is_finite()
            {
                terms.push(has(ValueType::Integer, &integer.to_string()));
            }
            terms
        }
        _ => return None,
    })
}

/// One of the four comparisons by order.
fn ordering(field: &Field, comparison: Comparison, value: &Scalar, wanted: bool) -> Option<Where> {
    match (field, value) {
        (Field::CreatedAt, Scalar::Text(text)) => created(comparison, text, wanted),
        (_, Scalar::Text(_)) => None,
        (Field::Metadata(path), Scalar::Bool(value)) => {
            let fulfilling = [false, true]
                .into_iter()
                .filter(|found| holds(comparison, found.cmp(value)))
                .map(|found| facts::has(path, ValueType::Bool, &found.to_string()));
            Some(any_of(fulfilling.collect(), wanted))
        }
        (Field::Metadata(path), Scalar::Integer(_) | Scalar::Float(_)) => {
            let of = |value_type, limit| numbers(path, value_type, comparison, limit, wanted);
            let parts = vec![
                of(ValueType::Integer, integer_limit(comparison, value)),
                of(ValueType::Float, float_limit(comparison, value)),
            ];
            Some(junction(!wanted, parts))
        }
        (_, Scalar::Bool(_) | Scalar::Integer(_) | Scalar::Float(_)) => Some(constant(!wanted)),
        _ => None,
    }
}

fn holds(comparison: Comparison, order: std::cmp::Ordering) -> bool {
    match comparison {
        Comparison::Eq => order.is_eq(),
        Comparison::Ne => order.is_ne(),
        Comparison::Lt => order.is_lt(),
        Comparison::Le => order.is_le(),
        Comparison::Gt => order.is_gt(),
        Comparison::Ge => order.is_ge(),
    }
}

fn upwards(comparison: Comparison) -> bool {
    matches!(comparison, Comparison::Gt | Comparison::Ge)
}

/// The numbers of one type that fulfil a comparison by order.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    /// Those on the comparison's side of this one.
    From {
        number: i64,
        included: bool,
    },
    All,
    None,
}

/// Whole numbers against the value.
fn integer_limit(comparison: Comparison, value: &Scalar) -> Limit {
    let included = matches!(comparison, Comparison::Ge | Comparison::Le);
    match value {
        Scalar::Integer(number) => Limit::From {
            number: *number,
            included,
        },
        Scalar::Float(float) if float.is_nan() => Limit::None,
        Scalar::Float(float) => {
            let up = upwards(comparison);
            // The nearest whole number on the comparison's side; of a whole one, itself.
            let whole = if up { float.ceil() } else { float.floor() };
            let is_whole = whole == *float;
            match i64::try_from(whole as i128) {
                Ok(number) if whole.is_finite() => Limit::From {
                    number,
                    included: included || !is_whole,
                },
                _ if (*float > 0.0) == up => Limit::None,
                _ => Limit::All,
            }
        }
        _ => Limit::None,
    }
}

/// Floating-point numbers against the value.
fn float_limit(comparison: Comparison, value: &Scalar) -> Limit {
    let included = matches!(comparison, Comparison::Ge | Comparison::Le);
    match value {
        Scalar::Float(float) if float.is_nan() => Limit::None,
        Scalar::Float(float) => Limit::From {
            number: facts::ordered(*float),
            included,
        },
        Scalar::Integer(integer) => {
            let float = *integer as f64;
            let order = (float as i128).cmp(&i128::from(*integer));
            Limit::From {
                number: facts::ordered(float),
                // No floating-point number lies between the whole number and the nearest one.
                included: match order {
                    std::cmp::Ordering::Equal => included,
                    above => above.is_gt() == upwards(comparison),
                },
            }
        }
        _ => Limit::None,
    }
}

/// The field has a number of this type within the limit; or, negated, it has none.
fn numbers(
    path: &[String],
    value_type: ValueType,
    comparison: Comparison,
    limit: Limit,
    wanted: bool,
) -> Where {
    let there = facts::is_there(path, value_type);
    match limit {
        Limit::None => constant(!wanted),
        Limit::All => contains(&there, wanted),
        Limit::From { number, included } => {
            let end = match upwards(comparison) {
                true => Bound::Greatest,
                false => Bound::Least,
            };
            let key = facts::bound(path, value_type, end);
            beyond(&key, &there, upwards(comparison), number, included, wanted)
        }
    }
}

/// The number under the key is beyond this one; or, negated, it is not, or is not there.
fn beyond(key: &str, there: &str, up: bool, number: i64, included: bool, wanted: bool) -> Where {
    let operator = match (up == wanted, included == wanted) {
        (true, true) => "$gte",
        (true, false) => "$gt",
        (false, true) => "$lte",
        (false, false) => "$lt",
    };
    let compared = Where::Is(json!({ key: { operator: number } }));
    match wanted {
        true => compared,
        false => junction(false, vec![compared, contains(there, false)]),
    }
}

/// A created date against a text: the text is between two milliseconds.
fn created(comparison: Comparison, text: &str, wanted: bool) -> Option<Where> {
    let there = facts::fact_exists(&Field::CreatedAt).unwrap_or_default();
    let first = match text.bytes().next() {
        // Dates before the year 0 are no longer in the order of their texts.
        Some(b'-') => return None,
        Some(byte) if byte > b'-' => first_at_least(text),
        _ => i64::MIN,
    };
    // Whether the text is that of a date: then it is of `first`.
    let met = Timestamp::from_unix_milliseconds(first).to_string() == text;
    let (up, number) = match comparison {
        Comparison::Ge | Comparison::Gt => (true, first),
        _ => (false, first),
    };
    let included = match comparison {
        Comparison::Ge => true,
        Comparison::Gt => !met,
        Comparison::Le => met,
        _ => false,
    };
    Some(beyond(CREATED, there, up, number, included, wanted))
}

/// The first millisecond from the year 0 on whose text is not below this one.
fn first_at_least(text: &str) -> i64 {
    let last = Timestamp::from_unix_milliseconds(i64::MAX).as_unix_milliseconds();
    let (mut low, mut high) = (YEAR_ZERO, last + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let shown = Timestamp::from_unix_milliseconds(middle).to_string();
        if shown.as_bytes() < text.as_bytes() {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
