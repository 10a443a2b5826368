//! Properties of the reader: nothing makes it panic, and nothing makes it tell a secret.

use proptest::prelude::*;

use super::*;

/// Stands wherever a secret may stand; nothing else contains it.
const SECRET: &str = "hunter2";

/// Keys of the configuration, of services, and secret ones.
const KEYS: [&str; 46] = [
    "vector",
    "graph",
    "relational",
    "performance",
    "journal",
    "write",
    "search",
    "embedding",
    "health",
    "collections",
    "data_directory",
    "enabled",
    "type",
    "config",
    "path",
    "max_entries",
    "max_bytes",
    "max_operations",
    "max_keys",
    "record_lifetime",
    "lease",
    "level",
    "timeout",
    "interval",
    "query_timeout",
    "retry_attempts",
    "cache_ttl",
    "cache_size",
    "batch_size",
    "tokenizer",
    "embedding_space",
    "model",
    "dimension",
    "metric",
    "host",
    "port",
    "headers",
    "nodes",
    "env",
    "file",
    "papers",
    "",
    "a.b",
    "\u{e4}",
    "failure_threshold",
    "poll_interval",
];

const SECRET_KEYS: [&str; 9] = [
    "password",
    "api_key",
    "apiKey",
    "db_password",
    "auth_token",
    "client_secret",
    "Authorization",
    "private-key",
    "PWD",
];

const URI_KEYS: [&str; 4] = ["uri", "url", "dsn", "connection_string"];

fn plain() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-zA-Z0-9 :/@=?&%\\\\'\"äé]{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "sqlite", "memory", "embedded", "quorum", "30s", "2GiB", "english", "cosine",
            "postgres",
        ])
        .prop_map(Value::from),
    ]
}

fn secret_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => Just(json!(SECRET)),
        1 => Just(json!([SECRET, SECRET])),
        1 => Just(json!({"value": SECRET})),
        1 => "[a-z ]{0,4}".prop_map(|around| json!(format!("{around}{SECRET}{around}"))),
    ]
}

fn uri() -> impl Strategy<Value = Value> {
    ("[a-z]{1,8}", "[a-z@/:]{0,4}", "[a-z.]{1,9}").prop_map(|(scheme, odd, host)| {
        json!(format!(
            "{scheme}://user:{odd}{SECRET}@{host}:1/db?password={SECRET}&x=1"
        ))
    })
}

/// An entry of a section: a plain value, a section below it, or a secret under a secret's key.
fn entry(inner: BoxedStrategy<Value>) -> BoxedStrategy<(String, Value)> {
    prop_oneof![
        6 => (prop::sample::select(KEYS.to_vec()), inner),
        1 => (prop::sample::select(SECRET_KEYS.to_vec()), secret_value()),
        1 => (prop::sample::select(URI_KEYS.to_vec()), uri()),
    ]
    .prop_map(|(key, value)| (key.to_owned(), value))
    .boxed()
}

fn tree() -> impl Strategy<Value = Value> {
    plain().prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            5 => prop::collection::vec(entry(inner.boxed()), 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// A configuration that is right but for what stands in `tree` instead of one of its parts.
fn configuration() -> impl Strategy<Value = Value> {
    let place = prop::sample::select(vec![
        "/vector",
        "/vector/config",
        "/graph/config",
        "/journal/config",
        "/embedding/config",
        "/performance",
        "/collections",
        "",
    ]);
    (place, tree(), secret_value(), uri()).prop_map(|(place, tree, secret, uri)| {
        let mut whole = json!({
            "vector": {"type": "chromadb", "config": {"host": "a", "api_key": secret}},
            "graph": {"type": "neo4j", "config": {"uri": uri, "password": secret}},
            "relational": {"type": "sqlite", "config": {}},
            "journal": {"type": "postgres", "config": {"url": uri, "max_entries": 10}},
            "embedding": {"type": "none", "config": {"token": secret}},
            "performance": {"batch_size": 10},
            "collections": {},
        });
        *whole.pointer_mut(place).unwrap() = tree;
        whole
    })
}

/// The configuration as TOML, which has no null.
fn toml(whole: &Value) -> String {
    let lines = whole.as_object().into_iter().flatten();
    let lines = lines.filter(|(_, value)| !value.is_null());
    lines
        .map(|(key, value)| format!("{} = {}\n", json!(key), inline(value)))
        .collect()
}

fn inline(value: &Value) -> String {
    let list = |items: Vec<String>| items.join(", ");
    match value {
        Value::Array(items) => {
            let items = items.iter().filter(|item| !item.is_null());
            format!("[{}]", list(items.map(inline).collect()))
        }
        Value::Object(members) => {
            let members = members.iter().filter(|(_, value)| !value.is_null());
            let members = members.map(|(key, value)| format!("{} = {}", json!(key), inline(value)));
            format!("{{{}}}", list(members.collect()))
        }
        scalar => scalar.to_string(),
    }
}

/// Everything that a program may print.
fn shown(config: &Config) -> String {
    let mut settings = match config.settings() {
        Ok(settings) => settings,
        Err(error) => return format!("{config:?} {error} {error:?}"),
    };
    let printed = format!("{config:?} {settings:?} {settings:#?}");
    match settings.resolve_secrets_with(|_| Some(SECRET.to_owned())) {
        Ok(()) => format!("{printed} {settings:?}"),
        Err(error) => format!("{printed} {error} {error:?}"),
    }
}

fn shown_of(read: Result<Config>) -> String {
    match read {
        Ok(config) => shown(&config),
        Err(error) => format!("{error} {error:?}"),
    }
}

/// Removes, doubles or replaces a character.
fn changed(text: &str, at: prop::sample::Index, with: Option<char>, keep: bool) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    let at = at.index(characters.len());
    match (with, keep) {
        (Some(other), true) => characters.insert(at, other),
        (Some(other), false) => characters[at] = other,
        (None, _) => {
            characters.remove(at);
        }
    }
    characters.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn no_configuration_panics_or_tells_its_secrets(whole in configuration()) {
        let json = Config::from_json(&whole.to_string());
        let told = shown_of(json);
        prop_assert!(!told.contains(SECRET), "{told}");
        let told = shown_of(Config::from_toml(&toml(&whole)));
        prop_assert!(!told.contains(SECRET), "{told}");
    }

    /// One character too many, too few or wrong: the error says where, not what stands there.
    #[test]
    fn a_slip_in_the_text_tells_no_secret(
        whole in configuration(),
        at in any::<prop::sample::Index>(),
        with in prop::option::of(prop::sample::select(vec!['"', '\'', '\\', '=', '[', '{', '}', ',', '\n', '\0', 'x', '\u{e4}'])),
        keep in any::<bool>(),
    ) {
        let whole = if whole.is_object() { whole } else { json!({}) };
        let json = changed(&whole.to_string(), at, with, keep);
        let toml = changed(&format!("{} ", toml(&whole)), at, with, keep);
        for read in [Config::from_json(&json), Config::from_toml(&toml)] {
            if let Err(error) = read {
                let told = format!("{error} {error:?}");
                prop_assert!(!told.contains(SECRET), "{told}");
            }
        }
    }

    #[test]
    fn no_text_makes_the_readers_panic(text in any::<String>(), likely in "[\\[\\]{}\"'=:,.#a-z0-9\n \\\\-]{0,40}") {
        for text in [&text, &likely] {
            let told = [shown_of(Config::from_json(text)), shown_of(Config::from_toml(text))];
            prop_assert!(told.iter().all(|told| !told.is_empty()));
        }
    }

    #[test]
    fn a_secret_from_the_environment_is_not_told(
        variable in prop::sample::select(vec![
            "VECTOR__CONFIG__API_KEY", "GRAPH__CONFIG__PASSWORD", "RELATIONAL__CONFIG__DB__TOKEN",
            "VECTOR__PASSWORD", "PASSWORD", "WRITE__LEVEL__SECRET", "VECTOR__TYPE__API_KEY",
        ]),
        value in prop_oneof![
            Just(SECRET.to_owned()),
            Just(format!("\"{SECRET}\"")),
            Just(format!("{{\"env\": \"A\", \"x\": \"{SECRET}\"}}")),
            Just(format!("{{{SECRET}")),
            Just(format!("[\"{SECRET}\"]")),
        ],
    ) {
        let file = r#"{"vector": {"type": "chromadb"}, "graph": {"type": "neo4j"}, "relational": {"type": "sqlite"}}"#;
        let config = Config::from_json(file).unwrap();
        let told = shown(&config.with_environment([(format!("DBMANAGER__{variable}"), value)]));
        prop_assert!(!told.contains(SECRET), "{told}");
    }
}

/// Known keys, each with a section in which it may stand alone.
const KNOWN: [(&str, &str); 20] = [
    ("", "relational"),
    ("", "performance"),
    ("", "embedding"),
    ("", "collections"),
    ("", "data_directory"),
    ("vector", "enabled"),
    ("vector", "config"),
    ("performance", "connection_pool_size"),
    ("performance", "query_timeout"),
    ("performance", "retry_attempts"),
    ("performance", "circuit_breaker_threshold"),
    ("performance", "batch_size"),
    ("journal", "config"),
    ("write", "level"),
    ("write", "timeout"),
    ("search", "timeout"),
    ("health", "interval"),
    ("health", "failure_threshold"),
    ("health", "success_threshold"),
    ("embedding", "config"),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_slip_in_a_key_names_the_key_that_was_meant(
        known in prop::sample::select(KNOWN.to_vec()),
        at in any::<prop::sample::Index>(),
        with in prop::option::of(prop::char::range('a', 'z')),
        keep in any::<bool>(),
    ) {
        let (section, key) = known;
        let slip = changed(key, at, with, keep);
        prop_assume!(!KNOWN.iter().any(|(_, other)| *other == slip));
        let path = |key: &str| match section {
            "" => key.to_owned(),
            section => format!("{section}.{key}"),
        };
        let text = match section {
            "" => json!({slip.as_str(): null}),
            section => json!({section: {slip.as_str(): null}}),
        };
        let error = Config::from_json(&text.to_string()).unwrap().settings().unwrap_err();
        let expected = format!("unknown key {:?}; did you mean {:?}?", path(&slip), path(key));
        prop_assert_eq!(error.message(), expected);
    }
}
