//! Following the journal: its changes in order, and being told that there are some.

use std::sync::{Arc, Weak};

use dbmanager_core::{
    journal::{Changes, Confirmation, JournalResult, ParkedEntry, RosterRecord, SharedChange},
    model::{StoreId, Version},
};
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions, PgRow};
use tokio::sync::oneshot;

use super::{
    catalogue::from_json,
    codec::{column, damaged, signed, unsigned, version},
    engine::Engine,
    expiry::store_id,
    transaction::{ChangeKind, run},
};

/// A change as it is stored.
struct StoredChange {
    sequence: u64,
    kind: ChangeKind,
    epoch: u64,
    mark: Version,
    store_id: Option<String>,
    versions: Vec<Version>,
    content: Option<String>,
}

fn stored(row: &PgRow) -> JournalResult<StoredChange> {
    let versions: Vec<i64> = column(row, "versions")?;
    Ok(StoredChange {
        sequence: unsigned(row, "sequence")?,
        kind: ChangeKind::from_number(column(row, "kind")?)?,
        epoch: unsigned(row, "epoch")?,
        mark: version(row, "mark")?,
        store_id: column(row, "store")?,
        versions: versions
            .into_iter()
            .map(|number| u64::try_from(number).map(Version::from_u64))
            .collect::<Result<_, _>>()
            .map_err(|_| damaged("a change has a version below zero"))?,
        content: column(row, "content")?,
    })
}

impl Engine {
    /// Changes above `after`, in order.
    pub(super) async fn changes_above(&self, after: u64, limit: usize) -> JournalResult<Changes> {
        let mut connection = self.connection().await?;
        // One statement: the row's numbers and the changes are of one moment.
        let query = sqlx::query(
            "SELECT j.pruned, j.mark AS journal_mark, j.entries, j.bytes, c.sequence, c.kind,
                    c.epoch, c.mark, c.store_id::text AS store, c.versions, c.content
             FROM journal AS j LEFT JOIN LATERAL (
                 SELECT * FROM journal_change WHERE sequence > $1 ORDER BY sequence LIMIT $2
             ) AS c ON true
             ORDER BY c.sequence",
        )
        .bind(signed(after))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let rows = run(query.fetch_all(&mut *connection)).await?;
        connection.release();
        let first = rows.first().ok_or_else(|| damaged("its row is gone"))?;
        self.publish_size(
            version(first, "journal_mark")?,
            unsigned(first, "entries")?,
            unsigned(first, "bytes")?,
        );
        if after < unsigned(first, "pruned")? {
            return Ok(Changes::TooFarBehind);
        }
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            if column::<Option<i64>>(row, "sequence")?.is_some() {
                found.push(stored(row)?);
            }
        }
        self.with_headers(found).await
    }

    async fn with_headers(&self, found: Vec<StoredChange>) -> JournalResult<Changes> {
        let appended: Vec<Version> = found
            .iter()
            .filter(|change| change.kind == ChangeKind::Appended)
            .flat_map(|change| change.versions.iter().copied())
            .collect();
        // Later than the changes: an entry that is missing here was truncated since, and the change
        // that says so comes later.
        let mut headers = self.headers_of(&appended).await?;
        let mut changes = Vec::with_capacity(found.len());
        for change in found {
            let sequence = change.sequence;
            let change = match change.kind {
                ChangeKind::Appended => SharedChange::Appended {
                    headers: change
                        .versions
                        .iter()
                        .filter_map(|version| headers.remove(version))
                        .collect(),
                    mark: change.mark,
                },
                _ => other_change(change)?,
            };
            if matches!(change, SharedChange::Truncated(_)) {
                self.set_refused_for_room(false);
            }
            changes.push((sequence, change));
        }
        Ok(Changes::Next(changes))
    }
}

fn other_change(change: StoredChange) -> JournalResult<SharedChange> {
    let store = || -> JournalResult<StoreId> { store_id(change.store_id.as_deref()) };
    let entry = || {
        let version = change.versions.first().copied();
        version.ok_or_else(|| damaged("a change names no entry"))
    };
    let content = || change.content.as_deref().unwrap_or_default();
    Ok(match change.kind {
        ChangeKind::Appended | ChangeKind::Truncated => SharedChange::Truncated(change.versions),
        ChangeKind::Held => SharedChange::Confirmed(Confirmation::Held {
            store_id: store()?,
            versions: change.versions,
        }),
        ChangeKind::Forgotten => SharedChange::Confirmed(Confirmation::Forgotten(store()?)),
        ChangeKind::Parked => SharedChange::Parked(ParkedEntry {
            version: entry()?,
            store_id: store()?,
            error: content().to_owned(),
        }),
        ChangeKind::Unparked => SharedChange::Unparked {
            version: entry()?,
            store_id: store()?,
        },
        ChangeKind::Roster => SharedChange::Roster(from_json::<RosterRecord>(content())?),
        ChangeKind::Collection => SharedChange::Collection(from_json(content())?),
        ChangeKind::Sender => SharedChange::Sender {
            epoch: change.epoch,
            holder: change.content,
        },
    })
}

/// Wakes whoever waits for changes when the server notifies, until the journal is closed or
/// dropped. Without notifications (a pooler between) everything goes on by polling.
pub(super) fn listen(engine: &Arc<Engine>, options: PgConnectOptions) -> oneshot::Sender<()> {
    let (stop, stopped) = oneshot::channel();
    let weak = Arc::downgrade(engine);
    let runtime = engine.runtime.clone();
    let channel = engine.channel.clone();
    drop(engine.runtime.spawn(async move {
        let listening = async {
            loop {
                if let Err(error) = hear(&weak, &options, &channel).await {
                    tracing::debug!(%error, "no notifications from the journal's server");
                }
                let Some(pause) = weak.upgrade().map(|engine| engine.attempt_timeout) else {
                    return;
                };
                runtime.sleep(pause).await;
            }
        };
        tokio::select! {
            () = listening => {}
            // An error means that the handle is gone, which is an end too.
            _ = stopped => {}
        }
    }));
    stop
}

async fn hear(
    engine: &Weak<Engine>,
    options: &PgConnectOptions,
    channel: &str,
) -> Result<(), sqlx::Error> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect_lazy_with(options.clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(channel).await?;
    loop {
        listener.recv().await?;
        match engine.upgrade() {
            Some(engine) => engine.changed.notify_one(),
            None => return Ok(()),
        }
    }
}

impl Engine {
    /// Waits until there may be changes.
    pub(super) async fn wait_for_changes(&self) {
        let notified = self.changed.notified();
        // Running out is the polling.
        let _ = self
            .runtime
            .timeout(self.options.poll_interval, notified)
            .await;
    }
}
