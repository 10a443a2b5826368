//! Whether a store and the journal belong together: a pure judgement over what the store knows of
//! itself and what the journal recorded of it.

use crate::{
    backend::{BackendError, BackendErrorKind, Identity, Stamp},
    journal::{RosterRecord, RosterState},
    model::{JournalId, Role, StoreId, Version},
};

/// What the journal knows that no store may contradict.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JournalFacts {
    pub(crate) journal_id: JournalId,
    pub(crate) epoch: u64,
    pub(crate) mark: Version,
}

/// When the store was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// At the manager's opening: this epoch is new, so no store can have seen it.
    Opening,
    /// Later: the store may have been stamped with this epoch.
    Reconnecting,
}

/// How a store that belongs to the journal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It holds everything the journal has let go of.
    Whole,
    /// It was put back or wiped: it lacks what the journal has let go of.
    Lacking(&'static str),
}

/// The roster state of a store of this role that lacks data.
pub(crate) fn lacking_state(role: Role) -> RosterState {
    match role {
        Role::Relational => RosterState::NeedsRestore,
        Role::Vector | Role::Graph => RosterState::NeedsRebuild,
    }
}

/// Whether a store of this record lacks data.
pub(crate) fn lacks_data(state: RosterState) -> bool {
    matches!(state, RosterState::NeedsRebuild | RosterState::NeedsRestore)
}

/// Whether this is still the store of the record, as far as its stamp tells: not another one, not a
/// wiped one, and not put back.
pub(crate) fn is_same(stamp: Option<&Stamp>, record: &RosterRecord) -> bool {
    stamp.is_some_and(|s| s.store_id == record.store_id && s.progress >= record.progress)
}

/// Judges a store against its own record.
///
/// # Errors
/// `Foreign`: the store and the journal do not belong together.
pub(crate) fn judge(
    identity: &Identity,
    record: &RosterRecord,
    facts: JournalFacts,
    moment: Moment,
) -> Result<Judgement, BackendError> {
    let foreign =
        |message: String| BackendError::new(BackendErrorKind::Foreign, message).not_applied();
    if let Some(highest) = identity.highest_version
        && highest > facts.mark
    {
        return Err(foreign(format!(
            "the store holds version {highest}, the journal issued none above {}: the journal is \
             an older copy, or something else wrote to the store",
            facts.mark
        )));
    }
    let Some(stamp) = &identity.stamp else {
        return match (identity.empty, record.stamped) {
            (false, _) => Err(foreign("the store holds data but no stamp".to_owned())),
            (true, false) => Ok(Judgement::Whole),
            (true, true) => Ok(Judgement::Lacking("the store was wiped")),
        };
    };
    if stamp.journal_id != facts.journal_id {
        return Err(foreign(format!(
            "the store belongs to journal {}, this is journal {}",
            stamp.journal_id, facts.journal_id
        )));
    }
    let seen_later_epoch = match moment {
        Moment::Opening => stamp.epoch >= facts.epoch,
        Moment::Reconnecting => stamp.epoch > facts.epoch,
    };
    if seen_later_epoch {
        return Err(foreign(format!(
            "the store was opened at epoch {}, this journal is at {}: the journal is an older copy, \
             or another copy of it is in use",
            stamp.epoch, facts.epoch
        )));
    }
    if stamp.store_id != record.store_id {
        return Err(foreign(format!(
            "the store is {}, the roster expects {}",
            stamp.store_id, record.store_id
        )));
    }
    if stamp.progress < record.progress {
        return Ok(Judgement::Lacking(
            "the store was put back to an older state",
        ));
    }
    Ok(Judgement::Whole)
}

/// Takes note of the progress that a store was stamped with. Not in the record of another one that a
/// rebuild has put in its place meanwhile: that one would look as if it had been put back.
pub(crate) fn note_progress(record: &mut RosterRecord, store_id: StoreId, progress: Version) {
    if record.store_id == store_id {
        record.progress = record.progress.max(progress);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> JournalFacts {
        JournalFacts {
            journal_id: JournalId::from_u128(1),
            epoch: 5,
            mark: Version::from_u64(100),
        }
    }

    fn record() -> RosterRecord {
        RosterRecord {
            store_id: StoreId::from_u128(7),
            role: Role::Vector,
            service: "memory".to_owned(),
            location: "here".to_owned(),
            state: RosterState::Active,
            enabled: true,
            stamped: true,
            progress: Version::from_u64(50),
        }
    }

    fn identity(change: impl FnOnce(&mut Stamp)) -> Identity {
        let mut stamp = Stamp {
            store_id: StoreId::from_u128(7),
            journal_id: JournalId::from_u128(1),
            epoch: 4,
            progress: Version::from_u64(50),
        };
        change(&mut stamp);
        Identity::new(Some(stamp), Some(Version::from_u64(60)), false)
    }

    fn refusal(identity: &Identity, moment: Moment) -> String {
        judge(identity, &record(), facts(), moment)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_store_of_its_own_journal_is_whole() {
        let judged = judge(&identity(|_| ()), &record(), facts(), Moment::Opening);
        assert_eq!(judged.unwrap(), Judgement::Whole);
    }

    #[test]
    fn progress_is_of_the_store_that_was_stamped_with_it() {
        let mut record = record();
        note_progress(&mut record, StoreId::from_u128(7), Version::from_u64(60));
        assert_eq!(record.progress.as_u64(), 60);
        // A rebuild begins, and what was on its way for the store before comes late.
        record.store_id = StoreId::from_u128(8);
        record.progress = Version::ZERO;
        note_progress(&mut record, StoreId::from_u128(7), Version::from_u64(70));
        assert_eq!(record.progress, Version::ZERO);
    }

    #[test]
    fn another_journals_store_is_refused() {
        let other = identity(|s| s.journal_id = JournalId::from_u128(2));
        assert!(refusal(&other, Moment::Opening).contains("belongs to journal"));
    }

    #[test]
    fn an_older_journal_is_refused_by_epoch_and_by_version() {
        let later = identity(|s| s.epoch = 5);
        assert!(refusal(&later, Moment::Opening).contains("older copy"));
        assert!(judge(&later, &record(), facts(), Moment::Reconnecting).is_ok());
        let mut ahead = identity(|_| ());
        ahead.highest_version = Some(Version::from_u64(101));
        assert!(refusal(&ahead, Moment::Reconnecting).contains("issued none above"));
    }

    #[test]
    fn an_older_or_wiped_store_lacks_data() {
        let older = identity(|s| s.progress = Version::from_u64(49));
        let judged = judge(&older, &record(), facts(), Moment::Opening).unwrap();
        assert!(matches!(judged, Judgement::Lacking(_)));
        let wiped = Identity::new(None, None, true);
        let judged = judge(&wiped, &record(), facts(), Moment::Opening).unwrap();
        assert_eq!(judged, Judgement::Lacking("the store was wiped"));
        let mut fresh = record();
        fresh.stamped = false;
        let judged = judge(&wiped, &fresh, facts(), Moment::Reconnecting).unwrap();
        assert_eq!(judged, Judgement::Whole);
    }

    #[test]
    fn a_wiped_older_or_other_store_is_not_the_same() {
        let same = |found: Option<Stamp>| is_same(found.as_ref(), &record());
        let stamp = |change: fn(&mut Stamp)| identity(change).stamp;
        assert!(same(stamp(|_| ())));
        assert!(same(stamp(|s| s.progress = Version::from_u64(51))));
        assert!(!same(stamp(|s| s.progress = Version::from_u64(49))));
        assert!(!same(stamp(|s| s.store_id = StoreId::from_u128(8))));
        assert!(!same(None));
    }

    #[test]
    fn data_without_a_stamp_is_refused() {
        let unstamped = Identity::new(None, Some(Version::from_u64(1)), false);
        assert!(refusal(&unstamped, Moment::Opening).contains("no stamp"));
    }
}
