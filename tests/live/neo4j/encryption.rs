//! TLS.

use dbmanager_core::backend::{BackendErrorKind, ServiceConfig};

use super::{
    data::{prepare, refused},
    server::{Server, open},
};
use crate::environment::NEO4J;

/// The server's encrypted address, its authority's certificate and another authority's.
fn encrypted() -> Option<(Server, String, String)> {
    let tls = NEO4J.tls()?;
    Some((Server::at(&tls.url), tls.authority, tls.other_authority))
}

fn with(config: &ServiceConfig, key: &str, value: &str) -> ServiceConfig {
    let mut config = config.clone();
    config.insert(key.to_owned(), value.into());
    config
}

/// One test, because the provider belongs to the whole process.
#[tokio::test]
async fn neo4j_is_encrypted_and_checks_whom_it_speaks_to() {
    let Some((server, authority, other)) = encrypted() else {
        return;
    };
    // The same server without encryption, which cleans up.
    let Some(unencrypted) = Server::from_environment() else {
        return;
    };
    let plain = server.config(&unencrypted.namespace());
    let trusting = with(&plain, "tls_ca_file", &authority);
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        let error = refused(open(&trusting).await);
        assert_eq!(error.kind(), BackendErrorKind::Config, "{error}");
        assert!(error.message().contains("install_default"), "{error}");
    }
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();

    let store = open(&trusting).await.unwrap();
    prepare(&*store).await.unwrap();

    // The authorities of the system do not know it, nor does another one.
    for config in [&plain, &with(&plain, "tls_ca_file", &other)] {
        let error = refused(open(config).await);
        assert_eq!(error.kind(), BackendErrorKind::Config, "{error}");
        assert!(error.message().contains("certificate"), "{error}");
        assert!(!error.to_string().contains(&server.password), "{error}");
    }

    // The same address by a name that the certificate does not have.
    let misnamed = server.uri.replacen("localhost", "0x7f000001", 1);
    assert_ne!(misnamed, server.uri, "the address is by the name localhost");
    let error = refused(open(&with(&trusting, "uri", &misnamed)).await);
    assert_eq!(error.kind(), BackendErrorKind::Config, "{error}");
    assert!(error.message().contains("certificate"), "{error}");

    // As the routing table of a cluster, which names its members itself.
    let routed = server.uri.replacen("bolt", "neo4j", 1);
    let store = open(&with(&trusting, "uri", &routed)).await.unwrap();
    store.probe().await.unwrap();

    let nowhere = with(&plain, "tls_ca_file", "/nowhere/ca.pem");
    let error = refused(open(&nowhere).await);
    assert_eq!(error.kind(), BackendErrorKind::Config, "{error}");
    assert!(error.message().contains("/nowhere/ca.pem"), "{error}");
    unencrypted.clean().await;
}
