//! Documents of which it is known how they are found.

use dbmanager::prelude::*;
use serde_json::json;

pub(super) const GROUPS: usize = 7;

/// Words that share nothing but their language.
const WORDS: [&str; 20] = [
    "harbour", "lantern", "glacier", "walnut", "violin", "copper", "meadow", "turbine", "pepper",
    "compass", "orchid", "granite", "falcon", "velvet", "monsoon", "ledger", "quartz", "bamboo",
    "kettle", "saddle",
];

pub(super) fn id(number: usize) -> String {
    format!("d{number:04}")
}

/// The word that only this document has.
pub(super) fn own_word(number: usize) -> String {
    // Digits alone would be near each other for some tokenizers.
    let letters: String = format!("{number:04}")
        .bytes()
        .map(|digit| char::from(b'a' + (digit - b'0')))
        .collect();
    format!("zq{letters}xv")
}

/// The group it is in, by its metadata.
pub(super) fn group(number: usize) -> String {
    format!("group {}", number % GROUPS)
}

/// A document with text, metadata of every kind, and references to two earlier ones.
pub(super) fn document(number: usize) -> Document {
    let word = |step: usize| WORDS[(number * step + step) % WORDS.len()];
    let document = Document::new(id(number))
        .title(format!("{} and {}", word(1), word(3)))
        .text(format!(
            "Of the {} {} near the {} we know {}.",
            word(7),
            word(11),
            word(13),
            own_word(number)
        ))
        .document_type(if number.is_multiple_of(2) {
            "report"
        } else {
            "note"
        })
        .metadata("number", number as u64)
        .metadata("group", group(number))
        .metadata("share", number as f64 / 8.0)
        .metadata("even", number.is_multiple_of(2))
        .metadata("tags", json!([word(1), number % 3]))
        .metadata("nested", json!({"depth": {"of.it": number % 5}}));
    match number {
        0 => document,
        _ => document.references([
            Reference::new(id(number - 1)).kind("follows"),
            Reference::new(id(number / 2))
                .kind("cites")
                .property("page", number as u64),
        ]),
    }
}

/// The same document after someone has worked on it: another text, so other vectors, other
/// metadata, and one reference less.
pub(super) fn revised(number: usize) -> Document {
    let mut document = document(number);
    document.text = format!("Revised: {} is no longer near anything.", own_word(number));
    document.metadata.remove("nested");
    document.references.truncate(1);
    document.metadata("revised", true)
}
