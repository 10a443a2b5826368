//! A request that times out here and lands there when newer versions have been written.

use dbmanager::prelude::*;

use super::{
    documents::{document, id, revised},
    ledger::{Ledger, store},
    main_job::{assert_found, fill},
    waiting::{PATIENCE, settled, store_health, until},
    world::World,
};
use crate::proxy::Fault;

const COLLECTION: &str = "papers";

pub(super) async fn run(world: World) {
    let world = world.impatient();
    let db = world.open().await;
    let mut ledger = Ledger::default();
    fill(&db, &mut ledger, COLLECTION, 0..20).await;
    // So that no statement has to be prepared, and the request that is held is a whole one.
    for number in 0..3 {
        store(&db, &mut ledger, COLLECTION, document(number)).await;
        db.delete_document(COLLECTION, id(19))
            .level(Level::All)
            .await
            .unwrap();
        store(&db, &mut ledger, COLLECTION, document(19)).await;
    }
    settled(&db).await;

    // From the next opening of the store on, which the silence brings about, the way is free.
    world.proxy.set(Fault::HoldRequests).await;
    world.go_past_the_proxy();
    let mut late = Vec::new();
    for document in (0..4).map(revised).chain([document(25)]) {
        late.push(db.store_document(COLLECTION, document).await.unwrap());
    }
    late.push(db.delete_document(COLLECTION, id(4)).await.unwrap());
    world.proxy.until(|counts| counts.held_requests > 0).await;
    for receipt in &late {
        db.wait_for(receipt, Level::All, PATIENCE).await.unwrap();
    }

    // Newer versions, over the free way: another text, a delete, and a document that is back.
    for number in [0, 1, 4] {
        let newer = document(number).metadata("newer", true);
        store(&db, &mut ledger, COLLECTION, newer).await;
    }
    for number in [2, 3, 25] {
        db.delete_document(COLLECTION, id(number))
            .level(Level::All)
            .await
            .unwrap();
        ledger.deleted(COLLECTION, &id(number));
    }
    ledger.assert_held_by(&db).await;

    let held = world.proxy.counts().held_requests;
    assert!(held > 0, "nothing was held");
    world.proxy.set(Fault::None).await;
    world.proxy.until(|counts| counts.held_requests == 0).await;
    // What landed is carried out beside this.
    for number in 100..130 {
        store(&db, &mut ledger, COLLECTION, document(number)).await;
    }
    ledger.assert_held_by(&db).await;
    assert_found(&db, &ledger, COLLECTION, &[0, 1, 4, 7]).await;
    until("the store is in no doubt", async || {
        let store = store_health(&db, world.role());
        if store.backlog == 0 {
            Ok(())
        } else {
            Err(store)
        }
    })
    .await;
    ledger.assert_held_by(&db).await;
    world.finish(db).await;
}
