//! What was asked and what was answered.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use dbmanager_core::{
    ErrorKind, Result, WriteOutcome,
    conformance::simulation::Simulation,
    model::{Level, OperationId, OperationStatus, Receipt, Role, Version},
};

use super::{
    known::Known,
    operation::{Operation, Outcome, Place, Read, brief, number_of},
};

/// A read under way: what it may not fall behind.
#[derive(Clone, Debug)]
pub struct Reading {
    place: Place,
    called: u64,
    floor: Version,
}

/// Everything that happened in one run. Clones are the same history.
#[derive(Clone)]
pub struct History {
    simulation: Simulation,
    inner: Arc<Mutex<Known>>,
}

impl History {
    pub fn new(simulation: &Simulation) -> Self {
        Self {
            simulation: simulation.clone(),
            inner: Arc::default(),
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, Known> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn violation(&self) -> Option<String> {
        self.lock().violation.clone()
    }

    /// Says that a promise was broken; the first one counts.
    pub fn violate(&self, promise: &str, what: impl Into<String>) {
        let text = format!("{promise}: {}", what.into());
        self.simulation.note(format!("VIOLATION {text}"));
        self.lock().violation.get_or_insert(text);
    }

    /// Takes down that something has happened so often.
    pub fn count(&self, kind: &'static str, times: u64) {
        *self.lock().counts.entry(kind).or_default() += times;
    }

    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.lock().counts.clone()
    }

    /// Adds a line to the trace.
    pub fn note(&self, line: &str) {
        self.simulation.note(line);
    }

    pub fn operations(&self) -> Vec<Operation> {
        self.lock().operations.clone()
    }

    pub fn reads(&self) -> Vec<Read> {
        self.lock().reads.clone()
    }

    pub fn operation(&self, number: usize) -> Operation {
        self.lock().operations[number].clone()
    }

    /// From now on a content may be seen under a newer version than its operation got.
    pub fn repairing(&self) {
        let mut inner = self.lock();
        let moment = inner.tick();
        inner.repaired.get_or_insert(moment);
    }

    /// Whether the disk under the journal may fail, or is to lose its power.
    pub fn is_disk_disturbed(&self) -> bool {
        self.lock().disk_disturbed
    }

    /// The disk may fail from now on, or is another one without faults.
    pub fn disturb_disk(&self, disturbed: bool) {
        self.lock().disk_disturbed = disturbed;
    }

    /// A moment between what has happened and what has not.
    pub fn now(&self) -> u64 {
        self.lock().tick()
    }

    /// The operation whose content has been the document's since before this moment, if it is
    /// certain that there was nothing else.
    pub fn unchanged_since(&self, place: &Place, moment: u64) -> Option<usize> {
        self.lock().unchanged_since(place, moment)
    }

    pub fn was_repaired(&self) -> bool {
        self.lock().repaired.is_some()
    }

    /// Whether a repair had begun at this moment.
    pub fn was_repaired_before(&self, moment: u64) -> bool {
        self.lock()
            .repaired
            .is_some_and(|repaired| repaired < moment)
    }

    /// Takes down an operation that is about to be sent, and gives it its number; a key of its own
    /// too, if it is to have one.
    pub fn begin(&self, operation: Operation, keyed: bool) -> usize {
        let (number, line) = {
            let mut inner = self.lock();
            let called = inner.tick();
            let number = inner.operations.len();
            let operation = Operation {
                called,
                key: keyed.then(|| format!("k{number}")),
                ..operation
            };
            let line = format!(
                "#{number} {:?} {}/{} {:?}{}",
                operation.kind,
                operation.collection,
                operation.id,
                operation.expected,
                if keyed { " keyed" } else { "" },
            );
            inner.operations.push(operation);
            (number, line)
        };
        self.simulation.note(line);
        number
    }

    /// It is about to be sent under this id. One that was rejected before may be accepted now.
    pub fn sending(&self, number: usize, operation_id: OperationId) {
        let mut inner = self.lock();
        let operation = &mut inner.operations[number];
        operation.open.insert(operation_id);
        if matches!(operation.outcome, Outcome::Rejected { .. }) {
            operation.outcome = Outcome::Unknown;
        }
    }

    /// Operations with a key, which may be sent again.
    pub fn keyed(&self) -> Vec<usize> {
        self.numbers(|operation| operation.key.is_some())
    }

    /// Operations of which it is not known whether they were accepted.
    pub fn unresolved(&self) -> Vec<usize> {
        self.numbers(|operation| {
            operation.outcome == Outcome::Unknown && !operation.ids().is_empty()
        })
    }

    /// Operations whose end can be asked for.
    pub fn named(&self) -> Vec<usize> {
        self.numbers(|operation| !operation.ids().is_empty())
    }

    fn numbers(&self, which: impl Fn(&Operation) -> bool) -> Vec<usize> {
        let inner = self.lock();
        let numbered = inner.operations.iter().enumerate();
        numbered
            .filter(|(_, operation)| which(operation))
            .map(|(number, _)| number)
            .collect()
    }

    /// Takes down what a write answered that was sent under this id, if one was given.
    pub fn answered(&self, number: usize, sent_as: Option<OperationId>, answer: &Result<Receipt>) {
        self.simulation.note(format!("#{number} {}", brief(answer)));
        match answer {
            Ok(receipt) => {
                self.accepted(number, receipt.version, Some(receipt.operation_id));
                if receipt.level_reached() {
                    self.check_level(number, receipt);
                }
            }
            Err(error) => match error.write_outcome() {
                Some(WriteOutcome::Pending(receipt)) => {
                    self.accepted(number, receipt.version, Some(receipt.operation_id));
                }
                Some(WriteOutcome::Rejected) => self.rejected(number, sent_as, error.kind()),
                Some(WriteOutcome::Indeterminate(_)) => {}
                _ => self.violate(
                    "a failed write says what became of it",
                    format!("#{number}: {error}"),
                ),
            },
        }
    }

    /// Takes down what was found out later about an operation that was sent under this id. These
    /// roles have a store that holds what is done.
    pub fn resolved(
        &self,
        number: usize,
        asked: OperationId,
        status: &OperationStatus,
        holders: &[Role],
    ) {
        self.simulation.note(format!("#{number} is {status:?}"));
        match status {
            OperationStatus::Done(version)
            | OperationStatus::Pending(version)
            | OperationStatus::Parked(version) => {
                self.accepted(number, *version, None);
                if matches!(status, OperationStatus::Done(_)) {
                    self.check_held(number, *version, holders);
                }
            }
            OperationStatus::NeverAccepted => {
                self.rejected(number, Some(asked), ErrorKind::Unavailable);
            }
            _ => {}
        }
    }

    fn accepted(&self, number: usize, version: Version, operation_id: Option<OperationId>) {
        let problem = {
            let mut inner = self.lock();
            let moment = inner.tick();
            let repaired = inner.repaired.is_some();
            let operation = &mut inner.operations[number];
            // Before its answer it may have been seen as a repair had written it again.
            let seen_only = repaired && operation.outcome == Outcome::Unknown;
            let other_version = operation
                .version
                .is_some_and(|known| known != version && !(seen_only && known > version));
            let other_id =
                operation_id.is_some_and(|id| operation.accepted_as.is_some_and(|o| o != id));
            let problem = if other_version || other_id {
                Some(format!(
                    "#{number} has version {:?} and operation {:?}, and now {version} and {operation_id:?}",
                    operation.version, operation.accepted_as
                ))
            } else if matches!(operation.outcome, Outcome::Rejected { .. }) {
                Some(format!(
                    "#{number} was rejected and is accepted as {version}"
                ))
            } else {
                None
            };
            operation.version = Some(version);
            operation.accepted_as = operation_id.or(operation.accepted_as);
            if operation.outcome == Outcome::Unknown {
                operation.outcome = Outcome::Accepted(moment);
            }
            let operation = operation.clone();
            inner.raise_floor(&operation, version);
            problem
        };
        if let Some(problem) = problem {
            self.violate("I6 one key, one effect", problem);
        }
    }

    /// One sending of it was rejected.
    fn rejected(&self, number: usize, sent_as: Option<OperationId>, kind: ErrorKind) {
        let problem = {
            let mut inner = self.lock();
            let moment = inner.tick();
            let shown = inner.shown.contains(&number);
            let operation = &mut inner.operations[number];
            if let Some(sent_as) = sent_as {
                operation.open.remove(&sent_as);
            }
            match operation.outcome {
                // Another sending of the same key may have been accepted.
                Outcome::Accepted(_) if operation.key.is_none() => {
                    Some(format!("#{number} was accepted and is rejected"))
                }
                Outcome::Accepted(_) => None,
                // Another sending of it may yet be accepted.
                _ if !operation.open.is_empty() => None,
                _ => {
                    operation.outcome = Outcome::Rejected {
                        failed_precondition: (kind == ErrorKind::PreconditionFailed)
                            .then_some(moment),
                    };
                    shown.then(|| format!("#{number} was rejected and a store has seen it"))
                }
            }
        };
        if let Some(problem) = problem {
            self.violate("I5 rejected shows nowhere", problem);
        }
    }

    /// An acknowledgement means that so many stores hold the write.
    fn check_level(&self, number: usize, receipt: &Receipt) {
        let place = (receipt.collection.to_string(), receipt.id.to_string());
        if place.1.is_empty() || receipt.level == Level::Journaled {
            return;
        }
        let holding = {
            let inner = self.lock();
            let holds = |role: &Role| inner.holds(*role, &place, receipt.version);
            Role::ALL.into_iter().filter(holds).count()
        };
        // Counted here: what the library says of its own levels is what is judged.
        let stores = receipt.stores.len();
        let required = match receipt.level {
            Level::Journaled => 0,
            Level::One => 1,
            Level::Quorum => stores / 2 + 1,
            Level::All => stores,
        };
        if holding < required {
            self.violate(
                "I4 an acknowledged level holds",
                format!(
                    "#{number} at {:?}: {holding} of {required} stores",
                    receipt.level
                ),
            );
        }
    }

    /// The stores of these roles are said to hold it.
    pub fn check_held(&self, number: usize, version: Version, holders: &[Role]) {
        let operation = self.operation(number);
        let place = (operation.collection, operation.id);
        for role in holders {
            let holds = self.lock().holds(*role, &place, version);
            if !place.1.is_empty() && !holds {
                self.violate(
                    "I4 an acknowledged level holds",
                    format!("#{number}: the {role} store does not hold {version}"),
                );
            }
        }
    }

    pub fn begin_read(&self, place: &Place) -> Reading {
        let mut inner = self.lock();
        let called = inner.tick();
        Reading {
            place: place.clone(),
            called,
            floor: inner.floor(place),
        }
    }

    /// Checks what a read has shown, and takes it down if it is to be judged with the others.
    /// Returns the operation whose content was seen.
    pub fn end_read(
        &self,
        reading: Reading,
        found: Option<(Version, &str)>,
        judged: bool,
    ) -> Option<usize> {
        let Reading {
            place,
            called,
            floor,
        } = reading;
        let seen = found.map(|(version, text)| (version, number_of(text)));
        self.simulation
            .note(format!("read {place:?}: {seen:?}, floor {floor}"));
        let problem = {
            let mut inner = self.lock();
            let problem = inner.check_read(&place, floor, seen);
            let answered = inner.tick();
            if let Some((version, _)) = seen {
                let known = inner.floors.entry(place.clone()).or_insert(Version::ZERO);
                *known = (*known).max(version);
            }
            if judged {
                inner.reads.push(Read {
                    place,
                    called,
                    answered,
                    seen: seen.map(|(_, number)| number),
                });
            }
            problem
        };
        if let Some((promise, problem)) = problem {
            self.violate(promise, problem);
        }
        seen.map(|(_, number)| number)
    }
}
