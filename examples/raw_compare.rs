//! Compares the three embedded stores with each other, and with what a program was told is stored,
//! by raw SQL on their files: without the library whose word is in question.
//!
//! ```text
//! cargo run --release --example raw_compare -- DIR --acknowledged FILE
//! ```
//!
//! Every store must hold the same ids at the same versions; what lies in the graph's and the vector
//! store's tables must be what the document in the relational store says; and every acknowledged
//! document must be there at its version, with the content that was acknowledged, or at a newer one.

#[path = "support/raw_stores.rs"]
mod raw_stores;

use std::{
    collections::BTreeMap,
    error::Error,
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use raw_stores::{Authority, Held};
use serde::{Deserialize, Serialize};

/// Differences that are printed one by one.
const NAMED: usize = 20;

/// Compares the files of three embedded stores by raw SQL.
#[derive(Parser)]
struct Arguments {
    /// The directory of the stores; no program may have them open.
    data: PathBuf,
    /// Lines of {id, version, content} that were acknowledged; `jsonl ingest` writes them.
    #[arg(long)]
    acknowledged: Option<PathBuf>,
    /// The collection.
    #[arg(long, default_value = "documents")]
    collection: String,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// One line of the acknowledged file.
#[derive(Deserialize)]
struct Acknowledged {
    id: String,
    version: i64,
    content: String,
}

#[derive(Default, Serialize)]
struct Comparison {
    documents: usize,
    /// Lines of the acknowledged file, and the documents they are about.
    acknowledgements: usize,
    acknowledged_documents: usize,
    /// Acknowledged documents held at exactly the version acknowledged last.
    at_version: usize,
    /// Those held at a newer one: journaled by a process that was killed before it could say so.
    newer: usize,
    differences: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match compare(&arguments) {
        Ok(comparison) => print(&comparison, arguments.json),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print(comparison: &Comparison, json: bool) -> ExitCode {
    let same = comparison.differences.is_empty() && comparison.documents > 0;
    if json {
        println!(
            "{}",
            serde_json::json!({"same": same, "comparison": comparison})
        );
    } else {
        println!(
            "{} documents in each store; {} acknowledgements of {} documents: {} held at the \
             version acknowledged last, {} at a newer one; {} differences",
            comparison.documents,
            comparison.acknowledgements,
            comparison.acknowledged_documents,
            comparison.at_version,
            comparison.newer,
            comparison.differences.len()
        );
        for difference in comparison.differences.iter().take(NAMED) {
            println!("  {difference}");
        }
    }
    if same {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn compare(arguments: &Arguments) -> Result<Comparison, Box<dyn Error>> {
    let (data, collection) = (&arguments.data, &arguments.collection);
    let authority = raw_stores::relational(&data.join("relational.db"), collection)?;
    let graph = raw_stores::graph(&data.join("graph.db"), collection)?;
    let vector = raw_stores::vector(&data.join("vector.db"), collection)?;
    let mut comparison = Comparison {
        documents: authority.len(),
        ..Comparison::default()
    };
    let differences = &mut comparison.differences;
    store(
        "graph",
        &authority,
        &graph,
        |document| &document.relations,
        differences,
    );
    store(
        "vector",
        &authority,
        &vector,
        |document| &document.vectors,
        differences,
    );
    for (id, document) in &authority {
        if !document.content.copies_agree {
            differences.push(format!(
                "relational: {id}: the full-text table has other text"
            ));
        }
    }
    if let Some(file) = &arguments.acknowledged {
        acknowledged(file, &authority, &mut comparison)?;
    }
    Ok(comparison)
}

/// Compares one store's documents with what the authority's say it must hold.
fn store<T: PartialEq>(
    name: &str,
    authority: &BTreeMap<String, Held<Authority>>,
    held: &BTreeMap<String, Held<T>>,
    expected: impl Fn(&Authority) -> &T,
    differences: &mut Vec<String>,
) {
    for (id, document) in authority {
        match held.get(id) {
            None => differences.push(format!("{name}: {id} is missing")),
            Some(copy) if (copy.version, copy.deleted) != (document.version, document.deleted) => {
                differences.push(format!(
                    "{name}: {id} has version {}, not {}",
                    copy.version, document.version
                ));
            }
            Some(copy) if !document.deleted && copy.content != *expected(&document.content) => {
                differences.push(format!("{name}: {id} has another content"));
            }
            Some(_) => {}
        }
    }
    for id in held.keys().filter(|id| !authority.contains_key(*id)) {
        differences.push(format!("{name}: {id} is unknown to the relational store"));
    }
}

/// Compares what was acknowledged last of each document.
fn acknowledged(
    file: &Path,
    authority: &BTreeMap<String, Held<Authority>>,
    comparison: &mut Comparison,
) -> Result<(), Box<dyn Error>> {
    let mut newest: BTreeMap<String, Acknowledged> = BTreeMap::new();
    for line in BufReader::new(File::open(file)?).lines() {
        let line: Acknowledged = serde_json::from_str(&line?)?;
        comparison.acknowledgements += 1;
        if newest
            .get(&line.id)
            .is_none_or(|held| held.version < line.version)
        {
            newest.insert(line.id.clone(), line);
        }
    }
    comparison.acknowledged_documents = newest.len();
    for (id, told) in &newest {
        let difference = match authority.get(id) {
            None => "is lost".to_owned(),
            Some(held) if held.version < told.version => {
                format!(
                    "has version {}, acknowledged was {}",
                    held.version, told.version
                )
            }
            Some(held) if held.version > told.version => {
                comparison.newer += 1;
                continue;
            }
            Some(held) if held.content.hash != told.content => {
                "has another content than was acknowledged".to_owned()
            }
            Some(_) => {
                comparison.at_version += 1;
                continue;
            }
        };
        comparison
            .differences
            .push(format!("acknowledged: {id} {difference}"));
    }
    Ok(())
}
