//! How operations are forgotten. What holds of every journal is in the conformance suite.

use super::*;
use crate::journal::{OperationLookup, TruncateRequest};

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

#[tokio::test]
async fn an_operation_is_too_old_below_the_horizon_and_not_at_it() {
    let f = Fixture::new().await;
    f.accepted(f.upsert("a")).await;
    truncate(&f, &f.live_versions().await).await;
    f.clock.advance(retention(&f));
    truncate(&f, &[]).await;
    let at = |time: i64| OperationId::new_v7(time.try_into().unwrap(), [9; 10]);
    for (operation_id, known) in [
        (at(START), OperationLookup::Expired),
        (at(START + 1), OperationLookup::Unknown),
    ] {
        assert_eq!(f.journal.operation(operation_id).await.unwrap(), known);
        let request = AppendRequest {
            operation_id,
            ..f.upsert("a")
        };
        let answer = f.append_one(request).await;
        if known == OperationLookup::Unknown {
            assert!(matches!(answer, Ok(Appended::New(_))), "{answer:?}");
        } else {
            assert_eq!(kind_of(answer), JournalErrorKind::OperationIdUsed);
        }
    }
}
