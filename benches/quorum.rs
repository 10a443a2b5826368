//! What a quorum saves when one store of three is slow: PostgreSQL, Neo4j and ChromaDB, with 50 ms
//! more to one of them on every round trip.
//!
//! ```text
//! eval "$(scripts/servers env)"
//! cargo bench --features postgres,neo4j,chromadb --bench quorum
//! ```

#[path = "support/documents.rs"]
mod documents;
#[path = "support/percentile.rs"]
mod percentile;
#[path = "../tests/live/proxy.rs"]
mod proxy;
#[path = "support/vectors.rs"]
mod vectors;

use std::time::{Duration, Instant};

use dbmanager::{backend::ServiceConfig, config::Config, model::Role, prelude::*};
use dbmanager_core::Runtime;
use documents::document;
use percentile::percentile;
use proxy::{Fault, Proxy};

const DELAY: Duration = Duration::from_millis(50);
const DIMENSION: usize = 384;
const WRITES: usize = 400;

fn settings(values: &[(&str, &str)]) -> ServiceConfig {
    values
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).into()))
        .collect()
}

/// One write after the other, each of another document, each measured to its answer.
async fn write(db: &DatabaseManager, level: Level, count: usize, first: &mut u64) -> Vec<f64> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        *first += 1;
        let document = document(*first, DIMENSION);
        let started = Instant::now();
        let stored = db.store_document("bench", document).level(level);
        let receipt = stored
            .timeout(Duration::from_secs(30))
            .await
            .expect("stored");
        assert!(receipt.level_reached());
        times.push(started.elapsed().as_secs_f64());
        // So that what is measured next does not stand behind this one's slow store.
        db.wait_for(&receipt, Level::All, Duration::from_secs(30))
            .await
            .expect("everywhere");
    }
    times
}

#[tokio::main]
async fn main() {
    let address = |name: &str| std::env::var(format!("DBMANAGER_TEST_{name}_URL"));
    let (Ok(postgres), Ok(neo4j), Ok(chromadb)) =
        (address("POSTGRES"), address("NEO4J"), address("CHROMADB"))
    else {
        println!("not measured: the environment does not name PostgreSQL, Neo4j and ChromaDB");
        return;
    };
    let (scheme, rest) = neo4j.split_once("://").expect("a scheme");
    let (credentials, place) = rest.rsplit_once('@').expect("credentials");
    let (username, password) = credentials.split_once(':').expect("a password");
    let (slow, chromadb) = Proxy::before(&chromadb).await.expect("a proxy");
    let name = format!("bench_{:016x}", Runtime::tokio().random_u64());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = Config::embedded(directory.path())
        .store(
            Role::Relational,
            "postgres",
            settings(&[("url", &postgres), ("schema", &name)]),
        )
        .store(
            Role::Graph,
            "neo4j",
            settings(&[
                ("uri", &format!("{scheme}://{place}")),
                ("username", username),
                ("password", password),
                ("namespace", &name),
            ]),
        )
        .store(
            Role::Vector,
            "chromadb",
            settings(&[("url", &chromadb), ("collection_prefix", &name)]),
        );
    let db = DatabaseManager::open(config)
        .await
        .expect("the servers answer");
    let is_trial = std::env::args().any(|argument| argument == "--test");
    let count = if is_trial { 2 } else { WRITES };
    let mut number = 0;
    write(&db, Level::All, count / 10 + 1, &mut number).await;
    slow.set(Fault::Latency(DELAY)).await;
    // In turns, so that what else the machine does falls on both.
    let (mut quorum, mut all) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        quorum.extend(write(&db, Level::Quorum, count.div_ceil(10), &mut number).await);
        all.extend(write(&db, Level::All, count.div_ceil(10), &mut number).await);
    }
    slow.set(Fault::None).await;
    for share in [0.5, 0.99] {
        let (quorum, all) = (percentile(&mut quorum, share), percentile(&mut all, share));
        println!(
            "p{:.0}, quorum ÷ all with one store {} ms slower: {:.2} ({:.1} ms ÷ {:.1} ms)",
            share * 100.0,
            DELAY.as_millis(),
            quorum / all,
            quorum * 1e3,
            all * 1e3,
        );
    }
    db.drop_collection("bench").await.expect("dropped");
    db.close(Duration::from_secs(60)).await.expect("closed");
}
