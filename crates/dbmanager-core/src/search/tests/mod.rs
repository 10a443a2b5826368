//! The search route over the in-memory stores.

mod checks;
mod faults;
mod fusion;
mod graph;
mod legs;
mod pages;
mod words;
mod world;
