//! The tables of a component, and how older ones become today's.

use dbmanager_core::backend::{BackendError, BackendErrorKind, BackendResult};
use sqlx::{AssertSqlSafe, Connection, Row, postgres::PgConnection};

use super::{
    config::config_error,
    convert::{JobError, code, failed},
    pool::end,
};

/// What one component (a store, a journal) keeps in the schema.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Its name in the table `format`.
    pub(crate) component: &'static str,
    /// What leads from each format number to the next, from 0 on, each as pieces of SQL in which
    /// tables carry no schema. Once released an entry is never changed; new ones are added behind.
    pub(crate) migrations: &'static [&'static [&'static str]],
}

impl Layout {
    fn newest(&self) -> i32 {
        i32::try_from(self.migrations.len()).unwrap_or(i32::MAX)
    }

    /// Brings the component's tables to the newest format, all or nothing, one manager at a time.
    /// A layout that is up to date is only read, so that it opens on a read-only server as well.
    ///
    /// # Errors
    /// `Config` for a format newer than this program knows, or for tables of other makers under
    /// this component's names; `Denied` without the right to create them.
    pub(crate) async fn migrate(
        &self,
        connection: &mut PgConnection,
        schema: &str,
    ) -> BackendResult<()> {
        if self.held(connection).await? == self.newest() {
            return Ok(());
        }
        let mut transaction = connection.begin().await.map_err(|e| failed(&e))?;
        let done = self.migrate_within(&mut transaction, schema).await;
        end(transaction, done.map_err(JobError::from))
            .await
            .map_err(JobError::translate)
    }

    async fn migrate_within(
        &self,
        connection: &mut PgConnection,
        schema: &str,
    ) -> BackendResult<()> {
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(advisory_key(schema, "migrations"))
            .execute(&mut *connection)
            .await
            .map_err(|error| failed(&error))?;
        // Asked first: to create what is there already needs rights, too.
        let present: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)")
                .bind(schema)
                .fetch_one(&mut *connection)
                .await
                .map_err(|error| failed(&error))?;
        if !present {
            execute(connection, format!("CREATE SCHEMA {schema}")).await?;
        }
        let create = "CREATE TABLE IF NOT EXISTS format (
                          component text PRIMARY KEY,
                          number    integer NOT NULL
                      )";
        execute(connection, create.to_owned()).await?;
        let held = self.held(connection).await?;
        let from = usize::try_from(held).unwrap_or(0);
        for step in self.migrations.get(from..).unwrap_or_default() {
            for piece in *step {
                execute(connection, (*piece).to_owned()).await?;
            }
        }
        sqlx::query(
            "INSERT INTO format VALUES ($1, $2)
             ON CONFLICT (component) DO UPDATE SET number = excluded.number",
        )
        .bind(self.component)
        .bind(self.newest())
        .execute(connection)
        .await
        .map_err(|error| failed(&error))?;
        Ok(())
    }

    /// The format number held; 0 if there is nothing of this component.
    async fn held(&self, connection: &mut PgConnection) -> BackendResult<i32> {
        let present: bool = sqlx::query_scalar("SELECT to_regclass('format') IS NOT NULL")
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| failed(&error))?;
        if !present {
            return Ok(0);
        }
        let row = sqlx::query("SELECT number FROM format WHERE component = $1")
            .bind(self.component)
            .fetch_optional(connection)
            .await
            .map_err(|error| match code(&error) {
                Some("42703" | "42883") => foreign("format"),
                _ => failed(&error),
            })?;
        let held = match row {
            Some(row) => row.try_get(0).map_err(|_| foreign("format"))?,
            None => 0,
        };
        if held < 0 || held > self.newest() {
            return Err(config_error(format!(
                "the {} in the schema has format {held}, this program knows formats up to {}",
                self.component,
                self.newest()
            )));
        }
        Ok(held)
    }
}

async fn execute(connection: &mut PgConnection, sql: String) -> BackendResult<()> {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await
        .map_err(|error| match code(&error) {
            // A table, a function or a type of that name.
            Some("42P07" | "42710" | "42723") => BackendError::new(
                BackendErrorKind::Config,
                format!(
                    "the schema holds something of another maker: {}",
                    failed(&error).message()
                ),
            )
            .not_applied(),
            _ => failed(&error),
        })?;
    Ok(())
}

fn foreign(table: &str) -> BackendError {
    config_error(format!(
        "the table {table} in the schema is of another maker"
    ))
}

/// A key for the server's advisory locks, which all programs of a database share: 64-bit FNV-1a
/// over this program's name, the schema and the purpose.
pub(crate) fn advisory_key(schema: &str, purpose: &str) -> i64 {
    let text = format!("dbmanager\0{schema}\0{purpose}");
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    i64::from_be_bytes(hash.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::advisory_key;

    #[test]
    fn schemas_and_purposes_have_locks_of_their_own() {
        let keys = [
            advisory_key("a", "migrations"),
            advisory_key("b", "migrations"),
            advisory_key("a", "sender"),
            advisory_key("", "a\0migrations"),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(key), "{keys:?}");
        }
    }
}
