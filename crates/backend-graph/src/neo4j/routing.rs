//! Which member of a cluster takes writes.
//!
//! The client only speaks to the server that it is pointed at. A cluster is asked for its routing
//! table by the procedure that every Neo4j has, and everything, reads too, goes to the member that
//! takes writes: only there is a write visible at once to whoever reads by id.

use std::{collections::HashMap, time::Duration};

use dbmanager_core::backend::{BackendError, BackendErrorKind, BackendResult};
use neo4rs::{BoltMap, BoltType, Graph, Query};
use serde::Deserialize;

use super::{
    config::{Address, parse_address},
    convert::{read, translate},
    link::Link,
};

/// How long a routing table is believed, whatever the server says: it is cheap to ask.
const MOST_VALID: Duration = Duration::from_secs(300);
const LEAST_VALID: Duration = Duration::from_secs(10);

/// Where to write.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) writer: Address,
    pub(super) routers: Vec<Address>,
    pub(super) valid_for: Duration,
}

#[derive(Debug, Deserialize)]
struct Table {
    ttl: i64,
    servers: Vec<Member>,
}

#[derive(Debug, Deserialize)]
struct Member {
    addresses: Vec<String>,
    role: String,
}

/// Asks the members known last, then the address of the configuration; the first answer counts.
///
/// # Errors
/// `Unavailable` if no member takes writes now; that of the last one asked if none answers.
pub(super) async fn find(link: &Link, known: Vec<Address>) -> BackendResult<Found> {
    let seed = &link.settings().address;
    let mut last = None;
    let others = known.iter().filter(|address| *address != seed);
    for address in others.chain([seed]) {
        match ask(link, address).await.and_then(choose) {
            Ok(found) => return Ok(found),
            // A wrong password is wrong everywhere.
            Err(error) if error.kind() == BackendErrorKind::Denied => return Err(error),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(no_writer))
}

async fn ask(link: &Link, address: &Address) -> BackendResult<Table> {
    let graph: Graph = link.connect(address, 1).await?;
    let seed = &link.settings().address;
    let context: BoltMap = HashMap::from([("address", format!("{}:{}", seed.host, seed.port))])
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    let query = Query::new(
        "CALL dbms.routing.getRoutingTable($context, $database) YIELD ttl, servers
         RETURN ttl, servers"
            .to_owned(),
    )
    .param("context", BoltType::Map(context))
    .param("database", link.settings().database.as_deref());
    let answer = async {
        let mut stream = graph.execute_read(query).await?;
        stream.next().await
    };
    match answer.await.map_err(translate)? {
        Some(row) => read(&row),
        None => Err(no_writer()),
    }
}

fn choose(table: Table) -> BackendResult<Found> {
    let of_role = |role: &str| -> BackendResult<Vec<Address>> {
        table
            .servers
            .iter()
            .filter(|member| member.role == role)
            .flat_map(|member| &member.addresses)
            .map(|address| parse_address(address).map_err(|_| unreadable(address)))
            .collect()
    };
    let writer = of_role("WRITE")?.into_iter().next().ok_or_else(no_writer)?;
    let seconds = u64::try_from(table.ttl).unwrap_or(0);
    Ok(Found {
        writer,
        routers: of_role("ROUTE")?,
        valid_for: Duration::from_secs(seconds).clamp(LEAST_VALID, MOST_VALID),
    })
}

fn no_writer() -> BackendError {
    BackendError::new(
        BackendErrorKind::Unavailable,
        "no member of the cluster takes writes now",
    )
    .not_applied()
}

fn unreadable(address: &str) -> BackendError {
    BackendError::new(
        BackendErrorKind::Protocol,
        format!("the routing table has the address {address:?}"),
    )
    .not_applied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(ttl: i64, servers: &[(&str, &[&str])]) -> Table {
        let servers = servers
            .iter()
            .map(|(role, addresses)| Member {
                addresses: addresses.iter().map(|a| (*a).to_owned()).collect(),
                role: (*role).to_owned(),
            })
            .collect();
        Table { ttl, servers }
    }

    #[test]
    fn the_first_writer_is_chosen_and_the_routers_are_remembered() {
        let servers: &[(&str, &[&str])] = &[
            ("READ", &["a:1", "b:2"]),
            ("WRITE", &["b:2"]),
            ("ROUTE", &["a:1", "[::1]:3"]),
        ];
        let found = choose(table(60, servers)).unwrap();
        assert_eq!((&*found.writer.host, found.writer.port), ("b", 2));
        assert_eq!(found.routers.len(), 2);
        assert_eq!(found.routers[1].host, "[::1]");
        assert_eq!(found.valid_for, Duration::from_secs(60));
        assert_eq!(choose(table(-1, servers)).unwrap().valid_for, LEAST_VALID);
        assert_eq!(choose(table(9_999, servers)).unwrap().valid_for, MOST_VALID);
    }

    #[test]
    fn a_cluster_without_a_writer_is_unavailable() {
        let error = choose(table(60, &[("READ", &["a:1"])])).unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Unavailable);
        let error = choose(table(60, &[("WRITE", &["a b:1"])])).unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Protocol);
    }
}
