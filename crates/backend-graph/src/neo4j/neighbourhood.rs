//! The documents around some seeds: breadth first, one statement for a whole level.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use dbmanager_core::backend::{BackendResult, Neighbour, NeighbourhoodRequest};

use super::{
    Store,
    view::{Node, View},
};

/// How a document was reached.
struct Reached {
    distance: usize,
    /// Indices into the request's seeds, ascending.
    seeds: Vec<usize>,
    via: (Arc<str>, bool),
}

/// Levels are taken whole, because the order within a level is known only at its end; the search
/// stops with the level that fills the limit. So nothing nearer is ever missed.
///
/// A seed reaches a document of level *d* at distance *d* exactly if it so reaches one of its
/// neighbours of level *d* − 1: hence the seeds of a document are those of its neighbours there.
pub(super) async fn neighbourhood(
    store: &Store,
    request: &NeighbourhoodRequest,
) -> BackendResult<Vec<Neighbour>> {
    let mut view = View::open(
        store,
        &request.collections,
        &request.edge_kinds,
        &request.seeds,
    )
    .await?;
    let mut reached: HashMap<Node, Reached> = HashMap::new();
    let mut frontier = Vec::new();
    for (index, seed) in request.seeds.iter().enumerate() {
        let Some(node) = view.find(seed) else {
            continue;
        };
        let entry = reached.entry(node).or_insert_with(|| {
            frontier.push(node);
            Reached {
                distance: 0,
                seeds: Vec::new(),
                via: (Arc::from(""), true),
            }
        });
        entry.seeds.push(index);
    }
    let mut found = Vec::new();
    for distance in 1..=request.depth {
        if frontier.is_empty() || found.len() >= request.limit {
            break;
        }
        let next = expand(&mut view, request, &mut reached, &frontier, distance).await?;
        // What is beyond the limit is ordered but not built.
        let mut level: Vec<_> = next
            .iter()
            .filter_map(|node| Some((reached.get(node)?, view.key(*node)?, *node)))
            .collect();
        level.sort_unstable_by(|(a, a_key, _), (b, b_key, _)| {
            let by_seeds = Reverse(a.seeds.len()).cmp(&Reverse(b.seeds.len()));
            by_seeds.then_with(|| a_key.cmp(b_key))
        });
        level.truncate(request.limit - found.len());
        found.extend(level.into_iter().filter_map(|(at, key, node)| {
            let (kind, forward) = &at.via;
            let via = (kind.to_string(), *forward);
            let version = view.version(node)?;
            let seeds = at.seeds.clone();
            Some(Neighbour::new(key, version, distance, seeds, via))
        }));
        frontier = next;
    }
    Ok(found)
}

/// Adds the documents one step further than `frontier`, and returns them.
async fn expand(
    view: &mut View<'_>,
    request: &NeighbourhoodRequest,
    reached: &mut HashMap<Node, Reached>,
    frontier: &[Node],
    distance: usize,
) -> BackendResult<Vec<Node>> {
    let mut next = Vec::new();
    for (from, steps) in view.steps(frontier, request.direction).await? {
        let seeds = reached
            .get(&from)
            .map(|from| from.seeds.clone())
            .unwrap_or_default();
        for step in steps {
            let at = reached.entry(step.to).or_insert_with(|| {
                next.push(step.to);
                Reached {
                    distance,
                    seeds: Vec::new(),
                    via: (step.kind, step.forward),
                }
            });
            if at.distance == distance {
                for seed in &seeds {
                    if let Err(place) = at.seeds.binary_search(seed) {
                        at.seeds.insert(place, *seed);
                    }
                }
            }
        }
    }
    Ok(next)
}
