//! The journal's server goes away and comes back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use dbmanager::{
    DatabaseManager, WriteOutcome,
    model::{Document, Level, OperationId, OperationStatus, Version},
};

use super::world::{SOON, World, assert_all_equal, until};
use crate::postgres::restart::{OwnServer, programs};

/// What a writer knows when it ends.
#[derive(Default)]
struct Written {
    acknowledged: Vec<(String, Version)>,
    rejected: Vec<OperationId>,
    unknown: Vec<OperationId>,
}

async fn write_until(
    db: DatabaseManager,
    name: &'static str,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
) -> Written {
    let mut written = Written::default();
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        number += 1;
        let id = format!("{name} {number}");
        let operation_id = dbmanager::Runtime::tokio().new_operation_id();
        let answer = db
            .store_document("papers", Document::new(&id).text("text"))
            .operation_id(operation_id)
            .level(Level::Journaled)
            .await;
        match answer {
            Ok(receipt) => {
                count.fetch_add(1, Ordering::SeqCst);
                written.acknowledged.push((id, receipt.version));
            }
            Err(error) => match error.write_outcome() {
                Some(WriteOutcome::Rejected) => {
                    assert!(error.is_retryable(), "{error}");
                    written.rejected.push(operation_id);
                }
                Some(WriteOutcome::Indeterminate(operation)) => {
                    assert_eq!(*operation, operation_id);
                    written.unknown.push(operation_id);
                }
                other => panic!("{other:?}: {error}"),
            },
        }
    }
    written
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_is_found_again_without_reopening() {
    let Some(programs) = programs() else { return };
    let mut server = OwnServer::new(programs);
    server.start().await;
    let world = World::at(&server.url(), Duration::from_secs(2));
    let (a, b) = (world.open().await, world.open().await);
    let stop = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = [(a.clone(), "a"), (b.clone(), "b")]
        .into_iter()
        .map(|(db, name)| {
            tokio::spawn(write_until(db, name, Arc::clone(&stop), Arc::clone(&count)))
        })
        .collect();
    for _ in 0..3 {
        let before = count.load(Ordering::SeqCst);
        until("writes are acknowledged", async || {
            count.load(Ordering::SeqCst) >= before + 20
        })
        .await;
        server.stop().await;
        until("health tells", async || {
            !a.health().journal.writable && !b.health().journal.writable
        })
        .await;
        server.start().await;
    }
    let before = count.load(Ordering::SeqCst);
    until("writes are acknowledged again", async || {
        count.load(Ordering::SeqCst) >= before + 20
    })
    .await;
    stop.store(true, Ordering::SeqCst);
    let mut documents = 0;
    for writer in writers {
        let written = writer.await.unwrap();
        for (id, version) in &written.acknowledged {
            let found = a.get_document("papers", id).await.unwrap();
            assert_eq!(found.unwrap().version, *version, "{id}");
        }
        documents += written.acknowledged.len() as u64;
        for operation in written.rejected {
            let status = b.status(operation).await.unwrap();
            assert_eq!(status, OperationStatus::NeverAccepted);
        }
        for operation in written.unknown {
            match b.status(operation).await.unwrap() {
                OperationStatus::NeverAccepted => {}
                OperationStatus::Done(_) | OperationStatus::Pending(_) => documents += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_all_equal(&a, documents).await;
    assert_all_equal(&b, documents).await;
    b.close(SOON).await.unwrap();
    a.close(SOON).await.unwrap();
    drop(world);
    server.stop().await;
}
