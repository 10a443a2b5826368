//! What a traversal sees: live documents of the live collections, and the visible edges between
//! them.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use dbmanager_backend_support::sqlite::{JobResult, collections};
use dbmanager_core::{
    backend::NodeKey,
    model::{CollectionKey, TraversalDirection, Version},
};
use rusqlite::{Connection, OptionalExtension, Rows};

/// A live document: its integer key stands for it.
pub(super) type Node = i64;

/// One step along a visible edge.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) to: Node,
    pub(super) kind: Arc<str>,
    /// Whether the edge is followed from source to target.
    pub(super) forward: bool,
}

struct Known {
    collection: i64,
    id: Arc<str>,
    version: Version,
}

/// The part of the graph that a request may see, read as far as it is asked for.
pub(super) struct View<'a> {
    connection: &'a Connection,
    by_key: HashMap<i64, CollectionKey>,
    kinds: HashSet<&'a str>,
    known: RefCell<HashMap<Node, Known>>,
    words: RefCell<HashSet<Arc<str>>>,
}

impl<'a> View<'a> {
    /// Sees `live` collections and edges of these kinds; all kinds if there are none. Collections
    /// that were never created here hold nothing to see.
    pub(super) fn new(
        connection: &'a Connection,
        live: &[CollectionKey],
        kinds: &'a [String],
    ) -> JobResult<Self> {
        let mut by_key = HashMap::new();
        for key in live {
            if let Some(found) = collections::find(connection, key)? {
                by_key.insert(found.key, key.clone());
            }
        }
        Ok(Self {
            connection,
            by_key,
            kinds: kinds.iter().map(String::as_str).collect(),
            known: RefCell::default(),
            words: RefCell::default(),
        })
    }

    /// The live document with this key, if there is one to see.
    pub(super) fn find(&self, node: &NodeKey) -> JobResult<Option<Node>> {
        let live = self.by_key.iter().find(|(_, key)| **key == node.collection);
        match live {
            Some((collection, _)) => self.live(*collection, &node.id),
            None => Ok(None),
        }
    }

    /// The key of a node that this view has handed out.
    pub(super) fn key(&self, node: Node) -> Option<NodeKey> {
        let known = self.known.borrow();
        let known = known.get(&node)?;
        let collection = self.by_key.get(&known.collection)?;
        Some(NodeKey::new(collection.clone(), Arc::clone(&known.id)))
    }

    /// The version of a node that this view has handed out.
    pub(super) fn version(&self, node: Node) -> Option<Version> {
        self.known.borrow().get(&node).map(|known| known.version)
    }

    /// Every step from `node`, in no particular order; a self reference leads to `node` itself.
    pub(super) fn steps(&self, node: Node, direction: TraversalDirection) -> JobResult<Vec<Step>> {
        let mut steps = Vec::new();
        if direction != TraversalDirection::Incoming {
            self.outgoing(node, &mut steps)?;
        }
        if direction != TraversalDirection::Outgoing {
            self.incoming(node, &mut steps)?;
        }
        Ok(steps)
    }

    // One statement per node, not per edge: with many short look-ups the calls would cost more than
    // the look-ups. The joins are `CROSS` so that SQLite keeps their order.
    fn outgoing(&self, node: Node, steps: &mut Vec<Step>) -> JobResult<()> {
        let mut statement = self.connection.prepare_cached(
            "SELECT edge.kind, document.key, document.collection, document.version, document.id
             FROM edge
             CROSS JOIN collection ON collection.name = edge.target_collection
             CROSS JOIN document ON document.collection = collection.key
                 AND document.id = edge.target_id
             WHERE edge.source = ?1 AND NOT document.deleted",
        )?;
        self.collect(statement.query([node])?, true, steps)
    }

    fn incoming(&self, node: Node, steps: &mut Vec<Step>) -> JobResult<()> {
        let Some(key) = self.key(node) else {
            return Ok(());
        };
        let mut statement = self.connection.prepare_cached(
            "SELECT edge.kind, document.key, document.collection, document.version, document.id
             FROM edge INDEXED BY edge_by_target
             CROSS JOIN document ON document.key = edge.source
             WHERE edge.target_collection = ?1 AND edge.target_id = ?2 AND NOT document.deleted",
        )?;
        let rows = statement.query((&*key.collection.name, &*key.id))?;
        self.collect(rows, false, steps)
    }

    fn collect(&self, mut rows: Rows<'_>, forward: bool, steps: &mut Vec<Step>) -> JobResult<()> {
        let mut known = self.known.borrow_mut();
        while let Some(row) = rows.next()? {
            let kind = row.get_ref(0)?.as_str().map_err(unreadable)?;
            let Some(kind) = self.kind(kind) else {
                continue;
            };
            let to = row.get(1)?;
            if let Entry::Vacant(vacant) = known.entry(to) {
                let found = Known {
                    collection: row.get(2)?,
                    version: Version::from_i64(row.get(3)?),
                    id: row.get(4)?,
                };
                // Another generation of the name, or a collection that is not live.
                if !self.by_key.contains_key(&found.collection) {
                    continue;
                }
                vacant.insert(found);
            }
            steps.push(Step { to, kind, forward });
        }
        Ok(())
    }

    /// One shared copy of a wanted kind; `None` for others.
    fn kind(&self, kind: &str) -> Option<Arc<str>> {
        if !self.kinds.is_empty() && !self.kinds.contains(kind) {
            return None;
        }
        let mut words = self.words.borrow_mut();
        if let Some(known) = words.get(kind) {
            return Some(Arc::clone(known));
        }
        let kind: Arc<str> = kind.into();
        words.insert(Arc::clone(&kind));
        Some(kind)
    }

    fn live(&self, collection: i64, id: &str) -> JobResult<Option<Node>> {
        let found = self
            .connection
            .prepare_cached(
                "SELECT key, version FROM document
                 WHERE collection = ?1 AND id = ?2 AND NOT deleted",
            )?
            .query_row((collection, id), |row| {
                Ok((row.get::<_, i64>(0)?, Version::from_i64(row.get(1)?)))
            })
            .optional()?;
        Ok(found.map(|(node, version)| {
            self.known
                .borrow_mut()
                .entry(node)
                .or_insert_with(|| Known {
                    collection,
                    id: id.into(),
                    version,
                });
            node
        }))
    }
}

fn unreadable(error: rusqlite::types::FromSqlError) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
}
