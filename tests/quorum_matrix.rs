//! Every combination of what three stores do, at every level, for every kind of write: the outcome
//! is exactly the contract's, and when the stores are well again all of them agree.
#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

mod common;

use std::time::Duration;

use common::{Mode, Rig, caught_up, eventually};
use dbmanager_core::{
    CircuitState, DatabaseManager, Error, ErrorKind, Result, WriteOutcome,
    health::StoreHealth,
    model::{Document, Level, Precondition, Receipt, Role, StoreWriteState, Version},
};

const MODES: [Mode; 4] = [Mode::Up, Mode::Down, Mode::Hang, Mode::Refuse];
const LEVELS: [Level; 4] = [Level::Journaled, Level::One, Level::Quorum, Level::All];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Write {
    Upsert,
    Delete,
    Batch,
    IfVersion,
    IfAbsent,
}

/// One cell of the matrix.
#[derive(Clone, Copy, Debug)]
struct Cell {
    /// What each store does, in the order of [`Role::ALL`].
    modes: [Mode; 3],
    level: Level,
    with_authority: bool,
    write: Write,
}

/// What the contract says of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Reached,
    Pending { unreachable: bool },
    Rejected,
}

impl Cell {
    fn mode(&self, role: Role) -> Mode {
        let place = Role::ALL.iter().position(|each| *each == role).unwrap();
        self.modes[place]
    }

    fn with(&self, mode: Mode) -> usize {
        self.modes.iter().filter(|each| **each == mode).count()
    }

    /// Written from the contract's text, not from the code: levels of three stores (rule 7), the
    /// three outcomes (rules 8 and 9), preconditions on history that the journal has let go of
    /// (rule 11).
    fn expected(&self) -> Expected {
        let authority = self.mode(Role::Relational);
        let asks_authority = matches!(self.write, Write::IfVersion | Write::IfAbsent);
        if asks_authority && matches!(authority, Mode::Down | Mode::Hang) {
            return Expected::Rejected;
        }
        let required = match self.level {
            Level::Journaled => 0,
            Level::One => 1,
            Level::Quorum => 2,
            Level::All => 3,
        };
        let demands = |fulfils: &dyn Fn(Mode) -> bool| !self.with_authority || fulfils(authority);
        let up = |mode| mode == Mode::Up;
        let may_come = |mode| mode != Mode::Refuse;
        if self.with(Mode::Up) >= required && demands(&up) {
            Expected::Reached
        } else {
            let possible = 3 - self.with(Mode::Refuse) >= required && demands(&may_come);
            Expected::Pending {
                unreachable: !possible,
            }
        }
    }

    /// Writes what the cell says; `old` is the version of the document that is there already.
    async fn write(&self, db: &DatabaseManager, old: Version) -> Result<Vec<Result<Receipt>>> {
        let document = |id: &str| Document::new(id).title("new").text("some new words");
        macro_rules! at_level {
            ($builder:expr) => {{
                let builder = $builder.level(self.level);
                match self.with_authority {
                    true => builder.with_authority(),
                    false => builder,
                }
            }};
        }
        let one = match self.write {
            Write::Upsert => at_level!(db.store_document("c", document("new"))).await,
            Write::Delete => at_level!(db.delete_document("c", "old")).await,
            Write::IfVersion => {
                let write = db.store_document("c", document("old"));
                at_level!(write.precondition(Precondition::Version(old))).await
            }
            Write::IfAbsent => {
                let write = db.store_document("c", document("new"));
                at_level!(write.precondition(Precondition::Absent)).await
            }
            Write::Batch => {
                let documents = ["n0", "n1", "n2"].map(document);
                return at_level!(db.store_documents("c", documents)).await;
            }
        };
        Ok(vec![one])
    }
}

fn outcome(answer: &Result<Receipt>) -> Expected {
    match answer {
        Ok(receipt) => {
            assert!(receipt.level_reached());
            Expected::Reached
        }
        Err(error) => match error.write_outcome() {
            Some(WriteOutcome::Pending(receipt)) => {
                assert_eq!(error.kind(), ErrorKind::LevelNotReached);
                Expected::Pending {
                    unreachable: receipt.unreachable,
                }
            }
            Some(WriteOutcome::Rejected) => Expected::Rejected,
            other => panic!("{other:?}: {error:?}"),
        },
    }
}

fn receipt(answer: &Result<Receipt>) -> Option<&Receipt> {
    match answer {
        Ok(receipt) => Some(receipt),
        Err(error) => match error.write_outcome() {
            Some(WriteOutcome::Pending(receipt)) => Some(receipt),
            _ => None,
        },
    }
}

/// A receipt says of no store more, and of none less, than what it has done.
fn assert_true_of_the_stores(cell: &Cell, receipt: &Receipt) {
    for store in &receipt.stores {
        let possible: &[StoreWriteState] = match cell.mode(store.role) {
            // The level may have been reached before this one answered.
            Mode::Up => &[StoreWriteState::Applied, StoreWriteState::Pending],
            Mode::Refuse => &[StoreWriteState::Parked, StoreWriteState::Pending],
            _ => &[StoreWriteState::Pending],
        };
        assert!(possible.contains(&store.state), "{store:?}");
    }
}

async fn holds(cell: Cell) {
    let rig = Rig::new();
    let db = rig.open().await;
    let before = Document::new("old").title("old").text("some old words");
    let stored = db.store_document("c", before.clone()).level(Level::All);
    let old = stored.await.unwrap().version;
    eventually("the journal lets go", || db.health().journal.entries == 0).await;
    for role in Role::ALL {
        rig.switch(role).set(cell.mode(role));
    }

    let answers = cell.write(&db, old).await.unwrap();
    let count = if cell.write == Write::Batch { 3 } else { 1 };
    assert_eq!(answers.len(), count);
    for answer in &answers {
        assert_eq!(outcome(answer), cell.expected(), "{answer:#?}");
        if let Some(receipt) = receipt(answer) {
            assert_true_of_the_stores(&cell, receipt);
        }
    }
    assert_shown(&cell, &db, &before, &answers).await;

    let accepted: Vec<Version> = answers
        .iter()
        .filter_map(receipt)
        .map(Version::from)
        .collect();
    let refusing: Vec<Role> = Role::ALL
        .into_iter()
        .filter(|role| cell.mode(*role) == Mode::Refuse)
        .collect();
    for role in &refusing {
        eventually("what it refuses is parked", || {
            parked(&db, *role) == accepted.len()
        })
        .await;
    }
    for role in Role::ALL {
        rig.switch(role).set(Mode::Up);
    }
    for role in refusing {
        for version in &accepted {
            db.retry_parked(role, *version).await.unwrap();
        }
    }
    eventually("every store catches up", || caught_up(&db)).await;
    // Nobody may have asked a store that is back: then its circuit is open for a while yet.
    eventually("no circuit is open", || {
        let closed = |store: &StoreHealth| store.circuit == CircuitState::Closed;
        db.health().stores.iter().all(closed)
    })
    .await;
    assert!(db.check_consistency().await.unwrap().is_consistent());
    assert_shown(&cell, &db, &before, &answers).await;
    db.close(Duration::from_secs(10)).await.unwrap();
}

/// An accepted write is read back whatever the stores do; a rejected one shows nowhere. Only what
/// the journal does not hold may be an error while the authority cannot be asked.
async fn assert_shown(
    cell: &Cell,
    db: &DatabaseManager,
    before: &Document,
    answers: &[Result<Receipt>],
) {
    let shown = async |id: &str| {
        let found = db.get_document("c", id).await?;
        Ok::<_, Error>(found.map(|found| found.document.title))
    };
    match cell.expected() {
        Expected::Rejected => match shown("old").await {
            Ok(title) => assert_eq!(title.as_ref(), Some(&before.title)),
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        },
        Expected::Reached | Expected::Pending { .. } => {
            for answer in answers {
                let id = &receipt(answer).unwrap().id;
                let title = (cell.write != Write::Delete).then(|| "new".to_owned());
                assert_eq!(shown(id).await.unwrap(), title);
            }
        }
    }
}

fn parked(db: &DatabaseManager, role: Role) -> usize {
    usize::try_from(db.health().store(role).unwrap().parked).unwrap()
}

async fn every_cell_of(write: Write) {
    for first in MODES {
        for second in MODES {
            for third in MODES {
                for level in LEVELS {
                    for with_authority in [false, true] {
                        let cell = Cell {
                            modes: [first, second, third],
                            level,
                            with_authority,
                            write,
                        };
                        // Shown by the test harness if the cell fails.
                        println!("{cell:?}: {:?}", cell.expected());
                        holds(cell).await;
                    }
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn upserts() {
    every_cell_of(Write::Upsert).await;
}

#[tokio::test(start_paused = true)]
async fn deletes() {
    every_cell_of(Write::Delete).await;
}

#[tokio::test(start_paused = true)]
async fn batches() {
    every_cell_of(Write::Batch).await;
}

#[tokio::test(start_paused = true)]
async fn preconditions_on_a_version() {
    every_cell_of(Write::IfVersion).await;
}

#[tokio::test(start_paused = true)]
async fn preconditions_on_absence() {
    every_cell_of(Write::IfAbsent).await;
}
