//! What the store holds, as hashes over what is read. Each record is made anew from the exact
//! bytes in it; one that differs anywhere (entries for filters, words, counts) has another hash.

use dbmanager_core::{
    backend::{BackendResult, Fingerprint, IdsRequest, ListRequest, Page},
    model::{ContentHash, Tokenizer, VectorSet},
};
use mongodb::bson::{RawDocumentBuf, doc};

use super::{
    catalogue::{Catalogue, Entry},
    layout,
    read::{Whole, find_by_id, ids, page},
    server::Server,
};

/// Records that are read at once: they are whole, and may be large.
const MAX_AT_ONCE: usize = 100;

pub(super) async fn fingerprints(
    catalogue: Catalogue<'_>,
    request: &ListRequest,
) -> BackendResult<Page<Fingerprint>> {
    let entry = catalogue.get(&request.collection).await?;
    let limit = request.limit.clamp(1, MAX_AT_ONCE);
    let filter = match &request.after {
        Some(after) => doc! { "_id": { "$gt": after } },
        None => doc! {},
    };
    let found = page(catalogue.server, &entry, filter, limit).await?;
    let full = found.len() == limit;
    let mut items = Vec::with_capacity(found.len());
    for document in found {
        if let Some(whole) = Whole::read(catalogue.server, &entry, document).await? {
            items.push(fingerprint(catalogue.server, &entry, whole).await?);
        }
    }
    let last = items.last().map(|item| item.id.to_string());
    Ok(Page {
        next: last.filter(|_| full),
        items,
    })
}

pub(super) async fn fingerprints_of(
    catalogue: Catalogue<'_>,
    request: &IdsRequest,
) -> BackendResult<Vec<Option<Fingerprint>>> {
    let entry = catalogue.get(&request.collection).await?;
    let server = catalogue.server;
    let mut found = std::collections::HashMap::new();
    for some in ids(request).chunks(MAX_AT_ONCE) {
        for document in find_by_id(server, &entry.documents, some, None).await? {
            if let Some(whole) = Whole::read(server, &entry, document).await? {
                let fingerprint = fingerprint(server, &entry, whole).await?;
                found.insert(fingerprint.id.clone(), fingerprint);
            }
        }
    }
    Ok(request
        .ids
        .iter()
        .map(|id| found.get(id).cloned())
        .collect())
}

/// Makes the record anew off the async threads.
async fn fingerprint(server: &Server, entry: &Entry, whole: Whole) -> BackendResult<Fingerprint> {
    let tokenizer = entry.options.tokenizer;
    let (id, head) = (whole.id.clone(), whole.head);
    let small = whole
        .content
        .as_ref()
        .is_none_or(|(canonical, _)| canonical.len() < 64 * 1024);
    let content_hash = if small {
        hash(&whole, tokenizer)
    } else {
        server
            .runtime
            .blocking(move || hash(&whole, tokenizer))
            .await
            .map_err(|lost| {
                dbmanager_core::backend::BackendError::new(
                    dbmanager_core::backend::BackendErrorKind::Unavailable,
                    lost.to_string(),
                )
            })?
    };
    Ok(Fingerprint {
        id,
        head,
        content_hash,
    })
}

fn hash(whole: &Whole, tokenizer: Tokenizer) -> ContentHash {
    agreed(whole, tokenizer).unwrap_or_else(|| altered(whole))
}

/// The hash of the document, if every copy of a part of it agrees with it.
fn agreed(whole: &Whole, tokenizer: Tokenizer) -> Option<ContentHash> {
    let version = whole.head.version;
    if whole.head.deleted {
        let expected = layout::tombstone(&whole.id, version);
        return (whole.document == expected).then_some(ContentHash::TOMBSTONE);
    }
    let (canonical, vectors) = whole.content.as_ref()?;
    let record = layout::record(canonical, vectors)?;
    let same_vectors = record
        .vectors()
        .to_bytes()
        .is_ok_and(|bytes| bytes == *vectors);
    let content = layout::content(&whole.document)?;
    let expected = layout::live(&whole.id, version, &record, tokenizer, &content);
    (same_vectors && whole.document == expected)
        .then(|| ContentHash::of_relational(record.canonical(), record.vectors()))
}

/// A hash over everything that was read, apart from that of any agreeing document: its bytes are
/// not JSON.
fn altered(whole: &Whole) -> ContentHash {
    let mut bytes = vec![0xff];
    // What the server sent can be written again; if not, the version alone tells it apart.
    match RawDocumentBuf::try_from(&whole.document) {
        Ok(raw) => bytes.extend_from_slice(raw.as_bytes()),
        Err(_) => bytes.extend(whole.head.version.as_u64().to_le_bytes()),
    }
    for part in whole.content.iter().flat_map(|(a, b)| [a, b]) {
        bytes.extend((part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part);
    }
    ContentHash::of_relational(&bytes, &VectorSet::empty())
}
