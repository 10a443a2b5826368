//! The real manager and the real journal in a simulated world: one seed decides the schedule, the
//! clock, the faults of three stores, of the disk and of the process, and what the users do.
//! `RELIABILITY.md` says what is promised and what is injected.
//!
//! `DBMANAGER_SIM_SEEDS` seeds are run from `DBMANAGER_SIM_START` on; without them a fixed set.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "modules of one test, which may panic"
)]

mod calls;
mod client;
mod counts;
mod history;
mod judgement;
mod known;
mod operation;
mod operator;
mod rebuild;
mod rest;
mod run;
mod searches;
mod stores;
mod world;

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use counts::Counts;
use run::run;

/// Seeds of a plain `cargo test`.
const SEEDS: u64 = 300;

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number")),
    )
}

/// Runs a seed; the report of what went wrong.
fn attempt(seed: u64) -> Result<Counts, String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| run(seed)));
    let (violation, notes, counts) = match outcome {
        Ok(outcome) => (outcome.violation, outcome.notes, outcome.counts),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.unwrap_or_else(|| "a panic without a message".to_owned());
            (
                Some(format!("panic: {text}")),
                Vec::new(),
                Counts::default(),
            )
        }
    };
    match violation {
        None => Ok(counts),
        // First too, for whoever keeps only the beginning of a long output.
        Some(violation) => {
            let summary = format!(
                "seed {seed}: {violation}\n\
                 DBMANAGER_SIM_START={seed} DBMANAGER_SIM_SEEDS=1 cargo test --test simulation seeds"
            );
            Err(format!("{summary}\n\n{}\n\n{summary}", notes.join("\n")))
        }
    }
}

#[test]
fn seeds() {
    let start = number("DBMANAGER_SIM_START").unwrap_or(0);
    let seeds = number("DBMANAGER_SIM_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(start);
    let state = Mutex::new((Counts::default(), Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= start + seeds || !state.lock().unwrap().1.is_empty() {
                        return;
                    }
                    let result = attempt(seed);
                    let mut state = state.lock().unwrap();
                    match result {
                        Ok(counts) => state.0.add(counts),
                        Err(report) => state.1.push(report),
                    }
                }
            });
        }
    });
    let (counts, failures) = state.into_inner().unwrap();
    println!("{seeds} seeds from {start}: {counts:?}");
    if let Some(report) = failures.first() {
        panic!("{report}");
    }
    counts.judge(seeds);
}

#[test]
fn a_seed_replays_to_the_same_trace() {
    for seed in 0..10 {
        let (first, second) = (run(seed), run(seed));
        assert_eq!(first.notes, second.notes, "seed {seed}");
        assert_eq!(first.digest, second.digest, "seed {seed}");
    }
}
