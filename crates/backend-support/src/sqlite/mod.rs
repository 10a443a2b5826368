//! What the embedded adapters on SQLite share: opening and locking a file, running work on its
//! connections, the store's stamp, its collections, and an index for the filter language.
//!
//! An adapter keeps a [`Database`] and hands closures to [`Database::read`] and
//! [`Database::write`]. Inside a closure it calls the functions of [`stamp`], [`collections`],
//! [`documents`], [`fields`], [`filter`] and [`full_text`] beside its own statements; [`batch`]
//! applies mutations.
//!
//! ```
//! use dbmanager_backend_support::sqlite::{
//!     Database, DatabaseOptions, Schema, collections, documents, stamp,
//! };
//! use dbmanager_core::{backend::Head, model::Version};
//!
//! const SCHEMA: Schema = Schema {
//!     application_id: 0x6578_616d,
//!     migrations: &[&[stamp::SCHEMA, collections::SCHEMA, documents::SCHEMA]],
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
//!         let head = Head { version: Version::from_u64(1), deleted: false };
//!         documents::advance(transaction, 1, "a", head)?;
//!         Ok(())
//!     })
//!     .await?;
//! database.close().await
//! # })?;
//! # Ok::<(), dbmanager_core::backend::BackendError>(())
//! ```

pub mod batch;
pub mod collections;
mod config;
mod convert;
mod database;
pub mod documents;
pub mod fields;
mod file;
pub mod filter;
pub mod full_text;
mod schema;
pub mod stamp;

pub use config::FileConfig;
pub use convert::{JobError, JobResult};
pub use database::{Database, DatabaseOptions};
pub use schema::Schema;
