//! Splits a text into passages that the model sees whole.

use std::sync::Arc;

use dbmanager_core::{
    embed::{EmbedDocument, EmbedError, PassageText},
    model::Passage,
};
use tokenizers::Tokenizer;

/// Splits documents by the tokens of a model.
#[derive(Debug)]
pub(crate) struct Splitter {
    /// Without truncation and padding.
    tokenizer: Tokenizer,
    /// Tokens of text that the model sees at once.
    window: usize,
    /// Tokens that neighbouring passages share.
    overlap: usize,
}

/// A passage ends at a sentence if one ends in the last part of the window, of this share.
const SENTENCE_SHARE: usize = 4;

impl Splitter {
    /// A splitter for what `tokenizer` leaves of a text with `prefix` before it.
    pub(crate) fn new(
        tokenizer: &Tokenizer,
        prefix: &str,
        overlap: usize,
    ) -> Result<Self, EmbedError> {
        let mut tokenizer = tokenizer.clone();
        let longest = tokenizer.get_truncation().map(|t| t.max_length);
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(failed)?;
        // What the model adds by itself (its start and end), and the prefix.
        let around = tokenizer.encode(prefix, true).map_err(failed)?.len();
        let window = longest.unwrap_or(usize::MAX).saturating_sub(around);
        if window <= overlap {
            return Err(EmbedError::config(format!(
                "\"embedding.config.chunk_overlap\" must be less than the {window} tokens of text \
                 that the model sees at once"
            )));
        }
        Ok(Self {
            tokenizer,
            window,
            overlap,
        })
    }

    /// The texts to embed for a document. One that fits is embedded whole; otherwise every passage
    /// of the text stands below the title. A title that takes more than half of the window is split
    /// with the text.
    pub(crate) fn split(&self, document: &EmbedDocument) -> Result<Vec<PassageText>, EmbedError> {
        let title = self.tokens(&document.title)?.len();
        let tokens = self.tokens(&document.text)?;
        if title + tokens.len() <= self.window {
            return Ok(vec![(None, document.joined())]);
        }
        let window = self.window - title.min(self.window);
        if window > self.overlap && title <= self.window / 2 {
            let passages = split_tokens(&document.text, &tokens, window, self.overlap);
            let texts = passages.into_iter().map(|(start, end)| {
                let part = EmbedDocument::new(&*document.title, &document.text[start..end]);
                Ok((Some(passage(start, end)?), part.joined()))
            });
            return texts.collect();
        }
        let joined = document.joined();
        let before = joined.len() - document.text.len();
        let tokens = self.tokens(&joined)?;
        let passages = split_tokens(&joined, &tokens, self.window, self.overlap);
        let texts = passages.into_iter().map(|(start, end)| {
            let within = passage(start.saturating_sub(before), end.saturating_sub(before))?;
            Ok((Some(within), Arc::from(&joined[start..end])))
        });
        texts.collect()
    }

    /// The byte ranges of a text's tokens.
    fn tokens(&self, text: &str) -> Result<Vec<(usize, usize)>, EmbedError> {
        let encoded = self.tokenizer.encode(text, false).map_err(failed)?;
        Ok(encoded.get_offsets().to_vec())
    }
}

fn failed(cause: tokenizers::Error) -> EmbedError {
    EmbedError::new(format!("the tokenizer failed: {cause}"))
}

fn passage(start: usize, end: usize) -> Result<Passage, EmbedError> {
    let byte = |at| u32::try_from(at).map_err(|_| EmbedError::new("the text is longer than 4 GiB"));
    Ok(Passage {
        start: byte(start)?,
        end: byte(end)?,
    })
}

/// Byte ranges of at most `window` tokens each, in order, together covering the text; neighbours
/// share up to `overlap` tokens. They end between words, and at the end of a sentence where one
/// ends late in the window. `overlap` is less than `window`.
fn split_tokens(
    text: &str,
    tokens: &[(usize, usize)],
    window: usize,
    overlap: usize,
) -> Vec<(usize, usize)> {
    let mut passages = Vec::new();
    let (mut first, mut start) = (0, 0);
    loop {
        let full = first + window;
        if full >= tokens.len() {
            passages.push((start, text.len()));
            return passages;
        }
        let end = last_end(text, tokens, first, full);
        passages.push((start, floor(text, tokens[end].0)));
        // At least one token on, or this would not end.
        let back = end.saturating_sub(overlap).max(first + 1);
        first = (back..=end)
            .find(|at| between_words(tokens, *at))
            .unwrap_or(end);
        start = floor(text, tokens[first].0);
    }
}

/// Before which token a passage of the tokens from `first` ends, at most before `full`.
fn last_end(text: &str, tokens: &[(usize, usize)], first: usize, full: usize) -> usize {
    let late = full - (full - first) / SENTENCE_SHARE;
    let sentence = (late..=full).rev().find(|at| {
        between_words(tokens, *at) && ends_sentence(&text[..floor(text, tokens[*at].0)])
    });
    sentence
        .or_else(|| {
            (first + 1..=full)
                .rev()
                .find(|at| between_words(tokens, *at))
        })
        .unwrap_or(full)
}

/// Whether something (white space) stands between the token and the one before it.
fn between_words(tokens: &[(usize, usize)], at: usize) -> bool {
    tokens[at - 1].1 < tokens[at].0
}

fn ends_sentence(before: &str) -> bool {
    let trimmed = before.trim_end();
    before[trimmed.len()..].contains('\n') || trimmed.ends_with(['.', '!', '?', '。', '！', '？'])
}

/// Tokens of single bytes may begin inside a character.
fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A token for each word.
    fn words(text: &str) -> Vec<(usize, usize)> {
        text.split_whitespace()
            .map(|word| {
                let start = word.as_ptr() as usize - text.as_ptr() as usize;
                (start, start + word.len())
            })
            .collect()
    }

    fn split(text: &str, window: usize, overlap: usize) -> Vec<&str> {
        split_tokens(text, &words(text), window, overlap)
            .into_iter()
            .map(|(start, end)| &text[start..end])
            .collect()
    }

    #[test]
    fn a_passage_ends_with_a_sentence_if_one_ends_late_enough() {
        assert_eq!(
            split("one two three. four five six", 4, 0),
            ["one two three. ", "four five six"]
        );
        assert_eq!(
            split("one. two three four five six", 4, 0),
            ["one. two three four ", "five six"]
        );
    }

    #[test]
    fn neighbours_share_tokens() {
        assert_eq!(split("a b c d e f", 4, 2), ["a b c d ", "c d e f"]);
    }

    #[test]
    fn a_word_longer_than_the_window_is_cut() {
        let tokens: Vec<_> = (0..10).map(|at| (at, at + 1)).collect();
        let found = split_tokens("abcdefghij", &tokens, 4, 1);
        assert_eq!(found, [(0, 4), (4, 8), (8, 10)]);
        assert_eq!(split_tokens("", &[], 4, 1), [(0, 0)]);
    }

    proptest! {
        #[test]
        fn passages_fit_go_on_and_cover_the_text(
            text in "([a-zäß€]{1,6}[.]?[ \n]{1,2}){0,60}",
            window in 1_usize..20,
            overlap in 0_usize..19,
        ) {
            let overlap = overlap.min(window - 1);
            let tokens = words(&text);
            let passages = split_tokens(&text, &tokens, window, overlap);
            let held = |(start, end): (usize, usize)| {
                tokens.iter().filter(|t| start <= t.0 && t.1 <= end).count()
            };
            prop_assert_eq!(passages[0].0, 0);
            prop_assert_eq!(passages[passages.len() - 1].1, text.len());
            for passage in &passages {
                prop_assert!(held(*passage) <= window, "{:?}", passage);
            }
            for pair in passages.windows(2) {
                prop_assert!(pair[0].0 < pair[1].0 && pair[1].0 <= pair[0].1, "{:?}", pair);
                prop_assert!(held((pair[1].0, pair[0].1)) <= overlap);
            }
        }
    }
}
