//! Reads values out of a section, and says where what is wrong with them.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{environment::Origins, error, redact};
use crate::{Error, Result};

/// One object of the configuration, with the path that led to it.
pub(super) struct Section<'a> {
    path: String,
    values: Map<String, Value>,
    origins: &'a Origins,
}

impl<'a> Section<'a> {
    /// The whole configuration.
    pub(super) fn root(
        values: Map<String, Value>,
        known: &[&str],
        origins: &'a Origins,
    ) -> Result<Self> {
        Self {
            path: String::new(),
            values,
            origins,
        }
        .only(known)
    }

    /// The object under `key`; absent or null: an empty one.
    pub(super) fn section(&mut self, key: &str, known: &[&str]) -> Result<Self> {
        self.open(key)?.only(known)
    }

    /// The object under `key` with keys of the user's own choice.
    pub(super) fn open(&mut self, key: &str) -> Result<Self> {
        Ok(Self {
            path: self.path_of(key),
            values: self.map(key)?,
            origins: self.origins,
        })
    }

    /// Whether there is a value under `key`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(|value| !value.is_null())
    }

    pub(super) fn keys(&self) -> Vec<String> {
        self.values.keys().cloned().collect()
    }

    /// The object under `key` as it stands.
    pub(super) fn map(&mut self, key: &str) -> Result<Map<String, Value>> {
        match self.take(key) {
            None => Ok(Map::new()),
            Some(Value::Object(map)) => Ok(map),
            Some(other) => Err(self.wrong(key, "a section", &other)),
        }
    }

    /// The values that were not taken.
    pub(super) fn rest(self) -> Map<String, Value> {
        self.values
    }

    pub(super) fn boolean(&mut self, key: &str) -> Result<Option<bool>> {
        self.read(key, "true or false", |value| value.as_bool())
    }

    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>> {
        self.read(key, "text", |value| value.as_str().map(str::to_owned))
    }

    /// A whole number that fits `T`.
    pub(super) fn number<T: TryFrom<u64>>(&mut self, key: &str) -> Result<Option<T>> {
        self.read(key, "a whole number of at least 0", |value| {
            value.as_u64().and_then(|number| number.try_into().ok())
        })
    }

    pub(super) fn duration(&mut self, key: &str) -> Result<Option<Duration>> {
        self.read(
            key,
            "a time: seconds, or text like \"500ms\", \"30s\", \"5m\"",
            parse_duration,
        )
    }

    pub(super) fn bytes(&mut self, key: &str) -> Result<Option<u64>> {
        self.read(
            key,
            "a size: bytes, or text like \"512MiB\", \"2GiB\"",
            parse_bytes,
        )
    }

    /// One of the words of `T`.
    pub(super) fn word<T: DeserializeOwned>(
        &mut self,
        key: &str,
        words: &[&str],
    ) -> Result<Option<T>> {
        let expected = format!("one of {}", words.join(", "));
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        serde_json::from_value(value.clone())
            .map(Some)
            .map_err(|_| self.wrong(key, &expected, &value))
    }

    /// An error about `key`.
    pub(super) fn error(&self, key: &str, what: &str) -> Error {
        let path = self.path_of(key);
        let origin = self.origins.note(&path);
        error(format!("{path:?} {what}{origin}"))
    }

    fn read<T>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.take(key) {
            None => Ok(None),
            Some(value) => read(&value)
                .map(Some)
                .ok_or_else(|| self.wrong(key, expected, &value)),
        }
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.values.remove(key).filter(|value| !value.is_null())
    }

    fn only(self, known: &[&str]) -> Result<Self> {
        match self
            .values
            .keys()
            .find(|key| !known.contains(&key.as_str()))
        {
            None => Ok(self),
            Some(unknown) => {
                let path = self.path_of(unknown);
                let hint = match nearest(unknown, known) {
                    Some(near) => format!("did you mean {:?}?", self.path_of(near)),
                    None => format!("known here: {}", known.join(", ")),
                };
                let origin = self.origins.note(&path);
                Err(error(format!("unknown key {path:?}{origin}; {hint}")))
            }
        }
    }

    fn wrong(&self, key: &str, expected: &str, found: &Value) -> Error {
        let found = match found {
            Value::Null => "null".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "a section".to_owned(),
            _ if redact::is_secret(key) => "a secret".to_owned(),
            scalar => redact::redact_value(scalar).to_string(),
        };
        self.error(key, &format!("must be {expected}, found {found}"))
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }
}

/// The known key that `key` was probably meant to be.
fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let key = key.to_lowercase();
    known
        .iter()
        .map(|known| (*known, strsim::jaro_winkler(&key, known)))
        .filter(|(_, similarity)| *similarity > 0.75)
        // Fewest slips first: the similarity alone thinks too much of the first letters.
        .min_by(|left, right| {
            let slips = |known| strsim::osa_distance(&key, known);
            let by_slips = slips(left.0).cmp(&slips(right.0));
            by_slips.then_with(|| right.1.total_cmp(&left.1))
        })
        .map(|(known, _)| known)
}

/// The number and the unit behind it.
fn split_unit(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim_start()))
}

fn parse_duration(value: &Value) -> Option<Duration> {
    let (number, seconds_per_unit) = match value {
        Value::Number(number) => (number.as_f64()?, 1.0),
        Value::String(text) => {
            let (number, unit) = split_unit(text)?;
            let seconds = match unit {
                "ms" => 0.001,
                "" | "s" => 1.0,
                "m" => 60.0,
                "h" => 3_600.0,
                "d" => 86_400.0,
                _ => return None,
            };
            (number, seconds)
        }
        _ => return None,
    };
    let duration = Duration::try_from_secs_f64(number * seconds_per_unit).ok()?;
    // Deadlines are sums of times: a bound keeps every sum far from overflow.
    (duration <= LONGEST).then_some(duration)
}

const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

fn parse_bytes(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => {
            let (number, unit) = split_unit(text)?;
            let factor: u64 = match unit {
                "" | "B" => 1,
                "KiB" => 1 << 10,
                "MiB" => 1 << 20,
                "GiB" => 1 << 30,
                "TiB" => 1 << 40,
                _ => return None,
            };
            let bytes = number * factor as f64;
            (bytes.fract() == 0.0 && bytes < (1_u64 << 53) as f64).then_some(bytes as u64)
        }
        _ => None,
    }
}

/// Checks the name of a collection.
pub(super) fn collection_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > 255 || name.contains('\0') {
        return Err(error(format!(
            "a collection's name has 1 to 255 bytes and no NUL, found {name:?} under \"collections\""
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_seconds_or_carry_a_unit() {
        for (value, milliseconds) in [
            (json!(30), 30_000),
            (json!(0.25), 250),
            (json!("500ms"), 500),
            (json!("1.5s"), 1_500),
            (json!("30"), 30_000),
            (json!("5m"), 300_000),
            (json!("2 h"), 7_200_000),
            (json!("1d"), 86_400_000),
        ] {
            assert_eq!(
                parse_duration(&value),
                Some(Duration::from_millis(milliseconds)),
                "{value}"
            );
        }
        for value in [
            json!(-1),
            json!("-1s"),
            json!("5 minutes"),
            json!("ms"),
            json!(""),
            json!("1e99d"),
            json!(1e300),
            json!(true),
            json!([1]),
        ] {
            assert_eq!(parse_duration(&value), None, "{value}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_carry_a_unit() {
        assert_eq!(parse_bytes(&json!(1_024)), Some(1_024));
        assert_eq!(parse_bytes(&json!("1.5KiB")), Some(1_536));
        assert_eq!(parse_bytes(&json!("2GiB")), Some(2 << 30));
        for value in [json!(-1), json!(0.5), json!("1MB"), json!("0.3B")] {
            assert_eq!(parse_bytes(&value), None, "{value}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn no_text_makes_the_readers_panic(text in "[0-9.a-zäé ]{0,12}") {
            let value = Value::String(text);
            let _ = (parse_duration(&value), parse_bytes(&value));
        }
    }
}
