//! Whose store this is: the stamp, in a collection of its own.

use std::sync::{Arc, Mutex, PoisonError};

use dbmanager_core::{
    backend::{BackendError, BackendErrorKind, BackendResult, Identity, Stamp, StampRequest},
    model::Version,
};
use serde_json::{Map, Value, json};

use super::{
    api::{Api, Record},
    catalogue::{self, Catalogue, FORMAT, FORMAT_KEY},
    heads, names,
};

const STAMP: &str = "stamp";

/// The stamp's collection, with the server's id that was asked for once.
#[derive(Debug)]
pub(super) struct Stamps {
    name: String,
    known: Mutex<Option<String>>,
}

fn text(stamp: &Map<String, Value>, key: &str) -> Option<String> {
    Some(stamp.get(key)?.as_str()?.to_owned())
}

fn read_stamp(stamp: &Map<String, Value>) -> Option<Stamp> {
    Some(Stamp {
        store_id: text(stamp, "store_id")?.parse().ok()?,
        journal_id: text(stamp, "journal_id")?.parse().ok()?,
        epoch: text(stamp, "epoch")?.parse().ok()?,
        progress: Version::from_u64(text(stamp, "progress")?.parse().ok()?),
    })
}

/// All of it under the same keys each time: the server merges what is written with what was there.
fn stamp_record(stamp: &Stamp) -> Record {
    let entries = [
        ("store_id", stamp.store_id.to_string()),
        ("journal_id", stamp.journal_id.to_string()),
        ("epoch", stamp.epoch.to_string()),
        ("progress", stamp.progress.as_u64().to_string()),
    ];
    Record {
        id: STAMP.to_owned(),
        embedding: vec![0.0],
        metadata: Arc::new(
            entries
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.into()))
                .collect(),
        ),
    }
}

impl Stamps {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            name: names::stamp(prefix),
            known: Mutex::default(),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stamp; absent on a store that no manager has used.
    ///
    /// # Errors
    /// `Config`: the collection of its name is in a newer layout, or not ours. `Damaged`: what
    /// stands there is no stamp.
    pub(super) async fn read(&self, api: &Api) -> BackendResult<Option<Stamp>> {
        let known = self.known().clone();
        if let Some(id) = known {
            match api.get_one(&id, STAMP).await {
                // Removed, and perhaps made anew.
                Err(error) if error.kind() == BackendErrorKind::CollectionMissing => {
                    *self.known() = None;
                }
                Err(error) => return Err(error),
                Ok(record) => return self.understand(record),
            }
        }
        let Some(found) = api.collection(&self.name).await? else {
            return Ok(None);
        };
        catalogue::check_format(&found)?;
        let record = match api.get_one(&found.id, STAMP).await {
            Err(error) if error.kind() == BackendErrorKind::CollectionMissing => return Ok(None),
            record => record?,
        };
        *self.known() = Some(found.id);
        self.understand(record)
    }

    fn understand(&self, record: Option<Map<String, Value>>) -> BackendResult<Option<Stamp>> {
        let Some(record) = record else {
            return Ok(None);
        };
        read_stamp(&record).map(Some).ok_or_else(|| {
            BackendError::new(
                BackendErrorKind::Damaged,
                format!("the stamp in the collection {:?} is incomplete", self.name),
            )
            .not_applied()
        })
    }

    /// Writes the stamp under the rule of [`StampRequest`]. The server writes under no condition,
    /// so the stamp is read before, and again after: of two managers at once, one finds the
    /// other's.
    pub(super) async fn write(&self, api: &Api, request: &StampRequest) -> BackendResult<()> {
        if let Some(held) = self.read(api).await? {
            request.check_over(&held)?;
        }
        let metadata = Map::from_iter([(FORMAT_KEY.to_owned(), json!(FORMAT))]);
        let created = api
            .create_collection(&self.name, &metadata, json!({}))
            .await?;
        catalogue::check_format(&created)?;
        let record = [stamp_record(&request.stamp)];
        api.upsert(&created.id, &record)
            .await
            .into_iter()
            .collect::<BackendResult<()>>()?;
        *self.known() = Some(created.id);
        match self.read(api).await? {
            Some(held) if held == request.stamp => Ok(()),
            Some(held) => {
                request.check_over(&held)?;
                Err(BackendError::new(
                    BackendErrorKind::Unavailable,
                    "the stamp is being changed by somebody else",
                ))
            }
            None => Err(BackendError::new(
                BackendErrorKind::Unavailable,
                "the stamp was removed while it was written",
            )),
        }
    }

    /// # Errors
    /// `StaleEpoch`: a manager with a higher epoch has opened the store since.
    pub(super) async fn check_epoch(&self, api: &Api, epoch: u64) -> BackendResult<()> {
        match self.read(api).await {
            Ok(Some(held)) => held.check_epoch(epoch),
            Ok(None) => Ok(()),
            Err(error) => Err(error.not_applied()),
        }
    }
}

/// What the store knows of itself.
pub(super) async fn identity(
    api: &Api,
    stamps: &Stamps,
    catalogue: &Catalogue,
) -> BackendResult<Identity> {
    let stamp = stamps.read(api).await?;
    let mut highest = None;
    for (_, heads) in catalogue.list(api).await? {
        match heads::highest(api, &heads).await {
            // Dropped since it was listed.
            Err(error) if error.kind() == BackendErrorKind::CollectionMissing => {}
            found => highest = highest.max(found?),
        }
    }
    Ok(Identity::new(stamp, highest, highest.is_none()))
}

#[cfg(test)]
mod tests {
    use dbmanager_core::model::{JournalId, StoreId};

    use super::*;

    #[test]
    fn a_stamp_comes_back() {
        let stamp = Stamp {
            store_id: StoreId::from_u128(u128::MAX),
            journal_id: JournalId::from_u128(7),
            epoch: u64::MAX,
            progress: Version::MAX,
        };
        let mut record = (*stamp_record(&stamp).metadata).clone();
        assert_eq!(read_stamp(&record), Some(stamp));
        record.remove("epoch");
        assert_eq!(read_stamp(&record), None);
    }
}
