//! A server of our own that goes down, comes back, and takes no writes.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use dbmanager_core::{
    Runtime,
    backend::{Backend, GraphBackend, OpenContext},
    model::Document,
};

use super::{
    data::{head, ids, prepare, refused, upsert, write},
    server::{Server, open, open_with},
};
use crate::environment::{NEO4J, report};

/// How long a server may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// A Neo4j without passwords, in a directory that goes with it.
struct OwnServer {
    libraries: PathBuf,
    home: tempfile::TempDir,
    port: u16,
    process: Option<Child>,
}

impl OwnServer {
    fn new() -> Option<Self> {
        let libraries = NEO4J.software("neo4j/software/lib")?;
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Some(Self {
            libraries,
            home: tempfile::tempdir().unwrap(),
            port: free.local_addr().unwrap().port(),
            process: None,
        })
    }

    fn server(&self) -> Server {
        Server::at(&format!("bolt://neo4j:unused@127.0.0.1:{}", self.port))
    }

    /// Starts it and waits until it answers.
    async fn start(&mut self, read_only: bool) {
        let home = self.home.path();
        for directory in ["conf", "logs", "import", "plugins"] {
            fs::create_dir_all(home.join(directory)).unwrap();
        }
        let settings = format!(
            "server.bolt.listen_address=127.0.0.1:{port}\n\
             server.bolt.advertised_address=127.0.0.1:{port}\n\
             server.http.enabled=false\n\
             server.https.enabled=false\n\
             dbms.security.auth_enabled=false\n\
             dbms.usage_report.enabled=false\n\
             server.databases.default_to_read_only={read_only}\n\
             server.memory.pagecache.size=32m\n\
             db.tx_log.rotation.size=1M\n\
             db.tx_log.preallocate=false\n",
            port = self.port
        );
        fs::write(home.join("conf/neo4j.conf"), settings).unwrap();
        let process = Command::new("java")
            .args([
                "--add-opens=java.base/java.nio=ALL-UNNAMED",
                "--add-opens=java.base/java.io=ALL-UNNAMED",
                "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
                "--enable-native-access=ALL-UNNAMED",
                "-Dio.netty.tryReflectionSetAccessible=true",
                "-Dlog4j2.disable.jmx=true",
                "-Xmx320m",
                "-cp",
            ])
            .arg(format!("{}/*", self.libraries.display()))
            .arg("org.neo4j.server.CommunityEntryPoint")
            .arg(format!("--home-dir={}", home.display()))
            .arg(format!("--config-dir={}", home.join("conf").display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("java starts");
        self.process = Some(process);
        let server = self.server();
        let answers = async {
            loop {
                if let Ok(mut answer) = server.client().execute_read("RETURN 1").await
                    && answer.next().await.is_ok()
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(PATIENCE, answers)
            .await
            .expect("the server starts");
    }

    /// Ends it at once, as a crash would.
    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("our own process can be ended");
            process.wait().expect("our own process ends");
        }
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn batch(number: u64) -> Vec<dbmanager_core::backend::Mutation> {
    (0..100)
        .map(|i| {
            let document = Document::new(format!("{number} {i}"))
                .title("some words")
                .references([format!("{} {i}", number.saturating_sub(1))]);
            upsert(number, document)
        })
        .collect()
}

async fn first_answer(store: &dyn Backend, number: u64) -> bool {
    match write(store, &batch(number)).await {
        Ok(()) => true,
        Err(error) => {
            assert!(error.is_transient(), "batch {number}: {error}");
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neo4j_restarted_in_mid_batch_and_then_read_only() {
    let Some(mut own) = OwnServer::new() else {
        return;
    };
    own.start(false).await;
    let server = own.server();
    let config = server.config("restarted");
    let context = || {
        OpenContext::new(Runtime::tokio())
            .pool_size(4)
            .attempt_timeout(Duration::from_secs(15))
    };
    let store = open_with(&config, context()).await.unwrap();
    prepare(&*store).await.unwrap();

    // Batches go on until one fails; the server is ended while they do.
    let (acknowledged, mut seen) = tokio::sync::watch::channel(0);
    let writer = {
        let store: Arc<dyn GraphBackend> = Arc::clone(&store);
        tokio::spawn(async move {
            let mut number = 1;
            while first_answer(&*store, number).await {
                acknowledged.send_replace(number);
                number += 1;
            }
            number
        })
    };
    seen.wait_for(|number| *number >= 5).await.unwrap();
    own.kill();
    let failed = writer.await.unwrap();
    assert!(failed > 5);
    assert!(refused(head(&*store, "1 0").await).is_transient());

    // The same store goes on, without being opened again.
    own.start(false).await;
    while !first_answer(&*store, failed).await {}
    for number in 1..=failed {
        let all: Vec<String> = (0..100).map(|i| format!("{number} {i}")).collect();
        let heads = store
            .heads(ids(all.iter().map(String::as_str)))
            .await
            .unwrap();
        assert!(
            heads.iter().flatten().count() == 100,
            "batch {number} of {failed} is not whole"
        );
    }

    own.kill();
    own.start(true).await;
    while head(&*store, "1 0").await.is_err() {}
    let error = refused(write(&*store, &batch(failed + 1)).await);
    assert!(error.is_transient(), "{error}");
    report(&format!(
        "neo4j: a write to a server that only reads: {error}"
    ));
    assert!(
        head(&*store, &format!("{} 0", failed + 1))
            .await
            .unwrap()
            .is_none()
    );
    // A layout that is there can be opened, one that is not cannot be made.
    let again = open(&config).await.unwrap();
    assert!(!again.identity().await.unwrap().empty);
    let error = refused(open(&server.config("another")).await);
    assert!(error.is_transient(), "{error}");
    store.close().await.unwrap();
}
