//! What the server is and can do, read when the store is opened.

use dbmanager_core::backend::{BackendError, BackendErrorKind, BackendResult};
use redis::{Cmd, Value, cmd};

use super::{
    config::{Config, Engine, wrong},
    connection::Session,
    convert::{integer, list, optional_text, pairs, take, text},
    keys::StoreKeys,
};

/// The layout that this adapter writes; a store says which one it has.
pub(super) const FORMAT: &str = "1";
/// `WAITAOF`, scripts with flags, and RESP3 answers of the query engine.
const LEAST_SERVER: (u32, u32) = (7, 2);
/// RESP3 answers, warnings among them: 2.8.
const LEAST_SEARCH: i64 = 20_800;
/// The server's default for the longest argument.
const DEFAULT_LONGEST_ARGUMENT: usize = 512 * 1024 * 1024;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) engine: Engine,
    /// `WAITAOF` tells when writes are on the disk.
    pub(super) durable: bool,
    /// They are before the server answers.
    pub(super) durable_on_apply: bool,
    /// Bytes of the longest argument that the server takes.
    pub(super) longest_argument: usize,
}

/// What `HELLO` answers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Greeting {
    version: String,
    role: String,
    /// The version of the search module.
    search: Option<i64>,
    vector_sets: bool,
}

/// Connects and checks everything that must hold before the store is used. Changes nothing.
pub(super) async fn inspect(
    session: &Session,
    config: &Config,
    keys: &StoreKeys,
) -> BackendResult<Server> {
    let greeting = greeting(session.call(cmd("HELLO")).await?)?;
    greeting.check()?;
    // The first request with a key: in a cluster, from here on the node that holds the store.
    let held = layout(session, keys).await?;
    let greeting_there = self::greeting(session.call(cmd("HELLO")).await?)?;
    greeting_there.check()?;
    let engine = greeting_there.engine(config, held)?;
    let settings = Settings::read(session).await?;
    settings.check()?;
    let syncs = matches!(
        settings.append_fsync.as_deref(),
        Some("always" | "everysec")
    );
    let durable =
        settings.append_only.as_deref() == Some("yes") && syncs && may_wait(session).await?;
    Ok(Server {
        engine,
        durable,
        durable_on_apply: durable && settings.append_fsync.as_deref() == Some("always"),
        longest_argument: settings
            .longest_argument
            .unwrap_or(DEFAULT_LONGEST_ARGUMENT),
    })
}

/// The engine that the store was made for; `None` for a store that nothing was written to.
async fn layout(session: &Session, keys: &StoreKeys) -> BackendResult<Option<Engine>> {
    let mut read = cmd("HMGET");
    read.arg(&keys.store).arg("format").arg("engine");
    let mut held = list("the layout", session.call(read).await?)?.into_iter();
    let mut field = || optional_text("the layout", held.next().unwrap_or(Value::Nil));
    check_layout(field()?.as_deref(), field()?.as_deref())
}

/// Refuses another layout than this adapter's.
pub(super) fn check_layout(
    format: Option<&str>,
    engine: Option<&str>,
) -> BackendResult<Option<Engine>> {
    match (format, engine) {
        (None, None) => Ok(None),
        (Some(FORMAT), Some(engine)) => Engine::parse(engine)
            .map(Some)
            .ok_or_else(|| wrong(format!("the store was made for the engine {engine:?}"))),
        (format, _) => Err(wrong(format!(
            "the store has the layout {}, this version of the adapter knows layout {FORMAT}",
            format.unwrap_or("\"none\"")
        ))),
    }
}

fn greeting(value: Value) -> BackendResult<Greeting> {
    let mut fields = pairs("HELLO", value)?;
    let mut field = |key: &str| take(&mut fields, key).unwrap_or(Value::Nil);
    let mut greeting = Greeting {
        version: text("HELLO", field("version"))?,
        role: text("HELLO", field("role"))?,
        search: None,
        vector_sets: false,
    };
    for module in list("the modules of HELLO", field("modules"))? {
        let mut module = pairs("a module of HELLO", module)?;
        let name = take(&mut module, "name").unwrap_or(Value::Nil);
        match text("the name of a module", name)?.as_str() {
            "search" => {
                let version = take(&mut module, "ver").unwrap_or(Value::Nil);
                greeting.search = Some(integer("the version of a module", version)?);
            }
            "vectorset" => greeting.vector_sets = true,
            _ => {}
        }
    }
    Ok(greeting)
}

impl Greeting {
    fn check(&self) -> BackendResult<()> {
        let mut numbers = self.version.split('.').map(|part| part.parse::<u32>());
        let found = match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
            _ => None,
        };
        if found.is_none_or(|found| found < LEAST_SERVER) {
            return Err(wrong(format!(
                "the server is Redis {}; {}.{} or newer is needed",
                self.version, LEAST_SERVER.0, LEAST_SERVER.1
            )));
        }
        if self.role != "master" {
            return Err(BackendError::new(
                BackendErrorKind::Unavailable,
                format!("the server is a read-only replica (role {:?})", self.role),
            )
            .not_applied());
        }
        Ok(())
    }

    /// What is configured, else what the store was made for, else the query engine, else vector
    /// sets; each only if the server has it.
    fn engine(&self, config: &Config, held: Option<Engine>) -> BackendResult<Engine> {
        if let (Some(held), Some(asked)) = (held, config.engine)
            && held != asked
        {
            return Err(wrong(format!(
                "engine is {asked}, and the store was made for {held}"
            )));
        }
        let searches = self.search.is_some() && config.database == 0;
        let engine = config.engine.or(held).unwrap_or(if searches {
            Engine::QueryEngine
        } else {
            Engine::VectorSets
        });
        match engine {
            Engine::QueryEngine => self.check_search(config)?,
            Engine::VectorSets if !self.vector_sets => {
                return Err(wrong(format!(
                    "the server, Redis {}, has no vector sets (Redis 8.0 or newer has them){}",
                    self.version,
                    if self.search.is_none() {
                        " and no query engine"
                    } else {
                        ""
                    }
                )));
            }
            Engine::VectorSets => {}
        }
        Ok(engine)
    }

    fn check_search(&self, config: &Config) -> BackendResult<()> {
        match self.search {
            None => Err(wrong("the server has no query engine (module \"search\")")),
            Some(version) if version < LEAST_SEARCH => Err(wrong(format!(
                "the server's query engine has version {version}; {LEAST_SEARCH} (2.8) or newer \
                 is needed"
            ))),
            Some(_) if config.database != 0 => Err(wrong(format!(
                "database is {}, and the query engine indexes database 0 only",
                config.database
            ))),
            Some(_) => Ok(()),
        }
    }
}

/// What `CONFIG GET` shows; nothing where the user may not ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Settings {
    append_only: Option<String>,
    append_fsync: Option<String>,
    max_memory: Option<String>,
    eviction: Option<String>,
    longest_argument: Option<usize>,
}

impl Settings {
    async fn read(session: &Session) -> BackendResult<Self> {
        let mut ask = Cmd::new();
        ask.arg("CONFIG").arg("GET");
        for name in [
            "appendonly",
            "appendfsync",
            "maxmemory",
            "maxmemory-policy",
            "proto-max-bulk-len",
        ] {
            ask.arg(name);
        }
        let found = match session.call(ask).await {
            Ok(found) => found,
            // Services that run Redis for others hide the command or forbid it.
            Err(error) if !error.is_transient() || is_unknown_command(&error) => {
                return Ok(Self::default());
            }
            Err(error) => return Err(error),
        };
        let mut found = pairs("CONFIG GET", found)?;
        let mut setting =
            |name: &str| optional_text("a setting", take(&mut found, name).unwrap_or(Value::Nil));
        Ok(Self {
            append_only: setting("appendonly")?,
            append_fsync: setting("appendfsync")?,
            max_memory: setting("maxmemory")?,
            eviction: setting("maxmemory-policy")?,
            longest_argument: setting("proto-max-bulk-len")?.and_then(|text| text.parse().ok()),
        })
    }

    /// A server that throws away any key when its memory is full loses documents one by one, and
    /// no stamp shows it.
    fn check(&self) -> BackendResult<()> {
        let bounded = self.max_memory.as_deref().is_some_and(|most| most != "0");
        match self.eviction.as_deref() {
            Some(policy) if bounded && policy.starts_with("allkeys-") => Err(wrong(format!(
                "the server throws away any key when its memory is full (maxmemory-policy is \
                 {policy}); \"noeviction\" is needed"
            ))),
            _ => Ok(()),
        }
    }
}

fn is_unknown_command(error: &BackendError) -> bool {
    error.message().contains("unknown command") || error.message().contains("unknown subcommand")
}

/// Whether the user may wait for the append-only file.
async fn may_wait(session: &Session) -> BackendResult<bool> {
    let mut wait = cmd("WAITAOF");
    wait.arg(0).arg(0).arg(1);
    match session.call(wait).await {
        Ok(_) => Ok(true),
        Err(error) if !error.is_transient() || is_unknown_command(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(value: serde_json::Value) -> Config {
        Config::parse(value.as_object().unwrap()).unwrap()
    }

    fn redis(version: &str, search: Option<i64>, vector_sets: bool) -> Greeting {
        Greeting {
            version: version.to_owned(),
            role: "master".to_owned(),
            search,
            vector_sets,
        }
    }

    #[test]
    fn an_old_server_is_refused_with_both_versions() {
        for version in ["6.2.14", "7.0.15", "7", "?"] {
            let error = redis(version, None, true).check().unwrap_err();
            assert_eq!(error.kind(), BackendErrorKind::Config);
            assert!(error.message().contains(version), "{error}");
            assert!(error.message().contains("7.2"), "{error}");
        }
        for version in ["7.2.0", "8.2.3", "10.0.1"] {
            assert!(redis(version, None, true).check().is_ok(), "{version}");
        }
    }

    #[test]
    fn the_engine_is_what_was_asked_for_held_or_found() {
        let asked = |engine: &str| config(json!({ "engine": engine }));
        let any = config(json!({}));
        let both = redis("8.2.3", Some(21_005), true);
        let sets = redis("8.2.3", None, true);
        let engine = |greeting: &Greeting, config: &Config, held| greeting.engine(config, held);
        assert_eq!(engine(&both, &any, None).unwrap(), Engine::QueryEngine);
        assert_eq!(engine(&sets, &any, None).unwrap(), Engine::VectorSets);
        let held = Some(Engine::VectorSets);
        assert_eq!(engine(&both, &any, held).unwrap(), Engine::VectorSets);
        let one = config(json!({"database": 1}));
        assert_eq!(engine(&both, &one, None).unwrap(), Engine::VectorSets);
        for (greeting, config, held, part) in [
            (&both, asked("query_engine"), held, "made for vector_sets"),
            (&sets, asked("query_engine"), None, "no query engine"),
            (
                &sets,
                any.clone(),
                Some(Engine::QueryEngine),
                "no query engine",
            ),
            (&redis("7.4.0", None, false), any, None, "Redis 8.0"),
            (
                &redis("7.2.0", Some(20_600), false),
                asked("query_engine"),
                None,
                "20600",
            ),
            (
                &both,
                config(json!({"engine": "query_engine", "database": 1})),
                None,
                "database 0",
            ),
        ] {
            let error = engine(greeting, &config, held).unwrap_err();
            assert!(error.message().contains(part), "{error}");
        }
    }

    #[test]
    fn another_layout_is_refused() {
        assert_eq!(check_layout(None, None).unwrap(), None);
        let held = check_layout(Some("1"), Some("vector_sets")).unwrap();
        assert_eq!(held, Some(Engine::VectorSets));
        for (format, engine) in [
            (Some("2"), Some("vector_sets")),
            (None, Some("vector_sets")),
            (Some("1"), None),
            (Some("1"), Some("other")),
        ] {
            let error = check_layout(format, engine).unwrap_err();
            assert_eq!(
                error.kind(),
                BackendErrorKind::Config,
                "{format:?} {engine:?}"
            );
        }
    }

    #[test]
    fn a_server_that_evicts_any_key_is_refused() {
        let settings = |most: &str, policy: &str| Settings {
            max_memory: Some(most.to_owned()),
            eviction: Some(policy.to_owned()),
            ..Settings::default()
        };
        assert!(settings("0", "allkeys-lru").check().is_ok());
        assert!(settings("100", "noeviction").check().is_ok());
        assert!(settings("100", "volatile-lru").check().is_ok());
        assert!(settings("100", "allkeys-lru").check().is_err());
        assert!(Settings::default().check().is_ok());
    }
}
