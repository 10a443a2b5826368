//! Many concurrent writers on the embedded stores, to be killed: every start finds out first what
//! the killed process has left, and ends if an acknowledged write is lost, a deleted document came
//! back, a write took effect twice or in parts. `scripts/kill-writers` runs it and kills.
//!
//! ```text
//! kill_writers --data DIR --ledger FILE            until it is killed
//! kill_writers --data DIR --ledger FILE --verify   compares and ends
//! ```

#[path = "support/kill/documents.rs"]
mod documents;
#[path = "support/kill/expected.rs"]
mod expected;
#[path = "support/kill/ledger.rs"]
mod ledger;
#[path = "support/kill/random.rs"]
mod random;
#[path = "support/kill/raw_stores.rs"]
mod raw_stores;
#[path = "support/kill/state.rs"]
mod state;
#[path = "support/kill/verify.rs"]
mod verify;
#[path = "support/kill/writer.rs"]
mod writer;

use std::{
    collections::BTreeMap,
    error::Error,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use clap::Parser;
use dbmanager::prelude::*;
use futures_util::future::select_all;
use ledger::Ledger;
use random::Random;
use state::State;
use writer::{Shared, Writer};

/// How long the stores may take for what a killed process has left to them.
const CATCH_UP: Duration = Duration::from_secs(60);
/// How long closing may take.
const CLOSE: Duration = Duration::from_secs(60);

/// Concurrent writers on the embedded stores, to be killed.
#[derive(Parser)]
struct Arguments {
    /// Where the stores and the journal are.
    #[arg(long)]
    data: PathBuf,
    /// The file of intents and acknowledgements.
    #[arg(long)]
    ledger: PathBuf,
    /// How many writers.
    #[arg(long, default_value_t = 64)]
    writers: usize,
    /// What their random numbers follow from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Compares and ends.
    #[arg(long)]
    verify: bool,
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

/// Each phase is named when it begins, for the script that kills.
async fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    println!("opening");
    let (ledger, lines) = Ledger::open(&arguments.ledger)?;
    let mut state = State::read(lines)?;
    let db = DatabaseManager::open(Config::embedded(&arguments.data)).await?;
    let live = db.health().journal.entries;
    println!(
        "recovering {} entries {live} of {}",
        backlog(&db),
        state.versions
    );
    wait_until_caught_up(&db).await?;
    println!("verifying");
    let mut expectation = verify::files(&arguments.data, &state)?;
    verify::reads(&db, &expectation).await?;
    println!(
        "verified {} documents, {} deleted, {} acknowledgements, {} writes in flight",
        expectation.live().count(),
        expectation.documents.len() - expectation.live().count(),
        state.acknowledgements,
        expectation.found.len(),
    );
    for line in std::mem::take(&mut expectation.found) {
        ledger.write(&line)?;
        state.add(line)?;
    }
    if arguments.verify {
        return verify_closed(db, arguments, &state).await;
    }
    write(db, ledger, state, arguments).await
}

/// Compares the stores by the library's own means, and their files once they are closed.
async fn verify_closed(
    db: DatabaseManager,
    arguments: &Arguments,
    state: &State,
) -> Result<(), Box<dyn Error>> {
    let report = db.check_consistency().await?;
    db.close(CLOSE).await?;
    if !report.is_consistent() || report.stores.len() != 3 {
        return Err(format!("the stores are not the same: {report:?}").into());
    }
    verify::files(&arguments.data, state)?;
    Ok(())
}

async fn write(
    db: DatabaseManager,
    ledger: Ledger,
    state: State,
    arguments: &Arguments,
) -> Result<(), Box<dyn Error>> {
    let next_write = AtomicU64::new(state.next_write);
    let shared = Arc::new(Shared {
        db,
        ledger,
        next_write,
    });
    let tasks: Vec<_> = writers(&shared, state, arguments)
        .into_iter()
        .map(|writer| tokio::spawn(writer.run()))
        .collect();
    if tasks.is_empty() {
        return Err("there are no writers".into());
    }
    let (ended, ..) = select_all(tasks).await;
    match ended? {
        Err(violation) => Err(violation.to_string().into()),
        Ok(never) => match never {},
    }
}

fn writers(shared: &Arc<Shared>, state: State, arguments: &Arguments) -> Vec<Writer> {
    let writer = |number| Writer {
        number,
        shared: Arc::clone(shared),
        random: Random::new(arguments.seed + ((state.next_write << 8) | number as u64)),
        held: BTreeMap::new(),
        open: Vec::new(),
        completed: Vec::new(),
    };
    let mut writers: Vec<Writer> = (0..arguments.writers).map(writer).collect();
    for (id, known) in state.documents {
        let number = id.split('-').nth(1).and_then(|number| number.parse().ok());
        let writer = number.and_then(|number: usize| writers.get_mut(number));
        if let (Some(writer), Some(held)) = (writer, known.held) {
            writer.held.insert(id, held);
        }
    }
    for open in state.open.into_values() {
        writers[open.intent.writer].open.push(open);
    }
    for (intent, versions) in state.completed {
        writers[intent.writer].completed.push((intent, versions));
    }
    writers
}

fn backlog(db: &DatabaseManager) -> u64 {
    db.health().stores.iter().map(|store| store.backlog).sum()
}

/// Returns when no store has anything left to receive.
async fn wait_until_caught_up(db: &DatabaseManager) -> Result<(), String> {
    let start = Instant::now();
    while backlog(db) > 0 {
        if start.elapsed() > CATCH_UP {
            return Err(format!("the stores have not caught up within {CATCH_UP:?}"));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}
