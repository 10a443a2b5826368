//! Flaws in how a store is written and identified.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use dbmanager_core::{backend::*, model::*};

use super::{Applied, Flaw, Inner};

/// The request with each mutation changed.
pub(crate) fn changed(
    request: &ApplyRequest,
    change: impl Fn(&Mutation) -> Mutation,
) -> ApplyRequest {
    let mutations: Arc<[Mutation]> = request.mutations.iter().map(change).collect();
    ApplyRequest::new(request.collection.clone(), request.epoch, mutations)
}

fn not_applied(kind: BackendErrorKind) -> BackendError {
    BackendError::new(kind, "broken").not_applied()
}

#[derive(Debug, Default)]
pub(crate) struct Merging;

#[async_trait]
impl Flaw for Merging {
    async fn apply(&self, inner: &Inner, request: ApplyRequest) -> Applied {
        let ids: Arc<[Arc<str>]> = request.mutations.iter().map(|m| m.id.clone()).collect();
        let ids = IdsRequest::new(request.collection.clone(), ids);
        let held = inner.relational().get(ids).await?;
        let merged = changed(&request, |mutation| {
            let held = held.iter().flatten().find(|held| held.id == mutation.id);
            let old = held.and_then(|held| held.state.record());
            let (Some(old), Some(new)) = (old, mutation.state.record()) else {
                return mutation.clone();
            };
            let mut document = new.document().clone();
            for (key, value) in old.document().metadata.clone() {
                document.metadata.entry(key).or_insert(value);
            }
            let record = DocumentRecord::new(document, new.vectors().clone()).unwrap();
            Mutation::upsert(mutation.id.clone(), mutation.version, Arc::new(record))
        });
        inner.shared.apply(merged).await
    }
}

/// Shows the last of several writes at the same version.
#[derive(Debug, Default)]
pub(crate) struct EqualTaken(Mutex<HashMap<Arc<str>, Mutation>>);

#[async_trait]
impl Flaw for EqualTaken {
    async fn apply(&self, inner: &Inner, request: ApplyRequest) -> Applied {
        let heads = inner.heads_of(&request).await?;
        for (mutation, head) in request.mutations.iter().zip(heads) {
            if head.is_some_and(|head| head.version == mutation.version) {
                let mut taken = self.0.lock().unwrap();
                taken.insert(mutation.id.clone(), mutation.clone());
            }
        }
        inner.shared.apply(request).await
    }

    async fn get(
        &self,
        inner: &Inner,
        request: IdsRequest,
    ) -> BackendResult<Vec<Option<StoredRecord>>> {
        let mut found = inner.relational().get(request).await?;
        let taken = self.0.lock().unwrap();
        for record in found.iter_mut().flatten() {
            if let Some(mutation) = taken.get(&record.id)
                && mutation.version == record.version
            {
                record.state = mutation.state.clone();
            }
        }
        Ok(found)
    }
}

/// Forgets a deleted document altogether.
#[derive(Debug, Default)]
pub(crate) struct NoTombstone(Mutex<Option<Collection>>);

#[async_trait]
impl Flaw for NoTombstone {
    async fn create_collection(
        &self,
        inner: &Inner,
        request: CreateCollectionRequest,
    ) -> BackendResult<()> {
        *self.0.lock().unwrap() = Some(request.collection.clone());
        inner.shared.create_collection(request).await
    }

    async fn apply(&self, inner: &Inner, request: ApplyRequest) -> Applied {
        let answers = inner.shared.apply(request.clone()).await?;
        let collection = self.0.lock().unwrap().clone().unwrap();
        let (key, epoch) = (request.collection, request.epoch);
        let list = ListDocumentsRequest::new(key.clone(), 10_000);
        let live: Arc<[Mutation]> = inner
            .relational()
            .list(list)
            .await?
            .into_iter()
            .filter_map(|held| {
                let record = held.state.record()?.clone();
                Some(Mutation::upsert(held.id, held.version, record))
            })
            .collect();
        let dropped = DropCollectionRequest::new(key.clone(), epoch);
        inner.shared.drop_collection(dropped).await?;
        let created = CreateCollectionRequest::new(collection, epoch);
        inner.shared.create_collection(created).await?;
        inner
            .shared
            .apply(ApplyRequest::new(key, epoch, live))
            .await?;
        Ok(answers)
    }
}

#[derive(Debug, Default)]
pub(crate) struct FloatVersions;

#[async_trait]
impl Flaw for FloatVersions {
    async fn apply(&self, inner: &Inner, request: ApplyRequest) -> Applied {
        let heads = inner.heads_of(&request).await?;
        let newer = changed(&request, |mutation| {
            let float = |version: Version| version.as_u64() as f64;
            let position = request.mutations.iter().position(|m| m.id == mutation.id);
            let head = position.and_then(|position| heads[position]);
            let newer = head.is_none_or(|head| float(mutation.version) > float(head.version));
            let mut kept = mutation.clone();
            if !newer {
                kept.version = Version::ZERO;
            }
            kept
        });
        inner.shared.apply(newer).await
    }
}

/// Looks at the version held, waits, and writes whatever came meanwhile.
#[derive(Debug, Default)]
pub(crate) struct CheckThenWrite(Mutex<HashMap<Arc<str>, Head>>);

#[async_trait]
impl Flaw for CheckThenWrite {
    async fn apply(&self, inner: &Inner, request: ApplyRequest) -> Applied {
        let held = self.0.lock().unwrap().clone();
        tokio::task::yield_now().await;
        for mutation in request.mutations.iter() {
            let head = Head {
                version: mutation.version,
                deleted: mutation.state == DocumentState::Deleted,
            };
            if held
                .get(&mutation.id)
                .is_none_or(|held| held.version < head.version)
            {
                self.0.lock().unwrap().insert(mutation.id.clone(), head);
            }
        }
        inner.shared.apply(request).await
    }

    async fn heads(&self, _: &Inner, request: IdsRequest) -> BackendResult<Vec<Option<Head>>> {
        let held = self.0.lock().unwrap();
        Ok(request.ids.iter().map(|id| held.get(id).copied()).collect())
    }
}

#[derive(Debug, Default)]
pub(crate) struct FalseClaim(AtomicUsize);

#[async_trait]
impl Flaw for FalseClaim {
    async fn apply(&self, inner: &Inner, request: ApplyRequest) -> Applied {
        let answers = inner.shared.apply(request).await?;
        match self.0.fetch_add(1, Ordering::Relaxed) % 4 {
            2 => Err(not_applied(BackendErrorKind::Unavailable)),
            _ => Ok(answers),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct StopsAtError;

#[async_trait]
impl Flaw for StopsAtError {
    async fn apply(&self, inner: &Inner, request: ApplyRequest) -> Applied {
        let mut answers = Vec::new();
        for mutation in request.mutations.iter() {
            let one: Arc<[Mutation]> = Arc::from([mutation.clone()]);
            let one = ApplyRequest::new(request.collection.clone(), request.epoch, one);
            answers.extend(inner.shared.apply(one).await?);
            if let Some(Err(error)) = answers.last().cloned() {
                answers.resize(request.mutations.len(), Err(error));
                break;
            }
        }
        Ok(answers)
    }
}

#[derive(Debug, Default)]
pub(crate) struct ReversedAnswers;

#[async_trait]
impl Flaw for ReversedAnswers {
    async fn apply(&self, inner: &Inner, request: ApplyRequest) -> Applied {
        let mut answers = inner.shared.apply(request).await?;
        answers.reverse();
        Ok(answers)
    }
}

#[derive(Debug, Default)]
pub(crate) struct ReversedHeads;

#[async_trait]
impl Flaw for ReversedHeads {
    async fn heads(&self, inner: &Inner, request: IdsRequest) -> BackendResult<Vec<Option<Head>>> {
        let mut heads = inner.shared.heads(request).await?;
        heads.reverse();
        Ok(heads)
    }
}

#[derive(Debug, Default)]
pub(crate) struct TrimmedIds;

#[async_trait]
impl Flaw for TrimmedIds {
    async fn apply(&self, inner: &Inner, request: ApplyRequest) -> Applied {
        let trimmed = changed(&request, |mutation| {
            let mut trimmed = mutation.clone();
            trimmed.id = mutation.id.trim_end().into();
            trimmed
        });
        inner.shared.apply(trimmed).await
    }
}

/// Answers with the hash of what it was sent last, whether or not it took it.
#[derive(Debug, Default)]
pub(crate) struct LabelHash(Mutex<HashMap<Arc<str>, ContentHash>>);

#[async_trait]
impl Flaw for LabelHash {
    async fn apply(&self, inner: &Inner, request: ApplyRequest) -> Applied {
        for mutation in request.mutations.iter() {
            let name = &request.collection.name;
            let hash = match mutation.state.record() {
                Some(record) => record.content_hash(name, Role::Relational),
                None => ContentHash::TOMBSTONE,
            };
            self.0.lock().unwrap().insert(mutation.id.clone(), hash);
        }
        inner.shared.apply(request).await
    }

    async fn fingerprints_of(
        &self,
        inner: &Inner,
        request: IdsRequest,
    ) -> BackendResult<Vec<Option<Fingerprint>>> {
        let mut found = inner.shared.fingerprints_of(request).await?;
        for fingerprint in found.iter_mut().flatten() {
            if let Some(hash) = self.0.lock().unwrap().get(&fingerprint.id) {
                fingerprint.content_hash = *hash;
            }
        }
        Ok(found)
    }
}

#[derive(Debug, Default)]
pub(crate) struct PageGap;

#[async_trait]
impl Flaw for PageGap {
    async fn fingerprints(
        &self,
        inner: &Inner,
        request: ListRequest,
    ) -> BackendResult<Page<Fingerprint>> {
        let mut page = inner.shared.fingerprints(request).await?;
        if page.next.is_some() {
            page.items.pop();
        }
        Ok(page)
    }
}

#[derive(Debug, Default)]
pub(crate) struct EpochIgnored;

#[async_trait]
impl Flaw for EpochIgnored {
    async fn apply(&self, inner: &Inner, mut request: ApplyRequest) -> Applied {
        request.epoch = u64::MAX;
        inner.shared.apply(request).await
    }
}

#[derive(Debug, Default)]
pub(crate) struct StampAlways;

#[async_trait]
impl Flaw for StampAlways {
    async fn write_stamp(&self, inner: &Inner, request: StampRequest) -> BackendResult<()> {
        inner.shared.write_stamp(request.replace()).await
    }
}

#[derive(Debug, Default)]
pub(crate) struct ReplaceGoesBack;

#[async_trait]
impl Flaw for ReplaceGoesBack {
    async fn write_stamp(&self, inner: &Inner, request: StampRequest) -> BackendResult<()> {
        if request.replace {
            // Over the stamp of another journal everything is taken.
            let of_another = Stamp {
                journal_id: JournalId::from_u128(!request.stamp.journal_id.as_u128()),
                ..request.stamp.clone()
            };
            let forget = StampRequest::new(of_another).replace();
            inner.shared.write_stamp(forget).await?;
        }
        inner.shared.write_stamp(request).await
    }
}
