//! Who may come in: passwords, users, databases, versions, TLS.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::Arc,
};

use dbmanager_backend_vector::redis::RedisFactory;
use dbmanager_core::{
    Runtime,
    backend::{BackendErrorKind, BackendFactory, OpenContext},
};

use super::{
    Place, both, held, nearest,
    own::{Kind, Server},
    put, record,
};
use crate::environment::{REDIS, REDIS_VECTOR_SETS, Tls, unique};

/// The address with another password.
fn with_password(url: &str, password: &str) -> String {
    let (_, place) = url.rsplit_once('@').unwrap();
    format!("redis://:{password}@{place}")
}

#[tokio::test]
async fn a_wrong_password_is_denied_and_not_shown() {
    for (_, url) in both() {
        let place = Place::new(&url).with("url", with_password(&url, "a-wrong-one"));
        let error = place.try_open().await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Denied, "{error}");
        assert!(!format!("{error} {error:?}").contains("a-wrong-one"));
        let without = with_password(&url, "").replace(":@", "");
        let error = Place::new(&url)
            .with("url", without)
            .try_open()
            .await
            .unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Denied, "{error}");
    }
}

#[tokio::test]
async fn secrets_are_absent_from_debug() {
    for (_, url) in both() {
        let password = url.split_once("//:").unwrap().1.split_once('@').unwrap().0;
        let store = Place::new(&url).open().await;
        let shown = format!("{:?}", *store);
        assert!(!shown.contains(password), "{shown}");
    }
}

#[tokio::test]
async fn a_database_that_is_not_there_is_a_wrong_configuration() {
    for (name, url) in both() {
        let at = |database: &str| {
            let (server, _) = url.rsplit_once('/').unwrap();
            Place::new(&url).with("url", format!("{server}/{database}"))
        };
        let error = at("9999").try_open().await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Config, "{name}: {error}");
        let other = at("1").with("engine", "query_engine");
        let error = other.try_open().await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Config, "{name}: {error}");
    }
}

/// A server that greets as an old one does.
fn old_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                let count: usize = line.trim_start_matches('*').trim().parse().unwrap();
                for _ in 0..count {
                    line.clear();
                    reader.read_line(&mut line).unwrap();
                    let bytes: usize = line.trim_start_matches('$').trim().parse().unwrap();
                    reader.read_exact(&mut vec![0; bytes + 2]).unwrap();
                }
                line.clear();
                let greeting = "%4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n\
                                $5\r\n6.2.6\r\n$4\r\nrole\r\n$6\r\nmaster\r\n\
                                $7\r\nmodules\r\n*0\r\n";
                reader.get_mut().write_all(greeting.as_bytes()).unwrap();
            }
        }
    });
    port
}

#[tokio::test]
async fn an_old_server_is_refused_with_both_versions() {
    let url = format!("redis://127.0.0.1:{}", old_server());
    let error = Place::new(&url).try_open().await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Config, "{error}");
    for part in ["6.2.6", "7.2"] {
        assert!(error.message().contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_server_without_the_engine_asked_for_is_refused() {
    let Some((_, url)) = both().into_iter().find(|(name, _)| *name == "vector sets") else {
        return;
    };
    let place = Place::new(&url).with("engine", "query_engine");
    let error = place.try_open().await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Config, "{error}");
    assert!(error.message().contains("query engine"), "{error}");
}

#[tokio::test]
async fn a_closed_port_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = Place::new(&url).try_open().await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Unavailable, "{error}");
}

/// The rights that the page of the service lists are enough.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_few_rights_is_enough() {
    for kind in [Kind::QueryEngine, Kind::VectorSets] {
        let Some(server) = Server::start(kind, &["appendonly yes"]) else {
            return;
        };
        let place = Place::new(&server.url());
        let keys = format!("~{}", place.key("*"));
        let mut rights = vec![
            "ACL",
            "SETUSER",
            "few",
            "on",
            ">few-rights",
            &keys,
            "-@all",
            "+hello",
            "+evalsha",
            "+eval",
            "+script|load",
            "+hget",
            "+hset",
            "+hmget",
            "+hvals",
            "+hdel",
            "+hexists",
            "+del",
            "+unlink",
            "+set",
            "+zadd",
            "+zrem",
            "+zrange",
            "+zrangebylex",
            "+sadd",
            "+srem",
            "+sismember",
            "+waitaof",
        ];
        rights.extend(match kind {
            Kind::QueryEngine => &["+ft.create", "+ft.info", "+ft.search", "+ft.dropindex"][..],
            Kind::VectorSets => &["+vadd", "+vrem", "+vsim", "+vemb"],
        });
        server.wire().call(&rights).unwrap().done();
        let few = format!("redis://few:few-rights@127.0.0.1:{}/0", server.port());
        let store = place.clone().with("url", few).store().await;
        // `CONFIG` is not among the rights, so nothing is known of durability.
        assert!(!store.capabilities().durable);
        put(&store, "a", 1).await;
        put(&store, "a", 2).await;
        assert_eq!(nearest(&store, [1.0, 1.0, 1.0], 5).await.unwrap().len(), 1);
        store.fingerprints_of(super::ids(&["a"])).await.unwrap();
        let drop = dbmanager_core::backend::DropCollectionRequest::new(super::key(), 1);
        store.drop_collection(drop).await.unwrap();

        server
            .wire()
            .call(&["ACL", "SETUSER", "few", "-hset"])
            .unwrap()
            .done();
        let error = super::create(&store, 3).await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Denied, "{error}");
    }
}

/// The address and the authority of a server with TLS, if the environment names them.
#[tokio::test(flavor = "multi_thread")]
async fn tls_connects_by_the_right_authority_and_name_only() {
    for server in [REDIS, REDIS_VECTOR_SETS] {
        let (Some(tls), Some(plain)) = (server.tls(), server.address()) else {
            continue;
        };
        let Tls {
            url,
            authority,
            other_authority: other,
        } = tls;
        let place = Place::new(&plain).with("url", url.as_str());
        let right = place.clone().with("tls_ca_file", authority.as_str());
        let store = right.store().await;
        put(&store, "a", 1).await;
        assert_eq!(held(&store, "a").await, Some(super::version(1)));

        for wrong in [place.clone().with("tls_ca_file", other), place.clone()] {
            let error = wrong.try_open().await.unwrap_err();
            assert_eq!(error.kind(), BackendErrorKind::Config, "{error}");
            assert!(error.message().contains("certificate"), "{error}");
        }
        // The certificate names localhost and 127.0.0.1.
        let elsewhere = url.replace("localhost", "127.0.0.2");
        let error = right.with("url", elsewhere).try_open().await.unwrap_err();
        assert!(
            matches!(
                error.kind(),
                BackendErrorKind::Config | BackendErrorKind::Unavailable
            ),
            "{error}"
        );
        let named = url.replace("localhost", "other.localhost");
        let place = place
            .with("url", named)
            .with("tls_ca_file", authority.as_str());
        let error = place.try_open().await.unwrap_err();
        assert!(
            matches!(
                error.kind(),
                BackendErrorKind::Config | BackendErrorKind::Unavailable
            ),
            "{error}"
        );
        let missing = place.with("tls_ca_file", "/no/such/file.pem");
        let error = missing.try_open().await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Config, "{error}");
        assert!(error.message().contains("tls_ca_file"), "{error}");
    }
}

#[tokio::test]
async fn plain_text_off_loopback_is_refused_without_connecting() {
    let place = Place::new("redis://192.0.2.1:6379");
    let context = OpenContext::new(Runtime::tokio());
    let error = RedisFactory::new()
        .location(&place.settings, &context)
        .unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Config);
    let error = place.try_open().await.unwrap_err();
    assert!(error.message().contains("allow_plain_text"), "{error}");
}

/// Two managers on one place are told that it is one, and see each other's writes.
#[tokio::test(flavor = "multi_thread")]
async fn one_place_opened_twice_is_one() {
    for (_, url) in both() {
        let place = Place::new(&url);
        let context = OpenContext::new(Runtime::tokio());
        let factory = RedisFactory::new();
        let location = factory.location(&place.settings, &context).unwrap();
        let (_, server) = url.rsplit_once('@').unwrap();
        let (address, _) = server.rsplit_once('/').unwrap();
        let (host, port) = address.rsplit_once(':').unwrap();
        let parts = place
            .clone()
            .without("url")
            .with("host", host.to_ascii_uppercase())
            .with("port", port.parse::<u16>().unwrap());
        assert_eq!(
            factory.location(&parts.settings, &context).unwrap(),
            location
        );
        let (one, two) = (place.store().await, place.open().await);
        put(&one, "a", 1).await;
        assert_eq!(held(&two, "a").await, Some(super::version(1)));
        let other = place.clone().with("namespace", unique("named"));
        assert_ne!(
            factory.location(&other.settings, &context).unwrap(),
            location
        );
    }
}

/// What stands in an id, a name or a value is never read as syntax.
#[tokio::test(flavor = "multi_thread")]
async fn injections_are_stored_and_found_as_they_are() {
    use dbmanager_core::{
        backend::{Mutation, VectorSearchRequest},
        model::{Document, field},
    };
    let hostile = [
        "*=>[KNN 1 @e $q]",
        "@t:{all}",
        "}:x:{",
        "a\r\nFLUSHALL\r\n",
        "')) return redis.call('FLUSHALL') --",
        "1:00000000000000ff:a",
        "-",
        "+",
        "(a",
        "[a",
        "%s%n$q\\",
    ];
    for (name, url) in both() {
        let store = Place::new(&url).store().await;
        let mutations: Vec<_> = hostile
            .iter()
            .map(|text| {
                let document = Document::new(*text)
                    .title(*text)
                    .metadata(*text, *text)
                    .vector([1.0, 2.0, 3.0]);
                Mutation::upsert(*text, super::version(1), record(document))
            })
            .collect();
        for answer in super::apply(&store, mutations).await.unwrap() {
            answer.unwrap();
        }
        for text in hostile {
            let filter = Arc::new(field(text).eq(text));
            let request = VectorSearchRequest::new(super::key(), [1.0, 2.0, 3.0], 20);
            let hits = store.search_vectors(request.filter(Some(filter))).await;
            let hits = hits.unwrap();
            let found: Vec<&str> = hits.iter().map(|hit| &*hit.id).collect();
            assert_eq!(found, [text], "{name}");
        }
    }
}
