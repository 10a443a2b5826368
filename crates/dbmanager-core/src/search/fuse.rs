//! Makes one ranking of the legs' lists. Pure: no clock, no store.
//!
//! Whatever the method, a document's fused score is the sum of its contributions, one per leg that
//! scored it: the leg's weight times the normalised score. A leg that does not know a document
//! contributes 0. Every score is finite if the legs' are. Equal scores rank by collection, then id.

use std::{cmp::Ordering, collections::HashMap, num::NonZeroU32, sync::Arc};

use super::reached::GraphDetail;
use crate::model::{Fusion, LegName, Passage, Version};

/// A document that a leg found.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LegHit {
    /// The collection, as an index into the scope.
    pub(super) collection: u32,
    /// The id.
    pub(super) id: Arc<str>,
    /// The version found.
    pub(super) version: Version,
    /// The leg's own score; higher is better, finite.
    pub(super) score: f64,
    /// The passage that matched.
    pub(super) passage: Option<Passage>,
    /// How the graph reached it.
    pub(super) detail: Option<Arc<GraphDetail>>,
}

/// What a leg brings to the fusion.
#[derive(Clone, Copy, Debug)]
pub(super) struct LegList<'a> {
    /// Which leg.
    pub(super) leg: LegName,
    /// Its share, at least 0.
    pub(super) weight: f64,
    /// What it found, in any order.
    pub(super) hits: &'a [LegHit],
    /// Scores of documents that other legs found, looked up here; they have no rank.
    pub(super) looked_up: &'a [LegHit],
}

/// One leg's part in a fused score.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    /// Rank in the leg, from 1; absent if the score was looked up.
    pub(super) rank: Option<NonZeroU32>,
    /// The leg's own score.
    pub(super) raw: f64,
    /// The score after normalisation.
    pub(super) normalised: f64,
    /// What it adds to the fused score.
    pub(super) contribution: f64,
    /// The version the leg found.
    pub(super) version: Version,
    /// The passage that matched.
    pub(super) passage: Option<Passage>,
    /// How the graph reached it.
    pub(super) detail: Option<Arc<GraphDetail>>,
}

/// A document in the fused ranking.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ranked {
    /// The collection, as an index into the scope.
    pub(super) collection: u32,
    /// The id.
    pub(super) id: Arc<str>,
    /// The fused score.
    pub(super) score: f64,
    /// What each leg gave, by [`slot`].
    pub(super) parts: [Option<Part>; 3],
}

/// The legs in the order in which reports list them.
pub(super) const LEGS: [LegName; 3] = [LegName::Semantic, LegName::Metadata, LegName::Graph];

/// The place of a leg in [`LEGS`].
pub(super) const fn slot(leg: LegName) -> usize {
    match leg {
        LegName::Semantic => 0,
        LegName::Metadata => 1,
        LegName::Graph => 2,
    }
}

/// Best first: by score descending, then collection, then id.
pub(super) fn best_first(left: (f64, u32, &str), right: (f64, u32, &str)) -> Ordering {
    right
        .0
        .total_cmp(&left.0)
        .then_with(|| left.1.cmp(&right.1))
        .then_with(|| left.2.cmp(right.2))
}

fn hit_order(left: &LegHit, right: &LegHit) -> Ordering {
    // Adding zero makes the negative zero, which `total_cmp` puts below zero, a plain one.
    best_first(
        (left.score + 0.0, left.collection, &left.id),
        (right.score + 0.0, right.collection, &right.id),
    )
}

/// Sorts a leg's hits into the order of their ranks.
pub(super) fn sort_hits(hits: &mut [LegHit]) {
    hits.sort_unstable_by(hit_order);
}

/// Fuses the lists and returns the best `limit` documents, best first.
///
/// A leg that brings a document twice is taken at its better score.
pub(super) fn fuse(fusion: Fusion, legs: &[LegList<'_>], limit: usize) -> Vec<Ranked> {
    // In one order whatever the caller's: sums of floating-point numbers depend on it.
    let mut legs: Vec<&LegList<'_>> = legs.iter().collect();
    legs.sort_unstable_by_key(|list| slot(list.leg));
    let mut ranked = collect(fusion, &legs);
    for list in &legs {
        normalise(fusion, list.weight, slot(list.leg), &mut ranked);
    }
    for item in &mut ranked {
        item.score = item
            .parts
            .iter()
            .flatten()
            .map(|p| p.contribution)
            .sum::<f64>()
            + 0.0;
    }
    ranked.sort_unstable_by(|left, right| {
        best_first(
            (left.score, left.collection, &left.id),
            (right.score, right.collection, &right.id),
        )
    });
    ranked.truncate(limit);
    ranked
}

/// The union of the lists, one item per document, with raw scores and ranks.
fn collect(fusion: Fusion, legs: &[&LegList<'_>]) -> Vec<Ranked> {
    let most = legs.iter().map(|l| l.hits.len() + l.looked_up.len()).sum();
    let mut ranked: Vec<Ranked> = Vec::with_capacity(most);
    let mut places: HashMap<(u32, &str), usize> = HashMap::with_capacity(most);
    for list in legs {
        let slot = slot(list.leg);
        let mut rank = 1;
        for hit in in_order(list.hits) {
            if add_part(&mut ranked, &mut places, slot, hit, NonZeroU32::new(rank)) {
                rank += 1;
            }
        }
        if !matches!(fusion, Fusion::Rrf { .. }) {
            for hit in list.looked_up {
                add_part(&mut ranked, &mut places, slot, hit, None);
            }
        }
    }
    ranked
}

/// The hits in the order of their ranks; almost always they come so.
fn in_order(hits: &[LegHit]) -> Vec<&LegHit> {
    let mut order: Vec<&LegHit> = hits.iter().collect();
    if !hits.is_sorted_by(|left, right| hit_order(left, right).is_le()) {
        order.sort_unstable_by(|left, right| hit_order(left, right));
    }
    order
}

/// Notes what a leg gives a document; false if the leg has given it something already.
fn add_part<'a>(
    ranked: &mut Vec<Ranked>,
    places: &mut HashMap<(u32, &'a str), usize>,
    slot: usize,
    hit: &'a LegHit,
    rank: Option<NonZeroU32>,
) -> bool {
    let place = *places
        .entry((hit.collection, &*hit.id))
        .or_insert(ranked.len());
    if place == ranked.len() {
        ranked.push(Ranked {
            collection: hit.collection,
            id: Arc::clone(&hit.id),
            score: 0.0,
            parts: [None, None, None],
        });
    }
    let part = &mut ranked[place].parts[slot];
    if part.is_some() {
        return false;
    }
    *part = Some(Part {
        rank,
        raw: hit.score,
        normalised: 0.0,
        contribution: 0.0,
        version: hit.version,
        passage: hit.passage,
        detail: hit.detail.clone(),
    });
    true
}

/// Fills in the normalised scores and contributions of one leg.
fn normalise(fusion: Fusion, weight: f64, slot: usize, ranked: &mut [Ranked]) {
    let scale = match fusion {
        Fusion::ConvexCombination => Scale::by_range(raw_scores(ranked, slot)),
        Fusion::Dbsf => Scale::by_distribution(raw_scores(ranked, slot)),
        Fusion::Rrf { k } => Scale::Rank { k: f64::from(k) },
    };
    for part in ranked.iter_mut().filter_map(|r| r.parts[slot].as_mut()) {
        part.normalised = scale.apply(part);
        part.contribution = weight * part.normalised;
    }
}

fn raw_scores(ranked: &[Ranked], slot: usize) -> impl Iterator<Item = f64> + Clone + '_ {
    ranked
        .iter()
        .filter_map(move |r| r.parts[slot].as_ref())
        .map(|part| part.raw)
}

/// How a leg's scores are normalised.
enum Scale {
    /// The same for every document, because all scores are equal.
    Constant(f64),
    /// `(raw − low) ÷ range`, with all three halved beforehand so that no difference overflows.
    Linear { half_low: f64, half_range: f64 },
    /// `1 ÷ (k + rank)`; nothing for what has no rank.
    Rank { k: f64 },
}

impl Scale {
    /// Minimum to 0, maximum to 1. Equal scores are all 1: the leg found them, equally well.
    fn by_range(scores: impl Iterator<Item = f64>) -> Self {
        let (low, high) = scores.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), score| {
            (low.min(score), high.max(score))
        });
        Self::linear(low / 2.0, high / 2.0 - low / 2.0, 1.0)
    }

    /// Mean − 3 standard deviations to 0, mean + 3 to 1, not clipped. Equal scores are all ½.
    fn by_distribution(scores: impl Iterator<Item = f64> + Clone) -> Self {
        let count = scores.clone().count() as f64;
        let largest = scores.clone().fold(0.0_f64, |m, score| m.max(score.abs()));
        // In units of a power of two near the largest score, no square over- or underflows.
        let unit = if largest > 0.0 {
            largest.log2().floor().exp2()
        } else {
            1.0
        };
        let mean = scores.clone().map(|score| score / unit).sum::<f64>() / count;
        let variance = scores
            .map(|score| (score / unit - mean).powi(2))
            .sum::<f64>()
            / count;
        let deviation = variance.sqrt();
        // Rounding gives equal scores a deviation of some last bits; it must not become a scale.
        if deviation.is_nan() || deviation <= mean.abs() * f64::EPSILON * 8.0 {
            return Self::Constant(0.5);
        }
        Self::linear(
            (mean - 3.0 * deviation) / 2.0 * unit,
            3.0 * deviation * unit,
            0.5,
        )
    }

    fn linear(half_low: f64, half_range: f64, when_equal: f64) -> Self {
        if half_range > 0.0 && half_range.is_finite() {
            Self::Linear {
                half_low,
                half_range,
            }
        } else {
            Self::Constant(when_equal)
        }
    }

    fn apply(&self, part: &Part) -> f64 {
        match self {
            Self::Constant(score) => *score,
            Self::Linear {
                half_low,
                half_range,
            } => (part.raw / 2.0 - half_low) / half_range,
            Self::Rank { k } => part
                .rank
                .map_or(0.0, |rank| 1.0 / (k + f64::from(rank.get()))),
        }
    }
}
