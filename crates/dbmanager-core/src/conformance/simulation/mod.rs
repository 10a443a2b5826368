//! Deterministic simulation: one seed decides the schedule, the clock, the randomness and every
//! fault, so that what went wrong once goes wrong again, step by step.
//!
//! [`Simulation`] is a runtime on one thread with a clock that only moves when it is told to. A
//! [`Process`] is what can be killed in it: everything it had under way is gone, at whatever await
//! point it was. [`RemoteFactory`] puts any store behind a [`Link`], over which calls travel as
//! messages of their own: a caller that gives up, or is killed, does not take back what it sent.
//! [`SimulatedDisk`] carries the real embedded journal and loses power. [`linearizable`] judges a
//! history.
//!
//! ```
//! use dbmanager_core::conformance::simulation::Simulation;
//! use std::{sync::{Arc, atomic::{AtomicBool, Ordering}}, time::Duration};
//!
//! let simulation = Simulation::new(7);
//! let process = simulation.process();
//! let runtime = simulation.runtime(process);
//! let done = Arc::new(AtomicBool::new(false));
//! let task = {
//!     let (runtime, done) = (runtime.clone(), Arc::clone(&done));
//!     async move {
//!         runtime.sleep(Duration::from_secs(3_600)).await;
//!         done.store(true, Ordering::SeqCst);
//!     }
//! };
//! drop(runtime.spawn(task));
//! while simulation.step() {}
//! assert!(done.load(Ordering::SeqCst));
//! assert_eq!(simulation.monotonic(), Duration::from_secs(3_600));
//! ```

mod disk;
mod executor;
mod linearizability;
mod link;
mod remote;

pub use disk::SimulatedDisk;
pub use executor::{Process, Simulation};
pub use linearizability::{Call, Verdict, linearizable};
pub use link::{Applied, Direction, Link};
pub use remote::RemoteFactory;
