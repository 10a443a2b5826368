//! The stores after a kill, before anything new is written: every way of reading through the
//! library, and by raw SQL the file of every store.

use std::{collections::BTreeMap, error::Error, path::Path};

use dbmanager::{
    DatabaseManager,
    model::{Query, SearchResponse, StoredDocument},
};

use super::{
    documents::{COLLECTION, WORD, vector},
    expected::{Expectation, expectation},
    raw_stores,
    state::State,
};

/// Documents listed and looked for at once: the most there can be.
const PAGE: usize = 1_000;
/// Violations that are named one by one.
const NAMED: usize = 20;

/// Compares the files of the stores with the ledger and with each other. The stores must have
/// caught up.
pub(crate) fn files(data: &Path, state: &State) -> Result<Expectation, Box<dyn Error>> {
    let stores = raw_stores::read(data, COLLECTION)?;
    let mut expectation = expectation(state, &stores.relational)?;
    expectation.violations.extend(stores.differences());
    refuse(&expectation.violations)?;
    Ok(expectation)
}

/// Compares what the library's reads and searches answer with what must be there.
pub(crate) async fn reads(
    db: &DatabaseManager,
    expectation: &Expectation,
) -> Result<(), Box<dyn Error>> {
    if db.collections().is_empty() && expectation.documents.is_empty() {
        return Ok(());
    }
    let mut violations = Vec::new();
    let ids = expectation.documents.keys();
    let held = db.get_documents(COLLECTION, ids).await?;
    for ((id, expected), held) in expectation.documents.iter().zip(&held) {
        let shown = held.as_ref().map(|held| (held.version, &held.document));
        let document = expected.document.as_ref();
        if shown != document.map(|document| (expected.version, document)) {
            violations.push(format!("get of {id}: {shown:?}, not {expected:?}"));
        }
    }
    let listed = listed(db).await?;
    let live = expectation.live().count();
    let count = db.count(COLLECTION, None).await?;
    if count.documents != live as u64 || !count.complete {
        violations.push(format!("{count:?} of {live} documents"));
    }
    let ids = listed.iter().map(|listed| listed.document.id.as_str());
    compare("list", ids, expectation, true, &mut violations);
    for query in [Query::metadata(WORD), Query::semantic_vector(vector(0))] {
        search(db, query, true, expectation, &mut violations).await?;
    }
    // The graph starts from some of the titles alone.
    search(
        db,
        Query::graph("write"),
        false,
        expectation,
        &mut violations,
    )
    .await?;
    refuse(&violations)
}

async fn listed(db: &DatabaseManager) -> Result<Vec<StoredDocument>, Box<dyn Error>> {
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = db.list_documents(COLLECTION, None, after, PAGE).await?;
        listed.extend(page.documents);
        after = page.next;
        if after.is_none() {
            return Ok(listed);
        }
    }
}

async fn search(
    db: &DatabaseManager,
    query: Query,
    all: bool,
    expectation: &Expectation,
    violations: &mut Vec<String>,
) -> Result<(), Box<dyn Error>> {
    let what = format!("search {:?}", query.search_type);
    let response: SearchResponse = db.search_documents(COLLECTION, query.limit(PAGE)).await?;
    if response.degraded() {
        violations.push(format!("{what}: degraded: {:?}", response.legs));
    }
    for hit in &response.hits {
        let expected = expectation.documents.get(&*hit.id);
        if expected.is_some_and(|expected| expected.version != hit.version) {
            violations.push(format!("{what}: {} at version {}", hit.id, hit.version));
        }
    }
    let ids = response.hits.iter().map(|hit| &*hit.id);
    compare(&what, ids, expectation, all, violations);
    Ok(())
}

/// Every id once, only live ones, and if `all`, all of these.
fn compare<'a>(
    what: &str,
    ids: impl Iterator<Item = &'a str>,
    expectation: &Expectation,
    all: bool,
    violations: &mut Vec<String>,
) {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for id in ids {
        *times.entry(id).or_default() += 1;
    }
    for (id, times) in &times {
        let expected = expectation.documents.get(*id);
        if expected.is_none_or(|expected| expected.document.is_none()) {
            violations.push(format!("{what}: {id} is deleted or was never written"));
        }
        if *times > 1 {
            violations.push(format!("{what}: {id} {times} times"));
        }
    }
    if all {
        let missing = expectation
            .live()
            .filter(|(id, _)| !times.contains_key(id.as_str()));
        violations.extend(missing.map(|(id, _)| format!("{what}: {id} is missing")));
    }
}

fn refuse(violations: &[String]) -> Result<(), Box<dyn Error>> {
    if violations.is_empty() {
        return Ok(());
    }
    let named: Vec<&str> = violations.iter().take(NAMED).map(String::as_str).collect();
    let count = violations.len();
    Err(format!("{count} violations:\n  {}", named.join("\n  ")).into())
}
