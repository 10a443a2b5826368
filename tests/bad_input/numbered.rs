//! Documents by number.

use dbmanager::prelude::*;

use crate::common::embedded::{get, store};

pub(crate) fn document(number: usize) -> Document {
    Document::new(format!("d{number:03}"))
        .title(format!("title {number}"))
        .text(format!("text of number {number}"))
        .references(["d000"])
}

pub(crate) async fn fill(db: &DatabaseManager, numbers: std::ops::Range<usize>) {
    for number in numbers {
        store(db, "c", document(number)).await;
    }
}

pub(crate) async fn assert_filled(db: &DatabaseManager, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let wanted = document(number);
        assert_eq!(get(db, "c", &wanted.id).await, Some(wanted));
    }
}
