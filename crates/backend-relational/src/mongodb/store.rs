//! Who the store belongs to: one document with the layout's number and the stamp.

use dbmanager_core::{
    backend::{BackendError, BackendErrorKind, BackendResult, Stamp, StampRequest},
    model::{JournalId, StoreId, Version},
};
use mongodb::{
    bson::{Binary, Bson, Document, RawDocumentBuf, doc, spec::BinarySubtype},
    options::FindOptions,
};

use super::{
    convert::{DUPLICATE_KEY, coded_error, damaged, integer},
    server::Server,
};

/// The `_id` of the document; those of collections contain a colon.
pub(super) const STORE: &str = "store";
/// What lies here, apart from what another adapter might put into the same database.
const LAYOUT: &str = "dbmanager relational";
/// The number of the layout that this version writes and the newest that it reads.
const FORMAT: i64 = 1;
/// How often a stamp that somebody else changes meanwhile is tried again.
const MAX_ROUNDS: usize = 20;

/// Refuses what another program, or a newer version of this one, has written; leaves the layout's
/// number where nothing is.
pub(super) async fn check_layout(server: &Server, catalogue: &str) -> BackendResult<()> {
    let what = "read the store's layout";
    let one = FindOptions::builder().limit(1).build();
    // Whoever lays the store out writes its document first. Read in this order, anything without
    // that document is foreign, whatever another opening writes meanwhile.
    let used = !server
        .find(what, catalogue, doc! {}, one.clone())
        .await?
        .is_empty();
    let of_store = || server.find(what, catalogue, doc! { "_id": STORE }, one.clone());
    if let Some(store) = of_store().await?.first() {
        return check_format(store, catalogue);
    }
    if used {
        return Err(unknown(catalogue));
    }
    let statement = doc! {
        "q": { "_id": STORE },
        "u": { "$setOnInsert": layout() },
        "upsert": true,
    };
    match upsert(server, catalogue, &statement).await? {
        // Another opening, perhaps of a newer version, may have been quicker.
        Upserted::Done | Upserted::Refused => {}
    }
    match of_store().await?.first() {
        Some(store) => check_format(store, catalogue),
        None => Err(BackendError::new(
            BackendErrorKind::Unavailable,
            "the store's layout was removed while the store was opened",
        )),
    }
}

fn layout() -> Document {
    doc! { "layout": LAYOUT, "format": FORMAT }
}

fn check_format(store: &Document, catalogue: &str) -> BackendResult<()> {
    if store.get_str("layout").ok() != Some(LAYOUT) {
        return Err(unknown(catalogue));
    }
    match integer(store, "format") {
        Some(FORMAT) => Ok(()),
        Some(format) => Err(BackendError::new(
            BackendErrorKind::Config,
            format!(
                "the store has the layout {format}, this version of dbmanager reads up to {FORMAT}"
            ),
        )
        .not_applied()),
        None => Err(unknown(catalogue)),
    }
}

fn unknown(catalogue: &str) -> BackendError {
    BackendError::new(
        BackendErrorKind::Config,
        format!("the collection {catalogue:?} holds something else than a dbmanager store"),
    )
    .not_applied()
}

/// The stamp in the store's document, if a manager has used the store.
pub(super) fn stamp(store: Option<&Document>) -> BackendResult<Option<Stamp>> {
    let Some(stamp) = store.and_then(|store| store.get("stamp")) else {
        return Ok(None);
    };
    let broken = || damaged("the stamp");
    let stamp = stamp.as_document().ok_or_else(broken)?;
    let bits = |key| match stamp.get(key) {
        Some(Bson::Binary(binary)) => <[u8; 16]>::try_from(binary.bytes.as_slice())
            .map(u128::from_be_bytes)
            .map_err(|_| broken()),
        _ => Err(broken()),
    };
    let number = |key| {
        integer(stamp, key)
            .and_then(|number| u64::try_from(number).ok())
            .ok_or_else(broken)
    };
    Ok(Some(Stamp {
        store_id: StoreId::from_u128(bits("store_id")?),
        journal_id: JournalId::from_u128(bits("journal_id")?),
        epoch: number("epoch")?,
        progress: Version::from_u64(number("progress")?),
    }))
}

/// Reads the stamp.
pub(super) async fn read_stamp(server: &Server, catalogue: &str) -> BackendResult<Option<Stamp>> {
    let options = FindOptions::builder().limit(1).build();
    let found = server
        .find("read the stamp", catalogue, doc! { "_id": STORE }, options)
        .await?;
    stamp(found.first())
}

/// Writes the stamp under the rule of [`StampRequest`], which is a part of the statement.
pub(super) async fn write_stamp(
    server: &Server,
    catalogue: &str,
    request: &StampRequest,
) -> BackendResult<()> {
    let new = &request.stamp;
    let epoch = i64::try_from(new.epoch).map_err(|_| {
        BackendError::new(
            BackendErrorKind::Refused,
            "an epoch above 2^63 - 1 cannot be stored",
        )
        .not_applied()
    })?;
    let journal_id = uuid(new.journal_id.as_u128());
    let store_id = uuid(new.store_id.as_u128());
    let progress = new.progress.as_i64();
    let mut replaceable = vec![
        doc! { "stamp": { "$exists": false } },
        doc! {
            "stamp.journal_id": journal_id.clone(),
            "stamp.store_id": store_id.clone(),
            "stamp.epoch": { "$lte": epoch },
            "stamp.progress": { "$lte": progress },
        },
    ];
    if request.replace {
        replaceable.extend([
            doc! { "stamp.journal_id": { "$ne": journal_id.clone() } },
            doc! {
                "stamp.store_id": { "$ne": store_id.clone() },
                "stamp.epoch": { "$lte": epoch },
            },
        ]);
    }
    let stamp = doc! {
        "journal_id": journal_id, "store_id": store_id, "epoch": epoch, "progress": progress,
    };
    let statement = doc! {
        "q": { "_id": STORE, "$or": replaceable },
        "u": { "$set": { "stamp": stamp }, "$setOnInsert": layout() },
        "upsert": true,
    };
    for _ in 0..MAX_ROUNDS {
        match upsert(server, catalogue, &statement).await? {
            Upserted::Done => return Ok(()),
            Upserted::Refused => {}
        }
        // Nothing refuses any more: what did was changed meanwhile.
        if let Some(held) = read_stamp(server, catalogue).await? {
            request.check_over(&held)?;
        }
    }
    Err(BackendError::new(
        BackendErrorKind::Unavailable,
        "the stamp is being changed by somebody else",
    ))
}

/// Refuses a write of a manager that another one has followed.
pub(super) fn check_epoch(store: Option<&Document>, epoch: u64) -> BackendResult<()> {
    match stamp(store)? {
        Some(held) => held.check_epoch(epoch),
        None => Ok(()),
    }
}

fn uuid(bits: u128) -> Bson {
    Bson::Binary(Binary {
        subtype: BinarySubtype::Uuid,
        bytes: bits.to_be_bytes().to_vec(),
    })
}

/// What became of a single conditional upsert.
pub(super) enum Upserted {
    /// It was applied.
    Done,
    /// The document is there, and the condition does not hold for it.
    Refused,
}

/// One conditional upsert by `_id`.
pub(super) async fn upsert(
    server: &Server,
    collection: &str,
    statement: &Document,
) -> BackendResult<Upserted> {
    let raw = RawDocumentBuf::try_from(statement)
        .map_err(|e| BackendError::new(BackendErrorKind::Refused, e.to_string()).not_applied())?;
    for (_, outcome) in server.write("update", collection, &[raw]).await {
        let outcome = outcome?;
        if let Some((_, code, message)) = outcome.errors.first() {
            return match *code {
                DUPLICATE_KEY => Ok(Upserted::Refused),
                code => Err(coded_error("update", code, message)),
            };
        }
        if let Some(concern) = outcome.concern {
            return Err(concern);
        }
        if outcome.matched == 0 {
            return Ok(Upserted::Refused);
        }
    }
    Ok(Upserted::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_of_others_are_refused_and_named() {
        assert!(check_format(&layout(), "c").is_ok());
        let error = check_format(&doc! { "layout": LAYOUT, "format": 7_i32 }, "c").unwrap_err();
        assert!(
            error.message().contains('7') && error.message().contains('1'),
            "{error}"
        );
        for other in [doc! {}, doc! { "layout": "mine", "format": 1_i64 }] {
            let error = check_format(&other, "c").unwrap_err();
            assert_eq!(error.kind(), BackendErrorKind::Config);
        }
    }

    #[test]
    fn a_broken_stamp_is_damage() {
        assert_eq!(stamp(None).unwrap(), None);
        assert_eq!(stamp(Some(&layout())).unwrap(), None);
        for broken in [
            doc! { "stamp": 1_i32 },
            doc! { "stamp": { "epoch": 1_i64 } },
            doc! { "stamp": {
                "journal_id": uuid(1), "store_id": uuid(2), "epoch": -1_i64, "progress": 0_i64,
            } },
        ] {
            let error = stamp(Some(&broken)).unwrap_err();
            assert_eq!(error.kind(), BackendErrorKind::Damaged);
        }
    }
}
