//! PostgreSQL.

mod address;
mod config;
mod connect;
mod convert;
mod journal;
mod migrate;
mod pool;

pub use journal::PostgresJournalFactory;
