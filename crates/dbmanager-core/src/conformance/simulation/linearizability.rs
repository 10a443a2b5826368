//! Whether a history of concurrent calls could have happened one call after the other.

use std::{collections::HashSet, hash::Hash};

/// Configurations looked at before the search is given up.
const MOST_CONFIGURATIONS: usize = 200_000;
/// Calls that a history can have: one bit each.
const MOST_CALLS: usize = 128;

/// One call of a history.
#[derive(Clone, Debug)]
pub struct Call<O> {
    /// What was called, together with what it answered.
    pub operation: O,
    /// When it was called, on any scale that orders all calls and answers of the history.
    pub called: u64,
    /// When it answered. Without an answer it may take effect at any time from then on, or never.
    pub answered: Option<u64>,
}

/// What was found out about a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains every answer.
    Linearizable,
    /// There is none.
    NotLinearizable,
    /// The history is too long, or has too many calls without an answer, to tell.
    TooLarge,
}

/// Looks for an order of the calls in which each takes effect at one moment between its call and
/// its answer, and in which every answer is what `apply` allows in the state before it: the next
/// state, or `None` if the answer is impossible there.
///
/// The search is that of Wing and Gong ("Testing and verifying concurrent objects", 1993) with
/// Lowe's memory of configurations already seen ("Testing for linearizability", 2017). Histories
/// of different documents are judged apart: linearizability is local (Herlihy and Wing, 1990).
pub fn linearizable<S, O>(
    initial: S,
    history: &[Call<O>],
    apply: impl Fn(&S, &O) -> Option<S>,
) -> Verdict
where
    S: Clone + Eq + Hash,
{
    if history.len() > MOST_CALLS {
        return Verdict::TooLarge;
    }
    let answered = history
        .iter()
        .enumerate()
        .filter(|(_, call)| call.answered.is_some())
        .fold(0_u128, |bits, (index, _)| bits | 1 << index);
    let mut seen: HashSet<(u128, S)> = HashSet::new();
    let mut open = vec![(0_u128, initial)];
    while let Some((done, state)) = open.pop() {
        if done & answered == answered {
            return Verdict::Linearizable;
        }
        // The next call must have been called before any other that is left has answered.
        let first_answer = history
            .iter()
            .enumerate()
            .filter(|(index, _)| done & (1 << index) == 0)
            .filter_map(|(_, call)| call.answered)
            .min()
            .unwrap_or(u64::MAX);
        for (index, call) in history.iter().enumerate() {
            if done & (1 << index) != 0 || call.called > first_answer {
                continue;
            }
            if let Some(next) = apply(&state, &call.operation) {
                let configuration = (done | 1 << index, next);
                if seen.insert(configuration.clone()) {
                    open.push(configuration);
                }
            }
        }
        if seen.len() > MOST_CONFIGURATIONS {
            return Verdict::TooLarge;
        }
    }
    Verdict::NotLinearizable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Register {
        Write(u32),
        Read(u32),
        /// Writes the second if it reads the first; and whether it did.
        Swap(u32, u32, bool),
    }
    use Register::*;

    fn judge(history: &[(Register, u64, Option<u64>)]) -> Verdict {
        let history: Vec<_> = history
            .iter()
            .map(|(operation, called, answered)| Call {
                operation: *operation,
                called: *called,
                answered: *answered,
            })
            .collect();
        linearizable(0, &history, |state, operation| match operation {
            Write(value) => Some(*value),
            Read(value) => (state == value).then_some(*state),
            Swap(from, to, true) => (state == from).then_some(*to),
            Swap(from, _, false) => (state != from).then_some(*state),
        })
    }

    #[test]
    fn a_read_sees_the_write_that_ended_before_it() {
        assert_eq!(
            judge(&[(Write(1), 0, Some(1)), (Read(1), 2, Some(3))]),
            Verdict::Linearizable
        );
        assert_eq!(
            judge(&[(Write(1), 0, Some(1)), (Read(0), 2, Some(3))]),
            Verdict::NotLinearizable
        );
    }

    #[test]
    fn a_read_during_a_write_sees_either_and_never_goes_back() {
        for value in [0, 1] {
            assert_eq!(
                judge(&[(Write(1), 0, Some(9)), (Read(value), 2, Some(3))]),
                Verdict::Linearizable
            );
        }
        let back = [
            (Write(1), 0, Some(9)),
            (Read(1), 2, Some(3)),
            (Read(0), 4, Some(5)),
        ];
        assert_eq!(judge(&back), Verdict::NotLinearizable);
    }

    #[test]
    fn a_write_without_an_answer_may_happen_at_any_time_or_never() {
        for value in [0, 1] {
            assert_eq!(
                judge(&[(Write(1), 0, None), (Read(value), 50, Some(51))]),
                Verdict::Linearizable
            );
        }
        let came_and_went = [
            (Write(1), 0, None),
            (Read(1), 2, Some(3)),
            (Read(0), 4, Some(5)),
        ];
        assert_eq!(judge(&came_and_went), Verdict::NotLinearizable);
    }

    #[test]
    fn of_two_swaps_from_the_same_value_one_succeeds() {
        let swaps = |first, second| {
            judge(&[
                (Swap(0, 1, first), 0, Some(9)),
                (Swap(0, 2, second), 0, Some(9)),
            ])
        };
        assert_eq!(swaps(true, false), Verdict::Linearizable);
        assert_eq!(swaps(true, true), Verdict::NotLinearizable);
        assert_eq!(swaps(false, false), Verdict::NotLinearizable);
    }

    #[test]
    fn what_cannot_be_told_is_said_to_be_so() {
        let long: Vec<_> = (0..200).map(|n| (Write(n), 0, None)).collect();
        assert_eq!(judge(&long), Verdict::TooLarge);
    }
}
