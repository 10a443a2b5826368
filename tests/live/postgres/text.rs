//! Words and their weights.

use std::{collections::HashMap, sync::Arc};

use dbmanager_core::{
    backend::{RelationalBackend, TextHit, TextSearchRequest},
    model::{Document, Tokenizer, field},
};

use super::place::{Place, key, prepare, upsert, write};

async fn search(store: &dyn RelationalBackend, text: &str, limit: usize) -> Vec<TextHit> {
    let request = TextSearchRequest::new(key(), text, limit);
    store.search_text(request).await.unwrap()
}

async fn found(store: &dyn RelationalBackend, text: &str) -> Vec<String> {
    let hits = search(store, text, 100).await;
    hits.into_iter().map(|hit| hit.id.to_string()).collect()
}

#[tokio::test]
async fn english_words_are_found_by_their_stem_and_every_word_counts() {
    let Some(place) = Place::new() else { return };
    let store = place.open().await;
    prepare(&*store, Tokenizer::English).await;
    write(
        &*store,
        vec![
            upsert(1, Document::new("a").text("The databases were running.")),
            upsert(1, Document::new("b").text("To be, or not to be")),
            upsert(
                1,
                Document::new("c").text("mail to user@example.org about a/b/file.txt"),
            ),
            upsert(
                1,
                Document::new("d").text("<b>caf\u{e9}</b> na\u{ef}ve \u{41c}\u{438}\u{440}"),
            ),
            upsert(1, Document::new("e").text("\u{d55c}\u{ad6d}\u{c5b4}")),
        ],
    )
    .await;
    for (query, expected) in [
        ("database run", vec!["a"]),
        ("THE", vec!["a"]),
        ("not", vec!["b"]),
        ("example", vec!["c"]),
        ("file", vec!["c"]),
        ("b cafe", vec!["d", "c"]),
        ("cafe\u{301}", vec!["d"]),
        ("NAIVE", vec!["d"]),
        ("\u{43c}\u{418}\u{420}", vec!["d"]),
        ("\u{d55c}\u{ad6d}\u{c5b4}", vec!["e"]),
        ("nowhere", vec![]),
    ] {
        assert_eq!(found(&*store, query).await, expected, "{query}");
    }
}

/// Okapi BM25 over the whole corpus, by its formula.
fn expected(corpus: &[(String, Vec<String>)], query: &[&str], limit: usize) -> Vec<(String, f64)> {
    let count = corpus.len() as f64;
    let average = corpus.iter().map(|(_, words)| words.len()).sum::<usize>() as f64 / count;
    let mut having: HashMap<&str, f64> = HashMap::new();
    for term in query {
        let documents = corpus
            .iter()
            .filter(|(_, words)| words.iter().any(|word| word == term));
        having.insert(term, documents.count() as f64);
    }
    let mut scores: Vec<(String, f64)> = corpus
        .iter()
        .filter_map(|(id, words)| {
            let norm = 1.2 * (0.25 + 0.75 * words.len() as f64 / average);
            let score: f64 = query
                .iter()
                .map(|term| {
                    let frequency = words.iter().filter(|word| word == term).count() as f64;
                    let n = having[term];
                    let weight = (1.0 + (count - n + 0.5) / (n + 0.5)).ln();
                    weight * frequency * 2.2 / (frequency + norm)
                })
                .sum();
            (score > 0.0).then(|| (id.clone(), score))
        })
        .collect();
    scores.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    scores.truncate(limit);
    scores
}

/// Documents whose words are drawn with the squares of a fixed sequence: a few words are in almost
/// all of them, most in few.
fn corpus(documents: usize) -> Vec<(String, Vec<String>)> {
    let mut state = 7_u64;
    let mut draw = move |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    (0..documents)
        .map(|index| {
            let length = 3 + draw(20);
            let words = (0..length)
                .map(|_| {
                    let unit = draw(1_000) as f64 / 1_000.0;
                    format!("w{}", (unit.powi(3) * 400.0) as u64)
                })
                .collect();
            (format!("id {index:05}"), words)
        })
        .collect()
}

/// Below and above the size up to which everything is counted with every search, and where common
/// words are looked at only if they could matter.
#[tokio::test]
async fn scores_are_those_of_the_formula() {
    for size in [300, 2_600] {
        let Some(place) = Place::new() else { return };
        let store = place.open().await;
        prepare(&*store, Tokenizer::Unicode).await;
        let corpus = corpus(size);
        for part in corpus.chunks(1_000) {
            let mutations = part
                .iter()
                .map(|(id, words)| upsert(1, Document::new(id.as_str()).text(words.join(" "))))
                .collect();
            write(&*store, mutations).await;
        }
        let long: Vec<String> = (0..1_100).map(|term| format!("w{term}")).collect();
        for query in [
            long.join(" ").as_str(),
            "w0",
            "w0 w1",
            "w0 w0 w399",
            "w399 w350 w1 w0",
            "w20 w21 w0 w1 w2 w3",
            "w0 w5 w200 w200",
        ] {
            for limit in [1, 10, 200] {
                let terms: Vec<&str> = query.split(' ').collect();
                let wanted = expected(&corpus, &terms, limit);
                let hits = search(&*store, query, limit).await;
                assert_eq!(hits.len(), wanted.len(), "{query}");
                for (hit, (id, score)) in hits.iter().zip(&wanted) {
                    let near = (hit.score - score).abs() < 1e-9 * score.max(1.0);
                    assert!(near, "{query}: {hit:?} against {id} {score}");
                }
            }
        }
    }
}

/// In a large collection that the server has counted, common words are weighed by a sample.
#[tokio::test]
async fn a_large_collection_is_weighed_by_a_sample() {
    const ALL: usize = 24_000;
    let Some(place) = Place::new() else { return };
    let store = place.open().await;
    prepare(&*store, Tokenizer::Unicode).await;
    let corpus: Vec<(String, Vec<String>)> = (0..ALL)
        .map(|index| {
            let mut words = vec!["every".to_owned()];
            if index % 2 == 0 {
                words.push("half".to_owned());
            }
            if index % 5_000 == 4_321 {
                words.push("rare".to_owned());
            }
            (format!("id {index:05}"), words)
        })
        .collect();
    for part in corpus.chunks(1_000) {
        let mutations = part
            .iter()
            .map(|(id, words)| upsert(1, Document::new(id.as_str()).text(words.join(" "))))
            .collect();
        write(&*store, mutations).await;
    }
    place.run(&format!("ANALYZE {}", place.table().await)).await;
    for (query, limit) in [("rare every", 4), ("rare half every", 7), ("half", 3)] {
        let terms: Vec<&str> = query.split(' ').collect();
        let wanted = expected(&corpus, &terms, limit);
        let hits = search(&*store, query, limit).await;
        let ids: Vec<&str> = hits.iter().map(|hit| &*hit.id).collect();
        let wanted_ids: Vec<&str> = wanted.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, wanted_ids, "{query}");
        for (hit, (_, score)) in hits.iter().zip(&wanted) {
            let near = (hit.score - score).abs() < 0.05 * score;
            assert!(near, "{query}: {hit:?} against {score}");
        }
    }
}

/// The last words of a text that is longer than a vector takes are left out, and it is stored.
#[tokio::test]
async fn a_text_of_more_words_than_the_server_indexes_is_stored_and_found_by_its_first() {
    for tokenizer in [Tokenizer::Unicode, Tokenizer::English] {
        let Some(place) = Place::new() else { return };
        let store = place.open().await;
        prepare(&*store, tokenizer).await;
        let text: String = (0..300_000).map(|i| format!("\u{e9}word{i}x ")).collect();
        let long = Document::new("long").text(format!("{text} {}", "x".repeat(5_000)));
        write(&*store, vec![upsert(1, long.clone())]).await;
        assert_eq!(found(&*store, "eword7x").await, ["long"]);
        let held = store
            .get(super::place::ids(["long"]))
            .await
            .unwrap()
            .remove(0)
            .unwrap();
        assert_eq!(held.state.record().unwrap().document(), &long);
        let fingerprint = super::place::fingerprint(&*store, "long").await;
        let record = held.state.record().unwrap();
        let hash = record.content_hash("papers", dbmanager_core::model::Role::Relational);
        assert_eq!(fingerprint.content_hash, hash);
    }
}

/// Distinct words of `length` letters of `alphabet`.
fn words_over(alphabet: &[char], length: u32, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| {
            let letters = (0..length)
                .map(|place| alphabet[number / alphabet.len().pow(place) % alphabet.len()]);
            letters.collect()
        })
        .collect()
}

/// The server holds some letters in twice the bytes that they have in the text, and takes some
/// numerals for spaces, so that one word becomes many.
#[tokio::test]
async fn a_text_that_grows_on_the_server_is_stored_and_found_by_its_first_words() {
    let doubled: Vec<char> = ('\u{958}'..='\u{95f}').collect();
    let doubled = words_over(&doubled, 6, 41_000);
    let letters: Vec<char> = ('a'..='z').collect();
    let parts = words_over(&letters, 4, 180_000);
    let split: Vec<String> = parts.chunks(40).map(|some| some.join("\u{b2}")).collect();
    for (words, query) in [(&doubled, doubled[0].as_str()), (&split, parts[0].as_str())] {
        let Some(place) = Place::new() else { return };
        let store = place.open().await;
        prepare(&*store, Tokenizer::Unicode).await;
        let document = Document::new("long").text(words.join(" "));
        write(&*store, vec![upsert(1, document)]).await;
        assert_eq!(found(&*store, query).await, ["long"]);
    }
}

/// Hostile keys and values in filters are found as they are, beside a search.
#[tokio::test]
async fn injection_strings_are_values() {
    let Some(place) = Place::new() else { return };
    let store = place.open().await;
    prepare(&*store, Tokenizer::Unicode).await;
    let hostile = [
        "'; DROP TABLE stamp; --",
        "\"; DROP TABLE stamp; --",
        "$1",
        "\\",
        "' OR '1'='1",
        "%",
        "{\"a\": 1}",
        "x' COLLATE \"C\"",
        "\u{1}\u{7f}\u{2028}",
    ];
    let mutations = hostile
        .iter()
        .map(|text| {
            let document = Document::new(*text)
                .title(*text)
                .text(format!("word {text}"));
            upsert(1, document.metadata(*text, *text))
        })
        .collect();
    write(&*store, mutations).await;
    for text in hostile {
        for filter in [
            field(text).eq(text),
            field(text).ge(text),
            field(text).is_in([text, "other"]),
            dbmanager_core::model::fact(dbmanager_core::model::Field::Title).eq(text),
        ] {
            let request =
                TextSearchRequest::new(key(), "word", 10).filter(Some(Arc::new(filter.clone())));
            let hits = store.search_text(request).await.unwrap();
            let ids: Vec<&str> = hits.iter().map(|hit| &*hit.id).collect();
            assert_eq!(ids, [text], "{filter:?}");
        }
    }
    assert!(!store.identity().await.unwrap().empty);
}
