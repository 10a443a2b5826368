//! The service `chromadb` on a real server.

use dbmanager_backend_vector::chromadb::ChromadbFactory;
use dbmanager_core::conformance::{Instance, Subject};

use crate::{
    environment::{CHROMADB, unique},
    suite::conforms,
};

fn fresh(url: &str) -> Instance {
    Instance::new(ChromadbFactory::new())
        .setting("url", url)
        .setting("collection_prefix", unique("conformance"))
}

#[tokio::test(flavor = "multi_thread")]
async fn chromadb_conforms() {
    let Some(url) = CHROMADB.address() else {
        return;
    };
    conforms(Subject::new("chromadb", move || fresh(&url))).await;
}
