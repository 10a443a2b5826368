//! The fusion's rules, as properties.

use std::{collections::HashMap, num::NonZeroU32, sync::Arc};

use proptest::prelude::*;

use crate::{
    model::{Fusion, LegName, Version},
    search::fuse::{LEGS, LegHit, LegList, Ranked, fuse},
};

fn hit(collection: u32, id: &str, score: f64) -> LegHit {
    LegHit {
        collection,
        id: Arc::from(id),
        version: Version::ZERO,
        score,
        passage: None,
        detail: None,
    }
}

fn hits(scores: &[(&str, f64)]) -> Vec<LegHit> {
    scores
        .iter()
        .map(|(id, score)| hit(0, id, *score))
        .collect()
}

fn list(leg: LegName, weight: f64, hits: &[LegHit]) -> LegList<'_> {
    LegList {
        leg,
        weight,
        hits,
        looked_up: &[],
    }
}

fn scores(ranked: &[Ranked]) -> Vec<(&str, f64)> {
    ranked
        .iter()
        .map(|r| (&*r.id, (r.score * 1e6).round() / 1e6))
        .collect()
}

#[test]
fn the_convex_combination_is_the_weighted_sum_of_scores_between_minimum_and_maximum() {
    let semantic = hits(&[("a", 0.9), ("b", 0.7), ("c", 0.5)]);
    let metadata = hits(&[("c", 12.0), ("a", 6.0), ("d", 2.0)]);
    let ranked = fuse(
        Fusion::ConvexCombination,
        &[
            list(LegName::Semantic, 0.5, &semantic),
            list(LegName::Metadata, 0.5, &metadata),
        ],
        10,
    );
    assert_eq!(
        scores(&ranked),
        [("a", 0.7), ("c", 0.5), ("b", 0.25), ("d", 0.0)]
    );
    let best = &ranked[0];
    assert_eq!(best.parts[0].as_ref().unwrap().rank, NonZeroU32::new(1));
    assert_eq!(best.parts[1].as_ref().unwrap().rank, NonZeroU32::new(2));
    assert!(best.parts[2].is_none());
}

#[test]
fn a_looked_up_score_widens_the_range_and_has_no_rank() {
    let semantic = hits(&[("a", 0.9), ("b", 0.8)]);
    let of_semantic = hits(&[("c", 0.4)]);
    let metadata = hits(&[("c", 3.0)]);
    let legs = [
        LegList {
            looked_up: &of_semantic,
            ..list(LegName::Semantic, 0.6, &semantic)
        },
        list(LegName::Metadata, 0.4, &metadata),
    ];
    let ranked = fuse(Fusion::ConvexCombination, &legs, 10);
    assert_eq!(scores(&ranked), [("a", 0.6), ("b", 0.48), ("c", 0.4)]);
    let part = ranked[2].parts[0].as_ref().unwrap();
    assert_eq!((part.rank, part.raw), (None, 0.4));
    let ranked = fuse(Fusion::RRF, &legs, 10);
    assert!(ranked.iter().find(|r| &*r.id == "c").unwrap().parts[0].is_none());
}

#[test]
fn reciprocal_rank_fusion_follows_the_paper() {
    let semantic = hits(&[("a", 0.9), ("b", 0.7)]);
    let metadata = hits(&[("b", 12.0), ("c", 6.0)]);
    let ranked = fuse(
        Fusion::RRF,
        &[
            list(LegName::Semantic, 0.5, &semantic),
            list(LegName::Metadata, 0.5, &metadata),
        ],
        10,
    );
    let expected = |ranks: &[f64]| ranks.iter().map(|r| 0.5 / (60.0 + r)).sum::<f64>();
    let of: HashMap<&str, f64> = ranked.iter().map(|r| (&*r.id, r.score)).collect();
    assert!((of["b"] - expected(&[2.0, 1.0])).abs() < 1e-15);
    assert!((of["a"] - expected(&[1.0])).abs() < 1e-15);
    assert!((of["c"] - expected(&[2.0])).abs() < 1e-15);
}

#[test]
fn distribution_based_fusion_is_not_clipped() {
    let mut semantic = vec![("outlier".to_owned(), 100.0)];
    semantic.extend((0..50).map(|n| (format!("p{n:02}"), 1.0)));
    let semantic: Vec<_> = semantic
        .iter()
        .map(|(id, score)| hit(0, id, *score))
        .collect();
    let ranked = fuse(
        Fusion::Dbsf,
        &[list(LegName::Semantic, 1.0, &semantic)],
        100,
    );
    // Of n equal scores but one, the one stands √(n−1) deviations above the mean.
    let expected = 0.5 + 50_f64.sqrt() / 6.0;
    assert!(
        (ranked[0].score - expected).abs() < 1e-9,
        "{}",
        ranked[0].score
    );
    assert!(ranked[0].score > 1.0);
}

#[test]
fn degenerate_lists_have_defined_scores() {
    let one = hits(&[("a", -3.0)]);
    let equal = hits(&[("a", 0.1), ("b", 0.1), ("c", 0.1)]);
    let huge = hits(&[("a", f64::MAX), ("b", 0.0), ("c", f64::MIN)]);
    for (fusion, when_equal) in [(Fusion::ConvexCombination, 1.0), (Fusion::Dbsf, 0.5)] {
        let single = |hits| fuse(fusion, &[list(LegName::Graph, 1.0, hits)], 10);
        assert_eq!(scores(&single(&one)), [("a", when_equal)]);
        let ranked = single(&equal);
        let expected = [("a", when_equal), ("b", when_equal), ("c", when_equal)];
        assert_eq!(scores(&ranked), expected, "ties by id");
        assert!(single(&huge).iter().all(|ranked| ranked.score.is_finite()));
        assert!(single(&[]).is_empty());
    }
    let ranked = fuse(
        Fusion::ConvexCombination,
        &[
            list(LegName::Semantic, 0.5, &[]),
            list(LegName::Metadata, 0.5, &one),
        ],
        10,
    );
    assert_eq!(
        scores(&ranked),
        [("a", 0.5)],
        "an empty leg takes nothing from the others"
    );
    let ranked = fuse(
        Fusion::Rrf { k: 0 },
        &[list(LegName::Semantic, 1.0, &one)],
        10,
    );
    assert_eq!(scores(&ranked), [("a", 1.0)]);
}

#[test]
fn zero_and_negative_zero_tie() {
    let mixed = hits(&[("b", 0.0), ("a", -0.0)]);
    let ranked = fuse(Fusion::RRF, &[list(LegName::Semantic, 1.0, &mixed)], 10);
    assert_eq!(&*ranked[0].id, "a");
}

fn fusions() -> impl Strategy<Value = Fusion> {
    prop_oneof![
        Just(Fusion::ConvexCombination),
        Just(Fusion::Dbsf),
        (0_u32..100).prop_map(|k| Fusion::Rrf { k }),
    ]
}

fn leg_hits() -> impl Strategy<Value = Vec<LegHit>> {
    let score = prop_oneof![
        4 => -10.0..10.0_f64,
        2 => (-3..3).prop_map(f64::from),
        1 => any::<f64>().prop_filter("finite", |score| score.is_finite()),
    ];
    prop::collection::vec((0_u32..2, 0_u32..12, score), 0..15).prop_map(|hits| {
        hits.iter()
            .map(|(collection, id, score)| hit(*collection, &id.to_string(), *score))
            .collect()
    })
}

fn weights() -> impl Strategy<Value = [f64; 3]> {
    [0.0..1.0_f64, 0.0..1.0_f64, 0.01..1.0_f64].prop_map(|weights| {
        let sum: f64 = weights.iter().sum();
        weights.map(|weight| weight / sum)
    })
}

fn lists<'a>(legs: &'a [Vec<LegHit>; 3], weights: [f64; 3]) -> Vec<LegList<'a>> {
    let lists = LEGS.iter().zip(weights).zip(legs);
    lists
        .map(|((leg, weight), hits)| list(*leg, weight, hits))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn contributions_sum_to_finite_scores_in_rank_order(
        fusion in fusions(),
        legs in [leg_hits(), leg_hits(), leg_hits()],
        weights in weights(),
    ) {
        let ranked = fuse(fusion, &lists(&legs, weights), usize::MAX);
        for item in &ranked {
            let sum: f64 = item.parts.iter().flatten().map(|part| part.contribution).sum();
            prop_assert!(item.score.is_finite());
            prop_assert!((item.score - sum).abs() <= 1e-12);
            prop_assert!(item.parts.iter().flatten().all(|part| part.normalised.is_finite()));
        }
        let in_order = ranked.is_sorted_by(|left, right| {
            left.score > right.score
                || left.score == right.score
                    && (left.collection, &left.id) < (right.collection, &right.id)
        });
        prop_assert!(in_order, "each document once, best first, ties by collection and id");
        let known: std::collections::HashSet<_> =
            legs.iter().flatten().map(|hit| (hit.collection, &hit.id)).collect();
        prop_assert_eq!(known.len(), ranked.len());
    }

    #[test]
    fn the_order_of_the_input_does_not_matter(
        fusion in fusions(),
        legs in [leg_hits(), leg_hits(), leg_hits()],
        weights in weights(),
        swap in any::<prop::sample::Index>(),
    ) {
        let ranked = fuse(fusion, &lists(&legs, weights), usize::MAX);
        let mut other = legs.clone();
        for hits in &mut other {
            if !hits.is_empty() {
                let at = swap.index(hits.len());
                hits.rotate_left(at);
            }
        }
        let mut turned = lists(&other, weights);
        turned.reverse();
        let again = fuse(fusion, &turned, usize::MAX);
        prop_assert_eq!(ranked.len(), again.len());
        for (left, right) in ranked.iter().zip(&again) {
            prop_assert_eq!(&left.id, &right.id);
            prop_assert!((left.score - right.score).abs() <= 1e-12);
        }
    }

    /// With scores that were looked up beside those that a leg found.
    #[test]
    fn looked_up_scores_count_in_any_order_and_sum_up(
        fusion in fusions(),
        legs in [leg_hits(), leg_hits(), leg_hits()],
        looked_up in [leg_hits(), leg_hits(), leg_hits()],
        weights in weights(),
        order in any::<prop::sample::Index>(),
    ) {
        let with = |looked_up: &[Vec<LegHit>; 3]| {
            let with_looked_up = lists(&legs, weights).into_iter().zip(looked_up);
            let lists: Vec<_> = with_looked_up
                .map(|(list, looked_up)| LegList { looked_up, ..list })
                .collect();
            fuse(fusion, &lists, usize::MAX)
        };
        // A look-up gives each document one score.
        let once = looked_up.map(|hits| {
            let mut seen = std::collections::HashSet::new();
            hits.into_iter()
                .filter(|hit| seen.insert((hit.collection, hit.id.clone())))
                .collect::<Vec<_>>()
        });
        let ranked = with(&once);
        let mut turned = once;
        for hits in &mut turned {
            if !hits.is_empty() {
                let at = order.index(hits.len());
                hits.rotate_left(at);
            }
        }
        let again = with(&turned);
        prop_assert_eq!(ranked.len(), again.len());
        for (left, right) in ranked.iter().zip(&again) {
            let sum: f64 = left.parts.iter().flatten().map(|part| part.contribution).sum();
            prop_assert!(left.score.is_finite() && (left.score - sum).abs() <= 1e-12);
            prop_assert!((left.score - right.score).abs() <= 1e-9);
        }
    }

    #[test]
    fn a_limit_takes_the_beginning_of_the_ranking(
        fusion in fusions(),
        legs in [leg_hits(), leg_hits(), leg_hits()],
        weights in weights(),
        limit in 0_usize..20,
    ) {
        let lists = lists(&legs, weights);
        let mut all = fuse(fusion, &lists, usize::MAX);
        all.truncate(limit);
        prop_assert_eq!(fuse(fusion, &lists, limit), all);
    }

    /// Of one leg alone every fusion, the distribution too, keeps the order.
    #[test]
    fn a_single_leg_keeps_its_order_and_a_better_score_its_rank(
        fusion in fusions(),
        hits in leg_hits(),
        which in any::<prop::sample::Index>(),
        lift in 0.1..20.0_f64,
    ) {
        let mut seen = std::collections::HashSet::new();
        let hits: Vec<_> = hits
            .into_iter()
            .filter(|hit| hit.score.abs() < 1e3 && seen.insert((hit.collection, hit.id.clone())))
            .collect();
        prop_assume!(!hits.is_empty());
        let rank = |hits: &[LegHit], of: &LegHit| {
            let ranked = fuse(fusion, &[list(LegName::Semantic, 1.0, hits)], usize::MAX);
            ranked.iter().position(|r| (r.collection, &r.id) == (of.collection, &of.id)).unwrap()
        };
        let lifted = which.index(hits.len());
        for (place, other) in hits.iter().enumerate() {
            if other.score + 1e-9 < hits[lifted].score {
                prop_assert!(rank(&hits, &hits[lifted]) < rank(&hits, &hits[place]));
            }
        }
        let mut better = hits.clone();
        better[lifted].score += lift;
        prop_assert!(rank(&better, &hits[lifted]) <= rank(&hits, &hits[lifted]));
    }

    #[test]
    fn a_better_score_in_a_leg_never_ranks_a_document_lower(
        by_rank in any::<bool>(),
        legs in [leg_hits(), leg_hits(), leg_hits()],
        weights in weights(),
        which in any::<prop::sample::Index>(),
        lift in 0.1..20.0_f64,
    ) {
        // Not so for the distribution: one higher score also widens the deviation.
        let fusion = if by_rank { Fusion::RRF } else { Fusion::ConvexCombination };
        let legs = legs.map(|hits| {
            let mut seen = std::collections::HashSet::new();
            hits.into_iter()
                .filter(|hit| hit.score.abs() < 1e3 && seen.insert((hit.collection, hit.id.clone())))
                .collect::<Vec<_>>()
        });
        prop_assume!(!legs[0].is_empty());
        let place = |legs: &[Vec<LegHit>; 3], of: &LegHit| {
            fuse(fusion, &lists(legs, weights), usize::MAX)
                .iter()
                .map(|item| (item.collection, item.id.clone(), item.score))
                .collect::<Vec<_>>()
                .into_iter()
                .fold((None, Vec::new()), |(found, mut above), (collection, id, score)| {
                    if (collection, &id) == (of.collection, &of.id) {
                        (Some(score), above)
                    } else {
                        above.push((collection, id, score));
                        (found, above)
                    }
                })
        };
        let lifted = which.index(legs[0].len());
        let target = legs[0][lifted].clone();
        let mut better = legs.clone();
        better[0][lifted].score += lift;
        let (before, others_before) = place(&legs, &target);
        let (after, others_after) = place(&better, &target);
        let (before, after) = (before.unwrap(), after.unwrap());
        for (collection, id, score) in others_before {
            if before > score + 1e-9 {
                let now = others_after.iter().find(|o| (o.0, &o.1) == (collection, &id)).unwrap().2;
                prop_assert!(after >= now - 1e-9, "{id} overtook");
            }
        }
    }
}
