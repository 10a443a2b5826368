//! What may be shown of a service's settings.

use serde_json::{Map, Value};

const HIDDEN: &str = "***";

/// Whether a key names a secret.
pub(super) fn is_secret(key: &str) -> bool {
    const PARTS: [&str; 9] = [
        "password",
        "passwd",
        "passphrase",
        "secret",
        "apikey",
        "accesskey",
        "privatekey",
        "credential",
        "authorization",
    ];
    let key: String = key
        .to_ascii_lowercase()
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect();
    // Not every "token" is one: a tokenizer, a number of tokens.
    key.ends_with("token") || key == "pwd" || PARTS.iter().any(|part| key.contains(part))
}

/// Whether a key may hold a secret: it names one, or a URI that may have one inside.
pub(super) fn may_hold_secret(key: &str) -> bool {
    let lower = key.to_ascii_lowercase();
    let names_place = ["uri", "url", "dsn", "connection_string"]
        .iter()
        .any(|name| lower == *name || lower.ends_with(&format!("_{name}")));
    names_place || is_secret(key)
}

/// The first key of a secret that is a number, which `message` tells.
pub(super) fn told_number<'a>(config: &'a Map<String, Value>, message: &str) -> Option<&'a str> {
    config.iter().find_map(|(key, value)| match value {
        Value::Number(number) if is_secret(key) => {
            message.contains(&number.to_string()).then_some(&**key)
        }
        value => told_number_inside(value, message),
    })
}

fn told_number_inside<'a>(value: &'a Value, message: &str) -> Option<&'a str> {
    match value {
        Value::Object(map) => told_number(map, message),
        Value::Array(items) => items
            .iter()
            .find_map(|item| told_number_inside(item, message)),
        _ => None,
    }
}

/// The map with every secret replaced.
pub(super) fn redacted(config: &Map<String, Value>) -> Map<String, Value> {
    config
        .iter()
        .map(|(key, value)| {
            let shown = if is_secret(key) && !is_reference(value) {
                Value::String(HIDDEN.to_owned())
            } else {
                redact_value(value)
            };
            (key.clone(), shown)
        })
        .collect()
}

/// Whether a value says where a secret is, and is none.
fn is_reference(value: &Value) -> bool {
    value.as_object().is_some_and(|object| {
        object.len() == 1 && (object.contains_key("env") || object.contains_key("file"))
    })
}

/// The value with every secret inside replaced.
pub(super) fn redact_value(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(redacted(map)),
        Value::Array(items) => Value::Array(items.iter().map(redact_value).collect()),
        Value::String(text) => Value::String(redact_text(text)),
        other => other.clone(),
    }
}

/// Hides the user part of a URI and the values of secret parameters (`password=…`).
fn redact_text(text: &str) -> String {
    let without_user = match text.split_once("://") {
        // The last @: a password may contain one, and a slash too. Rather too much than too little.
        Some((scheme, rest)) => match rest.rsplit_once('@') {
            Some((_, host)) => format!("{scheme}://{HIDDEN}@{host}"),
            None => text.to_owned(),
        },
        None => text.to_owned(),
    };
    redact_parameters(&without_user)
}

/// What ends the name or the value of a parameter, in a URI or in text such as libpq's.
const SEPARATORS: [char; 7] = ['?', '&', ';', ' ', ',', '\n', '\t'];

fn redact_parameters(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(position) = rest.find('=') {
        let (before, after) = (&rest[..position], &rest[position + 1..]);
        let name = before
            .trim_end()
            .rsplit(SEPARATORS)
            .next()
            .unwrap_or_default();
        shown.push_str(before);
        shown.push('=');
        rest = after;
        if is_secret(name) {
            shown.push_str(HIDDEN);
            rest = behind_value(after.trim_start());
        }
    }
    shown.push_str(rest);
    shown
}

/// What comes behind a value. Neither a separator nor a quote ends it behind a backslash (libpq), nor
/// does a quote that is doubled (ODBC).
fn behind_value(value: &str) -> &str {
    let quote = value.chars().next().filter(|c| matches!(c, '\'' | '"'));
    let mut characters = value.char_indices().skip(quote.iter().count()).peekable();
    while let Some((position, character)) = characters.next() {
        if character == '\\' {
            characters.next();
        } else if quote == Some(character) {
            if characters.next_if(|(_, next)| *next == character).is_none() {
                return &value[position + character.len_utf8()..];
            }
        } else if quote.is_none() && SEPARATORS.contains(&character) {
            return &value[position..];
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secret_keys_are_known_by_their_names() {
        for key in [
            "password",
            "db_password",
            "API_KEY",
            "apiKey",
            "access-key-id",
            "auth_token",
            "token",
            "client_secret",
            "credentials",
            "pwd",
        ] {
            assert!(is_secret(key), "{key}");
        }
        for key in ["host", "tokenizer", "max_tokens", "key", "path", "username"] {
            assert!(!is_secret(key), "{key}");
        }
    }

    #[test]
    fn a_value_ends_where_its_maker_says() {
        for (text, shown) in [
            (r"password='it\'s hunter2' user=me", "password=*** user=me"),
            (r"password='hunter2\\' user=me", "password=*** user=me"),
            (r"password=a\ hunter2 user=me", "password=*** user=me"),
            ("PWD='a''hunter2';UID=me", "PWD=***;UID=me"),
            (r#"pwd="a ""hunter2""";uid=me"#, "pwd=***;uid=me"),
            ("password=", "password=***"),
            ("password='hunter2", "password=***"),
            (r"password=hunter2\", "password=***"),
            (
                "password='a'&token=hunter2&x=1",
                "password=***&token=***&x=1",
            ),
        ] {
            assert_eq!(redact_text(text), shown, "{text}");
        }
    }

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        let config = json!({
            "host": "localhost",
            "port": 8000,
            "password": "hunter2",
            "token": 4711,
            "uri": "postgres://user:p@ss/hunter2@db.local:5432/x?sslmode=require&password=hunter2",
            "dsn": "host=localhost password = 'hunter2 hunter2' user=me",
            "headers": {"Authorization": "Bearer hunter2"},
            "nodes": [{"url": "http://me:hunter2@a"}, "redis://:hunter2@b"],
            "secret": {"deep": "hunter2"},
            "api_key": {"env": "THE_KEY"},
        });
        let Value::Object(config) = config else {
            unreachable!("an object")
        };
        let shown = redacted(&config);
        let text = Value::Object(shown.clone()).to_string();
        assert!(
            !text.contains("hunter2") && !text.contains("4711"),
            "{text}"
        );
        assert_eq!(shown["host"], "localhost");
        assert_eq!(shown["port"], 8000);
        assert_eq!(
            shown["uri"],
            "postgres://***@db.local:5432/x?sslmode=require&password=***"
        );
        assert_eq!(shown["dsn"], "host=localhost password =*** user=me");
        assert_eq!(shown["nodes"][0]["url"], "http://***@a");
        assert_eq!(shown["api_key"], json!({"env": "THE_KEY"}));
    }
}
