//! What is written and read, and how it is told apart.

use std::collections::BTreeSet;

use dbmanager_core::{
    Error, Result, WriteOutcome,
    model::{OperationId, Precondition, Receipt, Version},
};

/// A document: the name of its collection and its id.
pub type Place = (String, String);

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Put,
    Delete,
    /// Of the whole collection; it deletes every document in it.
    Drop,
}

/// A precondition, by the operation whose content it expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    Anything,
    Absent,
    Content(usize),
}

/// What is known of an operation's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing: it has not been answered, or the answer did not know.
    Unknown,
    /// It is in the journal, since this moment at the latest.
    Accepted(u64),
    /// It never took effect and never will. The moment counts if the precondition was the reason.
    Rejected { failed_precondition: Option<u64> },
}

/// One write, however often it was sent.
#[derive(Clone, Debug)]
pub struct Operation {
    pub collection: String,
    /// Empty for a drop.
    pub id: String,
    pub kind: Kind,
    pub precondition: Option<Precondition>,
    /// What the precondition means.
    pub expected: Expected,
    pub key: Option<String>,
    /// Under which it was sent first.
    pub operation_id: Option<OperationId>,
    /// Under which it was sent and may yet be accepted.
    pub open: BTreeSet<OperationId>,
    /// Under which it was accepted; a repetition may have been the one.
    pub accepted_as: Option<OperationId>,
    pub called: u64,
    pub outcome: Outcome,
    pub version: Option<Version>,
}

impl Operation {
    /// One that has yet to be sent.
    pub fn new(place: Place, kind: Kind) -> Self {
        Self {
            collection: place.0,
            id: place.1,
            kind,
            precondition: None,
            expected: Expected::Anything,
            key: None,
            operation_id: None,
            open: BTreeSet::new(),
            accepted_as: None,
            called: 0,
            outcome: Outcome::Unknown,
            version: None,
        }
    }

    /// Every id under which it was sent, as far as there is anything to ask for.
    pub fn ids(&self) -> BTreeSet<OperationId> {
        let known = self.operation_id.into_iter().chain(self.accepted_as);
        known.chain(self.open.iter().copied()).collect()
    }

    /// Whether it changes this document if it takes effect.
    pub fn concerns(&self, place: &Place) -> bool {
        self.collection == place.0 && (self.kind == Kind::Drop || self.id == place.1)
    }
}

/// One read that was answered.
#[derive(Clone, Debug)]
pub struct Read {
    pub place: Place,
    pub called: u64,
    pub answered: u64,
    /// The operation whose content was seen.
    pub seen: Option<usize>,
}

/// The text of a document says which operation wrote it.
pub fn text_of(number: usize, poisoned: bool) -> String {
    format!("{number} harbour{}", if poisoned { " poison" } else { "" })
}

pub fn number_of(text: &str) -> usize {
    text.split(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .expect("only this test writes documents")
}

pub fn brief(answer: &Result<Receipt>) -> String {
    match answer {
        Ok(receipt) => format!(
            "ok {} {:?} reached {}",
            receipt.version,
            receipt.level,
            receipt.level_reached()
        ),
        Err(error) => {
            let outcome = match error.write_outcome() {
                Some(WriteOutcome::Pending(receipt)) => format!("pending {}", receipt.version),
                Some(WriteOutcome::Rejected) => "rejected".to_owned(),
                Some(WriteOutcome::Indeterminate(_)) => "indeterminate".to_owned(),
                _ => "no outcome".to_owned(),
            };
            format!("{outcome}: {}", first_line(error))
        }
    }
}

fn first_line(error: &Error) -> String {
    error
        .to_string()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}
