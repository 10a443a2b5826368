//! Cutting text into words, for the server to index.
//!
//! The server's own parser takes addresses, file names and tags for single words, so that a part
//! of them is not found. Here every run of letters and digits is a word; the server gets them with
//! spaces between, and only folds and stems them.

use std::collections::HashMap;

use dbmanager_core::{
    backend::{BackendError, BackendResult},
    model::{Document, Tokenizer},
};

/// Words of a query that are searched for; later distinct ones are left out.
pub(super) const MAX_DISTINCT_TERMS: usize = 1_024;
/// Words of a query that count, repetitions included.
pub(super) const MAX_TERMS: usize = 4_096;
/// The server ignores words of 2 kB and more; longer ones are found by their start.
const MAX_WORD_CHARACTERS: usize = 250;
/// No byte of a text brings more into a vector than this, in any tokenizer.
const MAX_BYTES_PER_BYTE: usize = 16;
/// A text-search vector takes 1 MiB (PostgreSQL documentation, section 12.11).
const MAX_VECTOR_BYTES: usize = 1_000_000;
/// What a word takes besides its letters: alignment, the number of positions, and one of them.
const BYTES_OF_A_WORD: usize = 6;
/// Positions the server keeps of one word.
const MAX_POSITIONS: usize = 256;
/// The length of the runs of the trigram tokenizer.
const RUN: usize = 3;

/// The server's text-search configuration for words of this tokenizer.
///
/// # Errors
/// `Unsupported` for a tokenizer that this version does not know.
pub(super) fn configuration(tokenizer: Tokenizer) -> BackendResult<&'static str> {
    match tokenizer {
        Tokenizer::English => Ok("english_words"),
        Tokenizer::Unicode | Tokenizer::Trigram => Ok("pg_catalog.simple"),
        _ => Err(BackendError::unsupported("this tokenizer")),
    }
}

/// The SQL that makes a text-search vector of the words in an expression.
pub(super) fn vector_sql(configuration: &str, words: &str) -> String {
    format!("to_tsvector('{configuration}'::regconfig, fold_diacritics({words}))")
}

/// The words of a document, as the server gets them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DocumentWords {
    /// With spaces between.
    pub(super) text: String,
    /// How many the document has, those that no longer fit a vector included.
    pub(super) length: i32,
}

/// The words of title and text. Once the vector could overflow, words that it does not have yet
/// are left out.
pub(super) fn of_document(tokenizer: Tokenizer, document: &Document) -> DocumentWords {
    let mut text = String::with_capacity(document.title.len() + document.text.len() + 1);
    let mut length: i32 = 0;
    let mut bytes = 0;
    let mut counts: HashMap<String, usize> = HashMap::new();
    // Small texts need no bookkeeping.
    let small =
        MAX_BYTES_PER_BYTE * (document.title.len() + document.text.len()) < MAX_VECTOR_BYTES;
    for part in [&document.title, &document.text] {
        for_each_word(tokenizer, part, |word| {
            length = length.saturating_add(1);
            if !small {
                let held = counts.get_mut(word);
                let more = match &held {
                    None => BYTES_OF_A_WORD + word.chars().map(bytes_held).sum::<usize>(),
                    Some(count) if **count < MAX_POSITIONS => 2,
                    Some(_) => 0,
                };
                if bytes + more > MAX_VECTOR_BYTES {
                    return;
                }
                bytes += more;
                match held {
                    Some(count) => *count += 1,
                    None => {
                        counts.insert(word.to_owned(), 1);
                    }
                }
            }
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(word);
        });
    }
    DocumentWords { text, length }
}

/// The words of a query with spaces between, repetitions kept; `None` if it has none.
pub(super) fn of_query(tokenizer: Tokenizer, query: &str) -> Option<String> {
    let mut text = String::new();
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut all = 0;
    for_each_word(tokenizer, query, |word| {
        let known = counts.contains_key(word);
        if all >= MAX_TERMS || (!known && counts.len() >= MAX_DISTINCT_TERMS) {
            return;
        }
        all += 1;
        *counts.entry(word.to_owned()).or_default() += 1;
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
    });
    (!text.is_empty()).then_some(text)
}

fn for_each_word(tokenizer: Tokenizer, text: &str, mut each: impl FnMut(&str)) {
    let lower = text.to_lowercase();
    let words = lower
        .split(|c: char| !is_part_of_word(c))
        .filter(|word| word.chars().any(char::is_alphanumeric));
    for word in words {
        match tokenizer {
            Tokenizer::Trigram => {
                let starts: Vec<usize> = word
                    .char_indices()
                    .map(|(start, _)| start)
                    .chain([word.len()])
                    .collect();
                for run in starts.windows(RUN + 1) {
                    each(&word[run[0]..run[RUN]]);
                }
            }
            _ => match word.char_indices().nth(MAX_WORD_CHARACTERS) {
                Some((end, _)) => each(&word[..end]),
                None => each(word),
            },
        }
    }
}

/// The most that the server holds of a character of a word. Its canonical form, in which the server
/// folds, may be longer than the character is; and what is a numeral here but no digit there (such
/// as `\u{b2}`) ends a word, so that another begins behind it.
fn bytes_held(c: char) -> usize {
    match c {
        '\0'..='\u{7f}' => 1,
        // Letters that are never composed again (Unicode, CompositionExclusions.txt): Indic with a
        // nukta, Tibetan, and Hebrew presentation forms.
        '\u{958}'..='\u{95f}'
        | '\u{9dc}'..='\u{9df}'
        | '\u{a33}'
        | '\u{a36}'
        | '\u{a59}'..='\u{a5e}'
        | '\u{b5c}'
        | '\u{b5d}'
        | '\u{f43}'
        | '\u{f4d}'
        | '\u{f52}'
        | '\u{f57}'
        | '\u{f5c}'
        | '\u{f69}'
        | '\u{f73}'
        | '\u{f75}'..='\u{f78}'
        | '\u{f81}'
        | '\u{f93}'
        | '\u{f9d}'
        | '\u{fa2}'
        | '\u{fa7}'
        | '\u{fac}'
        | '\u{fb9}'
        | '\u{fb1d}'..='\u{fb4e}' => 2 * c.len_utf8(),
        // Some stand for ideographs of four bytes.
        '\u{fa6c}' | '\u{facf}'..='\u{fad7}' => 4,
        _ if c.is_numeric() => c.len_utf8() + BYTES_OF_A_WORD,
        _ => c.len_utf8(),
    }
}

/// Combining diacritics belong to their word; the server folds them away.
fn is_part_of_word(c: char) -> bool {
    c.is_alphanumeric() || ('\u{300}'..='\u{36f}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_runs_of_letters_and_digits() {
        let document = Document::new("a")
            .title("Ärger <b>")
            .text("user@example.org, don't 1e5\u{feff}x-y e\u{301}!");
        let words = of_document(Tokenizer::English, &document);
        assert_eq!(
            words.text,
            "ärger b user example org don t 1e5 x y e\u{301}"
        );
        assert_eq!(words.length, 11);
    }

    #[test]
    fn trigrams_are_runs_of_three_within_words() {
        let document = Document::new("a").text("aBcd ef 東京都庁");
        let words = of_document(Tokenizer::Trigram, &document);
        assert_eq!(words.text, "abc bcd 東京都 京都庁");
    }

    #[test]
    fn a_query_keeps_repetitions_and_its_bounds() {
        assert_eq!(of_query(Tokenizer::Unicode, " ?!\u{301}"), None);
        assert_eq!(of_query(Tokenizer::Trigram, "ab"), None);
        let twice = of_query(Tokenizer::Unicode, "Red blue, red");
        assert_eq!(twice.as_deref(), Some("red blue red"));
        let many: String = (0..MAX_DISTINCT_TERMS + 5)
            .map(|i| format!("w{i} "))
            .collect();
        let bounded = of_query(Tokenizer::Unicode, &many).unwrap();
        assert_eq!(bounded.split(' ').count(), MAX_DISTINCT_TERMS);
        let repeated = of_query(Tokenizer::Unicode, &"a ".repeat(MAX_TERMS + 5)).unwrap();
        assert_eq!(repeated.split(' ').count(), MAX_TERMS);
    }

    /// What the vector holds of the words, if they are all distinct.
    fn bytes_in_vector(words: &str, length_held: impl Fn(char) -> usize) -> usize {
        let bytes = |word: &str| BYTES_OF_A_WORD + word.chars().map(&length_held).sum::<usize>();
        words.split(' ').map(bytes).sum()
    }

    #[test]
    fn words_count_as_long_as_the_server_holds_them() {
        let letters: Vec<char> = ('\u{958}'..='\u{95f}').collect();
        let text: String = (0..41_000_usize)
            .map(|number| {
                let word: String = (0..6)
                    .map(|place| letters[number >> (3 * place) & 7])
                    .collect();
                word + " "
            })
            .collect();
        let words = of_document(Tokenizer::Unicode, &Document::new("a").text(text));
        assert_eq!(words.length, 41_000);
        let bytes = bytes_in_vector(&words.text, |_| 6);
        assert!((990_000..=MAX_VECTOR_BYTES).contains(&bytes), "{bytes}");
    }

    #[test]
    fn numerals_count_as_the_ends_of_words() {
        let text: String = (0..60_000)
            .map(|number| format!("{number:05}\u{b2}x "))
            .collect();
        let words = of_document(Tokenizer::Unicode, &Document::new("a").text(text));
        let split = words.text.replace('\u{b2}', " ");
        let bytes = bytes_in_vector(&split, char::len_utf8);
        assert!((900_000..=MAX_VECTOR_BYTES).contains(&bytes), "{bytes}");
    }

    #[test]
    fn no_character_brings_more_than_is_allowed_for() {
        for c in ('\0'..=char::MAX).filter(|c| c.is_alphanumeric()) {
            let run = RUN * bytes_held(c) + BYTES_OF_A_WORD;
            assert!(run <= MAX_BYTES_PER_BYTE * c.len_utf8(), "{c:?}");
        }
    }

    /// Against the tables that another adapter of this crate folds with.
    #[cfg(feature = "mongodb")]
    #[test]
    fn no_character_is_folded_to_more_than_is_counted() {
        use unicode_normalization::UnicodeNormalization;
        for c in ('\0'..=char::MAX).filter(|c| is_part_of_word(*c)) {
            let folded = std::iter::once(c)
                .nfd()
                .filter(|c| !('\u{300}'..='\u{36f}').contains(c))
                .nfc()
                .map(char::len_utf8)
                .sum::<usize>();
            assert!(folded <= bytes_held(c), "{c:?}: {folded}");
        }
    }

    #[test]
    fn what_no_longer_fits_a_vector_is_left_out_but_counts() {
        let text: String = (0..200_000).map(|i| format!("word{i} ")).collect();
        let words = of_document(Tokenizer::Unicode, &Document::new("a").text(text));
        assert_eq!(words.length, 200_000);
        let kept = words.text.split(' ').count();
        assert!((50_000..100_000).contains(&kept), "{kept}");
        let long = "x".repeat(10_000);
        let words = of_document(Tokenizer::Unicode, &Document::new("a").text(long));
        assert_eq!(words.text.len(), MAX_WORD_CHARACTERS);
    }
}
