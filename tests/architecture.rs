//! What the documents say of the tree is true.
//!
//! A span in backticks is a path if it is one word of letters, digits and `. _ - /` that has a
//! slash, ends in the extension of a source file, or is one of the licence files. It is read from
//! the root of the repository. Code blocks are not looked at.
#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const EXTENSIONS: [&str; 4] = [".rs", ".md", ".toml", ".lock"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// The text between single backticks, outside of fenced blocks.
fn spans(document: &str) -> Vec<String> {
    let mut prose = String::new();
    let mut fenced = false;
    for line in document.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            prose.push_str(line);
            prose.push('\n');
        }
    }
    assert!(!fenced, "a fenced block does not end");
    prose
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

fn is_path(span: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    span.chars().all(allowed)
        && (span.contains('/')
            || span.starts_with("LICENSE-")
            || EXTENSIONS.iter().any(|extension| span.ends_with(extension)))
}

fn paths(document: &str) -> BTreeSet<String> {
    spans(document)
        .into_iter()
        .filter(|span| is_path(span))
        .collect()
}

#[test]
fn a_path_is_told_from_a_name() {
    let document = "see `src/lib.rs`, `deny.toml`, `LICENSE-MIT`, `tests/` and `.ci/run`\n\
                    not `Backend::apply`, `unsafe`, `cargo test`, `src/<service>/mod.rs`\n\
                    ```text\n`not/here`\n```\n";
    let expected = [
        "src/lib.rs",
        "deny.toml",
        "LICENSE-MIT",
        "tests/",
        ".ci/run",
    ];
    assert_eq!(paths(document), expected.map(str::to_owned).into());
}

#[test]
fn every_path_that_a_document_names_exists() {
    for document in [
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "README.md",
        "CHANGELOG.md",
    ] {
        let named = paths(&read(document));
        let missing: Vec<_> = named
            .iter()
            .filter(|path| !root().join(path).exists())
            .collect();
        assert!(
            missing.is_empty(),
            "{document} names what does not exist: {missing:?}"
        );
    }
    // The rule still finds paths at all.
    assert!(paths(&read("ARCHITECTURE.md")).len() > 20);
}

#[test]
fn the_map_names_every_room_of_the_core_and_every_crate() {
    let named = paths(&read("ARCHITECTURE.md"));
    for folder in ["crates", "crates/dbmanager-core/src"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let is_directory = entry.file_type().unwrap().is_dir();
            let path = if is_directory {
                format!("{folder}/{name}/")
            } else {
                format!("{folder}/{name}")
            };
            let covered = named.iter().any(|named| named.starts_with(&path));
            assert!(covered, "ARCHITECTURE.md does not name {path}");
        }
    }
}

#[test]
fn every_room_of_the_core_has_its_own_invariant() {
    let document = read("ARCHITECTURE.md");
    for section in document.split("\n### ").skip(1) {
        let title = section.lines().next().unwrap();
        let is_room = title.contains("crates/dbmanager-core/src/") && !title.contains("lib.rs");
        if is_room {
            assert!(section.contains("**Invariant:**"), "no invariant: {title}");
        }
    }
}

#[test]
fn every_feature_stands_in_the_readme() {
    let manifest = read("Cargo.toml");
    let features = manifest
        .split("[features]")
        .nth(1)
        .unwrap()
        .split("\n[")
        .next()
        .unwrap();
    let readme = read("README.md");
    let table = readme
        .split("\n## Features")
        .nth(1)
        .unwrap()
        .split("\n## ")
        .next()
        .unwrap();
    for line in features
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
    {
        let Some((name, _)) = line.split_once(" = ") else {
            continue;
        };
        if name != "default" {
            assert!(
                table.contains(&format!("| `{name}` |"))
                    || table.contains(&format!("| `{name}`, "))
                    || table.contains(&format!(", `{name}`")),
                "README.md has no row for {name}"
            );
        }
    }
}

/// The names of metrics in quotes, in the sources below a directory.
fn exported_metrics(directory: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names.extend(exported_metrics(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let quoted = text.split('"').filter(|quoted| {
                let name = quoted.strip_prefix("dbmanager_");
                name.is_some_and(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
            });
            names.extend(quoted.map(str::to_owned));
        }
    }
    names
}

#[test]
fn the_readme_names_every_metric_and_no_other() {
    let exported = exported_metrics(&root().join("crates/dbmanager-core/src"));
    assert!(exported.contains("dbmanager_drift_documents"));
    let named: BTreeSet<String> = spans(&read("README.md"))
        .into_iter()
        .filter(|span| span.starts_with("dbmanager_") && !span.contains("::"))
        .collect();
    assert_eq!(named, exported);
}
