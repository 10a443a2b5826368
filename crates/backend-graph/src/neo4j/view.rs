//! What a traversal sees: live documents of the live collections, and the visible edges between
//! them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use dbmanager_core::{
    backend::{BackendError, BackendErrorKind, BackendResult, NodeKey},
    model::{CollectionKey, TraversalDirection, Version},
};
use neo4rs::{BoltType, Query};
use serde::Deserialize;

use super::{
    Store,
    convert::{collection_key, list, map, read},
    link::Access,
};

/// Steps that one request may look at, all told, before it is refused: some seconds' work.
const MOST_STEPS: usize = 500_000;
/// Documents whose edges one statement reads.
const NODES_AT_ONCE: usize = 1_000;
/// How often edges are read that are being changed while they are read.
const MOST_READS: usize = 3;

/// A live document: its place in the view stands for it.
pub(super) type Node = usize;

/// One step along a visible edge; a self reference leads to its own document.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) to: Node,
    pub(super) kind: Arc<str>,
    /// Whether the edge is followed from source to target.
    pub(super) forward: bool,
}

struct Known {
    number: i64,
    id: Arc<str>,
    version: Version,
}

/// The part of the graph that a request may see, read as far as it is asked for.
pub(super) struct View<'a> {
    store: &'a Store,
    collections: HashMap<i64, CollectionKey>,
    kinds: &'a [String],
    known: Vec<Known>,
    by_key: HashMap<(i64, Arc<str>), Node>,
    words: HashSet<Arc<str>>,
    steps_left: usize,
}

#[derive(Debug, Deserialize)]
struct Opened {
    key: String,
    number: i64,
    seeds: Vec<Seed>,
}

#[derive(Debug, Deserialize)]
struct Seed {
    id: String,
    version: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct Steps {
    key: String,
    steps: Vec<SeenStep>,
}

/// Kind, forward, collection, id and version; what is just being written may lack parts.
type SeenStep = (
    Option<String>,
    bool,
    Option<i64>,
    Option<String>,
    Option<i64>,
);

impl<'a> View<'a> {
    /// Sees `live` collections and edges of these kinds, all kinds if there are none, and knows
    /// those of the `wanted` documents that are live. Collections that were never created here hold
    /// nothing to see.
    pub(super) async fn open(
        store: &'a Store,
        live: &[CollectionKey],
        kinds: &'a [String],
        wanted: &[NodeKey],
    ) -> BackendResult<View<'a>> {
        let mut seeds: HashMap<String, Vec<BoltType>> = HashMap::new();
        for seed in wanted {
            let ids = seeds.entry(collection_key(&seed.collection)).or_default();
            ids.push((&*seed.id).into());
        }
        let asked = live.iter().map(|key| {
            let key = collection_key(key);
            let ids = seeds.remove(&key).unwrap_or_default();
            map([("key", key.into()), ("ids", list(ids.into_iter()))])
        });
        let names = &store.names;
        let statement = format!(
            "UNWIND $collections AS asked
             MATCH (collection:{collection} {{key: asked.key}})
             CALL (asked, collection) {{
                 UNWIND asked.ids AS id
                 MATCH (document:{document} {{key: toString(collection.number) + '/' + id}})
                 WHERE NOT document.deleted
                 RETURN collect({{id: id, version: document.version}}) AS seeds
             }}
             RETURN collection.key AS key, collection.number AS number, seeds",
            collection = names.collection,
            document = names.document,
        );
        let query = Query::new(statement).param("collections", list(asked));
        let rows = store.link.run(Access::Read, query).await?;
        let by_name: HashMap<String, &CollectionKey> =
            live.iter().map(|key| (collection_key(key), key)).collect();
        let mut view = Self {
            store,
            collections: HashMap::new(),
            kinds,
            known: Vec::new(),
            by_key: HashMap::new(),
            words: HashSet::new(),
            steps_left: MOST_STEPS,
        };
        for row in &rows {
            let opened: Opened = read(row)?;
            if let Some(key) = by_name.get(&opened.key) {
                view.collections.insert(opened.number, (*key).clone());
            }
            for seed in opened.seeds {
                // A seed's version is never shown.
                let version = seed.version.unwrap_or_default();
                view.know(opened.number, seed.id.into(), version);
            }
        }
        Ok(view)
    }

    /// The document, if it is one of those that were wanted and is live.
    pub(super) fn find(&self, node: &NodeKey) -> Option<Node> {
        let (number, _) = self
            .collections
            .iter()
            .find(|(_, key)| **key == node.collection)?;
        self.by_key.get(&(*number, Arc::clone(&node.id))).copied()
    }

    /// The key of a node that this view has handed out.
    pub(super) fn key(&self, node: Node) -> Option<NodeKey> {
        let known = self.known.get(node)?;
        let collection = self.collections.get(&known.number)?;
        Some(NodeKey::new(collection.clone(), Arc::clone(&known.id)))
    }

    /// The version of a node that this view has handed out.
    pub(super) fn version(&self, node: Node) -> Option<Version> {
        self.known.get(node).map(|known| known.version)
    }

    /// Every step from each of `nodes`, in no particular order.
    ///
    /// # Errors
    /// `Refused` if the request has looked at too many by now.
    pub(super) async fn steps(
        &mut self,
        nodes: &[Node],
        direction: TraversalDirection,
    ) -> BackendResult<Vec<(Node, Vec<Step>)>> {
        let mut all = Vec::new();
        for some in nodes.chunks(NODES_AT_ONCE) {
            for Steps { key, steps } in self.read_steps(some, direction).await? {
                self.spend(steps.len())?;
                let Some(from) = self.by_full_key(&key) else {
                    continue;
                };
                let mut known = Vec::with_capacity(steps.len());
                for step in steps {
                    // An edge that is still not whole is one that is being removed.
                    if let (Some(kind), forward, Some(number), Some(id), Some(version)) = step {
                        known.push(Step {
                            to: self.know(number, id.into(), version),
                            kind: self.word(kind),
                            forward,
                        });
                    }
                }
                all.push((from, known));
            }
        }
        Ok(all)
    }

    /// Reads until nothing is missing, or often enough.
    async fn read_steps(
        &self,
        nodes: &[Node],
        direction: TraversalDirection,
    ) -> BackendResult<Vec<Steps>> {
        let mut found: Vec<Steps> = Vec::new();
        for _ in 0..MOST_READS {
            let query = self.query(nodes, direction);
            let rows = self.store.link.run(Access::Read, query).await?;
            found = rows.iter().map(read).collect::<BackendResult<_>>()?;
            let whole = |(kind, _, number, id, version): &SeenStep| {
                kind.is_some() && number.is_some() && id.is_some() && version.is_some()
            };
            if found.iter().all(|from| from.steps.iter().all(whole)) {
                break;
            }
        }
        Ok(found)
    }

    /// Counts looks at steps.
    ///
    /// # Errors
    /// `Refused` beyond [`MOST_STEPS`]: a part of the answer would be a wrong answer.
    pub(super) fn spend(&mut self, steps: usize) -> BackendResult<()> {
        self.steps_left = self.steps_left.checked_sub(steps).ok_or_else(|| {
            BackendError::new(
                BackendErrorKind::Refused,
                format!(
                    "more than {MOST_STEPS} references lie on the way; ask for fewer seeds, a \
                     smaller depth or certain kinds"
                ),
            )
            .not_applied()
        })?;
        Ok(())
    }

    fn query(&self, nodes: &[Node], direction: TraversalDirection) -> Query {
        let document = &self.store.names.document;
        let kinds = if self.kinds.is_empty() {
            ""
        } else {
            "AND coalesce(edge.kind IN $kinds, true)"
        };
        let walk = |pattern: &str, forward: bool| {
            format!(
                "MATCH {pattern}
                 WHERE coalesce(other.collection IN $collections, true) AND NOT coalesce(other.deleted, false) {kinds}
                 RETURN edge.kind AS kind, {forward} AS forward, other"
            )
        };
        let outgoing = walk(
            &format!("(document)-[edge:REFERS]->()<-[:AT]-(other:{document})"),
            true,
        );
        let incoming = walk(
            &format!("(document)-[:AT]->()<-[edge:REFERS]-(other:{document})"),
            false,
        );
        let walks = match direction {
            TraversalDirection::Outgoing => outgoing,
            TraversalDirection::Incoming => incoming,
            TraversalDirection::Both => format!("{outgoing} UNION ALL {incoming}"),
        };
        let statement = format!(
            "UNWIND $nodes AS key
             MATCH (document:{document} {{key: key}}) WHERE NOT document.deleted
             CALL (document) {{ {walks} }}
             WITH key, kind, forward, other LIMIT $limit
             RETURN key, collect([kind, forward, other.collection, other.id, other.version])
                 AS steps"
        );
        let keys = nodes.iter().filter_map(|node| {
            let known = self.known.get(*node)?;
            Some(BoltType::from(format!("{}/{}", known.number, known.id)))
        });
        Query::new(statement)
            .param("nodes", list(keys))
            .param(
                "collections",
                list(self.collections.keys().map(|number| (*number).into())),
            )
            .param(
                "kinds",
                list(self.kinds.iter().map(|kind| (&**kind).into())),
            )
            // One more than is allowed, so that too many are noticed.
            .param(
                "limit",
                i64::try_from(self.steps_left.saturating_add(1)).unwrap_or(i64::MAX),
            )
    }

    fn by_full_key(&self, key: &str) -> Option<Node> {
        let (number, id) = key.split_once('/')?;
        let number = number.parse().ok()?;
        self.by_key.get(&(number, id.into())).copied()
    }

    fn know(&mut self, number: i64, id: Arc<str>, version: i64) -> Node {
        let known = &mut self.known;
        *self
            .by_key
            .entry((number, Arc::clone(&id)))
            .or_insert_with(|| {
                known.push(Known {
                    number,
                    id,
                    version: Version::from_i64(version),
                });
                known.len() - 1
            })
    }

    /// One shared copy of each kind.
    fn word(&mut self, word: String) -> Arc<str> {
        if let Some(known) = self.words.get(&*word) {
            return Arc::clone(known);
        }
        let word: Arc<str> = word.into();
        self.words.insert(Arc::clone(&word));
        word
    }
}
