//! Turns a filter into the server's conditions over [`super::facts`].

use dbmanager_core::{
    backend::{BackendError, BackendResult},
    model::{Comparison, Field, Filter, Scalar},
};
use qdrant_client::qdrant::{
    Condition, FieldCondition, Filter as Conditions, Match, NestedCondition, Range,
    RepeatedStrings, condition::ConditionOneOf, r#match::MatchValue,
};

use super::{
    facts::{
        MAX_BOUND_BYTES, field_name, number_digits, number_key, presence, term, text_digits,
        text_key,
    },
    layout::{DIGITS, SORTABLE, SORTABLE_KEY, TERMS},
};

/// Levels of `and`, `or` and `not` inside each other. A server reads messages of at most 100
/// levels; one of these takes two, and a comparison up to ten.
const MAX_DEPTH: usize = 32;

/// A condition that is not known before the documents are looked at, or one that is.
#[derive(Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there are few, and only while a request is built"
)]
pub(super) enum Clause {
    Always,
    Never,
    When(Condition),
}

/// The condition that `filter` is.
///
/// # Errors
/// `Unsupported` for what the server cannot compare: a text with a bound of more than
/// [`MAX_BOUND_BYTES`], more than [`MAX_DEPTH`] levels, and fields or values that this version
/// does not know.
pub(super) fn compile(filter: &Filter) -> BackendResult<Clause> {
    clause(filter, 1)
}

fn clause(filter: &Filter, depth: usize) -> BackendResult<Clause> {
    if depth > MAX_DEPTH {
        return Err(BackendError::unsupported(format!(
            "a filter of more than {MAX_DEPTH} levels"
        )));
    }
    match filter {
        Filter::Compare {
            field,
            comparison,
            value,
        } => match comparison {
            Comparison::Eq => equal(field, std::slice::from_ref(value)),
            Comparison::Ne => Ok(not(equal(field, std::slice::from_ref(value))?)),
            _ => ordered(field, *comparison, value),
        },
        Filter::In { field, values } => equal(field, values),
        Filter::Exists { field } => Ok(Clause::When(has_term(vec![presence(&name(field)?)]))),
        Filter::And(all) => {
            let parts = all.iter().map(|part| clause(part, depth + 1));
            Ok(and(parts.collect::<BackendResult<_>>()?))
        }
        Filter::Or(any) => {
            let parts = any.iter().map(|part| clause(part, depth + 1));
            Ok(or(parts.collect::<BackendResult<_>>()?))
        }
        Filter::Not(inner) => Ok(not(clause(inner, depth + 1)?)),
        _ => Err(BackendError::unsupported("this kind of filter")),
    }
}

fn name(field: &Field) -> BackendResult<String> {
    field_name(field).ok_or_else(|| BackendError::unsupported("a filter on this field"))
}

fn equal(field: &Field, values: &[Scalar]) -> BackendResult<Clause> {
    let name = name(field)?;
    let mut terms = Vec::with_capacity(values.len());
    for value in values {
        match value {
            // Equal to nothing.
            Scalar::Float(float) if float.is_nan() => {}
            Scalar::Bool(_) | Scalar::Integer(_) | Scalar::Float(_) | Scalar::Text(_) => {
                terms.push(term(&name, value));
            }
            _ => return Err(unknown_value()),
        }
    }
    Ok(if terms.is_empty() {
        Clause::Never
    } else {
        Clause::When(has_term(terms))
    })
}

fn unknown_value() -> BackendError {
    BackendError::unsupported("a filter with a value of this type")
}

fn ordered(field: &Field, comparison: Comparison, value: &Scalar) -> BackendResult<Clause> {
    let name = name(field)?;
    match value {
        Scalar::Bool(bound) => {
            let found = [false, true].into_iter().filter(|found| match comparison {
                Comparison::Lt => found < bound,
                Comparison::Le => found <= bound,
                Comparison::Gt => found > bound,
                _ => found >= bound,
            });
            equal(field, &found.map(Scalar::Bool).collect::<Vec<_>>())
        }
        Scalar::Integer(_) | Scalar::Float(_) => Ok(match number_digits(value) {
            Some(digits) => beyond(number_key(&name), comparison, &digits),
            None => Clause::Never,
        }),
        Scalar::Text(text) if text.len() > MAX_BOUND_BYTES => Err(BackendError::unsupported(
            format!("a range with a bound of more than {MAX_BOUND_BYTES} bytes"),
        )),
        Scalar::Text(text) => Ok(beyond(text_key(&name), comparison, &text_digits(text))),
        _ => Err(unknown_value()),
    }
}

/// One of the field's sortables under `key` is beyond `bound`, compared digit by digit.
fn beyond(key: String, comparison: Comparison, bound: &[i64]) -> Clause {
    let mut any = Vec::new();
    let mut same = Vec::new();
    for (name, digit) in DIGITS.iter().zip(bound) {
        let mut all = same.clone();
        all.push(range(
            name,
            match comparison {
                Comparison::Lt | Comparison::Le => Range {
                    lt: Some(*digit as f64),
                    ..Range::default()
                },
                _ => Range {
                    gt: Some(*digit as f64),
                    ..Range::default()
                },
            },
        ));
        any.push(within(Conditions {
            must: all,
            ..Conditions::default()
        }));
        same.push(matches(name, MatchValue::Integer(*digit)));
    }
    if matches!(comparison, Comparison::Le | Comparison::Ge) {
        any.push(within(Conditions {
            must: same,
            ..Conditions::default()
        }));
    }
    let one = Conditions {
        must: vec![matches(SORTABLE_KEY, MatchValue::Keyword(key))],
        should: any,
        ..Conditions::default()
    };
    Clause::When(condition(ConditionOneOf::Nested(NestedCondition {
        key: SORTABLE.to_owned(),
        filter: Some(one),
    })))
}

fn has_term(mut terms: Vec<String>) -> Condition {
    if terms.len() == 1
        && let Some(term) = terms.pop()
    {
        return matches(TERMS, MatchValue::Keyword(term));
    }
    matches(
        TERMS,
        MatchValue::Keywords(RepeatedStrings { strings: terms }),
    )
}

fn and(parts: Vec<Clause>) -> Clause {
    let mut must = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            Clause::Always => {}
            Clause::Never => return Clause::Never,
            Clause::When(condition) => must.push(condition),
        }
    }
    if must.is_empty() {
        return Clause::Always;
    }
    Clause::When(within(Conditions {
        must,
        ..Conditions::default()
    }))
}

fn or(parts: Vec<Clause>) -> Clause {
    let mut should = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            Clause::Always => return Clause::Always,
            Clause::Never => {}
            Clause::When(condition) => should.push(condition),
        }
    }
    if should.is_empty() {
        return Clause::Never;
    }
    Clause::When(within(Conditions {
        should,
        ..Conditions::default()
    }))
}

fn not(part: Clause) -> Clause {
    match part {
        Clause::Always => Clause::Never,
        Clause::Never => Clause::Always,
        Clause::When(condition) => Clause::When(within(Conditions {
            must_not: vec![condition],
            ..Conditions::default()
        })),
    }
}

fn condition(one_of: ConditionOneOf) -> Condition {
    Condition {
        condition_one_of: Some(one_of),
    }
}

/// Conditions as one condition.
pub(super) fn within(conditions: Conditions) -> Condition {
    condition(ConditionOneOf::Filter(conditions))
}

/// The payload's value at `key`, or one of its elements, is equal.
pub(super) fn matches(key: &str, value: MatchValue) -> Condition {
    condition(ConditionOneOf::Field(FieldCondition {
        key: key.to_owned(),
        r#match: Some(Match {
            match_value: Some(value),
        }),
        ..FieldCondition::default()
    }))
}

/// The payload's number at `key` is in the range; for integers below 2^53 exactly.
pub(super) fn range(key: &str, range: Range) -> Condition {
    condition(ConditionOneOf::Field(FieldCondition {
        key: key.to_owned(),
        range: Some(range),
        ..FieldCondition::default()
    }))
}

#[cfg(test)]
mod tests {
    use dbmanager_core::model::{Document, fact, field};
    use serde_json::json;

    use super::*;
    use crate::qdrant::facts::Facts;

    /// What the server does with a condition, over the facts of a document.
    fn holds(condition: &Condition, facts: &Facts, digits: Option<&(String, Vec<i64>)>) -> bool {
        match condition.condition_one_of.as_ref().unwrap() {
            ConditionOneOf::Filter(conditions) => all_hold(conditions, facts, digits),
            ConditionOneOf::Nested(nested) => {
                assert_eq!(nested.key, SORTABLE);
                let conditions = nested.filter.as_ref().unwrap();
                let mut elements = facts.sortables.iter();
                elements.any(|element| all_hold(conditions, facts, Some(element)))
            }
            ConditionOneOf::Field(FieldCondition {
                key,
                r#match,
                range,
                ..
            }) => {
                let digit = || {
                    let index = DIGITS.iter().position(|name| name == key).unwrap();
                    digits.unwrap().1.get(index).copied()
                };
                if let Some(range) = range {
                    return digit().is_some_and(|digit| {
                        range.lt.is_none_or(|lt| (digit as f64) < lt)
                            && range.gt.is_none_or(|gt| digit as f64 > gt)
                    });
                }
                match r#match.as_ref().unwrap().match_value.as_ref().unwrap() {
                    MatchValue::Integer(integer) => digit() == Some(*integer),
                    MatchValue::Keyword(text) if key == SORTABLE_KEY => digits.unwrap().0 == *text,
                    MatchValue::Keyword(text) => facts.terms.contains(text),
                    MatchValue::Keywords(texts) => {
                        texts.strings.iter().any(|text| facts.terms.contains(text))
                    }
                    other => panic!("{other:?}"),
                }
            }
            other => panic!("{other:?}"),
        }
    }

    fn all_hold(
        conditions: &Conditions,
        facts: &Facts,
        digits: Option<&(String, Vec<i64>)>,
    ) -> bool {
        let holds = |condition: &Condition| holds(condition, facts, digits);
        conditions.must.iter().all(holds)
            && (conditions.should.is_empty() || conditions.should.iter().any(holds))
            && !conditions.must_not.iter().any(holds)
    }

    fn agrees(filter: &Filter, document: &Document) {
        let found = match compile(filter).unwrap() {
            Clause::Always => true,
            Clause::Never => false,
            Clause::When(condition) => holds(&condition, &Facts::of(document), None),
        };
        assert_eq!(
            found,
            filter.matches(document),
            "{filter:?} on {document:?}"
        );
    }

    #[test]
    fn conditions_mean_what_the_filter_means() {
        let values = [
            json!(null),
            json!(true),
            json!(0),
            json!(-1.5),
            json!((1_i64 << 53) + 1),
            json!(i64::MAX),
            json!(u64::MAX),
            json!(""),
            json!("a"),
            json!("a longer text that has more bytes than the digits of a sortable hold"),
            json!([1, "a", false]),
            json!([]),
            json!({"v": 1}),
        ];
        let bounds: Vec<Scalar> = vec![
            true.into(),
            false.into(),
            0.into(),
            (-1.5).into(),
            (1_i64 << 53).into(),
            i64::MAX.into(),
            f64::INFINITY.into(),
            f64::NEG_INFINITY.into(),
            f64::NAN.into(),
            "".into(),
            "a".into(),
            "a longer text that has more bytes than the".into(),
        ];
        for value in values {
            let document = Document::new("a").metadata("v", value);
            for bound in &bounds {
                let of = || field("v");
                let bound = || bound.clone();
                for filter in [
                    of().eq(bound()),
                    of().ne(bound()),
                    of().lt(bound()),
                    of().le(bound()),
                    of().gt(bound()),
                    of().ge(bound()),
                    of().is_in([bound(), 1.into()]),
                    !of().lt(bound()),
                    of().exists().and(of().ge(bound())),
                    of().eq("x").or(!of().exists()).or(of().le(bound())),
                ] {
                    agrees(&filter, &document);
                }
            }
        }
    }

    #[test]
    fn what_is_known_beforehand_is_not_asked() {
        let never = || field("v").is_in(Vec::<i64>::new());
        assert_eq!(compile(&never()).unwrap(), Clause::Never);
        assert_eq!(compile(&!never()).unwrap(), Clause::Always);
        assert_eq!(compile(&Filter::And(vec![])).unwrap(), Clause::Always);
        assert_eq!(compile(&Filter::Or(vec![])).unwrap(), Clause::Never);
        let some = field("v").eq(1);
        assert_eq!(compile(&never().and(some.clone())).unwrap(), Clause::Never);
        assert_eq!(compile(&some.or(!never())).unwrap(), Clause::Always);
    }

    #[test]
    fn what_the_server_cannot_compare_is_refused() {
        let unsupported = |filter: Filter| {
            let error = compile(&filter).unwrap_err();
            assert!(error.is_permanent(), "{error}");
        };
        let bound = "x".repeat(MAX_BOUND_BYTES + 1);
        unsupported(fact(Field::Title).lt(bound.clone()));
        unsupported(!fact(Field::Title).ge(bound.clone()));
        compile(&fact(Field::Title).eq(bound)).unwrap();
        compile(&fact(Field::Title).lt("x".repeat(MAX_BOUND_BYTES))).unwrap();
        let deep = (0..=MAX_DEPTH).fold(field("v").eq(1), |inner, _| !inner);
        unsupported(deep);
    }
}
