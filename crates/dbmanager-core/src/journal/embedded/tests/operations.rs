//! How operations are forgotten. What holds of every journal is in the conformance suite.

use super::*;
use crate::journal::TruncateRequest;

async fn truncate(f: &Fixture, versions: &[Version]) {
    let request = TruncateRequest {
        versions: versions.to_vec(),
        progress: Vec::new(),
    };
    f.journal.truncate(request).await.unwrap();
}

/// A day with its margin, so that everything truncated before is due.
fn retention(f: &Fixture) -> i64 {
    i64::try_from(f.options.retention.as_millis()).unwrap() + 1
}

#[tokio::test]
async fn forgetting_takes_bounded_steps() {
    const COUNT: usize = 600;
    let f = Fixture::new().await;
    let requests = (0..COUNT).map(|_| f.upsert("a")).collect();
    let mut operations = Vec::new();
    for answer in f.journal.append(requests).await {
        match answer.unwrap() {
            Appended::New(header) => operations.push(header.operation_id),
            Appended::Repeated(_) => panic!("nothing has a key"),
        }
    }
    truncate(&f, &f.live_versions().await).await;
    f.clock.advance(retention(&f));
    let kept = async || {
        let tables = f
            .journal
            .engine
            .read(|tables| Ok((tables.operations.count()?, tables.expiry.count()?)));
        tables.await.unwrap()
    };
    for left in [600, 344, 88, 0] {
        assert_eq!(kept().await, (left, left));
        truncate(&f, &[]).await;
    }
}
