//! Turns a filter into a query over the entries of [`super::fields`].

use dbmanager_core::{
    backend::{BackendError, BackendResult},
    model::{Comparison, Field, Filter, Scalar},
};
use mongodb::bson::{Bson, Document, doc};

use super::fields::{self, BOOL, NUMBER, PATH, TEXT};

/// Levels of `and`, `or` and `not` inside each other; the server takes 100 levels of a query tree
/// and of documents inside each other, and a level of ours is up to two of its own.
pub(super) const MAX_DEPTH: usize = 40;
/// Bytes of values in a filter, as a bound on the command, of which the server takes 16 MiB.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of a condition beside its path and value.
const CONDITION_OVERHEAD: usize = 64;

/// The condition that `filter` is for documents whose entries are complete.
///
/// # Errors
/// `Unsupported` beyond the limits above, and for fields, values or conditions that this version
/// does not know.
pub(super) fn compile(filter: &Filter) -> BackendResult<Document> {
    let mut compiler = Compiler { room: MAX_BYTES };
    compiler.condition(filter, 1)
}

/// A condition that no document fulfils.
pub(super) fn nothing() -> Document {
    doc! { "_id": { "$in": [] } }
}

struct Compiler {
    room: usize,
}

impl Compiler {
    fn condition(&mut self, filter: &Filter, depth: usize) -> BackendResult<Document> {
        if depth > MAX_DEPTH {
            let what = format!("a filter of more than {MAX_DEPTH} levels");
            return Err(BackendError::unsupported(what));
        }
        match filter {
            Filter::Compare {
                field,
                comparison,
                value,
            } => self.compare(field, *comparison, value),
            Filter::In { field, values } => self.one_of(field, values),
            Filter::Exists {
                field: Field::Id | Field::Title,
            } => Ok(doc! {}),
            Filter::Exists { field } => {
                let path = self.path(field)?;
                Ok(doc! { "fields": { "$elemMatch": { PATH: path } } })
            }
            Filter::And(all) => match self.all(all, depth)? {
                conditions if conditions.is_empty() => Ok(doc! {}),
                conditions => Ok(doc! { "$and": conditions }),
            },
            Filter::Or(any) => match self.all(any, depth)? {
                conditions if conditions.is_empty() => Ok(nothing()),
                conditions => Ok(doc! { "$or": conditions }),
            },
            Filter::Not(inner) => Ok(not(self.condition(inner, depth + 1)?)),
            _ => Err(BackendError::unsupported("this kind of filter")),
        }
    }

    fn all(&mut self, filters: &[Filter], depth: usize) -> BackendResult<Vec<Document>> {
        filters
            .iter()
            .map(|filter| self.condition(filter, depth + 1))
            .collect()
    }

    fn compare(
        &mut self,
        field: &Field,
        comparison: Comparison,
        value: &Scalar,
    ) -> BackendResult<Document> {
        let operator = match comparison {
            Comparison::Eq | Comparison::Ne => "$eq",
            Comparison::Lt => "$lt",
            Comparison::Le => "$lte",
            Comparison::Gt => "$gt",
            Comparison::Ge => "$gte",
        };
        let condition = match typed(value)? {
            Some((kind, value)) => {
                self.take(&value)?;
                self.test(field, kind, doc! { operator: value })?
            }
            None => nothing(),
        };
        Ok(match comparison {
            Comparison::Ne => not(condition),
            _ => condition,
        })
    }

    fn one_of(&mut self, field: &Field, values: &[Scalar]) -> BackendResult<Document> {
        let mut by_kind = [BOOL, NUMBER, TEXT].map(|kind| (kind, Vec::new()));
        for value in values {
            let Some((kind, value)) = typed(value)? else {
                continue;
            };
            self.take(&value)?;
            if let Some((_, values)) = by_kind.iter_mut().find(|(of, _)| *of == kind) {
                values.push(value);
            }
        }
        let conditions = by_kind
            .into_iter()
            .filter(|(_, values)| !values.is_empty())
            .map(|(kind, values)| self.test(field, kind, doc! { "$in": values }))
            .collect::<BackendResult<Vec<_>>>()?;
        Ok(if conditions.is_empty() {
            nothing()
        } else {
            doc! { "$or": conditions }
        })
    }

    /// One entry of the field fulfils `test` with its value of this kind.
    fn test(&mut self, field: &Field, kind: &str, test: Document) -> BackendResult<Document> {
        match field {
            Field::Id if kind == TEXT => Ok(doc! { "_id": test }),
            Field::Id => Ok(nothing()),
            field => {
                let path = self.path(field)?;
                Ok(doc! { "fields": { "$elemMatch": { PATH: path, kind: test } } })
            }
        }
    }

    fn path(&mut self, field: &Field) -> BackendResult<String> {
        let path = fields::path(field)?;
        self.spend(path.len())?;
        Ok(path)
    }

    fn take(&mut self, value: &Bson) -> BackendResult<()> {
        self.spend(value.as_str().map_or(0, str::len))
    }

    fn spend(&mut self, bytes: usize) -> BackendResult<()> {
        let left = self.room.checked_sub(bytes + CONDITION_OVERHEAD);
        self.room = left.ok_or_else(|| {
            BackendError::unsupported(format!("a filter of more than {MAX_BYTES} bytes"))
        })?;
        Ok(())
    }
}

fn not(condition: Document) -> Document {
    doc! { "$nor": [condition] }
}

/// The value with the kind of entry that it is compared with; `None` for a NaN, which is compared
/// with nothing.
fn typed(value: &Scalar) -> BackendResult<Option<(&'static str, Bson)>> {
    Ok(match value {
        Scalar::Bool(value) => Some((BOOL, Bson::Boolean(*value))),
        Scalar::Integer(value) => Some((NUMBER, Bson::Int64(*value))),
        Scalar::Float(value) if value.is_nan() => None,
        Scalar::Float(value) => Some((NUMBER, Bson::Double(*value))),
        Scalar::Text(text) => Some((TEXT, Bson::String(text.clone()))),
        _ => return Err(BackendError::unsupported("this kind of value in a filter")),
    })
}

#[cfg(test)]
mod tests {
    use dbmanager_core::{
        backend::BackendErrorKind,
        model::{fact, field},
    };

    use super::*;

    #[test]
    fn comparisons_look_at_one_entry_of_the_value_s_type() {
        assert_eq!(
            compile(&field("year").ge(1990)).unwrap(),
            doc! { "fields": { "$elemMatch": { "p": r#"["year"]"#, "n": { "$gte": 1990_i64 } } } }
        );
        assert_eq!(
            compile(&field("a").ne("x")).unwrap(),
            doc! { "$nor": [
                { "fields": { "$elemMatch": { "p": r#"["a"]"#, "t": { "$eq": "x" } } } },
            ] }
        );
        assert_eq!(
            compile(&fact(Field::Id).lt("x")).unwrap(),
            doc! { "_id": { "$lt": "x" } }
        );
        assert_eq!(compile(&fact(Field::Id).lt(1)).unwrap(), nothing());
        assert_eq!(compile(&field("a").eq(f64::NAN)).unwrap(), nothing());
    }

    #[test]
    fn what_looks_like_syntax_is_a_value() {
        let text = r#"{"$where": "1"}"#;
        assert_eq!(
            compile(&field("$where").eq(text)).unwrap(),
            doc! { "fields": { "$elemMatch": { "p": r#"["$where"]"#, "t": { "$eq": text } } } }
        );
    }

    #[test]
    fn filters_beyond_the_limits_are_unsupported() {
        let nested = |levels| (0..levels).fold(field("a").eq(1), |filter, _| !filter);
        assert!(compile(&nested(MAX_DEPTH - 1)).is_ok());
        let error = compile(&nested(MAX_DEPTH)).unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Unsupported);
        let long = field("a").is_in(vec!["x".repeat(1 << 20); 9]);
        assert!(compile(&long).is_err());
    }
}
