//! Percentiles of times.

/// The time below which `share` of the times lie; no number if there are none.
pub(crate) fn percentile(times: &mut [f64], share: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    let place = (times.len() as f64 * share).ceil() as usize;
    let time = times.get(place.saturating_sub(1));
    time.copied().unwrap_or(f64::NAN)
}
