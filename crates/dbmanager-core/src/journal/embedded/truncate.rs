//! Letting go of entries, and what goes with them.

use super::{super::TruncateRequest, codec, failure::Failure, group::Group, tables};
use crate::{
    journal::RosterRecord,
    model::{StoreId, Version},
};

/// Operations forgotten by a truncation beyond twice its entries, so that a backlog shrinks.
const EXPIRY_MINIMUM: usize = 256;

impl Group<'_, '_> {
    /// Lets go of the entries and records the stores' progress, which never goes back.
    pub(super) fn truncate(&mut self, request: &TruncateRequest) -> Result<(), Failure> {
        for version in &request.versions {
            self.let_go(*version)?;
        }
        for (store_id, progress) in &request.progress {
            self.raise_progress(*store_id, *progress)?;
        }
        self.expire(EXPIRY_MINIMUM + 2 * request.versions.len())
    }

    fn let_go(&mut self, version: Version) -> Result<(), Failure> {
        let Some(header) = self.tables.header(version)? else {
            return Ok(());
        };
        let key = tables::version_key(version);
        self.tables.headers.remove(&key)?;
        self.tables.contents.remove(&key)?;
        let parked: Vec<_> = self
            .state
            .parked
            .range((version, StoreId::from_u128(0))..=(version, StoreId::from_u128(u128::MAX)))
            .copied()
            .collect();
        for (version, store_id) in parked {
            self.unpark(version, store_id)?;
        }
        self.forget_later(header.operation_id)?;
        self.state.index.remove(&header);
        self.changed = true;
        self.truncated = true;
        Ok(())
    }

    fn raise_progress(&mut self, store_id: StoreId, progress: Version) -> Result<(), Failure> {
        let key = tables::store_key(store_id);
        let Some(content) = self.tables.roster.get(&key)? else {
            tracing::warn!(%store_id, "progress of a store that is not on the roster");
            return Ok(());
        };
        let mut record: RosterRecord =
            codec::decode_json(self.tables.roster.name(), &key, &content)?;
        if record.progress < progress {
            record.progress = progress;
            self.tables
                .roster
                .put(&key, &codec::encode_json(&record)?)?;
            self.changed = true;
        }
        Ok(())
    }
}
