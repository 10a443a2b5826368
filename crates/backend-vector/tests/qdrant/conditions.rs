//! What conditions mean, as the server's source has it.

use std::collections::HashMap;

use qdrant_client::qdrant::{
    Condition, FieldCondition, Filter, Value, condition::ConditionOneOf, r#match::MatchValue,
    value::Kind,
};

pub(super) type Payload = HashMap<String, Value>;

pub(super) fn holds(filter: &Filter, id: &str, payload: &Payload) -> bool {
    let one = |condition: &Condition| holds_one(condition, id, payload);
    filter.must.iter().all(one)
        && (filter.should.is_empty() || filter.should.iter().any(one))
        && !filter.must_not.iter().any(one)
}

fn holds_one(condition: &Condition, id: &str, payload: &Payload) -> bool {
    match condition.condition_one_of.as_ref().unwrap() {
        ConditionOneOf::Filter(inner) => holds(inner, id, payload),
        ConditionOneOf::HasId(ids) => {
            let mut ids = ids.has_id.iter();
            ids.any(|one| super::model::id_text(Some(one)).unwrap() == id)
        }
        ConditionOneOf::Nested(nested) => {
            let Some(Kind::ListValue(list)) = kind(payload, &nested.key) else {
                return false;
            };
            list.values.iter().any(|element| match &element.kind {
                // An id means nothing within a nested condition.
                Some(Kind::StructValue(object)) => {
                    holds(nested.filter.as_ref().unwrap(), "", &object.fields)
                }
                _ => false,
            })
        }
        ConditionOneOf::Field(field) => field_holds(field, payload),
        other => panic!("the adapter does not use {other:?}"),
    }
}

fn kind<'a>(payload: &'a Payload, key: &str) -> Option<&'a Kind> {
    payload.get(key)?.kind.as_ref()
}

/// A list matches if one of its elements does.
fn field_holds(field: &FieldCondition, payload: &Payload) -> bool {
    match kind(payload, &field.key) {
        Some(Kind::ListValue(list)) => {
            let mut elements = list.values.iter().filter_map(|value| value.kind.as_ref());
            elements.any(|element| value_holds(field, element))
        }
        Some(value) => value_holds(field, value),
        None => false,
    }
}

fn value_holds(field: &FieldCondition, value: &Kind) -> bool {
    if let Some(range) = &field.range {
        let number = match value {
            Kind::IntegerValue(integer) => *integer as f64,
            Kind::DoubleValue(double) => *double,
            _ => return false,
        };
        return range.lt.is_none_or(|lt| number < lt)
            && range.lte.is_none_or(|lte| number <= lte)
            && range.gt.is_none_or(|gt| number > gt)
            && range.gte.is_none_or(|gte| number >= gte);
    }
    let wanted = field.r#match.as_ref().unwrap().match_value.as_ref();
    match (wanted.unwrap(), value) {
        (MatchValue::Keyword(wanted), Kind::StringValue(text)) => wanted == text,
        (MatchValue::Keywords(wanted), Kind::StringValue(text)) => wanted.strings.contains(text),
        (MatchValue::Integer(wanted), Kind::IntegerValue(integer)) => wanted == integer,
        _ => false,
    }
}
