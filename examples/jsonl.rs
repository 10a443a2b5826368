//! Any file of JSON lines into the three stores, searched, and verified.
//!
//! ```text
//! cargo run --release --example jsonl -- ingest documents.jsonl --data DIR
//! cargo run --release --example jsonl -- search crash recovery --data DIR
//! cargo run --release --example jsonl -- verify --data DIR
//! ```

#[path = "support/data_directory.rs"]
mod data_directory;
#[path = "support/ingest.rs"]
mod ingest;
#[path = "support/lines.rs"]
mod lines;

use std::{error::Error, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};
use data_directory::DataDirectory;
use dbmanager::prelude::*;
use serde_json::json;

/// How long closing may take.
const CLOSE: Duration = Duration::from_secs(60);

/// JSON lines in a vector, a graph and a relational store.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Stores every line's document; documents that are stored as they are, are left alone.
    Ingest(ingest::Ingest),
    /// Searches all three stores.
    Search {
        /// The words.
        #[arg(required = true)]
        words: Vec<String>,
        /// How many documents.
        #[arg(long, default_value_t = 10)]
        limit: usize,
        #[command(flatten)]
        place: Place,
    },
    /// Compares the stores document by document; succeeds only if they hold the same ids, versions
    /// and contents, and at least one document.
    Verify {
        #[command(flatten)]
        place: Place,
    },
}

/// Where the data is and how the answer is printed.
#[derive(Args)]
struct Place {
    /// Where the stores and the journal are [default: a temporary directory, removed at the end].
    #[arg(long)]
    data: Option<PathBuf>,
    /// The collection.
    #[arg(long, default_value = "documents")]
    collection: String,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

impl Place {
    async fn open(&self) -> Result<(DataDirectory, DatabaseManager), Box<dyn Error>> {
        let data = DataDirectory::new(self.data.clone())?;
        let db = DatabaseManager::open(Config::embedded(data.path())).await?;
        Ok((data, db))
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Ingest(ingest) => ingest.run().await,
        Command::Search {
            words,
            limit,
            place,
        } => search(&words.join(" "), limit, &place).await,
        Command::Verify { place } => verify(&place).await,
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn search(words: &str, limit: usize, place: &Place) -> Result<bool, Box<dyn Error>> {
    let (_data, db) = place.open().await?;
    let query = Query::hybrid(words).limit(limit);
    let response = db
        .search_documents(place.collection.as_str(), query)
        .await?;
    if place.json {
        println!("{}", serde_json::to_string_pretty(&response)?);
    } else {
        for (index, hit) in response.hits.iter().enumerate() {
            let title = hit
                .document
                .as_ref()
                .map(|d| d.title.as_str())
                .unwrap_or_default();
            let stores: Vec<_> = hit.matched_stores().map(|role| role.as_str()).collect();
            println!(
                "{:>3}. {:.3}  {}  {title}  [{}]",
                index + 1,
                hit.score,
                hit.id,
                stores.join(", ")
            );
        }
        for leg in response.legs.iter().filter(|leg| leg.degraded()) {
            println!(
                "leg {}: {:?} {}",
                leg.leg,
                leg.outcome,
                leg.error.as_deref().unwrap_or("")
            );
        }
    }
    db.close(CLOSE).await?;
    Ok(!response.degraded())
}

async fn verify(place: &Place) -> Result<bool, Box<dyn Error>> {
    let (_data, db) = place.open().await?;
    // A store may have something to catch up with from the last run: that is no difference, but
    // only afterwards the stores are the same.
    ingest::wait_until_caught_up(&db).await?;
    let report = db.check_consistency().await?;
    let health = db.health_check().await;
    db.close(CLOSE).await?;
    let documents: Vec<u64> = report.stores.iter().map(|store| store.documents).collect();
    let same = report.is_consistent()
        && report.stores.len() == 3
        && documents
            .iter()
            .all(|count| *count == documents[0] && *count > 0);
    if place.json {
        let answer = json!({"same": same, "consistency": report, "health": health});
        println!("{}", serde_json::to_string_pretty(&answer)?);
        return Ok(same);
    }
    for store in &report.stores {
        println!(
            "{:<10} {} documents, {} tombstones, {} differences, {} pending",
            store.role.as_str(),
            store.documents,
            store.tombstones,
            store.differences,
            store.pending
        );
    }
    for difference in report.differences.iter().take(20) {
        println!("  {difference:?}");
    }
    println!(
        "{}",
        if same {
            "the stores are the same"
        } else {
            "the stores are NOT the same"
        }
    );
    Ok(same)
}
