//! What the quickstart shares with the test that asserts what it shows.

mod crates;
pub(crate) mod searches;
mod write_lock;

pub(crate) use crates::load;
pub(crate) use write_lock::{WriteLock, config};
