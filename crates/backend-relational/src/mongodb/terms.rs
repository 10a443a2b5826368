//! Cuts text into terms, for documents and for queries alike.

use std::collections::HashMap;

use dbmanager_backend_support::porter;
use dbmanager_core::model::{Document, Tokenizer};
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// Characters of a word that count; a longer one is told apart by these alone.
const MAX_CHARACTERS: usize = 64;
/// Bytes that the distinct terms of one document may take in its record; the terms that come
/// after are not found. Room for about 100,000 terms of eight letters.
pub(super) const MAX_TERM_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of one term in the record beside the term itself: its place in two arrays.
const TERM_OVERHEAD: usize = 32;
/// The length of the runs of the trigram tokenizer.
const RUN: usize = 3;

/// The terms of a document.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct DocumentTerms {
    /// Each distinct term with how often it occurs, in order of first occurrence.
    pub(super) counts: Vec<(String, i32)>,
    /// Terms in all.
    pub(super) length: i32,
}

/// The terms of title and text; no term spans the two.
pub(super) fn of_document(tokenizer: Tokenizer, document: &Document) -> DocumentTerms {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut found = DocumentTerms::default();
    let mut bytes = 0;
    for term in [&document.title, &document.text]
        .into_iter()
        .flat_map(|text| terms(tokenizer, text))
    {
        found.length = found.length.saturating_add(1);
        if let Some(place) = places.get(&term) {
            let (_, count) = &mut found.counts[*place];
            *count = count.saturating_add(1);
            continue;
        }
        bytes += term.len() + TERM_OVERHEAD;
        if bytes <= MAX_TERM_BYTES {
            places.insert(term.clone(), found.counts.len());
            found.counts.push((term, 1));
        }
    }
    found
}

/// The terms of a text in its order, repetitions kept.
pub(super) fn terms(tokenizer: Tokenizer, text: &str) -> impl Iterator<Item = String> {
    words(text).flat_map(move |word| match tokenizer {
        Tokenizer::Trigram => runs(&word.to_lowercase()),
        Tokenizer::Unicode => vec![folded(word)],
        // `English`, the default, and whatever a later version adds.
        _ => vec![porter::stem(folded(word))],
    })
}

/// Runs of letters and digits, marks between them included.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && !is_combining_mark(c))
        .filter(|word| word.contains(char::is_alphanumeric))
}

/// Without case, and without the diacritics that Latin, Greek and Cyrillic letters carry; marks of
/// other scripts are letters of their own.
fn folded(word: &str) -> String {
    if word.is_ascii() {
        let end = word.len().min(MAX_CHARACTERS);
        return word[..end].to_ascii_lowercase();
    }
    word.to_lowercase()
        .nfd()
        .filter(|c| !('\u{300}'..='\u{36f}').contains(c))
        .nfc()
        .take(MAX_CHARACTERS)
        .collect()
}

fn runs(word: &str) -> Vec<String> {
    let characters: Vec<char> = word.chars().collect();
    characters
        .windows(RUN)
        .map(|run| run.iter().collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(tokenizer: Tokenizer, text: &str) -> Vec<String> {
        terms(tokenizer, text).collect()
    }

    #[test]
    fn words_lose_case_diacritics_and_punctuation() {
        assert_eq!(
            cut(
                Tokenizer::Unicode,
                "Cr\u{e8}me-Brule\u{301}e, 2\u{d7}! \u{41c}\u{418}\u{420}"
            ),
            ["creme", "brulee", "2", "\u{43c}\u{438}\u{440}"]
        );
        assert_eq!(
            cut(Tokenizer::English, "Running databases, the databases"),
            ["run", "databas", "the", "databas"]
        );
        assert_eq!(cut(Tokenizer::English, " ?! \" \u{301} \u{1f980}"), [""; 0]);
    }

    #[test]
    fn trigrams_stay_within_words() {
        assert_eq!(cut(Tokenizer::Trigram, "TABs of"), ["tab", "abs"]);
        assert_eq!(
            cut(Tokenizer::Trigram, "\u{6771}\u{4eac}\u{90fd}\u{5e81}"),
            ["\u{6771}\u{4eac}\u{90fd}", "\u{4eac}\u{90fd}\u{5e81}"]
        );
    }

    #[test]
    fn a_document_counts_the_terms_of_title_and_text() {
        let document = Document::new("a").title("red fox").text("red, RED");
        let terms = of_document(Tokenizer::Unicode, &document);
        assert_eq!(terms.counts, [("red".to_owned(), 3), ("fox".to_owned(), 1)]);
        assert_eq!(terms.length, 4);
    }

    #[test]
    fn distinct_terms_stay_within_their_bytes() {
        let text: String = (0..200_000).map(|n| format!("w{n} ")).collect();
        let terms = of_document(Tokenizer::Unicode, &Document::new("a").text(text));
        let bytes: usize = terms
            .counts
            .iter()
            .map(|(t, _)| t.len() + TERM_OVERHEAD)
            .sum();
        assert!(bytes <= MAX_TERM_BYTES && terms.counts.len() > 100_000);
        assert_eq!(terms.length, 200_000);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn terms_have_no_white_space_and_a_bounded_length(text in "\\PC{0,40}") {
            for tokenizer in [Tokenizer::English, Tokenizer::Unicode, Tokenizer::Trigram] {
                for term in terms(tokenizer, &text) {
                    prop_assert!(!term.is_empty());
                    prop_assert!(!term.contains(char::is_whitespace), "{term:?}");
                    prop_assert!(term.chars().count() <= MAX_CHARACTERS);
                }
            }
        }
    }
}
