//! How good the legs and their fusions rank, on a judged collection.
//!
//! ```text
//! cargo run --release --example evaluate -- DIR --runs RUNS
//! ```
//!
//! DIR has BEIR's form: `corpus.jsonl`, `queries.jsonl`, `qrels/test.tsv`, and here also
//! `links.tsv` (from, to, kind), whose lines become references. A folder without `corpus.jsonl` is
//! taken as a folder of such collections; without DIR, `DBMANAGER_DATASETS` names it.
//!
//! The embedder is the built-in one unless a configuration says otherwise:
//!
//! ```text
//! cargo run --release --features fastembed --example evaluate -- DIR --config examples/config/minilm.toml
//! ```

#[path = "support/data_directory.rs"]
mod data_directory;
#[path = "support/judged.rs"]
mod judged;

use std::{
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use data_directory::DataDirectory;
use dbmanager::{model::Weights, prelude::*};
use judged::{Judged, JudgedQuery};
use serde::Serialize;

const COLLECTION: &str = "judged";
/// Ranks that nDCG looks at: documents that the search is asked for.
const NDCG_DEPTH: usize = 10;
/// Ranks that recall looks at, in a search of its own: how many are asked for decides how many
/// candidates the legs bring.
const RECALL_DEPTH: usize = 100;
/// Documents per batch.
const BATCH: usize = 500;
/// Differences in nDCG below this are none.
const EQUAL: f64 = 1e-9;

/// nDCG@10 and recall@100 of each leg, each fusion, and the default fusion with a leg left out.
#[derive(Parser)]
struct Arguments {
    /// The judged collection, or a folder of several.
    directory: Option<PathBuf>,
    /// Which judgements: the file qrels/NAME.tsv.
    #[arg(long, default_value = "test")]
    qrels: String,
    /// Writes a TREC run file per row and collection into this folder.
    #[arg(long, value_name = "DIR")]
    runs: Option<PathBuf>,
    /// Where to keep the stores [default: a temporary directory, removed at the end]. A collection
    /// that is there with as many documents is used as it is.
    #[arg(long)]
    data: Option<PathBuf>,
    /// A configuration of embedded stores to use instead of the default one; the environment
    /// (`DBMANAGER__…`) goes over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// One way of searching.
struct Method {
    name: &'static str,
    query: fn(&str) -> Query,
    /// The leg left out of the default fusion.
    without: Option<&'static str>,
}

fn methods() -> [Method; 9] {
    let method = |name, query| Method {
        name,
        query,
        without: None,
    };
    let without = |name, leg| Method {
        name,
        query: |text| Query::hybrid(text),
        without: Some(leg),
    };
    [
        method("metadata", |text| Query::metadata(text)),
        method("semantic", |text| Query::semantic(text)),
        method("graph", |text| Query::graph(text)),
        method("hybrid", |text| Query::hybrid(text)),
        method("hybrid-dbsf", |text| {
            Query::hybrid(text).fusion(Fusion::Dbsf)
        }),
        method("hybrid-rrf", |text| Query::hybrid(text).fusion(Fusion::RRF)),
        without("without-metadata", "metadata"),
        without("without-semantic", "semantic"),
        without("without-graph", "graph"),
    ]
}

/// What a method comes to on a collection.
#[derive(Serialize)]
struct Row {
    method: &'static str,
    ndcg_at_10: f64,
    recall_at_100: f64,
    /// Queries on which its nDCG@10 is above and below that of the metadata leg.
    wins: usize,
    losses: usize,
    milliseconds: f64,
    /// nDCG@10 of each query, in the order of the file.
    #[serde(skip)]
    each: Vec<f64>,
}

#[derive(Serialize)]
struct Evaluation {
    collection: String,
    documents: usize,
    queries: usize,
    weights: Weights,
    rows: Vec<Row>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let mut evaluations = Vec::new();
    for directory in collections(arguments)? {
        let evaluation = evaluate(arguments, &directory).await?;
        if !arguments.json {
            println!("{}", table(&evaluation));
        }
        evaluations.push(evaluation);
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&evaluations)?);
    }
    Ok(())
}

/// The folders to evaluate.
fn collections(arguments: &Arguments) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let named = arguments.directory.clone();
    let directory = named
        .or_else(|| std::env::var_os("DBMANAGER_DATASETS").map(PathBuf::from))
        .ok_or("name a judged collection, or a folder of them by DBMANAGER_DATASETS")?;
    let judged = |path: &Path| path.join("corpus.jsonl").is_file();
    if judged(&directory) {
        return Ok(vec![directory]);
    }
    let entries = fs::read_dir(&directory)
        .map_err(|error| format!("{}: {error}", directory.display()))?
        .collect::<Result<Vec<_>, _>>()?;
    let mut found: Vec<PathBuf> = entries
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| judged(path))
        .collect();
    found.sort();
    if found.is_empty() {
        return Err(format!("{}: there is no corpus.jsonl", directory.display()).into());
    }
    Ok(found)
}

async fn evaluate(arguments: &Arguments, directory: &Path) -> Result<Evaluation, Box<dyn Error>> {
    let name = directory
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let judged = judged::read(directory, &arguments.qrels)?;
    let place = arguments.data.as_ref().map(|data| data.join(&name));
    let data = DataDirectory::new(place)?;
    let config = match &arguments.config {
        Some(file) => Config::from_file(file)?
            .with_process_environment()?
            .data_directory(data.path()),
        None => Config::embedded(data.path()),
    };
    let db = DatabaseManager::open(config).await?;
    ingest(&db, &judged).await?;
    let weights = default_weights(&db, &judged.queries).await?;
    let mut rows: Vec<Row> = Vec::new();
    for method in methods() {
        let (mut row, run) = measure(&db, &method, weights, &judged.queries).await?;
        if let Some(metadata) = rows.first() {
            let pairs = || row.each.iter().zip(&metadata.each);
            let wins = pairs().filter(|(own, other)| *own - *other > EQUAL).count();
            let losses = pairs().filter(|(own, other)| *other - *own > EQUAL).count();
            (row.wins, row.losses) = (wins, losses);
        }
        if let Some(runs) = &arguments.runs {
            fs::create_dir_all(runs)?;
            fs::write(runs.join(format!("{name}-{}.run", method.name)), run)?;
        }
        rows.push(row);
    }
    db.close(Duration::from_secs(60)).await?;
    Ok(Evaluation {
        collection: name,
        documents: judged.documents.len(),
        queries: judged.queries.len(),
        weights,
        rows,
    })
}

async fn ingest(db: &DatabaseManager, judged: &Judged) -> Result<(), Box<dyn Error>> {
    if db
        .collections()
        .iter()
        .any(|collection| &*collection.key.name == COLLECTION)
        && db.count(COLLECTION, None).await?.documents == judged.documents.len() as u64
    {
        return Ok(());
    }
    let mut receipts = Vec::new();
    for batch in judged.documents.chunks(BATCH) {
        for receipt in db.store_documents(COLLECTION, batch.to_vec()).await? {
            receipts.push(receipt?);
        }
    }
    for receipt in receipts {
        db.wait_for(&receipt, WaitFor::Searchable, Duration::from_secs(600))
            .await?;
    }
    Ok(())
}

/// The weights that a hybrid search without any of its own uses, as its legs report them.
async fn default_weights(
    db: &DatabaseManager,
    queries: &[JudgedQuery],
) -> Result<Weights, Box<dyn Error>> {
    let query = queries.first().ok_or("no query has a relevant document")?;
    let response = db
        .search_documents(COLLECTION, Query::hybrid(&query.text))
        .await?;
    let weight = |name: &str| {
        let leg = response.legs.iter().find(|leg| leg.leg.as_str() == name);
        leg.map_or(0.0, |leg| leg.weight)
    };
    Ok(Weights {
        semantic: weight("semantic"),
        metadata: weight("metadata"),
        graph: weight("graph"),
    })
}

async fn measure(
    db: &DatabaseManager,
    method: &Method,
    weights: Weights,
    queries: &[JudgedQuery],
) -> Result<(Row, String), Box<dyn Error>> {
    let (mut each, mut recalls, mut elapsed) = (Vec::new(), 0.0, Duration::ZERO);
    let mut run = String::new();
    for judged in queries {
        let mut query = (method.query)(&judged.text);
        if let Some(leg) = method.without {
            let kept = |name, weight| if name == leg { 0.0 } else { weight };
            query = query.weights(
                kept("semantic", weights.semantic),
                kept("metadata", weights.metadata),
                kept("graph", weights.graph),
            );
        }
        let start = Instant::now();
        let best = search(db, judged, query.clone().limit(NDCG_DEPTH)).await?;
        elapsed += start.elapsed();
        let ranking: Vec<String> = best.iter().map(|hit| hit.id.to_string()).collect();
        each.push(judged::ndcg(&ranking, &judged.judgements, NDCG_DEPTH));

        let many = search(db, judged, query.limit(RECALL_DEPTH)).await?;
        let ranking: Vec<String> = many.iter().map(|hit| hit.id.to_string()).collect();
        recalls += judged::recall(&ranking, &judged.judgements, RECALL_DEPTH);
        for (hit, rank) in many.iter().zip(1..) {
            writeln!(
                run,
                "{} Q0 {} {rank} {} {}",
                judged.id, hit.id, hit.score, method.name
            )?;
        }
    }
    let count = queries.len() as f64;
    let row = Row {
        method: method.name,
        ndcg_at_10: each.iter().sum::<f64>() / count,
        recall_at_100: recalls / count,
        wins: 0,
        losses: 0,
        milliseconds: elapsed.as_secs_f64() * 1e3 / count,
        each,
    };
    Ok((row, run))
}

/// The hits of a search that every leg has answered.
async fn search(
    db: &DatabaseManager,
    judged: &JudgedQuery,
    query: Query,
) -> Result<Vec<Hit>, Box<dyn Error>> {
    let response = db.search_documents(COLLECTION, query).await?;
    if response.degraded() {
        return Err(format!("query {}: a leg failed: {:?}", judged.id, response.legs).into());
    }
    Ok(response.hits)
}

fn table(evaluation: &Evaluation) -> String {
    let weights = evaluation.weights;
    let mut table = format!(
        "{}: {} documents, {} judged queries; default weights: semantic {:.2}, metadata {:.2}, \
         graph {:.2}\n{:<18} {:>8} {:>10} {:>6} {:>6} {:>9}\n",
        evaluation.collection,
        evaluation.documents,
        evaluation.queries,
        weights.semantic,
        weights.metadata,
        weights.graph,
        "",
        "nDCG@10",
        "recall@100",
        "won",
        "lost",
        "ms/query",
    );
    for row in &evaluation.rows {
        table += &format!(
            "{:<18} {:>8.4} {:>10.4} {:>6} {:>6} {:>9.2}\n",
            row.method, row.ndcg_at_10, row.recall_at_100, row.wins, row.losses, row.milliseconds
        );
    }
    table
}
