//! Documents to store and to search for.

use dbmanager::model::{Document, Reference};

use super::vectors::{Sequence, vector};

/// A document of about 100 words with metadata, two references and a vector.
pub(crate) fn document(number: u64, dimension: usize) -> Document {
    let mut words = Sequence::new(number + 77);
    let text: Vec<String> = (0..100)
        // The square makes some words frequent and most of them rare.
        .map(|_| {
            format!(
                "word{}",
                ((words.next() % 100).pow(2) + words.next() % 7) % 10_000
            )
        })
        .collect();
    let target = |n: u64| Reference::new(format!("document-{n}")).kind("cites");
    Document::new(format!("document-{number}"))
        .title(format!("Document {number} on {}", text[0]))
        .text(text.join(" "))
        .metadata("year", 1990 + number % 30)
        .metadata("topic", format!("topic {}", number % 50))
        .references([target(number / 2), target(number * 7 % 5_000)])
        .vector(vector(number, dimension))
}
