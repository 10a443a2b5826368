//! The journal in PostgreSQL, and managers that share one.

mod failures;
mod histories;
mod opening;
mod takeover;
mod together;
mod world;

use dbmanager_core::{
    Runtime,
    backend::OpenContext,
    conformance::{JournalInstance, JournalSubject, JournalSuite},
    journal::JournalOptions,
};

use crate::{
    environment::{POSTGRES, report},
    postgres::place::Place,
};

fn subject(url: String) -> JournalSubject {
    JournalSubject::new("postgres journal", move || {
        let place = Place::at(&url);
        let config = world::journal_config(&url, place.schema());
        JournalInstance::new(move |options: JournalOptions, runtime| {
            let config = config.clone();
            async move {
                let context = OpenContext::new(runtime);
                let factory = dbmanager::registry().journal("postgres").unwrap();
                factory.open(&config, &context, &options).await
            }
        })
        .keep(place)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_conforms() {
    let Some(url) = POSTGRES.address() else {
        return;
    };
    let found = JournalSuite::new(Runtime::tokio()).run(&subject(url)).await;
    report(&found.to_string());
    found.assert_ok();
}
