//! PostgreSQL.

mod address;
mod config;
mod connect;
mod convert;
mod migrate;
mod pool;
