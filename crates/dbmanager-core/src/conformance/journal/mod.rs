//! The suite of journals: what every journal owes, and what those owe that instances share.

mod append;
mod bench;
mod hostile;
mod keys;
mod limits;
mod operations;
mod records;
mod sharing;
mod takeover;

use std::{any::Any, fmt, sync::Arc, time::Duration};

use self::bench::Bench;
use super::{
    suite::Report,
    trial::{CaseResult, Failure},
};
use crate::{
    BoxFuture, Runtime,
    journal::{Journal, JournalOptions, JournalResult},
};

type Open = dyn Fn(JournalOptions, Runtime) -> BoxFuture<'static, JournalResult<Arc<dyn Journal>>>
    + Send
    + Sync;

/// One empty journal that nobody else uses, and how to open it. It is opened again after it was
/// closed, and if it is shared, several times at once.
#[derive(Clone)]
pub struct JournalInstance {
    open: Arc<Open>,
    keep: Vec<Arc<dyn Any + Send + Sync>>,
}

impl JournalInstance {
    /// The journal that `open` opens.
    pub fn new<F>(open: impl Fn(JournalOptions, Runtime) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = JournalResult<Arc<dyn Journal>>> + Send + 'static,
    {
        Self {
            open: Arc::new(move |options, runtime| Box::pin(open(options, runtime))),
            keep: Vec::new(),
        }
    }

    /// Keeps a guard (a temporary directory, a schema) alive as long as the journal is used.
    pub fn keep(mut self, guard: impl Any + Send + Sync) -> Self {
        self.keep.push(Arc::new(guard));
        self
    }
}

/// A journal under test: a name and a source of fresh ones.
#[derive(Clone)]
pub struct JournalSubject {
    name: String,
    fresh: Arc<dyn Fn() -> JournalInstance + Send + Sync>,
}

impl JournalSubject {
    /// A subject of this name; `fresh` gives an empty journal each time.
    pub fn new(
        name: impl Into<String>,
        fresh: impl Fn() -> JournalInstance + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            fresh: Arc::new(fresh),
        }
    }
}

impl fmt::Debug for JournalSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JournalSubject").field(&self.name).finish()
    }
}

/// One sentence of the contract.
struct Case {
    name: &'static str,
    shared: bool,
    run: fn(Bench) -> BoxFuture<'static, CaseResult>,
}

macro_rules! cases {
    ($($shared:literal $module:ident: $($name:ident),* $(,)?;)*) => {
        const CASES: &[Case] = &[$($(
            Case {
                name: stringify!($name),
                shared: $shared,
                run: |bench| Box::pin($module::$name(bench)),
            },
        )*)*];
    };
}

cases! {
    false append:
        what_was_appended_reads_back_whole_and_in_order,
        entries_are_loaded_by_any_versions_in_any_order,
        versions_rise_whatever_the_clock_does,
        a_full_counter_carries_and_the_mark_survives_truncation,
        the_last_version_is_the_last,
        one_bad_request_of_64_fails_alone,
        many_writers_get_distinct_versions,
        preconditions_see_earlier_requests_of_the_same_group,
        a_precondition_on_truncated_history_asks_the_authority,
        an_entry_survives_a_caller_who_gave_up,
        a_dropped_generation_takes_no_more_entries;
    false limits:
        the_limit_of_entries_refuses_until_truncation,
        the_limit_of_bytes_counts_live_entries_only,
        at_the_limit_new_keys_are_refused_and_none_is_forgotten_early,
        at_the_limit_of_operations_writes_are_refused,
        limits_of_zero_are_refused;
    false keys:
        a_key_repeats_the_same_input_and_refuses_another,
        keys_of_different_collections_are_different,
        within_a_group_the_second_of_a_key_repeats_the_first,
        a_refused_write_does_not_use_its_key_up,
        of_concurrent_uses_of_a_key_one_writes;
    false operations:
        an_operation_id_is_used_once,
        a_refused_operation_stays_refused,
        refusing_and_appending_never_both_succeed,
        an_old_id_without_a_record_is_expired,
        what_was_forgotten_stays_expired_when_the_clock_goes_back,
        an_id_that_claims_a_later_time_is_remembered_until_then;
    false records:
        a_collection_that_has_what_is_asked_for_is_returned,
        the_loser_of_a_race_for_the_embedding_space_gets_the_winners,
        progress_is_recorded_with_the_truncation_and_never_goes_back,
        parked_marks_live_as_long_as_their_entry,
        the_epoch_rises_by_one_with_every_opening,
        a_raised_epoch_is_above_both_and_stays_so,
        epochs_raised_at_once_are_distinct,
        what_is_done_under_a_raised_epoch_counts,
        a_closed_journal_answers_closed;
    false hostile:
        any_text_is_kept_as_it_is,
        a_large_document_comes_back;
    true takeover:
        one_opening_holds_the_lease,
        a_lease_that_was_given_up_is_free_at_once,
        a_renewed_lease_is_not_taken,
        a_lease_goes_on_under_a_raised_epoch,
        renewing_and_confirming_go_on_while_the_epoch_is_raised,
        only_the_holder_raises_the_epoch,
        what_runs_out_is_taken_over_and_the_old_sender_is_fenced;
    true sharing:
        openings_see_each_others_writes,
        preconditions_know_what_another_opening_let_go_of,
        preconditions_know_nothing_older_than_an_adopted_authority,
        every_change_is_followed_in_order,
        two_writers_are_followed_without_a_gap,
        one_who_is_too_far_behind_is_told_so;
}

/// The cases, and how long each may take.
#[derive(Clone, Debug)]
pub struct JournalSuite {
    runtime: Runtime,
    time_limit: Duration,
}

impl JournalSuite {
    /// All cases, at most two minutes for each.
    pub fn new(runtime: Runtime) -> Self {
        Self {
            runtime,
            time_limit: Duration::from_secs(120),
        }
    }

    /// Runs the cases one after the other, each on a fresh journal.
    pub async fn run(&self, subject: &JournalSubject) -> Report {
        let mut report = Report::new(&subject.name);
        let shared = match self.is_shared(subject).await {
            Ok(shared) => shared,
            Err(failure) => {
                report.failed.push(("opening", failure.to_string()));
                return report;
            }
        };
        for case in CASES {
            if case.shared && !shared {
                report.refused_by_capability.push(case.name);
                continue;
            }
            match self.run_case(case, subject).await {
                Ok(()) => report.passed.push(case.name),
                Err(failure) => report.failed.push((case.name, failure.to_string())),
            }
        }
        report
    }

    fn bench(&self, subject: &JournalSubject) -> Bench {
        Bench::new((subject.fresh)(), self.runtime.clone())
    }

    async fn is_shared(&self, subject: &JournalSubject) -> CaseResult<bool> {
        let journal = self.bench(subject).open_bare().await?;
        let shared = journal.shared().is_some();
        journal.close().await?;
        Ok(shared)
    }

    /// Runs a case as a task of its own, so that a panic fails the case and not the suite.
    async fn run_case(&self, case: &Case, subject: &JournalSubject) -> CaseResult {
        let bench = self.bench(subject);
        let runtime = self.runtime.clone();
        let (run, time_limit) = (case.run, self.time_limit);
        let task = self.runtime.spawn(async move {
            runtime
                .timeout(time_limit, run(bench))
                .await
                .unwrap_or_else(|_| Err(Failure::new("the case did not end in time".to_owned())))
        });
        task.await
            .unwrap_or_else(|_| Err(Failure::new("the case panicked".to_owned())))
    }
}
