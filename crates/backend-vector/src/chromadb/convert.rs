//! The server's own words for what failed, and its records.

use std::time::Duration;

use dbmanager_backend_support::http::Answer;
use dbmanager_core::{
    backend::{BackendError, BackendErrorKind},
    model::Metric,
};
use serde::Deserialize;
use serde_json::{Map, Value};

/// What the server says when it refuses.
#[derive(Debug, Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    error: String,
    #[serde(default)]
    message: String,
}

/// The most bytes of the server's own text that an error repeats: it repeats what it was sent.
const MAX_TEXT_BYTES: usize = 300;

/// The error in an answer without success.
///
/// `content`: the request carried content of documents, so that a refusal of the request is one of
/// the content.
pub(super) fn error(answer: &Answer, content: bool) -> BackendError {
    let refusal: Refusal = answer.json().unwrap_or_default();
    let mut text = refusal.message;
    if text.len() > MAX_TEXT_BYTES {
        let mut end = MAX_TEXT_BYTES;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    let own = |kind| BackendError::new(kind, format!("{}: {text}", refusal.error));
    match (answer.status(), refusal.error.as_str()) {
        (404, "NotFoundError") => own(BackendErrorKind::CollectionMissing).not_applied(),
        (400 | 422, name) if content && !name.is_empty() => {
            own(BackendErrorKind::Refused).not_applied()
        }
        (400 | 422, name) if !name.is_empty() => own(BackendErrorKind::Protocol).not_applied(),
        // A write that the server's database was too busy for.
        (500, _) if text.contains("database is locked") => answer
            .error(&text)
            .with_retry_after(Duration::from_millis(50)),
        _ => answer.error(&text),
    }
}

pub(super) fn protocol(message: impl Into<String>) -> BackendError {
    BackendError::new(BackendErrorKind::Protocol, message)
}

/// A collection as the server describes it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ServerCollection {
    pub(super) id: String,
    pub(super) name: String,
    #[serde(default)]
    pub(super) metadata: Option<Map<String, Value>>,
    #[serde(default)]
    pub(super) dimension: Option<u64>,
}

/// Records read by id or condition.
#[derive(Debug, Deserialize)]
pub(super) struct Records {
    pub(super) ids: Vec<String>,
    #[serde(default)]
    pub(super) embeddings: Option<Vec<Option<Vec<f32>>>>,
    #[serde(default)]
    pub(super) metadatas: Option<Vec<Option<Map<String, Value>>>>,
}

/// The records found for each of the vectors asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Found {
    pub(super) ids: Vec<Vec<String>>,
    #[serde(default)]
    pub(super) distances: Option<Vec<Vec<Option<f32>>>>,
}

/// The server's name of a metric.
pub(super) fn space(metric: Metric) -> Option<&'static str> {
    match metric {
        Metric::Cosine => Some("cosine"),
        Metric::Dot => Some("ip"),
        Metric::Euclidean => Some("l2"),
        _ => None,
    }
}

/// The score of a distance: of `cosine` and `ip` the server gives 1 less the product, of `l2` the
/// square. `None` for what is not a number.
pub(super) fn score(metric: Metric, distance: Option<f32>) -> Option<f64> {
    let distance = f64::from(distance?);
    let score = match metric {
        Metric::Cosine => (1.0 - distance).clamp(-1.0, 1.0),
        Metric::Dot => 1.0 - distance,
        Metric::Euclidean => -distance.max(0.0).sqrt(),
        _ => return None,
    };
    score.is_finite().then_some(score)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_become_scores() {
        assert_eq!(score(Metric::Cosine, Some(0.0)), Some(1.0));
        assert_eq!(score(Metric::Cosine, Some(2.1)), Some(-1.0));
        assert_eq!(score(Metric::Dot, Some(-4.0)), Some(5.0));
        assert_eq!(score(Metric::Euclidean, Some(25.0)), Some(-5.0));
        assert_eq!(score(Metric::Euclidean, Some(-0.1)), Some(0.0));
        assert_eq!(score(Metric::Dot, None), None);
        assert_eq!(score(Metric::Dot, Some(f32::NEG_INFINITY)), None);
    }
}
