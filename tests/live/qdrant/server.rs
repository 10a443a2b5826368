//! A server of a test's own, to be killed, stopped and started again.

use std::{
    env,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use dbmanager_core::Runtime;
use tempfile::TempDir;

use crate::environment::report;

/// A process of the server with data of its own.
pub(super) struct Server {
    binary: PathBuf,
    data: TempDir,
    host: String,
    grpc: u16,
    settings: Vec<(String, String)>,
    process: Option<Child>,
}

/// Two neighbouring free ports: HTTP, then gRPC.
fn ports(host: &str) -> u16 {
    loop {
        let first = TcpListener::bind((host, 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        if port < u16::MAX && TcpListener::bind((host, port + 1)).is_ok() {
            return port;
        }
    }
}

impl Server {
    /// A running server on this loopback address; `None`, with a line in the report, if there is
    /// no binary.
    pub(super) async fn start(test: &str, host: &str, settings: &[(&str, &str)]) -> Option<Self> {
        let binary = PathBuf::from(env::var_os("DBMANAGER_TEST_QDRANT_BINARY").unwrap_or_default());
        if !binary.is_file() {
            report(&format!(
                "qdrant: {test}: not tested: DBMANAGER_TEST_QDRANT_BINARY names no binary"
            ));
            return None;
        }
        let settings = settings.iter();
        let mut server = Self {
            binary,
            data: tempfile::tempdir().unwrap(),
            host: host.to_owned(),
            grpc: ports(host) + 1,
            settings: settings
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            process: None,
        };
        server.resume().await;
        Some(server)
    }

    pub(super) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}:{}", self.host, self.grpc)
    }

    /// Starts the process on the data it had, and returns when its port takes connections.
    pub(super) async fn resume(&mut self) {
        assert!(self.process.is_none());
        let path = |name: &str| self.data.path().join(name);
        let mut command = Command::new(&self.binary);
        command
            .current_dir(self.data.path())
            .env("QDRANT__SERVICE__HOST", &self.host)
            .env("QDRANT__SERVICE__HTTP_PORT", (self.grpc - 1).to_string())
            .env("QDRANT__SERVICE__GRPC_PORT", self.grpc.to_string())
            .env("QDRANT__STORAGE__STORAGE_PATH", path("storage"))
            .env("QDRANT__STORAGE__SNAPSHOTS_PATH", path("snapshots"))
            .env("QDRANT__TELEMETRY_DISABLED", "true")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        for (key, value) in &self.settings {
            command.env(key, value);
        }
        self.process = Some(command.spawn().unwrap());
        let runtime = Runtime::tokio();
        for _ in 0..1_200 {
            let connected = tokio::net::TcpStream::connect((&*self.host, self.grpc)).await;
            if connected.is_ok() {
                return;
            }
            runtime.sleep(Duration::from_millis(50)).await;
        }
        panic!("the server does not start");
    }

    /// Ends the process at once, as a crash would.
    pub(super) fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Sends the process a signal, such as `STOP` or `CONT`.
    pub(super) fn signal(&self, name: &str) {
        let process = self.process.as_ref().unwrap().id().to_string();
        let sent = Command::new("kill").args(["-s", name, &process]).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }
}

/// A certificate with its key for `localhost`, its authority, and another authority: made by
/// `scripts/servers`, beside the authority that the environment names.
pub(super) struct Certificates {
    pub(super) authority: PathBuf,
    pub(super) other_authority: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl Certificates {
    pub(super) fn find(test: &str) -> Option<Self> {
        let variable = |name| env::var_os(name).map(PathBuf::from).unwrap_or_default();
        let authority = variable("DBMANAGER_TEST_TLS_CA");
        let folder = authority.parent().unwrap_or(Path::new("")).to_path_buf();
        let found = Self {
            other_authority: variable("DBMANAGER_TEST_TLS_OTHER_CA"),
            certificate: folder.join("server.pem"),
            key: folder.join("server.key"),
            authority,
        };
        let all = [
            &found.authority,
            &found.other_authority,
            &found.certificate,
            &found.key,
        ];
        if all.iter().all(|path| path.is_file()) {
            return Some(found);
        }
        report(&format!(
            "qdrant: {test}: not tested: DBMANAGER_TEST_TLS_CA or what belongs to it is missing"
        ));
        None
    }
}
