//! The search route over the in-memory stores.

mod checks;
mod faults;
mod fusion;
mod legs;
mod pages;
mod world;
