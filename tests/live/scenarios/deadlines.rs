//! The server accepts connections and says nothing: whatever has a deadline keeps it.

use std::time::Duration;

use dbmanager::prelude::*;

use super::{
    documents::{document, id},
    ledger::Ledger,
    main_job::fill,
    waiting::{let_go, until, within},
    world::World,
};
use crate::proxy::Fault;

const COLLECTION: &str = "papers";
const DEADLINE: Duration = Duration::from_secs(1);

pub(super) async fn run(world: World) {
    let world = world.impatient();
    let db = world.open().await;
    let mut ledger = Ledger::default();
    fill(&db, &mut ledger, COLLECTION, 0..20).await;
    let_go(&db).await;

    world.proxy.set(Fault::HalfOpen).await;
    let queries = [
        Query::hybrid("harbour"),
        Query::semantic("harbour"),
        Query::metadata("harbour"),
        Query::related_to([id(7)]),
    ];
    for query in queries {
        let search = db.search_documents(COLLECTION, query.timeout(DEADLINE));
        match within("a search", DEADLINE, search).await {
            Ok(answer) => assert_reported(&answer, world.role()),
            Err(error) => assert_passing(&error),
        }
    }
    let get = db.get_document(COLLECTION, id(7));
    match within("a read", world.query_timeout(), get).await {
        Ok(found) => assert_eq!(found.map(|found| found.document), Some(document(7))),
        Err(error) => {
            assert_eq!(world.role(), Role::Relational, "{error:?}");
            assert_passing(&error);
        }
    }
    let write = db
        .store_document(COLLECTION, document(30))
        .level(Level::All);
    let answer = within("a write", DEADLINE, write.timeout(DEADLINE)).await;
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::LevelNotReached);
    ledger.stored(COLLECTION, document(30));
    within("a health check", Duration::from_secs(2), db.health_check()).await;
    let verified = within(
        "a verification",
        world.query_timeout() * 2,
        db.verify_backends(),
    )
    .await;
    let silent = verified
        .iter()
        .find(|store| store.role == world.role())
        .unwrap();
    assert!(silent.error.is_some(), "{silent:?}");
    // Closing may fail, it may not hang; nothing is lost by it.
    let closed = within("closing", DEADLINE, db.close(DEADLINE)).await;
    if let Err(error) = closed {
        assert_passing(&error);
    }
    drop(db);

    world.proxy.set(Fault::None).await;
    let db = opened_again(&world).await;
    ledger.assert_held_by(&db).await;
    world.finish(db).await;
}

/// A manager whose closing ran out of time lets go of the journal when its last attempt has ended.
async fn opened_again(world: &World) -> DatabaseManager {
    let mut opened = None;
    until("the journal can be opened again", async || {
        match world.builder(world.config()).open().await {
            Ok(db) => {
                opened = Some(db);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Locked => Err(error),
            Err(error) => panic!("{error:?}"),
        }
    })
    .await;
    opened.expect("it was opened")
}

/// What an answer lacks is reported, unless it does not need the store.
fn assert_reported(answer: &SearchResponse, role: Role) {
    let asked = |leg: &LegOutcome| !matches!(leg, LegOutcome::NotAsked | LegOutcome::NotConfigured);
    let silent = answer.legs().iter().find(|leg| leg.leg.role() == role);
    let silent = silent.expect("every leg is reported");
    if asked(&silent.outcome) || role == Role::Relational {
        assert!(answer.degraded(), "{answer:#?}");
        assert_ne!(silent.outcome, LegOutcome::Answered, "{answer:#?}");
    }
}

/// Something that passes, not the caller's fault.
fn assert_passing(error: &Error) {
    assert!(
        matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout),
        "{error:?}"
    );
}
