//! The service `qdrant` on a real server.
//!
//! `DBMANAGER_TEST_QDRANT_URL` is its gRPC address; its HTTP interface is expected on the port
//! below. Tests that start servers of their own need `DBMANAGER_TEST_QDRANT_BINARY`.

mod faults;
mod layout;
mod place;
mod rest;
mod server;

use dbmanager_backend_vector::qdrant::QdrantFactory;
use dbmanager_core::conformance::{Instance, Subject};

use crate::suite::conforms;
use place::Place;

fn fresh() -> Instance {
    let place = Place::on_the_server().unwrap();
    let settings = place.config();
    let instance = settings.into_iter().fold(
        Instance::new(QdrantFactory::new()),
        |instance, (key, value)| instance.setting(&key, value),
    );
    instance.keep(place)
}

#[tokio::test(flavor = "multi_thread")]
async fn qdrant_conforms() {
    if Place::on_the_server().is_some() {
        conforms(Subject::new("qdrant", fresh)).await;
    }
}
