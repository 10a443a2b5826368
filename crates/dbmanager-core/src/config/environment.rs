//! The layer of environment variables.

use serde_json::{Map, Value};

use super::{error, redact};
use crate::Result;

/// How the variables begin.
pub(super) const PREFIX: &str = "DBMANAGER__";

/// Which key came from which variable.
#[derive(Debug, Default)]
pub(super) struct Origins(Vec<(String, String)>);

impl Origins {
    /// A remark for an error about the key `path`; empty if it did not come from a variable.
    pub(super) fn note(&self, path: &str) -> String {
        self.0
            .iter()
            .find(|(key, _)| {
                key.strip_prefix(path)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
            .map(|(_, variable)| format!(" (from the environment variable {variable})"))
            .unwrap_or_default()
    }
}

/// The variables of this process that concern the library.
pub(super) fn of_process() -> Result<Vec<(String, String)>> {
    std::env::vars_os()
        .filter(|(name, _)| name.to_string_lossy().starts_with(PREFIX))
        .map(|(name, value)| {
            let shown = name.to_string_lossy().into_owned();
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => Ok((name, value)),
                _ => Err(error(format!(
                    "the environment variable {shown} is not UTF-8"
                ))),
            }
        })
        .collect()
}

/// Puts the variables over the configuration, the later of two equal names winning.
pub(super) fn merge(
    configuration: &mut Map<String, Value>,
    variables: &[(String, String)],
) -> Result<Origins> {
    let mut origins = Vec::new();
    for (variable, text) in variables {
        let names: Vec<_> = variable[PREFIX.len()..].split("__").collect();
        if names.iter().any(|name| name.is_empty()) {
            return Err(error(format!(
                "the environment variable {variable} names no key"
            )));
        }
        let path = set(configuration, &names, text).map_err(|path| {
            error(format!(
                "{path:?} is not a section (from the environment variable {variable})"
            ))
        })?;
        origins.push((path, variable.clone()));
    }
    Ok(Origins(origins))
}

/// Sets one key and returns its path; or the path of what should have been a section.
fn set(
    mut section: &mut Map<String, Value>,
    names: &[&str],
    text: &str,
) -> std::result::Result<String, String> {
    let mut path = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let key = key_of(section, name);
        path.push(key.clone());
        if index + 1 == names.len() {
            let value = interpret(section.get(&key), &key, text);
            section.insert(key, value);
            break;
        }
        let next = section.entry(key).or_insert(Value::Null);
        if next.is_null() {
            *next = Value::Object(Map::new());
        }
        section = next.as_object_mut().ok_or_else(|| path.join("."))?;
    }
    Ok(path.join("."))
}

fn key_of(section: &Map<String, Value>, name: &str) -> String {
    let there = section.keys().find(|key| key.eq_ignore_ascii_case(name));
    there.cloned().unwrap_or_else(|| name.to_ascii_lowercase())
}

fn interpret(there: Option<&Value>, key: &str, text: &str) -> Value {
    let stays_text = matches!(there, Some(Value::String(_)));
    // A password of digits is a text; a reference to a secret is an object all the same.
    let secret = redact::may_hold_secret(key) && !text.trim_start().starts_with('{');
    if stays_text || secret {
        return Value::String(text.to_owned());
    }
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}
