//! A store that was away comes back: how fast it gets its backlog from the journal, and what that
//! costs those who write and read meanwhile. Each role in turn is switched off while documents are
//! written, and switched on again.
//!
//! Replaying is compared with the store's own `apply` of the same documents in the same batches,
//! without a journal, right before and right after. Reading and writing during the replay are
//! compared with the same afterwards, while the store is away (then too every write waits for both
//! others), and while a store that is nobody's applies as much on the same disk: that much of the
//! difference is no journal's and no sender's.

#[path = "support/documents.rs"]
mod documents;
#[path = "support/percentile.rs"]
mod percentile;
#[path = "support/raw_apply.rs"]
mod raw_apply;
#[path = "support/vectors.rs"]
mod vectors;

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use dbmanager::{
    model::{Collection, Document, Receipt},
    prelude::*,
};
use documents::document;
use futures_util::future::join;
use percentile::percentile;
use raw_apply::raw_apply;

const COLLECTION: &str = "documents";
const DIMENSION: usize = 384;
const DOCUMENTS: u64 = 40_000;
/// Documents journaled at once while the store is away.
const WRITTEN_AT_ONCE: usize = 1_000;
/// Documents in the middle of a backlog, among which the last one is.
const LAST: usize = 2_000;
/// Each is measured so often, in turns, so that what else the machine does falls on all.
const ROUNDS: u64 = 5;
/// Numbers of documents that the foreground writes, above all others.
const FOREGROUND: u64 = 1 << 40;
const PATIENCE: Duration = Duration::from_secs(300);

async fn open(config: Config) -> DatabaseManager {
    let db = DatabaseManager::open(config).await;
    db.expect("the stores open")
}

async fn close(db: DatabaseManager) {
    db.close(PATIENCE).await.expect("the stores close");
}

/// Waits until the store has these.
async fn caught_up(db: &DatabaseManager, written: &[Receipt], patience: Duration) {
    for receipt in written {
        let waited = db.wait_for(receipt, Level::All, patience).await;
        waited.expect("the store catches up");
    }
}

/// A backlog that nobody adds to is sent from both of its ends in turn: what is in the middle comes
/// last. To wait for each document would cost what is measured a part of the processor.
fn last_sent(written: &[Receipt]) -> &[Receipt] {
    let middle = written.len() / 2;
    &written[middle.saturating_sub(LAST / 2)..(middle + LAST / 2).min(written.len())]
}

/// Stores in which every collection is ready, closed.
async fn prepare(directory: &Path) -> Collection {
    let db = open(Config::embedded(directory)).await;
    let write = db.store_document(COLLECTION, document(0, DIMENSION));
    write.level(Level::All).await.expect("stored");
    let collection = db.collections().remove(0);
    close(db).await;
    collection
}

/// Writes documents without the store of a role, then the foreground so many.
async fn write_without(
    role: Role,
    directory: &Path,
    documents: Vec<Document>,
    foreground_writes: u64,
) -> (Vec<Receipt>, Times) {
    let db = open(Config::embedded(directory).disable(role)).await;
    let count = documents.len() as u64;
    let mut written = Vec::new();
    for batch in documents.chunks(WRITTEN_AT_ONCE) {
        let receipts = db.store_documents(COLLECTION, batch.to_vec()).await;
        for receipt in receipts.expect("the batch is journaled") {
            written.push(receipt.expect("stored"));
        }
    }
    let away = foreground(&db, FOREGROUND, count, |n| n < foreground_writes).await;
    close(db).await;
    (written, away)
}

/// Seconds that writes and reads of single documents took.
#[derive(Default)]
struct Times {
    write: Vec<f64>,
    read: Vec<f64>,
}

/// Writes and reads in turns, one after the other, while `goes_on` says so.
async fn foreground(
    db: &DatabaseManager,
    first: u64,
    count: u64,
    goes_on: impl Fn(u64) -> bool,
) -> Times {
    let mut times = Times::default();
    for number in (0..).take_while(|number| goes_on(*number)) {
        let document = document(first + number, DIMENSION);
        let id = format!("document-{}", number * 7_919 % count);
        let started = Instant::now();
        let stored = db.store_document(COLLECTION, document).await;
        times.write.push(started.elapsed().as_secs_f64());
        stored.expect("stored");
        let started = Instant::now();
        let read = db.get_document(COLLECTION, id).await;
        match read {
            Ok(_) => times.read.push(started.elapsed().as_secs_f64()),
            // Without the authority there is nothing to read from, and nothing to compare.
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}"),
        }
    }
    times
}

/// The foreground until something else has ended.
async fn foreground_while<T>(
    db: &DatabaseManager,
    first: u64,
    count: u64,
    something: impl Future<Output = T>,
) -> Times {
    let ended = AtomicBool::new(false);
    let goes_on = |_| !ended.load(Ordering::Relaxed);
    let something = async {
        something.await;
        ended.store(true, Ordering::Relaxed);
    };
    join(foreground(db, first, count, goes_on), something)
        .await
        .0
}

/// What one round measures, in seconds.
struct Round {
    raw: f64,
    replay: f64,
    opening: f64,
    /// As `replay`, while others write and read.
    beside_others: f64,
    away: Times,
    during: Times,
    after: Times,
    beside: Times,
}

async fn round(role: Role, service: &str, count: u64) -> Round {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let directory = directory.path();
    let collection = prepare(directory).await;
    let numbered = |numbers: std::ops::Range<u64>| -> Vec<Document> {
        numbers.map(|number| document(number, DIMENSION)).collect()
    };
    let config = || Config::embedded(directory);
    let batch = config().settings().expect("valid").performance.batch_size;
    let apply_raw = || raw_apply(role, service, &collection, numbered(1..count + 1), batch);

    let (written, _) = write_without(role, directory, numbered(1..count + 1), 0).await;
    // Right before and right after: a machine is not always equally fast.
    let raw_before = apply_raw().await;
    let started = Instant::now();
    let db = open(config()).await;
    let opening = started.elapsed();
    let started = Instant::now();
    caught_up(&db, last_sent(&written), PATIENCE).await;
    let replay = started.elapsed();
    // They were the last, or this fails.
    caught_up(&db, &written, Duration::ZERO).await;
    close(db).await;
    let raw_after = apply_raw().await;
    let raw = (raw_before + raw_after) / 2;

    let further = numbered(count + 1..2 * count + 1);
    let (written, away) = write_without(role, directory, further, count / 40).await;
    let db = open(config()).await;
    let started = Instant::now();
    let during = foreground_while(
        &db,
        2 * FOREGROUND,
        count,
        caught_up(&db, &written, PATIENCE),
    )
    .await;
    let beside_others = started.elapsed();
    // Letting go of what was replayed is a part of it.
    while db.health().journal.entries > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let times = during.write.len() as u64;
    let after = foreground(&db, 3 * FOREGROUND, count, |number| number < times).await;
    let applying = raw_apply(role, service, &collection, numbered(1..count + 1), batch);
    let beside = foreground_while(&db, 4 * FOREGROUND, count, applying).await;
    close(db).await;
    Round {
        raw: raw.as_secs_f64(),
        replay: replay.as_secs_f64(),
        opening: opening.as_secs_f64(),
        beside_others: beside_others.as_secs_f64(),
        away,
        during,
        after,
        beside,
    }
}

/// The middle one of several rounds.
fn median(mut values: Vec<f64>) -> f64 {
    percentile(&mut values, 0.5)
}

fn print(role: Role, count: u64, rounds: &mut [Round]) {
    let rate = |seconds: f64| count as f64 / seconds;
    let of = |value: fn(&Round) -> f64| median(rounds.iter().map(value).collect());
    let (raw, replay) = (rate(of(|round| round.raw)), rate(of(|round| round.replay)));
    println!(
        "{role}: replayed {replay:.0} documents/s, applied without a journal {raw:.0}: {:.2}; \
         {:.0} while others write; opened with the backlog in {:.2} s",
        of(|round| round.replay / round.raw).recip(),
        rate(of(|round| round.beside_others)),
        of(|round| round.opening),
    );
    for share in [0.5, 0.99] {
        print_times("write", share, rounds, |times| &mut times.write);
        print_times("read", share, rounds, |times| &mut times.read);
    }
}

/// A part of a round in which the foreground was measured.
type Part = fn(&mut Round) -> &mut Times;

fn print_times(what: &str, share: f64, rounds: &mut [Round], of: fn(&mut Times) -> &mut Vec<f64>) {
    let mut milliseconds = |part: Part| {
        let rounds = rounds.iter_mut();
        median(
            rounds
                .map(|round| percentile(of(part(round)), share) * 1e3)
                .collect(),
        )
    };
    let during = milliseconds(|round| &mut round.during);
    let share = share * 100.0;
    print!("  {what} p{share:.0} {during:.2} ms while it is replayed");
    let others: [(&str, Part); 3] = [
        ("afterwards", |round| &mut round.after),
        ("while it is away", |round| &mut round.away),
        ("beside another store", |round| &mut round.beside),
    ];
    for (when, part) in others {
        let other = milliseconds(part);
        // While the authority is away there are no reads.
        if other.is_finite() {
            print!("; ÷ {other:.2} {when} = {:.2}", during / other);
        }
    }
    println!();
}

/// `cargo bench --bench replay -- vector` measures that role alone.
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_trial = arguments.iter().any(|argument| argument == "--test");
    let named = |role: Role| arguments.iter().any(|argument| argument == role.as_str());
    let all = !Role::ALL.into_iter().any(named);
    let (count, rounds) = if is_trial {
        (200, 1)
    } else {
        (DOCUMENTS, ROUNDS)
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let roles = [
        (Role::Vector, "embedded"),
        (Role::Graph, "sqlite"),
        (Role::Relational, "sqlite"),
    ];
    for (role, service) in roles.into_iter().filter(|(role, _)| all || named(*role)) {
        let mut measured: Vec<Round> = (0..rounds)
            .map(|_| runtime.block_on(round(role, service, count)))
            .collect();
        print(role, count, &mut measured);
    }
}
