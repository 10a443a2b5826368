//! The promises of a write over the whole facade, with stores that fail.
#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

mod common;

#[path = "write_route/acknowledged.rs"]
mod acknowledged;
#[path = "write_route/catching_up.rs"]
mod catching_up;
#[path = "write_route/collections.rs"]
mod collections;
#[path = "write_route/operations.rs"]
mod operations;
#[path = "write_route/parked.rs"]
mod parked;

use dbmanager_core::{DatabaseManager, model::Document};

fn document(id: &str) -> Document {
    Document::new(id).title("a title").text("some words")
}

async fn get_text(db: &DatabaseManager, id: &str) -> Option<String> {
    db.get_document("c", id)
        .await
        .unwrap()
        .map(|found| found.document.text)
}
