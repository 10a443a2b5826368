//! Everything that is known of a run, and the checks that need no more than that.

use std::collections::{BTreeMap, BTreeSet};

use dbmanager_core::model::{CollectionKey, Role, StoreId, Version};

use super::operation::{Kind, Operation, Outcome, Place, Read};

/// A promise, and how it was broken.
pub type Problem = (&'static str, String);

#[derive(Default)]
pub struct Known {
    pub moment: u64,
    pub operations: Vec<Operation>,
    pub reads: Vec<Read>,
    /// The highest version that a finished call has shown of a document.
    pub floors: BTreeMap<Place, Version>,
    /// What each store held last of each document.
    pub held: BTreeMap<(Role, CollectionKey, String), Version>,
    /// The highest version that each store ever held of each document, in any generation.
    pub ever: BTreeMap<(Role, Place), Version>,
    /// Collections that each store has dropped, and those that a late message has made again since.
    pub dropped: BTreeSet<(Role, CollectionKey)>,
    pub left_over: BTreeSet<(Role, CollectionKey)>,
    /// Which store each role's is, by the last stamp that it took.
    pub stamps: BTreeMap<Role, StoreId>,
    /// What each store has refused for good, and which store it was then.
    pub refused: BTreeSet<(Role, Option<StoreId>, Version)>,
    /// Operations whose content was sent to a store.
    pub shown: BTreeSet<usize>,
    /// The moment from which on the content of a document may be written again as a new version.
    pub repaired: Option<u64>,
    /// Whether a fault of the disk was set since the process began.
    pub disk_disturbed: bool,
    /// How often what happened.
    pub counts: BTreeMap<&'static str, u64>,
    pub violation: Option<String>,
}

impl Known {
    pub fn tick(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    /// What is known to be the least that a document has come to.
    pub fn floor(&self, place: &Place) -> Version {
        let own = self.floors.get(place).copied();
        let dropped = self.floors.get(&(place.0.clone(), String::new())).copied();
        own.max(dropped).unwrap_or(Version::ZERO)
    }

    pub fn raise_floor(&mut self, operation: &Operation, version: Version) {
        // A drop is kept under the empty id.
        let place = (operation.collection.clone(), operation.id.clone());
        let floor = self.floors.entry(place).or_insert(Version::ZERO);
        *floor = (*floor).max(version);
    }

    pub fn was_dropped_after(&self, collection: &str, version: Version) -> bool {
        self.operations.iter().any(|operation| {
            operation.kind == Kind::Drop
                && operation.collection == collection
                && !matches!(operation.outcome, Outcome::Rejected { .. })
                && operation.version.is_none_or(|dropped| dropped > version)
        })
    }

    /// Whether the store has held this version or what covers it: a newer one in the same store,
    /// or a drop.
    pub fn holds(&self, role: Role, place: &Place, version: Version) -> bool {
        let held = self.ever.get(&(role, place.clone()));
        held.is_some_and(|held| *held >= version) || self.was_dropped_after(&place.0, version)
    }

    /// The operation whose content has been the document's since before this moment, if everything
    /// that may have changed it was answered by then.
    pub fn unchanged_since(&self, place: &Place, moment: u64) -> Option<usize> {
        // A repair writes as well, and is no operation.
        if self.repaired.is_some() {
            return None;
        }
        let mut newest = None;
        let operations = self.operations.iter().enumerate();
        for (number, operation) in operations.filter(|(_, o)| o.concerns(place)) {
            match operation.outcome {
                Outcome::Rejected { .. } => {}
                Outcome::Accepted(answered) if answered < moment => {
                    newest = newest.max(Some((operation.version?, number)));
                }
                Outcome::Unknown | Outcome::Accepted(_) => return None,
            }
        }
        let (_, number) = newest?;
        (self.operations[number].kind == Kind::Put).then_some(number)
    }

    /// The content of an operation was seen under a version.
    pub fn check_shown(&mut self, number: usize, version: Version) -> Option<Problem> {
        self.shown.insert(number);
        let repaired = self.repaired.is_some();
        let operation = &mut self.operations[number];
        if matches!(operation.outcome, Outcome::Rejected { .. }) {
            return Some((
                "I5 rejected shows nowhere",
                format!("#{number} was rejected and is seen as {version}"),
            ));
        }
        let known = *operation.version.get_or_insert(version);
        let same = if repaired {
            version >= known
        } else {
            version == known
        };
        (!same).then(|| {
            (
                "I6 one key, one effect",
                format!("#{number} is {known} and is seen as {version}"),
            )
        })
    }

    pub fn check_read(
        &mut self,
        place: &Place,
        floor: Version,
        seen: Option<(Version, usize)>,
    ) -> Option<Problem> {
        let Some((version, number)) = seen else {
            return self.check_absent(place, floor);
        };
        if version < floor {
            let deleted = self
                .operations
                .iter()
                .any(|operation| operation.kind != Kind::Put && operation.version == Some(floor));
            let promise = match deleted {
                true => "I3 nothing deleted reappears",
                false => "I1 nothing acknowledged is lost",
            };
            return Some((
                promise,
                format!("{place:?}: {version} was read after {floor} was known"),
            ));
        }
        if !self.operations[number].concerns(place) {
            return Some((
                "a document is its own",
                format!("{place:?} shows #{number}"),
            ));
        }
        self.check_shown(number, version)
    }

    /// Nothing was found: right if nothing was ever known to be there, or a deletion may have come
    /// after it.
    pub fn check_absent(&self, place: &Place, floor: Version) -> Option<Problem> {
        let deleted = floor == Version::ZERO
            || self.operations.iter().any(|operation| {
                operation.kind != Kind::Put
                    && operation.concerns(place)
                    && !matches!(operation.outcome, Outcome::Rejected { .. })
                    && operation.version.is_none_or(|version| version >= floor)
            });
        (!deleted).then(|| {
            (
                "I1 nothing acknowledged is lost",
                format!("{place:?} is not there, {floor} was known"),
            )
        })
    }
}
