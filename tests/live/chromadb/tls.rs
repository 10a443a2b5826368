//! Encrypted connections.

use dbmanager_core::backend::BackendErrorKind;
use serde_json::{Value, json};

use super::server::{Gate, gate, open};
use crate::environment::{CHROMADB, Tls};

async fn refusal(config: Value) -> String {
    let error = open(config).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Config, "{error}");
    error.message().to_owned()
}

#[tokio::test]
async fn the_certificate_and_its_name_are_checked() {
    let Some(tls) = CHROMADB.tls() else { return };
    let (url, ca, other) = (tls.url, tls.authority, tls.other_authority);
    let store = open(json!({"url": url, "tls_ca_file": ca})).await.unwrap();
    store.probe().await.unwrap();
    for config in [
        json!({"url": url}),
        json!({"url": url, "tls_ca_file": other}),
    ] {
        let message = refusal(config).await;
        assert!(message.contains("TLS"), "{message}");
    }
    // The same server under an address that its certificate does not name.
    let to = url.trim_start_matches("https://").trim_end_matches('/');
    let (elsewhere, _gate) = gate("127.0.0.2", to, Gate::Open).await;
    let elsewhere = elsewhere.replace("http://", "https://");
    let message = refusal(json!({"url": elsewhere, "tls_ca_file": ca})).await;
    assert!(message.contains("TLS"), "{message}");
}

#[tokio::test]
async fn plain_text_where_tls_is_spoken_is_an_error() {
    let Some(Tls { url, .. }) = CHROMADB.tls() else {
        return;
    };
    let plain = url.replace("https://", "http://");
    assert!(open(json!({"url": plain})).await.is_err());
}

#[tokio::test]
async fn plain_text_to_another_machine_must_be_asked_for() {
    let message = refusal(json!({"host": "db.example.org"})).await;
    assert!(message.contains("allow_plain_text"), "{message}");
}
