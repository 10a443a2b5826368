//! Full text: Okapi BM25 over the words that stand in the records, computed by the server.
//!
//! The server's own text index knows no rarity of words (`textScore` adds up how often each occurs),
//! takes query syntax, counts a repeated word of the query once, and stems by languages of its own.
//! So records hold their terms and counts, an index finds those with any term of the query, and an
//! aggregation computes the score. The weight of a term is ln(1 + (N − n + ½) / (n + ½)), as in
//! Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond", with 1
//! added inside the logarithm so that no term counts against a document.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use dbmanager_core::{
    backend::{BackendResult, TextHit, TextSearchRequest},
    model::Version,
};
use mongodb::{
    bson::{Bson, Document, doc},
    options::FindOptions,
};

use super::{
    catalogue::{Catalogue, Entry},
    convert::{damaged, integer},
    layout,
    read::{all, at_most, condition},
    server::Server,
    terms::terms,
};

/// How soon repetitions of a term in a document stop counting.
const K1: f64 = 1.2;
/// How much a document's length counts.
const B: f64 = 0.75;
/// Distinct terms of a query that are searched for; later ones are left out.
const MAX_DISTINCT_TERMS: usize = 512;
/// Terms that one pipeline counts, a stage for each; some hosted servers take 50 stages.
const TERMS_PER_PIPELINE: usize = 40;
/// Terms of a query, repetitions included.
const MAX_TERMS: usize = 4_096;
/// The figures of a collection are read again when they are older than so many times what reading
/// them took: no more than a hundredth of the time goes into it.
const AGE_PER_COST: u32 = 100;

/// How large the collections are, as far as BM25 needs to know; a little behind at times, which
/// moves all scores alike.
#[derive(Debug, Default)]
pub(super) struct Figures(Mutex<HashMap<String, Figure>>);

#[derive(Clone, Copy, Debug)]
struct Figure {
    documents: f64,
    words: f64,
    read_at: Duration,
    cost: Duration,
}

impl Figures {
    async fn of(&self, server: &Server, entry: &Entry) -> BackendResult<Figure> {
        let now = server.runtime.monotonic();
        let known = self.lock().get(&entry.documents).copied();
        if let Some(known) = known
            && now.saturating_sub(known.read_at) < known.cost * AGE_PER_COST
        {
            return Ok(known);
        }
        let pipeline = vec![
            doc! { "$match": { "length": { "$gte": 0 } } },
            doc! { "$group": {
                "_id": Bson::Null,
                "documents": { "$sum": 1 },
                "words": { "$sum": "$length" },
            } },
        ];
        let found = server
            .aggregate("count documents and words", &entry.documents, pipeline)
            .await?;
        let number = |key| {
            found
                .first()
                .and_then(|figures| integer(figures, key))
                .unwrap_or(0) as f64
        };
        let figure = Figure {
            documents: number("documents"),
            words: number("words"),
            read_at: now,
            cost: server.runtime.monotonic().saturating_sub(now),
        };
        self.lock().insert(entry.documents.clone(), figure);
        Ok(figure)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Figure>> {
        // Whole figures only are put in: a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) async fn search(
    catalogue: Catalogue<'_>,
    figures: &Figures,
    request: &TextSearchRequest,
) -> BackendResult<Vec<TextHit>> {
    let entry = catalogue.get(&request.collection).await?;
    let server = catalogue.server;
    let query = Query::new(terms(entry.options.tokenizer, &request.text));
    let mut conditions = vec![doc! { "deleted": false }];
    if let Some(ids) = &request.restrict_to {
        let ids: Vec<&str> = ids.iter().map(|id| &**id).collect();
        conditions.push(doc! { "_id": { "$in": ids } });
    }
    if let Some(filter) = &request.filter {
        conditions.push(condition(server, &entry, filter).await?);
    }
    if query.terms.is_empty() {
        return everything(server, &entry, conditions, request.limit).await;
    }
    let figure = figures.of(server, &entry).await?;
    let having = having(server, &entry, &query.terms).await?;
    let weights = query.weights(&having, figure.documents);
    conditions.insert(0, doc! { "words": { "$in": &query.terms } });
    let average = (figure.words / figure.documents.max(1.0)).max(1.0);
    let pipeline = vec![
        doc! { "$match": all(conditions) },
        doc! { "$project": {
            "version": 1,
            "deleted": 1,
            "score": score(&query.terms, &weights, average),
        } },
        doc! { "$sort": { "score": -1, "_id": 1 } },
        doc! { "$limit": at_most(request.limit) },
    ];
    let found = server
        .aggregate("search for words", &entry.documents, pipeline)
        .await?;
    let mut hits = found
        .iter()
        .map(|document| {
            let (id, head) = layout::head(document)?;
            let score = document.get_f64("score").map_err(|_| damaged("a score"))?;
            Ok(TextHit::new(id, head.version, score))
        })
        .collect::<BackendResult<Vec<_>>>()?;
    hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
    Ok(hits)
}

/// Everything that fulfils the conditions, by id.
async fn everything(
    server: &Server,
    entry: &Entry,
    conditions: Vec<Document>,
    limit: usize,
) -> BackendResult<Vec<TextHit>> {
    let options = FindOptions::builder()
        .projection(doc! { "version": 1 })
        .sort(doc! { "_id": 1 })
        .limit(at_most(limit))
        .build();
    let found = server
        .find("list documents", &entry.documents, all(conditions), options)
        .await?;
    found
        .iter()
        .map(|document| {
            let id = document.get_str("_id").map_err(|_| damaged("an id"))?;
            let version = integer(document, "version").ok_or_else(|| damaged("a version"))?;
            Ok(TextHit::new(id, Version::from_i64(version), 0.0))
        })
        .collect()
}

/// How many documents have each of the terms, counted in the index.
async fn having(server: &Server, entry: &Entry, terms: &[String]) -> BackendResult<Vec<f64>> {
    let mut having = Vec::with_capacity(terms.len());
    for some in terms.chunks(TERMS_PER_PIPELINE) {
        having.extend(having_some(server, entry, some).await?);
    }
    Ok(having)
}

async fn having_some(server: &Server, entry: &Entry, terms: &[String]) -> BackendResult<Vec<f64>> {
    let mut pipeline = Vec::new();
    for (place, term) in (0_i64..).zip(terms) {
        let stages = vec![
            doc! { "$match": { "words": term } },
            doc! { "$count": "count" },
            doc! { "$set": { "place": place } },
        ];
        if place == 0 {
            pipeline = stages;
        } else {
            pipeline.push(doc! { "$unionWith": {
                "coll": &entry.documents,
                "pipeline": stages,
            } });
        }
    }
    let found = server
        .aggregate("count documents with words", &entry.documents, pipeline)
        .await?;
    let mut having = vec![0.0; terms.len()];
    for counted in &found {
        let place = integer(counted, "place").and_then(|place| usize::try_from(place).ok());
        let slot = place.and_then(|place| having.get_mut(place));
        let (Some(slot), Some(count)) = (slot, integer(counted, "count")) else {
            return Err(damaged("a count of words"));
        };
        *slot = count as f64;
    }
    Ok(having)
}

/// The distinct terms of a query, each with how often it occurs there.
#[derive(Debug, PartialEq)]
struct Query {
    terms: Vec<String>,
    counts: Vec<f64>,
}

impl Query {
    fn new(terms: impl Iterator<Item = String>) -> Self {
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut query = Self {
            terms: Vec::new(),
            counts: Vec::new(),
        };
        for term in terms.take(MAX_TERMS) {
            match places.get(&term) {
                Some(place) => query.counts[*place] += 1.0,
                None if query.terms.len() == MAX_DISTINCT_TERMS => {}
                None => {
                    places.insert(term.clone(), query.terms.len());
                    query.terms.push(term);
                    query.counts.push(1.0);
                }
            }
        }
        query
    }

    /// The weight of each term among `documents`, of which `having` have it.
    fn weights(&self, having: &[f64], documents: f64) -> Vec<f64> {
        self.counts
            .iter()
            .zip(having)
            .map(|(count, having)| {
                // The two numbers are not of one moment.
                let documents = documents.max(*having);
                count * (1.0 + (documents - having + 0.5) / (having + 0.5)).ln()
            })
            .collect()
    }
}

/// The score of a record as an expression: the sum over the terms that it shares with the query.
fn score(terms: &[String], weights: &[f64], average: f64) -> Document {
    // Literals: a list of texts that start with a dollar would be a list of fields.
    let terms = doc! { "$literal": terms };
    let weight = doc! { "$arrayElemAt": [
        { "$literal": weights },
        { "$indexOfArray": [terms.clone(), "$$term"] },
    ] };
    let count = doc! { "$arrayElemAt": ["$counts", { "$indexOfArray": ["$words", "$$term"] }] };
    let length = doc! { "$add": [
        K1 * (1.0 - B),
        { "$multiply": [K1 * B / average, "$length"] },
    ] };
    let part = doc! { "$let": {
        "vars": { "count": count },
        "in": { "$multiply": [weight, { "$divide": [
            { "$multiply": ["$$count", K1 + 1.0] },
            { "$add": ["$$count", length] },
        ] }] },
    } };
    doc! { "$sum": { "$map": {
        "input": { "$setIntersection": ["$words", terms] },
        "as": "term",
        "in": part,
    } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::new(text.split(' ').map(str::to_owned))
    }

    #[test]
    fn repeated_terms_are_counted() {
        let query = query("red blue red");
        assert_eq!(query.terms, ["red", "blue"]);
        assert_eq!(query.counts, [2.0, 1.0]);
    }

    #[test]
    fn rarer_and_repeated_terms_weigh_more_and_none_weighs_nothing() {
        let weights = query("red blue red").weights(&[3.0, 3.0], 10.0);
        assert_eq!(weights[0], 2.0 * weights[1]);
        let weights = query("rare common").weights(&[1.0, 9.0], 10.0);
        assert!(weights[0] > weights[1] && weights[1] > 0.0);
        // More documents have the term than there were when all were counted.
        assert!(query("new").weights(&[5.0], 2.0)[0] > 0.0);
    }

    #[test]
    fn terms_beyond_the_limit_are_left_out() {
        let text: Vec<String> = (0..2_000).map(|n| format!("w{n}")).collect();
        let query = query(&format!("{} w0", text.join(" ")));
        assert_eq!(query.terms.len(), MAX_DISTINCT_TERMS);
        assert_eq!(query.counts[0], 2.0);
    }
}
