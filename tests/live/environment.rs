//! Which servers there are, and the report of what was tested.

use std::{env, io::Write};

/// A server that tests may run against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    /// Its name in reports and in `DBMANAGER_TEST_REQUIRED`.
    pub(crate) name: &'static str,
    /// The variable with its address.
    variable: &'static str,
    /// Whether the package registries give it.
    in_registries: bool,
}

pub(crate) const POSTGRES: Server = in_registries("postgres", "DBMANAGER_TEST_POSTGRES_URL");
pub(crate) const REDIS: Server = in_registries("redis", "DBMANAGER_TEST_REDIS_URL");
pub(crate) const REDIS_VECTOR_SETS: Server =
    in_registries("redis-vectorset", "DBMANAGER_TEST_REDIS_VECTORSET_URL");
pub(crate) const CHROMADB: Server = in_registries("chromadb", "DBMANAGER_TEST_CHROMADB_URL");
pub(crate) const NEO4J: Server = in_registries("neo4j", "DBMANAGER_TEST_NEO4J_URL");
pub(crate) const FERRETDB: Server = in_registries("ferretdb", "DBMANAGER_TEST_FERRETDB_URL");
/// No server, but files: the model that `DBMANAGER_TEST_ONNX_TOKENIZER` and `ORT_DYLIB_PATH`
/// belong to.
pub(crate) const MINILM: Server = in_registries("minilm", "DBMANAGER_TEST_ONNX_MODEL");
pub(crate) const MONGODB: Server = elsewhere("mongodb", "DBMANAGER_TEST_MONGODB_URL");
pub(crate) const QDRANT: Server = elsewhere("qdrant", "DBMANAGER_TEST_QDRANT_URL");

const fn in_registries(name: &'static str, variable: &'static str) -> Server {
    Server {
        name,
        variable,
        in_registries: true,
    }
}

const fn elsewhere(name: &'static str, variable: &'static str) -> Server {
    Server {
        name,
        variable,
        in_registries: false,
    }
}

impl Server {
    /// The server's address; `None`, with a line in the report, if there is none.
    ///
    /// # Panics
    /// If there is none and it is required.
    pub(crate) fn address(self) -> Option<String> {
        match env::var(self.variable) {
            Ok(address) if !address.is_empty() => Some(address),
            _ => {
                assert!(
                    !self.required(),
                    "{} is required, and {} is not set",
                    self.name,
                    self.variable
                );
                report(&format!(
                    "{}: not tested: {} is not set",
                    self.name, self.variable
                ));
                None
            }
        }
    }

    fn required(self) -> bool {
        let required = env::var("DBMANAGER_TEST_REQUIRED").unwrap_or_default();
        required
            .split(',')
            .map(str::trim)
            .any(|name| name == self.name || (name == "registry" && self.in_registries))
    }
}

/// A line that is shown even when the test passes: the test harness captures only what the print
/// macros write.
pub(crate) fn report(line: &str) {
    let mut out = std::io::stderr().lock();
    writeln!(out, "live: {line}").expect("standard error can be written");
}

/// A name that no other run uses, for databases, prefixes and collections.
pub(crate) fn unique(what: &str) -> String {
    let random = dbmanager_core::Runtime::tokio().random_u64();
    format!("{what}_{random:016x}")
}
