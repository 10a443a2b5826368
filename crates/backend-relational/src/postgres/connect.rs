//! Opening a place on a PostgreSQL server: connecting, checking what answers, bringing its tables
//! up to date.

use dbmanager_core::backend::{BackendResult, OpenContext};
use sqlx::postgres::PgConnection;

use super::{
    config::{SessionSettings, Target, config_error},
    convert::failed,
    migrate::Layout,
    pool::Pool,
};

/// The oldest version that is known to have what is used here, as `server_version_num` counts.
const OLDEST: i32 = 140_000;

/// What answers at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServerFacts {
    /// Whether a commit reaches the disk before it is answered (`fsync`).
    pub(crate) durable: bool,
}

/// A place on a server that was reached and whose tables are there.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    /// Its connections.
    pub(crate) pool: Pool,
    /// What the server said of itself.
    pub(crate) server: ServerFacts,
}

/// Connects, checks the server, and brings the component's tables up to date. Stamps and claims
/// nothing.
///
/// # Errors
/// `Config` for a server that cannot serve, naming what is needed and what was found, for a
/// database that is not there, and for a layout that this program does not know; `Denied` for
/// wrong credentials; `Unavailable` or `Timeout` if nobody answers.
pub(crate) async fn open(
    target: &Target,
    session: &SessionSettings,
    layout: &Layout,
    context: &OpenContext,
) -> BackendResult<Opened> {
    let options = target.options(session, &context.runtime).await?;
    let pool = Pool::new(
        options,
        context.runtime.clone(),
        context.pool_size,
        context.attempt_timeout,
    );
    let mut lease = pool.acquire().await?;
    let server = facts(&mut lease).await?;
    layout.migrate(&mut lease, target.schema()).await?;
    lease.release();
    Ok(Opened { pool, server })
}

async fn facts(connection: &mut PgConnection) -> BackendResult<ServerFacts> {
    let (full, version, encoding, fsync): (String, String, String, String) = sqlx::query_as(
        "SELECT version(), current_setting('server_version_num'),
                current_setting('server_encoding'), current_setting('fsync')",
    )
    .fetch_one(connection)
    .await
    .map_err(|error| failed(&error))?;
    check(&full, &version, &encoding)?;
    Ok(ServerFacts {
        durable: fsync == "on",
    })
}

/// Whether this server can serve.
fn check(full: &str, version: &str, encoding: &str) -> BackendResult<()> {
    let needed = format!("PostgreSQL {} or newer", OLDEST / 10_000);
    if !full.starts_with("PostgreSQL ") {
        return Err(config_error(format!("needs {needed}, found: {full}")));
    }
    match version.parse::<i32>() {
        Ok(number) if number >= OLDEST => {}
        _ => return Err(config_error(format!("needs {needed}, found: {full}"))),
    }
    if encoding != "UTF8" {
        return Err(config_error(format!(
            "needs a database with the encoding UTF8, found {encoding}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use dbmanager_core::backend::BackendErrorKind;

    use super::*;

    #[test]
    fn an_unsupported_server_is_refused_with_what_is_needed_and_found() {
        check("PostgreSQL 18.6 on x86_64", "180006", "UTF8").unwrap();
        check("PostgreSQL 14.0 on x86_64", "140000", "UTF8").unwrap();
        for (full, version, encoding, named) in [
            ("PostgreSQL 13.22 on x86_64", "130022", "UTF8", "13.22"),
            ("CockroachDB CCL v24.1.0", "130000", "UTF8", "CockroachDB"),
            ("PostgreSQL 18.6", "180006", "SQL_ASCII", "SQL_ASCII"),
            ("PostgreSQL devel", "", "UTF8", "devel"),
        ] {
            let error = check(full, version, encoding).unwrap_err();
            assert_eq!(error.kind(), BackendErrorKind::Config);
            assert!(error.message().contains(named), "{error}");
            assert!(error.message().starts_with("needs "), "{error}");
        }
    }
}
