//! Title match, through the server's full-text index.
//!
//! What the index holds of a title is not the title but its words, cut and encoded here and behind
//! the collection's number: `7_616263` for the word `abc` in collection 7. So every tokenizer cuts
//! the same way as everywhere in the library, a word is rare or frequent within its collection,
//! and nothing that a user writes can be taken for the query language of the index.

use std::collections::HashMap;

use dbmanager_core::{
    backend::{BackendError, BackendErrorKind, BackendResult, TextHit, TextSearchRequest},
    model::Version,
};
use neo4rs::Query;
use serde::Deserialize;

use super::{
    Store,
    collections::missing,
    convert::{collection_key, list, map, read, tokenizer_name, tokenizer_named},
    link::Access,
    terms::tokens,
};

/// Distinct words that are looked for; the index takes no more than 1,024. Later ones are left out.
const MOST_WORDS: usize = 1_000;

#[derive(Debug, Deserialize)]
struct Answer {
    number: Option<i64>,
    tokenizer: Option<String>,
    hits: Vec<Hit>,
}

#[derive(Debug, Deserialize)]
struct Hit {
    id: String,
    version: i64,
    score: f64,
}

pub(super) async fn match_titles(
    store: &Store,
    request: &TextSearchRequest,
) -> BackendResult<Vec<TextHit>> {
    let mut tokenizer = store.tokenizer(&request.collection);
    for _ in 0..3 {
        let words = weighed(tokens(tokenizer, &request.text));
        let query =
            Query::new(statement(store))
                .param("collection", collection_key(&request.collection))
                .param("tokenizer", tokenizer_name(tokenizer))
                .param("index", store.names.titles.as_str())
                .param(
                    "limit",
                    i64::try_from(request.limit)
                        .unwrap_or(i64::MAX)
                        .clamp(1, 1_000_000),
                )
                .param(
                    "words",
                    list(words.into_iter().map(|(token, count)| {
                        map([("token", token.into()), ("count", count.into())])
                    })),
                );
        let rows = store.link.run(Access::Read, query).await?;
        let Some(row) = rows.first() else {
            return Err(missing(&request.collection));
        };
        let answer: Answer = read(row)?;
        if answer.number.is_none() {
            return Err(missing(&request.collection));
        }
        let held = answer.tokenizer.as_deref().and_then(tokenizer_named);
        match held {
            Some(held) if held == tokenizer => return Ok(sorted(answer.hits)),
            Some(held) => {
                tokenizer = held;
                store.remember_tokenizer(&request.collection, held);
            }
            None => break,
        }
    }
    Err(BackendError::new(
        BackendErrorKind::Damaged,
        "the tokenizer of a collection is damaged",
    ))
}

fn statement(store: &Store) -> String {
    format!(
        "OPTIONAL MATCH (collection:{collection} {{key: $collection}})
         WITH collection.number AS number, collection.tokenizer AS tokenizer
         CALL (number, tokenizer) {{
             WITH number, tokenizer WHERE tokenizer = $tokenizer AND size($words) > 0
             WITH reduce(text = '', word IN $words | text + toString(number) + '_' + word.token
                 + '^' + toString(word.count) + ' ') AS text
             CALL db.index.fulltext.queryNodes($index, text, {{limit: $limit}})
             YIELD node, score
             RETURN collect({{id: node.id, version: node.version, score: score}}) AS hits
         }}
         RETURN number, tokenizer, hits",
        collection = store.names.collection,
    )
}

/// Each word once, with how often it is asked for: that often it counts.
fn weighed(tokens: Vec<String>) -> Vec<(String, i64)> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut words: Vec<(String, i64)> = Vec::new();
    for token in tokens {
        match places.get(&token) {
            Some(place) => words[*place].1 += 1,
            None if words.len() < MOST_WORDS => {
                places.insert(token.clone(), words.len());
                words.push((token, 1));
            }
            None => {}
        }
    }
    words
}

fn sorted(hits: Vec<Hit>) -> Vec<TextHit> {
    let mut hits: Vec<_> = hits
        .into_iter()
        .map(|hit| TextHit::new(hit.id, Version::from_i64(hit.version), hit.score))
        .collect();
    hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
    hits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_words_weigh_more_and_too_many_are_left_out() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            weighed(words("a b a")),
            [("a".to_owned(), 2), ("b".to_owned(), 1)]
        );
        let many = (0..2_000).map(|n| n.to_string()).chain(["0".to_owned()]);
        let weighed = weighed(many.collect());
        assert_eq!(weighed.len(), MOST_WORDS);
        assert_eq!(weighed[0], ("0".to_owned(), 2));
    }
}
