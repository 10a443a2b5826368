//! The connection to the server: every command goes through here, within a time limit and no more
//! at once than there are connections.

use std::{
    fmt,
    future::Future,
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use dbmanager_core::{
    Runtime,
    backend::{BackendError, BackendErrorKind, BackendResult, OpenContext},
};
use futures_util::TryStreamExt;
use mongodb::{
    Client, Collection, Database,
    bson::{Bson, Document, RawArrayBuf, RawDocumentBuf, doc, rawdoc},
    options::{AggregateOptions, FindOptions},
};
use tokio::sync::Semaphore;

use super::{
    config::Target,
    convert::{concern_error, error, integer},
};

/// Bytes of statements in one command; the server takes 16 MiB and 16 KiB in all.
const MAX_COMMAND_BYTES: usize = 15 * 1024 * 1024;
/// The oldest MongoDB: the first whose reads and writes are of a majority by default, with the
/// aggregation stages that full-text search uses.
const OLDEST_MONGODB: i32 = 5;
/// The oldest FerretDB: version 1 loses concurrent updates.
const OLDEST_FERRETDB: &str = "2";

pub(super) struct Server {
    client: Client,
    database: Database,
    /// As many as there are connections: the driver itself would let calls wait without end.
    connections: Semaphore,
    pool_size: usize,
    time_limit: Duration,
    pub(super) runtime: Runtime,
    closed: AtomicBool,
    location: String,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the client: its options hold the password.
        f.debug_struct("Server")
            .field("location", &self.location)
            .field("pool_size", &self.pool_size)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

/// What became of the statements of one command.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The failed ones by their index, with the server's code and text.
    pub(super) errors: Vec<(usize, i32, String)>,
    /// Why a majority may not have what succeeded.
    pub(super) concern: Option<BackendError>,
    /// Documents that matched, inserted ones included.
    pub(super) matched: i64,
}

impl Server {
    /// Connects, and checks credentials and the server's version.
    pub(super) async fn connect(target: &Target, context: &OpenContext) -> BackendResult<Self> {
        let runtime = context.runtime.clone();
        let what = "connect to the server";
        check_authorities(target, &runtime).await?;
        let options = runtime
            .timeout(context.attempt_timeout, target.client_options(context))
            .await
            .map_err(|_| timed_out(what, context.attempt_timeout).not_applied())?
            .map_err(|e| error(what, e).not_applied())?;
        // Reads the files that the TLS options name.
        let client = runtime
            .blocking(move || Client::with_options(options))
            .await
            .map_err(|lost| {
                BackendError::new(BackendErrorKind::Unavailable, lost.to_string()).not_applied()
            })?
            .map_err(|e| error(what, e).not_applied())?;
        let pool_size = context.pool_size.max(1);
        let server = Self {
            database: client.database(&target.database),
            client,
            connections: Semaphore::new(pool_size),
            pool_size,
            time_limit: context.attempt_timeout,
            runtime,
            closed: AtomicBool::new(false),
            location: target.location.clone(),
        };
        let build = server.command(what, doc! { "buildInfo": 1 }).await?;
        check_version(&build)?;
        Ok(server)
    }

    /// A collection of the database by its physical name.
    pub(super) fn collection(&self, name: &str) -> Collection<Document> {
        self.database.collection(name)
    }

    /// The database.
    pub(super) fn database(&self) -> &Database {
        &self.database
    }

    /// Runs one call of the driver on a connection of its own.
    pub(super) async fn run<T>(
        &self,
        what: &str,
        call: impl Future<Output = mongodb::error::Result<T>>,
    ) -> BackendResult<T> {
        self.try_run(what, call).await?.map_err(|e| error(what, e))
    }

    /// As [`Server::run`], for callers to whom some error of the driver is an answer.
    pub(super) async fn try_run<T>(
        &self,
        what: &str,
        call: impl Future<Output = mongodb::error::Result<T>>,
    ) -> BackendResult<mongodb::error::Result<T>> {
        self.check_open()?;
        let free = self
            .runtime
            .timeout(self.time_limit, self.connections.acquire())
            .await;
        let _permit = match free {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(closed()),
            Err(_) => {
                let message = format!(
                    "{what}: all {} connections were in use for {:?}",
                    self.pool_size, self.time_limit
                );
                return Err(BackendError::new(BackendErrorKind::Overloaded, message).not_applied());
            }
        };
        // Between the check above and here the store may have been closed.
        self.check_open()?;
        self.runtime
            .timeout(self.time_limit, call)
            .await
            .map_err(|_| timed_out(what, self.time_limit))
    }

    /// Runs a command that changes nothing.
    pub(super) async fn command(&self, what: &str, command: Document) -> BackendResult<Document> {
        self.run(what, async { self.database.run_command(command).await })
            .await
    }

    /// Every document that a query finds.
    pub(super) async fn find(
        &self,
        what: &str,
        collection: &str,
        filter: Document,
        mut options: FindOptions,
    ) -> BackendResult<Vec<Document>> {
        options.max_time = Some(self.time_limit);
        self.run(what, async {
            let collection = self.collection(collection);
            let found = collection.find(filter).with_options(options);
            found.await?.try_collect().await
        })
        .await
    }

    /// Every document that a pipeline ends with.
    pub(super) async fn aggregate(
        &self,
        what: &str,
        collection: &str,
        pipeline: Vec<Document>,
    ) -> BackendResult<Vec<Document>> {
        let options = AggregateOptions::builder()
            .max_time(self.time_limit)
            .build();
        self.run(what, async {
            let collection = self.collection(collection);
            let found = collection.aggregate(pipeline).with_options(options);
            found.await?.try_collect().await
        })
        .await
    }

    /// Runs `update` or `delete` with these statements, each on its own, in as few commands as
    /// their size allows; each answer comes with the statements it is for.
    /// A command that fails as a whole ends neither those before nor those after it.
    pub(super) async fn write(
        &self,
        verb: &'static str,
        collection: &str,
        statements: &[RawDocumentBuf],
    ) -> Vec<(Range<usize>, BackendResult<Outcome>)> {
        let mut answers = Vec::new();
        let mut start = 0;
        while start < statements.len() {
            let mut bytes = 0;
            let fitting = statements[start..]
                .iter()
                .take_while(|statement| {
                    bytes += statement.as_bytes().len() + 16;
                    bytes <= MAX_COMMAND_BYTES
                })
                .count();
            let end = start + fitting.max(1);
            let outcome = self
                .write_once(verb, collection, &statements[start..end])
                .await;
            answers.push((start..end, outcome));
            start = end;
        }
        answers
    }

    async fn write_once(
        &self,
        verb: &'static str,
        collection: &str,
        statements: &[RawDocumentBuf],
    ) -> BackendResult<Outcome> {
        let mut list = RawArrayBuf::new();
        for statement in statements {
            list.push(statement.clone());
        }
        let limit = i64::try_from(self.time_limit.as_millis()).unwrap_or(i64::MAX);
        let mut command = RawDocumentBuf::new();
        match verb {
            "update" => {
                command.append(mongodb::bson::cstr!("update"), collection);
                command.append(mongodb::bson::cstr!("updates"), list);
            }
            _ => {
                command.append(mongodb::bson::cstr!("delete"), collection);
                command.append(mongodb::bson::cstr!("deletes"), list);
            }
        }
        command.append(mongodb::bson::cstr!("ordered"), false);
        command.append(mongodb::bson::cstr!("maxTimeMS"), limit);
        command.append(
            mongodb::bson::cstr!("writeConcern"),
            rawdoc! { "w": "majority", "j": true, "wtimeout": limit },
        );
        let reply = self
            .run(verb, async { self.database.run_raw_command(command).await })
            .await?;
        outcome(&reply)
    }

    pub(super) fn check_open(&self) -> BackendResult<()> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(closed());
        }
        Ok(())
    }

    /// Ends every connection once running calls have ended.
    pub(super) async fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        // A call that was let in holds a permit until it has ended, at the latest after the time
        // limit; so whichever way this wait ends, nothing is written any more.
        let all = u32::try_from(self.pool_size).unwrap_or(u32::MAX);
        let ended = self.connections.acquire_many(all);
        let _permits = self.runtime.timeout(self.time_limit, ended).await;
        self.connections.close();
        self.client.clone().shutdown().immediate(true).await;
    }
}

fn closed() -> BackendError {
    BackendError::new(BackendErrorKind::Unavailable, "the store is closed").not_applied()
}

fn timed_out(what: &str, limit: Duration) -> BackendError {
    BackendError::new(
        BackendErrorKind::Timeout,
        format!("{what}: no answer within {limit:?}"),
    )
}

/// The reply to `update` or `delete`.
fn outcome(reply: &Document) -> BackendResult<Outcome> {
    let unclear = || {
        BackendError::new(
            BackendErrorKind::Protocol,
            "the server's answer to a write is not understood",
        )
    };
    let mut outcome = Outcome {
        matched: integer(reply, "n").ok_or_else(unclear)?,
        ..Outcome::default()
    };
    if let Some(errors) = reply.get("writeErrors") {
        for item in errors.as_array().ok_or_else(unclear)? {
            let item = item.as_document().ok_or_else(unclear)?;
            let index = integer(item, "index")
                .and_then(|index| usize::try_from(index).ok())
                .ok_or_else(unclear)?;
            let (code, message) = code_and_text(item).ok_or_else(unclear)?;
            outcome.errors.push((index, code, message));
        }
    }
    if let Some(Bson::Document(concern)) = reply.get("writeConcernError") {
        let (code, message) = code_and_text(concern).ok_or_else(unclear)?;
        outcome.concern = Some(concern_error("write", code, &message));
    }
    Ok(outcome)
}

fn code_and_text(error: &Document) -> Option<(i32, String)> {
    let code = i32::try_from(integer(error, "code")?).ok()?;
    let text = error.get_str("errmsg").unwrap_or_default();
    Some((code, text.to_owned()))
}

/// The driver takes a file without certificates as "trust nobody", and says so only much later.
async fn check_authorities(target: &Target, runtime: &Runtime) -> BackendResult<()> {
    let Some(path) = target.certificate_authorities() else {
        return Ok(());
    };
    let name = path.display().to_string();
    let wrong = |why: String| {
        let message = format!("the file of TLS authorities {name:?}: {why}");
        BackendError::new(BackendErrorKind::Config, message).not_applied()
    };
    let read = runtime.blocking(move || std::fs::read(path)).await;
    let bytes = read
        .map_err(|lost| wrong(lost.to_string()))?
        .map_err(|e| wrong(e.to_string()))?;
    let marker = b"-----BEGIN CERTIFICATE-----";
    if bytes.windows(marker.len()).any(|window| window == marker) {
        Ok(())
    } else {
        Err(wrong("holds no certificate in PEM".to_owned()))
    }
}

/// Refuses servers that lack what this adapter needs.
fn check_version(build: &Document) -> BackendResult<()> {
    let wrong =
        |message: String| Err(BackendError::new(BackendErrorKind::Config, message).not_applied());
    if let Ok(ferretdb) = build.get_document("ferretdb") {
        let version = ferretdb.get_str("version").unwrap_or("unknown");
        let major = version.trim_start_matches('v').split('.').next();
        return match major.and_then(|major| major.parse::<u32>().ok()) {
            Some(0 | 1) => wrong(format!(
                "FerretDB {OLDEST_FERRETDB} or newer is needed, this is {version}"
            )),
            _ => Ok(()),
        };
    }
    let version = build.get_str("version").unwrap_or("unknown");
    let major = build
        .get_array("versionArray")
        .ok()
        .and_then(|parts| parts.first())
        .and_then(Bson::as_i32);
    match major {
        Some(major) if major >= OLDEST_MONGODB => Ok(()),
        _ => wrong(format!(
            "MongoDB {OLDEST_MONGODB}.0 or newer is needed, this is {version}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_are_too_old_are_named() {
        let mongodb = |version: &str, parts: [i32; 2]| {
            doc! { "version": version, "versionArray": parts.to_vec() }
        };
        assert!(check_version(&mongodb("5.0.3", [5, 0])).is_ok());
        let error = check_version(&mongodb("4.4.29", [4, 4])).unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Config);
        assert!(error.message().contains("5.0") && error.message().contains("4.4.29"));
        let mut ferretdb = mongodb("7.0.77", [7, 0]);
        ferretdb.insert("ferretdb", doc! { "version": "v1.24.0" });
        let error = check_version(&ferretdb).unwrap_err();
        assert!(error.message().contains("v1.24.0"), "{error}");
        ferretdb.insert("ferretdb", doc! { "version": "v2.7.0" });
        assert!(check_version(&ferretdb).is_ok());
        assert!(check_version(&doc! {}).is_err());
    }

    #[test]
    fn a_reply_is_read_item_by_item() {
        let found = outcome(&doc! {
            "ok": 1.0, "n": 3_i32,
            "writeErrors": [{"index": 1_i32, "code": 11_000_i32, "errmsg": "twice"}],
            "writeConcernError": {"code": 64_i32, "errmsg": "waiting"},
        })
        .unwrap();
        assert_eq!(found.matched, 3);
        assert_eq!(found.errors, [(1, 11_000, "twice".to_owned())]);
        assert_eq!(found.concern.unwrap().kind(), BackendErrorKind::Timeout);
        assert!(outcome(&doc! { "ok": 1.0 }).is_err());
        assert!(outcome(&doc! { "n": 0_i32, "writeErrors": [1_i32] }).is_err());
    }
}
