//! Who may connect, how, and what is said if not.

use std::path::PathBuf;

use dbmanager_backend_relational::mongodb::MongodbFactory;
use dbmanager_core::backend::{BackendErrorKind, BackendFactory, ServiceConfig};
use mongodb::options::{ClientOptions, ServerAddress, Tls, TlsOptions};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

use super::server::{Server, context, open};
use crate::environment::FERRETDB;

/// The credentials and the address of the server, apart.
async fn parts(server: &Server) -> (String, String, String, u16) {
    let options = ClientOptions::parse(&server.uri).await.unwrap();
    let credential = options.credential.unwrap_or_default();
    let ServerAddress::Tcp { host, port } = &options.hosts[0] else {
        panic!("{:?} is no address of a network", options.hosts);
    };
    (
        credential.username.unwrap_or_default(),
        credential.password.unwrap_or_default(),
        host.clone(),
        port.unwrap_or(27_017),
    )
}

/// The configuration of a store on a host and port.
fn config(settings: serde_json::Value) -> ServiceConfig {
    serde_json::from_value(settings).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_are_checked_and_never_shown() {
    for server in Server::all() {
        let database = server.database();
        let (username, password, host, port) = parts(&server).await;
        let with = |password: &str| {
            config(serde_json::json!({
                "host": host, "port": port, "username": username, "password": password,
                "auth_source": "admin", "database": database.name,
            }))
        };
        let store = open(&with(&password), &context(5_000)).await.unwrap();
        let shown = format!("{store:?}");
        assert!(
            !password.is_empty() && !shown.contains(&password),
            "{shown}"
        );
        store.close().await.unwrap();
        let wrong = "correct horse battery staple";
        let error = open(&with(wrong), &context(5_000)).await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Denied, "{error}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(wrong), "{shown}");
        let mut nobody = with(&password);
        for key in ["username", "password", "auth_source"] {
            nobody.remove(key);
        }
        let error = open(&nobody, &context(5_000)).await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Denied, "{error}");
        database.behind_its_back().await.drop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_comes_into_being_and_a_name_it_cannot_have_is_refused() {
    for server in Server::all() {
        let database = server.database();
        let store = database.open("s_").await.unwrap();
        assert!(store.identity().await.unwrap().empty);
        for wrong in ["a.b", "a$b", "a b", ""] {
            let mut config = database.config("s_");
            config.insert("database".to_owned(), wrong.into());
            let error = open(&config, &context(5_000)).await.unwrap_err();
            assert_eq!(error.kind(), BackendErrorKind::Config);
            assert!(error.message().contains("database"), "{error}");
        }
        database.behind_its_back().await.drop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_needs_the_right_authority() {
    let Some(tls) = FERRETDB.tls() else { return };
    let server = Server {
        name: "ferretdb",
        uri: tls.url,
    };
    let database = server.database();
    let trusting = |file: Option<&str>| {
        let mut config = database.config("s_");
        if let Some(file) = file {
            config.insert("tls_ca_file".to_owned(), file.into());
        }
        config
    };
    let store = open(&trusting(Some(&tls.authority)), &context(5_000))
        .await
        .unwrap();
    store.probe().await.unwrap();
    store.close().await.unwrap();
    // The authorities of the web, and another one of one's own.
    for wrong in [None, Some(tls.other_authority.as_str())] {
        let error = open(&trusting(wrong), &context(2_000)).await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Config, "{error}");
        assert!(error.message().contains("certificate"), "{error}");
    }
    // An address that the certificate is not for leads to the same server.
    let (_, _, _, port) = parts(&server).await;
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let relay = tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            // An end that breaks off is what this is for.
            tokio::spawn(async move { drop(copy_bidirectional(&mut near, &mut far).await) });
        }
    });
    let mut renamed = trusting(Some(&tls.authority));
    let uri = server
        .uri
        .replace(&format!("@localhost:{port}"), &format!("@{address}"));
    assert_ne!(uri, server.uri);
    renamed.insert("uri".to_owned(), uri.into());
    let error = open(&renamed, &context(2_000)).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Config, "{error}");
    relay.abort();
    // A file without certificates trusts nobody, and says so.
    let empty = tempfile::NamedTempFile::new().unwrap();
    let path = empty.path().display().to_string();
    let error = open(&trusting(Some(&path)), &context(2_000))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Config, "{error}");
    assert!(error.message().contains(&path), "{error}");
    // Plain text to a port that speaks TLS.
    let mut plain = database.config("s_");
    plain.insert("tls".to_owned(), false.into());
    let error = open(&plain, &context(2_000)).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    remove(&trusting(Some(&tls.authority)), &database.name).await;
}

/// Removes a database over TLS.
async fn remove(config: &ServiceConfig, database: &str) {
    let uri = config["uri"].as_str().unwrap();
    let mut options = ClientOptions::parse(uri).await.unwrap();
    let authority = config["tls_ca_file"].as_str().unwrap();
    let tls = TlsOptions::builder().ca_file_path(PathBuf::from(authority));
    options.tls = Some(Tls::Enabled(tls.build()));
    let client = mongodb::Client::with_options(options).unwrap();
    client.database(database).drop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_location_names_server_and_namespace_without_secrets() {
    for server in Server::all() {
        let database = server.database();
        let (username, password, host, port) = parts(&server).await;
        let factory = MongodbFactory::new();
        let location = factory
            .location(&database.config("s_"), &context(1_000))
            .unwrap();
        assert!(!location.contains(&password), "{location}");
        assert!(location.contains(&database.name), "{location}");
        let same = config(serde_json::json!({
            "host": host, "port": port, "username": username, "password": password,
            "database": database.name, "collection_prefix": "s_",
        }));
        assert_eq!(factory.location(&same, &context(1_000)).unwrap(), location);
        let other = factory.location(&database.config("t_"), &context(1_000));
        assert_ne!(other.unwrap(), location);
    }
}
