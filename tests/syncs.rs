//! Writes one after another on the embedded stores, until the journal has let go of them. That
//! nothing is lost on the way says little of syncs, which a living system never needs:
//! `scripts/count-syncs` watches what this asks of the system.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

mod common;

use std::fs;

use common::{
    embedded::{Home, assert_sound, close, store},
    eventually,
};
use dbmanager::prelude::*;

const WRITES: u64 = 20;

/// Tells who watches how far it has come, by directories: to make one is a call of the system.
struct Marks(tempfile::TempDir);

impl Marks {
    fn set(&self, name: &str) {
        fs::create_dir(self.0.path().join(name)).unwrap();
    }
}

#[tokio::test]
async fn writes_one_after_another_are_kept_by_the_journal_and_then_by_the_stores() {
    let home = Home::new();
    let marks = Marks(tempfile::tempdir().unwrap());
    let db = home.open().await;
    // What is made with the first document of a collection is synced for reasons of its own.
    store(&db, "c", Document::new("first")).await;
    marks.set("opened");
    for number in 0..WRITES {
        let document = Document::new(number.to_string()).text("some words");
        db.store_document("c", document).await.unwrap();
        marks.set(&format!("acknowledged-{number}"));
    }
    eventually("the journal lets go", || db.health().journal.entries == 0).await;
    marks.set("let-go");
    close(db).await;
    let db = home.open().await;
    assert_sound(&db, WRITES + 1).await;
    close(db).await;
}
