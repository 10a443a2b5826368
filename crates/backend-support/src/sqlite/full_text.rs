//! Full text in FTS5: tokenizers, queries from plain words, and the best hits.

use std::collections::HashSet;

use dbmanager_core::{
    backend::{BackendError, TextHit},
    model::{Tokenizer, Version},
};
use rusqlite::{Connection, params_from_iter, types::Value};

use super::{JobError, JobResult};

/// Distinct words of a text that are searched for; later ones are left out.
pub const MAX_DISTINCT_TERMS: usize = 1_024;
/// Words of a text that are searched for, repetitions included.
pub const MAX_TERMS: usize = 4_096;
/// Bytes of a page of an index, by default.
const PAGE_BYTES: usize = 4_050;
/// Pages merged for each page written. FTS5 merges what was written once more on each level, of
/// which 100,000 documents make five or six; what this leaves, it does itself.
const MERGED_PER_WRITTEN: usize = 4;
/// The length of the runs that the trigram tokenizer indexes.
const RUN: usize = 3;

/// What stands behind `tokenize =` in the definition of an FTS5 table.
///
/// # Errors
/// `Unsupported` for a tokenizer that this version does not know.
pub fn tokenizer_sql(tokenizer: Tokenizer) -> JobResult<&'static str> {
    Ok(match tokenizer {
        Tokenizer::English => "porter unicode61 remove_diacritics 2",
        Tokenizer::Unicode => "unicode61 remove_diacritics 2",
        Tokenizer::Trigram => "trigram",
        _ => return Err(BackendError::unsupported("this tokenizer").into()),
    })
}

/// Merges segments of the table's index, as many pages as should follow `bytes` of text that were
/// just written to it.
///
/// FTS5 does this by itself, but in bursts: nothing for 63 pages written, then for all 64 at once,
/// on every level (<https://sqlite.org/fts5.html#the_automerge_configuration_option>). That is a
/// write in sixty that takes long, and three times as long while both cores and the disk are busy.
/// In shares, little is left for the bursts.
///
/// A common word's documents are one step, so these pages are about how many and no bound.
///
/// # Errors
/// Of SQLite; so a write can be the one that finds the index damaged ([`index_damage`]).
pub fn merge(connection: &Connection, table: &str, bytes: usize) -> JobResult<()> {
    // A text makes an index of about its own size, and a page that is begun is one. What removing
    // older words writes is not known here: it is left to FTS5's own merging.
    let pages = MERGED_PER_WRITTEN * (1 + bytes / PAGE_BYTES);
    connection
        .prepare_cached(&format!(
            "INSERT INTO {table} ({table}, rank) VALUES ('merge', ?1)"
        ))?
        // A negative number would have the whole index merged.
        .execute([i32::try_from(pages).unwrap_or(i32::MAX)])?;
    Ok(())
}

/// The query that finds any of the words of `text`; `None` if it has none. The words are quoted
/// one by one, so nothing in them is syntax.
///
/// A repeated word is repeated in the query, so that it weighs more (measured: better rankings for
/// long queries).
pub fn query(text: &str, tokenizer: Tokenizer) -> Option<String> {
    let words = text
        .split(|c: char| !is_part_of_word(c))
        .filter(|word| word.chars().any(char::is_alphanumeric));
    let terms: Vec<String> = match tokenizer {
        Tokenizer::Trigram => select(words.flat_map(runs)),
        _ => select(words.map(str::to_owned)),
    };
    if terms.is_empty() {
        return None;
    }
    // The words have no quotation marks: those are no part of a word.
    Some(format!("\"{}\"", terms.join("\" OR \"")))
}

fn select(terms: impl Iterator<Item = String>) -> Vec<String> {
    let mut distinct = HashSet::new();
    terms
        .filter(|term| {
            distinct.contains(term)
                || (distinct.len() < MAX_DISTINCT_TERMS && distinct.insert(term.clone()))
        })
        .take(MAX_TERMS)
        .collect()
}

/// FTS5's `unicode61` cuts between fewer characters than Rust calls alphanumeric; what it cuts
/// further inside a quoted word it then looks for as a phrase. Combining diacritics belong to their
/// word there, so they must not cut here.
fn is_part_of_word(c: char) -> bool {
    c.is_alphanumeric() || ('\u{300}'..='\u{36f}').contains(&c)
}

/// What the trigram index can look for in a word: the whole word where spaces part words, each
/// run of three where they do not.
fn runs(word: &str) -> Vec<String> {
    let characters: Vec<char> = word.chars().collect();
    if characters.len() < RUN {
        Vec::new()
    } else if characters.iter().copied().any(is_written_without_spaces) {
        characters
            .windows(RUN)
            .map(|run| run.iter().collect())
            .collect()
    } else {
        vec![word.to_owned()]
    }
}

fn is_written_without_spaces(c: char) -> bool {
    matches!(c,
        // Thai, Lao, Tibetan, Myanmar, Khmer
        '\u{0e00}'..='\u{0fff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
        // kana, bopomofo, ideographs and their extensions
        | '\u{3040}'..='\u{312f}' | '\u{31a0}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// Asks FTS5 whether the table's index holds the words of its columns, which is read whole. The
/// error it returns if not says how the index is built anew from them.
///
/// # Errors
/// Of SQLite.
pub fn index_damage(connection: &Connection, table: &str) -> JobResult<Option<JobError>> {
    // A query makes FTS5 forget what it remembers of the index from before another connection's
    // writes; the check alone does not, and would then find damage where there is none.
    connection
        .prepare_cached(&format!("SELECT rowid FROM {table} LIMIT 1"))?
        .query([])?
        .next()?;
    let answer: String =
        connection.query_row(&format!("PRAGMA integrity_check({table})"), [], |row| {
            row.get(0)
        })?;
    Ok((answer != "ok").then(|| {
        JobError::damaged(format!(
            "the full-text index {table} does not hold the words of its documents; to build it \
             anew: INSERT INTO {table} ({table}) VALUES ('rebuild')"
        ))
    }))
}

/// A search in one FTS5 table whose rowids are keys of [`super::documents`].
#[derive(Debug)]
pub struct Search<'a> {
    /// The table; needs no quoting.
    pub table: &'a str,
    /// How much a word counts in each column, as BM25's weights.
    pub weights: &'a [f64],
    /// The query, from [`query`].
    pub query: String,
    /// Further conditions, each starting with `AND`; parameters from `?2` on. Write the rowid as
    /// [`Search::rowid`] does.
    pub conditions: String,
    /// The values of those parameters.
    pub parameters: Vec<Value>,
    /// The most hits, at least 1.
    pub limit: usize,
}

impl Search<'_> {
    /// The rowid in conditions. The `+` keeps SQLite from running the full-text query once for
    /// each document that a condition names.
    pub fn rowid(table: &str) -> String {
        format!("+{table}.rowid")
    }

    /// The best hits by BM25, higher is better, then by the bytes of their ids.
    ///
    /// # Errors
    /// Of SQLite.
    pub fn run(self, connection: &Connection) -> JobResult<Vec<TextHit>> {
        let table = self.table;
        let weights: String = self.weights.iter().map(|w| format!(", {w:?}")).collect();
        let mut statement = connection.prepare(&format!(
            "SELECT rowid, -bm25({table}{weights}) FROM {table} WHERE {table} MATCH ?1 {}",
            self.conditions
        ))?;
        let parameters = std::iter::once(Value::Text(self.query)).chain(self.parameters);
        let mut rows = statement.query(params_from_iter(parameters))?;
        let mut top = Top::new(self.limit);
        while let Some(row) = rows.next()? {
            top.push(row.get(1)?, row.get(0)?);
        }
        let mut find = connection
            .prepare_cached("SELECT id, version FROM document WHERE key = ?1 AND NOT deleted")?;
        let mut hits = Vec::new();
        for (score, key) in top.finish() {
            let mut rows = find.query([key])?;
            // A row without a live document is a leftover of somebody else's hand.
            if let Some(row) = rows.next()? {
                let id: String = row.get(0)?;
                hits.push(TextHit::new(id, Version::from_i64(row.get(1)?), score));
            }
        }
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
        hits.truncate(self.limit);
        Ok(hits)
    }
}

/// The best so many by score, with all that tie with the last of them: which of those stay is
/// decided by their ids, which are looked up for these few only.
struct Top {
    limit: usize,
    kept: Vec<(f64, i64)>,
    lowest: f64,
    /// Hits at which those below the lowest are thrown away again: twice as many as were left the
    /// last time, for ties are never thrown away and may be all there is.
    prune_at: usize,
    #[cfg(test)]
    prunes: usize,
}

/// The least number of hits that are worth pruning.
const FEWEST_TO_PRUNE: usize = 1_024;

impl Top {
    fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            kept: Vec::new(),
            lowest: f64::NEG_INFINITY,
            prune_at: limit.saturating_mul(2).max(FEWEST_TO_PRUNE),
            #[cfg(test)]
            prunes: 0,
        }
    }

    fn push(&mut self, score: f64, key: i64) {
        if score < self.lowest {
            return;
        }
        self.kept.push((score, key));
        if self.kept.len() >= self.prune_at {
            self.prune();
            self.prune_at = self.kept.len().saturating_mul(2).max(FEWEST_TO_PRUNE);
        }
    }

    fn prune(&mut self) {
        if self.kept.len() <= self.limit {
            return;
        }
        #[cfg(test)]
        {
            self.prunes += 1;
        }
        let last = self.limit - 1;
        let (_, nth, _) = self
            .kept
            .select_nth_unstable_by(last, |a, b| b.0.total_cmp(&a.0));
        self.lowest = nth.0;
        let lowest = self.lowest;
        self.kept.retain(|(score, _)| *score >= lowest);
    }

    fn finish(mut self) -> Vec<(f64, i64)> {
        self.prune();
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn english(text: &str) -> Option<String> {
        query(text, Tokenizer::English)
    }

    #[test]
    fn words_are_quoted_and_repetitions_kept() {
        assert_eq!(
            english("crash-recovery, crash").as_deref(),
            Some("\"crash\" OR \"recovery\" OR \"crash\"")
        );
        assert_eq!(
            english("a* NEAR(b) \"c\" title:d ^e").as_deref(),
            Some("\"a\" OR \"NEAR\" OR \"b\" OR \"c\" OR \"title\" OR \"d\" OR \"e\"")
        );
        assert_eq!(
            english("e\u{301}te\u{301}").as_deref(),
            Some("\"e\u{301}te\u{301}\"")
        );
        assert_eq!(english(" \" * \u{301} -- 🦀"), None);
    }

    #[test]
    fn trigrams_take_words_of_three_and_cut_scripts_without_spaces() {
        let trigram = |text| query(text, Tokenizer::Trigram);
        assert_eq!(trigram("of recovery").as_deref(), Some("\"recovery\""));
        assert_eq!(
            trigram("数据库恢").as_deref(),
            Some("\"数据库\" OR \"据库恢\"")
        );
        assert_eq!(trigram("of 数据"), None);
    }

    #[test]
    fn terms_beyond_the_limits_are_left_out() {
        let many: Vec<String> = (0..2 * MAX_DISTINCT_TERMS)
            .map(|n| format!("w{n}"))
            .collect();
        let query = english(&format!("{} w0", many.join(" "))).unwrap();
        assert_eq!(query.matches(" OR ").count(), MAX_DISTINCT_TERMS);
        assert!(query.ends_with("\"w0\""));
    }

    #[test]
    fn many_ties_are_gone_through_a_few_times_only() {
        for limit in [1, 10, 5_000] {
            let mut top = Top::new(limit);
            for key in 0..100_000 {
                top.push(1.0, key);
            }
            assert!(top.prunes <= 8, "{} times", top.prunes);
            assert_eq!(top.finish().len(), 100_000);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_top_is_the_head_of_a_sort_with_its_ties(
            scores in proptest::collection::vec(0_u8..20, 0..3_000),
            limit in 1_usize..40,
        ) {
            let mut top = Top::new(limit);
            for (key, score) in scores.iter().enumerate() {
                top.push(f64::from(*score), key as i64);
            }
            let mut sorted = scores.clone();
            sorted.sort_by(|a, b| b.cmp(a));
            let lowest = sorted.get(limit - 1).or(sorted.last()).copied();
            let mut expected: Vec<_> = scores
                .iter()
                .enumerate()
                .filter(|(_, score)| Some(**score) >= lowest)
                .map(|(key, _)| key as i64)
                .collect();
            let mut found: Vec<_> = top.finish().into_iter().map(|(_, key)| key).collect();
            found.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}
