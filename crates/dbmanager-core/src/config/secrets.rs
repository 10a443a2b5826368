//! Puts secrets in the place of references to them.

use serde_json::{Map, Value};

use super::{Settings, error, redact};
use crate::{Result, model::Role};

impl Settings {
    /// Puts the values of environment variables and files in the place of `{"env": "NAME"}` and
    /// `{"file": "/path"}`, in the `config` of every enabled store and of the embedding. One line
    /// break at the end of a file is not part of the secret.
    ///
    /// # Errors
    /// `Config`, naming the key (never a value): a variable is not set, a file cannot be read, or
    /// the value under a secret key is neither text nor such a reference.
    pub fn resolve_secrets(&mut self) -> Result<()> {
        self.resolve_secrets_with(|name| std::env::var(name).ok())
    }

    /// The same with an environment of one's own.
    ///
    /// # Errors
    /// As [`Settings::resolve_secrets`].
    pub fn resolve_secrets_with(
        &mut self,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<()> {
        for role in Role::ALL {
            if let Some(store) = self.store_mut(role).as_mut().filter(|store| store.enabled) {
                resolve_map(&mut store.config, &format!("{role}.config"), &environment)?;
            }
        }
        resolve_map(&mut self.journal.config, "journal.config", &environment)?;
        resolve_map(&mut self.embedding.config, "embedding.config", &environment)
    }
}

fn resolve_map(
    config: &mut Map<String, Value>,
    path: &str,
    environment: &impl Fn(&str) -> Option<String>,
) -> Result<()> {
    for (key, value) in config {
        let path = format!("{path}.{key}");
        match value {
            Value::Object(reference) if redact::may_hold_secret(key) => {
                *value = Value::String(follow(reference, &path, environment)?);
            }
            value => resolve_value(value, &path, environment)?,
        }
    }
    Ok(())
}

fn resolve_value(
    value: &mut Value,
    path: &str,
    environment: &impl Fn(&str) -> Option<String>,
) -> Result<()> {
    match value {
        Value::Object(map) => resolve_map(map, path, environment),
        Value::Array(items) => items.iter_mut().enumerate().try_for_each(|(index, item)| {
            resolve_value(item, &format!("{path}[{index}]"), environment)
        }),
        _ => Ok(()),
    }
}

fn follow(
    reference: &Map<String, Value>,
    path: &str,
    environment: &impl Fn(&str) -> Option<String>,
) -> Result<String> {
    let mut entries = reference.iter();
    match (entries.next(), entries.next()) {
        (Some((kind, Value::String(name))), None) if kind == "env" => {
            environment(name).ok_or_else(|| {
                error(format!(
                    "{path:?}: the environment variable {name:?} is not set, or not UTF-8"
                ))
            })
        }
        (Some((kind, Value::String(file))), None) if kind == "file" => {
            let text = std::fs::read_to_string(file).map_err(|cause| {
                error(format!(
                    "{path:?}: the file {file:?} cannot be read: {cause}"
                ))
                .with_source(cause)
            })?;
            let line = text.strip_suffix('\n').unwrap_or(&text);
            Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
        }
        _ => Err(error(format!(
            "{path:?} must be text, {{\"env\": \"NAME\"}} or {{\"file\": \"/path\"}}"
        ))),
    }
}
