//! What the embedded adapters on SQLite share: opening and locking a file, running work on its
//! connections, the store's stamp, its collections, and an index for the filter language.
//!
//! An adapter keeps a [`Database`] and hands closures to [`Database::read`] and
//! [`Database::write`]. Inside a closure it calls the functions of [`stamp`], [`collections`],
//! [`fields`] and [`filter`] beside its own statements:
//!
//! ```
//! use dbmanager_backend_support::sqlite::{
//!     Database, DatabaseOptions, Schema, collections, fields, stamp,
//! };
//!
//! const SCHEMA: Schema = Schema {
//!     application_id: 0x6578_616d,
//!     migrations: &[&[
//!         stamp::SCHEMA,
//!         collections::SCHEMA,
//!         fields::SCHEMA,
//!         "CREATE TABLE document (key INTEGER PRIMARY KEY, id TEXT NOT NULL) STRICT",
//!     ]],
//! };
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let directory = tempfile::tempdir().unwrap();
//! let runtime = dbmanager_core::Runtime::tokio();
//! let path = directory.path().join("example.db");
//! let database = Database::open(path, DatabaseOptions::new(), &runtime, &SCHEMA).await?;
//! database
//!     .write(|transaction| {
//!         stamp::check_epoch(transaction, 1)?;
//!         transaction.execute("INSERT INTO document (id) VALUES ('a')", [])?;
//!         Ok(())
//!     })
//!     .await?;
//! database.close().await
//! # })?;
//! # Ok::<(), dbmanager_core::backend::BackendError>(())
//! ```

pub mod collections;
mod convert;
mod database;
pub mod fields;
mod file;
pub mod filter;
mod schema;
pub mod stamp;

pub use convert::{JobError, JobResult};
pub use database::{Database, DatabaseOptions};
pub use schema::Schema;
