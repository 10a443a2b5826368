//! Turns a filter into SQL over the index of [`super::fields`].

use dbmanager_core::{
    backend::BackendError,
    model::{Comparison, Field, Filter, Scalar},
};
use rusqlite::types::Value;

use super::{
    JobResult,
    fields::{kind, path_text},
};

/// Levels of `and`, `or` and `not` inside each other. SQLite's limit on the depth of an expression
/// is 1,000, and one level takes up to 15 of it (a list of 30,000 as a balanced tree).
pub const MAX_DEPTH: usize = 50;
/// Values in a filter, its paths included. SQLite takes 32,766 parameters in one statement; the
/// rest is left to the statement that the condition becomes a part of.
pub const MAX_PARAMETERS: usize = 32_000;

/// A condition in SQL.
#[derive(Clone, Debug)]
pub struct Condition {
    /// An expression that is true or false (never null) for each document.
    pub sql: String,
    /// The values of its parameters, which are numbered from the number that [`compile`] was
    /// given.
    pub parameters: Vec<Value>,
}

/// The condition that `filter` is for the documents of `collection` (its integer key).
/// `document` is the SQL of the document's integer key, such as `document.key`; the parameters are
/// `?first_parameter` and on.
///
/// # Errors
/// `Unsupported` beyond [`MAX_DEPTH`] or [`MAX_PARAMETERS`], and for fields or values that this
/// version does not know.
pub fn compile(
    filter: &Filter,
    collection: i64,
    document: &str,
    first_parameter: usize,
) -> JobResult<Condition> {
    let mut compiler = Compiler {
        collection,
        document,
        first_parameter,
        parameters: Vec::new(),
    };
    let sql = compiler.condition(filter, 1)?;
    Ok(Condition {
        sql,
        parameters: compiler.parameters,
    })
}

struct Compiler<'a> {
    collection: i64,
    document: &'a str,
    first_parameter: usize,
    parameters: Vec<Value>,
}

impl Compiler<'_> {
    fn condition(&mut self, filter: &Filter, depth: usize) -> JobResult<String> {
        if depth > MAX_DEPTH {
            return Err(BackendError::unsupported(format!(
                "a filter of more than {MAX_DEPTH} levels"
            ))
            .into());
        }
        match filter {
            Filter::Compare {
                field,
                comparison,
                value,
            } => match comparison {
                Comparison::Ne => {
                    let equal = self.compare(field, "=", value)?;
                    Ok(format!("NOT {equal}"))
                }
                Comparison::Eq => self.compare(field, "=", value),
                Comparison::Lt => self.compare(field, "<", value),
                Comparison::Le => self.compare(field, "<=", value),
                Comparison::Gt => self.compare(field, ">", value),
                Comparison::Ge => self.compare(field, ">=", value),
            },
            Filter::In { field, values } => self.one_of(field, values),
            Filter::Exists { field } => {
                let path = self.path(field)?;
                Ok(self.documents_with(&path, ""))
            }
            Filter::And(all) => self.join(all, " AND ", "TRUE", depth),
            Filter::Or(any) => self.join(any, " OR ", "FALSE", depth),
            Filter::Not(inner) => {
                let inner = self.condition(inner, depth + 1)?;
                Ok(format!("NOT {inner}"))
            }
            _ => Err(BackendError::unsupported("this kind of filter").into()),
        }
    }

    fn compare(&mut self, field: &Field, operator: &str, value: &Scalar) -> JobResult<String> {
        let path = self.path(field)?;
        let (kind, value) = typed(value)?;
        let value = self.parameter(value)?;
        Ok(self.documents_with(
            &path,
            &format!(" AND kind = {kind} AND value {operator} {value}"),
        ))
    }

    fn one_of(&mut self, field: &Field, values: &[Scalar]) -> JobResult<String> {
        // Before the path becomes a parameter: SQLite is handed no more than the SQL names.
        if values.is_empty() {
            return Ok("FALSE".to_owned());
        }
        let path = self.path(field)?;
        let mut by_kind: [(i64, Vec<String>); 3] =
            [kind::BOOL, kind::NUMBER, kind::TEXT].map(|kind| (kind, Vec::new()));
        for value in values {
            let (kind, value) = typed(value)?;
            let value = self.parameter(value)?;
            if let Some((_, values)) = by_kind.iter_mut().find(|(of, _)| *of == kind) {
                values.push(value);
            }
        }
        let conditions: Vec<_> = by_kind
            .iter()
            .filter(|(_, values)| !values.is_empty())
            .map(|(kind, values)| {
                self.documents_with(
                    &path,
                    &format!(" AND kind = {kind} AND value IN ({})", values.join(", ")),
                )
            })
            .collect();
        Ok(balanced(&conditions, " OR ").unwrap_or_else(|| "FALSE".to_owned()))
    }

    fn join(
        &mut self,
        filters: &[Filter],
        operator: &str,
        empty: &str,
        depth: usize,
    ) -> JobResult<String> {
        let conditions = filters
            .iter()
            .map(|filter| self.condition(filter, depth + 1))
            .collect::<JobResult<Vec<_>>>()?;
        Ok(balanced(&conditions, operator).unwrap_or_else(|| empty.to_owned()))
    }

    /// The documents that have a row under the path, as a condition in parentheses.
    fn documents_with(&self, path: &str, and: &str) -> String {
        format!(
            "({} IN (SELECT document FROM field WHERE path = (SELECT key FROM field_path \
             WHERE collection = {} AND path = {path}){and}))",
            self.document, self.collection
        )
    }

    fn path(&mut self, field: &Field) -> JobResult<String> {
        let text = path_text(field)?;
        self.parameter(Value::Text(text))
    }

    fn parameter(&mut self, value: Value) -> JobResult<String> {
        if self.parameters.len() == MAX_PARAMETERS {
            return Err(BackendError::unsupported(format!(
                "a filter of more than {MAX_PARAMETERS} values"
            ))
            .into());
        }
        self.parameters.push(value);
        Ok(format!(
            "?{}",
            self.first_parameter + self.parameters.len() - 1
        ))
    }
}

fn typed(value: &Scalar) -> JobResult<(i64, Value)> {
    Ok(match value {
        Scalar::Bool(value) => (kind::BOOL, Value::Integer(i64::from(*value))),
        Scalar::Integer(value) => (kind::NUMBER, Value::Integer(*value)),
        // SQLite reads a NaN as null, and then, as it should, no comparison holds.
        Scalar::Float(value) => (kind::NUMBER, Value::Real(*value)),
        Scalar::Text(text) => (kind::TEXT, Value::Text(text.clone())),
        _ => return Err(BackendError::unsupported("this kind of value in a filter").into()),
    })
}

/// Joins as a balanced tree: a chain of 1,000 is deeper than SQLite allows.
fn balanced(conditions: &[String], operator: &str) -> Option<String> {
    match conditions {
        [] => None,
        [one] => Some(one.clone()),
        _ => {
            let (left, right) = conditions.split_at(conditions.len() / 2);
            let left = balanced(left, operator)?;
            let right = balanced(right, operator)?;
            Some(format!("({left}{operator}{right})"))
        }
    }
}
