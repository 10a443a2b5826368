//! The ways between two documents.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use dbmanager_backend_support::sqlite::{JobError, JobResult};
use dbmanager_core::{
    backend::{NodeKey, Path, PathsRequest},
    model::TraversalDirection,
};
use rusqlite::Connection;

use super::view::{Node, View};

/// Steps that one request may look at, all told, before it is refused: some seconds' work.
const MAX_STEPS: usize = 2_000_000;

/// Paths in order of their length, then of their documents' keys, then of their edges' kinds.
/// Edges of different kinds between the same documents make different paths; edges of the same
/// kind make one.
///
/// For each length, depth first with the steps in order, so that the search can stop at the limit.
/// A set of the documents within half the depth of the end, found breadth first backwards, keeps
/// it from walking where the end is out of reach.
///
/// # Errors
/// `Refused` beyond [`MAX_STEPS`]: fewer paths than there are would be a wrong answer.
pub(super) fn paths(connection: &Connection, request: &PathsRequest) -> JobResult<Vec<Path>> {
    let view = View::new(connection, &request.collections, &[])?;
    let ends = view.find(&request.from)?.zip(view.find(&request.to)?);
    let Some((from, to)) = ends.filter(|(from, to)| from != to) else {
        return Ok(Vec::new());
    };
    let mut search = Search {
        view: &view,
        direction: request.direction,
        end: to,
        limit: request.limit,
        steps_left: MAX_STEPS,
        forward: HashMap::new(),
        to_end: HashMap::new(),
        radius: (request.max_depth / 2).max(1),
        walked: vec![from],
        kinds: Vec::new(),
        found: Vec::new(),
    };
    search.measure_distances_to_end()?;
    for length in 1..=request.max_depth {
        if search.found.len() >= request.limit {
            break;
        }
        if !search.walk(from, length)? {
            break;
        }
    }
    Ok(search.found)
}

/// A step in the order in which paths are listed.
type OrderedStep = (NodeKey, Rc<str>, Node);

struct Search<'a> {
    view: &'a View<'a>,
    direction: TraversalDirection,
    end: Node,
    limit: usize,
    steps_left: usize,
    forward: HashMap<Node, Rc<[OrderedStep]>>,
    /// Distances to the end up to `radius`; what is not here is further away.
    to_end: HashMap<Node, usize>,
    radius: usize,
    walked: Vec<Node>,
    kinds: Vec<Rc<str>>,
    found: Vec<Path>,
}

impl Search<'_> {
    fn measure_distances_to_end(&mut self) -> JobResult<()> {
        let backwards = match self.direction {
            TraversalDirection::Outgoing => TraversalDirection::Incoming,
            TraversalDirection::Incoming => TraversalDirection::Outgoing,
            TraversalDirection::Both => TraversalDirection::Both,
        };
        self.to_end.insert(self.end, 0);
        let mut frontier = vec![self.end];
        for distance in 1..=self.radius {
            let mut next = Vec::new();
            for node in frontier {
                let steps = self.view.steps(node, backwards)?;
                self.spend(steps.len())?;
                for step in steps {
                    self.to_end.entry(step.to).or_insert_with(|| {
                        next.push(step.to);
                        distance
                    });
                }
            }
            frontier = next;
        }
        Ok(())
    }

    /// Adds the paths of exactly `left` more steps from `node`. Returns whether some way went on
    /// beyond that: if none did, there are no longer paths either.
    fn walk(&mut self, node: Node, left: usize) -> JobResult<bool> {
        if left == 0 {
            return Ok(true);
        }
        let mut goes_on = false;
        for (_, kind, to) in self.steps(node)?.iter() {
            if self.found.len() >= self.limit {
                return Ok(true);
            }
            self.spend(1)?;
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
            self.kinds.push(Rc::clone(kind));
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

    fn steps(&mut self, node: Node) -> JobResult<Rc<[OrderedStep]>> {
        if let Some(steps) = self.forward.get(&node) {
            return Ok(Rc::clone(steps));
        }
        let steps = self.view.steps(node, self.direction)?;
        self.spend(steps.len())?;
        let mut seen = HashSet::new();
        let mut ordered: Vec<OrderedStep> = steps
            .into_iter()
            .filter(|step| seen.insert((step.to, step.kind.clone())))
            .filter_map(|step| Some((self.view.key(step.to)?, Rc::from(&*step.kind), step.to)))
            .collect();
        ordered.sort_unstable();
        let ordered: Rc<[OrderedStep]> = ordered.into();
        self.forward.insert(node, Rc::clone(&ordered));
        Ok(ordered)
    }

    fn spend(&mut self, steps: usize) -> JobResult<()> {
        self.steps_left = self.steps_left.checked_sub(steps).ok_or_else(|| {
            JobError::refused(format!(
                "more than {MAX_STEPS} references lie on the way; ask for shorter or fewer paths"
            ))
        })?;
        Ok(())
    }
}
