//! The journal in PostgreSQL, and managers that share one.

use dbmanager_core::{
    Runtime,
    backend::{OpenContext, ServiceConfig},
    conformance::{JournalInstance, JournalSubject, JournalSuite},
    journal::{JournalFactory, JournalOptions},
};

use crate::environment::{POSTGRES, report, unique};

/// The journal's configuration in a schema of its own.
pub(crate) fn config(url: &str, schema: &str) -> ServiceConfig {
    let config = serde_json::json!({"url": url, "schema": schema});
    config.as_object().cloned().unwrap()
}

fn subject(url: String) -> JournalSubject {
    JournalSubject::new("postgres journal", move || {
        let config = config(&url, &unique("journal"));
        JournalInstance::new(move |options: JournalOptions, runtime| {
            let config = config.clone();
            async move {
                let context = OpenContext::new(runtime);
                let factory = dbmanager::registry().journal("postgres").unwrap();
                factory.open(&config, &context, &options).await
            }
        })
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
