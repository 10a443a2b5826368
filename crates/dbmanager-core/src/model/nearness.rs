//! Whether two sets of vectors are the same but for rounding.

use super::ChunkVector;

/// How far numbers may differ, in parts of the largest one of their vector.
const TOLERANCE: f32 = 1e-4;

/// Whether the sets have the same chunks with the same numbers, each within a ten-thousandth of
/// its vector's largest. With `direction_only` a vector may come back with another length.
pub(crate) fn nearly_same(
    expected: &[ChunkVector],
    found: &[ChunkVector],
    direction_only: bool,
) -> bool {
    expected.len() == found.len()
        && expected.iter().zip(found).all(|(expected, found)| {
            (expected.chunk, expected.passage) == (found.chunk, found.passage)
                && (near(&expected.values, &found.values, 1.0, 1.0)
                    || direction_only && same_direction(&expected.values, &found.values))
        })
}

fn same_direction(expected: &[f32], found: &[f32]) -> bool {
    let (a, b) = (length(expected), length(found));
    a > 0.0 && b > 0.0 && near(expected, found, a, b)
}

/// In `f64`: the squares of large numbers overflow `f32`.
fn length(values: &[f32]) -> f64 {
    let squares = values.iter().map(|value| f64::from(*value).powi(2));
    squares.sum::<f64>().sqrt()
}

fn near(expected: &[f32], found: &[f32], length: f64, found_length: f64) -> bool {
    let scaled = |value: &f32| f64::from(*value) / length;
    let largest = expected.iter().map(|v| scaled(v).abs()).fold(0.0, f64::max);
    expected.len() == found.len()
        && expected.iter().zip(found).all(|(expected, found)| {
            let distance = (scaled(expected) - f64::from(*found) / found_length).abs();
            distance <= largest * f64::from(TOLERANCE)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(values: &[f32]) -> Vec<ChunkVector> {
        vec![ChunkVector {
            chunk: 0,
            passage: None,
            values: values.to_vec(),
        }]
    }

    #[test]
    fn rounding_is_the_same_and_one_changed_number_is_not() {
        let expected = set(&[3.0, 4.0, 0.0]);
        assert!(nearly_same(&expected, &set(&[3.000_001, 4.0, 0.0]), false));
        assert!(!nearly_same(&expected, &set(&[3.0, 4.0, 0.001]), false));
        assert!(!nearly_same(&expected, &set(&[3.0, 4.0]), false));
        assert!(!nearly_same(&expected, &set(&[f32::NAN, 4.0, 0.0]), false));
        assert!(!nearly_same(&expected, &[], false));
    }

    #[test]
    fn another_length_is_the_same_only_where_directions_count() {
        let (expected, normalised) = (set(&[3.0, 4.0]), set(&[0.6, 0.8]));
        assert!(nearly_same(&expected, &normalised, true));
        assert!(!nearly_same(&expected, &normalised, false));
        assert!(!nearly_same(&expected, &set(&[0.8, 0.6]), true));
        assert!(nearly_same(&set(&[0.0, 0.0]), &set(&[0.0, 0.0]), true));
        assert!(!nearly_same(&expected, &set(&[0.0, 0.0]), true));
    }
}
