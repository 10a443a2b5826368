//! Okapi BM25 over a handful of documents, by full scan.
//!
//! The weight of a term is `ln(1 + (N − n + ½) / (n + ½))`, never negative, as in Robertson and
//! Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond" (with 1 added inside the
//! logarithm, so that a term in more than half of the documents does not count against them).

use std::collections::HashMap;

use crate::model::Tokenizer;

/// How soon repetitions of a term in a document stop counting.
const K1: f64 = 1.2;
/// How much a document's length counts.
const B: f64 = 0.75;

/// The terms of a text in its order, repetitions kept.
pub(super) fn terms(tokenizer: Tokenizer, text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    match tokenizer {
        Tokenizer::Trigram => {
            let characters: Vec<char> = lower.chars().collect();
            characters
                .windows(3)
                .map(|run| run.iter().collect())
                .collect()
        }
        Tokenizer::English | Tokenizer::Unicode => lower
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect(),
    }
}

/// The documents of a collection, cut into terms.
pub(super) struct Corpus<T> {
    documents: Vec<CorpusDocument<T>>,
}

struct CorpusDocument<T> {
    key: T,
    length: f64,
    frequencies: HashMap<String, f64>,
}

impl<T: Copy> Corpus<T> {
    /// The documents by key, each with its texts; no term spans two texts.
    pub(super) fn new<'a, const N: usize>(
        tokenizer: Tokenizer,
        documents: impl Iterator<Item = (T, [&'a str; N])>,
    ) -> Self {
        let cut = |(key, texts): (T, [&str; N])| {
            let mut length = 0.0;
            let mut frequencies = HashMap::new();
            for term in texts.iter().flat_map(|text| terms(tokenizer, text)) {
                length += 1.0;
                *frequencies.entry(term).or_insert(0.0) += 1.0;
            }
            CorpusDocument {
                key,
                length,
                frequencies,
            }
        };
        Self {
            documents: documents.map(cut).collect(),
        }
    }

    /// The documents that have any of the terms, with their scores, in no particular order. A
    /// term that the query repeats counts as often.
    pub(super) fn scores(&self, query: &[String]) -> Vec<(T, f64)> {
        let count = self.documents.len() as f64;
        let average = self.documents.iter().map(|d| d.length).sum::<f64>() / count;
        let weights: Vec<(&String, f64)> = query
            .iter()
            .map(|term| {
                let having = self
                    .documents
                    .iter()
                    .filter(|d| d.frequencies.contains_key(term))
                    .count() as f64;
                (term, (1.0 + (count - having + 0.5) / (having + 0.5)).ln())
            })
            .collect();
        self.documents
            .iter()
            .filter(|d| query.iter().any(|term| d.frequencies.contains_key(term)))
            .map(|d| {
                let norm = K1 * (1.0 - B + B * d.length / average);
                let score = weights
                    .iter()
                    .filter_map(|(term, weight)| {
                        let frequency = d.frequencies.get(*term)?;
                        Some(weight * frequency * (K1 + 1.0) / (frequency + norm))
                    })
                    .sum();
                (d.key, score)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_lower_cased_words_or_runs_of_three() {
        assert_eq!(
            terms(Tokenizer::Unicode, "Ärger, x-1 ärger!"),
            ["ärger", "x", "1", "ärger"]
        );
        assert_eq!(terms(Tokenizer::Trigram, "aBcd"), ["abc", "bcd"]);
        assert!(terms(Tokenizer::Trigram, "ab").is_empty());
        assert!(terms(Tokenizer::English, " *\"- ").is_empty());
    }

    /// By hand: N = 2, "b" in one document of length 3 against an average of 2.
    #[test]
    fn the_score_is_the_formula() {
        let corpus = Corpus::new(Tokenizer::Unicode, [(1, ["a b b"]), (2, ["a"])].into_iter());
        let scores = corpus.scores(&["b".to_owned()]);
        let idf = (1.0_f64 + 1.5 / 1.5).ln();
        let expected = idf * 2.0 * 2.2 / (2.0 + 1.2 * (0.25 + 0.75 * 1.5));
        assert_eq!(scores.len(), 1);
        assert_eq!(scores[0].0, 1);
        assert!((scores[0].1 - expected).abs() < 1e-12);
        let twice = corpus.scores(&["b".to_owned(), "b".to_owned()]);
        assert!((twice[0].1 - 2.0 * expected).abs() < 1e-12);
    }
}
