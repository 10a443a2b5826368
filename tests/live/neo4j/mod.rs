//! Neo4j.

mod contents;
mod data;
mod encryption;
mod facade;
mod faults;
mod opening;
mod restart;
mod server;

use dbmanager_core::conformance::Subject;

use crate::suite::conforms;
use server::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neo4j_conforms() {
    let Some(server) = Server::from_environment() else {
        return;
    };
    let fresh = server.clone();
    conforms(Subject::new("neo4j", move || fresh.instance())).await;
    server.clean().await;
}
