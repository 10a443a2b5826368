//! What the graph reaches from the seeds of a search, and how good that is.
//!
//! A document's score is `title + Σ seed · DECAY^distance ÷ √fan-out` over the seeds that reach
//! it: a seed counts by how good it is itself (best 1), less the further away it is, and less the
//! more documents it reaches, for a reference shared with a hundred others says little. `title` is
//! the title match (best 1); beside full text, which has counted the title already, there is none.

use std::{collections::HashMap, sync::Arc};

use super::{
    fuse::{self, LegHit},
    graph::Seed,
    leg::{Leg, MAX_CANDIDATES},
    under_way::Search,
};
use crate::{
    backend::{Edges, Neighbour, NodeKey},
    model::{TraversalDirection, Version},
};

/// What each reference on the way leaves of a seed's score.
const DECAY: f64 = 0.5;
/// How the graph found a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum GraphDetail {
    /// By its title.
    Title,
    /// From a seed.
    Reached {
        /// The id of the best seed that reaches it.
        seed: Arc<str>,
        /// The kind of the last reference on the way.
        kind: String,
        /// Whether that reference was followed from its source to its target.
        forward: bool,
        /// References on the way.
        distance: usize,
        /// How many other seeds reach it.
        others: usize,
    },
}

impl std::fmt::Display for GraphDetail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self::Reached {
            seed,
            kind,
            forward,
            distance,
            others,
        } = self
        else {
            return f.write_str("title match");
        };
        let side = if *forward { "from" } else { "to" };
        if *distance == 1 {
            write!(f, "via {kind} {side} {seed}")?;
        } else {
            let way = if *forward { "forward" } else { "backward" };
            write!(
                f,
                "{distance} references from {seed}, the last via {kind} {way}"
            )?;
        }
        match others {
            0 => Ok(()),
            1 => f.write_str(" and from 1 other"),
            _ => write!(f, " and from {others} others"),
        }
    }
}

/// What is reached from the seeds, while it is put together.
pub(super) struct Reached<'a> {
    search: &'a Search<'a>,
    seeds: &'a [Seed],
    found: HashMap<(u32, Arc<str>), Found>,
    /// How many documents each seed reaches.
    fan_out: Vec<usize>,
}

struct Found {
    version: Version,
    distance: usize,
    via: (String, bool),
    seeds: Vec<usize>,
}

impl<'a> Reached<'a> {
    pub(super) fn new(search: &'a Search<'a>, seeds: &'a [Seed]) -> Self {
        Self {
            search,
            seeds,
            found: HashMap::new(),
            fan_out: vec![0; seeds.len()],
        }
    }

    pub(super) fn add_neighbours(&mut self, neighbours: &[Neighbour]) {
        for neighbour in neighbours {
            for seed in &neighbour.seeds {
                self.add(
                    &neighbour.node,
                    neighbour.version,
                    neighbour.distance,
                    (&neighbour.via.0, neighbour.via.1),
                    *seed,
                );
            }
        }
    }

    pub(super) fn add_links(&mut self, links: &[(NodeKey, Edges)]) {
        // By name: a reference names no generation. Only what the graph holds live is linked.
        let ends: HashMap<(&str, &str), (usize, Version)> = links
            .iter()
            .filter_map(|(key, edges)| {
                let place = self.seeds.iter().position(|seed| seed.key == *key)?;
                Some(((&*key.collection.name, &*key.id), (place, edges.version)))
            })
            .collect();
        let query = self.search.query;
        for (source, edges) in links {
            for reference in &edges.references {
                let collection = reference.collection.as_deref();
                let target = (
                    collection.unwrap_or(&source.collection.name),
                    reference.target.as_str(),
                );
                let (Some(from), Some(to)) = (
                    ends.get(&(&*source.collection.name, &*source.id)),
                    ends.get(&target),
                ) else {
                    continue;
                };
                let followed =
                    query.edge_kinds.is_empty() || query.edge_kinds.contains(&reference.kind);
                if !followed || from == to {
                    continue;
                }
                let seeds = self.seeds;
                let mut link = |(target, version): (usize, Version), seed: usize, forward| {
                    self.add(
                        &seeds[target].key,
                        version,
                        1,
                        (&reference.kind, forward),
                        seed,
                    );
                };
                if query.direction != TraversalDirection::Incoming {
                    link(*to, from.0, true);
                }
                if query.direction != TraversalDirection::Outgoing {
                    link(*from, to.0, false);
                }
            }
        }
    }

    fn add(
        &mut self,
        node: &NodeKey,
        version: Version,
        distance: usize,
        (kind, forward): (&str, bool),
        seed: usize,
    ) {
        let (Some(collection), Some(fan_out)) = (
            self.search.index_of(&node.collection),
            self.fan_out.get_mut(seed),
        ) else {
            return;
        };
        let found = self
            .found
            .entry((collection, Arc::clone(&node.id)))
            .or_insert_with(|| Found {
                version,
                distance,
                via: (kind.to_owned(), forward),
                seeds: Vec::new(),
            });
        if !found.seeds.contains(&seed) {
            found.seeds.push(seed);
            *fan_out += 1;
        }
    }

    fn score(&self, found: &Found) -> f64 {
        let decay = DECAY.powi(i32::try_from(found.distance).unwrap_or(i32::MAX));
        found
            .seeds
            .iter()
            .map(|seed| self.seeds[*seed].score * decay / (self.fan_out[*seed] as f64).sqrt())
            .sum()
    }

    /// Adds what was reached to the title matches.
    pub(super) fn merge_into(mut self, leg: &mut Leg) {
        for found in self.found.values_mut() {
            found.seeds.sort_unstable();
        }
        for hit in &mut leg.hits {
            let key = (hit.collection, Arc::clone(&hit.id));
            if let Some(found) = self.found.get(&key) {
                hit.score += self.score(found);
                hit.detail = Some(self.detail(found));
                self.found.remove(&key);
            }
        }
        let reached = self.found.iter().map(|((collection, id), found)| LegHit {
            collection: *collection,
            id: Arc::clone(id),
            version: found.version,
            score: self.score(found),
            passage: None,
            detail: Some(self.detail(found)),
        });
        leg.hits.extend(reached);
        fuse::sort_hits(&mut leg.hits);
        leg.saturated |= leg.hits.len() > MAX_CANDIDATES;
        leg.hits.truncate(MAX_CANDIDATES);
    }

    fn detail(&self, found: &Found) -> Arc<GraphDetail> {
        let best = found
            .seeds
            .iter()
            .max_by(|left, right| {
                self.seeds[**left]
                    .score
                    .total_cmp(&self.seeds[**right].score)
            })
            .map(|seed| Arc::clone(&self.seeds[*seed].key.id))
            .unwrap_or_default();
        Arc::new(GraphDetail::Reached {
            seed: best,
            kind: found.via.0.clone(),
            forward: found.via.1,
            distance: found.distance,
            others: found.seeds.len().saturating_sub(1),
        })
    }
}
