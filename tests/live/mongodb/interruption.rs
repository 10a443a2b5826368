//! A server that goes away, comes back, or does not answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use dbmanager_core::{
    backend::{BackendErrorKind, RelationalBackend},
    model::Document,
};

use super::{
    process::Process,
    server::{apply, context, open, prepare, put, version_of, write},
};

fn transient(kind: BackendErrorKind) -> bool {
    matches!(
        kind,
        BackendErrorKind::Unavailable | BackendErrorKind::Timeout | BackendErrorKind::Overloaded
    )
}

/// Writes until the store takes it, and returns how many attempts failed.
async fn write_at_last(store: &dyn RelationalBackend, version: u64) -> usize {
    for failed in 0..200 {
        let answer = apply(store, [put(version, Document::new("a"))]).await;
        match answer.and_then(|mut items| items.remove(0)) {
            Ok(()) => return failed,
            Err(error) => assert!(transient(error.kind()), "{error}"),
        }
    }
    panic!("the store does not recover");
}

/// Writes batches of the same ids at rising versions.
struct Writer {
    store: Arc<dyn RelationalBackend>,
    failures: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Writer {
    /// Which id was acknowledged at which version.
    async fn run(self) -> Vec<(usize, u64)> {
        let mut acknowledged = Vec::new();
        let mut version = 0;
        while !self.stop.load(Ordering::SeqCst) {
            version += 1;
            let mutations: Vec<_> = (0..50)
                .map(|n| put(version, Document::new(format!("{n}"))))
                .collect();
            let answers = match apply(&*self.store, mutations).await {
                Ok(answers) => answers,
                Err(error) => vec![Err(error)],
            };
            for (n, answer) in answers.into_iter().enumerate() {
                match answer {
                    Ok(()) => acknowledged.push((n, version)),
                    Err(error) => {
                        assert!(transient(error.kind()), "{error}");
                        self.failures.fetch_add(1, Ordering::SeqCst);
                    }
                }
            }
        }
        acknowledged
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_amid_batches_loses_nothing_acknowledged() {
    let Some(mut process) = Process::start().await else {
        return;
    };
    let database = process.server.database();
    let store = open(&database.config("s_"), &context(3_000)).await.unwrap();
    prepare(&*store).await;
    let (failures, stop) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let writer = Writer {
        store: Arc::clone(&store),
        failures: Arc::clone(&failures),
        stop: Arc::clone(&stop),
    };
    let writing = tokio::spawn(writer.run());
    // Amid the batches: some are acknowledged, and they go on.
    while version_of(&*store, "49").await.is_none_or(|v| v < 5) {
        tokio::task::yield_now().await;
    }
    process.kill();
    while failures.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    process.resume_from_kill().await;
    stop.store(true, Ordering::SeqCst);
    let acknowledged = writing.await.unwrap();
    write_at_last(&*store, u64::from(u32::MAX)).await;
    for n in 0..50 {
        let newest = acknowledged.iter().filter(|(of, _)| *of == n);
        let newest = newest.map(|(_, batch)| *batch).max();
        let held = version_of(&*store, &n.to_string()).await;
        assert!(
            held >= newest,
            "{n}: {held:?} is held, {newest:?} acknowledged"
        );
    }
    database.behind_its_back().await.drop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_answer_keeps_nobody_waiting() {
    let Some(process) = Process::start().await else {
        return;
    };
    let database = process.server.database();
    let store = open(&database.config("s_"), &context(1_000)).await.unwrap();
    prepare(&*store).await;
    write(&*store, [put(1, Document::new("a"))]).await;
    process.hold_up().await;
    let start = Instant::now();
    let error = apply(&*store, [put(2, Document::new("a"))])
        .await
        .unwrap_err();
    let waited = start.elapsed();
    process.go_on();
    assert!(transient(error.kind()), "{error}");
    // A look-up and a write, each within the time limit, and some room for a busy machine.
    assert!(waited.as_millis() < 4_000, "{waited:?}");
    write_at_last(&*store, 3).await;
    assert_eq!(version_of(&*store, "a").await, Some(3));
    database.behind_its_back().await.drop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exhausted_pool_is_named_and_recovers() {
    let Some(process) = Process::start().await else {
        return;
    };
    let database = process.server.database();
    let context = context(1_000).pool_size(1);
    let store = open(&database.config("s_"), &context).await.unwrap();
    prepare(&*store).await;
    process.hold_up().await;
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.probe().await })
        })
        .collect();
    let mut overloaded = 0;
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert!(transient(error.kind()), "{error}");
        if error.kind() == BackendErrorKind::Overloaded {
            assert!(error.message().contains("all 1 connections"), "{error}");
            overloaded += 1;
        }
    }
    assert!(overloaded > 0);
    process.go_on();
    write_at_last(&*store, 1).await;
    database.behind_its_back().await.drop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_port_is_unavailable() {
    let Some(mut process) = Process::start().await else {
        return;
    };
    process.kill();
    let database = process.server.database();
    let start = Instant::now();
    let error = open(&database.config("s_"), &context(1_000))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Unavailable, "{error}");
    assert!(start.elapsed().as_millis() < 3_000);
    assert!(error.message().contains("refused"), "{error}");
    // It comes up, and the same configuration opens.
    process.resume_from_kill().await;
    let store = open(&database.config("s_"), &context(5_000)).await.unwrap();
    store.probe().await.unwrap();
    store.close().await.unwrap();
    database.behind_its_back().await.drop().await.unwrap();
}
