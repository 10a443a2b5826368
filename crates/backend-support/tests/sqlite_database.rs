//! Opening, locking, jobs and closing.
#![cfg(feature = "sqlite")]
// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

use std::{
    path::Path,
    sync::{Arc, mpsc},
    time::Duration,
};

use dbmanager_backend_support::sqlite::{
    Database, DatabaseOptions, FileConfig, JobError, Schema, stamp,
};
use dbmanager_core::{
    Runtime,
    backend::{BackendError, BackendErrorKind, BackendResult, Effect},
};
use rusqlite::Connection;
use serde_json::json;

const FIRST: Schema = Schema {
    application_id: 0x7465_7374,
    migrations: &[&[
        stamp::SCHEMA,
        "CREATE TABLE item (name TEXT NOT NULL) STRICT",
    ]],
};
const SECOND: Schema = Schema {
    application_id: 0x7465_7374,
    migrations: &[
        FIRST.migrations[0],
        &["ALTER TABLE item ADD COLUMN size INTEGER NOT NULL DEFAULT 7"],
    ],
};

async fn open_as(path: &Path, schema: &Schema) -> BackendResult<Database> {
    let options = DatabaseOptions::new().busy_timeout(Duration::from_millis(10));
    Database::open(path, options, &Runtime::tokio(), schema).await
}

async fn add(database: &Database, name: &'static str) -> BackendResult<()> {
    database
        .write(move |transaction| {
            transaction.execute("INSERT INTO item (name) VALUES (?1)", [name])?;
            Ok(())
        })
        .await
}

async fn names(database: &Database) -> Vec<String> {
    database
        .read(|connection| {
            let mut statement = connection.prepare_cached("SELECT name FROM item ORDER BY name")?;
            let names = statement.query_map([], |row| row.get(0))?;
            Ok(names.collect::<Result<_, _>>()?)
        })
        .await
        .unwrap()
}

fn assert_locked(error: &BackendError) {
    assert_eq!(error.kind(), BackendErrorKind::Locked, "{error}");
    assert_eq!(error.effect(), Effect::NotApplied);
}

fn assert_unavailable(error: &BackendError, message: &str) {
    assert_eq!(error.kind(), BackendErrorKind::Unavailable, "{error}");
    assert_eq!(error.effect(), Effect::NotApplied);
    assert!(error.message().contains(message), "{error}");
}

#[tokio::test]
async fn a_file_is_locked_until_it_is_closed_and_the_last_job_has_ended() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep").join("er").join("a.db");
    let database = open_as(&path, &FIRST).await.unwrap();
    assert_locked(&open_as(&path, &FIRST).await.unwrap_err());
    #[cfg(unix)]
    {
        let link = directory.path().join("link.db");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_locked(&open_as(&link, &FIRST).await.unwrap_err());
    }

    // A job whose caller has gone, and whose database is gone too.
    let (started, is_started) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let (ended, has_ended) = tokio::sync::oneshot::channel();
    let job = tokio::spawn({
        let database = database.clone();
        async move {
            database
                .write(move |transaction| {
                    started.send(()).unwrap();
                    may_go_on.recv().unwrap();
                    transaction.execute("INSERT INTO item (name) VALUES ('kept')", [])?;
                    ended.send(()).unwrap();
                    Ok(())
                })
                .await
        }
    });
    tokio::task::spawn_blocking(move || is_started.recv().unwrap())
        .await
        .unwrap();
    job.abort();
    assert!(job.await.unwrap_err().is_cancelled());
    drop(database);
    assert_locked(&open_as(&path, &FIRST).await.unwrap_err());
    go_on.send(()).unwrap();
    has_ended.await.unwrap();
    let database = loop {
        match open_as(&path, &FIRST).await {
            Ok(database) => break database,
            // The commit and the closing come after the job's last word.
            Err(error) => assert_locked(&error),
        }
    };
    assert_eq!(names(&database).await, ["kept"]);
    database.close().await.unwrap();
    database.close().await.unwrap();
    open_as(&path, &FIRST).await.unwrap();
}

#[tokio::test]
async fn close_waits_for_what_runs_and_refuses_what_comes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let database = open_as(&path, &FIRST).await.unwrap();
    let (started, is_started) = tokio::sync::oneshot::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let running = tokio::spawn({
        let database = database.clone();
        async move {
            database
                .read(move |_| {
                    started.send(()).unwrap();
                    may_go_on.recv().unwrap();
                    Ok(())
                })
                .await
        }
    });
    is_started.await.unwrap();
    let closing = tokio::spawn({
        let database = database.clone();
        async move { database.close().await }
    });
    while !matches!(add(&database, "late").await, Err(error) if error.message() == "the store is closed")
    {
        tokio::task::yield_now().await;
    }
    assert!(!closing.is_finished());
    go_on.send(()).unwrap();
    running.await.unwrap().unwrap();
    closing.await.unwrap().unwrap();
    assert_unavailable(&database.probe().await.unwrap_err(), "the store is closed");
    assert_unavailable(&database.sync().await.unwrap_err(), "the store is closed");
    drop(open_as(&path, &FIRST).await.unwrap());
}

#[tokio::test]
async fn older_files_are_brought_up_and_newer_and_other_ones_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let first = open_as(&path, &FIRST).await.unwrap();
    add(&first, "old").await.unwrap();
    first.close().await.unwrap();
    let second = open_as(&path, &SECOND).await.unwrap();
    let size: i64 = second
        .read(|connection| Ok(connection.query_row("SELECT size FROM item", [], |r| r.get(0))?))
        .await
        .unwrap();
    assert_eq!(size, 7);
    second.close().await.unwrap();

    let refused = async |path: &Path, schema: &Schema| {
        let error = open_as(path, schema).await.unwrap_err();
        assert_eq!(error.effect(), Effect::NotApplied);
        (error.kind(), error.message().to_owned())
    };
    let (kind, message) = refused(&path, &FIRST).await;
    assert_eq!(kind, BackendErrorKind::Config);
    let newer = "the file has format 2, this program knows formats up to 1";
    assert!(message.ends_with(newer), "{message}");

    let other = Schema {
        application_id: 1,
        ..FIRST
    };
    let (kind, message) = refused(&path, &other).await;
    assert_eq!(kind, BackendErrorKind::Config);
    assert!(message.ends_with("not a store of this kind"), "{message}");

    let foreign = directory.path().join("foreign.db");
    Connection::open(&foreign)
        .unwrap()
        .execute_batch("CREATE TABLE theirs (a)")
        .unwrap();
    assert_eq!(refused(&foreign, &FIRST).await.0, BackendErrorKind::Config);

    let text = directory.path().join("text.db");
    std::fs::write(&text, "this is no database, just some text\n".repeat(500)).unwrap();
    assert_eq!(refused(&text, &FIRST).await.0, BackendErrorKind::Damaged);
}

#[tokio::test]
async fn a_failed_migration_leaves_the_file_as_it_was() {
    const BROKEN: Schema = Schema {
        application_id: FIRST.application_id,
        migrations: &[
            FIRST.migrations[0],
            &["CREATE TABLE half (a)", "CREATE TABLE item (a)"],
        ],
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    open_as(&path, &FIRST).await.unwrap().close().await.unwrap();
    open_as(&path, &BROKEN).await.unwrap_err();
    let database = open_as(&path, &FIRST).await.unwrap();
    let half: i64 = database
        .read(|connection| {
            let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'half'";
            Ok(connection.query_row(sql, [], |row| row.get(0))?)
        })
        .await
        .unwrap();
    assert_eq!(half, 0);
}

#[tokio::test]
async fn what_fails_or_panics_changes_nothing_and_spoils_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let database = open_as(&directory.path().join("a.db"), &FIRST)
        .await
        .unwrap();
    add(&database, "a").await.unwrap();
    let error = database
        .write(|transaction| -> Result<(), JobError> {
            transaction.execute("DELETE FROM item", [])?;
            transaction.execute("INSERT INTO item (name) VALUES (NULL)", [])?;
            Ok(())
        })
        .await
        .unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Refused);
    assert_eq!(error.effect(), Effect::NotApplied);
    let lost = database
        .write(|transaction| -> Result<(), JobError> {
            transaction.execute("DELETE FROM item", [])?;
            panic!("a defect in a job");
        })
        .await
        .unwrap_err();
    assert_eq!(lost.kind(), BackendErrorKind::Unavailable);
    for _ in 0..8 {
        let lost = database
            .read(|_| -> Result<(), JobError> { panic!("a defect in a job") })
            .await
            .unwrap_err();
        assert_unavailable(&lost, "ended without an answer");
    }
    assert_eq!(names(&database).await, ["a"]);
    add(&database, "b").await.unwrap();
    database.sync().await.unwrap();
    assert_eq!(names(&database).await, ["a", "b"]);
    let read_only = database
        .read(|connection| Ok(connection.execute("DELETE FROM item", [])?))
        .await
        .unwrap_err();
    assert_unavailable(&read_only, "sqlite: ");
    assert_eq!(names(&database).await, ["a", "b"]);
}

#[tokio::test]
async fn a_file_that_is_gone_is_unavailable_and_never_comes_back_empty() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let database = open_as(&path, &FIRST).await.unwrap();
    add(&database, "a").await.unwrap();
    database.probe().await.unwrap();
    for name in ["a.db", "a.db-wal", "a.db-shm"] {
        std::fs::remove_file(directory.path().join(name)).unwrap();
    }
    assert_unavailable(&database.probe().await.unwrap_err(), "the file is gone");
    // A job that panics makes the next one open another connection.
    let panic = database.write(|_| -> Result<(), JobError> { panic!("a defect in a job") });
    panic.await.unwrap_err();
    assert_unavailable(&add(&database, "b").await.unwrap_err(), "sqlite: ");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_directory_in_place_of_the_file_is_unavailable() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    std::fs::create_dir(&path).unwrap();
    assert_unavailable(&open_as(&path, &FIRST).await.unwrap_err(), "a.db");
    let inside_a_file = directory.path().join("file").join("a.db");
    std::fs::write(directory.path().join("file"), "").unwrap();
    let error = open_as(&inside_a_file, &FIRST).await.unwrap_err();
    assert_unavailable(&error, "cannot create the directory");
}

#[tokio::test]
async fn readers_see_one_state_while_a_writer_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let database = open_as(&directory.path().join("a.db"), &FIRST)
        .await
        .unwrap();
    let (started, is_started) = tokio::sync::oneshot::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let count = |connection: &Connection| -> Result<i64, JobError> {
        Ok(connection.query_row("SELECT count(*) FROM item", [], |row| row.get(0))?)
    };
    let reading = tokio::spawn({
        let database = database.clone();
        async move {
            database
                .read(move |connection| {
                    let before = count(connection)?;
                    started.send(()).unwrap();
                    may_go_on.recv().unwrap();
                    Ok((before, count(connection)?))
                })
                .await
        }
    });
    is_started.await.unwrap();
    add(&database, "a").await.unwrap();
    assert_eq!(names(&database).await, ["a"]);
    go_on.send(()).unwrap();
    assert_eq!(reading.await.unwrap().unwrap(), (0, 0));
}

#[tokio::test]
async fn without_a_log_readers_and_writers_wait_for_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let options = DatabaseOptions::new()
        .write_ahead_log(false)
        .busy_timeout(Duration::ZERO)
        .readers(2);
    let path = directory.path().join("a.db");
    let database = Database::open(path, options, &Runtime::tokio(), &FIRST)
        .await
        .unwrap();
    let writers = (0..30).map(|_| {
        let database = database.clone();
        tokio::spawn(async move { add(&database, "a").await })
    });
    let readers = (0..30).map(|_| {
        let database = database.clone();
        tokio::spawn(async move {
            names(&database).await;
            Ok(())
        })
    });
    let tasks: Vec<_> = writers.zip(readers).flat_map(|(w, r)| [w, r]).collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(names(&database).await.len(), 30);
    database.close().await.unwrap();
}

#[test]
fn times_are_seconds_or_text_with_a_unit() {
    let read = |value| {
        serde_json::from_value::<FileConfig>(json!({"busy_timeout": value}))
            .map(|config| config.busy_timeout)
    };
    for (given, milliseconds) in [
        (json!(2), 2_000),
        (json!(0.5), 500),
        (json!("500ms"), 500),
        (json!("1.5 s"), 1_500),
        (json!("2m"), 120_000),
    ] {
        assert_eq!(read(given).unwrap(), Duration::from_millis(milliseconds));
    }
    for wrong in [
        json!("5"),
        json!("x"),
        json!(-1),
        json!("5 parsecs"),
        json!([]),
        json!("nan s"),
    ] {
        let error = read(wrong).unwrap_err().to_string();
        assert!(error.contains("expected seconds"), "{error}");
    }
    let shared = Arc::new(serde_json::from_value::<FileConfig>(json!({})).unwrap());
    assert_eq!(*shared, FileConfig::default());
}
