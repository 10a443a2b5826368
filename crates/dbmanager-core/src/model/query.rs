//! What a caller searches for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Filter;

/// Which legs a search runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum SearchType {
    /// Nearest neighbours of the query's vector.
    Semantic,
    /// Documents related to those the query starts from.
    Graph,
    /// Full text and filter in the relational store.
    Metadata,
    /// All three, fused.
    Hybrid,
}

/// Which way references are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TraversalDirection {
    /// From source to target.
    Outgoing,
    /// From target to source.
    Incoming,
    /// Both ways.
    #[default]
    Both,
}

/// How the ranked lists of the legs become one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fusion {
    /// The weighted sum of scores, each leg's scaled to 0..1 by its minimum and maximum over the
    /// candidates of all legs (Bruch, Gai and Ingber 2023, "An Analysis of Fusion Functions for
    /// Hybrid Retrieval").
    #[default]
    ConvexCombination,
    /// The weighted sum of scores, each leg's mapped by mean ± 3 standard deviations to 0..1, not
    /// clipped (distribution-based score fusion).
    Dbsf,
    /// Reciprocal rank fusion: the weighted sum of `1 / (k + rank)`, rank from 1 (Cormack, Clarke
    /// and Büttcher 2009).
    Rrf {
        /// The constant; 60 in the paper.
        k: u32,
    },
}

impl Fusion {
    /// Reciprocal rank fusion with the paper's constant, 60.
    pub const RRF: Fusion = Fusion::Rrf { k: 60 };
}

/// The weight of each leg; only their ratios count.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weights {
    /// Of the semantic leg.
    pub semantic: f64,
    /// Of the metadata leg.
    pub metadata: f64,
    /// Of the graph leg.
    pub graph: f64,
}

/// A search. Made by [`Query::hybrid`], [`Query::semantic`], [`Query::metadata`] or
/// [`Query::graph`]; the rest has defaults.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Query {
    /// Which legs run.
    pub search_type: SearchType,
    /// The words; may be empty if a vector, seeds or a filter say what to look for.
    pub text: String,
    /// The query's vector, in the collection's embedding space; absent: the embedder makes it
    /// from the text.
    pub vector: Option<Vec<f32>>,
    /// Ids the graph leg starts from; empty: the best hits of the other legs and title matches.
    pub seeds: Vec<String>,
    /// A condition every hit fulfils.
    pub filter: Option<Filter>,
    /// Hits per page, 1 to 1,000; 10 by default.
    pub limit: usize,
    /// How legs are fused.
    pub fusion: Fusion,
    /// The legs' weights; absent: the library's, by the embedder's kind.
    pub weights: Option<Weights>,
    /// How many references the graph leg follows from a seed, 1 to 4; 1 by default.
    pub depth: usize,
    /// Which way it follows them.
    pub direction: TraversalDirection,
    /// Only edges of these kinds; empty: all.
    pub edge_kinds: Vec<String>,
    /// Time for the whole search; absent: the configured one.
    pub timeout: Option<Duration>,
    /// Keeps hits that could not be checked against the current document, marked `unverified`.
    pub allow_unverified: bool,
    /// The page after the one that returned this cursor.
    pub cursor: Option<String>,
}

impl Query {
    fn new(search_type: SearchType, text: impl Into<String>) -> Self {
        Self {
            search_type,
            text: text.into(),
            vector: None,
            seeds: Vec::new(),
            filter: None,
            limit: 10,
            fusion: Fusion::default(),
            weights: None,
            depth: 1,
            direction: TraversalDirection::default(),
            edge_kinds: Vec::new(),
            timeout: None,
            allow_unverified: false,
            cursor: None,
        }
    }

    /// All three legs, fused.
    pub fn hybrid(text: impl Into<String>) -> Self {
        Self::new(SearchType::Hybrid, text)
    }

    /// Nearest neighbours of the text's embedding.
    pub fn semantic(text: impl Into<String>) -> Self {
        Self::new(SearchType::Semantic, text)
    }

    /// Nearest neighbours of a vector.
    pub fn semantic_vector(vector: impl Into<Vec<f32>>) -> Self {
        Self::new(SearchType::Semantic, "").vector(vector)
    }

    /// Full text. Empty text with a filter lists what fulfils the filter, by id.
    pub fn metadata(text: impl Into<String>) -> Self {
        Self::new(SearchType::Metadata, text)
    }

    /// Documents whose title matches and what they are related to.
    pub fn graph(text: impl Into<String>) -> Self {
        Self::new(SearchType::Graph, text)
    }

    /// Documents related to these.
    pub fn related_to<I: Into<String>>(seeds: impl IntoIterator<Item = I>) -> Self {
        let mut query = Self::new(SearchType::Graph, "");
        query.seeds = seeds.into_iter().map(Into::into).collect();
        query
    }

    /// Sets the query's vector.
    pub fn vector(mut self, vector: impl Into<Vec<f32>>) -> Self {
        self.vector = Some(vector.into());
        self
    }

    /// Adds a condition; several must all hold.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = Some(match self.filter.take() {
            Some(first) => first.and(filter),
            None => filter,
        });
        self
    }

    /// Sets how many hits a page has.
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Sets how legs are fused.
    pub fn fusion(mut self, fusion: Fusion) -> Self {
        self.fusion = fusion;
        self
    }

    /// Sets the legs' weights.
    pub fn weights(mut self, semantic: f64, metadata: f64, graph: f64) -> Self {
        self.weights = Some(Weights {
            semantic,
            metadata,
            graph,
        });
        self
    }

    /// Sets how far the graph leg goes.
    pub fn depth(mut self, depth: usize) -> Self {
        self.depth = depth;
        self
    }

    /// Sets which way references are followed.
    pub fn direction(mut self, direction: TraversalDirection) -> Self {
        self.direction = direction;
        self
    }

    /// Follows only edges of this kind (and of others added likewise).
    pub fn edge_kind(mut self, kind: impl Into<String>) -> Self {
        self.edge_kinds.push(kind.into());
        self
    }

    /// Sets the time for the whole search.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Keeps hits that could not be checked, marked as such.
    pub fn allow_unverified(mut self) -> Self {
        self.allow_unverified = true;
        self
    }

    /// Asks for the page after the one that returned this cursor. The query's other parts must be
    /// as they were.
    pub fn after(mut self, cursor: impl Into<String>) -> Self {
        self.cursor = Some(cursor.into());
        self
    }
}
