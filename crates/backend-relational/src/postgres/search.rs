//! Full-text search: Okapi BM25 over the words of title and text, computed by the server.
//!
//! The weight of a term is `ln(1 + (N − n + ½) / (n + ½))`, as in Robertson and Zaragoza 2009, "The
//! Probabilistic Relevance Framework: BM25 and Beyond" (with 1 added inside the logarithm), for `n`
//! of `N` documents that have it; its share of a document's score is that weight times
//! `f (k1 + 1) / (f + k1 (1 − b + b · length / average length))` for `f` occurrences.
//!
//! The server has no function for `f`. But it ranks (`ts_rank`) a document by one term, with all
//! position weights 1, as `(1 + 1/4 + 1/9 + … + 1/f²) / 1.64493406685`, which grows with `f`: so
//! `f` is found again by looking up between which two such sums the rank lies. `f` is at most 256,
//! as many positions as the server keeps of a word.

use dbmanager_core::{
    backend::{TextHit, TextSearchRequest},
    model::Version,
};
use sqlx::{AssertSqlSafe, Row as _, postgres::PgConnection};

use super::{
    catalogue::StoredCollection,
    convert::JobResult,
    filter::{Condition, Parameter},
    read::{and_filter, limit, sendable},
    statistics::{Frequencies, Term},
};

/// How soon repetitions of a term in a document stop counting.
const K1: f64 = 1.2;
/// How much a document's length counts.
const B: f64 = 0.75;
/// What `ts_rank` divides by.
const RANK_DIVISOR: f64 = 1.644_934_066_85;
/// Positions the server keeps of one word.
const MAX_POSITIONS: u32 = 256;
/// Matches of rare terms that are ranked before common ones are looked for.
const FEW_MATCHES: i64 = 2_000;

/// What a text without any term finds: by id, score 0.
pub(super) async fn everything(
    connection: &mut PgConnection,
    collection: &StoredCollection,
    request: &TextSearchRequest,
) -> JobResult<Vec<TextHit>> {
    let table = &collection.table;
    let condition = conditions(request, 2)?;
    let sql = format!(
        "SELECT id, version FROM {table} WHERE NOT deleted {} ORDER BY id LIMIT $1",
        condition.sql
    );
    let query = sqlx::query(AssertSqlSafe(sql))
        .persistent(request.filter.is_none())
        .bind(limit(request.limit));
    let rows = condition.bind(query).fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            let id: String = row.try_get(0)?;
            Ok(TextHit::new(id, Version::from_i64(row.try_get(1)?), 0.0))
        })
        .collect()
}

/// The best documents for these terms.
///
/// If the rare terms alone give enough hits, and a document that has none of them could not reach
/// the last of these hits with all the common ones, then the common ones' many documents need not
/// be looked at.
pub(super) async fn best(
    connection: &mut PgConnection,
    collection: &StoredCollection,
    request: &TextSearchRequest,
    frequencies: &Frequencies,
) -> JobResult<Vec<TextHit>> {
    let mut terms: Vec<Weighed<'_>> = frequencies
        .terms
        .iter()
        .filter(|term| term.documents > 0)
        .map(|term| Weighed::of(term, frequencies.documents))
        .collect();
    terms.sort_by(|a, b| (a.documents, a.lexeme).cmp(&(b.documents, b.lexeme)));
    if terms.is_empty() {
        return Ok(Vec::new());
    }
    let rare = rare(&terms, request);
    let run = Run {
        collection,
        request,
        average: frequencies.average_length,
        terms: &terms,
    };
    if rare < terms.len() {
        let hits = run.ranked(connection, rare).await?;
        let reachable: f64 = terms[rare..].iter().map(Weighed::most).sum();
        if hits.len() == request.limit && hits.last().is_some_and(|hit| hit.score > reachable) {
            return Ok(hits);
        }
    }
    run.ranked(connection, terms.len()).await
}

/// How many of the terms, rarest first, are rare.
fn rare(terms: &[Weighed<'_>], request: &TextSearchRequest) -> usize {
    if request.restrict_to.is_some() {
        return terms.len();
    }
    let mut matches = 0;
    terms
        .iter()
        .take_while(|term| {
            matches += term.documents;
            matches <= FEW_MATCHES
        })
        .count()
        .max(1)
}

/// A term of the query with its weight.
struct Weighed<'a> {
    lexeme: &'a str,
    documents: i64,
    weight: f64,
}

impl<'a> Weighed<'a> {
    fn of(term: &'a Term, documents: i64) -> Self {
        let having = term.documents as f64;
        let all = documents.max(term.documents) as f64;
        let weight = (1.0 + (all - having + 0.5) / (having + 0.5)).ln();
        Self {
            lexeme: &term.lexeme,
            documents: term.documents,
            weight: weight * f64::from(term.repetitions),
        }
    }

    /// More than this it adds to no score.
    fn most(&self) -> f64 {
        self.weight * (K1 + 1.0)
    }
}

struct Run<'a> {
    collection: &'a StoredCollection,
    request: &'a TextSearchRequest,
    average: f64,
    terms: &'a [Weighed<'a>],
}

impl Run<'_> {
    /// The best of the documents that have one of the first `among` terms, by all terms.
    async fn ranked(&self, connection: &mut PgConnection, among: usize) -> JobResult<Vec<TextHit>> {
        // $1 the limit, $2 the sums, $3 the average length, $4 what is looked for, then a lexeme
        // and a weight for each term, then the conditions.
        const FIRST: usize = 5;
        let condition = conditions(self.request, FIRST + 2 * self.terms.len())?;
        let sql = format!(
            "SELECT id, version, {score} AS score
             FROM {table}, LATERAL (SELECT {K1:?} * ({rest:?} + {B:?} * length / $3) AS norm) AS n
             WHERE words @@ $4::tsquery {conditions}
             ORDER BY score DESC, id LIMIT $1",
            score = score_sql(FIRST, self.terms.len()),
            table = self.collection.table,
            rest = 1.0 - B,
            conditions = condition.sql,
        );
        let any: Vec<String> = self.terms[..among]
            .iter()
            .map(|term| quoted(term.lexeme))
            .collect();
        // Not kept: a plan made for any values would read every query anew for every document.
        let query = sqlx::query(AssertSqlSafe(sql))
            .persistent(false)
            .bind(limit(self.request.limit))
            .bind(rank_bounds())
            .bind(self.average.max(1.0))
            .bind(any.join(" | "));
        let query = self.terms.iter().fold(query, |query, term| {
            query.bind(quoted(term.lexeme)).bind(term.weight)
        });
        let rows = condition.bind(query).fetch_all(connection).await?;
        rows.iter()
            .map(|row| {
                let id: String = row.try_get(0)?;
                let version = Version::from_i64(row.try_get(1)?);
                Ok(TextHit::new(id, version, row.try_get(2)?))
            })
            .collect()
    }
}

/// The sum of the terms' shares. `f / (f + norm)` is written as `1 - norm / (f + norm)`, so that
/// `f` is worked out once.
fn score_sql(first: usize, terms: usize) -> String {
    let each: Vec<String> = (0..terms)
        .map(|index| {
            let (lexeme, weight) = (first + 2 * index, first + 2 * index + 1);
            format!(
                "${weight} * {:?} * (1 - norm / (norm + width_bucket(\
                 ts_rank('{{1,1,1,1}}', words, ${lexeme}::tsquery)::float8, $2)))",
                K1 + 1.0
            )
        })
        .collect();
    each.join(" + ")
}

/// Bounds between the ranks of neighbouring numbers of occurrences: a rank above `n` of them is
/// that of `n` occurrences or more.
fn rank_bounds() -> Vec<f64> {
    let mut sum = 0.0;
    (1..=MAX_POSITIONS)
        .map(|n| {
            let step = 1.0 / f64::from(n).powi(2);
            sum += step;
            (sum - step / 2.0) / RANK_DIVISOR
        })
        .collect()
}

/// A term as the server's query language writes it.
pub(super) fn quoted(lexeme: &str) -> String {
    format!("'{}'", lexeme.replace('\\', "\\\\").replace('\'', "''"))
}

/// The request's filter and the ids that it is restricted to, as further conditions.
fn conditions(request: &TextSearchRequest, first_parameter: usize) -> JobResult<Condition> {
    let mut condition = and_filter(request.filter.as_deref(), first_parameter)?;
    if let Some(ids) = &request.restrict_to {
        let parameter = first_parameter + condition.parameters.len();
        condition.sql = format!("{} AND id = ANY (${parameter}::text[])", condition.sql);
        let ids = sendable(ids).into_iter().map(str::to_owned).collect();
        condition.parameters.push(Parameter::Texts(ids));
    }
    Ok(condition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_leads_back_to_the_number_of_occurrences() {
        let bounds = rank_bounds();
        let mut rank = 0.0;
        for n in 1..=MAX_POSITIONS {
            rank += 1.0 / f64::from(n).powi(2) / RANK_DIVISOR;
            // The server's rank is of single precision.
            let single = f64::from(rank as f32);
            let found = bounds.iter().take_while(|bound| **bound <= single).count();
            assert_eq!(found, n as usize);
        }
    }

    #[test]
    fn a_term_is_quoted() {
        assert_eq!(quoted(r"a'b\c"), r"'a''b\\c'");
    }

    #[test]
    fn the_weight_is_the_formula_and_never_negative() {
        let term = |documents, repetitions| Term {
            lexeme: "a".to_owned(),
            documents,
            repetitions,
        };
        let one = Weighed::of(&term(1, 1), 2).weight;
        assert!((one - 2.0_f64.ln()).abs() < 1e-12);
        assert!((Weighed::of(&term(1, 3), 2).weight - 3.0 * one).abs() < 1e-12);
        // An estimate of all documents may lag behind the count of those that have the term.
        assert!(Weighed::of(&term(100, 1), 10).weight > 0.0);
    }
}
