//! Lines of JSON as documents.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

use dbmanager::model::Document;
use serde_json::{Map, Value, json};

/// A line of the file: its number from 1, and the document or what is wrong with it.
pub(crate) type Line = (usize, Result<Document, String>);

/// The documents of a file, one `{id, title, text, metadata, references}` a line; empty lines are
/// passed over. A reference is an id or `{target, kind, …}`. `set` is put into every metadata.
pub(crate) fn read(
    file: &Path,
    set: Map<String, Value>,
) -> io::Result<impl Iterator<Item = io::Result<Line>>> {
    let lines = BufReader::new(File::open(file)?).lines().enumerate();
    Ok(lines.filter_map(move |(index, line)| match line {
        Ok(line) if line.trim().is_empty() => None,
        line => Some(line.map(|line| (index + 1, document(&line, &set)))),
    }))
}

fn document(line: &str, set: &Map<String, Value>) -> Result<Document, String> {
    let mut value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    if let Some(references) = value.get_mut("references").and_then(Value::as_array_mut) {
        for reference in references {
            if let Value::String(target) = reference {
                *reference = json!({"target": target});
            }
        }
    }
    let mut document: Document =
        serde_json::from_value(value).map_err(|error| error.to_string())?;
    document.metadata.extend(set.clone());
    Ok(document)
}
