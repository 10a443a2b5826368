//! What must be there after a kill, found out from the relational store's file: of a write that was
//! in flight all or nothing, of every other id exactly what was acknowledged last.

use std::collections::{BTreeMap, HashMap};

use dbmanager::model::{Document, Version};

use super::{
    documents::document,
    ledger::Line,
    raw_stores::{self, Authority, Held as Row},
    state::{Held, Known, State},
};

/// What every store and every way of reading must show of an id.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) version: Version,
    /// Absent if it is deleted.
    pub(crate) document: Option<Document>,
}

/// What the stores must hold, by id.
#[derive(Debug, Default)]
pub(crate) struct Expectation {
    pub(crate) documents: BTreeMap<String, Expected>,
    /// What became of the writes that were in flight, for the ledger.
    pub(crate) found: Vec<Line>,
    /// What the relational store's file holds against the ledger.
    pub(crate) violations: Vec<String>,
}

impl Expectation {
    pub(crate) fn live(&self) -> impl Iterator<Item = (&String, &Expected)> {
        self.documents
            .iter()
            .filter(|(_, expected)| expected.document.is_some())
    }
}

/// Compares the rows of the relational store with the ledger.
pub(crate) fn expectation(
    state: &State,
    rows: &BTreeMap<String, Row<Authority>>,
) -> Result<Expectation, serde_json::Error> {
    let mut expectation = Expectation::default();
    let mut found: HashMap<&str, Version> = HashMap::new();
    for (id, known) in &state.documents {
        let held = match held(state, known, rows.get(id)) {
            Ok(held) => held,
            Err(violation) => {
                expectation.violations.push(format!("{id}: {violation}"));
                continue;
            }
        };
        let Some(held) = held else { continue };
        if Some(held.write) == known.in_flight {
            found.insert(id, held.version);
        }
        let document = (!held.deleted).then(|| document(id, held.write));
        if let (Some(document), Some(row)) = (&document, rows.get(id))
            && row.content.hash != raw_stores::content_hash(document)?
        {
            expectation.violations.push(format!(
                "{id}: version {} is not the content of write {}",
                held.version, held.write
            ));
        }
        let version = held.version;
        let expected = Expected { version, document };
        expectation.documents.insert(id.clone(), expected);
    }
    for id in rows.keys().filter(|id| !state.documents.contains_key(*id)) {
        expectation
            .violations
            .push(format!("{id}: was never written"));
    }
    for (write, open) in &state.open {
        let in_flight = |id: &String| state.documents[id].in_flight == Some(*write);
        let ids = &open.intent.ids;
        if ids.iter().any(in_flight) {
            let versions = ids.iter().map(|id| found.get(id.as_str()).copied());
            let line = Line::Found(*write, versions.collect());
            expectation.found.push(line);
        }
    }
    Ok(expectation)
}

/// Which of the writes that an id may show, its row shows.
fn held(
    state: &State,
    known: &Known,
    row: Option<&Row<Authority>>,
) -> Result<Option<Held>, String> {
    let row = row.map(|row| (Version::from_i64(row.version), row.deleted));
    let held = known.held;
    if row == held.map(|held| (held.version, held.deleted)) {
        return Ok(held);
    }
    let (version, deleted) = match (row, held) {
        (None, Some(Held { deleted: true, .. })) => return Err("its tombstone is lost".to_owned()),
        (None, _) => return Err("it is lost".to_owned()),
        (Some(row), _) => row,
    };
    let Some(open) = known.in_flight.and_then(|write| state.open.get(&write)) else {
        let resurrected = !deleted && held.is_some_and(|held| held.deleted);
        let what = if resurrected {
            "it came back after its deletion"
        } else {
            "it changed without a write"
        };
        return Err(format!(
            "{what}: version {version}, {held:?} was acknowledged"
        ));
    };
    let newer = held.is_none_or(|held| version > held.version);
    if !newer || deleted != open.intent.delete {
        return Err(format!(
            "version {version}, deleted {deleted} is neither {held:?} nor {:?}",
            open.intent
        ));
    }
    Ok(Some(Held {
        version,
        write: open.intent.write,
        deleted,
    }))
}
