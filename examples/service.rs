//! The library inside an HTTP service.
//!
//! ```text
//! cargo run --release --example service -- --data DIR --listen 127.0.0.1:8080
//! curl -d '{"id": "p1", "title": "Crash recovery"}' -H 'content-type: application/json' \
//!     http://127.0.0.1:8080/collections/papers/documents
//! ```
//!
//! | | |
//! |---|---|
//! | `POST /collections/{name}/documents` | stores a document: 200, or 202 if its level is yet to be reached |
//! | `GET`, `DELETE /collections/{name}/documents/{id}` | reads or deletes one |
//! | `POST /search` | `{text, collections, type, limit}` → hits and leg reports |
//! | `GET /live`, `GET /ready` | whether the process runs; whether it can serve (503 if not) |
//!
//! An `idempotency-key` header makes a repeated `POST` harmless. SIGTERM or ctrl-c ends the
//! service after the requests under way.

#[path = "support/data_directory.rs"]
mod data_directory;
#[path = "support/routes.rs"]
mod routes;
#[path = "support/self_test.rs"]
mod self_test;

use std::{error::Error, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use data_directory::DataDirectory;
use dbmanager::prelude::*;
use serde_json::json;
use tokio::{net::TcpListener, signal, sync::oneshot};

/// How long closing may take.
const CLOSE: Duration = Duration::from_secs(30);

/// Documents and search over HTTP.
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where to keep the stores [default: a temporary directory, removed at the end].
    #[arg(long)]
    data: Option<PathBuf>,
    /// Says where it listens as JSON.
    #[arg(long)]
    json: bool,
    /// Listens on a free port, speaks HTTP to itself, and ends.
    #[arg(long)]
    self_test: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

type AnyResult<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

async fn run(arguments: &Arguments) -> AnyResult {
    let data = DataDirectory::new(arguments.data.clone())?;
    let db = DatabaseManager::open(Config::embedded(data.path())).await?;
    let listen = if arguments.self_test {
        SocketAddr::from(([127, 0, 0, 1], 0))
    } else {
        arguments.listen
    };
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    if arguments.json {
        println!("{}", json!({"listen": address, "data": data.path()}));
    } else {
        println!("listening on http://{address}, data in {data}");
    }
    if arguments.self_test {
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, db, async {
            // A sender that is gone means the same.
            let _ = stopped.await;
        }));
        let tested = self_test::run(address).await;
        drop(stop);
        server.await??;
        println!("self-test: {} requests answered as they should be", tested?);
        return Ok(());
    }
    serve(listener, db, ended()).await
}

/// Serves until `end`, lets the requests under way finish, and closes the manager.
async fn serve(
    listener: TcpListener,
    db: DatabaseManager,
    end: impl Future<Output = ()> + Send + 'static,
) -> AnyResult {
    axum::serve(listener, routes::router(db.clone()))
        .with_graceful_shutdown(end)
        .await?;
    db.close(CLOSE).await?;
    Ok(())
}

/// Waits for ctrl-c or, where there is one, SIGTERM.
async fn ended() {
    let interrupted = signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix;
        match unix::signal(unix::SignalKind::terminate()) {
            Ok(mut terminated) => {
                tokio::select! {
                    _ = interrupted => {}
                    _ = terminated.recv() => {}
                }
                return;
            }
            Err(error) => eprintln!("SIGTERM will not end this gracefully: {error}"),
        }
    }
    if let Err(error) = interrupted.await {
        eprintln!("ctrl-c will not end this gracefully: {error}");
        std::future::pending::<()>().await;
    }
}
