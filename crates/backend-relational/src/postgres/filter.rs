//! Filters as conditions in SQL, with the meaning of `Filter::matches`.
//!
//! Every key and value is a parameter, so nothing in them is syntax. Every condition is true or
//! false, never null, so that negations are plain.
//!
//! Equality with a metadata value is containment (`@>`), which the index on `metadata` answers: an
//! object with that value, or with a list that has it, at the end of the path. Order is decided by
//! the value's own type: numbers as decimals of any size, texts byte by byte.

use dbmanager_core::{
    backend::{BackendError, BackendErrorKind},
    model::{Comparison, Field, Filter, Scalar},
};
use sqlx::{Postgres, postgres::PgArguments, query::Query};

use super::{
    convert::{JobError, JobResult},
    row::{exact_decimal, write_text},
};

/// A condition with the values of its parameters.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Condition {
    pub(super) sql: String,
    pub(super) parameters: Vec<Parameter>,
}

/// A value; what it is besides text says a cast in the SQL.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Parameter {
    Text(String),
    Texts(Vec<String>),
}

impl Condition {
    /// Binds the parameters behind those that the query has already.
    pub(super) fn bind(
        self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Query<'_, Postgres, PgArguments> {
        self.parameters
            .into_iter()
            .fold(query, |query, parameter| match parameter {
                Parameter::Text(text) => query.bind(text),
                Parameter::Texts(texts) => query.bind(texts),
            })
    }
}

/// Parameters of one statement (PostgreSQL's protocol counts them in 16 bits), with room for those
/// of its other parts.
const MAX_PARAMETERS: usize = 60_000;

/// The filter as a condition on a row of a collection's table; its parameters count from
/// `first_parameter` on.
///
/// # Errors
/// `Unsupported` for a field or value of a later version; `Refused` for a filter with more values
/// than a statement takes.
pub(super) fn compile(filter: &Filter, first_parameter: usize) -> JobResult<Condition> {
    let mut compiler = Compiler {
        first_parameter,
        parameters: Vec::new(),
    };
    let sql = compiler.condition(filter)?;
    if compiler.parameters.len() > MAX_PARAMETERS {
        return Err(BackendError::new(
            BackendErrorKind::Refused,
            format!("a filter of more than {MAX_PARAMETERS} keys and values"),
        )
        .not_applied()
        .into());
    }
    Ok(Condition {
        sql,
        parameters: compiler.parameters,
    })
}

const TRUE: &str = "true";
const FALSE: &str = "false";

/// Where a field's value is.
enum Place<'a> {
    /// A column of text.
    Column(&'static str),
    /// Under these keys of the metadata.
    Metadata(&'a [String]),
    /// Under a key that no stored document can have.
    Nowhere,
}

struct Compiler {
    first_parameter: usize,
    parameters: Vec<Parameter>,
}

impl Compiler {
    fn condition(&mut self, filter: &Filter) -> JobResult<String> {
        let sql = match filter {
            Filter::Compare {
                field,
                comparison,
                value,
            } => match comparison {
                Comparison::Ne => {
                    let equal = self.any_of(field, std::slice::from_ref(value))?;
                    format!("NOT {equal}")
                }
                Comparison::Eq => self.any_of(field, std::slice::from_ref(value))?,
                ordered => self.order(field, *ordered, value)?,
            },
            Filter::In { field, values } => self.any_of(field, values)?,
            Filter::Exists { field } => self.exists(field)?,
            Filter::And(all) => self.joined(all, " AND ", TRUE)?,
            Filter::Or(any) => self.joined(any, " OR ", FALSE)?,
            Filter::Not(inner) => format!("NOT {}", self.condition(inner)?),
            _ => return Err(unsupported("this kind of condition")),
        };
        Ok(format!("({sql})"))
    }

    fn exists(&mut self, field: &Field) -> JobResult<String> {
        Ok(match place(field)? {
            Place::Column(column) => format!("{column} IS NOT NULL"),
            Place::Nowhere => FALSE.to_owned(),
            Place::Metadata(path) => {
                let value = self.at(path);
                format!("coalesce(jsonb_typeof({value}) <> 'null', false)")
            }
        })
    }

    fn joined(&mut self, filters: &[Filter], operator: &str, none: &str) -> JobResult<String> {
        let each = filters
            .iter()
            .map(|filter| self.condition(filter))
            .collect::<JobResult<Vec<_>>>()?;
        Ok(match each.is_empty() {
            true => none.to_owned(),
            false => each.join(operator),
        })
    }

    /// The field has one of the values.
    fn any_of(&mut self, field: &Field, values: &[Scalar]) -> JobResult<String> {
        match place(field)? {
            Place::Column(column) => {
                let texts: Vec<String> = values.iter().filter_map(text).collect();
                if texts.is_empty() {
                    return Ok(FALSE.to_owned());
                }
                let texts = self.parameter(Parameter::Texts(texts));
                Ok(format!("coalesce({column} = ANY ({texts}::text[]), false)"))
            }
            Place::Nowhere => Ok(FALSE.to_owned()),
            Place::Metadata(path) => {
                let mut contained = Vec::with_capacity(2 * values.len());
                for value in values {
                    if let Some(value) = json(value) {
                        contained.push(nested(path, &value));
                        contained.push(nested(path, &format!("[{value}]")));
                    }
                }
                Ok(self.contains_any(contained))
            }
        }
    }

    /// The metadata has one of these JSON values in it. A few are asked for one by one, so that
    /// the index answers.
    fn contains_any(&mut self, contained: Vec<String>) -> String {
        const FEW: usize = 64;
        if contained.is_empty() {
            return FALSE.to_owned();
        }
        let sql = if contained.len() > FEW {
            let all = self.parameter(Parameter::Texts(contained));
            format!("metadata @> ANY ({all}::text[]::jsonb[])")
        } else {
            let each: Vec<String> = contained
                .into_iter()
                .map(|json| {
                    let json = self.parameter(Parameter::Text(json));
                    format!("metadata @> {json}::jsonb")
                })
                .collect();
            each.join(" OR ")
        };
        format!("({sql})")
    }

    /// The field lies on this side of the value.
    fn order(
        &mut self,
        field: &Field,
        comparison: Comparison,
        value: &Scalar,
    ) -> JobResult<String> {
        let Some(bound) = Bound::of(comparison, value) else {
            return Ok(FALSE.to_owned());
        };
        let path = match place(field)? {
            Place::Column(_) if bound.kind != Kind::Text => return Ok(FALSE.to_owned()),
            Place::Nowhere => return Ok(FALSE.to_owned()),
            Place::Column(column) => {
                let value = self.parameter(Parameter::Text(bound.value));
                let operator = bound.operator;
                return Ok(format!("coalesce({column} {operator} {value}, false)"));
            }
            Place::Metadata(path) => path,
        };
        let value = self.parameter(Parameter::Text(bound.value));
        let found = self.at(path);
        let single = bound.kind.compared(&found, bound.operator, &value);
        let element = bound.kind.compared("element.value", bound.operator, &value);
        let kind = bound.kind.json_type();
        Ok(format!(
            "CASE jsonb_typeof({found}) WHEN '{kind}' THEN {single} \
             WHEN 'array' THEN EXISTS (SELECT FROM jsonb_array_elements({found}) AS element \
             WHERE CASE jsonb_typeof(element.value) WHEN '{kind}' THEN {element} ELSE false END) \
             ELSE false END"
        ))
    }

    /// The metadata's value under these keys, as an expression. By key one level at a time: an
    /// operator that takes the whole path would take digits for positions in lists.
    fn at(&mut self, path: &[String]) -> String {
        path.iter().fold("metadata".to_owned(), |value, key| {
            let key = self.parameter(Parameter::Text(key.clone()));
            format!("({value} -> {key}::text)")
        })
    }

    fn parameter(&mut self, parameter: Parameter) -> String {
        self.parameters.push(parameter);
        format!("${}", self.first_parameter + self.parameters.len() - 1)
    }
}

/// What a value is compared as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bool,
    Number,
    Text,
}

impl Kind {
    fn json_type(self) -> &'static str {
        match self {
            Self::Bool => "boolean",
            Self::Number => "number",
            Self::Text => "string",
        }
    }

    /// The comparison of a JSON value of this type with a parameter.
    fn compared(self, json: &str, operator: &str, value: &str) -> String {
        match self {
            Self::Bool => format!("({json})::boolean {operator} {value}::boolean"),
            Self::Number => format!("({json})::numeric {operator} {value}::numeric"),
            Self::Text => format!("({json} #>> '{{}}') COLLATE \"C\" {operator} {value}::text"),
        }
    }
}

/// One side of a value.
struct Bound {
    kind: Kind,
    operator: &'static str,
    value: String,
}

impl Bound {
    /// `None` if nothing lies there.
    fn of(comparison: Comparison, value: &Scalar) -> Option<Self> {
        let operator = match comparison {
            Comparison::Lt => "<",
            Comparison::Le => "<=",
            Comparison::Gt => ">",
            Comparison::Ge => ">=",
            Comparison::Eq | Comparison::Ne => return None,
        };
        let (kind, operator, value) = match value {
            Scalar::Bool(value) => (Kind::Bool, operator, value.to_string()),
            Scalar::Integer(value) => (Kind::Number, operator, value.to_string()),
            Scalar::Float(value) => (Kind::Number, operator, numeric(*value)?),
            // No stored text has a NUL, so what is below "a\0…" is "a" at most.
            Scalar::Text(text) => match (text.split_once('\0'), comparison) {
                (None, _) => (Kind::Text, operator, text.clone()),
                (Some((start, _)), Comparison::Lt | Comparison::Le) => {
                    (Kind::Text, "<=", start.to_owned())
                }
                (Some((start, _)), _) => (Kind::Text, ">", start.to_owned()),
            },
            _ => return None,
        };
        Some(Self {
            kind,
            operator,
            value,
        })
    }
}

fn place(field: &Field) -> JobResult<Place<'_>> {
    Ok(match field {
        Field::Id => Place::Column("id"),
        Field::Title => Place::Column("title"),
        Field::DocumentType => Place::Column("document_type"),
        Field::CreatedAt => Place::Column("created_at"),
        Field::FilePath => Place::Column("file_path"),
        Field::Metadata(path) if path.is_empty() => Place::Nowhere,
        Field::Metadata(path) if path.iter().any(|key| key.contains('\0')) => Place::Nowhere,
        Field::Metadata(path) => Place::Metadata(path),
        _ => return Err(unsupported("this field in a filter")),
    })
}

/// The text, unless no stored one can equal it.
fn text(value: &Scalar) -> Option<String> {
    match value {
        Scalar::Text(text) if !text.contains('\0') => Some(text.clone()),
        _ => None,
    }
}

/// The number as the server reads decimals; `None` for what is no number.
fn numeric(float: f64) -> Option<String> {
    if float.is_nan() {
        None
    } else if float.is_infinite() {
        Some(if float > 0.0 { "Infinity" } else { "-Infinity" }.to_owned())
    } else {
        Some(exact_decimal(float))
    }
}

/// The value as JSON, unless no stored one can equal it.
fn json(value: &Scalar) -> Option<String> {
    match value {
        Scalar::Bool(value) => Some(value.to_string()),
        Scalar::Integer(value) => Some(value.to_string()),
        Scalar::Float(value) => value.is_finite().then(|| exact_decimal(*value)),
        Scalar::Text(_) => text(value).map(|text| {
            let mut json = String::new();
            write_text(&mut json, &text);
            json
        }),
        _ => None,
    }
}

/// An object that has the JSON value under these keys.
fn nested(path: &[String], value: &str) -> String {
    let mut json = String::new();
    for key in path {
        json.push('{');
        write_text(&mut json, key);
        json.push(':');
    }
    json.push_str(value);
    json.extend(path.iter().map(|_| '}'));
    json
}

fn unsupported(what: &str) -> JobError {
    BackendError::unsupported(what).into()
}

#[cfg(test)]
mod tests {
    use dbmanager_core::model::{fact, field, field_path};

    use super::*;

    fn compiled(filter: &Filter) -> Condition {
        compile(filter, 4).unwrap()
    }

    fn texts(condition: &Condition) -> Vec<&str> {
        condition
            .parameters
            .iter()
            .map(|parameter| match parameter {
                Parameter::Text(text) => text.as_str(),
                Parameter::Texts(_) => "several",
            })
            .collect()
    }

    #[test]
    fn nothing_of_a_filter_stands_in_the_sql() {
        let hostile = "'; DROP TABLE document --";
        let filters = [
            field(hostile).eq(hostile),
            field(hostile).lt(hostile),
            field(hostile).exists(),
            field_path([hostile, "\""]).is_in([hostile, "x"]),
            fact(Field::Title).eq(hostile),
            fact(Field::Id).ge(hostile),
        ];
        for filter in filters {
            let condition = compiled(&filter);
            assert!(!condition.sql.contains("DROP"), "{condition:?}");
            assert!(!condition.parameters.is_empty());
        }
    }

    #[test]
    fn parameters_count_from_the_first() {
        let condition = compiled(&field("a").gt(1).and(fact(Field::Title).lt("t")));
        assert_eq!(texts(&condition), ["1", "a", "t"]);
        for parameter in ["$4::numeric", "$5::text", "$6"] {
            assert!(condition.sql.contains(parameter), "{condition:?}");
        }
        assert!(!condition.sql.contains("$7"));
    }

    #[test]
    fn equality_asks_for_the_value_and_for_a_list_with_it() {
        let condition = compiled(&field_path(["a", "b"]).eq(9.3e18));
        assert_eq!(
            texts(&condition),
            [
                r#"{"a":{"b":9300000000000000000}}"#,
                r#"{"a":{"b":[9300000000000000000]}}"#
            ]
        );
    }

    #[test]
    fn what_no_document_can_have_is_false() {
        for filter in [
            field("a").lt(f64::NAN),
            field("a").eq(f64::INFINITY),
            field("a\0").lt(1),
            field("a\0").exists(),
            field("a").eq("\0"),
            fact(Field::Title).gt(5),
            field("a").is_in(Vec::<i64>::new()),
            Filter::Or(vec![]),
        ] {
            let condition = compiled(&filter);
            assert_eq!(condition.sql, "(false)", "{filter:?}");
            assert!(condition.parameters.is_empty());
        }
        assert_eq!(compiled(&Filter::And(vec![])).sql, "(true)");
        assert_eq!(compiled(&field("a").ne(f64::NAN)).sql, "(NOT false)");
    }

    #[test]
    fn a_nul_in_a_bound_is_cut_off_with_the_side_kept() {
        for (filter, operator) in [
            (fact(Field::Title).lt("a\0b"), "<="),
            (fact(Field::Title).le("a\0"), "<="),
            (fact(Field::Title).gt("a\0b"), ">"),
            (fact(Field::Title).ge("a\0"), ">"),
        ] {
            let condition = compiled(&filter);
            assert_eq!(texts(&condition), ["a"]);
            assert!(
                condition.sql.contains(&format!("title {operator} $4")),
                "{condition:?}"
            );
        }
    }

    #[test]
    fn many_values_are_one_parameter() {
        let condition = compiled(&field("a").is_in(0..1_000_i64));
        assert_eq!(condition.parameters.len(), 1);
        let too_many = Filter::Or((0..70_000).map(|i| field("a").gt(i)).collect());
        assert!(compile(&too_many, 1).is_err());
    }
}
