//! Bytes on their way through a proxy, and what a fault says about them.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

use super::{Counts, Fault};

/// Bytes on their way. Dropped before they have gone on, they are lost.
pub(super) struct Chunk {
    pub(super) bytes: Vec<u8>,
    pub(super) arrived: Instant,
    pub(super) direction: Direction,
    /// Whether they have gone on.
    pub(super) passed: bool,
    counts: watch::Sender<Counts>,
}

impl Chunk {
    pub(super) fn new(
        bytes: Vec<u8>,
        direction: Direction,
        counts: &watch::Sender<Counts>,
    ) -> Self {
        counts.send_modify(|counts| *direction.held(counts) += bytes.len() as u64);
        Self {
            bytes,
            arrived: Instant::now(),
            direction,
            passed: false,
            counts: counts.clone(),
        }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let length = self.bytes.len() as u64;
        self.counts.send_modify(|counts| {
            *self.direction.held(counts) -= length;
            if !self.passed {
                *self.direction.lost(counts) += length;
            }
        });
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Requests,
    Answers,
}

/// What happens to a chunk now.
pub(super) enum Step {
    Pass,
    PassAt(Instant),
    Wait,
    Lose,
    Drip { bytes: usize, every: Duration },
}

impl Direction {
    pub(super) fn step(self, fault: Fault, arrived: Instant) -> Step {
        match (fault, self) {
            (Fault::Latency(delay), Self::Requests) => Step::PassAt(arrived + delay),
            (Fault::HoldRequests, Self::Requests) | (Fault::HoldAnswers, Self::Answers) => {
                Step::Wait
            }
            (Fault::HalfOpen, _) | (Fault::Blackhole, Self::Answers) => Step::Lose,
            (Fault::Drip { bytes, every }, Self::Answers) => Step::Drip { bytes, every },
            // These end the connection: nothing goes on until that is done.
            (Fault::Cut | Fault::Reset, _) => Step::Wait,
            _ => Step::Pass,
        }
    }

    fn held(self, counts: &mut Counts) -> &mut u64 {
        match self {
            Self::Requests => &mut counts.held_requests,
            Self::Answers => &mut counts.held_answers,
        }
    }

    fn lost(self, counts: &mut Counts) -> &mut u64 {
        match self {
            Self::Requests => &mut counts.lost_requests,
            Self::Answers => &mut counts.lost_answers,
        }
    }
}
