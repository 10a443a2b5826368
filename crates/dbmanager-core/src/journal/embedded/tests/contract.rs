//! The contract of every journal on this one, within the crate: what a change of it breaks is seen
//! without building anything else.

use super::*;
use crate::conformance::{JournalInstance, JournalSubject, JournalSuite};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_journal_conforms() {
    let subject = JournalSubject::new("memory journal", || {
        let storage = MemoryStorage::new();
        JournalInstance::new(move |options: JournalOptions, runtime| {
            let source = JournalSource::Storage(Arc::new(storage.clone()));
            async move {
                let journal = EmbeddedJournal::open(source, options, runtime).await?;
                Ok(journal as Arc<dyn Journal>)
            }
        })
    });
    let report = JournalSuite::new(Runtime::tokio()).run(&subject).await;
    report.assert_ok();
}
