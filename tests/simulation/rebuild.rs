//! Rebuilds while the store's requests arrive late and twice: rare among everything that a run does.

use std::{sync::Arc, time::Duration};

use dbmanager_core::{
    conformance::{FaultRates, Seeded, simulation::Simulation},
    model::{Document, Level, Role},
};

use super::{
    history::History,
    operation::{Kind, Operation, text_of},
    run::open_manager,
    world::{Durability, World},
};

const DOCUMENTS: usize = 6;
/// By then every message that was under way has arrived.
const LAST_ARRIVAL: Duration = Duration::from_secs(70);

/// Rebuilds the vector store, and returns what is wrong with it when every message has arrived.
fn rebuild(seed: u64) -> Option<String> {
    let mut random = Seeded::new(seed);
    let simulation = Simulation::new(random.next_u64());
    let history = History::new(&simulation);
    let world = World::new(&simulation, &history, &mut random);
    world.heal();
    let runtime = simulation.runtime(simulation.process());
    let found = Arc::new(std::sync::Mutex::new(None));
    let (result, clock) = (Arc::clone(&found), runtime.clone());
    drop(runtime.spawn(async move {
        let db = open_manager(&world, &history, &clock, None).await.unwrap();
        for number in 0..DOCUMENTS {
            let id = number.to_string();
            let operation = Operation::new(("papers".to_owned(), id.clone()), Kind::Put);
            let text = text_of(history.begin(operation, false), false);
            let document = Document::new(id).text(text);
            let write = db.store_document("papers", document).level(Level::All);
            write.await.unwrap();
        }
        while db.health().journal.entries > 0 {
            clock.sleep(Duration::from_millis(100)).await;
        }
        let site = world.site(Role::Vector);
        let rates = FaultRates::none().late(0.3).duplicate(0.2);
        site.link
            .faults()
            .set_rates(rates.delay(0.2, Duration::from_secs(30)));
        // Most of them fail, for what is told to have failed may have been done.
        while db.rebuild(Role::Vector).await.is_err() {
            clock.sleep(Duration::from_secs(1)).await;
        }
        site.link.faults().set_rates(FaultRates::none());
        // What is not durable by now was said to be, unless the store promises nothing.
        if site.durability != Durability::Never {
            site.restart(&history);
        }
        clock.sleep(LAST_ARRIVAL).await;
        let report = db.check_consistency().await.unwrap();
        let text = (!report.is_consistent()).then(|| format!("{report:?}"));
        *result.lock().unwrap() = Some(text);
    }));
    while found.lock().unwrap().is_none() {
        assert!(simulation.step(), "it never ends");
    }
    let found = found.lock().unwrap().take();
    found.flatten()
}

#[test]
fn what_was_sent_to_a_store_before_its_rebuild_comes_too_late() {
    for seed in 0..60 {
        assert_eq!(rebuild(seed), None, "seed {seed}");
    }
}
