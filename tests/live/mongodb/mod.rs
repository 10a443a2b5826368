//! The relational store `mongodb` on MongoDB itself and on FerretDB, whichever is named; reported
//! apart.

mod connection;
mod content;
mod interruption;
mod ownership;
mod process;
mod server;

use dbmanager_core::conformance::Subject;

use crate::suite::conforms;
use server::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mongodb_conforms() {
    for server in Server::all() {
        let database = server.database();
        let fresh = database.clone();
        let subject = Subject::new(server.subject("suite"), move || fresh.instance());
        database.clean_up_after(conforms(subject)).await;
    }
}
