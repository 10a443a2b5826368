//! Who is let in, and what is said when nobody is.

use std::time::Duration;

use dbmanager_backend_relational::postgres::PostgresFactory;
use dbmanager_core::{
    backend::{BackendErrorKind, BackendFactory, Effect},
    model::{Document, Tokenizer},
};
use serde_json::json;

use super::place::{
    Place, config, context, ids, impatient, key, open, prepare, request, run, upsert, write,
};
use crate::environment::{POSTGRES, Tls, unique};

/// `postgres://name:password@rest` with another name and password.
fn with_user(url: &str, user: &str, password: &str) -> String {
    let (_, rest) = url.split_once('@').unwrap();
    format!("postgres://{user}:{password}@{rest}")
}

#[tokio::test]
async fn a_wrong_password_is_denied_and_not_repeated_in_the_error() {
    let Some(place) = Place::new() else { return };
    let url = with_user(place.url(), "postgres", "hunter2");
    let error = open(&config(json!({ "url": url })), &context())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Denied, "{error}");
    assert_eq!(error.effect(), Effect::NotApplied);
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_missing_database_is_named() {
    let Some(place) = Place::new() else { return };
    let (server, _) = place.url().rsplit_once('/').unwrap();
    let url = format!("{server}/nowhere");
    let error = open(&config(json!({ "url": url })), &context())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Config, "{error}");
    assert!(error.message().contains("nowhere"), "{error}");
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_unavailable_at_once() {
    let Some(_place) = Place::new() else { return };
    // Bound and released: most likely nobody listens there.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let runtime = context().runtime;
    let (nowhere, context) = (
        config(json!({"host": "127.0.0.1", "port": port})),
        context(),
    );
    let opening = open(&nowhere, &context);
    let answer = runtime.timeout(Duration::from_secs(5), opening).await;
    let error = answer.expect("the answer comes at once").unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn nothing_shows_the_password() {
    let Some(place) = Place::new() else { return };
    let password = place.url().split([':', '@']).nth(2).unwrap().to_owned();
    assert!(password.len() > 8);
    let store = place.open().await;
    assert!(!format!("{store:?}").contains(&password));
    let location = PostgresFactory::new().location(&place.config(), &context());
    assert!(!location.unwrap().contains(&password));
}

#[tokio::test]
async fn a_slow_server_keeps_to_the_time_and_recovers() {
    let Some(place) = Place::new() else { return };
    let store = place.open_with(&impatient()).await;
    prepare(&*store, Tokenizer::Unicode).await;
    write(&*store, vec![upsert(1, Document::new("a"))]).await;
    let mut other = place.connect().await;
    let lock = format!("BEGIN; LOCK TABLE {}", place.table().await);
    run(&mut other, &lock).await;
    let runtime = context().runtime;
    let reading = store.heads(ids(["a"]));
    let answer = runtime.timeout(Duration::from_secs(10), reading).await;
    let error = answer.expect("the server ends the statement").unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Timeout, "{error}");
    let answer = store.apply(request(vec![upsert(2, Document::new("a"))]));
    let error = answer.await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Timeout, "{error}");
    assert_eq!(error.effect(), Effect::NotApplied);
    run(&mut other, "ROLLBACK").await;
    let head = store.heads(ids(["a"])).await.unwrap().remove(0).unwrap();
    assert_eq!(head.version.as_u64(), 1);
}

#[tokio::test]
async fn exhausted_connections_are_said_and_recover() {
    let Some(place) = Place::new() else { return };
    let store = place.open_with(&impatient().pool_size(2)).await;
    prepare(&*store, Tokenizer::Unicode).await;
    let mut other = place.connect().await;
    let lock = format!("BEGIN; LOCK TABLE {}", place.table().await);
    run(&mut other, &lock).await;
    let read = || store.heads(ids(["a"]));
    let (first, second, third) = tokio::join!(read(), read(), read());
    assert_eq!(first.unwrap_err().kind(), BackendErrorKind::Timeout);
    assert_eq!(second.unwrap_err().kind(), BackendErrorKind::Timeout);
    let error = third.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Overloaded, "{error}");
    assert!(error.message().contains("2 connections"), "{error}");
    run(&mut other, "ROLLBACK").await;
    assert_eq!(read().await.unwrap(), [None]);
}

#[tokio::test]
async fn writes_given_up_half_way_spoil_no_connection() {
    let Some(place) = Place::new() else { return };
    let store = place.open_with(&context().pool_size(1)).await;
    prepare(&*store, Tokenizer::Unicode).await;
    let runtime = context().runtime;
    for version in 1..=20 {
        let document = Document::new("a").text(version.to_string());
        let writing = store.apply(request(vec![upsert(version, document)]));
        // Given up after longer and longer: before, while, and after the server has it.
        let given_up = runtime.timeout(Duration::from_micros(100 * version), writing);
        drop(given_up.await);
        let held = store.heads(ids(["a"])).await.unwrap().remove(0);
        assert!(held.is_none_or(|head| head.version.as_u64() <= version));
    }
    write(&*store, vec![upsert(30, Document::new("a"))]).await;
    let held = store.heads(ids(["a"])).await.unwrap().remove(0).unwrap();
    assert_eq!(held.version.as_u64(), 30);
}

#[tokio::test]
async fn a_read_only_server_is_read_and_refuses_writes_for_now() {
    let Some(place) = Place::new() else { return };
    let store = place.open().await;
    prepare(&*store, Tokenizer::Unicode).await;
    write(&*store, vec![upsert(1, Document::new("a"))]).await;
    let (role, schema) = (unique("reader"), place.schema());
    place
        .run(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'reads';
             ALTER ROLE {role} SET default_transaction_read_only = on;
             GRANT ALL ON SCHEMA {schema} TO {role};
             GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role}"
        ))
        .await;
    let url = with_user(place.url(), &role, "reads");
    let reading = open(&config(json!({"url": url, "schema": schema})), &context())
        .await
        .unwrap();
    assert!(reading.heads(ids(["a"])).await.unwrap()[0].is_some());
    let answer = reading.apply(request(vec![upsert(2, Document::new("a"))]));
    let error = answer.await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Unavailable, "{error}");
    assert_eq!(error.effect(), Effect::NotApplied);
    assert!(error.message().contains("read-only"), "{error}");
    reading.close().await.unwrap();
    place
        .run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await;
}

#[tokio::test]
async fn a_user_without_rights_is_denied() {
    let Some(place) = Place::new() else { return };
    let store = place.open().await;
    prepare(&*store, Tokenizer::Unicode).await;
    let (role, schema) = (unique("nobody"), place.schema());
    place
        .run(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'little'; GRANT USAGE ON SCHEMA {schema} TO {role}"
        ))
        .await;
    let url = with_user(place.url(), &role, "little");
    let error = open(&config(json!({"url": url, "schema": schema})), &context())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Denied, "{error}");
    let another = unique("new");
    let error = open(&config(json!({"url": url, "schema": another})), &context())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Denied, "{error}");
    place
        .run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await;
}

#[tokio::test]
async fn another_layout_is_refused_by_number_and_by_name() {
    let Some(place) = Place::new() else { return };
    place.open().await.close().await.unwrap();
    place.run("UPDATE format SET number = 99").await;
    let error = open(&place.config(), &context()).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Config, "{error}");
    assert!(error.message().contains("format 99"), "{error}");
    assert!(error.message().contains("up to 1"), "{error}");

    for foreign in [
        "CREATE TABLE stamp (letter text)",
        "CREATE TABLE format (other text)",
        "CREATE TABLE format (component integer, number text)",
    ] {
        let Some(place) = Place::new() else { return };
        let schema = place.schema();
        place.run(&format!("CREATE SCHEMA {schema}")).await;
        place.run(foreign).await;
        let error = open(&place.config(), &context()).await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Config, "{foreign}: {error}");
        assert!(
            error.message().contains("another maker"),
            "{foreign}: {error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_opening_at_once_lay_out_one_store() {
    let Some(place) = Place::new() else { return };
    let stores = futures_util::future::join_all((0..8).map(|_| place.open())).await;
    for store in &stores {
        assert!(store.identity().await.unwrap().empty);
    }
    prepare(&*stores[0], Tokenizer::Unicode).await;
    assert_eq!(stores[7].collections().await.unwrap(), [key()]);
}

#[tokio::test]
async fn tls_is_checked_against_the_authority_and_the_name() {
    let Some(Tls {
        url,
        authority,
        other_authority,
    }) = POSTGRES.tls()
    else {
        return;
    };
    let place = Place::at(&url);
    let schema = place.schema();
    let right = json!({"url": url, "schema": schema, "tls": true, "tls_ca_file": authority});
    let store = open(&config(right.clone()), &context()).await.unwrap();
    prepare(&*store, Tokenizer::Unicode).await;
    write(&*store, vec![upsert(1, Document::new("a"))]).await;

    let unknown = json!({"url": url, "schema": schema, "tls": true});
    let error = open(&config(unknown), &context()).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Config, "{error}");
    assert!(error.message().starts_with("tls: "), "{error}");
    let mut wrong = right.clone();
    wrong["tls_ca_file"] = other_authority.into();
    let error = open(&config(wrong), &context()).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Config, "{error}");
    let mut gone = right.clone();
    gone["tls_ca_file"] = "/nowhere/ca.pem".into();
    let error = open(&config(gone), &context()).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Config, "{error}");
    assert!(error.message().contains("tls_ca_file"), "{error}");

    // The certificate is not for this name, whatever the name leads to.
    let mut named = right;
    named["url"] = url.replace("@localhost:", "@other.localhost:").into();
    match open(&config(named), &context()).await.unwrap_err() {
        error if error.kind() == BackendErrorKind::Config => {
            assert!(error.message().starts_with("tls: "), "{error}");
        }
        // Not every system looks names below `localhost` up.
        error => assert_eq!(error.kind(), BackendErrorKind::Unavailable, "{error}"),
    }
    drop(store);
}
