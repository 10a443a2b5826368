//! Which servers there are, and the report of what was tested.

use std::{env, io::Write, path::PathBuf};

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

/// A way to a server over TLS, by certificate files.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    /// The encrypted address.
    pub(crate) url: String,
    /// The certificate of the authority that vouches for the server.
    pub(crate) authority: String,
    /// The certificate of an authority that does not.
    pub(crate) other_authority: String,
}

impl Server {
    /// The server's address; `None`, with a line in the report, if there is none.
    ///
    /// # Panics
    /// If there is none and it is required.
    pub(crate) fn address(self) -> Option<String> {
        self.variable(self.variable)
    }

    /// The way to the server over TLS, under the rule of [`address`](Self::address).
    pub(crate) fn tls(self) -> Option<Tls> {
        let url = self.variable.replace("_URL", "_TLS_URL");
        Some(Tls {
            url: self.variable(&url)?,
            authority: self.variable("DBMANAGER_TEST_TLS_CA")?,
            other_authority: self.variable("DBMANAGER_TEST_TLS_OTHER_CA")?,
        })
    }

    /// What stands at `path` below the directory of `scripts/servers`: the programs for a server
    /// of a test's own, which may be stopped and started. Under the rule of
    /// [`address`](Self::address).
    pub(crate) fn software(self, path: &str) -> Option<PathBuf> {
        let directory = PathBuf::from(self.variable("DBMANAGER_SERVERS_DIR")?);
        let software = directory.join(path);
        if software.exists() {
            return Some(software);
        }
        self.absent(&format!("there is no {}", software.display()));
        None
    }

    fn variable(self, name: &str) -> Option<String> {
        let value = env::var(name).ok().filter(|value| !value.is_empty());
        if value.is_none() {
            self.absent(&format!("{name} is not set"));
        }
        value
    }

    fn absent(self, reason: &str) {
        assert!(!self.required(), "{} is required: {reason}", self.name);
        // The test's thread has its name.
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a test");
        report(&format!("{}: not tested: {reason} ({test})", self.name));
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
