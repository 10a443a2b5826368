//! A judged collection in BEIR form, and the measures of a ranking.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    error::Error,
    fs,
    path::Path,
};

use dbmanager::model::{Document, Reference};
use serde::Deserialize;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Relevance by document id.
pub(crate) type Judgements = HashMap<String, u32>;

/// Documents, and queries with what was judged relevant to them.
pub(crate) struct Judged {
    pub(crate) documents: Vec<Document>,
    pub(crate) queries: Vec<JudgedQuery>,
}

pub(crate) struct JudgedQuery {
    pub(crate) id: String,
    pub(crate) text: String,
    pub(crate) judgements: Judgements,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "_id")]
    id: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    text: String,
}

/// Reads `corpus.jsonl`, `queries.jsonl`, `qrels/{qrels}.tsv`, and `links.tsv` if it is there.
/// Queries without a relevant document are left out: no ranking can do well or badly on them.
pub(crate) fn read(directory: &Path, qrels: &str) -> Result<Judged> {
    let mut judgements = read_judgements(&directory.join("qrels").join(format!("{qrels}.tsv")))?;
    let mut links = read_links(&directory.join("links.tsv"))?;
    let documents = entries(&directory.join("corpus.jsonl"))?
        .into_iter()
        .map(|entry| {
            let references = links.remove(&entry.id).unwrap_or_default();
            Document::new(entry.id)
                .title(entry.title)
                .text(entry.text)
                .references(references)
        })
        .collect();
    let queries = entries(&directory.join("queries.jsonl"))?
        .into_iter()
        .filter_map(|entry| {
            let judgements = judgements.remove(&entry.id)?;
            let relevant = judgements.values().any(|relevance| *relevance > 0);
            relevant.then_some(JudgedQuery {
                id: entry.id,
                text: entry.text,
                judgements,
            })
        })
        .collect();
    Ok(Judged { documents, queries })
}

fn text(file: &Path) -> Result<String> {
    fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()).into())
}

fn entries(file: &Path) -> Result<Vec<Entry>> {
    let named = |(index, line): (usize, &str)| {
        serde_json::from_str(line)
            .map_err(|error| format!("{}:{}: {error}", file.display(), index + 1).into())
    };
    text(file)?.lines().enumerate().map(named).collect()
}

/// The columns of every line but the first.
fn rows<const N: usize>(file: &Path, table: &str) -> Result<Vec<[String; N]>> {
    let row = |(index, line): (usize, &str)| {
        let columns: Vec<String> = line.split('\t').take(N).map(str::to_owned).collect();
        columns
            .try_into()
            .map_err(|_| format!("{}:{}: expected {N} columns", file.display(), index + 1).into())
    };
    table.lines().enumerate().skip(1).map(row).collect()
}

fn read_judgements(file: &Path) -> Result<BTreeMap<String, Judgements>> {
    let mut judgements: BTreeMap<String, Judgements> = BTreeMap::new();
    for [query, document, relevance] in rows(file, &text(file)?)? {
        // Some collections judge "worse than not relevant" with a negative number.
        let relevance = relevance.trim().parse::<i64>()?.max(0);
        judgements
            .entry(query)
            .or_default()
            .insert(document, u32::try_from(relevance)?);
    }
    Ok(judgements)
}

/// Two documents may be linked in several ways; each is an edge of its own kind.
fn read_links(file: &Path) -> Result<HashMap<String, Vec<Reference>>> {
    let mut links: HashMap<String, Vec<Reference>> = HashMap::new();
    if !file.exists() {
        return Ok(links);
    }
    let mut seen = HashSet::new();
    for [from, to, kind] in rows(file, &text(file)?)? {
        if from != to && seen.insert((from.clone(), to.clone(), kind.clone())) {
            links
                .entry(from)
                .or_default()
                .push(Reference::new(to).kind(kind));
        }
    }
    Ok(links)
}

/// Normalised discounted cumulative gain of the first `depth` documents, as trec_eval and BEIR
/// compute it: the gain is the relevance, discounted by log2(rank + 1), over that of the best
/// ranking of everything judged.
pub(crate) fn ndcg(ranking: &[String], judgements: &Judgements, depth: usize) -> f64 {
    let gain = |relevances: &mut dyn Iterator<Item = u32>| -> f64 {
        let discounted =
            |(rank, relevance): (usize, u32)| f64::from(relevance) / ((rank + 2) as f64).log2();
        relevances.take(depth).enumerate().map(discounted).sum()
    };
    let mut ideal: Vec<u32> = judgements.values().copied().collect();
    ideal.sort_unstable_by(|a, b| b.cmp(a));
    let best = gain(&mut ideal.into_iter());
    let found = |id: &String| judgements.get(id).copied().unwrap_or(0);
    if best > 0.0 {
        gain(&mut ranking.iter().map(found)) / best
    } else {
        0.0
    }
}

/// The share of the relevant documents that is among the first `depth`.
pub(crate) fn recall(ranking: &[String], judgements: &Judgements, depth: usize) -> f64 {
    let relevant = judgements
        .values()
        .filter(|relevance| **relevance > 0)
        .count();
    let found = ranking
        .iter()
        .take(depth)
        .filter(|id| judgements.get(*id).is_some_and(|relevance| *relevance > 0))
        .count();
    if relevant == 0 {
        0.0
    } else {
        found as f64 / relevant as f64
    }
}
