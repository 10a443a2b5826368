//! A schema of a test's own, removed when the test is over.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::environment::unique;

/// A schema that nobody else uses.
#[derive(Debug)]
pub(super) struct Place {
    url: String,
    schema: String,
}

impl Place {
    pub(super) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            schema: unique("live"),
        }
    }

    pub(super) fn schema(&self) -> &str {
        &self.schema
    }

    /// A connection past the adapter, in this schema.
    pub(super) async fn connect(&self) -> PgConnection {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        let path = format!("SET search_path = {}", self.schema);
        run(&mut connection, &path).await;
        connection
    }
}

/// Runs statements past the adapter.
pub(super) async fn run(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
        .unwrap();
}

impl Drop for Place {
    fn drop(&mut self) {
        let (url, schema) = (self.url.clone(), self.schema.clone());
        // On a thread and a runtime of its own: the test's runtime may be ending.
        let removed = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let mut connection = PgConnection::connect(&url).await.unwrap();
                run(
                    &mut connection,
                    &format!("DROP SCHEMA IF EXISTS {schema} CASCADE"),
                )
                .await;
            });
        })
        .join();
        if removed.is_err() {
            crate::environment::report(&format!("postgres: schema {} is left behind", self.schema));
        }
    }
}
