//! More writers than connections: all of them succeed.

use dbmanager::prelude::*;
use tokio::task::JoinSet;

use super::{
    documents::{document, id, revised},
    ledger::Ledger,
    waiting::PATIENCE,
    world::World,
};

const WRITERS: usize = 64;
const READERS: usize = 16;
const CONNECTIONS: usize = 2;
const COLLECTION: &str = "papers";

pub(super) async fn run(world: World) {
    let config = world.config().adjust(|settings| {
        settings.performance.connection_pool_size = CONNECTIONS;
    });
    let db = world.open_with(config).await;
    let mut ledger = Ledger::default();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(db.clone(), writer));
    }
    writers.join_all().await;
    for writer in 0..WRITERS {
        ledger.stored(COLLECTION, revised(writer));
        ledger.deleted(COLLECTION, &id(WRITERS + writer));
    }
    // Readers of every kind at once, on the same connections.
    let mut readers = JoinSet::new();
    for reader in 0..READERS {
        readers.spawn(read(db.clone(), reader));
    }
    readers.join_all().await;
    ledger.assert_held_by(&db).await;
    world.finish(db).await;
}

async fn write(db: DatabaseManager, writer: usize) {
    for document in [
        document(writer),
        document(WRITERS + writer),
        revised(writer),
    ] {
        let write = db.store_document(COLLECTION, document).level(Level::All);
        let receipt = write.timeout(PATIENCE).await.unwrap();
        assert!(receipt.level_reached());
    }
    let write = db.delete_document(COLLECTION, id(WRITERS + writer));
    write.level(Level::All).timeout(PATIENCE).await.unwrap();
}

async fn read(db: DatabaseManager, reader: usize) {
    let found = db.get_document(COLLECTION, id(reader)).await.unwrap();
    assert_eq!(found.unwrap().document, revised(reader));
    let filter = field("number").eq(reader as i64);
    let query = Query::hybrid("harbour").filter(filter).timeout(PATIENCE);
    let answer = db.search_documents(COLLECTION, query).await.unwrap();
    assert!(!answer.degraded(), "{answer:#?}");
    let ids: Vec<_> = answer.hits.iter().map(|hit| hit.id.to_string()).collect();
    assert_eq!(ids, [id(reader)]);
}
