//! Fusing three legs of 100 hits each, against sorting their 300 scores, in the same run.

#[path = "support/measure.rs"]
mod measure;

use std::hint::black_box;

use dbmanager::{FusionBenchmark, model::Fusion};
use measure::{criterion, measure, ratio};

const HITS: usize = 100;

fn main() {
    let mut criterion = criterion();
    let input = FusionBenchmark::new(HITS);
    let scores = input.scores();
    let sort = measure(&mut criterion, "fusion/sort of 300 scores", || {
        let mut scores = black_box(&scores).clone();
        scores.sort_unstable_by(f64::total_cmp);
        black_box(scores);
    });
    for (name, fusion) in [
        ("convex combination", Fusion::ConvexCombination),
        ("dbsf", Fusion::Dbsf),
        ("rrf", Fusion::RRF),
    ] {
        let fused = measure(
            &mut criterion,
            &format!("fusion/{name} of 3 × 100"),
            || {
                black_box(black_box(&input).fuse(fusion));
            },
        );
        ratio(
            &format!("{name} of 3 × 100 ÷ sort of 300 scores"),
            fused,
            sort,
        );
    }
}
