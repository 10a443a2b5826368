//! A server of the test's own, stopped in the middle of writing and started again.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dbmanager_core::{
    backend::{BackendErrorKind, RelationalBackend},
    model::{Document, Tokenizer},
};
use sqlx::{Connection, PgConnection};

use super::place::{Place, context, ids, prepare, request, upsert, write};
use crate::environment::POSTGRES;

/// Where `scripts/servers` keeps the server's programs.
pub(crate) fn programs() -> Option<PathBuf> {
    POSTGRES.software("postgres/software/pgserver/pginstall/bin")
}

/// PostgreSQL does not run as root: then it runs as nobody.
fn command(program: &Path) -> Command {
    let id = Command::new("id").arg("-u").output().unwrap().stdout;
    if id != b"0\n" {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"])
        .arg(program);
    command
}

pub(crate) struct OwnServer {
    programs: PathBuf,
    directory: tempfile::TempDir,
    port: u16,
    process: Option<Child>,
}

impl OwnServer {
    pub(crate) fn new(programs: PathBuf) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Self {
            programs,
            directory,
            port,
            process: None,
        };
        let data = server.data();
        std::fs::create_dir(&data).unwrap();
        let owned = Command::new("sh")
            .arg("-c")
            .arg("[ $(id -u) != 0 ] || { chmod 755 \"$1\"; chown nobody \"$2\"; }")
            .arg("sh")
            .args([server.directory.path(), data.as_path()])
            .status();
        assert!(owned.unwrap().success());
        let made = command(&server.programs.join("initdb"))
            .arg("-D")
            .arg(&data)
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8"])
            .args(["--locale=C.UTF-8", "--no-sync"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(made.unwrap().success());
        server
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    pub(crate) async fn start(&mut self) {
        let process = command(&self.programs.join("postgres"))
            .arg("-D")
            .arg(self.data())
            .args(["-p", &self.port.to_string()])
            .args(["-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "unix_socket_directories="])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.process = Some(process.unwrap());
        let runtime = context().runtime;
        for _ in 0..600 {
            if PgConnection::connect(&self.url()).await.is_ok() {
                return;
            }
            runtime.sleep(Duration::from_millis(50)).await;
        }
        panic!("the server does not start");
    }

    /// Stops it as an operator does who does not wait for its sessions.
    pub(crate) async fn stop(&mut self) {
        let Some(mut process) = self.process.take() else {
            return;
        };
        let pid = process.id().to_string();
        let stopped = Command::new("kill").args(["-INT", &pid]).status();
        assert!(stopped.unwrap().success());
        tokio::task::spawn_blocking(move || process.wait())
            .await
            .unwrap()
            .unwrap();
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // The test has failed already; what is left over here is its report.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_of_writing_loses_nothing_and_needs_no_reopening() {
    let Some(programs) = programs() else { return };
    let mut server = OwnServer::new(programs);
    server.start().await;
    let place = Place::at(&server.url());
    let store = place.open().await;
    prepare(&*store, Tokenizer::Unicode).await;

    let confirmed = Arc::new(AtomicU64::new(0));
    let writing = tokio::spawn(write_on(Arc::clone(&store), Arc::clone(&confirmed)));
    let runtime = context().runtime;
    while confirmed.load(Ordering::SeqCst) < 5 {
        runtime.sleep(Duration::from_millis(1)).await;
    }
    server.stop().await;
    let error = store.probe().await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Unavailable, "{error}");
    server.start().await;
    let before = confirmed.load(Ordering::SeqCst);
    while confirmed.load(Ordering::SeqCst) < before + 5 {
        runtime.sleep(Duration::from_millis(1)).await;
    }
    writing.abort();
    let last = confirmed.load(Ordering::SeqCst);
    for head in store.heads(ids(["a", "b"])).await.unwrap() {
        let version = head.unwrap().version.as_u64();
        assert!(version >= last, "{version} after {last} was confirmed");
    }
    write(
        &*store,
        vec![upsert(u64::from(u32::MAX), Document::new("a"))],
    )
    .await;
    drop(place);
    server.stop().await;
}

/// Writes newer and newer versions; each error passes.
async fn write_on(store: Arc<dyn RelationalBackend>, confirmed: Arc<AtomicU64>) {
    let runtime = context().runtime;
    for version in 1.. {
        let mutations = ["a", "b"].map(|id| upsert(version, Document::new(id).text("words")));
        loop {
            match store.apply(request(mutations.to_vec())).await {
                Ok(answers) => {
                    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
                    break;
                }
                Err(error) => {
                    assert!(error.is_transient(), "{error}");
                    runtime.sleep(Duration::from_millis(5)).await;
                }
            }
        }
        confirmed.store(version, Ordering::SeqCst);
    }
}
