//! Cutting titles into words, and writing words so that they are no syntax.

use std::fmt::Write;

use dbmanager_backend_support::porter::stem;
use dbmanager_core::model::Tokenizer;
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// Characters in one run of the trigram tokenizer.
const RUN: usize = 3;
/// Bytes of a word that are kept; longer words are told apart by these and their length. The index
/// cuts what is longer than 255 characters.
const MOST_BYTES: usize = 90;

/// The encoded words of a text in its order, repetitions kept.
pub(super) fn tokens(tokenizer: Tokenizer, text: &str) -> Vec<String> {
    words(text)
        .flat_map(|word| match tokenizer {
            Tokenizer::Trigram => runs(&word),
            Tokenizer::English => vec![stem(word)],
            _ => vec![word],
        })
        .map(|word| encode(&word))
        .collect()
}

/// Runs of letters and digits, without case and diacritics.
fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric() && !is_combining_mark(c))
        .map(|word| {
            let lower = word.to_lowercase();
            lower
                .nfd()
                .filter(|c| !is_combining_mark(*c))
                .nfc()
                .collect::<String>()
        })
        .filter(|word| !word.is_empty())
}

fn runs(word: &str) -> Vec<String> {
    let characters: Vec<char> = word.chars().collect();
    characters
        .windows(RUN)
        .map(|run| run.iter().collect())
        .collect()
}

/// The word's bytes in hexadecimal digits.
fn encode(word: &str) -> String {
    let bytes = word.as_bytes();
    let mut encoded = String::with_capacity(2 * bytes.len().min(MOST_BYTES) + 8);
    for byte in bytes.iter().take(MOST_BYTES) {
        push(&mut encoded, format_args!("{byte:02x}"));
    }
    if bytes.len() > MOST_BYTES {
        push(&mut encoded, format_args!("x{}", bytes.len()));
    }
    encoded
}

fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what)
        .expect("a string takes what is written");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(tokenizer: Tokenizer, text: &str) -> Vec<String> {
        tokens(tokenizer, text)
            .into_iter()
            .map(|token| {
                let bytes: Vec<u8> = (0..token.len())
                    .step_by(2)
                    .map(|at| u8::from_str_radix(&token[at..at + 2], 16).unwrap())
                    .collect();
                String::from_utf8(bytes).unwrap()
            })
            .collect()
    }

    #[test]
    fn each_tokenizer_cuts_in_its_way() {
        assert_eq!(
            plain(Tokenizer::Unicode, "Ärger, x-1 a\u{308}rger! Running"),
            ["arger", "x", "1", "arger", "running"]
        );
        assert_eq!(
            plain(Tokenizer::English, "Running queries"),
            ["run", "queri"]
        );
        assert_eq!(
            plain(Tokenizer::Trigram, "aBcd ef 東京都庁"),
            ["abc", "bcd", "東京都", "京都庁"]
        );
        assert!(tokens(Tokenizer::Unicode, " *\"- \u{308}").is_empty());
    }

    #[test]
    fn long_words_are_told_apart_by_start_and_length() {
        let word = |length: usize, last: &str| "x".repeat(length) + last;
        let one = |text: &str| tokens(Tokenizer::Unicode, text).remove(0);
        assert_ne!(one(&word(90, "")), one(&word(91, "")));
        assert_ne!(one(&word(89, "a")), one(&word(89, "b")));
        assert!(one(&word(70_000, "")).len() < 200);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_text_becomes_syntax(text in "\\PC*") {
            for tokenizer in [Tokenizer::English, Tokenizer::Unicode, Tokenizer::Trigram] {
                for token in tokens(tokenizer, &text) {
                    prop_assert!(!token.is_empty());
                    prop_assert!(token.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c) || c == 'x'));
                }
            }
        }
    }
}
