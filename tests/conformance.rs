//! The conformance suite on every adapter, bare and behind the wrappers that must not change what
//! an adapter promises.
//!
//! A new adapter adds one line to [`subjects`].

use std::sync::Arc;

use dbmanager_backend_graph::sqlite::SqliteFactory as GraphSqlite;
use dbmanager_backend_relational::sqlite::SqliteFactory as RelationalSqlite;
use dbmanager_backend_vector::embedded::EmbeddedFactory;
use dbmanager_core::{
    Runtime,
    backend::BackendFactory,
    conformance::{
        FaultRates, Faults, Faulty, Instance, JournalInstance, JournalSubject, JournalSuite,
        Subject, Suite, guarded,
    },
    journal::{EmbeddedJournal, Journal, JournalOptions, JournalSource, MemoryStorage},
    memory::MemoryFactory,
};

/// A store in a directory of its own, which goes with it.
fn in_directory(factory: impl BackendFactory + 'static) -> Instance {
    let directory = tempfile::tempdir().expect("a temporary directory");
    Instance::new(factory)
        .data_directory(directory.path())
        .keep(directory)
}

fn subjects() -> Vec<Subject> {
    vec![
        Subject::new("memory vector", || Instance::new(MemoryFactory::vector())),
        Subject::new("memory graph", || Instance::new(MemoryFactory::graph())),
        Subject::new("memory relational", || {
            Instance::new(MemoryFactory::relational())
        }),
        Subject::new("embedded vector", || in_directory(EmbeddedFactory::new())),
        Subject::new("embedded vector with an index", || {
            in_directory(EmbeddedFactory::new()).setting("hnsw_threshold", 2)
        }),
        Subject::new("sqlite graph", || in_directory(GraphSqlite::new())),
        Subject::new(
            "sqlite relational",
            || in_directory(RelationalSqlite::new()),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_adapter_conforms() {
    for subject in subjects() {
        let report = Suite::new(Runtime::tokio()).run(&subject).await;
        report.assert_ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_adapter_conforms_through_the_resilience_around_it() {
    for subject in subjects() {
        let subject = subject.wrapped("resilience", guarded);
        let report = Suite::new(Runtime::tokio()).run(&subject).await;
        report.assert_ok();
    }
}

/// Conditions and documents are new ones with each seed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_filters_agree_with_the_model_whatever_the_seed() {
    let cases = [
        "random_filters_agree_with_the_model",
        "random_filters_agree_on_random_documents",
    ];
    // A graph store is asked with no filters.
    let filtering = subjects()
        .into_iter()
        .filter(|s| !s.name().ends_with("graph"));
    for subject in filtering {
        for seed in 2..6 {
            let suite = Suite::new(Runtime::tokio()).seed(seed).only(cases);
            suite.run(&subject).await.assert_ok();
        }
    }
}

fn journal_at(source: JournalSource) -> JournalInstance {
    JournalInstance::new(move |options: JournalOptions, runtime| {
        let source = source.clone();
        async move {
            let journal = EmbeddedJournal::open(source, options, runtime).await?;
            Ok(journal as Arc<dyn Journal>)
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_journal_conforms() {
    let subjects = [
        JournalSubject::new("memory journal", || {
            journal_at(JournalSource::Storage(Arc::new(MemoryStorage::new())))
        }),
        JournalSubject::new("embedded journal", || {
            let directory = tempfile::tempdir().expect("a temporary directory");
            journal_at(JournalSource::Directory(directory.path().to_owned())).keep(directory)
        }),
    ];
    for subject in subjects {
        let report = JournalSuite::new(Runtime::tokio()).run(&subject).await;
        report.assert_ok();
    }
}

/// On one thread and a paused clock, so that a seed that fails fails again.
#[tokio::test(start_paused = true)]
async fn every_adapter_conforms_through_faults() {
    for subject in subjects() {
        let seeds = if subject.name().starts_with("memory") {
            3
        } else {
            1
        };
        for seed in 1..=seeds {
            let faults = Faults::new(seed, FaultRates::all(0.1));
            let injected = faults.clone();
            let faulty = subject.clone().wrapped(
                &format!("faults of seed {seed}"),
                move |backend, runtime| Faulty::wrap(backend, runtime, &injected),
            );
            let report = Suite::new(Runtime::tokio()).rounds(5).run(&faulty).await;
            report.assert_ok();
            let counts = faults.counts();
            let each = [
                counts.refused_before,
                counts.lost_before,
                counts.lost_after,
                counts.late,
                counts.landed,
                counts.duplicate,
                counts.delay,
            ];
            assert!(each.iter().all(|count| *count > 10), "{counts:?}");
        }
    }
}
