//! Constraints, indexes and the format number: made at the first opening, checked at every one.

use dbmanager_core::backend::{BackendError, BackendErrorKind, BackendResult};
use neo4rs::Query;
use serde::Deserialize;

use super::{
    Store,
    config::config,
    convert::{bits, read},
    ident::{Ident, Names},
    link::{Access, Link},
};

/// The layout of this version.
pub(super) const FORMAT: i64 = 1;
/// The first release with `CALL (variable) { … }`, which the statements use.
const OLDEST: (u32, u32) = (5, 23);
/// Seconds to wait for an index of an existing namespace that is still being filled.
const MOST_SECONDS_FOR_INDEXES: i64 = 5;

/// What a constraint or an index must be like.
struct Wanted<'a> {
    name: &'a Ident,
    label: &'a Ident,
    property: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unique,
    Range,
    FullText,
}

impl Wanted<'_> {
    fn statement(&self) -> String {
        let Self {
            name,
            label,
            property,
            ..
        } = self;
        match self.kind {
            Kind::Unique => format!(
                "CREATE CONSTRAINT {name} IF NOT EXISTS FOR (n:{label}) REQUIRE n.{property} IS UNIQUE"
            ),
            Kind::Range => {
                format!("CREATE INDEX {name} IF NOT EXISTS FOR (n:{label}) ON (n.{property})")
            }
            Kind::FullText => format!(
                "CREATE FULLTEXT INDEX {name} IF NOT EXISTS FOR (n:{label}) ON EACH [n.{property}]
                 OPTIONS {{indexConfig: {{`fulltext.analyzer`: 'whitespace',
                                        `fulltext.eventually_consistent`: false}}}}"
            ),
        }
    }

    fn is(&self, held: &Held) -> bool {
        let kind_fits = match self.kind {
            Kind::Unique => held.kind == "RANGE" && held.constraint.is_some(),
            Kind::Range => held.kind == "RANGE" && held.constraint.is_none(),
            Kind::FullText => {
                held.kind == "FULLTEXT"
                    && held.analyzer.as_deref() == Some("whitespace")
                    && held.eventually_consistent == Some(false)
            }
        };
        kind_fits
            && held.labels.as_deref() == Some(&[self.label.as_str().to_owned()])
            && held.properties.as_deref() == Some(&[self.property.to_owned()])
    }
}

fn wanted(names: &Names) -> [Wanted<'_>; 7] {
    let one = |name, label, property, kind| Wanted {
        name,
        label,
        property,
        kind,
    };
    [
        one(&names.store_number, &names.store, "number", Kind::Unique),
        one(&names.lane_number, &names.lane, "number", Kind::Unique),
        one(
            &names.collection_key,
            &names.collection,
            "key",
            Kind::Unique,
        ),
        one(&names.document_key, &names.document, "key", Kind::Unique),
        one(&names.target_key, &names.target, "key", Kind::Unique),
        one(
            &names.document_version,
            &names.document,
            "version",
            Kind::Range,
        ),
        one(
            &names.titles,
            &names.document,
            "title_terms",
            Kind::FullText,
        ),
    ]
}

/// An index as the server lists it.
#[derive(Debug, Deserialize)]
struct Held {
    name: String,
    state: String,
    kind: String,
    labels: Option<Vec<String>>,
    properties: Option<Vec<String>>,
    constraint: Option<String>,
    analyzer: Option<String>,
    eventually_consistent: Option<bool>,
}

/// Checks the server and the layout, and makes the layout where there is none.
///
/// # Errors
/// `Config` for a server that is too old or no Neo4j, for a layout that this version does not know,
/// and for an index of ours that is not as we make it.
pub(super) async fn prepare(store: &Store) -> BackendResult<()> {
    check_server(&store.link).await?;
    let names = &store.names;
    let held = indexes(store).await?;
    for index in wanted(names) {
        match held.iter().find(|held| held.name == index.name.as_str()) {
            None => {
                store
                    .link
                    .run(Access::Write, Query::new(index.statement()))
                    .await?;
            }
            Some(held) if !index.is(held) => {
                return Err(config(&format!(
                    "the database has an index {:?} that is not as this library makes it; choose \
                     another \"namespace\"",
                    held.name
                )));
            }
            Some(_) => {}
        }
    }
    check_format(store).await?;
    for index in wanted(names) {
        let online = held
            .iter()
            .any(|held| held.name == index.name.as_str() && held.state == "ONLINE");
        if !online {
            let query = Query::new("CALL db.awaitIndex($name, $seconds)".to_owned())
                .param("name", index.name.as_str())
                .param("seconds", MOST_SECONDS_FOR_INDEXES);
            store.link.run(Access::Read, query).await?;
        }
    }
    Ok(())
}

async fn indexes(store: &Store) -> BackendResult<Vec<Held>> {
    let names: Vec<String> = wanted(&store.names)
        .iter()
        .map(|index| index.name.to_string())
        .collect();
    let query = Query::new(
        "SHOW INDEXES
         YIELD name, state, type, labelsOrTypes, properties, owningConstraint, options
         WHERE name IN $names
         RETURN name, state, type AS kind, labelsOrTypes AS labels, properties,
                owningConstraint AS constraint,
                options.indexConfig['fulltext.analyzer'] AS analyzer,
                options.indexConfig['fulltext.eventually_consistent'] AS eventually_consistent"
            .to_owned(),
    )
    .param("names", names);
    let rows = store.link.run(Access::Read, query).await?;
    rows.iter().map(read).collect()
}

#[derive(Debug, Deserialize)]
struct Component {
    name: String,
    versions: Vec<String>,
}

async fn check_server(link: &Link) -> BackendResult<()> {
    let query =
        Query::new("CALL dbms.components() YIELD name, versions RETURN name, versions".to_owned());
    let rows = link.run(Access::Read, query).await?;
    let components: Vec<Component> = rows.iter().map(read).collect::<BackendResult<_>>()?;
    let kernel = components
        .iter()
        .find(|component| component.name == "Neo4j Kernel")
        .and_then(|component| component.versions.first());
    match kernel {
        Some(version) => check_version(version),
        None => Err(config(&format!(
            "Neo4j {}.{} or newer is needed; the server says it is {:?}",
            OLDEST.0,
            OLDEST.1,
            components.first().map(|component| &*component.name)
        ))),
    }
}

fn check_version(version: &str) -> BackendResult<()> {
    let mut numbers = version
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let mut number = || numbers.next().unwrap_or(0);
    if (number(), number()) >= OLDEST {
        return Ok(());
    }
    Err(config(&format!(
        "Neo4j {}.{} or newer is needed; the server is {version}",
        OLDEST.0, OLDEST.1
    )))
}

#[derive(Debug, Deserialize)]
struct Layout {
    format: Option<i64>,
    others: bool,
}

/// A namespace without its store node must be empty: what else lies there is not ours.
async fn check_format(store: &Store) -> BackendResult<()> {
    let Names {
        store: store_label,
        document,
        collection,
        ..
    } = &store.names;
    let lock = bits(store.link.runtime().random_u64());
    // Only where there is none: a server that takes no writes can still be read.
    let look = format!(
        "OPTIONAL MATCH (store:{store_label} {{number: 0}})
         RETURN store.format AS format,
                EXISTS {{ MATCH (:{document}) }} OR EXISTS {{ MATCH (:{collection}) }} AS others"
    );
    let held: Layout = store
        .link
        .run_for_one(Access::Read, Query::new(look))
        .await?;
    match held.format {
        Some(FORMAT) => Ok(()),
        Some(other) => Err(config(&format!(
            "the namespace {:?} has layout {other}; this version knows {FORMAT}",
            store.names.namespace.as_str()
        ))),
        None if held.others => Err(config(&format!(
            "the namespace {:?} holds nodes, but no layout of this library",
            store.names.namespace.as_str()
        ))),
        None => {
            let make = format!(
                "{}
                 MERGE (store:{store_label} {{number: 0}})
                 SET store.format = coalesce(store.format, $format)
                 RETURN store.format AS format, false AS others",
                store.lock_lanes()
            );
            let query = Query::new(make).param("lock", lock).param("format", FORMAT);
            let made: Layout = store.link.run_for_one(Access::Write, query).await?;
            match made.format {
                Some(FORMAT) => Ok(()),
                other => Err(BackendError::new(
                    BackendErrorKind::Config,
                    format!("the layout became {other:?} while it was made"),
                )),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_refused_by_what_is_needed() {
        for version in [
            "5.23.0",
            "5.26.30",
            "6.0",
            "2025.01.0",
            "2026.08.1",
            "5.26-aura",
        ] {
            assert!(check_version(version).is_ok(), "{version}");
        }
        for version in ["5.22.0", "4.4.41", "3.5", "", "x"] {
            let error = check_version(version).unwrap_err();
            assert_eq!(error.kind(), BackendErrorKind::Config);
            assert!(error.message().contains("5.23"), "{error}");
        }
    }
}
