//! The suite finds what it is there to find: deliberately broken stores, each with the case that
//! must fail on it.

#![allow(clippy::unwrap_used, reason = "a panic fails the test, as it should")]

mod broken;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use broken::{Applied, Broken, Flaw, Inner};
use dbmanager_core::{
    Runtime,
    backend::*,
    conformance::{Instance, Subject, Suite, case_names},
    memory::MemoryFactory,
    model::{
        Collection, CollectionKey, Comparison, ContentHash, DocumentRecord, Filter, Role,
        TraversalDirection, VectorSet, Version,
    },
};

/// Runs the whole suite on in-memory stores of a role behind a flaw; the named case must fail.
async fn detects<F: Flaw + Default + 'static>(role: Role, case: &str) {
    assert!(case_names(role).contains(&case), "no case {case}");
    let subject = Subject::new("memory", move || Instance::new(MemoryFactory::of(role)))
        .wrapped("a flaw", |backend, _| Broken::wrap(F::default(), backend));
    let report = Suite::new(Runtime::tokio()).rounds(6).run(&subject).await;
    assert!(report.has_failed(case), "{case} held: {report}");
    assert!(!report.passed.is_empty(), "nothing held: {report}");
}

macro_rules! detects {
    ($($test:ident: $flaw:ty, $role:ident, $case:literal;)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $test() {
            detects::<$flaw>(Role::$role, $case).await;
        }
    )*};
}

detects! {
    a_merging_upsert: Merging, Relational, "an_upsert_replaces_everything";
    greater_or_equal_for_greater: EqualTaken, Relational, "an_equal_version_changes_nothing";
    a_delete_without_tombstone: NoTombstone, Relational, "a_late_upsert_stays_dead";
    versions_compared_as_floats: FloatVersions, Graph, "versions_that_differ_by_one_are_told_apart";
    a_check_apart_from_its_write: CheckThenWrite, Vector, "newer_and_older_race_on_an_absent_id";
    an_effect_reported_as_not_applied: FalseClaim, Relational, "errors_that_claim_nothing_changed_are_true";
    a_batch_that_stops_at_its_first_error: StopsAtError, Vector, "a_vector_of_another_dimension_is_refused_alone";
    answers_of_a_batch_in_the_wrong_order: ReversedAnswers, Vector, "a_vector_of_another_dimension_is_refused_alone";
    heads_in_the_wrong_order: ReversedHeads, Graph, "heads_follow_the_ids_asked_for";
    ids_without_trailing_spaces: TrimmedIds, Relational, "hostile_ids_stay_apart";
    a_hash_from_a_stored_label: LabelHash, Relational, "a_stale_upsert_is_ok_and_ignored";
    pages_with_gaps: PageGap, Graph, "fingerprints_list_each_document_once";
    an_epoch_that_is_not_checked: EpochIgnored, Vector, "writes_of_an_older_epoch_are_stale";
    a_stamp_that_always_replaces: StampAlways, Graph, "a_stamp_of_another_journal_is_foreign";
    a_filter_that_is_ignored: FilterIgnored, Vector, "a_filter_is_applied";
    a_filter_after_the_limit: FilterAfterLimit, Vector, "a_filter_is_applied_before_the_limit";
    ne_that_wants_the_field: NeWantsField, Relational, "negations_are_true_for_a_missing_field";
    hits_in_order_of_ids: OrderedById, Vector, "cosine_search_agrees_with_the_model";
    one_hit_too_many: LimitPlusOne, Vector, "search_keeps_its_limit";
    a_stale_chunk: StaleChunk, Vector, "shrinking_the_set_leaves_no_stale_chunk";
    documents_that_are_looked_at_unasked: RestrictIgnored, Vector, "restrict_to_looks_only_at_these_documents";
    incoming_edges_removed_with_the_target: EdgesRemoved, Graph, "a_deleted_target_hides_its_edges_and_revival_shows_them";
    a_direction_that_is_ignored: DirectionIgnored, Graph, "a_neighbourhood_has_direction";
    a_repeated_word_counted_once: DistinctWords, Relational, "a_repeated_word_of_the_query_counts_again";
    words_taken_as_operators: MinusExcludes, Relational, "words_are_no_query_language";
    a_filter_it_cannot_apply_dropped_in_silence: SilentlyUnfiltered, Vector, "a_filter_without_the_capability_is_unsupported";
}

/// Without a flaw the same wrapper passes: what fails above fails because of the flaw.
#[tokio::test]
async fn the_wrapper_itself_is_sound() {
    #[derive(Debug)]
    struct Sound;
    impl Flaw for Sound {}
    for role in Role::ALL {
        let subject = Subject::new("memory", move || Instance::new(MemoryFactory::of(role)))
            .wrapped("no flaw", |backend, _| Broken::wrap(Sound, backend));
        let report = Suite::new(Runtime::tokio()).rounds(6).run(&subject).await;
        report.assert_ok();
    }
}

/// A store that can do little and says so passes, with fewer cases and others in their place.
#[tokio::test(start_paused = true)]
async fn an_honest_lack_of_capability_passes() {
    for (role, others) in [
        (
            Role::Vector,
            &["a_filter_without_the_capability_is_unsupported"][..],
        ),
        (
            Role::Graph,
            &["paths_without_the_capability_are_unsupported"],
        ),
        (
            Role::Relational,
            &[
                "a_filter_without_the_capability_is_unsupported",
                "text_search_without_the_capability_is_unsupported",
            ],
        ),
    ] {
        let subject = Subject::new("memory", move || Instance::new(MemoryFactory::of(role)))
            .wrapped("a modest store", |backend, _| Broken::wrap(Modest, backend));
        let report = Suite::new(Runtime::tokio()).rounds(2).run(&subject).await;
        report.assert_ok();
        assert!(!report.refused_by_capability.is_empty());
        for case in others {
            assert!(report.passed.contains(case), "{case} was not run: {report}");
        }
    }
}

/// Neither filters nor lists paths nor searches text, and refuses to.
#[derive(Debug)]
struct Modest;

#[async_trait]
impl Flaw for Modest {
    fn capabilities(&self, sound: &Capabilities) -> Capabilities {
        let mut capabilities = sound.clone();
        capabilities.filter = false;
        capabilities.paths = false;
        capabilities.full_text = false;
        capabilities.searchable_on_apply = false;
        capabilities
    }

    async fn search_vectors(
        &self,
        inner: &Inner,
        request: VectorSearchRequest,
    ) -> BackendResult<Vec<VectorHit>> {
        unfiltered(request.filter.is_some())?;
        inner.vector().search_vectors(request).await
    }

    async fn paths(&self, _: &Inner, _: PathsRequest) -> BackendResult<Vec<Path>> {
        Err(BackendError::unsupported("listing paths"))
    }

    async fn search_text(&self, _: &Inner, _: TextSearchRequest) -> BackendResult<Vec<TextHit>> {
        Err(BackendError::unsupported("full text"))
    }

    async fn list(
        &self,
        inner: &Inner,
        request: ListDocumentsRequest,
    ) -> BackendResult<Vec<StoredRecord>> {
        unfiltered(request.filter.is_some())?;
        inner.relational().list(request).await
    }

    async fn count(
        &self,
        inner: &Inner,
        collection: CollectionKey,
        filter: Option<Arc<Filter>>,
    ) -> BackendResult<u64> {
        unfiltered(filter.is_some())?;
        inner.relational().count(collection, filter).await
    }
}

fn unfiltered(has_filter: bool) -> BackendResult<()> {
    match has_filter {
        true => Err(BackendError::unsupported("a filter")),
        false => Ok(()),
    }
}

/// Cannot filter, says so, and answers all the same.
#[derive(Debug, Default)]
struct SilentlyUnfiltered;

#[async_trait]
impl Flaw for SilentlyUnfiltered {
    fn capabilities(&self, sound: &Capabilities) -> Capabilities {
        let mut capabilities = sound.clone();
        capabilities.filter = false;
        capabilities
    }
}

/// The request with each mutation changed.
fn changed(request: &ApplyRequest, change: impl Fn(&Mutation) -> Mutation) -> ApplyRequest {
    let mutations: Arc<[Mutation]> = request.mutations.iter().map(change).collect();
    ApplyRequest::new(request.collection.clone(), request.epoch, mutations)
}

fn not_applied(kind: BackendErrorKind) -> BackendError {
    BackendError::new(kind, "broken").not_applied()
}

#[derive(Debug, Default)]
struct Merging;

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
struct EqualTaken(Mutex<HashMap<Arc<str>, Mutation>>);

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
struct NoTombstone(Mutex<Option<Collection>>);

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
struct FloatVersions;

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
struct CheckThenWrite(Mutex<HashMap<Arc<str>, Head>>);

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
struct FalseClaim(AtomicUsize);

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
struct StopsAtError;

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
struct ReversedAnswers;

#[async_trait]
impl Flaw for ReversedAnswers {
    async fn apply(&self, inner: &Inner, request: ApplyRequest) -> Applied {
        let mut answers = inner.shared.apply(request).await?;
        answers.reverse();
        Ok(answers)
    }
}

#[derive(Debug, Default)]
struct ReversedHeads;

#[async_trait]
impl Flaw for ReversedHeads {
    async fn heads(&self, inner: &Inner, request: IdsRequest) -> BackendResult<Vec<Option<Head>>> {
        let mut heads = inner.shared.heads(request).await?;
        heads.reverse();
        Ok(heads)
    }
}

#[derive(Debug, Default)]
struct TrimmedIds;

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
struct LabelHash(Mutex<HashMap<Arc<str>, ContentHash>>);

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
struct PageGap;

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
struct EpochIgnored;

#[async_trait]
impl Flaw for EpochIgnored {
    async fn apply(&self, inner: &Inner, mut request: ApplyRequest) -> Applied {
        request.epoch = u64::MAX;
        inner.shared.apply(request).await
    }
}

#[derive(Debug, Default)]
struct StampAlways;

#[async_trait]
impl Flaw for StampAlways {
    async fn write_stamp(&self, inner: &Inner, request: StampRequest) -> BackendResult<()> {
        inner.shared.write_stamp(request.replace()).await
    }
}

#[derive(Debug, Default)]
struct FilterIgnored;

#[async_trait]
impl Flaw for FilterIgnored {
    async fn search_vectors(
        &self,
        inner: &Inner,
        request: VectorSearchRequest,
    ) -> BackendResult<Vec<VectorHit>> {
        inner.vector().search_vectors(request.filter(None)).await
    }
}

#[derive(Debug, Default)]
struct FilterAfterLimit;

#[async_trait]
impl Flaw for FilterAfterLimit {
    async fn search_vectors(
        &self,
        inner: &Inner,
        request: VectorSearchRequest,
    ) -> BackendResult<Vec<VectorHit>> {
        let open = request.clone().filter(None);
        let mut hits = inner.vector().search_vectors(open).await?;
        let fulfil = inner.vector().search_vectors(request).await?;
        hits.retain(|hit| fulfil.contains(hit));
        Ok(hits)
    }
}

#[derive(Debug, Default)]
struct NeWantsField;

#[async_trait]
impl Flaw for NeWantsField {
    async fn list(
        &self,
        inner: &Inner,
        mut request: ListDocumentsRequest,
    ) -> BackendResult<Vec<StoredRecord>> {
        if let Some(filter) = &request.filter
            && let Filter::Compare {
                field,
                comparison: Comparison::Ne,
                ..
            } = &**filter
        {
            let there = Filter::Exists {
                field: field.clone(),
            };
            request.filter = Some(Arc::new(there.and((**filter).clone())));
        }
        inner.relational().list(request).await
    }
}

#[derive(Debug, Default)]
struct OrderedById;

#[async_trait]
impl Flaw for OrderedById {
    async fn search_vectors(
        &self,
        inner: &Inner,
        request: VectorSearchRequest,
    ) -> BackendResult<Vec<VectorHit>> {
        let mut hits = inner.vector().search_vectors(request).await?;
        hits.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(hits)
    }
}

#[derive(Debug, Default)]
struct LimitPlusOne;

#[async_trait]
impl Flaw for LimitPlusOne {
    async fn search_vectors(
        &self,
        inner: &Inner,
        mut request: VectorSearchRequest,
    ) -> BackendResult<Vec<VectorHit>> {
        request.limit += 1;
        inner.vector().search_vectors(request).await
    }
}

/// Replaces chunks by their number and leaves those that the new set no longer has.
#[derive(Debug, Default)]
struct StaleChunk;

#[async_trait]
impl Flaw for StaleChunk {
    async fn apply(&self, inner: &Inner, request: ApplyRequest) -> Applied {
        let ids: Arc<[Arc<str>]> = request.mutations.iter().map(|m| m.id.clone()).collect();
        let asked = IdsRequest::new(request.collection.clone(), ids.clone());
        let held = inner.vector().vectors(asked).await?;
        let held: HashMap<_, _> = ids.iter().zip(held).collect();
        let merged = changed(&request, |mutation| {
            let (Some(Some(old)), Some(new)) = (held.get(&mutation.id), mutation.state.record())
            else {
                return mutation.clone();
            };
            let mut vectors = new.vectors().vectors.clone();
            vectors.extend(old.vectors.iter().skip(vectors.len()).cloned());
            let set = VectorSet {
                vectors,
                ..new.vectors().clone()
            };
            let record = DocumentRecord::new(new.document().clone(), set).unwrap();
            Mutation::upsert(mutation.id.clone(), mutation.version, Arc::new(record))
        });
        inner.shared.apply(merged).await
    }
}

#[derive(Debug, Default)]
struct RestrictIgnored;

#[async_trait]
impl Flaw for RestrictIgnored {
    async fn search_vectors(
        &self,
        inner: &Inner,
        mut request: VectorSearchRequest,
    ) -> BackendResult<Vec<VectorHit>> {
        request.restrict_to = None;
        inner.vector().search_vectors(request).await
    }
}

/// Deletes with a document the references that others hold to it.
#[derive(Debug, Default)]
struct EdgesRemoved(Mutex<HashSet<String>>);

#[async_trait]
impl Flaw for EdgesRemoved {
    async fn apply(&self, inner: &Inner, request: ApplyRequest) -> Applied {
        for mutation in request.mutations.iter() {
            if mutation.state == DocumentState::Deleted {
                self.0.lock().unwrap().insert(mutation.id.to_string());
            }
        }
        inner.shared.apply(request).await
    }

    async fn edges(&self, inner: &Inner, request: IdsRequest) -> BackendResult<Vec<Option<Edges>>> {
        let mut found = inner.graph().edges(request).await?;
        let removed = self.0.lock().unwrap();
        for edges in found.iter_mut().flatten() {
            edges
                .references
                .retain(|edge| !removed.contains(&edge.target));
        }
        Ok(found)
    }
}

#[derive(Debug, Default)]
struct DirectionIgnored;

#[async_trait]
impl Flaw for DirectionIgnored {
    async fn neighbourhood(
        &self,
        inner: &Inner,
        request: NeighbourhoodRequest,
    ) -> BackendResult<Vec<Neighbour>> {
        let request = request.direction(TraversalDirection::Both);
        inner.graph().neighbourhood(request).await
    }
}

#[derive(Debug, Default)]
struct DistinctWords;

#[async_trait]
impl Flaw for DistinctWords {
    async fn search_text(
        &self,
        inner: &Inner,
        mut request: TextSearchRequest,
    ) -> BackendResult<Vec<TextHit>> {
        let mut seen = HashSet::new();
        let words: Vec<&str> = request
            .text
            .split(' ')
            .filter(|word| seen.insert(*word))
            .collect();
        request.text = words.join(" ").into();
        inner.relational().search_text(request).await
    }
}

#[derive(Debug, Default)]
struct MinusExcludes;

#[async_trait]
impl Flaw for MinusExcludes {
    async fn search_text(
        &self,
        inner: &Inner,
        mut request: TextSearchRequest,
    ) -> BackendResult<Vec<TextHit>> {
        let words = request.text.split(' ');
        let wanted: Vec<&str> = words.filter(|word| !word.starts_with('-')).collect();
        request.text = wanted.join(" ").into();
        inner.relational().search_text(request).await
    }
}
