//! The circuit breaker: a pure state machine that is handed the time.

use std::time::Duration;

/// Whether a store is asked at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CircuitState {
    /// Calls pass.
    Closed,
    /// Calls are refused at once.
    Open {
        /// Until the next trial is let through.
        remaining: Duration,
    },
    /// One call is let through to find out; the others are refused.
    HalfOpen,
}

/// When the circuit opens and for how long.
#[derive(Clone, Debug)]
pub(super) struct BreakerSettings {
    /// Consecutive failures that open the circuit; 0: it never opens.
    pub(super) threshold: u32,
    /// How long it stays open the first time; doubles with each failed trial.
    pub(super) cool_down: Duration,
    /// The longest it stays open between two trials.
    pub(super) max_cool_down: Duration,
}

/// How an attempt ended, as far as the breaker is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttemptOutcome {
    /// The store answered, be it with a refusal.
    Answered,
    /// It could not be reached, did not answer in time, or asked for less load.
    Failed,
    /// It was given up before it could tell anything.
    Abandoned,
}

/// The right to one attempt, to be handed back with its outcome.
#[derive(Debug)]
#[must_use]
pub(super) struct Ticket {
    period: u64,
}

/// The circuit is not closed; the trial, if one is due, is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// When the next trial is due, if that is known.
    pub(super) retry_after: Option<Duration>,
}

/// What a recorded outcome changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transition {
    Opened { cool_down: Duration },
    Closed,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Duration,
        openings: u32,
    },
    HalfOpen {
        trial_under_way: bool,
        openings: u32,
    },
}

/// Closed, it counts consecutive failures; at the threshold it opens, and refuses. After the
/// cool-down one trial is let through: an answer closes the circuit, a failure opens it for twice
/// as long (up to the bound). Outcomes of attempts admitted before the last change are ignored: a
/// late answer says nothing about now.
#[derive(Debug)]
pub(super) struct Breaker {
    settings: BreakerSettings,
    state: State,
    period: u64,
}

impl Breaker {
    pub(super) fn new(settings: BreakerSettings) -> Self {
        Self {
            settings,
            state: State::Closed { failures: 0 },
            period: 0,
        }
    }

    /// The state at `now`. An open circuit whose cool-down is over is half open.
    pub(super) fn state(&self, now: Duration) -> CircuitState {
        match self.state {
            State::Closed { .. } => CircuitState::Closed,
            State::Open { until, .. } if now < until => CircuitState::Open {
                remaining: until - now,
            },
            State::Open { .. } | State::HalfOpen { .. } => CircuitState::HalfOpen,
        }
    }

    /// Admits an attempt, or refuses it.
    pub(super) fn admit(&mut self, now: Duration) -> Result<Ticket, Refused> {
        match self.state {
            State::Closed { .. } => {}
            State::Open { until, .. } if now < until => {
                return Err(Refused {
                    retry_after: Some(until - now),
                });
            }
            State::HalfOpen {
                trial_under_way: true,
                ..
            } => return Err(Refused { retry_after: None }),
            State::Open { openings, .. } | State::HalfOpen { openings, .. } => {
                self.enter(State::HalfOpen {
                    trial_under_way: true,
                    openings,
                });
            }
        }
        Ok(Ticket {
            period: self.period,
        })
    }

    /// Takes the outcome of an admitted attempt.
    pub(super) fn record(
        &mut self,
        ticket: Ticket,
        outcome: AttemptOutcome,
        now: Duration,
    ) -> Option<Transition> {
        if ticket.period != self.period {
            return None;
        }
        match (self.state, outcome) {
            (State::Closed { .. }, AttemptOutcome::Answered) => {
                self.state = State::Closed { failures: 0 };
                None
            }
            (State::Closed { failures }, AttemptOutcome::Failed) => {
                let failures = failures.saturating_add(1);
                self.state = State::Closed { failures };
                let opens = self.settings.threshold > 0 && failures >= self.settings.threshold;
                opens.then(|| self.open(1, now))
            }
            (State::HalfOpen { .. }, AttemptOutcome::Answered) => {
                self.enter(State::Closed { failures: 0 });
                Some(Transition::Closed)
            }
            (State::HalfOpen { openings, .. }, AttemptOutcome::Failed) => {
                Some(self.open(openings.saturating_add(1), now))
            }
            (State::HalfOpen { openings, .. }, AttemptOutcome::Abandoned) => {
                self.state = State::HalfOpen {
                    trial_under_way: false,
                    openings,
                };
                None
            }
            (State::Closed { .. }, AttemptOutcome::Abandoned) | (State::Open { .. }, _) => None,
        }
    }

    /// The store was seen to answer although the circuit is open: the next call is a trial.
    pub(super) fn end_cool_down(&mut self, now: Duration) {
        if let State::Open { until, .. } = &mut self.state {
            *until = now.min(*until);
        }
    }

    fn open(&mut self, openings: u32, now: Duration) -> Transition {
        let cool_down = 2_u32
            .checked_pow(openings - 1)
            .and_then(|factor| self.settings.cool_down.checked_mul(factor))
            .unwrap_or(Duration::MAX)
            .min(self.settings.max_cool_down);
        self.enter(State::Open {
            until: now.saturating_add(cool_down),
            openings,
        });
        Transition::Opened { cool_down }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.period += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn breaker(threshold: u32) -> Breaker {
        Breaker::new(BreakerSettings {
            threshold,
            cool_down: Duration::from_secs(1),
            max_cool_down: Duration::from_secs(5),
        })
    }

    fn run(breaker: &mut Breaker, outcome: AttemptOutcome, now: Duration) -> Option<Transition> {
        let ticket = breaker.admit(now).expect("admitted");
        breaker.record(ticket, outcome, now)
    }

    #[test]
    fn the_cool_down_doubles_up_to_the_bound_and_starts_anew_after_an_answer() {
        let mut breaker = breaker(1);
        let mut now = Duration::ZERO;
        for expected in [1, 2, 4, 5, 5] {
            let cool_down = Duration::from_secs(expected);
            assert_eq!(
                run(&mut breaker, AttemptOutcome::Failed, now),
                Some(Transition::Opened { cool_down })
            );
            assert_eq!(
                breaker.state(now),
                CircuitState::Open {
                    remaining: cool_down
                }
            );
            now += cool_down;
            assert_eq!(breaker.state(now), CircuitState::HalfOpen);
        }
        assert_eq!(
            run(&mut breaker, AttemptOutcome::Answered, now),
            Some(Transition::Closed)
        );
        assert_eq!(
            run(&mut breaker, AttemptOutcome::Failed, now),
            Some(Transition::Opened {
                cool_down: Duration::from_secs(1)
            })
        );
    }

    #[test]
    fn half_open_lets_one_trial_through_and_another_if_it_was_abandoned() {
        let mut breaker = breaker(1);
        run(&mut breaker, AttemptOutcome::Failed, Duration::ZERO);
        let now = Duration::from_secs(1);
        let trial = breaker.admit(now).expect("the trial");
        assert_eq!(
            breaker.admit(now).unwrap_err(),
            Refused { retry_after: None }
        );
        assert_eq!(breaker.record(trial, AttemptOutcome::Abandoned, now), None);
        let trial = breaker.admit(now).expect("another trial");
        assert_eq!(
            breaker.record(trial, AttemptOutcome::Answered, now),
            Some(Transition::Closed)
        );
    }

    #[test]
    fn a_refusal_says_when_the_next_trial_is_due() {
        let mut breaker = breaker(1);
        let now = Duration::from_secs(10);
        run(&mut breaker, AttemptOutcome::Failed, now);
        let refused = breaker.admit(now + Duration::from_millis(300)).unwrap_err();
        assert_eq!(refused.retry_after, Some(Duration::from_millis(700)));
    }

    #[test]
    fn a_late_answer_from_before_the_opening_does_not_close_the_circuit() {
        let mut breaker = breaker(1);
        let late = breaker.admit(Duration::ZERO).expect("closed");
        let late_failure = breaker.admit(Duration::ZERO).expect("closed");
        run(&mut breaker, AttemptOutcome::Failed, Duration::ZERO);
        let now = Duration::from_secs(1);
        let trial = breaker.admit(now).expect("the trial");
        assert_eq!(breaker.record(late, AttemptOutcome::Answered, now), None);
        assert_eq!(
            breaker.record(late_failure, AttemptOutcome::Failed, now),
            None
        );
        assert_eq!(breaker.state(now), CircuitState::HalfOpen);
        assert_eq!(
            breaker.record(trial, AttemptOutcome::Answered, now),
            Some(Transition::Closed)
        );
    }

    #[test]
    fn an_answer_seen_elsewhere_makes_the_next_call_a_trial() {
        let mut breaker = breaker(1);
        run(&mut breaker, AttemptOutcome::Failed, Duration::ZERO);
        breaker.end_cool_down(Duration::from_millis(10));
        assert_eq!(
            breaker.state(Duration::from_millis(10)),
            CircuitState::HalfOpen
        );
    }

    #[test]
    fn a_threshold_of_zero_never_opens() {
        let mut breaker = breaker(0);
        for _ in 0..1_000 {
            assert_eq!(
                run(&mut breaker, AttemptOutcome::Failed, Duration::ZERO),
                None
            );
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Wait(u64),
        Admit,
        Record(usize, AttemptOutcome),
    }

    fn step() -> impl Strategy<Value = Step> {
        let outcome = prop_oneof![
            2 => Just(AttemptOutcome::Answered),
            3 => Just(AttemptOutcome::Failed),
            1 => Just(AttemptOutcome::Abandoned),
        ];
        prop_oneof![
            2 => (0_u64..3_000).prop_map(Step::Wait),
            4 => Just(Step::Admit),
            4 => (0_usize..8, outcome).prop_map(|(index, outcome)| Step::Record(index, outcome)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// Against a description of the rules by history rather than by state.
        #[test]
        fn it_keeps_its_rules_under_any_interleaving(
            threshold in 1_u32..4,
            steps in prop::collection::vec(step(), 1..200),
        ) {
            let mut breaker = breaker(threshold);
            let mut now = Duration::ZERO;
            let mut pending: Vec<Ticket> = Vec::new();
            let mut failures_in_a_row = 0;
            let mut open_until = None;
            for step in steps {
                match step {
                    Step::Wait(milliseconds) => now += Duration::from_millis(milliseconds),
                    Step::Admit => match breaker.admit(now) {
                        Ok(ticket) => {
                            prop_assert!(open_until.is_none_or(|until| until <= now));
                            let trials = pending
                                .iter()
                                .filter(|ticket| ticket.period == breaker.period)
                                .count();
                            if open_until.is_some() {
                                prop_assert_eq!(trials, 0, "two trials at once");
                            }
                            pending.push(ticket);
                        }
                        Err(refused) => {
                            let until = open_until.expect("only a circuit that opened refuses");
                            prop_assert_eq!(
                                refused.retry_after.is_some(),
                                now < until,
                                "a refusal names the next trial while the cool-down lasts"
                            );
                        }
                    },
                    Step::Record(_, _) if pending.is_empty() => {}
                    Step::Record(index, outcome) => {
                        let ticket = pending.remove(index % pending.len());
                        let current = ticket.period == breaker.period;
                        let transition = breaker.record(ticket, outcome, now);
                        if !current {
                            prop_assert_eq!(transition, None);
                            continue;
                        }
                        match outcome {
                            AttemptOutcome::Answered => failures_in_a_row = 0,
                            AttemptOutcome::Failed => failures_in_a_row += 1,
                            AttemptOutcome::Abandoned => {}
                        }
                        match transition {
                            Some(Transition::Opened { cool_down }) => {
                                prop_assert!(open_until.is_some() || failures_in_a_row == threshold);
                                prop_assert!(cool_down >= Duration::from_secs(1));
                                prop_assert!(cool_down <= Duration::from_secs(5));
                                open_until = Some(now + cool_down);
                            }
                            Some(Transition::Closed) => {
                                prop_assert_eq!(outcome, AttemptOutcome::Answered);
                                prop_assert!(open_until.is_some());
                                open_until = None;
                            }
                            None => prop_assert!(
                                open_until.is_some() || failures_in_a_row < threshold
                            ),
                        }
                    }
                }
            }
        }
    }
}
