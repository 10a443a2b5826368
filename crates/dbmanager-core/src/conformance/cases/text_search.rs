//! Full text.

use std::sync::Arc;

use super::{RELATIONAL, cases};
use crate::{
    backend::{BackendErrorKind, TextHit, TextSearchRequest},
    conformance::{
        client::{Client, expect_kind},
        data::{self, persist, record, version},
        suite::ids,
        trial::{CaseResult, Trial},
    },
    model::{
        Collection, CollectionKey, CollectionOptions, Document, DocumentRecord, Tokenizer, field,
    },
};

cases!(RELATIONAL;
    any_word_of_text_or_title_matches needs |c| c.full_text,
    a_rarer_word_scores_higher needs |c| c.full_text,
    more_words_score_higher needs |c| c.full_text,
    a_repeated_word_of_the_query_counts_again needs |c| c.full_text,
    equal_texts_are_ordered_by_id needs |c| c.full_text,
    words_are_no_query_language needs |c| c.full_text,
    old_words_are_not_found needs |c| c.full_text,
    an_empty_text_lists_by_id needs |c| c.full_text,
    text_search_keeps_its_limit needs |c| c.full_text,
    text_search_applies_the_filter_before_the_limit needs |c| c.full_text && c.filter,
    text_search_looks_only_at_these_documents needs |c| c.full_text,
    every_tokenizer_finds_words needs |c| c.full_text,
    trigrams_find_parts_of_words needs |c| c.full_text,
    collections_are_searched_apart needs |c| c.full_text,
    text_search_without_the_capability_is_unsupported needs |c| !c.full_text,
);

/// Texts that are query syntax somewhere; each has the word `alpha` or `beta` in it.
pub(super) const QUERY_SYNTAX: [&str; 24] = [
    "\"alpha",
    "alpha\"",
    "\"alpha beta",
    "alpha*",
    "*alpha",
    "NEAR(alpha",
    "NEAR(alpha, 2)",
    "title:alpha",
    "x : alpha",
    "-alpha",
    "NOT alpha",
    "alpha AND",
    "alpha AND absent",
    "OR alpha",
    "alpha OR",
    "(alpha",
    "alpha)",
    "{alpha}",
    "^alpha",
    "alpha + absent",
    "alpha'; --",
    "alpha~2",
    "alpha \\ beta",
    "alpha & !beta | <->",
];

async fn hits(client: &Client, request: &TextSearchRequest) -> CaseResult<Vec<TextHit>> {
    client.settle().await?;
    let relational = client.relational()?;
    let found = persist(&client.runtime, || relational.search_text(request.clone())).await?;
    ensure!(
        found.is_sorted_by(|a, b| (b.score, &a.id) <= (a.score, &b.id)),
        "hits are not ordered by score, then id: {found:?}"
    );
    Ok(found)
}

async fn search(client: &Client, text: &str) -> CaseResult<Vec<TextHit>> {
    let request = TextSearchRequest::new(client.collection.clone(), text, 100);
    hits(client, &request).await
}

fn names(hits: &[TextHit]) -> Vec<&str> {
    hits.iter().map(|hit| &*hit.id).collect()
}

async fn expect_found(client: &Client, text: &str, expected: &[&str]) -> CaseResult {
    let found = search(client, text).await?;
    let mut ids = names(&found);
    ids.sort_unstable();
    ensure_eq!(ids, expected, "documents found by {text:?}");
    Ok(())
}

fn text(id: &str, text: &str) -> Arc<DocumentRecord> {
    record(Document::new(id).text(text))
}

async fn any_word_of_text_or_title_matches(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client
        .put_all(&[
            text("a", "The quick brown fox."),
            record(Document::new("b").title("A Lazy dog").text("sleeps")),
            record(Document::new("c").title("only a title")),
            text("d", ""),
            record(Document::new("e").metadata("word", "fox").file_path("fox")),
        ])
        .await?;
    expect_found(&client, "fox", &["a"]).await?;
    expect_found(&client, "FOX!", &["a"]).await?;
    expect_found(&client, "lazy", &["b"]).await?;
    expect_found(&client, "sleeps fox", &["a", "b"]).await?;
    expect_found(&client, "title absent", &["c"]).await?;
    expect_found(&client, "absent", &[]).await?;
    let found = search(&client, "fox").await?;
    let versions: Vec<_> = found.iter().map(|hit| hit.version).collect();
    ensure_eq!(versions, [version(1)], "versions");
    ensure!(
        found[0].score > 0.0,
        "the score of a match is positive: {found:?}"
    );
    Ok(())
}

async fn a_rarer_word_scores_higher(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let mut documents: Vec<_> = (0..20)
        .map(|i| text(&format!("filler {i:02}"), "nothing of note here"))
        .collect();
    documents.extend((0..6).map(|i| text(&format!("common {i}"), "database systems in use")));
    documents.push(text("rare", "journal systems in use"));
    client.put_all(&documents).await?;
    let found = search(&client, "database journal").await?;
    ensure_eq!(names(&found).first(), Some(&"rare"), "best of {found:?}");
    ensure_eq!(found.len(), 7, "hits");
    Ok(())
}

async fn more_words_score_higher(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let filler = (0..20).map(|i| text(&format!("filler {i:02}"), "nothing of note here"));
    let documents: Vec<_> = filler
        .chain([
            text("one", "red green grey grey"),
            text("two", "red blue grey grey"),
            text("twice", "blue blue grey grey"),
        ])
        .collect();
    client.put_all(&documents).await?;
    let found = search(&client, "red blue").await?;
    ensure_eq!(names(&found).first(), Some(&"two"), "best of {found:?}");
    let found = search(&client, "blue").await?;
    ensure_eq!(names(&found), ["twice", "two"], "hits of a word said twice");
    Ok(())
}

async fn a_repeated_word_of_the_query_counts_again(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let filler = (0..20).map(|i| text(&format!("filler {i:02}"), "nothing of note here"));
    let documents: Vec<_> = filler
        .chain([text("b red", "red grey"), text("a blue", "blue grey")])
        .collect();
    client.put_all(&documents).await?;
    let score = |found: &[TextHit], id: &str| {
        let hit = found.iter().find(|hit| *hit.id == *id);
        hit.map_or(f64::NAN, |hit| hit.score)
    };
    let once = search(&client, "red blue").await?;
    ensure_eq!(names(&once), ["a blue", "b red"], "equally good hits");
    let twice = search(&client, "red blue red").await?;
    ensure_eq!(
        names(&twice),
        ["b red", "a blue"],
        "hits with a word repeated"
    );
    let (a, b) = (score(&once, "b red"), score(&twice, "b red"));
    ensure!(
        b > 1.5 * a,
        "the score with the word twice is {b}, with it once {a}"
    );
    Ok(())
}

async fn equal_texts_are_ordered_by_id(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let mut expected = data::hostile_ids();
    let most = client.shared.capabilities().limits.max_id_bytes;
    expected.retain(|id| id.len() <= most);
    let documents: Vec<_> = expected.iter().map(|id| text(id, "the same")).collect();
    client.put_all(&documents).await?;
    client
        .put(900, &text("different", "nothing of note"))
        .await?;
    expected.sort();
    for limit in [5, 1_000] {
        let request = TextSearchRequest::new(client.collection.clone(), "same", limit);
        let found = hits(&client, &request).await?;
        let count = limit.min(expected.len());
        ensure_eq!(names(&found), &expected[..count], "at most {limit}");
    }
    Ok(())
}

async fn words_are_no_query_language(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client
        .put_all(&[
            text("a", "alpha beta"),
            text("b", "gamma delta"),
            text("alphabet", "alphabetical"),
        ])
        .await?;
    for query in QUERY_SYNTAX {
        expect_found(&client, query, &["a"]).await?;
    }
    for query in ["NEAR", "OR", "AND", "NOT", "alph*", "title:", "{x}"] {
        expect_found(&client, query, &[]).await?;
    }
    client
        .put_all(&[text("operators", "either or, not near and")])
        .await?;
    for query in ["OR", "AND", "NOT", "NEAR", "\"or\""] {
        expect_found(&client, query, &["operators"]).await?;
    }
    Ok(())
}

async fn old_words_are_not_found(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client
        .put(1, &record(Document::new("a").title("alpha").text("beta")))
        .await?;
    client.put(5, &text("a", "gamma")).await?;
    client.put(3, &text("a", "late")).await?;
    for word in ["alpha", "beta", "late"] {
        expect_found(&client, word, &[]).await?;
    }
    expect_found(&client, "gamma", &["a"]).await?;
    client.delete(6, "a").await?;
    expect_found(&client, "gamma", &[]).await?;
    expect_found(&client, "", &[]).await?;
    client.put(5, &text("a", "late")).await?;
    expect_found(&client, "late", &[]).await?;
    client.put(7, &text("a", "delta")).await?;
    expect_found(&client, "gamma delta", &["a"]).await
}

async fn an_empty_text_lists_by_id(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client
        .put_all(&[text("b", "words"), text("a", ""), text("C", "words words")])
        .await?;
    client.delete(9, "dead").await?;
    for empty in ["", " ", "\n\t", "?!", "\"", "*", "()"] {
        let found = search(&client, empty).await?;
        ensure_eq!(names(&found), ["C", "a", "b"], "hits of {empty:?}");
        ensure!(
            found.iter().all(|hit| hit.score == 0.0),
            "scores of {empty:?}: {found:?}"
        );
    }
    let request = TextSearchRequest::new(client.collection.clone(), "", 2);
    let found = hits(&client, &request).await?;
    ensure_eq!(names(&found), ["C", "a"], "hits of at most 2");
    let among = TextSearchRequest::new(client.collection.clone(), "", 5)
        .restrict_to(ids(["b", "dead", "unknown", "C"]));
    let found = hits(&client, &among).await?;
    ensure_eq!(names(&found), ["C", "b"], "hits among some documents");
    Ok(())
}

async fn text_search_keeps_its_limit(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let documents: Vec<_> = (0..12)
        .map(|i| {
            text(
                &format!("id {i:02}"),
                &format!("word {}", "other ".repeat(i)),
            )
        })
        .collect();
    client.put_all(&documents).await?;
    let all = search(&client, "word").await?;
    ensure_eq!(all.len(), 12, "hits");
    for limit in [1, 5, 11, 12, 13] {
        let request = TextSearchRequest::new(client.collection.clone(), "word", limit);
        let found = hits(&client, &request).await?;
        ensure_eq!(
            names(&found),
            names(&all[..limit.min(12)]),
            "at most {limit}"
        );
    }
    Ok(())
}

async fn text_search_applies_the_filter_before_the_limit(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let documents: Vec<_> = (0..30)
        .map(|i| {
            let words = format!("word {}", "other ".repeat(i));
            let document = Document::new(format!("id {i:02}")).text(words);
            record(document.metadata("index", i as i64))
        })
        .collect();
    client.put_all(&documents).await?;
    let request = TextSearchRequest::new(client.collection.clone(), "word", 2)
        .filter(Some(Arc::new(field("index").ge(27))));
    let found = hits(&client, &request).await?;
    ensure_eq!(names(&found), ["id 27", "id 28"], "hits");
    let nothing = TextSearchRequest::new(client.collection.clone(), "absent", 2)
        .filter(Some(Arc::new(field("index").ge(27))));
    ensure_eq!(hits(&client, &nothing).await?, [], "hits");
    Ok(())
}

async fn text_search_looks_only_at_these_documents(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let documents: Vec<_> = (0..9)
        .map(|i| text(&format!("id {i}"), &format!("word {}", "other ".repeat(i))))
        .collect();
    client.put_all(&documents).await?;
    let all = search(&client, "word").await?;
    let among = TextSearchRequest::new(client.collection.clone(), "word", 10)
        .restrict_to(ids(["id 7", "unknown", "id 2"]));
    let found = hits(&client, &among).await?;
    ensure_eq!(names(&found), ["id 2", "id 7"], "hits");
    // Looked up to complete another leg's hits: the score is the one an open search gives.
    for hit in &found {
        let open = all.iter().find(|other| other.id == hit.id);
        let same = open.is_some_and(|open| (open.score - hit.score).abs() < 1e-6);
        ensure!(same, "{hit:?} in an open search: {open:?}");
    }
    let none = TextSearchRequest::new(client.collection.clone(), "word", 10).restrict_to(ids([]));
    ensure_eq!(hits(&client, &none).await?, [], "hits among no documents");
    Ok(())
}

async fn tokenized(trial: &Trial, tokenizer: Tokenizer) -> CaseResult<Client> {
    let client = trial.store().await?;
    let collection = Collection {
        key: CollectionKey::new(format!("{tokenizer:?}"), 1),
        options: CollectionOptions::new().tokenizer(tokenizer),
    };
    client.create(&collection).await?;
    Ok(client.on(&collection.key))
}

async fn every_tokenizer_finds_words(trial: Trial) -> CaseResult {
    for tokenizer in [Tokenizer::English, Tokenizer::Unicode, Tokenizer::Trigram] {
        let client = tokenized(&trial, tokenizer).await?;
        client
            .put_all(&[
                text("a", "Crash \u{41c}\u{418}\u{420}"),
                text("b", "recovery"),
            ])
            .await?;
        expect_found(&client, "crash", &["a"]).await?;
        expect_found(&client, "\u{43c}\u{438}\u{440}", &["a"]).await?;
        expect_found(&client, "recovery", &["b"]).await?;
    }
    Ok(())
}

async fn trigrams_find_parts_of_words(trial: Trial) -> CaseResult {
    let client = tokenized(&trial, Tokenizer::Trigram).await?;
    client
        .put_all(&[
            text("a", "\u{6771}\u{4eac}\u{90fd}\u{5e81}"),
            text("b", "database"),
        ])
        .await?;
    expect_found(&client, "\u{4eac}\u{90fd}\u{5e81}", &["a"]).await?;
    expect_found(&client, "TABAS", &["b"]).await?;
    expect_found(&client, "\"tab\"", &["b"]).await?;
    expect_found(&client, "xyz", &[]).await
}

async fn collections_are_searched_apart(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let other = data::named("other", 1);
    client.create(&other).await?;
    client.put(1, &text("a", "word")).await?;
    client.on(&other.key).put(2, &text("b", "word")).await?;
    expect_found(&client, "word", &["a"]).await?;
    expect_found(&client.on(&other.key), "word", &["b"]).await?;
    client.drop_collection(&other.key).await?;
    expect_found(&client, "word", &["a"]).await
}

async fn text_search_without_the_capability_is_unsupported(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let relational = client.relational()?;
    let request = TextSearchRequest::new(client.collection.clone(), "word", 1);
    let found = persist(&client.runtime, || relational.search_text(request.clone()));
    expect_kind(found.await, BackendErrorKind::Unsupported, "search_text")
}
