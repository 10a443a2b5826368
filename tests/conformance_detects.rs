//! The suite finds what it is there to find: deliberately broken stores, each with the case that
//! must fail on it.

#![allow(clippy::unwrap_used, reason = "a panic fails the test, as it should")]

mod broken;

use std::sync::Arc;

use async_trait::async_trait;
use broken::{Broken, Flaw, Inner, reading::*, writing::*};
use dbmanager_core::{
    Runtime,
    backend::*,
    conformance::{Instance, Subject, Suite, case_names},
    memory::MemoryFactory,
    model::{CollectionKey, Filter, Role},
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
    a_replacing_stamp_that_goes_back: ReplaceGoesBack, Relational, "replace_takes_nothing_back_within_its_journal";
    a_filter_that_is_ignored: FilterIgnored, Vector, "a_filter_is_applied";
    a_filter_after_the_limit: FilterAfterLimit, Vector, "a_filter_is_applied_before_the_limit";
    ne_that_wants_the_field: NeWantsField, Relational, "negations_are_true_for_a_missing_field";
    ne_that_wants_the_field_in_a_random_filter: NeWantsField, Relational, "random_filters_agree_on_random_documents";
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
