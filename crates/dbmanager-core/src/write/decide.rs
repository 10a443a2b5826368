//! When a write is answered: a pure decision over what each enabled store has done so far.

use crate::model::{Level, Role, StoreWriteState};

/// What an enabled store has done with a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acknowledgement {
    /// It holds the version or a newer one.
    Applied,
    /// It is being sent, or will be as soon as its turn comes.
    Waiting,
    /// Its circuit is open: counted as not acknowledged until it closes.
    CircuitOpen,
    /// It refused the version for good.
    Parked,
    /// It needs a rebuild or a restore, and does not acknowledge until then.
    Skipped,
}

impl Acknowledgement {
    /// The state that a receipt shows.
    pub(crate) fn receipt_state(self) -> StoreWriteState {
        match self {
            Acknowledgement::Applied => StoreWriteState::Applied,
            Acknowledgement::Waiting | Acknowledgement::CircuitOpen => StoreWriteState::Pending,
            Acknowledgement::Parked => StoreWriteState::Parked,
            Acknowledgement::Skipped => StoreWriteState::Skipped,
        }
    }
}

/// What a caller asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    pub(crate) level: Level,
    /// The relational store must be among those that hold the write.
    pub(crate) with_authority: bool,
}

/// What to tell the caller now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The level is reached.
    Reached,
    /// It may be reached soon: wait.
    Wait,
    /// It cannot be reached now.
    Pending {
        /// Not before someone acts: parked stores, or stores that need a rebuild, are in the way.
        unreachable: bool,
    },
}

/// Decides over the enabled stores.
pub(crate) fn decide(demand: Demand, stores: &[(Role, Acknowledgement)]) -> Answer {
    let required = demand.level.required(stores.len());
    let enough = |counts: &dyn Fn(Acknowledgement) -> bool| {
        let holders = stores.iter().filter(|(_, a)| counts(*a)).count();
        let authority = !demand.with_authority
            || stores
                .iter()
                .any(|(role, a)| *role == Role::Relational && counts(*a));
        holders >= required && authority
    };
    use Acknowledgement::{Applied, CircuitOpen, Waiting};
    if enough(&|a| a == Applied) {
        Answer::Reached
    } else if enough(&|a| matches!(a, Applied | Waiting)) {
        Answer::Wait
    } else {
        Answer::Pending {
            unreachable: !enough(&|a| matches!(a, Applied | Waiting | CircuitOpen)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Acknowledgement::*;

    const ALL: [Acknowledgement; 5] = [Applied, Waiting, CircuitOpen, Parked, Skipped];

    fn demand(level: Level) -> Demand {
        Demand {
            level,
            with_authority: false,
        }
    }

    #[test]
    fn quorum_is_two_of_three_two_of_two_one_of_one() {
        assert_eq!([1, 2, 3].map(|n| Level::Quorum.required(n)), [1, 2, 2]);
    }

    #[test]
    fn the_whole_matrix_follows_the_counts() {
        for a in ALL {
            for b in ALL {
                for c in ALL {
                    let stores = [(Role::Vector, a), (Role::Graph, b), (Role::Relational, c)];
                    let count = |wanted: &[Acknowledgement]| {
                        [a, b, c].iter().filter(|x| wanted.contains(x)).count()
                    };
                    for level in [Level::Journaled, Level::One, Level::Quorum, Level::All] {
                        let required = level.required(3);
                        let expected = if count(&[Applied]) >= required {
                            Answer::Reached
                        } else if count(&[Applied, Waiting]) >= required {
                            Answer::Wait
                        } else {
                            let ever = count(&[Applied, Waiting, CircuitOpen]) >= required;
                            Answer::Pending { unreachable: !ever }
                        };
                        assert_eq!(
                            decide(demand(level), &stores),
                            expected,
                            "{level:?} {stores:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn with_authority_demands_the_relational_store() {
        let demand = Demand {
            level: Level::Quorum,
            with_authority: true,
        };
        let without = [
            (Role::Vector, Applied),
            (Role::Graph, Applied),
            (Role::Relational, Waiting),
        ];
        assert_eq!(decide(demand, &without), Answer::Wait);
        let with = [
            (Role::Vector, Waiting),
            (Role::Graph, Applied),
            (Role::Relational, Applied),
        ];
        assert_eq!(decide(demand, &with), Answer::Reached);
        let refused = [
            (Role::Vector, Applied),
            (Role::Graph, Applied),
            (Role::Relational, Parked),
        ];
        assert_eq!(
            decide(demand, &refused),
            Answer::Pending { unreachable: true }
        );
    }

    #[test]
    fn a_receipt_calls_nothing_applied_that_is_not() {
        let states = ALL.map(Acknowledgement::receipt_state);
        let expected = [
            StoreWriteState::Applied,
            StoreWriteState::Pending,
            StoreWriteState::Pending,
            StoreWriteState::Parked,
            StoreWriteState::Skipped,
        ];
        assert_eq!(states, expected);
    }

    #[test]
    fn no_store_is_never_a_quorum() {
        assert_eq!(
            decide(demand(Level::Quorum), &[]),
            Answer::Pending { unreachable: true }
        );
        assert_eq!(decide(demand(Level::Journaled), &[]), Answer::Reached);
    }
}
