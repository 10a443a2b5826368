//! The service `chromadb` on a real server.

mod facade;
mod faults;
mod layout;
mod server;
mod tls;

use dbmanager_backend_vector::chromadb::ChromadbFactory;
use dbmanager_core::conformance::{Instance, Subject};

use crate::{
    environment::{CHROMADB, unique},
    suite::conforms,
};
use server::{Raw, Swept};

#[tokio::test(flavor = "multi_thread")]
async fn chromadb_conforms() {
    let Some(url) = CHROMADB.address() else {
        return;
    };
    let fresh = move || {
        let prefix = unique("conformance");
        Instance::new(ChromadbFactory::new())
            .setting("url", url.as_str())
            .setting("collection_prefix", prefix.as_str())
            .keep(Swept(Raw::new(&url), prefix))
    };
    conforms(Subject::new("chromadb", fresh)).await;
}
