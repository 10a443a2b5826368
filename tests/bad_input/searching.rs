//! Limits and filters out of range, and a clock that goes back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use dbmanager::{BoxFuture, Runtime, RuntimeServices, model::Timestamp, prelude::*};

use crate::common::embedded::{Home, World, assert_sound, close, get, hits, store};

const NOW: i64 = 1_800_000_000_000;
const HOUR: i64 = 60 * 60 * 1_000;
const YEAR: i64 = 365 * 24 * HOUR;

#[tokio::test]
async fn a_search_limit_of_0_or_above_1000_is_invalid() {
    let world = World::new().await;
    for limit in [0, 1_001, usize::MAX] {
        for query in [
            Query::hybrid("lighthouse"),
            Query::semantic("lighthouse"),
            Query::metadata("lighthouse"),
            Query::related_to(["earlier"]),
        ] {
            let error = world
                .db
                .search_documents("c", query.limit(limit))
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(error.message(), "limit is not in 1 to 1000");
        }
    }
    let highest = Query::hybrid("lighthouse").limit(1_000);
    assert_eq!(hits(&world.db, "c", highest).await, ["earlier"]);
    world.end_with(0).await;
}

#[tokio::test]
async fn a_list_limit_of_0_or_above_1000_is_invalid() {
    let world = World::new().await;
    for limit in [0, 1_001, usize::MAX] {
        let error = world
            .db
            .list_documents("c", None, None, limit)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    let page = world
        .db
        .list_documents("c", None, None, 1_000)
        .await
        .unwrap();
    assert_eq!((page.documents.len(), page.next), (1, None));
    world.end_with(0).await;
}

/// Also of what no search is: a list, a count.
#[tokio::test]
async fn a_filter_out_of_bounds_is_invalid_everywhere() {
    let world = World::new().await;
    let deep = (0..200).fold(field("a").eq(1), |filter, _| !filter);
    for filter in [deep, field("a").lt(f64::NAN), field("a").eq("\0")] {
        let db = &world.db;
        let query = Query::metadata("").filter(filter.clone());
        for error in [
            db.search_documents("c", query).await.unwrap_err(),
            db.list_documents("c", Some(filter.clone()), None, 10)
                .await
                .unwrap_err(),
            db.count("c", Some(filter)).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    }
    world.end_with(0).await;
}

#[tokio::test]
async fn a_filter_on_an_unknown_field_matches_nothing_and_its_negation_everything() {
    let world = World::new().await;
    let none = [
        field("nowhere").eq(1),
        field("nowhere").lt("z"),
        field("nowhere").is_in(["a"]),
        field("nowhere").exists(),
        field_path(["no", "where"]).eq(true),
        !field("nowhere").ne(1),
    ];
    let all = [
        field("nowhere").ne(1),
        !field("nowhere").eq(1),
        !field("nowhere").exists(),
        field_path(["no", "where"]).ne("x"),
    ];
    let expected = none
        .into_iter()
        .map(|filter| (filter, 0))
        .chain(all.into_iter().map(|filter| (filter, 1)));
    for (filter, found) in expected {
        for query in [
            Query::hybrid("lighthouse"),
            Query::semantic("lighthouse"),
            Query::metadata("lighthouse"),
            Query::graph("lighthouse"),
            Query::metadata(""),
        ] {
            let query = query.filter(filter.clone());
            assert_eq!(
                hits(&world.db, "c", query.clone()).await.len(),
                found,
                "{query:?}"
            );
        }
        let count = world.db.count("c", Some(filter.clone())).await.unwrap();
        assert_eq!(count.documents, found as u64, "{filter:?}");
        let page = world
            .db
            .list_documents("c", Some(filter.clone()), None, 10)
            .await
            .unwrap();
        assert_eq!(page.documents.len(), found, "{filter:?}");
    }
    world.end_with(0).await;
}

/// A wall clock that the test sets; everything else is tokio's.
struct Clock {
    now: AtomicI64,
    drawn: AtomicU64,
    start: tokio::time::Instant,
}

impl RuntimeServices for Clock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_milliseconds(self.now.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        let drawn = self.drawn.fetch_add(1, Ordering::SeqCst).to_le_bytes();
        for (byte, drawn) in bytes.iter_mut().rev().zip(drawn) {
            *byte = drawn;
        }
    }

    fn spawn(&self, future: BoxFuture<'static, ()>) {
        tokio::spawn(future);
    }

    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        tokio::task::spawn_blocking(work);
    }
}

impl Clock {
    fn start() -> Arc<Self> {
        Arc::new(Self {
            now: AtomicI64::new(NOW),
            drawn: AtomicU64::new(1),
            start: tokio::time::Instant::now(),
        })
    }

    async fn open(self: &Arc<Self>, home: &Home) -> DatabaseManager {
        dbmanager::builder(home.config())
            .runtime(Runtime::new(Arc::clone(self) as _))
            .open()
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn while_the_clock_goes_back_versions_grow_and_the_newer_write_wins() {
    let home = Home::new();
    let clock = Clock::start();
    let mut newest = Version::ZERO;
    // The last two lie before the epoch and far ahead.
    for (number, now) in [NOW, NOW - 1, NOW - YEAR, YEAR, -YEAR, NOW + 100 * YEAR]
        .into_iter()
        .enumerate()
    {
        clock.now.store(now, Ordering::SeqCst);
        let db = clock.open(&home).await;
        for step in 0..3 {
            clock.now.fetch_sub(step, Ordering::SeqCst);
            let text = format!("write {number}.{step}");
            let receipt = store(&db, "c", Document::new("a").text(&text)).await;
            assert!(receipt.version > newest, "{:?}", receipt.version);
            newest = receipt.version;
            assert_eq!(get(&db, "c", "a").await.unwrap().text, text);
            let query = Query::metadata(&text).limit(1);
            let answer = db.search_documents("c", query).await.unwrap();
            assert_eq!(answer.hits[0].version, newest);
        }
        assert_sound(&db, 1).await;
        close(db).await;
    }
}

#[tokio::test]
async fn a_clock_that_was_ahead_for_days_and_is_set_right_stops_no_write() {
    let home = Home::new();
    let clock = Clock::start();
    let db = clock.open(&home).await;
    for now in [NOW, NOW + YEAR, NOW + YEAR + 48 * HOUR, NOW] {
        clock.now.store(now, Ordering::SeqCst);
        for _ in 0..2 {
            store(&db, "c", Document::new("a").text(now.to_string())).await;
            crate::common::eventually("the journal lets go", || db.health().journal.entries == 0)
                .await;
        }
    }
    close(db).await;
}
