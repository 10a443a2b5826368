//! The dependency crates of the current Cargo workspace as documents: data that every machine
//! with Rust has, with text, facts and relations.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use dbmanager::model::{Document, Reference};
use serde::Deserialize;
use serde_json::{Value, json};

/// Crate descriptions for machines where `cargo metadata` does not answer.
const SHIPPED: &str = include_str!("../data/crates.jsonl");

/// The documents and where they came from.
pub(crate) struct Crates {
    pub(crate) documents: Vec<Document>,
    pub(crate) source: String,
}

/// What the workspace around the current directory depends on, or the shipped ones, in which case
/// the source says why.
pub(crate) fn load() -> Result<Crates, String> {
    match workspace() {
        Ok(documents) => Ok(Crates {
            documents,
            source: "cargo metadata of this workspace".to_owned(),
        }),
        Err(reason) => Ok(Crates {
            documents: shipped()?,
            source: format!("the shipped examples/data/crates.jsonl, because {reason}"),
        }),
    }
}

/// The crates of the shipped file.
fn shipped() -> Result<Vec<Document>, String> {
    let lines = SHIPPED.lines().enumerate();
    lines
        .map(|(index, line)| {
            serde_json::from_str(line)
                .map_err(|error| format!("line {} of the shipped file: {error}", index + 1))
        })
        .collect()
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
    resolve: Option<Resolve>,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    description: Option<String>,
    license: Option<String>,
    repository: Option<String>,
    readme: Option<String>,
    manifest_path: String,
    rust_version: Option<String>,
    authors: Vec<String>,
    keywords: Vec<String>,
    categories: Vec<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    kind: Option<String>,
}

fn workspace() -> Result<Vec<Document>, String> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .ok_or("rustc -vV names no host")?;
    let metadata = output(Command::new("cargo").args([
        "metadata",
        "--offline",
        "--format-version=1",
        "--filter-platform",
        host,
    ]))?;
    let metadata: Metadata =
        serde_json::from_str(&metadata).map_err(|error| format!("cargo metadata: {error}"))?;
    Ok(documents(metadata))
}

fn output(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("{name} cannot be run: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or_default();
        return Err(format!("{name} answered: {said}"));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("{name}: {error}"))
}

fn documents(mut metadata: Metadata) -> Vec<Document> {
    let members = metadata.workspace_members;
    metadata
        .packages
        .retain(|package| !members.contains(&package.id));
    let ids = document_ids(&metadata.packages);
    let nodes = metadata.resolve.iter().flat_map(|resolve| &resolve.nodes);
    let dependencies: BTreeMap<&str, &[Dependency]> = nodes
        .map(|node| (node.id.as_str(), node.deps.as_slice()))
        .collect();
    metadata
        .packages
        .iter()
        .map(|package| {
            let found = dependencies.get(package.id.as_str()).copied();
            document(package, &ids, found.unwrap_or_default())
        })
        .collect()
}

/// A crate's name, with its version where the workspace has two.
fn document_ids(packages: &[Package]) -> BTreeMap<&str, String> {
    let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
    for package in packages {
        *versions.entry(&package.name).or_default() += 1;
    }
    let id = |package: &Package| match versions.get(package.name.as_str()) {
        Some(1) => package.name.clone(),
        _ => format!("{}@{}", package.name, package.version),
    };
    packages
        .iter()
        .map(|package| (package.id.as_str(), id(package)))
        .collect()
}

fn document(
    package: &Package,
    ids: &BTreeMap<&str, String>,
    dependencies: &[Dependency],
) -> Document {
    let mut document = Document::new(ids[package.id.as_str()].clone())
        .title(&package.name)
        .text(text(package))
        .document_type("crate")
        .file_path(&package.manifest_path)
        .references(references(ids, dependencies));
    for (key, value) in [
        ("version", json!(package.version)),
        ("license", json!(package.license)),
        ("repository", json!(package.repository)),
        ("rust_version", json!(package.rust_version)),
        ("authors", json!(package.authors)),
        ("keywords", json!(package.keywords)),
        ("categories", json!(package.categories)),
    ] {
        if !matches!(&value, Value::Null) {
            document = document.metadata(key, value);
        }
    }
    document
}

/// Description, keywords and categories, then the README where the crate brings one.
fn text(package: &Package) -> String {
    let mut parts = vec![package.description.clone().unwrap_or_default()];
    parts.push(package.keywords.join(", "));
    parts.push(package.categories.join(", "));
    let directory = Path::new(&package.manifest_path).parent();
    if let (Some(directory), Some(readme)) = (directory, &package.readme) {
        // Not every package ships the file its manifest names; the description stands then.
        parts.push(fs::read_to_string(directory.join(readme)).unwrap_or_default());
    }
    parts.retain(|part| !part.trim().is_empty());
    parts.join("\n\n")
}

fn references(ids: &BTreeMap<&str, String>, dependencies: &[Dependency]) -> Vec<Reference> {
    let mut edges = BTreeSet::new();
    for dependency in dependencies {
        let Some(target) = ids.get(dependency.pkg.as_str()) else {
            continue;
        };
        for kind in &dependency.dep_kinds {
            edges.insert((target, edge_kind(kind.kind.as_deref())));
        }
    }
    edges
        .into_iter()
        .map(|(target, kind)| Reference::new(target).kind(kind))
        .collect()
}

fn edge_kind(kind: Option<&str>) -> &'static str {
    match kind {
        Some("build") => "builds_with",
        Some("dev") => "is_tested_with",
        _ => "depends_on",
    }
}
