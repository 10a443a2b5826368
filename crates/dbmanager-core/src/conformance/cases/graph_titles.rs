//! Title match.

use std::sync::Arc;

use super::{GRAPH, cases, text_search::QUERY_SYNTAX};
use crate::{
    backend::TextSearchRequest,
    conformance::{
        client::Client,
        data::{persist, record},
        trial::{CaseResult, Trial},
    },
    model::{Document, DocumentRecord},
};

cases!(GRAPH;
    titles_match_by_word,
    titles_match_the_newest_version,
    titles_rank_more_and_rarer_words_first,
    title_words_are_no_query_language,
);

/// The ids whose title matches, best first; equally good ones by id.
async fn titled(client: &Client, text: &str, limit: usize) -> CaseResult<Vec<String>> {
    client.settle().await?;
    let graph = client.graph()?;
    let request = TextSearchRequest::new(client.collection.clone(), text, limit);
    let mut hits = persist(&client.runtime, || graph.match_titles(request.clone())).await?;
    ensure!(
        hits.is_sorted_by(|a, b| a.score >= b.score),
        "title matches are not best first: {hits:?}"
    );
    hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
    Ok(hits.into_iter().map(|hit| hit.id.to_string()).collect())
}

fn title(id: &str, title: &str) -> Arc<DocumentRecord> {
    record(Document::new(id).title(title).text("zebra"))
}

async fn titles_match_by_word(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client
        .put_all(&[
            title("a", "Crash recovery"),
            title("b", "Recovering from loss"),
            title("c", ""),
            title("d", "Gone recovery"),
        ])
        .await?;
    client.delete(9, "d").await?;
    ensure_eq!(titled(&client, "recovery", 10).await?, ["a"], "matches");
    ensure_eq!(titled(&client, "CRASH", 10).await?, ["a"], "matches");
    ensure_eq!(
        titled(&client, "loss crash", 1).await?.len(),
        1,
        "matches of at most 1"
    );
    for nothing in ["zebra", "absent", "", "   ", "?!"] {
        ensure_eq!(
            titled(&client, nothing, 10).await?,
            [""; 0],
            "matches of {nothing:?}"
        );
    }
    Ok(())
}

async fn titles_match_the_newest_version(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put(1, &title("a", "alpha")).await?;
    client.put(5, &title("a", "beta")).await?;
    client.put(3, &title("a", "gamma")).await?;
    for (word, expected) in [("alpha", &[][..]), ("gamma", &[]), ("beta", &["a"])] {
        ensure_eq!(titled(&client, word, 10).await?, expected, "{word}");
    }
    client.delete(6, "a").await?;
    ensure_eq!(titled(&client, "beta", 10).await?, [""; 0], "deleted");
    client.put(7, &title("a", "delta")).await?;
    ensure_eq!(titled(&client, "delta", 10).await?, ["a"], "revived");
    ensure_eq!(titled(&client, "beta", 10).await?, [""; 0], "old words");
    Ok(())
}

async fn titles_rank_more_and_rarer_words_first(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let common = (0..6).map(|i| title(&format!("common {i}"), "storage engines"));
    let documents: Vec<_> = common
        .chain([
            title("both", "storage recovery"),
            title("rare", "recovery engines"),
        ])
        .collect();
    client.put_all(&documents).await?;
    let found = titled(&client, "storage recovery", 3).await?;
    ensure_eq!(
        found[..2.min(found.len())],
        ["both", "rare"],
        "best matches"
    );
    ensure_eq!(found.len(), 3, "matches of at most 3");
    Ok(())
}

async fn title_words_are_no_query_language(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put(1, &title("a", "alpha beta")).await?;
    for text in QUERY_SYNTAX {
        ensure_eq!(
            titled(&client, text, 10).await?,
            ["a"],
            "matches of {text:?}"
        );
    }
    Ok(())
}
