//! Journals that are opened by name, as backends are.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use serde::de::DeserializeOwned;

use super::{Journal, JournalError, JournalErrorKind, JournalOptions, JournalResult};
use crate::{
    backend::{OpenContext, ServiceConfig},
    config::read_service_config,
};

/// Opens journals of one service.
#[async_trait]
pub trait JournalFactory: Send + Sync {
    /// The name under `journal.type` in the configuration.
    fn service(&self) -> &str;

    /// Other names for the same service.
    fn aliases(&self) -> &[&str] {
        &[]
    }

    /// What identifies the place where this configuration keeps the journal (a server with a
    /// namespace), so that a store that is given the same place is found. No secrets.
    ///
    /// # Errors
    /// `Open`, naming the key.
    fn location(&self, config: &ServiceConfig, context: &OpenContext) -> JournalResult<String>;

    /// Opens the journal, or starts a new one where there is none. `config` is what stands under
    /// `journal.config`, without the keys that every journal has, which are in `options`.
    ///
    /// # Errors
    /// `Open` for a wrong configuration, `Unavailable` if the server does not answer,
    /// `UnsupportedFormat` if a newer version wrote the journal.
    async fn open(
        &self,
        config: &ServiceConfig,
        context: &OpenContext,
        options: &JournalOptions,
    ) -> JournalResult<Arc<dyn Journal>>;
}

impl fmt::Debug for dyn JournalFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JournalFactory({})", self.service())
    }
}

/// Reads a journal's own part of the configuration into its own type; see
/// [`parse_service_config`](crate::backend::parse_service_config).
///
/// # Errors
/// `Open`: serde's message, which names the key and no secret.
pub fn parse_journal_config<T: DeserializeOwned>(
    service: &str,
    config: &ServiceConfig,
) -> JournalResult<T> {
    read_service_config(config).map_err(|error| {
        JournalError::new(
            JournalErrorKind::Open,
            format!("journal.config of the service {service:?}: {error}"),
        )
    })
}
