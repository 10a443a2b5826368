//! Texts that some journal might take for something else, and large ones.

use super::{
    super::trial::CaseResult,
    bench::{Bench, accepted_as, record},
    records::{parked, store},
};
use crate::{
    backend::DocumentState,
    journal::{Change, RosterRecord},
    model::{CollectionOptions, Version},
};

const HOSTILE: [&str; 10] = [
    "'; DROP TABLE entry; --",
    "\"quoted\" and \\back\\slashed",
    "$1 $$ $tag$ %s ?",
    "line\nbreak\ttab\r",
    "{\"json\": [1, null]}",
    "{curly,braces,\"as in arrays\"}",
    "NULL",
    "ä ö ü ß é 漢字 🦀 \u{200f}",
    " leading and trailing ",
    "e\u{301} is not é",
];

pub(super) async fn any_text_is_kept_as_it_is(bench: Bench) -> CaseResult {
    let mut f = bench.fixture().await?;
    let mut written = Vec::new();
    for (number, text) in HOSTILE.iter().enumerate() {
        let options = CollectionOptions::new();
        let (collection, new) = f.journal.create_collection(text, options).await?;
        ensure!(new, "collection {text:?} is new");
        f.collection = collection.key;
        let request = f.keyed(text, text, 1);
        let header = f.accepted(request).await?;
        f.journal.park(parked(header.version, 1, text)).await?;
        let record = RosterRecord {
            service: (*text).to_owned(),
            location: (*text).to_owned(),
            ..store(number as u128 + 1, 0)
        };
        f.journal.put_store(record).await?;
        written.push(header);
    }
    f.reopen().await?;
    let headers = f.journal.live_entries(Version::ZERO, 100).await?;
    ensure_eq!(headers, written, "live entries");
    let versions: Vec<_> = written.iter().map(|header| header.version).collect();
    let loaded = f.journal.load(&versions).await?;
    let marks = f.journal.parked().await?;
    let stores = f.journal.roster().await?;
    for (index, text) in HOSTILE.iter().enumerate() {
        let state = DocumentState::Live(record(text, "text"));
        let found = loaded[index].as_ref().map(|entry| &entry.state);
        ensure_eq!(found, Some(&state), "document {text:?}");
        ensure_eq!(marks[index].error, *text, "error");
        ensure_eq!(stores[index].location, *text, "location");
        let known = f.journal.idempotency_key(text, text).await?;
        let expected = ([1; 32], accepted_as(&written[index], true));
        ensure_eq!(known, Some(expected), "key {text:?}");
    }
    let collections = f.journal.collections().await?;
    ensure_eq!(collections.len(), HOSTILE.len() + 1, "collections");
    let names: Vec<&str> = collections.iter().map(|c| &*c.key.name).collect();
    ensure!(
        names.is_sorted(),
        "names are in the order of their bytes: {names:?}"
    );
    Ok(())
}

pub(super) async fn a_large_document_comes_back(bench: Bench) -> CaseResult {
    let f = bench.fixture().await?;
    let large = record("a", &"large ".repeat(400_000));
    let change = Change::Upsert(large.clone());
    let header = f.accepted(f.request("a", change)).await?;
    let loaded = f.journal.load(&[header.version]).await?;
    let state = loaded.into_iter().flatten().next().map(|entry| entry.state);
    ensure!(
        state == Some(DocumentState::Live(large)),
        "the document differs"
    );
    Ok(())
}
