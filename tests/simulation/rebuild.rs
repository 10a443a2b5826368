//! Rebuilds while the store's requests arrive late and twice: rare among everything that a run does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dbmanager_core::{
    conformance::{FaultRates, Seeded, simulation::Simulation},
    model::{Document, Level, Role},
};

use super::{
    history::History,
    judgement::compare_stores,
    operation::{Kind, Operation, text_of},
    run::open_manager,
    world::{Durability, World},
};

const DOCUMENTS: usize = 6;
/// By then every message that was under way has arrived.
const LAST_ARRIVAL: Duration = Duration::from_secs(70);

/// Rebuilds the vector store, and returns the first promise that was broken until every message has
/// arrived.
fn rebuild(seed: u64) -> Option<String> {
    let mut random = Seeded::new(seed);
    let simulation = Simulation::new(random.next_u64());
    let history = History::new(&simulation);
    let world = World::new(&simulation, &history, &mut random);
    world.heal();
    let runtime = simulation.runtime(simulation.process());
    let done = Arc::new(AtomicBool::new(false));
    let (flag, judged, clock) = (Arc::clone(&done), history.clone(), runtime.clone());
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
        if !report.is_consistent() {
            history.violate("I7 all stores are equal", format!("{report:?}"));
        }
        // Not by the library's own comparison alone.
        compare_stores(&world, &history, &db).await;
        flag.store(true, Ordering::SeqCst);
    }));
    while !done.load(Ordering::SeqCst) && judged.violation().is_none() {
        assert!(simulation.step(), "it never ends");
    }
    judged.violation()
}

#[test]
fn what_was_sent_to_a_store_before_its_rebuild_comes_too_late() {
    for seed in 0..60 {
        assert_eq!(rebuild(seed), None, "seed {seed}");
    }
}
