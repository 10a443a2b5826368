//! Searches over crates whose answer is known.

use dbmanager::{
    DatabaseManager, Result,
    model::{Contribution, LegName, Query, TraversalDirection},
};
use serde::Serialize;

/// Words and the crates of which one must be among the first three hits.
const HYBRID: [(&str, &[&str]); 5] = [
    ("async runtime", &["tokio"]),
    ("serialize json", &["serde_json"]),
    ("derive error type", &["thiserror"]),
    ("approximate nearest neighbour", &["usearch"]),
    ("embedded sql database", &["rusqlite", "libsqlite3-sys"]),
];

/// futures-util needs slab and nowhere says so in words: only the edge between them knows.
const RELATION: (&str, &str) = ("slab", "futures-util");

/// How a search came out.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) query: String,
    pub(crate) expected: Vec<String>,
    /// The ids found first, best first.
    pub(crate) found: Vec<String>,
    pub(crate) passed: bool,
    /// What makes the answer more than its ids.
    pub(crate) remark: Option<String>,
}

/// Runs every search.
pub(crate) async fn run_all(db: &DatabaseManager, collection: &str) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for (words, expected) in HYBRID {
        let response = db
            .search_documents(collection, Query::hybrid(words).limit(3))
            .await?;
        let found: Vec<String> = response.hits.iter().map(|hit| hit.id.to_string()).collect();
        outcomes.push(Outcome {
            query: words.to_owned(),
            expected: expected.iter().map(|id| (*id).to_owned()).collect(),
            passed: expected.iter().any(|id| found.iter().any(|f| f == id)),
            found,
            remark: None,
        });
    }
    outcomes.push(relation(db, collection).await?);
    Ok(outcomes)
}

/// What depends on a crate, asked by name: found over an edge, and not by full text.
async fn relation(db: &DatabaseManager, collection: &str) -> Result<Outcome> {
    let (words, expected) = RELATION;
    let by_words = db
        .search_documents(collection, Query::metadata(words).limit(100))
        .await?;
    let related = Query::graph(words)
        .direction(TraversalDirection::Incoming)
        .edge_kind("depends_on")
        .limit(3);
    let response = db.search_documents(collection, related).await?;
    let hit = response.hits.iter().find(|hit| &*hit.id == expected);
    let over_an_edge = |part: &Contribution| {
        let detail = part.detail.as_deref().unwrap_or_default();
        part.leg == LegName::Graph && detail.starts_with("via depends_on")
    };
    let only_graph = hit.is_some_and(|hit| hit.contributions.iter().all(over_an_edge));
    let in_words = by_words.hits.iter().any(|hit| &*hit.id == expected);
    Ok(Outcome {
        query: format!("what depends on {words}? (graph)"),
        expected: vec![expected.to_owned()],
        found: response.hits.iter().map(|hit| hit.id.to_string()).collect(),
        passed: only_graph && !in_words,
        remark: hit
            .and_then(|hit| hit.contributions.first())
            .and_then(|contribution| contribution.detail.clone()),
    })
}
