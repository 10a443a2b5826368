//! The conformance suite on every adapter, bare and behind the wrappers that must not change what
//! an adapter promises.
//!
//! A new adapter adds one line to [`subjects`].

use dbmanager_core::{
    Runtime,
    conformance::{FaultRates, Faults, Faulty, Instance, Subject, Suite},
    memory::MemoryFactory,
};

fn subjects() -> Vec<Subject> {
    vec![
        Subject::new("memory vector", || Instance::new(MemoryFactory::vector())),
        Subject::new("memory graph", || Instance::new(MemoryFactory::graph())),
        Subject::new("memory relational", || {
            Instance::new(MemoryFactory::relational())
        }),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_adapter_conforms() {
    for subject in subjects() {
        let report = Suite::new(Runtime::tokio()).run(&subject).await;
        report.assert_ok();
    }
}

/// On one thread and a paused clock, so that a seed that fails fails again.
#[tokio::test(start_paused = true)]
async fn every_adapter_conforms_through_faults() {
    for subject in subjects() {
        for seed in 1..=3 {
            let faults = Faults::new(seed, FaultRates::all(0.1));
            let injected = faults.clone();
            let faulty = subject.clone().wrapped(
                &format!("faults of seed {seed}"),
                move |backend, runtime| Faulty::wrap(backend, runtime, &injected),
            );
            let report = Suite::new(Runtime::tokio()).rounds(10).run(&faulty).await;
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
