//! What a search shows, and what it must not leave out.

use std::collections::BTreeMap;

use dbmanager_core::model::{PageEnd, SearchResponse};

use super::{
    client::DOCUMENTS,
    history::{History, Reading},
    operation::Place,
};

/// A search under way: what it may not fall behind, by the id of the document.
pub struct Searching {
    collection: String,
    called: u64,
    readings: BTreeMap<String, Reading>,
}

impl History {
    pub fn begin_search(&self, collection: &str) -> Searching {
        let reading = |index| {
            let id = format!("d{index}");
            let place = (collection.to_owned(), id.clone());
            (id, self.begin_read(&place))
        };
        let readings = (0..DOCUMENTS).map(reading).collect();
        Searching {
            collection: collection.to_owned(),
            called: self.now(),
            readings,
        }
    }

    /// Checks what a search has shown, and what it has not. Every document has the word that is
    /// searched for, and there are fewer of them than a page holds.
    pub fn end_search(&self, searching: Searching, found: &SearchResponse) {
        let Searching {
            collection,
            called,
            mut readings,
        } = searching;
        for hit in &found.hits {
            let reading = readings.remove(&*hit.id);
            let document = hit.document.as_ref();
            let (Some(reading), Some(document)) = (reading, document) else {
                let what = format!("{collection}/{}: twice, unknown or without content", hit.id);
                self.violate("a search shows documents", what);
                continue;
            };
            self.end_read(reading, Some((hit.version, &document.text)), false);
        }
        // What is not degraded was asked of a store that had confirmed everything answered before
        // the call, whatever its level.
        if found.degraded() || found.page_end != PageEnd::Exhausted {
            self.count("degraded search", 1);
            return;
        }
        self.count("whole search", 1);
        for id in readings.into_keys() {
            self.check_not_found((collection.clone(), id), called);
        }
    }

    fn check_not_found(&self, place: Place, called: u64) {
        if let Some(number) = self.unchanged_since(&place, called) {
            self.violate(
                "a search that is not degraded shows all there is",
                format!("{place:?} was not found, #{number} is there"),
            );
        }
    }
}
