//! What a case is handed: a store of its own, and how to open it.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex},
};

use super::{
    client::Client,
    data,
    subject::{Instance, Subject},
};
use crate::{
    Runtime,
    backend::{BackendError, Capabilities, StampRequest},
    journal::JournalError,
    model::{CollectionKey, Role, Version},
};

/// Why a case did not hold.
#[derive(Debug)]
pub(super) struct Failure(String);

impl Failure {
    const MOST_CHARACTERS: usize = 2_000;

    pub(super) fn new(message: String) -> Self {
        match message.char_indices().nth(Self::MOST_CHARACTERS) {
            Some((end, _)) => Self(format!("{}…", &message[..end])),
            None => Self(message),
        }
    }

    /// Says what was being done.
    pub(super) fn during(self, what: impl fmt::Display) -> Self {
        Self(format!("{what}: {}", self.0))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        Self::new(format!("unexpected error: {error}"))
    }
}

impl From<BackendError> for Failure {
    fn from(error: BackendError) -> Self {
        Self::new(format!("unexpected error: {error}"))
    }
}

pub(super) type CaseResult<T = ()> = Result<T, Failure>;

/// Writes that may have taken effect, whatever is said of a later attempt.
pub(super) type Doubtful = Arc<Mutex<HashSet<(CollectionKey, Arc<str>, Version)>>>;

/// One run of one case.
pub(super) struct Trial {
    subject: Subject,
    pub(super) instance: Instance,
    pub(super) runtime: Runtime,
    pub(super) rounds: usize,
    pub(super) seed: u64,
    doubtful: Doubtful,
}

impl Trial {
    pub(super) fn new(subject: Subject, runtime: Runtime, rounds: usize, seed: u64) -> Self {
        Self {
            instance: subject.instance(),
            subject,
            runtime,
            rounds,
            seed,
            doubtful: Doubtful::default(),
        }
    }

    /// A store that has nothing to do with this one.
    pub(super) fn another_instance(&self) -> Instance {
        self.subject.instance()
    }

    pub(super) async fn learn(&self) -> CaseResult<(Role, Capabilities)> {
        let client = self.open().await?;
        let learnt = (client.shared.role(), client.shared.capabilities().clone());
        client.close().await?;
        Ok(learnt)
    }

    /// Opens the store, for the first time or again, without touching it.
    pub(super) async fn open(&self) -> CaseResult<Client> {
        let opened = data::persist(&self.runtime, || {
            self.subject.open(&self.instance, &self.runtime)
        })
        .await
        .map_err(|error| Failure::from(error).during("open"))?;
        Ok(Client::new(
            opened,
            self.runtime.clone(),
            Arc::clone(&self.doubtful),
        ))
    }

    /// Opens the store, stamps it with epoch 1 and creates the collection that most cases use.
    pub(super) async fn store(&self) -> CaseResult<Client> {
        let client = self.open().await?;
        client.stamp(StampRequest::new(data::stamp(1))).await?;
        client.create(&data::collection()).await?;
        Ok(client)
    }
}
