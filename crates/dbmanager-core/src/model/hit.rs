//! What a search answers: hits that explain themselves, and what each leg did.

use std::{fmt, sync::Arc, time::Duration};

use serde::Serialize;

use super::{Document, Passage, Role, Version};

/// A leg of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LegName {
    /// The vector store.
    Semantic,
    /// The relational store's full text.
    Metadata,
    /// The graph store.
    Graph,
}

impl LegName {
    /// The role whose store answers this leg.
    pub fn role(self) -> Role {
        match self {
            LegName::Semantic => Role::Vector,
            LegName::Metadata => Role::Relational,
            LegName::Graph => Role::Graph,
        }
    }

    /// The lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            LegName::Semantic => "semantic",
            LegName::Metadata => "metadata",
            LegName::Graph => "graph",
        }
    }
}

impl fmt::Display for LegName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What became of a leg.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LegOutcome {
    /// It answered, and its store holds everything it should.
    Answered,
    /// It answered, but its store lacks writes it has yet to receive.
    Incomplete,
    /// It failed; its hits are missing.
    Failed,
    /// It did not answer within its share of the deadline.
    TimedOut,
    /// Its store's circuit breaker is open; it was not asked.
    CircuitOpen,
    /// No such store is configured, or there is nothing to ask it (no vector, no words).
    NotConfigured,
    /// The search type or the query gave it nothing to do.
    NotAsked,
}

/// What one leg did.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LegReport {
    /// Which leg.
    pub leg: LegName,
    /// What became of it.
    pub outcome: LegOutcome,
    /// Candidates it brought.
    pub candidates: usize,
    /// How long it took.
    pub elapsed: Duration,
    /// Its weight in the fusion, normalised so that the weights of the asked legs sum to 1.
    pub weight: f64,
    /// What went wrong, without secrets.
    pub error: Option<String>,
    /// What the reader should know: a filter evaluated here, a bound reached.
    pub notes: Vec<String>,
}

impl LegReport {
    /// A report without candidates.
    pub fn new(leg: LegName, outcome: LegOutcome) -> Self {
        Self {
            leg,
            outcome,
            candidates: 0,
            elapsed: Duration::ZERO,
            weight: 0.0,
            error: None,
            notes: Vec::new(),
        }
    }

    /// Whether hits may be missing because of this leg.
    pub fn degraded(&self) -> bool {
        !matches!(
            self.outcome,
            LegOutcome::Answered | LegOutcome::NotConfigured | LegOutcome::NotAsked
        )
    }
}

/// One leg's part in a hit's score. The contributions of a hit sum to its fused score.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Contribution {
    /// Which leg.
    pub leg: LegName,
    /// Rank in that leg, from 1; absent if the leg's score was looked up and not ranked.
    pub rank: Option<usize>,
    /// The store's own score (BM25, similarity, graph proximity); higher is better.
    pub raw_score: f64,
    /// The score after the fusion's normalisation.
    pub normalised_score: f64,
    /// The leg's weight, normalised to sum to 1 over the legs.
    pub weight: f64,
    /// What it adds to the fused score.
    pub contribution: f64,
    /// The passage that matched, if the leg knows it.
    pub passage: Option<Passage>,
    /// In words, where numbers do not say it (for the graph: over which edge).
    pub detail: Option<String>,
}

/// How far a hit was checked against the current document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verification {
    /// The legs and the document agree on the version.
    Current,
    /// A leg found an older version than the current one, which its store has yet to receive. The
    /// content shown is current.
    Stale,
    /// The current document could not be read; only with `allow_unverified`.
    Unverified,
}

/// One document found.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Hit {
    /// The collection it is in.
    pub collection: Arc<str>,
    /// The id.
    pub id: Arc<str>,
    /// The fused score; higher is better. Comparable only within one response.
    pub score: f64,
    /// The version of the document shown.
    pub version: Version,
    /// The current document; absent only for an unverified hit, and without an authority where
    /// no store keeps it.
    pub document: Option<Document>,
    /// How far it was checked.
    pub verification: Verification,
    /// What each leg gave.
    pub contributions: Vec<Contribution>,
}

impl Hit {
    /// The stores that matched.
    pub fn matched_stores(&self) -> impl Iterator<Item = Role> + '_ {
        self.contributions
            .iter()
            .filter(|c| c.rank.is_some())
            .map(|c| c.leg.role())
    }

    /// The part of the text that matched, where a leg knows it: of a long document, the best of its
    /// passages.
    ///
    /// `None` if the hit was found as a whole, or the text is not (any more) the one that was
    /// searched.
    pub fn passage(&self) -> Option<&str> {
        if self.verification != Verification::Current {
            return None;
        }
        let passage = self.contributions.iter().find_map(|c| c.passage)?;
        let text = &self.document.as_ref()?.text;
        text.get(passage.start as usize..passage.end as usize)
    }
}

/// Why a page ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PageEnd {
    /// The page is full; there may be more.
    Full,
    /// There is nothing more.
    Exhausted,
    /// The bound on candidates was reached; there may be more that were not looked at.
    Budget,
}

/// The answer to a search.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SearchResponse {
    /// The hits of this page, best first; equal scores by collection and id.
    pub hits: Vec<Hit>,
    /// What each leg did.
    pub legs: Vec<LegReport>,
    /// Candidates dropped because they could not be checked.
    pub unverified: usize,
    /// Why the page ended.
    pub page_end: PageEnd,
    /// Where the next page starts, if there may be one.
    pub cursor: Option<String>,
    /// Without an authority: the role whose copy hits were checked against.
    pub verified_by: Option<Role>,
    /// How long the search took.
    pub elapsed: Duration,
    /// Whether this is the answer to an earlier search for the same, since which nothing was
    /// written; legs and times are those of that search.
    pub cached: bool,
}

impl SearchResponse {
    /// Whether hits may be missing or unchecked: a leg failed, its store has yet to receive a write
    /// (for a moment after each one), or candidates were dropped unverified.
    pub fn degraded(&self) -> bool {
        self.unverified > 0 || self.legs.iter().any(LegReport::degraded)
    }

    /// What each leg did.
    pub fn legs(&self) -> &[LegReport] {
        &self.legs
    }
}
