//! Connections: a fixed number of multiplexed ones, each made when it is first used and again
//! after it broke.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use dbmanager_backend_support::connection::check_protected;
use dbmanager_core::{
    Runtime,
    backend::{BackendError, BackendErrorKind, BackendResult, OpenContext},
};
use redis::{
    AsyncConnectionConfig, Cmd, Pipeline, ProtocolVersion, RedisConnectionInfo, RedisResult, Value,
    aio::MultiplexedConnection,
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{Semaphore, SemaphorePermit},
};
use tokio_rustls::TlsConnector;

use super::{
    config::Config,
    convert::{self, answer, call_error, connect_error},
    script::Scripts,
    tls,
};

/// Requests under way per connection before callers wait.
const REQUESTS_PER_CONNECTION: usize = 64;
/// How often a request is sent again because the server forgot the scripts or moved the keys.
const MOST_REPEATS: usize = 4;
/// What every request after closing is told.
pub(super) const CLOSED: &str = "the store is closed";

/// The connections of one store.
pub(super) struct Session {
    /// Where the keys are: the configured server, or the node of a cluster that it named.
    address: Mutex<(String, u16)>,
    login: RedisConnectionInfo,
    tls: Option<Arc<ClientConfig>>,
    allow_plain_text: bool,
    runtime: Runtime,
    timeout: Duration,
    scripts: Scripts,
    /// The last one is for what blocks its connection: waiting for the append-only file.
    lines: Vec<tokio::sync::Mutex<Option<Line>>>,
    next: AtomicUsize,
    connected: AtomicU64,
    run: Mutex<Run>,
    requests: Semaphore,
    most_requests: u32,
}

/// Which run of the server the connections belong to.
#[derive(Debug, Default)]
struct Run {
    /// The server's name for it, as far as the user may ask.
    id: Option<String>,
    /// From here on another run than the one before is noticed.
    opened: bool,
    /// How often it may have been another one.
    doubts: u64,
    /// The doubts before which the store was found to be the one it was.
    trusted: u64,
}

/// A connection, and how many were made before it.
#[derive(Clone)]
struct Line {
    connection: MultiplexedConnection,
    number: u64,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("address", &self.address)
            .field("lines", &self.lines.len())
            .finish_non_exhaustive()
    }
}

impl Session {
    pub(super) async fn new(config: &Config, context: &OpenContext) -> BackendResult<Self> {
        let tls = match &config.tls {
            Some(files) => Some(tls::client_config(files.clone(), &context.runtime).await?),
            None => None,
        };
        let mut login = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_skip_set_lib_name()
            .set_db(i64::from(config.database));
        if let Some(username) = &config.username {
            login = login.set_username(username);
        }
        if let Some(password) = &config.password {
            login = login.set_password(password.reveal());
        }
        let lines = context.pool_size.max(1);
        let most_requests = lines * REQUESTS_PER_CONNECTION;
        Ok(Self {
            address: Mutex::new((config.host.clone(), config.port)),
            login,
            tls,
            allow_plain_text: config.allow_plain_text,
            runtime: context.runtime.clone(),
            timeout: context.attempt_timeout,
            scripts: Scripts::new(),
            lines: (0..=lines).map(|_| tokio::sync::Mutex::new(None)).collect(),
            next: AtomicUsize::new(0),
            connected: AtomicU64::new(0),
            run: Mutex::default(),
            requests: Semaphore::new(most_requests),
            most_requests: u32::try_from(most_requests).unwrap_or(u32::MAX),
        })
    }

    pub(super) fn scripts(&self) -> &Scripts {
        &self.scripts
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// How many connections were made so far: as long as it stays the same, the server was not
    /// restarted between two requests.
    pub(super) fn connected(&self) -> u64 {
        self.connected.load(Ordering::SeqCst)
    }

    /// Makes every connection. From now on one that is made again to another run of the server
    /// brings doubt: the server may have lost what it had not written to its disk, and until
    /// [`Session::call_in_doubt`] has shown whose store it is, every other request is refused.
    /// Otherwise a repeated request would hide the restart.
    pub(super) async fn connect_all(&self) -> BackendResult<()> {
        for index in 0..self.lines.len() {
            self.line(index).await?;
        }
        self.run().opened = true;
        Ok(())
    }

    /// One request that settles the doubt, if it is answered.
    pub(super) async fn call_in_doubt(&self, command: Cmd) -> BackendResult<Value> {
        let _permit = self.permit().await?;
        for _ in 0..=MOST_REPEATS {
            if self.check_trusted().is_err() {
                for line in &self.lines {
                    line.lock().await.take();
                }
                self.connect_all().await?;
            }
            let doubts = self.run().doubts;
            let index = self.any_line();
            let mut answers = self
                .send_unchecked(&batch(std::slice::from_ref(&command)), index)
                .await?;
            let value = answers.pop().unwrap_or(Value::Nil);
            if refused_for_now(&value).is_some() {
                self.make_ready(&value, index).await?;
                continue;
            }
            let value = answer(value)?;
            let mut run = self.run();
            run.trusted = run.trusted.max(doubts);
            // A doubt that came up meanwhile is settled by asking again.
            if run.trusted == run.doubts {
                return Ok(value);
            }
        }
        Err(
            BackendError::new(BackendErrorKind::Unavailable, "the server keeps changing")
                .not_applied(),
        )
    }

    fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_trusted(&self) -> BackendResult<()> {
        let run = self.run();
        if run.trusted == run.doubts {
            return Ok(());
        }
        Err(BackendError::new(
            BackendErrorKind::Unavailable,
            "the server was restarted or replaced; whose store it is must be checked first",
        )
        .not_applied())
    }

    /// Takes note of the run that a new connection belongs to.
    fn note_run(&self, id: Option<String>) {
        let mut run = self.run();
        if run.opened && (id.is_none() || id != run.id) {
            run.doubts += 1;
        }
        run.id = id;
    }

    /// One request.
    pub(super) async fn call(&self, command: Cmd) -> BackendResult<Value> {
        let answers = self.all(vec![command], self.any_line()).await?;
        answers
            .into_iter()
            .next()
            .unwrap_or_else(|| Err(convert::unexpected("a request", &Value::Nil)))
    }

    /// Several requests, each with its answer, in their order.
    ///
    /// # Errors
    /// Nothing is known of any of them beyond the error's effect.
    pub(super) async fn call_all(
        &self,
        commands: Vec<Cmd>,
    ) -> BackendResult<Vec<BackendResult<Value>>> {
        self.all(commands, self.any_line()).await
    }

    /// Several requests in exactly this order on the connection that may wait: none is repeated.
    pub(super) async fn call_waiting(
        &self,
        commands: Vec<Cmd>,
    ) -> BackendResult<Vec<BackendResult<Value>>> {
        let _permit = self.permit().await?;
        let line = self.lines.len() - 1;
        let answers = self.send(&batch(&commands), line).await?;
        if let Some(refused) = answers
            .iter()
            .find(|value| refused_for_now(value).is_some())
        {
            self.make_ready(refused, line).await?;
        }
        Ok(answers.into_iter().map(answer).collect())
    }

    /// Waits for the requests under way and refuses later ones.
    pub(super) async fn close(&self) {
        let every = self.requests.acquire_many(self.most_requests);
        // Requests end by their own time limit; one that does not must not hold up closing.
        let ended = self.runtime.timeout(self.timeout * 2, every).await;
        self.requests.close();
        drop(ended);
        for line in &self.lines {
            line.lock().await.take();
        }
    }

    fn any_line(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed) % (self.lines.len() - 1)
    }

    async fn all(
        &self,
        commands: Vec<Cmd>,
        line: usize,
    ) -> BackendResult<Vec<BackendResult<Value>>> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let _permit = self.permit().await?;
        let mut answers = self.send(&batch(&commands), line).await?;
        for _ in 0..MOST_REPEATS {
            let again: Vec<usize> = (0..answers.len())
                .filter(|index| refused_for_now(&answers[*index]).is_some())
                .collect();
            let Some(first) = again.first() else { break };
            if let Err(error) = self.make_ready(&answers[*first], line).await {
                return Ok(partly(answers, &again, &error));
            }
            let repeated: Vec<Cmd> = again.iter().map(|index| commands[*index].clone()).collect();
            match self.send(&batch(&repeated), line).await {
                Ok(found) => {
                    for (index, value) in again.into_iter().zip(found) {
                        answers[index] = value;
                    }
                }
                Err(error) => return Ok(partly(answers, &again, &error)),
            }
        }
        Ok(answers.into_iter().map(answer).collect())
    }

    /// Removes the reason for which the server did nothing.
    async fn make_ready(&self, refused: &Value, line: usize) -> BackendResult<()> {
        match refused_for_now(refused) {
            Some(NotNow::Moved(to)) => self.move_to(to).await,
            Some(NotNow::ScriptForgotten) => self.load_scripts(line).await,
            None => Ok(()),
        }
    }

    /// All keys are in one slot, so one node has them all: later connections are made to it.
    async fn move_to(&self, (host, port): (Option<String>, u16)) -> BackendResult<()> {
        let host = host.unwrap_or_else(|| self.address().0);
        check_protected(&host, self.tls.is_some(), self.allow_plain_text)?;
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = (host, port);
        for line in &self.lines {
            line.lock().await.take();
        }
        Ok(())
    }

    async fn load_scripts(&self, line: usize) -> BackendResult<()> {
        let load = self.scripts.load();
        for value in self.send_unchecked(&load, line).await? {
            answer(value)?;
        }
        Ok(())
    }

    fn address(&self) -> (String, u16) {
        self.address
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn permit(&self) -> BackendResult<SemaphorePermit<'_>> {
        // Less than the time after which the caller gives up, so that it hears the reason.
        let patience = self.timeout / 4 * 3;
        match self
            .runtime
            .timeout(patience, self.requests.acquire())
            .await
        {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => {
                Err(BackendError::new(BackendErrorKind::Unavailable, CLOSED).not_applied())
            }
            Err(_) => Err(BackendError::new(
                BackendErrorKind::Overloaded,
                format!(
                    "all {} requests that the connections take are under way",
                    self.most_requests
                ),
            )
            .not_applied()),
        }
    }

    /// Sends the requests over this line and waits for the answers, unless the store is in doubt.
    async fn send(&self, batch: &Pipeline, index: usize) -> BackendResult<Vec<Value>> {
        self.line(index).await?;
        self.check_trusted()?;
        self.send_unchecked(batch, index).await
    }

    async fn send_unchecked(&self, batch: &Pipeline, index: usize) -> BackendResult<Vec<Value>> {
        let mut line = self.line(index).await?;
        let answers: RedisResult<Vec<Value>> = line
            .connection
            .send_packed_commands(batch, 0, batch.len())
            .await;
        match answers {
            Ok(answers) if answers.len() == batch.len() => Ok(answers),
            Ok(answers) => Err(BackendError::new(
                BackendErrorKind::Protocol,
                format!("{} answers to {} requests", answers.len(), batch.len()),
            )),
            Err(error) => {
                if error.is_unrecoverable_error() || error.is_timeout() {
                    let mut held = self.lines[index].lock().await;
                    if held.as_ref().is_some_and(|held| held.number == line.number) {
                        held.take();
                    }
                }
                Err(call_error(&error))
            }
        }
    }

    /// The connection of this line, made now if there is none.
    async fn line(&self, index: usize) -> BackendResult<Line> {
        let mut held = self.lines[index].lock().await;
        if let Some(line) = &*held {
            return Ok(line.clone());
        }
        let connection = self
            .runtime
            .timeout(self.timeout, self.connect())
            .await
            .map_err(|_| {
                let (host, port) = self.address();
                BackendError::new(
                    BackendErrorKind::Timeout,
                    format!("{host}:{port} did not accept a connection in time"),
                )
                .not_applied()
            })??;
        let line = Line {
            connection,
            number: self.connected.fetch_add(1, Ordering::SeqCst),
        };
        *held = Some(line.clone());
        Ok(line)
    }

    async fn connect(&self) -> BackendResult<MultiplexedConnection> {
        let (host, port) = self.address();
        let unreachable = |error: std::io::Error| {
            BackendError::new(
                BackendErrorKind::Unavailable,
                format!("{host}:{port} cannot be reached: {error}"),
            )
            .not_applied()
        };
        let stream = TcpStream::connect((host.as_str(), port))
            .await
            .map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        match &self.tls {
            None => self.log_in(stream).await,
            Some(config) => {
                let name = ServerName::try_from(host.clone()).map_err(|_| {
                    super::config::wrong(format!("host {host:?} is no name for TLS"))
                })?;
                let stream = TlsConnector::from(Arc::clone(config))
                    .connect(name, stream)
                    .await
                    .map_err(|error| tls_error(&host, port, &error))?;
                self.log_in(stream).await
            }
        }
    }

    async fn log_in(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> BackendResult<MultiplexedConnection> {
        let limits = AsyncConnectionConfig::new().set_response_timeout(Some(self.timeout));
        let (mut connection, driver) =
            MultiplexedConnection::new_with_config(&self.login, stream, limits)
                .await
                .map_err(|error| connect_error(&error))?;
        drop(self.runtime.spawn(driver));
        let mut info = redis::cmd("INFO");
        info.arg("server");
        let info = connection
            .send_packed_command(&info)
            .await
            .map_err(|error| connect_error(&error))?;
        self.note_run(run_id(info));
        Ok(connection)
    }
}

/// The server's name for its run, in the answer of `INFO server`; `None` where the user may not
/// ask.
fn run_id(info: Value) -> Option<String> {
    let text = match info {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok()?,
        Value::VerbatimString { text, .. } | Value::SimpleString(text) => text,
        _ => return None,
    };
    let id = text.lines().find_map(|line| line.strip_prefix("run_id:"))?;
    Some(id.trim().to_owned())
}

/// Why the server did nothing, though it would soon.
enum NotNow {
    Moved((Option<String>, u16)),
    ScriptForgotten,
}

fn refused_for_now(value: &Value) -> Option<NotNow> {
    let Value::ServerError(error) = value else {
        return None;
    };
    match error.code() {
        "NOSCRIPT" => Some(NotNow::ScriptForgotten),
        "MOVED" => error.details().and_then(redirection).map(NotNow::Moved),
        _ => None,
    }
}

fn batch(commands: &[Cmd]) -> Pipeline {
    let mut batch = Pipeline::with_capacity(commands.len());
    for command in commands {
        batch.add_command(command.clone());
    }
    batch
}

/// The answers where those to some requests were lost when they were repeated.
fn partly(answers: Vec<Value>, lost: &[usize], error: &BackendError) -> Vec<BackendResult<Value>> {
    let mut known: Vec<_> = answers.into_iter().map(answer).collect();
    for index in lost {
        known[*index] = Err(error.clone());
    }
    known
}

/// A certificate that does not hold is a matter of configuration, not of waiting.
fn tls_error(host: &str, port: u16, error: &std::io::Error) -> BackendError {
    let by_rustls = error
        .get_ref()
        .is_some_and(|inner| inner.is::<rustls::Error>());
    let kind = if by_rustls {
        BackendErrorKind::Config
    } else {
        BackendErrorKind::Unavailable
    };
    BackendError::new(kind, format!("TLS with {host}:{port}: {error}")).not_applied()
}

/// `slot host:port` of a `MOVED` answer; without a host it is the same host.
fn redirection(details: &str) -> Option<(Option<String>, u16)> {
    let (_slot, target) = details.split_once(' ')?;
    let (host, port) = target.trim().rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some((
        (!host.is_empty()).then(|| host.to_owned()),
        port.parse().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_is_read_if_it_is_told() {
        let info = "# Server\r\nredis_version:8.2.3\r\nrun_id:abc\r\ntcp_port:1\r\n";
        let told = Value::BulkString(info.as_bytes().to_vec());
        assert_eq!(run_id(told).as_deref(), Some("abc"));
        assert_eq!(run_id(Value::Nil), None);
    }

    #[test]
    fn a_redirection_names_host_and_port() {
        let host = |name: &str| Some(name.to_owned());
        assert_eq!(
            redirection("3999 127.0.0.1:6381"),
            Some((host("127.0.0.1"), 6381))
        );
        assert_eq!(redirection("3999 :6381"), Some((None, 6381)));
        assert_eq!(redirection("3999 ::1:6381"), Some((host("::1"), 6381)));
        assert_eq!(redirection("nonsense"), None);
    }
}
