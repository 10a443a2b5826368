//! The server is away: writes and reads say so, nothing hangs, and it catches up by itself.

use std::time::Duration;

use dbmanager::prelude::*;
use dbmanager_core::model::{LegReport, OperationStatus, StoreWriteState};

use super::{
    documents::{document, id, own_word, revised},
    ledger::Ledger,
    main_job::{assert_found, fill},
    waiting::{PATIENCE, let_go, store_health, until, within},
    world::{World, close},
};
use crate::proxy::Fault;

const COLLECTION: &str = "papers";
/// Of a write or a search in this scenario.
const DEADLINE: Duration = Duration::from_secs(5);

pub(super) async fn run(world: World) {
    let world = world.impatient();
    let db = world.open().await;
    let mut ledger = Ledger::default();
    fill(&db, &mut ledger, COLLECTION, 0..40).await;
    let_go(&db).await;

    world.proxy.set(Fault::Cut).await;
    let receipts = write(&db, &mut ledger, world.role()).await;
    read(&db, &world).await;
    search(&db, world.role()).await;
    assert_degraded(&db, world.role()).await;

    world.proxy.set(Fault::None).await;
    ledger.assert_held_by(&db).await;
    assert_found(&db, &ledger, COLLECTION, &[3, 45]).await;
    for receipt in receipts {
        db.wait_for(&receipt, Level::All, PATIENCE).await.unwrap();
        let status = db.status(receipt.operation_id).await.unwrap();
        assert_eq!(status, OperationStatus::Done(receipt.version));
    }

    // It may also be away at the opening.
    world.proxy.set(Fault::Cut).await;
    within("closing", DEADLINE, db.close(DEADLINE)).await.ok();
    let db = within("opening", world.query_timeout(), world.open()).await;
    db.store_document(COLLECTION, document(70)).await.unwrap();
    ledger.stored(COLLECTION, document(70));
    world.proxy.set(Fault::None).await;
    ledger.assert_held_by(&db).await;
    close(db).await;
    let db = world.open().await;
    ledger.assert_held_by(&db).await;
    world.finish(db).await;
}

/// A quorum acknowledges; a level that needs the store is pending, and so is what is left over.
async fn write(db: &DatabaseManager, ledger: &mut Ledger, role: Role) -> Vec<Receipt> {
    let mut receipts = Vec::new();
    for document in (40..60).map(document).chain((0..5).map(revised)) {
        let write = db
            .store_document(COLLECTION, document.clone())
            .timeout(DEADLINE);
        let receipt = within("a write", DEADLINE, write).await.unwrap();
        assert_left_over(&receipt, role);
        receipts.push(receipt);
        ledger.stored(COLLECTION, document);
    }
    for number in 10..15 {
        let write = db.delete_document(COLLECTION, id(number)).timeout(DEADLINE);
        let receipt = within("a delete", DEADLINE, write).await.unwrap();
        assert_left_over(&receipt, role);
        receipts.push(receipt);
        ledger.deleted(COLLECTION, &id(number));
    }
    let short = Duration::from_millis(500);
    let all = db
        .store_document(COLLECTION, document(60))
        .level(Level::All);
    receipts.push(pending(within("a write", short, all.timeout(short)).await));
    ledger.stored(COLLECTION, document(60));
    if role == Role::Relational {
        let write = db.store_document(COLLECTION, document(61)).with_authority();
        receipts.push(pending(
            within("a write", short, write.timeout(short)).await,
        ));
        ledger.stored(COLLECTION, document(61));
    }
    until("the other stores have everything", async || {
        let health = db.health();
        let others = health.stores.iter().filter(|store| store.role != role);
        let behind: Vec<_> = others.filter(|store| store.backlog > 0).cloned().collect();
        if behind.is_empty() {
            Ok(())
        } else {
            Err(behind)
        }
    })
    .await;
    receipts
}

fn assert_left_over(receipt: &Receipt, role: Role) {
    assert!(receipt.level_reached());
    let left_over: Vec<_> = receipt
        .pending()
        .map(|store| (store.role, store.state))
        .collect();
    assert_eq!(left_over, [(role, StoreWriteState::Pending)], "{receipt:?}");
}

/// The receipt of a write whose level was not reached.
fn pending(answer: Result<Receipt, Error>) -> Receipt {
    let error = answer.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LevelNotReached);
    match error.write_outcome() {
        Some(WriteOutcome::Pending(receipt)) => (**receipt).clone(),
        other => panic!("{other:?}: {error:?}"),
    }
}

/// The manager reads its own writes; what only the authority knows is an error without it.
async fn read(db: &DatabaseManager, world: &World) {
    let (role, deadline) = (world.role(), world.query_timeout());
    let get = async |number| {
        let get = db.get_document(COLLECTION, id(number));
        within("a read", deadline, get)
            .await
            .map(|found| found.map(|f| f.document))
    };
    assert_eq!(get(45).await.unwrap(), Some(document(45)));
    assert_eq!(get(2).await.unwrap(), Some(revised(2)));
    assert_eq!(get(12).await.unwrap(), None, "it was deleted");
    if role == Role::Relational {
        for number in [20, 9_999] {
            let error = get(number).await.unwrap_err();
            assert!(
                matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout),
                "{error:?}"
            );
        }
        let count = within("a count", deadline, db.count(COLLECTION, None)).await;
        count.unwrap_err();
        let list = db.list_documents(COLLECTION, None, None, 10);
        within("a list", deadline, list).await.unwrap_err();
    } else {
        assert_eq!(get(20).await.unwrap(), Some(document(20)));
        assert_eq!(get(9_999).await.unwrap(), None);
        assert_eq!(db.count(COLLECTION, None).await.unwrap().documents, 56);
    }
}

/// The leg is named, the others answer.
async fn search(db: &DatabaseManager, role: Role) {
    let text = format!("harbour and lantern {}", own_word(45));
    let query = Query::hybrid(text).timeout(DEADLINE);
    let search = db.search_documents(COLLECTION, query);
    let answer = within("a search", DEADLINE, search).await.unwrap();
    assert!(answer.degraded(), "{answer:#?}");
    let away = |leg: &&LegReport| leg.leg.role() == role;
    let leg = answer
        .legs()
        .iter()
        .find(away)
        .expect("every leg is reported");
    assert!(
        matches!(
            leg.outcome,
            LegOutcome::Failed | LegOutcome::TimedOut | LegOutcome::CircuitOpen
        ),
        "{answer:#?}"
    );
    assert!(leg.error.is_some(), "{answer:#?}");
    for leg in answer.legs().iter().filter(|leg| !away(leg)) {
        assert_eq!(leg.outcome, LegOutcome::Answered, "{answer:#?}");
    }
    let found = answer.hits.iter().find(|hit| *hit.id == *id(45));
    let found = found.unwrap_or_else(|| panic!("{answer:#?}"));
    assert_eq!(found.document.as_ref(), Some(&document(45)));
    // Alone, the leg cannot answer at all.
    let alone = match role {
        Role::Vector => Query::semantic("harbour"),
        Role::Graph => Query::related_to([id(30)]),
        Role::Relational => Query::metadata("harbour"),
    };
    let search = db.search_documents(COLLECTION, alone.timeout(DEADLINE));
    let error = within("a search", DEADLINE, search).await.unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout),
        "{error:?}"
    );
}

async fn assert_degraded(db: &DatabaseManager, role: Role) {
    until("the monitor sees that the store is away", async || {
        let health = db.health();
        let store = store_health(db, role);
        if health.status == HealthStatus::Degraded && store.reachable == Some(false) {
            Ok(())
        } else {
            Err(health)
        }
    })
    .await;
    let health = db.health();
    assert!(
        health.writes(Level::Quorum) && !health.writes(Level::All),
        "{health:#?}"
    );
    let store = store_health(db, role);
    assert!(store.backlog >= 26 && store.error.is_some(), "{store:#?}");
    for verified in db.verify_backends().await {
        assert_eq!(
            verified.error.is_some(),
            verified.role == role,
            "{verified:?}"
        );
    }
}
