//! The conformance suite: every sentence of the backend contract as a named case.
//!
//! It is for this library's adapters and for anyone else's. A [`Subject`] says how to get a fresh,
//! empty store; a [`Suite`] runs every case of the store's role that its capabilities allow, and
//! the [`Report`] names what failed. Case names are stable.
//!
//! ```
//! use dbmanager_core::{
//!     Runtime,
//!     conformance::{Instance, Subject, Suite},
//!     memory::MemoryFactory,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let subject = Subject::new("memory", || Instance::new(MemoryFactory::vector()));
//! Suite::new(Runtime::tokio()).run(&subject).await.assert_ok();
//! # }
//! ```
//!
//! A wrapper around backends (resilience, metrics) is tested the same way, by
//! [`Subject::wrapped`]. [`Faulty`] is such a wrapper: it fails, delays, repeats and lands late by
//! a seed. The suite repeats what failed for a transient reason, as repair does, so every case
//! holds through it too; and it checks that an error which claims `NotApplied` tells the truth.
//!
//! Journals have a suite of their own, [`JournalSuite`]. [`simulation`] runs a whole manager, its
//! journal and its stores from one seed.

/// Ends the case with a message unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        // Not negated with `!`: the condition may be a comparison of floats.
        if $condition {} else {
            return Err($crate::conformance::trial::Failure::new(format!($($message)+)));
        }
    };
}

/// Ends the case with both values unless they are equal.
macro_rules! ensure_eq {
    ($found:expr, $expected:expr, $($message:tt)+) => {
        match (&$found, &$expected) {
            (found, expected) => ensure!(
                found == expected,
                "{}: found {found:?}, expected {expected:?}",
                format_args!($($message)+)
            ),
        }
    };
}

use std::sync::Arc;

use crate::{
    Runtime,
    backend::AnyBackend,
    resilience::{Guard, ResilienceSettings, guard_backend},
};

mod cases;
mod client;
mod data;
mod expect;
mod fault_plan;
mod faulty;
mod filters;
mod journal;
mod random_filters;
pub mod simulation;
mod subject;
mod suite;
mod trial;

pub use data::Seeded;
pub use fault_plan::{FaultCounts, FaultRates, Faults};
pub use faulty::Faulty;
pub use journal::{JournalInstance, JournalSubject, JournalSuite};
pub use subject::{Instance, Subject};
pub use suite::{Report, Suite, case_names};

/// Puts a backend behind the resilience that a manager puts every store behind: what an adapter
/// promises must still hold there. The circuit never opens, since some cases ask a store on
/// purpose for what it must refuse.
pub fn guarded(backend: AnyBackend, runtime: &Runtime) -> AnyBackend {
    let plain = backend.as_backend();
    let settings = ResilienceSettings {
        breaker_threshold: 0,
        ..ResilienceSettings::default()
    };
    let guard = Arc::new(Guard::new(
        runtime.clone(),
        settings,
        plain.role(),
        plain.service(),
    ));
    guard_backend(backend, &guard)
}
