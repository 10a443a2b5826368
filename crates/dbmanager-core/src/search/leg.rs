//! A leg: its hits and what became of it.

use std::{sync::Arc, time::Duration};

use super::{
    fuse::{self, LegHit},
    legs::Answers,
    under_way::Search,
};
use crate::{
    Error, ErrorKind,
    backend::{BackendError, BackendErrorKind},
    model::{Filter, LegName, LegOutcome, LegReport},
};

/// The most candidates of a leg, and of a ranking.
pub(super) const MAX_CANDIDATES: usize = 1_000;
/// How many times more is fetched where the filter is evaluated here.
const UNFILTERED_FACTOR: usize = 5;
/// Why a leg, or a part of it, brought nothing.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) outcome: LegOutcome,
    pub(super) kind: ErrorKind,
    pub(super) message: String,
    pub(super) retryable: bool,
}

impl From<&BackendError> for Failure {
    fn from(error: &BackendError) -> Self {
        let (outcome, kind) = match error.kind() {
            BackendErrorKind::CircuitOpen => (LegOutcome::CircuitOpen, ErrorKind::Unavailable),
            BackendErrorKind::Timeout => (LegOutcome::TimedOut, ErrorKind::Unavailable),
            BackendErrorKind::Unsupported => (LegOutcome::Failed, ErrorKind::Unsupported),
            _ => (LegOutcome::Failed, ErrorKind::Unavailable),
        };
        Self {
            outcome,
            kind,
            message: error.to_string(),
            retryable: error.is_transient(),
        }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self {
            outcome: LegOutcome::Failed,
            kind: error.kind(),
            message: error.to_string(),
            retryable: error.is_retryable(),
        }
    }
}

/// A leg and what became of it.
#[derive(Clone, Debug)]
pub(super) struct Leg {
    pub(super) name: LegName,
    /// What it found, best first.
    pub(super) hits: Vec<LegHit>,
    /// Scores of what other legs found.
    pub(super) looked_up: Vec<LegHit>,
    /// There may be more than was fetched.
    pub(super) saturated: bool,
    /// Its store has evaluated the filter.
    pub(super) filtered: bool,
    /// How long it took.
    pub(super) elapsed: Duration,
    /// What went wrong in it or in a part of it.
    pub(super) failure: Option<Failure>,
    /// Whether it, or a part of it, answered, and whether from a store that has everything.
    answered: Option<bool>,
    skipped: LegOutcome,
    notes: Vec<String>,
}

impl Leg {
    /// A leg that has not been asked anything.
    pub(super) fn new(name: LegName) -> Self {
        Self {
            name,
            hits: Vec::new(),
            looked_up: Vec::new(),
            saturated: false,
            filtered: false,
            elapsed: Duration::ZERO,
            failure: None,
            answered: None,
            skipped: LegOutcome::NotAsked,
            notes: Vec::new(),
        }
    }

    pub(super) fn skipped(name: LegName, outcome: LegOutcome, note: &str) -> Self {
        let mut leg = Self::new(name);
        leg.skipped = outcome;
        leg.note(note);
        leg
    }

    pub(super) fn failed(name: LegName, failure: Failure) -> Self {
        let mut leg = Self::new(name);
        leg.fail(failure);
        leg
    }

    /// A part of it failed. The first failure is the one that is reported.
    pub(super) fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }

    /// It, or a part of it, answered.
    pub(super) fn answer(&mut self, caught_up: bool) {
        self.answered = Some(self.answered.unwrap_or(true) && caught_up);
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Whether anything of it answered.
    pub(super) fn has_answered(&self) -> bool {
        self.answered.is_some()
    }

    pub(super) fn outcome(&self) -> LegOutcome {
        match (self.answered, &self.failure) {
            (Some(true), None) => LegOutcome::Answered,
            (Some(_), _) => LegOutcome::Incomplete,
            (None, Some(failure)) => failure.outcome.clone(),
            (None, None) => self.skipped.clone(),
        }
    }

    pub(super) fn report(&self, weight: f64) -> LegReport {
        let mut report = LegReport::new(self.name, self.outcome());
        report.candidates = self.hits.len();
        report.elapsed = self.elapsed;
        report.weight = weight;
        report.error = self.failure.as_ref().map(|failure| failure.message.clone());
        report.notes = self.notes.clone();
        report
    }

    /// Takes in the answers of every collection, at most `size` hits.
    pub(super) fn take<T>(
        &mut self,
        answers: Answers<T>,
        caught_up: bool,
        size: usize,
        search: &Search<'_>,
        convert: impl Fn(u32, T) -> LegHit,
    ) {
        for (index, answer) in answers {
            match answer {
                Ok(found) => {
                    self.answer(caught_up);
                    self.saturated |= found.len() >= size;
                    self.hits
                        .extend(found.into_iter().map(|hit| convert(index, hit)));
                }
                // The write that creates it is still on its way.
                Err(error) if error.kind() == BackendErrorKind::CollectionMissing && !caught_up => {
                    self.answer(false);
                }
                Err(error) => {
                    let name = &search.scope[index as usize].key.name;
                    self.note(format!("collection {name:?} did not answer: {error}"));
                    self.fail(Failure::from(&error));
                }
            }
        }
        let found = self.hits.len();
        self.hits.retain(|hit| hit.score.is_finite());
        if self.hits.len() < found {
            let dropped = found - self.hits.len();
            self.note(format!(
                "{dropped} hits had no finite score and were dropped"
            ));
        }
        fuse::sort_hits(&mut self.hits);
        self.saturated |= self.hits.len() > size;
        self.hits.truncate(size);
    }

    /// The filter to push down and how much to fetch. A store that cannot filter is asked for
    /// more, and the filter is evaluated when the hits are checked.
    pub(super) fn push_down(
        &mut self,
        search: &Search<'_>,
        can_filter: impl Fn(&Filter) -> bool,
        size: usize,
    ) -> (Option<Arc<Filter>>, usize) {
        match &search.filter {
            Some(filter) if !can_filter(filter) => {
                let size = (size * UNFILTERED_FACTOR).min(MAX_CANDIDATES);
                self.note(format!(
                    "the store cannot evaluate this filter: it is evaluated over its best {size}"
                ));
                (None, size)
            }
            filter => {
                self.filtered = true;
                (filter.clone(), size)
            }
        }
    }
}
