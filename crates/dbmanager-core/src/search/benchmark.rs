//! A door for the benchmark of the fusion. Not public API.

use std::sync::Arc;

use super::fuse::{LEGS, LegHit, LegList, fuse};
use crate::model::{Fusion, Version};

/// Three legs' lists to fuse.
#[derive(Debug)]
pub struct FusionBenchmark {
    lists: [Vec<LegHit>; 3],
}

impl FusionBenchmark {
    /// Lists of this many hits each; neighbouring legs share half of their documents.
    pub fn new(hits: usize) -> Self {
        let hit = |leg: usize, rank: usize| LegHit {
            collection: 0,
            id: Arc::from(format!("document-{}", leg * hits / 2 + rank * 7 % hits)),
            version: Version::from_u64(1),
            score: 1.0 / (rank + 1) as f64,
            passage: None,
            detail: None,
        };
        let list = |leg| (0..hits).map(|rank| hit(leg, rank)).collect();
        Self {
            lists: [list(0), list(1), list(2)],
        }
    }

    /// Fuses them with equal weights and answers how many documents the ranking has.
    pub fn fuse(&self, fusion: Fusion) -> usize {
        let lists = [0, 1, 2].map(|index| LegList {
            leg: LEGS[index],
            weight: 1.0 / 3.0,
            hits: &self.lists[index],
            looked_up: &[],
        });
        fuse(fusion, &lists, usize::MAX).len()
    }

    /// The hits' scores in one list: what a fusion has to sort at the least.
    pub fn scores(&self) -> Vec<f64> {
        self.lists.iter().flatten().map(|hit| hit.score).collect()
    }
}
