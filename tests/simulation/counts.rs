//! What runs had in them, to show that they were not idle and that what can go wrong did.

use std::collections::BTreeMap;

/// What must happen in a few hundred seeds: the rarest of it does about 17 times in a thousand.
const COMMON: [&str; 27] = [
    "answers swallowed",
    "clock",
    "copied",
    "degraded search",
    "delayed",
    "disabled",
    "disk nearly full",
    "disk well",
    "down",
    "duplicate",
    "failing",
    "failing syncs",
    "late",
    "lost after",
    "lost before",
    "parked",
    "poison",
    "power lost in a write",
    "put back",
    "read-only journal",
    "refused before",
    "requests swallowed",
    "restart",
    "slow",
    "state lost",
    "well",
    "whole search",
];
/// What must happen in thousands: only operators do it, the rarest about 3 times in a thousand.
const RARE: [&str; 3] = ["rebuild", "repair", "store replaced"];

/// Seeds from which on the counts are judged: with fewer, what is rare may well not happen.
const JUDGED_FROM: u64 = 300;
const RARE_FROM: u64 = 5_000;
/// Of how many places one may have a history that is too large to be judged.
const TOO_LARGE: u64 = 100;

#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub steps: u64,
    pub operations: u64,
    pub accepted: u64,
    pub reads: u64,
    pub crashes: u64,
    pub power_losses: u64,
    /// Documents whose histories were judged.
    pub places: u64,
    pub too_large: u64,
    /// What happened, and how often.
    pub kinds: BTreeMap<&'static str, u64>,
}

impl Counts {
    pub fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.operations += other.operations;
        self.accepted += other.accepted;
        self.reads += other.reads;
        self.crashes += other.crashes;
        self.power_losses += other.power_losses;
        self.places += other.places;
        self.too_large += other.too_large;
        for (kind, count) in other.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
    }

    /// Panics if so many seeds had too little in them.
    pub fn judge(&self, seeds: u64) {
        if seeds < JUDGED_FROM {
            return;
        }
        let busy = self.accepted > seeds * 5 && self.reads > seeds;
        assert!(busy, "idle: {self:?}");
        let rare = RARE.iter().filter(|_| seeds >= RARE_FROM);
        let never = |kind: &&&str| self.kinds.get(**kind).copied().unwrap_or_default() == 0;
        let never: Vec<_> = COMMON.iter().chain(rare).filter(never).collect();
        assert!(never.is_empty(), "never happened: {never:?} in {self:?}");
        let judged = self.too_large * TOO_LARGE < self.places;
        assert!(judged, "too many histories were not judged: {self:?}");
    }
}
