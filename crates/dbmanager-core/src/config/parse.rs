//! From text to settings.

use std::{fmt, path::PathBuf};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use super::{
    EmbeddingSettings, HealthSettings, JournalSettings, JournalType, PerformanceSettings,
    SearchSettings, Settings, StoreSettings, WriteSettings, environment::Origins, error,
    value::Section,
};
use crate::{
    Result,
    model::{CollectionOptions, EmbeddingSpace},
};

/// Reads a JSON object.
pub(super) fn json(text: &str) -> Result<Map<String, Value>> {
    // Not the source error: its text would be the same.
    let UniqueKeys(value) =
        serde_json::from_str(text).map_err(|cause| error(format!("not valid JSON: {cause}")))?;
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(error("the configuration must be a JSON object")),
    }
}

/// Reads TOML.
pub(super) fn toml(text: &str) -> Result<Map<String, Value>> {
    let table: ::toml::Table = ::toml::from_str(text).map_err(|cause| {
        // The crate's own text shows the line at fault, and a secret may stand on it.
        let start = cause.span().map_or(0, |span| span.start);
        let line = text[..start].matches('\n').count() + 1;
        error(format!(
            "not valid TOML: {} at line {line}",
            cause.message()
        ))
    })?;
    Ok(table.into_iter().map(|(k, v)| (k, from_toml(v))).collect())
}

fn from_toml(value: ::toml::Value) -> Value {
    match value {
        ::toml::Value::String(text) => Value::String(text),
        ::toml::Value::Integer(number) => Value::from(number),
        ::toml::Value::Float(number) => Value::from(number),
        ::toml::Value::Boolean(boolean) => Value::Bool(boolean),
        ::toml::Value::Datetime(time) => Value::String(time.to_string()),
        ::toml::Value::Array(items) => items.into_iter().map(from_toml).collect(),
        ::toml::Value::Table(table) => table.into_iter().map(|(k, v)| (k, from_toml(v))).collect(),
    }
}

/// Checks every key and makes the settings; what is missing has its default.
pub(super) fn settings(values: Map<String, Value>, origins: &Origins) -> Result<Settings> {
    let mut root = Section::root(
        values,
        &[
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
        ],
        origins,
    )?;
    Ok(Settings {
        data_directory: root.text("data_directory")?.map(PathBuf::from),
        vector: store(&mut root, "vector")?,
        graph: store(&mut root, "graph")?,
        relational: store(&mut root, "relational")?,
        performance: performance(&mut root)?,
        journal: journal(&mut root)?,
        write: write(&mut root)?,
        search: search(&mut root)?,
        embedding: embedding(&mut root)?,
        health: health(&mut root)?,
        collections: collections(&mut root)?,
    })
}

fn store(root: &mut Section<'_>, role: &str) -> Result<Option<StoreSettings>> {
    if !root.has(role) {
        return Ok(None);
    }
    let mut section = root.section(role, &["enabled", "type", "config"])?;
    let enabled = section.boolean("enabled")?.unwrap_or(true);
    let service = section.text("type")?;
    let config = section.map("config")?;
    match service {
        Some(service) => Ok(Some(StoreSettings {
            enabled,
            service,
            config,
        })),
        None if enabled => Err(section.error("type", "is missing")),
        None => Ok(None),
    }
}

fn performance(root: &mut Section<'_>) -> Result<PerformanceSettings> {
    let mut section = root.section(
        "performance",
        &[
            "connection_pool_size",
            "query_timeout",
            "retry_attempts",
            "circuit_breaker_threshold",
            "cache_ttl",
            "cache_size",
            "batch_size",
        ],
    )?;
    let default = PerformanceSettings::default();
    Ok(PerformanceSettings {
        connection_pool_size: section
            .number("connection_pool_size")?
            .unwrap_or(default.connection_pool_size),
        query_timeout: section
            .duration("query_timeout")?
            .unwrap_or(default.query_timeout),
        retry_attempts: section
            .number("retry_attempts")?
            .unwrap_or(default.retry_attempts),
        circuit_breaker_threshold: section
            .number("circuit_breaker_threshold")?
            .unwrap_or(default.circuit_breaker_threshold),
        cache_ttl: section.duration("cache_ttl")?.unwrap_or(default.cache_ttl),
        cache_size: section.bytes("cache_size")?.unwrap_or(default.cache_size),
        batch_size: section.number("batch_size")?.unwrap_or(default.batch_size),
    })
}

fn journal(root: &mut Section<'_>) -> Result<JournalSettings> {
    let mut section = root.section("journal", &["type", "config"])?;
    let default = JournalSettings::default();
    let journal_type = match section.text("type")?.as_deref() {
        None => default.journal_type,
        Some("embedded") => JournalType::Embedded,
        Some("memory") => JournalType::Memory,
        Some("") => return Err(section.error("type", "is empty")),
        Some(other) => JournalType::Service(other.to_owned()),
    };
    // Which keys a registered journal has besides the common ones is for itself to say.
    let service = matches!(journal_type, JournalType::Service(_));
    let mut config = if service {
        section.open("config")?
    } else {
        section.section(
            "config",
            &[
                "path",
                "max_entries",
                "max_bytes",
                "max_operations",
                "max_keys",
                "record_lifetime",
            ],
        )?
    };
    Ok(JournalSettings {
        path: match service {
            true => None,
            false => config.text("path")?.map(PathBuf::from),
        },
        journal_type,
        max_entries: config.number("max_entries")?,
        max_bytes: config.bytes("max_bytes")?,
        max_operations: config.number("max_operations")?,
        max_keys: config.number("max_keys")?,
        record_lifetime: config
            .duration("record_lifetime")?
            .unwrap_or(default.record_lifetime),
        lease: config.duration("lease")?,
        poll_interval: config.duration("poll_interval")?,
        config: config.rest(),
    })
}

fn write(root: &mut Section<'_>) -> Result<WriteSettings> {
    let mut section = root.section("write", &["level", "timeout", "max_in_flight"])?;
    let default = WriteSettings::default();
    Ok(WriteSettings {
        level: section
            .word("level", &["journaled", "one", "quorum", "all"])?
            .unwrap_or(default.level),
        timeout: section.duration("timeout")?.unwrap_or(default.timeout),
        max_in_flight: section
            .number("max_in_flight")?
            .unwrap_or(default.max_in_flight),
    })
}

fn search(root: &mut Section<'_>) -> Result<SearchSettings> {
    let mut section = root.section("search", &["timeout"])?;
    let default = SearchSettings::default();
    Ok(SearchSettings {
        timeout: section.duration("timeout")?.unwrap_or(default.timeout),
    })
}

fn embedding(root: &mut Section<'_>) -> Result<EmbeddingSettings> {
    let mut section = root.section("embedding", &["type", "config"])?;
    let default = EmbeddingSettings::default();
    Ok(EmbeddingSettings {
        embedding_type: section.text("type")?.unwrap_or(default.embedding_type),
        config: section.map("config")?,
    })
}

fn health(root: &mut Section<'_>) -> Result<HealthSettings> {
    let mut section = root.section(
        "health",
        &[
            "interval",
            "timeout",
            "failure_threshold",
            "success_threshold",
        ],
    )?;
    let default = HealthSettings::default();
    Ok(HealthSettings {
        interval: section.duration("interval")?.unwrap_or(default.interval),
        timeout: section.duration("timeout")?.unwrap_or(default.timeout),
        failure_threshold: section
            .number("failure_threshold")?
            .unwrap_or(default.failure_threshold),
        success_threshold: section
            .number("success_threshold")?
            .unwrap_or(default.success_threshold),
    })
}

fn collections(
    root: &mut Section<'_>,
) -> Result<std::collections::BTreeMap<String, CollectionOptions>> {
    let mut section = root.open("collections")?;
    section
        .keys()
        .into_iter()
        .map(|name| {
            let options = collection(&mut section, &name)?;
            Ok((name, options))
        })
        .collect()
}

fn collection(collections: &mut Section<'_>, name: &str) -> Result<CollectionOptions> {
    let mut section = collections.section(name, &["tokenizer", "embedding_space"])?;
    let default = CollectionOptions::default();
    let tokenizer = section
        .word("tokenizer", &["english", "unicode", "trigram"])?
        .unwrap_or(default.tokenizer);
    let embedding_space = section
        .has("embedding_space")
        .then(|| embedding_space(&mut section))
        .transpose()?;
    Ok(CollectionOptions {
        tokenizer,
        embedding_space,
    })
}

fn embedding_space(section: &mut Section<'_>) -> Result<EmbeddingSpace> {
    let mut space = section.section("embedding_space", &["model", "dimension", "metric"])?;
    let dimension = space
        .number("dimension")?
        .ok_or_else(|| space.error("dimension", "is missing"))?;
    if dimension == 0 {
        return Err(space.error("dimension", "must be at least 1"));
    }
    Ok(EmbeddingSpace {
        model: space
            .text("model")?
            .ok_or_else(|| space.error("model", "is missing"))?,
        dimension,
        metric: space
            .word("metric", &["cosine", "dot", "euclidean"])?
            .unwrap_or_default(),
    })
}

/// JSON in which no object has a key twice: the reader's habit of letting the last one win would
/// silently drop a part of the configuration.
struct UniqueKeys(Value);

impl<'de> Deserialize<'de> for UniqueKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueKeysVisitor)
    }
}

struct UniqueKeysVisitor;

impl<'de> Visitor<'de> for UniqueKeysVisitor {
    type Value = UniqueKeys;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys(value.into()))
    }

    fn visit_unit<E>(self) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys(Value::Null))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<UniqueKeys, A::Error> {
        let mut list = Vec::new();
        while let Some(UniqueKeys(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(UniqueKeys(list.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<UniqueKeys, A::Error> {
        let mut map = Map::new();
        while let Some((key, UniqueKeys(value))) = entries.next_entry::<String, _>()? {
            if map.contains_key(&key) {
                return Err(de::Error::custom(format!("the key {key:?} stands twice")));
            }
            map.insert(key, value);
        }
        Ok(UniqueKeys(map.into()))
    }
}
