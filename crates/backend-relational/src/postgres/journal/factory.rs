//! Opens the journal by configuration.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use dbmanager_core::{
    backend::{OpenContext, ServiceConfig},
    journal::{
        Journal, JournalError, JournalErrorKind, JournalFactory, JournalOptions, JournalResult,
        parse_journal_config,
    },
    model::JournalId,
};

use super::{
    super::{
        config::{ConnectionConfig, SessionSettings, Target},
        connect,
        migrate::advisory_key,
    },
    PostgresJournal,
    changes::listen,
    codec::{open_failed, parse_id},
    engine::Engine,
    layout::LAYOUT,
    transaction::run,
};

const SERVICE: &str = "postgres";

/// The journal `postgres`; see [the module](super).
#[derive(Clone, Copy, Debug, Default)]
pub struct PostgresJournalFactory;

impl PostgresJournalFactory {
    /// The factory.
    pub fn new() -> Self {
        Self
    }
}

fn target(config: &ServiceConfig) -> JournalResult<Target> {
    let config: ConnectionConfig = parse_journal_config(SERVICE, config)?;
    config.target().map_err(|error| {
        JournalError::new(
            JournalErrorKind::Open,
            format!("journal.config: {}", error.message()),
        )
    })
}

#[async_trait]
impl JournalFactory for PostgresJournalFactory {
    fn service(&self) -> &str {
        SERVICE
    }

    fn aliases(&self) -> &[&str] {
        &["postgresql"]
    }

    /// Other than that of a store: a store and the journal may share a schema.
    fn location(&self, config: &ServiceConfig, _context: &OpenContext) -> JournalResult<String> {
        Ok(format!("journal on {}", target(config)?.location()))
    }

    async fn open(
        &self,
        config: &ServiceConfig,
        context: &OpenContext,
        options: &JournalOptions,
    ) -> JournalResult<Arc<dyn Journal>> {
        options.validate()?;
        let target = target(config)?;
        let session = SessionSettings::new(context);
        let opened = connect::open(&target, &session, &LAYOUT, context)
            .await
            .map_err(|error| match error.message().contains("has format") {
                true => JournalError::new(
                    JournalErrorKind::UnsupportedFormat,
                    error.message().to_owned(),
                )
                .with_source(error),
                false => open_failed(error),
            })?;
        if !opened.server.durable {
            tracing::warn!(
                "the journal's server runs with fsync off: a crash of its machine loses writes"
            );
        }
        let journal_id = identity(&opened.pool, context).await?;
        let number = advisory_key(target.schema(), "journal changes");
        let channel = format!("dbmanager_{:016x}", number.cast_unsigned());
        let engine = Engine::new(
            context.runtime.clone(),
            options.clone(),
            opened.pool,
            context.attempt_timeout,
            journal_id,
            channel,
        );
        engine.bounded(engine.shared_state()).await?;
        let listening = target
            .options(&session, &context.runtime)
            .await
            .map_err(open_failed)?;
        let stop = listen(&engine, listening);
        Ok(Arc::new(PostgresJournal {
            engine,
            listening: Mutex::new(Some(stop)),
        }))
    }
}

/// The journal's identity, which the first opening gives it.
async fn identity(
    pool: &super::super::pool::Pool,
    context: &OpenContext,
) -> JournalResult<JournalId> {
    let mut connection = pool.acquire().await.map_err(open_failed)?;
    let insert =
        sqlx::query("INSERT INTO journal (journal_id) VALUES ($1::uuid) ON CONFLICT DO NOTHING")
            .bind(context.runtime.new_journal_id().to_string());
    run(insert.execute(&mut *connection)).await?;
    let select = sqlx::query_scalar("SELECT journal_id::text FROM journal");
    let found: String = run(select.fetch_one(&mut *connection)).await?;
    connection.release();
    parse_id(&found)
}
