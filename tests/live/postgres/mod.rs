//! The relational store on PostgreSQL.

mod connection;
mod content;
pub(crate) mod place;
pub(crate) mod restart;
mod text;

use dbmanager_backend_relational::postgres::PostgresFactory;
use dbmanager_core::conformance::{Instance, Subject};

use self::place::Place;
use crate::{environment, suite};

#[tokio::test(flavor = "multi_thread")]
async fn the_suite() {
    let Some(url) = environment::POSTGRES.address() else {
        return;
    };
    let subject = Subject::new("postgres", move || {
        let place = Place::at(&url);
        Instance::new(PostgresFactory::new())
            .setting("url", url.as_str())
            .setting("schema", place.schema())
            .keep(place)
    });
    suite::conforms(subject).await;
}
