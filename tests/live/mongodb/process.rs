//! A FerretDB of the test's own, which can be stopped, held up and started again. It keeps its data
//! in the PostgreSQL of the shared one.

use std::{
    env,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use dbmanager_core::Runtime;
use mongodb::options::ClientOptions;
use tokio::net::TcpStream;

use super::server::Server;
use crate::environment::FERRETDB;

pub(super) struct Process {
    binary: std::path::PathBuf,
    postgres: String,
    port: u16,
    state: tempfile::TempDir,
    child: Option<Child>,
    pub(super) server: Server,
}

impl Process {
    /// Starts one; `None`, with a line in the report, where there is none to start.
    pub(super) async fn start() -> Option<Self> {
        let uri = FERRETDB.address()?;
        let binary = FERRETDB.software("ferretdb/software/ferretdb")?;
        let credential = ClientOptions::parse(&uri)
            .await
            .unwrap()
            .credential
            .unwrap();
        let password = credential.password.unwrap();
        let postgres = env::var("DBMANAGER_SERVERS_FERRETDB_POSTGRES_PORT");
        let postgres = postgres.unwrap_or_else(|_| "25433".to_owned());
        let port = free_port();
        let mut process = Self {
            binary,
            postgres: format!("postgres://postgres:{password}@127.0.0.1:{postgres}/postgres"),
            port,
            state: tempfile::tempdir().unwrap(),
            child: None,
            server: Server {
                name: "ferretdb",
                uri: format!("mongodb://postgres:{password}@127.0.0.1:{port}/"),
            },
        };
        process.resume_from_kill().await;
        Some(process)
    }

    /// Starts it (again) on its port, and waits until it answers.
    pub(super) async fn resume_from_kill(&mut self) {
        let child = Command::new(&self.binary)
            .env("FERRETDB_POSTGRESQL_URL", &self.postgres)
            .arg(format!("--state-dir={}", self.state.path().display()))
            .arg(format!("--listen-addr=127.0.0.1:{}", self.port))
            .args(["--debug-addr=-", "--telemetry=disable", "--log-level=ERROR"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let runtime = Runtime::tokio();
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return;
            }
            runtime.sleep(Duration::from_millis(50)).await;
        }
        panic!("FerretDB does not listen");
    }

    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// It keeps its connections and answers nothing, once this has returned.
    pub(super) async fn hold_up(&self) {
        self.signal("-STOP");
        while !self.is_held_up() {
            tokio::task::yield_now().await;
        }
    }

    /// The signal reaches each thread in its own time.
    fn is_held_up(&self) -> bool {
        let tasks = format!("/proc/{}/task", self.child.as_ref().unwrap().id());
        std::fs::read_dir(tasks).unwrap().all(|task| {
            // A thread that has just ended has no state.
            let state = std::fs::read_to_string(task.unwrap().path().join("stat"));
            state.is_ok_and(|state| state.contains(") T "))
        })
    }

    pub(super) fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let process = self.child.as_ref().unwrap().id().to_string();
        let sent = Command::new("kill").args([signal, &process]).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
