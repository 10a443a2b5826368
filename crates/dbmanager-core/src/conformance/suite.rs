//! Chooses, runs and reports cases.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    cases,
    subject::Subject,
    trial::{CaseResult, Failure, Trial},
};
use crate::{BoxFuture, Runtime, backend::Capabilities, model::Role};

/// One sentence of the contract.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) roles: &'static [Role],
    pub(super) needs: fn(&Capabilities) -> bool,
    pub(super) run: fn(Trial) -> BoxFuture<'static, CaseResult>,
}

/// The names of the cases of a role, whatever the capabilities.
pub fn case_names(role: Role) -> Vec<&'static str> {
    cases::all()
        .filter(|case| case.roles.contains(&role))
        .map(|case| case.name)
        .collect()
}

/// The cases, and how hard to try.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Suite {
    runtime: Runtime,
    rounds: usize,
    seed: u64,
    only: Option<Vec<String>>,
    time_limit: Duration,
}

impl Suite {
    /// All cases: 20 rounds of each race, seed 1, at most two minutes for a case.
    pub fn new(runtime: Runtime) -> Self {
        Self {
            runtime,
            rounds: 20,
            seed: 1,
            only: None,
            time_limit: Duration::from_secs(120),
        }
    }

    /// How often each race is run; a store that is trusted with data has passed 1,000.
    pub fn rounds(mut self, rounds: usize) -> Self {
        self.rounds = rounds;
        self
    }

    /// The seed of random data.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Only the cases of these names.
    pub fn only<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.only = Some(names.into_iter().map(str::to_owned).collect());
        self
    }

    /// How long a case may take.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// Runs the cases of the subject's role one after the other, each on a fresh store.
    pub async fn run(&self, subject: &Subject) -> Report {
        let mut report = Report::new(subject.name());
        let (role, capabilities) = match self.trial(subject).learn().await {
            Ok(learnt) => learnt,
            Err(failure) => {
                report.failed.push(("opening", failure.to_string()));
                return report;
            }
        };
        for case in cases::all().filter(|case| case.roles.contains(&role)) {
            if self
                .only
                .as_ref()
                .is_some_and(|only| !only.iter().any(|name| name == case.name))
            {
                continue;
            }
            if !(case.needs)(&capabilities) {
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

    fn trial(&self, subject: &Subject) -> Trial {
        Trial::new(
            subject.clone(),
            self.runtime.clone(),
            self.rounds,
            self.seed,
        )
    }

    /// Runs a case as a task of its own, so that a panic fails the case and not the suite.
    async fn run_case(&self, case: &Case, subject: &Subject) -> CaseResult {
        let trial = self.trial(subject);
        let runtime = self.runtime.clone();
        let (run, time_limit) = (case.run, self.time_limit);
        let task = self.runtime.spawn(async move {
            runtime
                .timeout(time_limit, run(trial))
                .await
                .unwrap_or_else(|_| Err(Failure::new("the case did not end in time".to_owned())))
        });
        task.await
            .unwrap_or_else(|_| Err(Failure::new("the case panicked".to_owned())))
    }
}

/// What became of each case.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The subject's name.
    pub subject: String,
    /// The cases that held.
    pub passed: Vec<&'static str>,
    /// The cases that the store's capabilities rule out.
    pub refused_by_capability: Vec<&'static str>,
    /// The cases that did not hold, with what was found.
    pub failed: Vec<(&'static str, String)>,
}

impl Report {
    pub(super) fn new(subject: &str) -> Self {
        Self {
            subject: subject.to_owned(),
            passed: Vec::new(),
            refused_by_capability: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// # Panics
    /// If a case failed, or none was run; with the whole report.
    #[track_caller]
    pub fn assert_ok(&self) {
        assert!(self.failed.is_empty() && !self.passed.is_empty(), "{self}");
    }

    /// Whether the case of this name failed.
    pub fn has_failed(&self, name: &str) -> bool {
        self.failed.iter().any(|(failed, _)| *failed == name)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} cases held, {} failed, {} ruled out by capability",
            self.subject,
            self.passed.len(),
            self.failed.len(),
            self.refused_by_capability.len()
        )?;
        self.failed
            .iter()
            .try_for_each(|(name, message)| write!(f, "\n- {name}: {message}"))
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Shared ownership of a list of ids, as requests want it.
pub(super) fn ids<'a>(ids: impl IntoIterator<Item = &'a str>) -> Arc<[Arc<str>]> {
    ids.into_iter().map(Arc::from).collect()
}
