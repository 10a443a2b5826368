//! A store of one's own: a vector adapter over a map that is kept in one JSON file. It passes the
//! library's conformance suite and then serves a manager beside two embedded stores.
//!
//! ```text
//! cargo run --release --example custom_backend
//! ```
//!
//! In a project of your own, the suite comes with the Cargo feature `conformance`.

#[path = "support/data_directory.rs"]
mod data_directory;
#[path = "support/flat_file.rs"]
mod flat_file;

use std::{error::Error, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use data_directory::DataDirectory;
use dbmanager::{
    Runtime,
    backend::ServiceConfig,
    conformance::{Instance, Report, Subject, Suite},
    prelude::*,
};
use flat_file::{FlatFileFactory, SERVICE};
use serde_json::json;

/// How long waiting and closing may take.
const BOUND: Duration = Duration::from_secs(30);

/// Runs the conformance suite on the adapter of this example, and a manager with it.
#[derive(Parser)]
struct Arguments {
    /// How often each race of the suite is run.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Where the manager keeps its stores [default: a temporary directory, removed at the end].
    #[arg(long)]
    data: Option<PathBuf>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    let report = conformance(arguments.rounds).await?;
    let data = DataDirectory::new(arguments.data.clone())?;
    let (found, consistent) = serve(&data).await?;
    if arguments.json {
        let answer = json!({
            "passed": report.passed, "failed": report.failed,
            "ruled_out_by_capability": report.refused_by_capability,
            "found": found, "consistent": consistent, "data": data.path(),
        });
        println!("{}", serde_json::to_string_pretty(&answer)?);
    } else {
        println!("{report}");
        println!(
            "a manager with this store, opened a second time, finds: {}",
            found.join(", ")
        );
        println!(
            "the three stores {}",
            if consistent { "agree" } else { "DISAGREE" }
        );
    }
    Ok(report.failed.is_empty() && !report.passed.is_empty() && consistent)
}

/// Every sentence of the contract as a case, each on a fresh directory.
async fn conformance(rounds: usize) -> Result<Report, Box<dyn Error>> {
    let base = tempfile::tempdir()?;
    let path = base.path().to_owned();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let subject = Subject::new("flat file", move || {
        let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Instance::new(FlatFileFactory).data_directory(path.join(number.to_string()))
    });
    Ok(Suite::new(Runtime::tokio())
        .rounds(rounds)
        .run(&subject)
        .await)
}

/// Stores through a manager, opens it again, and searches.
async fn serve(data: &DataDirectory) -> Result<(Vec<String>, bool), Box<dyn Error>> {
    let open = || {
        let config =
            Config::embedded(data.path()).store(Role::Vector, SERVICE, ServiceConfig::new());
        dbmanager::builder(config).register(FlatFileFactory).open()
    };
    let db = open().await?;
    let documents = [
        ("p1", "Write-ahead logging and crash recovery"),
        ("p2", "Approximate nearest neighbours in high dimensions"),
        ("p3", "Recovery of replicated logs after a crash"),
    ];
    let documents = documents.map(|(id, title)| Document::new(id).title(title));
    for receipt in db
        .store_documents("papers", documents)
        .level(Level::All)
        .await?
    {
        db.wait_for(&receipt?, WaitFor::Searchable, BOUND).await?;
    }
    db.close(BOUND).await?;
    drop(db);

    let db = open().await?;
    let query = Query::semantic("crash recovery").limit(2);
    let response = db.search_documents("papers", query).await?;
    let consistent = db.check_consistency().await?.is_consistent();
    db.close(BOUND).await?;
    let found = response.hits.iter().map(|hit| hit.id.to_string()).collect();
    Ok((found, consistent && !response.degraded()))
}
