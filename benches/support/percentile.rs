//! Percentiles of times.

/// The time below which `share` of the times lie.
pub(crate) fn percentile(times: &mut [f64], share: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    let place = (times.len() as f64 * share).ceil() as usize;
    times[place.saturating_sub(1)]
}
