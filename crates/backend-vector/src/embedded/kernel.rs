//! The inner loops of a search: estimates of a score in `f32` with a bound on their error.
//!
//! A scan estimates every row and scores exactly, with [`Metric::score`], only the rows whose
//! estimate leaves them a chance. The bound makes the answer the same as if every row had been
//! scored exactly.

use std::sync::Arc;

use dbmanager_core::model::Metric;

/// Independent sums, so that the compiler may add them in vector registers: it may not reorder
/// the terms of one sum of floating-point numbers.
const LANES: usize = 16;

/// Half the distance from 1 to the next `f32`: the relative error of one rounding.
const UNIT_ROUNDOFF: f64 = 1.0 / 16_777_216.0;

/// Norms of vectors whose squares neither overflow nor lose digits in `f32`.
const REGULAR_NORMS: std::ops::RangeInclusive<f64> = 1e-15..=1e15;

fn sum_of_terms(left: &[f32], right: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (left, left_rest) = left.as_chunks::<LANES>();
    let (right, right_rest) = right.as_chunks::<LANES>();
    let rest: f32 = left_rest
        .iter()
        .zip(right_rest)
        .map(|(a, b)| term(*a, *b))
        .sum();
    for (a, b) in left.iter().zip(right) {
        for lane in 0..LANES {
            lanes[lane] += term(a[lane], b[lane]);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

fn dot(left: &[f32], right: &[f32]) -> f32 {
    sum_of_terms(left, right, |a, b| a * b)
}

fn squared_distance(left: &[f32], right: &[f32]) -> f32 {
    sum_of_terms(left, right, |a, b| (a - b) * (a - b))
}

/// The Euclidean norm, without overflow.
pub(super) fn norm(values: &[f32]) -> f64 {
    let mut lanes = [0.0_f64; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += f64::from(chunk[lane]) * f64::from(chunk[lane]);
        }
    }
    let rest: f64 = rest.iter().map(|value| f64::from(*value).powi(2)).sum();
    (lanes.iter().sum::<f64>() + rest).sqrt()
}

/// Whether the vector can be handed to arithmetic in `f32` that knows no error bounds. The zero
/// vector can.
pub(super) fn is_regular(values: &[f32]) -> bool {
    let norm = norm(values);
    norm == 0.0 || REGULAR_NORMS.contains(&norm)
}

/// The vector with norm 1; the zero vector stays as it is.
pub(super) fn normalised(values: &[f32]) -> Vec<f32> {
    let norm = norm(values);
    if norm == 0.0 {
        return values.to_vec();
    }
    values
        .iter()
        .map(|value| (f64::from(*value) / norm) as f32)
        .collect()
}

/// What is computed once per stored vector, so that an estimate needs one pass over it: the
/// inverse norm (cosine), the norm (dot) or nothing (Euclidean). NaN where `f32` does not hold it.
pub(super) fn row_factor(metric: Metric, values: &[f32]) -> f32 {
    match metric {
        Metric::Cosine => {
            let norm = norm(values);
            if norm == 0.0 {
                0.0
            } else if REGULAR_NORMS.contains(&norm) {
                (1.0 / norm) as f32
            } else {
                f32::NAN
            }
        }
        Metric::Dot => norm(values) as f32,
        _ => 0.0,
    }
}

/// An interval that holds a row's rank value: a number that orders rows as their scores do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Estimate {
    /// The rank value is at least this.
    pub(super) lower: f64,
    /// The rank value is at most this.
    pub(super) upper: f64,
}

impl Estimate {
    /// Nothing is known.
    const UNKNOWN: Estimate = Estimate {
        lower: f64::NEG_INFINITY,
        upper: f64::INFINITY,
    };

    fn around(value: f64, error: f64) -> Self {
        if value.is_finite() && error.is_finite() {
            Self {
                lower: value - error,
                upper: value + error,
            }
        } else {
            Self::UNKNOWN
        }
    }

    /// The interval of the larger of two rank values.
    pub(super) fn max(self, other: Self) -> Self {
        Self {
            lower: self.lower.max(other.lower),
            upper: self.upper.max(other.upper),
        }
    }
}

/// A query's vector, prepared for many comparisons.
#[derive(Clone, Debug)]
pub(super) struct Query {
    metric: Metric,
    vector: Arc<[f32]>,
    /// What the loops run over: for cosine the vector with norm 1.
    operand: Arc<[f32]>,
    norm: f64,
    /// Bounds the relative error of a sum of as many terms as the vector has.
    relative_error: f64,
    /// Bounds what underflowing terms of a sum can lose.
    absolute_error: f64,
}

impl Query {
    pub(super) fn new(metric: Metric, vector: Arc<[f32]>) -> Self {
        let operand = match metric {
            Metric::Cosine => normalised(&vector).into(),
            _ => Arc::clone(&vector),
        };
        // Higham, Accuracy and Stability of Numerical Algorithms (2002), section 3.1: a sum whose
        // longest chain has n roundings errs by at most n u / (1 - n u), relative to the sum of
        // the terms' magnitudes. The chain is a lane, then the lanes, then a few operations more;
        // doubled, which covers the denominator.
        let chain = vector.len() / LANES + 2 * LANES + 8;
        Self {
            metric,
            norm: norm(&vector),
            operand,
            relative_error: 2.0 * chain as f64 * UNIT_ROUNDOFF,
            absolute_error: 2.0 * vector.len() as f64 * f64::from(f32::MIN_POSITIVE),
            vector,
        }
    }

    /// Where the row ranks; `factor` is the row's [`row_factor`].
    pub(super) fn estimate(&self, row: &[f32], factor: f32) -> Estimate {
        let factor = f64::from(factor);
        match self.metric {
            Metric::Cosine => {
                let value = f64::from(dot(&self.operand, row)) * factor;
                Estimate::around(value, self.relative_error + self.absolute_error * factor)
            }
            Metric::Dot => Estimate::around(
                f64::from(dot(&self.operand, row)),
                self.relative_error * self.norm * factor + self.absolute_error,
            ),
            // The square orders as the distance does.
            Metric::Euclidean => {
                let square = f64::from(squared_distance(&self.operand, row));
                Estimate::around(-square, self.relative_error * square + self.absolute_error)
            }
            _ => Estimate::UNKNOWN,
        }
    }

    /// The score, as [`Metric::score`] defines it.
    pub(super) fn score(&self, row: &[f32]) -> f64 {
        self.metric.score(&self.vector, row)
    }
}

/// What an index needs besides.
#[cfg(feature = "hnsw")]
impl Query {
    /// The vector that an index over [`Query::is_regular`] vectors is asked with.
    pub(super) fn operand(&self) -> &[f32] {
        &self.operand
    }

    pub(super) fn is_regular(&self) -> bool {
        is_regular(&self.operand)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rank(metric: Metric, score: f64) -> f64 {
        match metric {
            Metric::Euclidean => -score * score,
            _ => score,
        }
    }

    fn number() -> impl Strategy<Value = f32> {
        prop_oneof![
            8 => -1.0_f32..1.0,
            1 => Just(0.0_f32),
            1 => prop::num::f32::NORMAL,
            1 => prop::num::f32::SUBNORMAL,
        ]
    }

    fn pair() -> impl Strategy<Value = (Vec<f32>, Vec<f32>)> {
        (1_usize..70).prop_flat_map(|length| {
            let tame = || prop::collection::vec(-1.0_f32..1.0, length);
            let wild = || prop::collection::vec(number(), length);
            prop_oneof![(tame(), tame()), (wild(), wild()), (tame(), wild())]
        })
    }

    proptest! {
        #[test]
        fn the_estimate_holds_the_exact_value((left, right) in pair()) {
            for metric in [Metric::Cosine, Metric::Dot, Metric::Euclidean] {
                let query = Query::new(metric, left.clone().into());
                let estimate = query.estimate(&right, row_factor(metric, &right));
                let exact = rank(metric, query.score(&right));
                prop_assert!(
                    estimate.lower <= exact && exact <= estimate.upper,
                    "{metric:?}: {exact} is not in {estimate:?}"
                );
            }
        }
    }

    #[test]
    fn the_estimate_of_ordinary_vectors_is_narrow() {
        let left: Vec<f32> = (0..384).map(|i| ((i * 7) as f32).sin()).collect();
        let right: Vec<f32> = (0..384).map(|i| ((i * 5) as f32).cos()).collect();
        for metric in [Metric::Cosine, Metric::Dot, Metric::Euclidean] {
            let query = Query::new(metric, left.clone().into());
            let estimate = query.estimate(&right, row_factor(metric, &right));
            let scale = match metric {
                Metric::Cosine => 1.0,
                _ => norm(&left) * norm(&right),
            };
            assert!(estimate.upper - estimate.lower < 1e-4 * scale, "{metric:?}");
        }
    }

    #[test]
    fn a_zero_vector_has_similarity_zero() {
        let zero = [0.0; 20];
        let other = [1.0; 20];
        for (left, right) in [(zero, other), (other, zero), (zero, zero)] {
            let query = Query::new(Metric::Cosine, left.to_vec().into());
            assert_eq!(query.score(&right), 0.0);
            let estimate = query.estimate(&right, row_factor(Metric::Cosine, &right));
            assert!(estimate.lower <= 0.0 && 0.0 <= estimate.upper);
        }
    }
}
