//! Connections, and statements that run in a transaction of their own.

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dbmanager_core::{
    Runtime,
    backend::{BackendError, BackendErrorKind, BackendResult, OpenContext},
};
use neo4rs::{ConfigBuilder, Error, Graph, Neo4jErrorKind, Query, Row};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::sync::Semaphore;

use super::{
    config::{Address, Settings, config},
    convert::{read, translate},
    routing,
};

/// Rows fetched at a time. The client reserves room for so many with every answer.
const FETCH_SIZE: usize = 2_000;

/// What a statement may do; the server refuses a write in a statement that says it only reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// The connections to one database. Every statement is a transaction of its own, which the server
/// ends by itself when nobody can wait for it any more.
pub(super) struct Link {
    runtime: Runtime,
    settings: Settings,
    pool_size: usize,
    timeout: Duration,
    /// One for each connection: the client's own pool would only say that there was an error.
    permits: Semaphore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    closed: bool,
    server: Option<Server>,
    /// Members of the cluster that can be asked for the one that takes writes.
    routers: Vec<Address>,
}

struct Server {
    address: Address,
    graph: Graph,
    /// When to ask again who takes writes, in monotonic time; never if there is no cluster.
    until: Option<Duration>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("settings", &self.settings)
            .field("pool_size", &self.pool_size)
            .finish_non_exhaustive()
    }
}

impl Link {
    /// Prepares the connections; the first statement makes the first one.
    pub(super) fn new(settings: Settings, context: &OpenContext) -> Self {
        let pool_size = context.pool_size.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            runtime: context.runtime.clone(),
            settings,
            pool_size,
            timeout: context.attempt_timeout,
            permits: Semaphore::new(pool_size),
            state: Mutex::default(),
        }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Runs a statement and reads all it answers.
    ///
    /// # Errors
    /// `Timeout` at the end of an attempt's time, `Overloaded` if half of it went by waiting for a
    /// connection, and those of [`translate`].
    pub(super) async fn run(&self, access: Access, query: Query) -> BackendResult<Vec<Row>> {
        let attempt = self.attempt(access, query);
        match self.runtime.timeout(self.timeout, attempt).await {
            Ok(answer) => answer,
            Err(_) => {
                self.forget_server();
                Err(BackendError::new(
                    BackendErrorKind::Timeout,
                    format!("no answer within {:?}", self.timeout),
                ))
            }
        }
    }

    /// The only row of a statement that answers exactly one.
    pub(super) async fn run_for_one<T: serde::de::DeserializeOwned>(
        &self,
        access: Access,
        query: Query,
    ) -> BackendResult<T> {
        let rows = self.run(access, query).await?;
        match &*rows {
            [row] => read(row),
            rows => Err(BackendError::new(
                BackendErrorKind::Protocol,
                format!("{} rows answered where one was expected", rows.len()),
            )),
        }
    }

    async fn attempt(&self, access: Access, query: Query) -> BackendResult<Vec<Row>> {
        let waiting = self
            .runtime
            .timeout(self.timeout / 2, self.permits.acquire());
        let _permit = match waiting.await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(closed()),
            Err(_) => {
                let message = format!(
                    "all {} connections are in use; raise \"connection_pool_size\"",
                    self.pool_size
                );
                return Err(BackendError::new(BackendErrorKind::Overloaded, message).not_applied());
            }
        };
        let graph = self.graph().await?;
        let limit = i64::try_from(self.timeout.as_millis()).unwrap_or(i64::MAX);
        // Zero would mean: no limit.
        let query = query.extra("tx_timeout", limit.max(1));
        collect(&graph, access, query).await.map_err(|error| {
            if may_have_moved(&error) {
                self.forget_server();
            }
            translate(error)
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In a cluster the next statement asks again who takes writes.
    fn forget_server(&self) {
        if self.settings.routed
            && let Some(server) = &mut self.state().server
        {
            server.until = Some(Duration::ZERO);
        }
    }

    async fn graph(&self) -> BackendResult<Graph> {
        let now = self.runtime.monotonic();
        let routers = {
            let state = self.state();
            if state.closed {
                return Err(closed());
            }
            match &state.server {
                Some(server) if server.until.is_none_or(|until| now < until) => {
                    return Ok(server.graph.clone());
                }
                _ => state.routers.clone(),
            }
        };
        let (address, until) = if self.settings.routed {
            let found = routing::find(self, routers).await?;
            self.state().routers = found.routers;
            (found.writer, Some(now + found.valid_for))
        } else {
            (self.settings.address.clone(), None)
        };
        // The same server as before: its connections are good.
        if let Some(server) = &mut self.state().server
            && server.address == address
        {
            server.until = until;
            return Ok(server.graph.clone());
        }
        let graph = self.connect(&address, self.pool_size).await?;
        let mut state = self.state();
        if state.closed {
            return Err(closed());
        }
        state.server = Some(Server {
            address,
            graph: graph.clone(),
            until,
        });
        Ok(graph)
    }

    /// A pool for one server; nothing is connected yet.
    pub(super) async fn connect(&self, address: &Address, most: usize) -> BackendResult<Graph> {
        let settings = &self.settings;
        let scheme = if settings.tls { "bolt+s" } else { "bolt" };
        let mut builder = ConfigBuilder::new()
            .uri(format!("{scheme}://{}:{}", address.host, address.port))
            .user(&*settings.username)
            .password(settings.password.reveal())
            .max_connections(most)
            .fetch_size(FETCH_SIZE)
            .connection_timeout(self.timeout);
        if let Some(database) = &settings.database {
            builder = builder.db(&**database);
        }
        let authority = settings.tls_ca_file.clone();
        if let Some(path) = &authority {
            builder = builder.with_client_certificate(path);
        }
        let tls = settings.tls;
        // Reads the file with the certificates, or those of the system.
        let work = self.runtime.blocking(move || {
            if tls {
                check_provider()?;
            }
            if let Some(path) = &authority {
                check_certificates(path)?;
            }
            let configuration = builder.build().map_err(translate)?;
            Graph::connect(configuration).map_err(translate)
        });
        work.await.unwrap_or_else(|_| {
            Err(BackendError::new(
                BackendErrorKind::Unavailable,
                "the program is shutting down",
            )
            .not_applied())
        })
    }

    /// Waits for the statements under way, as long as an attempt may take, and takes no more.
    pub(super) async fn close(&self) {
        let all = u32::try_from(self.pool_size).unwrap_or(u32::MAX);
        let under_way = self.permits.acquire_many(all);
        // What still runs after that time, the server ends.
        let _ = self.runtime.timeout(self.timeout, under_way).await;
        self.permits.close();
        let mut state = self.state();
        state.closed = true;
        state.server = None;
    }
}

async fn collect(graph: &Graph, access: Access, query: Query) -> Result<Vec<Row>, Error> {
    let mut stream = match access {
        Access::Read => graph.execute_read(query).await?,
        Access::Write => graph.execute(query).await?,
    };
    let mut rows = Vec::new();
    while let Some(row) = stream.next().await? {
        rows.push(row);
    }
    Ok(rows)
}

/// Whether another member of the cluster may have to be asked from now on.
fn may_have_moved(error: &Error) -> bool {
    match error {
        Error::Neo4j(answer) => {
            matches!(answer.kind(), Neo4jErrorKind::Client(_))
                && (answer.code().ends_with("NotALeader") || answer.code().contains("ReadOnly"))
                || answer.code().ends_with("DatabaseUnavailable")
        }
        Error::IOError { .. } | Error::ConnectionTimedOut => true,
        _ => false,
    }
}

pub(super) fn closed() -> BackendError {
    BackendError::new(BackendErrorKind::Unavailable, "the store is closed").not_applied()
}

/// The client asks rustls for the process's provider, and rustls panics if it cannot tell which one
/// of several is meant.
fn check_provider() -> BackendResult<()> {
    if rustls::crypto::CryptoProvider::get_default().is_some() {
        return Ok(());
    }
    Err(config(
        "encryption needs a cryptography provider of the process; call \
         rustls::crypto::CryptoProvider::install_default at the program's start, for example \
         rustls::crypto::ring::default_provider().install_default()",
    ))
}

/// The client skips what is no certificate, and would then trust nobody without saying why.
fn check_certificates(path: &Path) -> BackendResult<()> {
    let refuse = |reason: String| {
        Err(config(&format!(
            "\"tls_ca_file\" {}: {reason}",
            path.display()
        )))
    };
    let certificates = match CertificateDer::pem_file_iter(path) {
        Ok(certificates) => certificates,
        Err(error) => return refuse(error.to_string()),
    };
    let mut store = rustls::RootCertStore::empty();
    for certificate in certificates {
        match certificate {
            Ok(certificate) => {
                if let Err(error) = store.add(certificate) {
                    return refuse(error.to_string());
                }
            }
            Err(error) => return refuse(error.to_string()),
        }
    }
    if store.is_empty() {
        return refuse("no certificate in it".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hello").unwrap();
        let error = check_certificates(file.path()).unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Config);
        assert!(error.message().contains("no certificate"), "{error}");
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(file.path(), broken).unwrap();
        let error = check_certificates(file.path()).unwrap_err();
        assert!(error.message().contains("tls_ca_file"), "{error}");
        let error = check_certificates(Path::new("/nowhere/ca.pem")).unwrap_err();
        assert!(error.message().contains("/nowhere/ca.pem"), "{error}");
    }
}
