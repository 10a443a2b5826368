//! The nearest chunks, as the server finds them.

use std::sync::{Arc, PoisonError};

use dbmanager_core::{
    backend::{BackendError, BackendErrorKind, BackendResult},
    model::{CollectionKey, EmbeddingSpace, Metric, Passage, Version},
};
use redis::{Cmd, Value, cmd};

use super::{
    config::Engine,
    convert::{
        damaged, is_missing_index, list, number, optional_text, pairs, take, text, unexpected,
    },
    document::{parse_passage, parse_version},
    filter::{EVERY, Query},
    store::{Known, Redis},
};

/// A chunk that the server found.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) id: Arc<str>,
    /// The document's version when the chunk was written.
    pub(super) version: Version,
    pub(super) chunk: u32,
    /// Absent where the index does not tell.
    pub(super) passage: Option<Option<Passage>>,
    pub(super) score: f64,
}

/// What is asked of the server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'a> {
    pub(super) vector: &'a [u8],
    pub(super) space: &'a EmbeddingSpace,
    pub(super) query: &'a Query,
    /// Chunks.
    pub(super) limit: usize,
    /// Every vector is compared.
    pub(super) exact: bool,
}

/// What the server answered.
pub(super) enum Answer {
    /// The nearest chunks, best first.
    Found(Vec<Candidate>),
    /// The collection is not as it was known; it is to be read again.
    Changed,
}

impl Redis {
    /// At most `limit` chunks, the nearest first; fewer only if there are no more.
    pub(super) async fn nearest(
        &self,
        collection: &CollectionKey,
        known: &Known,
        ask: Ask<'_>,
    ) -> BackendResult<Answer> {
        let answer = self.ask(collection, known, ask).await?;
        match &answer {
            // An approximate index may reach fewer than there are.
            Answer::Found(found) if found.len() < ask.limit && !ask.exact => {
                let ask = Ask { exact: true, ..ask };
                self.ask(collection, known, ask).await
            }
            _ => Ok(answer),
        }
    }

    async fn ask(
        &self,
        collection: &CollectionKey,
        known: &Known,
        ask: Ask<'_>,
    ) -> BackendResult<Answer> {
        loop {
            let connected = self.session.connected();
            let mut read = cmd("HGET");
            read.arg(&self.keys.collections).arg(&known.keys.name);
            let mut commands = vec![read];
            let check = self.engine() == Engine::QueryEngine && !self.is_whole(known, connected);
            if check {
                let mut info = cmd("FT.INFO");
                info.arg(&known.keys.index);
                commands.push(info);
            }
            commands.push(match self.engine() {
                Engine::QueryEngine => self.search_index(known, ask),
                Engine::VectorSets => self.search_set(known, ask),
            });
            let mut answers = self.session.call_all(commands).await?.into_iter();
            let mut next = || answers.next().unwrap_or(Ok(Value::Nil));
            match optional_text("a collection", next()?)? {
                Some(json) if json == known.json => {}
                _ => {
                    self.forget(collection);
                    return Ok(Answer::Changed);
                }
            }
            if check {
                check_whole(next().map_err(lost_index)?)?;
                self.note_whole(known, connected);
            } else if self.session.connected() != connected {
                // The server may have been restarted before it searched: then its index was not
                // whole, and it does not say so.
                continue;
            }
            let found = next().map_err(lost_index)?;
            return Ok(Answer::Found(match self.engine() {
                Engine::QueryEngine => read_index(found, ask.space.metric)?,
                Engine::VectorSets => read_set(found)?,
            }));
        }
    }

    /// Whether the index was seen whole since the last connection was made.
    fn is_whole(&self, known: &Known, connected: u64) -> bool {
        let whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        whole.get(&known.keys.index) == Some(&connected)
    }

    fn note_whole(&self, known: &Known, connected: u64) {
        let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        whole.insert(known.keys.index.clone(), connected);
    }

    pub(super) fn forget_whole(&self, index: &str) {
        let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        whole.remove(index);
    }

    fn search_index(&self, known: &Known, ask: Ask<'_>) -> Cmd {
        // Comparing every vector is a policy for filtered searches only, so there the filter is
        // at least the tag that every chunk has.
        let filter = match ask.query.text() {
            Some(text) => format!("({text})"),
            None if ask.exact => format!("(@t:{{{EVERY}}})"),
            None => "*".to_owned(),
        };
        let policy = if ask.exact {
            " HYBRID_POLICY ADHOC_BF"
        } else {
            ""
        };
        let mut search = cmd("FT.SEARCH");
        search
            .arg(&known.keys.index)
            .arg(format!("{filter}=>[KNN $k @e $q{policy} AS d]"));
        search.arg("PARAMS").arg(4);
        search.arg("k").arg(ask.limit).arg("q").arg(ask.vector);
        search.arg("SORTBY").arg("d").arg("ASC");
        search.arg("LIMIT").arg(0).arg(ask.limit);
        search.arg("RETURN").arg(3).arg("d").arg("v").arg("p");
        let patience = self.session.timeout().as_millis().max(1) as u64;
        search.arg("TIMEOUT").arg(patience).arg("DIALECT").arg(2);
        search
    }

    fn search_set(&self, known: &Known, ask: Ask<'_>) -> Cmd {
        let mut search = cmd("VSIM");
        search.arg(&known.keys.vectors).arg("FP32").arg(ask.vector);
        search.arg("WITHSCORES").arg("COUNT").arg(ask.limit);
        if ask.exact {
            search.arg("TRUTH");
        } else {
            search
                .arg("EF")
                .arg(self.index.expansion_search.max(ask.limit));
        }
        search
    }
}

/// The server drops an index that is not where it was for a reason of its own; the collection's
/// creation is repeated when the store is opened and makes it anew.
fn lost_index(error: BackendError) -> BackendError {
    if is_missing_index(error.message()) {
        return damaged("the index of the collection is missing");
    }
    error
}

/// An index made over documents that were there is built in the background, also after a start of
/// the server, and until then finds only those read so far, without a word.
fn check_whole(info: Value) -> BackendResult<()> {
    let mut info = pairs("FT.INFO", info)?;
    let mut figure = |key: &str| -> BackendResult<f64> {
        let value = take(&mut info, key).ok_or_else(|| unexpected("FT.INFO", &Value::Nil))?;
        number("FT.INFO", &value)
    };
    let (indexing, done) = (figure("indexing")?, figure("percent_indexed")?);
    if indexing == 0.0 && done >= 1.0 {
        return Ok(());
    }
    Err(BackendError::new(
        BackendErrorKind::Unavailable,
        format!(
            "the server is building the index, {:.0} % is done",
            done * 100.0
        ),
    )
    .not_applied())
}

/// The chunks that `FT.SEARCH` found.
fn read_index(value: Value, metric: Metric) -> BackendResult<Vec<Candidate>> {
    let mut answer = pairs("FT.SEARCH", value)?;
    let warnings = take(&mut answer, "warning").unwrap_or(Value::Array(Vec::new()));
    if let Some(warning) = list("FT.SEARCH", warnings)?.into_iter().next() {
        // What is there is not all: a part is no answer.
        let warning = text("FT.SEARCH", warning)?.to_lowercase();
        let kind = if warning.contains("timeout") {
            BackendErrorKind::Timeout
        } else {
            BackendErrorKind::Unavailable
        };
        return Err(BackendError::new(
            kind,
            format!("the search was not finished: {warning}"),
        ));
    }
    let results = take(&mut answer, "results").unwrap_or(Value::Nil);
    list("FT.SEARCH", results)?
        .into_iter()
        // One that was removed between finding and reading it has no fields.
        .filter_map(|result| read_result(result, metric).transpose())
        .collect()
}

fn read_result(result: Value, metric: Metric) -> BackendResult<Option<Candidate>> {
    let mut result = pairs("a result", result)?;
    let key = text("a result", take(&mut result, "id").unwrap_or(Value::Nil))?;
    let fields = take(&mut result, "extra_attributes").unwrap_or(Value::Array(Vec::new()));
    let mut fields = pairs("a result", fields)?;
    let (Some(distance), Some(version), Some(passage)) = (
        take(&mut fields, "d"),
        take(&mut fields, "v"),
        take(&mut fields, "p"),
    ) else {
        return Ok(None);
    };
    let distance = number("a distance", &distance)?;
    // `{namespace}:generation:name:v:chunk:id`; the namespace may hold colons.
    let parts = key.split_once("}:").and_then(|(_, rest)| {
        let mut parts = rest.splitn(5, ':').skip(3);
        Some((parts.next()?.parse().ok()?, parts.next()?))
    });
    let Some((chunk, id)) = parts else {
        return Err(damaged(format!("{key:?} is no key of a chunk")));
    };
    Ok(Some(Candidate {
        id: Arc::from(id),
        version: parse_version(&text("a version", version)?)?,
        chunk,
        passage: Some(parse_passage(&text("a passage", passage)?)?),
        score: match metric {
            Metric::Dot => 1.0 - distance,
            Metric::Euclidean => -distance.max(0.0).sqrt(),
            _ => (1.0 - distance).clamp(-1.0, 1.0),
        },
    }))
}

/// The elements that `VSIM` found: `chunk:version:id`, each with (1 + cosine) / 2.
fn read_set(value: Value) -> BackendResult<Vec<Candidate>> {
    pairs("VSIM", value)?
        .into_iter()
        .map(|(element, similarity)| {
            let element = text("an element", element)?;
            let mut parts = element.splitn(3, ':');
            let (Some(chunk), Some(version), Some(id)) = (parts.next(), parts.next(), parts.next())
            else {
                return Err(damaged(format!(
                    "{element:?} is no element of a vector set"
                )));
            };
            Ok(Candidate {
                id: Arc::from(id),
                version: parse_version(version)?,
                chunk: chunk
                    .parse()
                    .map_err(|_| damaged(format!("{chunk:?} is no chunk number")))?,
                passage: None,
                score: (2.0 * number("a similarity", &similarity)? - 1.0).clamp(-1.0, 1.0),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn result(key: &str) -> Value {
        let fields = [("d", "0.25"), ("v", "00000000000000ff"), ("p", "3:9")];
        let fields = fields.map(|(name, value)| (bytes(name), bytes(value)));
        Value::Map(vec![
            (bytes("id"), bytes(key)),
            (bytes("extra_attributes"), Value::Map(fields.into())),
        ])
    }

    fn answer(results: Vec<Value>, warnings: Vec<Value>) -> Value {
        Value::Map(vec![
            (bytes("results"), Value::Array(results)),
            (bytes("warning"), Value::Array(warnings)),
        ])
    }

    #[test]
    fn ids_with_colons_come_back_from_both_engines() {
        let found = read_index(
            answer(vec![result("{a:b}:7:x%3a:v:12:one:two:")], vec![]),
            Metric::Cosine,
        )
        .unwrap();
        assert_eq!(&*found[0].id, "one:two:");
        assert_eq!((found[0].chunk, found[0].score), (12, 0.75));
        assert_eq!(found[0].version, Version::from_u64(255));
        assert_eq!(found[0].passage, Some(Some(Passage { start: 3, end: 9 })));
        let element = bytes("12:00000000000000ff:one:two:");
        let found = read_set(Value::Map(vec![(element, Value::Double(0.875))])).unwrap();
        assert_eq!(&*found[0].id, "one:two:");
        assert_eq!((found[0].chunk, found[0].score), (12, 0.75));
    }

    #[test]
    fn a_search_that_was_cut_short_is_no_answer() {
        let cut = answer(
            vec![result("{a}:1:x:v:0:i")],
            vec![bytes("Timeout limit was reached")],
        );
        let error = read_index(cut, Metric::Dot).unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Timeout);
    }

    #[test]
    fn an_index_that_is_being_built_is_not_searched() {
        let info = |indexing: i64, done: f64| {
            Value::Map(vec![
                (bytes("indexing"), Value::Int(indexing)),
                (bytes("percent_indexed"), Value::Double(done)),
            ])
        };
        assert!(check_whole(info(0, 1.0)).is_ok());
        for (indexing, done) in [(1, 0.5), (0, 0.5), (1, 1.0)] {
            let error = check_whole(info(indexing, done)).unwrap_err();
            assert_eq!(error.kind(), BackendErrorKind::Unavailable);
        }
    }
}
