//! What a traversal sees: live documents of the live collections, and the visible edges between
//! them.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use dbmanager_backend_support::sqlite::{JobResult, collections};
use dbmanager_core::{
    backend::NodeKey,
    model::{CollectionKey, TraversalDirection, Version},
};
use rusqlite::{Connection, OptionalExtension};

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
    by_name: HashMap<Arc<str>, i64>,
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
        let mut by_name = HashMap::new();
        for key in live {
            if let Some(found) = collections::find(connection, key)? {
                by_key.insert(found.key, key.clone());
                by_name.insert(Arc::clone(&key.name), found.key);
            }
        }
        Ok(Self {
            connection,
            by_key,
            by_name,
            kinds: kinds.iter().map(String::as_str).collect(),
            known: RefCell::default(),
            words: RefCell::default(),
        })
    }

    /// The live document with this key, if there is one to see.
    pub(super) fn find(&self, node: &NodeKey) -> JobResult<Option<Node>> {
        match self.by_name.get(&node.collection.name) {
            Some(collection) if self.by_key.get(collection) == Some(&node.collection) => {
                self.live(*collection, &node.id)
            }
            _ => Ok(None),
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

    fn outgoing(&self, node: Node, steps: &mut Vec<Step>) -> JobResult<()> {
        let mut statement = self.connection.prepare_cached(
            "SELECT target_collection, target_id, kind FROM edge WHERE source = ?1",
        )?;
        let mut rows = statement.query([node])?;
        while let Some(row) = rows.next()? {
            let Some(kind) = self.kind(row.get_ref(2)?.as_str().map_err(unreadable)?) else {
                continue;
            };
            let name = row.get_ref(0)?.as_str().map_err(unreadable)?;
            let Some(collection) = self.by_name.get(name) else {
                continue;
            };
            let id = row.get_ref(1)?.as_str().map_err(unreadable)?;
            if let Some(to) = self.live(*collection, id)? {
                steps.push(Step {
                    to,
                    kind,
                    forward: true,
                });
            }
        }
        Ok(())
    }

    fn incoming(&self, node: Node, steps: &mut Vec<Step>) -> JobResult<()> {
        let Some(key) = self.key(node) else {
            return Ok(());
        };
        let mut statement = self.connection.prepare_cached(
            "SELECT source, kind FROM edge WHERE target_collection = ?1 AND target_id = ?2",
        )?;
        let mut rows = statement.query((&*key.collection.name, &*key.id))?;
        while let Some(row) = rows.next()? {
            let Some(kind) = self.kind(row.get_ref(1)?.as_str().map_err(unreadable)?) else {
                continue;
            };
            let source = row.get(0)?;
            if self.is_live(source)? {
                steps.push(Step {
                    to: source,
                    kind,
                    forward: false,
                });
            }
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

    fn is_live(&self, node: Node) -> JobResult<bool> {
        if self.known.borrow().contains_key(&node) {
            return Ok(true);
        }
        let found = self
            .connection
            .prepare_cached(
                "SELECT collection, id, version FROM document WHERE key = ?1 AND NOT deleted",
            )?
            .query_row([node], |row| {
                Ok(Known {
                    collection: row.get(0)?,
                    id: row.get(1)?,
                    version: Version::from_i64(row.get(2)?),
                })
            })
            .optional()?;
        let Some(found) = found.filter(|found| self.by_key.contains_key(&found.collection)) else {
            return Ok(false);
        };
        self.known.borrow_mut().insert(node, found);
        Ok(true)
    }
}

fn unreadable(error: rusqlite::types::FromSqlError) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
}
