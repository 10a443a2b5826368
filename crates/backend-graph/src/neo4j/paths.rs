//! The ways between two documents.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use dbmanager_core::{
    backend::{BackendResult, NodeKey, Path, PathsRequest},
    model::TraversalDirection,
};

use super::{
    Store,
    view::{Node, View},
};

/// Paths in order of their length, then of their documents' keys, then of their edges' kinds.
/// Edges of different kinds between the same documents make different paths; edges of the same
/// kind make one.
///
/// Of a path of at most *n* edges, the first half leaves documents within *n*/2 of the start and
/// the second half enters documents within *n*/2 of the end. So the edges around both ends, read
/// level by level, are all there is to read; the paths are then found in memory.
///
/// # Errors
/// `Refused` if too many edges lie on the way: fewer paths than there are would be a wrong answer.
pub(super) async fn paths(store: &Store, request: &PathsRequest) -> BackendResult<Vec<Path>> {
    let ends = [request.from.clone(), request.to.clone()];
    let mut view = View::open(store, &request.collections, &[], &ends).await?;
    let ends = view.find(&request.from).zip(view.find(&request.to));
    let Some((from, to)) = ends.filter(|(from, to)| from != to) else {
        return Ok(Vec::new());
    };
    let mut map = Map::default();
    let radius = request.max_depth / 2;
    let ahead = request.max_depth.div_ceil(2);
    map.read_ahead(&mut view, from, request.direction, ahead)
        .await?;
    map.read_back(&mut view, to, request.direction, radius)
        .await?;
    let mut search = Search {
        forward: map.ordered(&view),
        view,
        end: to,
        limit: request.limit,
        to_end: map.to_end,
        radius,
        walked: vec![from],
        kinds: Vec::new(),
        found: Vec::new(),
    };
    for length in 1..=request.max_depth {
        if search.found.len() >= request.limit || !search.walk(from, length)? {
            break;
        }
    }
    Ok(search.found)
}

/// The edges around both ends.
#[derive(Default)]
struct Map {
    steps: HashMap<Node, HashSet<(Node, Arc<str>)>>,
    /// Distances to the end up to the radius; what is not here is further away.
    to_end: HashMap<Node, usize>,
}

impl Map {
    async fn read_ahead(
        &mut self,
        view: &mut View<'_>,
        from: Node,
        direction: TraversalDirection,
        levels: usize,
    ) -> BackendResult<()> {
        let mut seen = HashSet::from([from]);
        let mut frontier = vec![from];
        for _ in 0..levels {
            if frontier.is_empty() {
                break;
            }
            let mut next = Vec::new();
            for (node, steps) in view.steps(&frontier, direction).await? {
                for step in steps {
                    if seen.insert(step.to) {
                        next.push(step.to);
                    }
                    self.steps
                        .entry(node)
                        .or_default()
                        .insert((step.to, step.kind));
                }
            }
            frontier = next;
        }
        Ok(())
    }

    async fn read_back(
        &mut self,
        view: &mut View<'_>,
        to: Node,
        direction: TraversalDirection,
        levels: usize,
    ) -> BackendResult<()> {
        let backwards = match direction {
            TraversalDirection::Outgoing => TraversalDirection::Incoming,
            TraversalDirection::Incoming => TraversalDirection::Outgoing,
            TraversalDirection::Both => TraversalDirection::Both,
        };
        self.to_end.insert(to, 0);
        let mut frontier = vec![to];
        for distance in 1..=levels {
            if frontier.is_empty() {
                break;
            }
            let mut next = Vec::new();
            for (node, steps) in view.steps(&frontier, backwards).await? {
                for step in steps {
                    self.to_end.entry(step.to).or_insert_with(|| {
                        next.push(step.to);
                        distance
                    });
                    self.steps
                        .entry(step.to)
                        .or_default()
                        .insert((node, step.kind));
                }
            }
            frontier = next;
        }
        Ok(())
    }

    /// The steps of each document in the order in which paths are listed.
    fn ordered(&mut self, view: &View<'_>) -> HashMap<Node, Arc<[OrderedStep]>> {
        std::mem::take(&mut self.steps)
            .into_iter()
            .map(|(node, steps)| {
                let mut steps: Vec<OrderedStep> = steps
                    .into_iter()
                    .filter_map(|(to, kind)| Some((view.key(to)?, kind, to)))
                    .collect();
                steps.sort_unstable();
                (node, steps.into())
            })
            .collect()
    }
}

type OrderedStep = (NodeKey, Arc<str>, Node);

struct Search<'a> {
    view: View<'a>,
    forward: HashMap<Node, Arc<[OrderedStep]>>,
    end: Node,
    limit: usize,
    to_end: HashMap<Node, usize>,
    radius: usize,
    walked: Vec<Node>,
    kinds: Vec<Arc<str>>,
    found: Vec<Path>,
}

impl Search<'_> {
    /// Adds the paths of exactly `left` more steps from `node`. Returns whether some way went on
    /// beyond that: if none did, there are no longer paths either.
    fn walk(&mut self, node: Node, left: usize) -> BackendResult<bool> {
        if left == 0 {
            return Ok(true);
        }
        let Some(steps) = self.forward.get(&node).map(Arc::clone) else {
            // The end of all ways, or of what was read: then there is none to the end either.
            return Ok(false);
        };
        let mut goes_on = false;
        for (_, kind, to) in steps.iter() {
            if self.found.len() >= self.limit {
                return Ok(true);
            }
            self.view.spend(1)?;
            if self.walked.contains(to) {
                continue;
            }
            if *to == self.end {
                if left == 1 {
                    self.found_one(kind);
                }
                continue;
            }
            let left = left - 1;
            if !self.may_reach_end(*to, left) {
                goes_on = true;
                continue;
            }
            self.walked.push(*to);
            self.kinds.push(Arc::clone(kind));
            goes_on |= self.walk(*to, left)?;
            self.walked.pop();
            self.kinds.pop();
        }
        Ok(goes_on)
    }

    fn may_reach_end(&self, node: Node, left: usize) -> bool {
        match self.to_end.get(&node) {
            Some(distance) => *distance <= left,
            None => left > self.radius,
        }
    }

    fn found_one(&mut self, last_kind: &str) {
        let nodes = self.walked.iter().chain([&self.end]);
        self.found.push(Path {
            nodes: nodes.filter_map(|node| self.view.key(*node)).collect(),
            kinds: self
                .kinds
                .iter()
                .map(|kind| kind.to_string())
                .chain([last_kind.to_owned()])
                .collect(),
        });
    }
}
