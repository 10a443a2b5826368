//! The documents that the writers write: all of one follows from its id and the number of the
//! write that made it, so that whatever is found can be compared in full.

use dbmanager::model::{Document, Passage, Reference};

pub(crate) const COLLECTION: &str = "documents";
/// A word of every text: who searches for it must find every live document.
pub(crate) const WORD: &str = "everywhere";
const DIMENSION: u64 = 16;
/// Passages of a text; a document has a vector for some of them, so that sets grow and shrink.
const PASSAGES: u64 = 3;

/// The id of a writer's document.
pub(crate) fn id(writer: usize, number: usize) -> String {
    format!("writer-{writer:02}-{number}")
}

/// The document that a write stores under an id.
pub(crate) fn document(id: &str, write: u64) -> Document {
    let text = format!("{WORD} one passage of write {write} and another of {id} and a third");
    let mut document = Document::new(id)
        .title(format!("{id} by write {write}"))
        .metadata("write", write)
        .metadata("third", write % 3)
        .references((0..write % 3).map(|ordinal| {
            let target = self::id((write % 64) as usize, ordinal as usize);
            Reference::new(target).kind(format!("kind {ordinal}"))
        }));
    let bytes = text.len() as u64 / PASSAGES;
    for number in 0..1 + write % PASSAGES {
        let passage = Passage {
            start: (number * bytes) as u32,
            end: ((number + 1) * bytes) as u32,
        };
        document = document.passage_vector(passage, vector(write + number));
    }
    document.text(text)
}

/// What is searched for by meaning.
pub(crate) fn vector(seed: u64) -> Vec<f32> {
    (0..DIMENSION)
        .map(|position| ((seed * 31 + position * 7) % 101) as f32 / 50.0 - 1.01)
        .collect()
}
