//! What a query must fulfil before anything is asked.

use std::time::Duration;

use crate::{
    Error, ErrorKind, Result,
    model::{Field, Filter, Query, Scalar, SearchType, Weights},
};

/// The most hits of a page.
pub(crate) const MAX_LIMIT: usize = 1_000;
/// The most references the graph leg follows from a seed.
pub(crate) const MAX_DEPTH: usize = 4;
/// The most bytes of a query's text.
pub(crate) const MAX_TEXT_BYTES: usize = 64 * 1024;
/// The most numbers of a query's vector.
pub(crate) const MAX_DIMENSION: usize = 16_384;
/// The most seeds, and the most edge kinds, of a query.
pub(crate) const MAX_SEEDS: usize = 100;
/// The most bytes of a seed or of an edge kind.
const MAX_NAME_BYTES: usize = 512;
/// The most levels of a filter.
pub(crate) const MAX_FILTER_DEPTH: usize = 32;
/// The most conditions and values of a filter together.
pub(crate) const MAX_FILTER_PARTS: usize = 10_000;
/// The most bytes of text in a filter.
const MAX_FILTER_BYTES: usize = 1024 * 1024;

/// Checks everything that does not depend on the collections.
///
/// A vector of zeros is valid: by cosine and inner product its score is 0 for every document, so
/// they are found by collection and id.
pub(crate) fn validate(query: &Query) -> Result<()> {
    in_range("limit", query.limit, 1, MAX_LIMIT)?;
    in_range("depth", query.depth, 1, MAX_DEPTH)?;
    validate_text(&query.text)?;
    if let Some(vector) = &query.vector {
        validate_vector(vector)?;
    }
    validate_names("seed", &query.seeds)?;
    validate_names("edge kind", &query.edge_kinds)?;
    if let Some(weights) = query.weights {
        validate_weights(weights)?;
    }
    if let Some(filter) = &query.filter {
        validate_filter(filter)?;
    }
    if query.timeout == Some(Duration::ZERO) {
        return Err(invalid("timeout is zero"));
    }
    something_to_ask(query)
}

/// Whether the query has words; white space is none.
pub(super) fn has_words(query: &Query) -> bool {
    !query.text.trim().is_empty()
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

fn in_range(name: &'static str, value: usize, lowest: usize, highest: usize) -> Result<()> {
    if (lowest..=highest).contains(&value) {
        return Ok(());
    }
    Err(invalid(format!("{name} is not in {lowest} to {highest}")).with(name, value))
}

fn validate_text(text: &str) -> Result<()> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(
            invalid(format!("text is longer than {MAX_TEXT_BYTES} bytes"))
                .with("bytes", text.len()),
        );
    }
    if text.contains('\0') {
        return Err(invalid("text contains NUL"));
    }
    Ok(())
}

fn validate_vector(vector: &[f32]) -> Result<()> {
    if vector.is_empty() {
        return Err(invalid("vector is empty"));
    }
    if vector.len() > MAX_DIMENSION {
        return Err(
            invalid(format!("vector has more than {MAX_DIMENSION} numbers"))
                .with("dimension", vector.len()),
        );
    }
    match vector.iter().position(|number| !number.is_finite()) {
        Some(index) => {
            Err(invalid("vector contains a number that is not finite").with("index", index))
        }
        None => Ok(()),
    }
}

fn validate_names(what: &str, names: &[String]) -> Result<()> {
    if names.len() > MAX_SEEDS {
        return Err(invalid(format!("more than {MAX_SEEDS} {what}s")).with("count", names.len()));
    }
    let bad =
        |name: &&String| name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains('\0');
    match names.iter().find(bad) {
        Some(name) => Err(invalid(format!(
            "a {what} is not 1 to {MAX_NAME_BYTES} bytes without NUL"
        ))
        .with("bytes", name.len())),
        None => Ok(()),
    }
}

fn validate_weights(weights: Weights) -> Result<()> {
    let all = [
        ("semantic", weights.semantic),
        ("metadata", weights.metadata),
        ("graph", weights.graph),
    ];
    for (leg, weight) in all {
        // The upper bound keeps the sum of the three finite.
        if !(0.0..=1e100).contains(&weight) {
            return Err(
                invalid("a weight is negative or not a number in 0 to 1e100")
                    .with("leg", leg)
                    .with("weight", weight),
            );
        }
    }
    if all.iter().all(|(_, weight)| *weight == 0.0) {
        return Err(invalid("all weights are zero"));
    }
    Ok(())
}

fn something_to_ask(query: &Query) -> Result<()> {
    let words = has_words(query);
    let seeds = !query.seeds.is_empty();
    let vector = query.vector.is_some();
    let filter = query.filter.is_some();
    match query.search_type {
        SearchType::Semantic if !words && !vector => {
            Err(invalid("a semantic query needs words or a vector"))
        }
        SearchType::Graph if !words && !seeds => Err(invalid("a graph query needs words or seeds")),
        SearchType::Metadata if !words && !filter => Err(invalid(
            "a metadata query needs words or a filter; listing documents needs neither",
        )),
        SearchType::Hybrid if !(words || vector || seeds || filter) => Err(invalid(
            "a hybrid query needs words, a vector, seeds or a filter",
        )),
        _ => Ok(()),
    }
}

/// Checks the size and the values of a filter.
pub(crate) fn validate_filter(filter: &Filter) -> Result<()> {
    let mut size = FilterSize::default();
    size.add(filter, 1)
}

/// What has been seen of a filter so far.
#[derive(Default)]
struct FilterSize {
    parts: usize,
    bytes: usize,
}

impl FilterSize {
    fn add(&mut self, filter: &Filter, depth: usize) -> Result<()> {
        if depth > MAX_FILTER_DEPTH {
            return Err(invalid(format!(
                "filter is nested more than {MAX_FILTER_DEPTH} levels deep"
            )));
        }
        self.count(0)?;
        match filter {
            Filter::Compare { field, value, .. } => {
                self.field(field)?;
                self.scalar(value)
            }
            Filter::In { field, values } => {
                self.field(field)?;
                values.iter().try_for_each(|value| self.scalar(value))
            }
            Filter::Exists { field } => self.field(field),
            Filter::And(parts) | Filter::Or(parts) => {
                parts.iter().try_for_each(|part| self.add(part, depth + 1))
            }
            Filter::Not(part) => self.add(part, depth + 1),
        }
    }

    fn count(&mut self, bytes: usize) -> Result<()> {
        self.parts += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.parts > MAX_FILTER_PARTS {
            return Err(invalid(format!(
                "filter has more than {MAX_FILTER_PARTS} conditions and values"
            )));
        }
        if self.bytes > MAX_FILTER_BYTES {
            return Err(invalid(format!(
                "filter has more than {MAX_FILTER_BYTES} bytes of text"
            )));
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<()> {
        if text.contains('\0') {
            return Err(invalid("filter contains NUL"));
        }
        self.count(text.len())
    }

    fn field(&mut self, field: &Field) -> Result<()> {
        match field {
            Field::Metadata(path) if path.is_empty() => {
                Err(invalid("filter names a metadata field without a key"))
            }
            Field::Metadata(path) if path.len() > MAX_FILTER_DEPTH => Err(invalid(format!(
                "filter names a metadata field of more than {MAX_FILTER_DEPTH} keys"
            ))),
            Field::Metadata(path) => path.iter().try_for_each(|key| self.text(key)),
            Field::Id | Field::Title | Field::DocumentType | Field::CreatedAt | Field::FilePath => {
                Ok(())
            }
        }
    }

    fn scalar(&mut self, scalar: &Scalar) -> Result<()> {
        match scalar {
            Scalar::Float(number) if number.is_nan() => {
                Err(invalid("filter compares with a number that is NaN"))
            }
            Scalar::Text(text) => self.text(text),
            Scalar::Bool(_) | Scalar::Integer(_) | Scalar::Float(_) => self.count(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Fusion, TraversalDirection, field};

    fn refusal(query: Query) -> String {
        let error = validate(&query).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(!error.is_retryable());
        error.message().to_owned()
    }

    #[test]
    fn a_plain_query_of_each_type_is_valid() {
        for query in [
            Query::hybrid("crash recovery"),
            Query::semantic("crash recovery"),
            Query::semantic_vector([0.0, 0.0]),
            Query::metadata("crash recovery"),
            Query::metadata("").filter(field("year").ge(1990)),
            Query::graph("crash recovery"),
            Query::related_to(["p1"]).direction(TraversalDirection::Incoming),
            Query::hybrid("x").fusion(Fusion::Rrf { k: 0 }).limit(1_000),
        ] {
            validate(&query).unwrap();
        }
    }

    #[test]
    fn limits_are_named() {
        assert_eq!(
            refusal(Query::hybrid("x").limit(0)),
            "limit is not in 1 to 1000"
        );
        assert_eq!(
            refusal(Query::hybrid("x").limit(1_001)),
            "limit is not in 1 to 1000"
        );
        assert_eq!(
            refusal(Query::hybrid("x").depth(0)),
            "depth is not in 1 to 4"
        );
        assert_eq!(
            refusal(Query::hybrid("x").depth(5)),
            "depth is not in 1 to 4"
        );
        assert_eq!(
            refusal(Query::hybrid("x".repeat(65_537))),
            "text is longer than 65536 bytes"
        );
        assert_eq!(refusal(Query::hybrid("a\0b")), "text contains NUL");
        assert_eq!(
            refusal(Query::related_to((0..101).map(|n| n.to_string()))),
            "more than 100 seeds"
        );
        assert_eq!(
            refusal(Query::related_to([""])),
            "a seed is not 1 to 512 bytes without NUL"
        );
        assert_eq!(
            refusal(Query::hybrid("x").timeout(Duration::ZERO)),
            "timeout is zero"
        );
    }

    #[test]
    fn vectors_must_be_finite_and_not_empty() {
        assert_eq!(refusal(Query::semantic_vector([])), "vector is empty");
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(
                refusal(Query::semantic_vector([0.5, bad])),
                "vector contains a number that is not finite"
            );
        }
    }

    #[test]
    fn weights_must_say_something() {
        for bad in [-0.1, f64::NAN, f64::INFINITY] {
            assert!(refusal(Query::hybrid("x").weights(bad, 1.0, 1.0)).starts_with("a weight"));
        }
        assert_eq!(
            refusal(Query::hybrid("x").weights(0.0, 0.0, 0.0)),
            "all weights are zero"
        );
    }

    #[test]
    fn a_query_that_asks_nothing_is_refused() {
        assert!(refusal(Query::semantic(" \n")).contains("words or a vector"));
        assert!(refusal(Query::metadata("")).contains("words or a filter"));
        assert!(refusal(Query::graph("")).contains("words or seeds"));
        assert!(refusal(Query::hybrid("")).contains("words, a vector, seeds or a filter"));
    }

    #[test]
    fn filters_have_bounds_and_no_nan() {
        let mut deep = field("a").eq(1);
        for _ in 0..MAX_FILTER_DEPTH {
            deep = !deep;
        }
        assert!(refusal(Query::hybrid("x").filter(deep)).contains("32 levels"));
        let wide = field("a").is_in(0..10_000);
        assert!(refusal(Query::hybrid("x").filter(wide)).contains("10000 conditions"));
        let long = field("a").eq("x".repeat(MAX_FILTER_BYTES + 1));
        assert!(refusal(Query::hybrid("x").filter(long)).contains("bytes of text"));
        let nan = field("a").lt(f64::NAN);
        assert!(refusal(Query::hybrid("x").filter(nan)).contains("NaN"));
        let nul = field("a").eq("\0");
        assert!(refusal(Query::hybrid("x").filter(nul)).contains("NUL"));
        let keyless = crate::model::field_path(Vec::<String>::new()).exists();
        assert!(refusal(Query::hybrid("x").filter(keyless)).contains("without a key"));
    }
}
