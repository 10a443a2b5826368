use super::*;
use crate::model::{Metric, Tokenizer};

/// The configuration of the mission, as it stands there.
const MISSION: &str = r#"
    {"vector": {"enabled": true, "type": "chromadb", "config": {"host": "localhost", "port": 8000, "collection_prefix": "veritas_"}},
     "graph": {"enabled": true, "type": "neo4j", "config": {"uri": "bolt://localhost:7687", "username": "neo4j", "password": "…"}},
     "relational": {"enabled": true, "type": "sqlite", "config": {"database_path": "databases/veritas.db", "enable_wal": true}},
     "performance": {"connection_pool_size": 20, "query_timeout": 30, "retry_attempts": 3, "circuit_breaker_threshold": 5, "cache_ttl": 300, "batch_size": 100}}
"#;

const MISSION_TOML: &str = r#"
    [vector]
    enabled = true
    type = "chromadb"
    config = { host = "localhost", port = 8000, collection_prefix = "veritas_" }
    [graph]
    enabled = true
    type = "neo4j"
    [graph.config]
    uri = "bolt://localhost:7687"
    username = "neo4j"
    password = "…"
    [relational]
    type = "sqlite"
    config = { database_path = "databases/veritas.db", enable_wal = true }
    [performance]
    connection_pool_size = 20
    query_timeout = "30s"
    retry_attempts = 3
    circuit_breaker_threshold = 5
    cache_ttl = "5m"
    batch_size = 100
"#;

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn message(json: &str) -> String {
    let config = Config::from_json(json).and_then(|config| config.settings());
    config.unwrap_err().message().to_owned()
}

#[test]
fn the_missions_shape_parses_as_it_stands() {
    let settings = Config::from_json(MISSION).unwrap().settings().unwrap();
    let vector = settings.store(Role::Vector).unwrap();
    assert_eq!(vector.service, "chromadb");
    assert_eq!(vector.config["port"], 8000);
    assert_eq!(vector.config["collection_prefix"], "veritas_");
    let graph = settings.store(Role::Graph).unwrap();
    assert_eq!(graph.config["uri"], "bolt://localhost:7687");
    let relational = settings.store(Role::Relational).unwrap();
    assert_eq!(relational.config["enable_wal"], true);
    assert_eq!(
        settings.performance,
        PerformanceSettings {
            connection_pool_size: 20,
            query_timeout: Duration::from_secs(30),
            retry_attempts: 3,
            circuit_breaker_threshold: 5,
            cache_ttl: Duration::from_secs(300),
            cache_size: 64 * 1024 * 1024,
            batch_size: 100,
        }
    );
    let toml = Config::from_toml(MISSION_TOML).unwrap().settings().unwrap();
    assert_eq!(toml, settings);
}

#[test]
fn every_further_key_is_read() {
    let settings = Config::from_json(
        r#"{"data_directory": "/data",
            "vector": {"type": "memory"},
            "graph": {"enabled": false, "type": "memory"},
            "relational": {"enabled": false},
            "journal": {"type": "memory", "config": {"path": "/j", "max_entries": 10,
                        "max_bytes": "2GiB", "record_lifetime": "2d",
                        "max_operations": 30, "max_keys": 20}},
            "write": {"level": "all", "timeout": "1500ms", "max_in_flight": 7},
            "search": {"timeout": 2.5},
            "embedding": {"type": "none", "config": {"x": 1}},
            "health": {"interval": 1, "timeout": "500ms", "failure_threshold": 2, "success_threshold": 4},
            "collections": {"papers": {"tokenizer": "trigram"},
                            "Notes": {"embedding_space": {"model": "m", "dimension": 3, "metric": "dot"}},
                            "plain": {}}}"#,
    )
    .unwrap()
    .settings()
    .unwrap();
    assert_eq!(settings.data_directory, Some(PathBuf::from("/data")));
    assert!(settings.store(Role::Vector).is_some());
    assert!(settings.store(Role::Graph).is_none() && settings.graph.is_some());
    assert!(settings.relational.is_none());
    assert_eq!(
        settings.journal,
        JournalSettings {
            journal_type: JournalType::Memory,
            path: Some(PathBuf::from("/j")),
            max_entries: Some(10),
            max_bytes: Some(2 << 30),
            max_operations: Some(30),
            max_keys: Some(20),
            record_lifetime: Duration::from_secs(2 * 86_400),
            ..JournalSettings::default()
        }
    );
    assert_eq!(settings.write.level, Level::All);
    assert_eq!(settings.write.max_in_flight, 7);
    assert_eq!(settings.write.timeout, Duration::from_millis(1_500));
    assert_eq!(settings.search.timeout, Duration::from_millis(2_500));
    assert_eq!(settings.embedding.embedding_type, "none");
    assert_eq!(settings.health.timeout, Duration::from_millis(500));
    assert_eq!(settings.health.success_threshold, 4);
    assert_eq!(settings.collections["papers"].tokenizer, Tokenizer::Trigram);
    let space = settings.collections["Notes"].embedding_space.as_ref();
    assert_eq!(space.unwrap().metric, Metric::Dot);
    assert_eq!(settings.collections["plain"], CollectionOptions::default());
}

#[test]
fn what_is_wrong_is_said_with_its_key() {
    for (json, expected) in [
        (
            r#"{"vectro": {"type": "memory"}}"#,
            r#"unknown key "vectro"; did you mean "vector"?"#,
        ),
        (
            r#"{"vector": {"typ": "memory"}}"#,
            r#"unknown key "vector.typ"; did you mean "vector.type"?"#,
        ),
        (
            r#"{"write": {"quux": 1}}"#,
            r#"unknown key "write.quux"; known here: level, timeout, max_in_flight"#,
        ),
        (
            r#"{"journal": {"config": {"max_entry": 1}}}"#,
            r#"unknown key "journal.config.max_entry"; did you mean "journal.config.max_entries"?"#,
        ),
        (
            r#"{"collections": {"papers": {"tokeniser": "english"}}}"#,
            r#"unknown key "collections.papers.tokeniser"; did you mean "collections.papers.tokenizer"?"#,
        ),
        (r#"{"vector": {}}"#, r#""vector.type" is missing"#),
        (
            r#"{"graph": "bolt://neo4j:hunter2@db"}"#,
            r#""graph" must be a section, found "bolt://***@db""#,
        ),
        (
            r#"{"vector": "memory"}"#,
            r#""vector" must be a section, found "memory""#,
        ),
        (
            r#"{"vector": {"type": "memory", "enabled": "yes"}}"#,
            r#""vector.enabled" must be true or false, found "yes""#,
        ),
        (
            r#"{"write": {"level": "most"}}"#,
            r#""write.level" must be one of journaled, one, quorum, all, found "most""#,
        ),
        (
            r#"{"write": {"timeout": "5 minutes"}}"#,
            r#""write.timeout" must be a time: seconds, or text like "500ms", "30s", "5m", found "5 minutes""#,
        ),
        (
            r#"{"performance": {"retry_attempts": -1}}"#,
            r#""performance.retry_attempts" must be a whole number of at least 0, found -1"#,
        ),
        (
            r#"{"vector": {"type": "memory"}, "performance": {"batch_size": 0}}"#,
            r#""performance.batch_size" must be at least 1"#,
        ),
        (
            r#"{"vector": {"type": "memory"}, "write": {"max_in_flight": 0}}"#,
            r#""write.max_in_flight" must be at least 1"#,
        ),
        (
            r#"{"vector": {"type": "memory"}, "search": {"timeout": 0}}"#,
            r#""search.timeout" must be more than zero"#,
        ),
        (
            r#"{"vector": {"type": "memory"}, "journal": {"config": {"record_lifetime": "1h"}}}"#,
            r#""journal.config.record_lifetime" must be at least 24 hours"#,
        ),
        (r#"{"journal": {"type": ""}}"#, r#""journal.type" is empty"#),
        (
            r#"{"journal": {"type": "postgres", "config": {"lease": "soon"}}}"#,
            r#""journal.config.lease" must be a time: seconds, or text like "500ms", "30s", "5m", found "soon""#,
        ),
        (
            r#"{"vector": {"type": "memory"}, "journal": {"type": "x", "config": {"lease": 0}}}"#,
            r#""journal.config.lease" must be more than zero"#,
        ),
        (
            r#"{"journal": {"config": {"max_bytes": "1MB"}}}"#,
            r#""journal.config.max_bytes" must be a size: bytes, or text like "512MiB", "2GiB", found "1MB""#,
        ),
        (
            r#"{"collections": {"p": {"embedding_space": {"model": "m"}}}}"#,
            r#""collections.p.embedding_space.dimension" is missing"#,
        ),
        (
            r#"{"vector": {"type": "memory"}, "collections": {"": {}}}"#,
            r#"a collection's name has 1 to 255 bytes and no NUL, found "" under "collections""#,
        ),
        (
            r#"{"vector": {"enabled": false, "type": "memory"}}"#,
            "every store is disabled: enable at least one of vector, graph, relational",
        ),
        (
            "{}",
            "no store is configured: enable at least one of vector, graph, relational",
        ),
        ("[]", "the configuration must be a JSON object"),
        (
            r#"{"vector": {"type": "a", "type": "b"}}"#,
            r#"not valid JSON: the key "type" stands twice at line 1 column 37"#,
        ),
        (
            r#"{"vector": "#,
            "not valid JSON: EOF while parsing a value at line 1 column 11",
        ),
    ] {
        assert_eq!(message(json), expected, "{json}");
    }
}

#[test]
fn a_syntax_error_shows_no_line_of_the_file() {
    let text = "[graph]\ntype = \"neo4j\"\nconfig = { password = \"hunter2 }\n";
    let error = Config::from_toml(text).unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(error.message().starts_with("not valid TOML: "), "{error}");
    assert!(error.message().ends_with(" at line 3"), "{error}");
}

#[test]
fn files_are_known_by_their_extension() {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [("a.json", MISSION), ("a.toml", MISSION_TOML)] {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        Config::from_file(&path).unwrap().settings().unwrap();
    }
    let error = Config::from_file("a.yaml").unwrap_err();
    assert_eq!(
        error.message(),
        "the configuration file \"a.yaml\" must end in .json or .toml"
    );
    let missing = directory.path().join("missing.toml");
    let error = Config::from_file(missing).unwrap_err();
    assert!(error.message().contains("missing.toml\" cannot be read: "));
    let broken = directory.path().join("broken.json");
    std::fs::write(&broken, "{").unwrap();
    let error = Config::from_file(&broken).unwrap_err();
    assert!(error.to_string().contains("broken.json"), "{error}");
}

#[test]
fn the_environment_stands_over_the_file_and_code_over_both() {
    let config = Config::from_json(
        r#"{"vector": {"type": "chromadb", "config": {"host": "file", "port": 1, "prefix": "7"}},
            "write": {"timeout": 1, "level": "one"},
            "collections": {"Papers": {}}}"#,
    )
    .unwrap()
    .with_environment(variables(&[
        ("DBMANAGER__VECTOR__CONFIG__HOST", "environment"),
        ("DBMANAGER__VECTOR__CONFIG__PORT", "8000"),
        ("DBMANAGER__VECTOR__CONFIG__PREFIX", "8"),
        ("DBMANAGER__VECTOR__CONFIG__PASSWORD", "4711"),
        ("DBMANAGER__VECTOR__CONFIG__TENANT", "\"42\""),
        ("DBMANAGER__GRAPH__TYPE", "memory"),
        ("DBMANAGER__GRAPH__ENABLED", "false"),
        ("DBMANAGER__WRITE__TIMEOUT", "2500ms"),
        ("DBMANAGER__COLLECTIONS__PAPERS__TOKENIZER", "unicode"),
        ("DBMANAGER_DATASETS", "/not/ours"),
        ("PATH", "/bin"),
    ]));
    let settings = config.settings().unwrap();
    let vector = &settings.vector.as_ref().unwrap().config;
    assert_eq!(vector["host"], "environment");
    assert_eq!(vector["port"], 8000);
    assert_eq!(vector["prefix"], "8", "text in the file stays text");
    assert_eq!(vector["password"], "4711", "a secret is text");
    assert_eq!(vector["tenant"], "42", "quoted is text");
    assert!(settings.store(Role::Graph).is_none());
    assert_eq!(settings.write.timeout, Duration::from_millis(2_500));
    assert_eq!(settings.write.level, Level::One);
    let tokenizer = settings.collections["Papers"].tokenizer;
    assert_eq!(tokenizer, Tokenizer::Unicode);

    let config = config
        .write(Level::All, Duration::from_secs(9))
        .store(Role::Vector, "memory", ServiceConfig::new())
        // Over what was set in code before, too.
        .with_environment(variables(&[("DBMANAGER__WRITE__TIMEOUT", "7")]));
    let settings = config.settings().unwrap();
    assert_eq!(settings.write.timeout, Duration::from_secs(9));
    assert_eq!(
        settings.vector,
        Some(StoreSettings::new("memory", ServiceConfig::new()))
    );
}

#[test]
fn what_is_wrong_in_the_environment_is_said_with_its_variable() {
    for (name, value, expected) in [
        (
            "DBMANAGER__VECTRO__TYPE",
            "x",
            r#"unknown key "vectro" (from the environment variable DBMANAGER__VECTRO__TYPE); did you mean "vector"?"#,
        ),
        (
            "DBMANAGER__WRITE__TIMEOUT",
            "soon",
            r#""write.timeout" must be a time: seconds, or text like "500ms", "30s", "5m", found "soon" (from the environment variable DBMANAGER__WRITE__TIMEOUT)"#,
        ),
        (
            "DBMANAGER__VECTOR__TYPE__X",
            "1",
            r#""vector.type" is not a section (from the environment variable DBMANAGER__VECTOR__TYPE__X)"#,
        ),
        (
            "DBMANAGER__VECTOR__",
            "1",
            "the environment variable DBMANAGER__VECTOR__ names no key",
        ),
    ] {
        let config = Config::in_memory().with_environment(variables(&[(name, value)]));
        assert_eq!(config.settings().unwrap_err().message(), expected);
    }
}

#[test]
fn a_registered_journal_has_keys_of_its_own_beside_the_common_ones() {
    let config = Config::from_json(
        r#"{
            "vector": {"type": "memory"},
            "journal": {"type": "postgres", "config": {
                "host": "db", "password": {"env": "SECRET"}, "path": "its own",
                "lease": "2s", "poll_interval": "20ms", "max_entries": 7
            }}
        }"#,
    )
    .unwrap();
    let mut settings = config.settings().unwrap();
    settings
        .resolve_secrets_with(|name| (name == "SECRET").then(|| "hunter2".to_owned()))
        .unwrap();
    let journal = &settings.journal;
    let service = JournalType::Service("postgres".to_owned());
    assert_eq!(journal.journal_type, service);
    assert_eq!(journal.lease, Some(Duration::from_secs(2)));
    assert_eq!(journal.poll_interval, Some(Duration::from_millis(20)));
    assert_eq!(journal.max_entries, Some(7));
    let own = serde_json::json!({"host": "db", "password": "hunter2", "path": "its own"});
    assert_eq!(serde_json::Value::from(journal.config.clone()), own);
    let shown = format!("{settings:?}");
    assert!(
        !shown.contains("hunter2") && shown.contains("***"),
        "{shown}"
    );
}

#[test]
fn the_ready_made_configurations_are_complete() {
    let settings = Config::embedded("/data").settings().unwrap();
    let services = Role::ALL.map(|role| settings.store(role).unwrap().service.clone());
    assert_eq!(services, ["embedded", "sqlite", "sqlite"]);
    assert_eq!(settings.journal_path(), PathBuf::from("/data/journal"));
    assert_eq!(settings.embedding.embedding_type, "hashing");

    let settings = Config::in_memory().settings().unwrap();
    assert_eq!(settings.journal.journal_type, JournalType::Memory);
    assert_eq!(
        settings.journal_path(),
        PathBuf::from("./dbmanager/journal")
    );

    let config = Config::embedded("/data")
        .disable(Role::Vector)
        .disable(Role::Graph);
    let settings = config.settings().unwrap();
    assert!(settings.store(Role::Vector).is_none());
    let error = config.disable(Role::Relational).settings().unwrap_err();
    assert!(error.message().starts_with("every store is disabled"));
}

#[test]
fn debug_shows_no_secret() {
    let mut config = Config::from_json(MISSION)
        .unwrap()
        .with_environment(variables(&[
            ("DBMANAGER__GRAPH__CONFIG__PASSWORD", "hunter2"),
            (
                "DBMANAGER__GRAPH__CONFIG__URI",
                "bolt://neo4j:hunter2@db:7687",
            ),
            ("DBMANAGER__EMBEDDING__CONFIG__API_KEY", "hunter2"),
        ]));
    for _ in 0..2 {
        let shown = format!("{config:?} {config:#?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("bolt://***@db:7687"), "{shown}");
        config = config.adjust(|settings| {
            let vector = settings.vector.as_mut().unwrap();
            vector.config.insert("token".into(), "hunter2".into());
        });
    }
    let broken = config.with_environment(variables(&[("DBMANAGER__X", "hunter2")]));
    let shown = format!("{broken:?}");
    assert!(shown.contains("unknown key"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn secrets_come_from_the_environment_or_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    std::fs::write(&file, "from file \n").unwrap();
    let json = json!({
        "graph": {"type": "neo4j", "config": {
            "uri": {"env": "THE_URI"},
            "password": {"file": file},
            "nodes": [{"auth_token": {"env": "THE_TOKEN"}}],
            "tls": {"file": "stays"},
        }},
        "vector": {"enabled": false, "type": "x", "config": {"password": {"env": "NOT_SET"}}},
    });
    let mut settings = Config::from_json(&json.to_string())
        .unwrap()
        .settings()
        .unwrap();
    let environment = |name: &str| match name {
        "THE_URI" | "THE_TOKEN" => Some(format!("value of {name}")),
        _ => None,
    };
    settings.resolve_secrets_with(environment).unwrap();
    let config = &settings.graph.as_ref().unwrap().config;
    assert_eq!(config["uri"], "value of THE_URI");
    assert_eq!(config["password"], "from file ");
    assert_eq!(config["nodes"][0]["auth_token"], "value of THE_TOKEN");
    assert_eq!(config["tls"], json!({"file": "stays"}));
    assert!(!format!("{settings:?}").contains("from file"));
}

#[test]
fn a_secret_that_is_not_there_is_named_by_its_key() {
    for (password, expected) in [
        (
            json!({"env": "NOT_SET"}),
            r#""graph.config.password": the environment variable "NOT_SET" is not set, or not UTF-8"#,
        ),
        (
            json!({"file": "/no/such/file"}),
            r#""graph.config.password": the file "/no/such/file" cannot be read: No such file or directory (os error 2)"#,
        ),
        (
            json!({"env": "A", "file": "B"}),
            r#""graph.config.password" must be text, {"env": "NAME"} or {"file": "/path"}"#,
        ),
        (
            json!({"vault": "hunter2"}),
            r#""graph.config.password" must be text, {"env": "NAME"} or {"file": "/path"}"#,
        ),
    ] {
        let json = json!({"graph": {"type": "neo4j", "config": {"password": password}}});
        let config = Config::from_json(&json.to_string()).unwrap();
        let mut settings = config.settings().unwrap();
        let error = settings.resolve_secrets_with(|_| None).unwrap_err();
        assert_eq!(error.message(), expected);
    }
}

/// A password of digits alone, written without quotes.
#[test]
fn a_secret_that_is_a_number_is_not_told() {
    #[derive(Debug, serde::Deserialize)]
    struct Service {
        _password: String,
    }
    let config = |text: &str| match serde_json::from_str(text).unwrap() {
        Value::Object(map) => map,
        other => panic!("{other}"),
    };
    let error = read_service_config::<Service>(&config(r#"{"_password": 4711}"#)).unwrap_err();
    assert_eq!(error, "\"_password\" must be text");
    let nested = config(r#"{"_password": "x", "a": [{"token": 4711}]}"#);
    read_service_config::<Service>(&nested).unwrap();
    #[derive(Debug, serde::Deserialize)]
    struct Port {
        _port: String,
    }
    let error = read_service_config::<Port>(&config(r#"{"_port": 4711}"#)).unwrap_err();
    assert!(error.contains("4711"), "what is no secret is told: {error}");
}
