//! PostgreSQL.

mod address;
mod apply;
mod catalogue;
mod check;
mod config;
mod connect;
mod convert;
mod filter;
mod journal;
mod migrate;
mod pool;
mod read;
mod row;
mod schema;
mod search;
mod stamp;
mod statistics;
mod store;
mod words;

pub use journal::PostgresJournalFactory;
pub use store::PostgresFactory;
