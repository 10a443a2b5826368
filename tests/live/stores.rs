//! The servers as stores of a manager: how each is configured, in a namespace of its own.

use std::{
    collections::BTreeSet,
    env,
    sync::{Mutex, PoisonError},
};

use dbmanager_core::{backend::ServiceConfig, model::Role};
use serde_json::json;

use crate::environment::{self, Server};

/// A server in the role that it plays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LiveStore {
    server: Server,
    pub(crate) role: Role,
    /// The name of the service in a configuration.
    pub(crate) service: &'static str,
    /// How many times longer than others it is waited for: it serves one request after the other.
    pub(crate) patience: u32,
    /// The configuration for this address and namespace.
    config: fn(address: &str, namespace: &str) -> serde_json::Value,
}

pub(crate) const POSTGRES: LiveStore = LiveStore {
    server: environment::POSTGRES,
    role: Role::Relational,
    service: "postgres",
    patience: 1,
    config: |address, namespace| json!({"url": address, "schema": namespace}),
};

pub(crate) const FERRETDB: LiveStore = LiveStore {
    server: environment::FERRETDB,
    ..MONGODB
};

pub(crate) const MONGODB: LiveStore = LiveStore {
    server: environment::MONGODB,
    role: Role::Relational,
    service: "mongodb",
    patience: 1,
    config: |address, namespace| json!({"uri": address, "collection_prefix": namespace}),
};

pub(crate) const NEO4J: LiveStore = LiveStore {
    server: environment::NEO4J,
    role: Role::Graph,
    service: "neo4j",
    patience: 1,
    config: |address, namespace| {
        let (scheme, rest) = address.split_once("://").expect("a URL has a scheme");
        let (user, server) = rest.rsplit_once('@').expect("the URL names a user");
        let (username, password) = user.split_once(':').expect("the user has a password");
        json!({
            "uri": format!("{scheme}://{server}"),
            "username": username,
            "password": password,
            "namespace": namespace,
        })
    },
};

pub(crate) const CHROMADB: LiveStore = LiveStore {
    server: environment::CHROMADB,
    role: Role::Vector,
    service: "chromadb",
    patience: 3,
    config: |address, namespace| json!({"url": address, "collection_prefix": namespace}),
};

pub(crate) const REDIS: LiveStore = LiveStore {
    server: environment::REDIS,
    role: Role::Vector,
    service: "redis",
    patience: 1,
    config: |address, namespace| json!({"url": address, "namespace": namespace}),
};

pub(crate) const REDIS_VECTOR_SETS: LiveStore = LiveStore {
    server: environment::REDIS_VECTOR_SETS,
    ..REDIS
};

pub(crate) const QDRANT: LiveStore = LiveStore {
    server: environment::QDRANT,
    role: Role::Vector,
    service: "qdrant",
    patience: 1,
    config: |address, namespace| match env::var("DBMANAGER_TEST_QDRANT_API_KEY") {
        Ok(key) => json!({"url": address, "collection_prefix": namespace, "api_key": key}),
        Err(_) => json!({"url": address, "collection_prefix": namespace}),
    },
};

/// Servers that were reported as not tested; once is enough.
static ABSENT: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

impl LiveStore {
    /// The server's name in reports.
    pub(crate) fn name(self) -> &'static str {
        self.server.name
    }

    /// The server's address, if there is one.
    ///
    /// # Panics
    /// If there is none and it is required.
    pub(crate) fn address(self) -> Option<String> {
        let name = self.name();
        let known_absent = {
            let absent = ABSENT.lock().unwrap_or_else(PoisonError::into_inner);
            absent.contains(name)
        };
        let address = (!known_absent).then(|| self.server.address()).flatten();
        if address.is_none() {
            let mut absent = ABSENT.lock().unwrap_or_else(PoisonError::into_inner);
            absent.insert(name);
        }
        address
    }

    /// What stands under `config` for this address and namespace.
    pub(crate) fn config(self, address: &str, namespace: &str) -> ServiceConfig {
        match (self.config)(address, namespace) {
            serde_json::Value::Object(config) => config,
            other => panic!("a configuration is an object, not {other}"),
        }
    }
}
