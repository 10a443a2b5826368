//! What must hold when every fault has ended and nothing is written any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use dbmanager_core::{
    DatabaseManager, DifferenceKind, Result, Runtime,
    backend::{AnyBackend, DocumentState, Fingerprint, IdsRequest, ListRequest},
    conformance::{
        Seeded,
        simulation::{Call, Verdict, linearizable},
    },
    journal::RosterState,
    memory::{MemoryPlace, MemoryStore},
    model::{CollectionKey, OperationId, OperationStatus, Role},
};

use futures_util::future::join;

use super::{
    calls::{LONG, USUAL, call},
    history::History,
    operation::{Expected, Kind, Operation, Outcome, Place},
    rest::{client, places, read_everything, write_everything},
    run::open_manager,
    world::{Site, World},
};

/// How long catching up may take on the simulated clock.
const PATIENCE: Duration = Duration::from_secs(900);
/// By then every message that was under way has arrived.
const LAST_ARRIVAL: Duration = Duration::from_secs(130);

/// Judges, and returns how many histories were too large to be judged.
pub async fn judge(world: World, history: History, runtime: Runtime, mut random: Seeded) -> usize {
    let Some(db) = open_manager(&world, &history, &runtime, None).await else {
        history.violate("a manager opens", "nothing is wrong any more");
        return 0;
    };
    // Stores end and begin anew once more under the last manager: no later one opens them again for
    // it, nor finds what it has left behind.
    for _ in 0..random.below(4) {
        runtime
            .sleep(Duration::from_millis(random.below(2_000) as u64))
            .await;
        let site = random.pick(&world.sites);
        history.note(&format!("{} restarts", site.role));
        site.restart(&history);
    }
    runtime.sleep(LAST_ARRIVAL).await;
    if !settle(&world, &history, &runtime, &db, &mut random).await {
        return 0;
    }
    resolve(&history, &runtime, &db).await;
    compare(&world, &history, &runtime, &db).await;
    // What nobody has written to since can hide that nothing goes on there.
    write_everything(&history, &runtime, &db).await;
    if !settle(&world, &history, &runtime, &db, &mut random).await {
        return 0;
    }
    compare(&world, &history, &runtime, &db).await;
    let time = Duration::from_secs(60);
    if let Err(error) = call(&history, &runtime, "close", time, db.close(time)).await {
        history.violate("a manager at rest closes", error.to_string());
    }
    places()
        .iter()
        .filter(|place| judge_history(&history, place) == Verdict::TooLarge)
        .count()
}

/// The stores hold the same, and the manager shows it.
async fn compare(world: &World, history: &History, runtime: &Runtime, db: &DatabaseManager) {
    compare_stores(world, history, db).await;
    read_everything(history, runtime, db).await;
    let check = db.check_consistency();
    match call(history, runtime, "check_consistency", LONG, check).await {
        Ok(report)
            if report
                .differences
                .iter()
                .all(|difference| difference.kind == DifferenceKind::ForeignCollection) => {}
        Ok(report) => history.violate("I7 all stores are equal", format!("{report:?}")),
        Err(error) => history.violate("I7 all stores are equal", error.to_string()),
    }
}

/// Rebuilds a store. A copy of it from that time may be put back after it.
async fn rebuild(
    site: &Site,
    history: &History,
    runtime: &Runtime,
    db: &DatabaseManager,
    random: &mut Seeded,
) {
    let within = *random.pick(&[10, 100, 1_000]);
    let moment = Duration::from_millis(random.below(within) as u64);
    let copying = async {
        runtime.sleep(moment).await;
        site.make_copy(history);
    };
    let rebuilding = call(history, runtime, "rebuild", LONG, db.rebuild(site.role));
    let (rebuilt, ()) = join(rebuilding, copying).await;
    if let Err(error) = rebuilt {
        history.note(&format!("the rebuild failed: {error}"));
    } else if random.below(3) == 0 && site.put_back(history) {
        history.count("put back", 1);
        history.note(&format!("{} is put back to its rebuild", site.role));
        runtime.sleep(LAST_ARRIVAL).await;
    }
}

/// Does what an operator does, until every store has everything.
async fn settle(
    world: &World,
    history: &History,
    runtime: &Runtime,
    db: &DatabaseManager,
    random: &mut Seeded,
) -> bool {
    let begun = runtime.monotonic();
    loop {
        let health = db.health();
        let mut quiet = health.journal.entries == 0;
        for store in &health.stores {
            match store.state {
                RosterState::Active => {}
                RosterState::CatchingUp => quiet = false,
                RosterState::NeedsRebuild => {
                    quiet = false;
                    let site = world.site(store.role);
                    if !site.may_need_rebuild.load(Ordering::SeqCst) {
                        history.violate(
                            "a store is given up only for a reason",
                            format!("{} needs a rebuild", store.role),
                        );
                        return false;
                    }
                    history.note(&format!("{} is rebuilt", store.role));
                    rebuild(site, history, runtime, db, random).await;
                }
                state => {
                    history.violate(
                        "a store is given up only for a reason",
                        format!("{} is {state:?}", store.role),
                    );
                    return false;
                }
            }
        }
        history.check_parked(db);
        for parked in db.parked_writes() {
            if let Some(id) = &parked.id
                && let Ok(Some(found)) = db.get_document(&parked.collection, id).await
                && found.version > parked.version
            {
                history.violate(
                    "only the newest version is parked",
                    format!("{parked:?}, but there is {}", found.version),
                );
                return false;
            }
            let retry = db.retry_parked(parked.role, parked.version);
            if let Err(error) = call(history, runtime, "retry_parked", USUAL, retry).await {
                history.note(&format!("a retry failed: {error}"));
            }
        }
        if quiet {
            return true;
        }
        if runtime.monotonic() - begun > PATIENCE {
            history.violate("I7 the backlog is drained", format!("{health:?}"));
            return false;
        }
        runtime.sleep(Duration::from_secs(1)).await;
    }
}

/// Every operation has its end, and none is still on its way.
async fn resolve(history: &History, runtime: &Runtime, db: &DatabaseManager) {
    let mut asking = client(history, runtime, db);
    // Every one: of what was answered long ago the end must be the same still.
    for number in history.named() {
        asking.resolve(number).await;
    }
    for (number, operation) in history.operations().into_iter().enumerate() {
        for asked in operation.ids() {
            let status = call(history, runtime, "status", USUAL, db.status(asked)).await;
            if !is_end(history, &operation, asked, &status) {
                history.violate(
                    "I8 nothing stays pending",
                    format!("#{number} {:?} as {asked}: {status:?}", operation.version),
                );
            }
        }
    }
}

/// Whether an operation may have come to this when everything is at rest.
fn is_end(
    history: &History,
    operation: &Operation,
    asked: OperationId,
    status: &Result<OperationStatus>,
) -> bool {
    match status {
        // Seen in a repaired document: its own version was another one.
        Ok(OperationStatus::Done(version)) => {
            operation.version == Some(*version) || history.was_repaired()
        }
        // A repetition under another id may have been the one that was accepted.
        Ok(OperationStatus::NeverAccepted) => {
            let accepted = operation.version.is_some() && operation.key.is_none();
            !accepted && operation.accepted_as != Some(asked)
        }
        // No run lasts as long as records are kept.
        _ => false,
    }
}

/// The stores hold the same documents at the same versions with the same content, and nothing of
/// collections that are gone.
pub async fn compare_stores(world: &World, history: &History, db: &DatabaseManager) {
    let live: BTreeSet<CollectionKey> = db.collections().into_iter().map(|c| c.key).collect();
    let mut found = BTreeMap::new();
    for site in &world.sites {
        let backend = open_place(site.role, site.place()).as_backend();
        let held = backend.collections().await.expect("a store in memory");
        for key in held {
            if !live.contains(&key) {
                if !history.is_left_over(site.role, &key) {
                    history.violate(
                        "I3 nothing deleted reappears",
                        format!("{} still has {key}", site.role),
                    );
                }
                continue;
            }
            let request = ListRequest::new(key.clone(), usize::MAX);
            let page = backend.fingerprints(request).await;
            for print in page.expect("a store in memory").items {
                found
                    .entry((key.clone(), print.id.to_string()))
                    .or_insert_with(BTreeMap::new)
                    .insert(site.role, print);
            }
        }
    }
    let authority = open_place(Role::Relational, world.site(Role::Relational).place());
    for ((key, id), prints) in found {
        if let Some(problem) = unlike(&authority, &key, &id, &prints).await {
            history.violate("I7 all stores are equal", format!("{key} {id}: {problem}"));
        }
    }
}

fn open_place(role: Role, place: &MemoryPlace) -> AnyBackend {
    match role {
        Role::Vector => AnyBackend::Vector(Arc::new(
            MemoryStore::open(place).expect("a store of this role"),
        )),
        Role::Graph => AnyBackend::Graph(Arc::new(
            MemoryStore::open(place).expect("a store of this role"),
        )),
        Role::Relational => AnyBackend::Relational(Arc::new(
            MemoryStore::open(place).expect("a store of this role"),
        )),
    }
}

async fn unlike(
    authority: &AnyBackend,
    key: &CollectionKey,
    id: &str,
    prints: &BTreeMap<Role, Fingerprint>,
) -> Option<String> {
    let AnyBackend::Relational(authority) = authority else {
        return Some("the authority is of another role".to_owned());
    };
    let request = IdsRequest::new(key.clone(), vec![Arc::from(id)]);
    let record = match authority.get(request).await {
        Ok(records) => records.into_iter().next().flatten(),
        Err(error) => return Some(format!("the authority does not answer: {error}")),
    };
    let Some(record) = record else {
        return Some("the authority lacks it".to_owned());
    };
    for role in Role::ALL {
        let Some(print) = prints.get(&role) else {
            return Some(format!("{role} lacks it"));
        };
        if print.head.version != record.version {
            return Some(format!(
                "{role} has {}, the authority {}",
                print.head.version, record.version
            ));
        }
        let same = match &record.state {
            DocumentState::Live(content) => {
                !print.head.deleted && print.content_hash == content.content_hash(&key.name, role)
            }
            DocumentState::Deleted => print.head.deleted,
        };
        if !same {
            return Some(format!("{role} has another content"));
        }
    }
    None
}

/// What a call of a document's history does and has shown.
#[derive(Clone, Debug)]
enum Step {
    Write {
        content: Option<usize>,
        expected: Expected,
    },
    Refused(Expected),
    Read(Option<usize>),
}

/// Whether the document's history could have happened one call after the other.
fn judge_history(history: &History, place: &Place) -> Verdict {
    let operations = history.operations();
    let writes = operations
        .iter()
        .enumerate()
        .filter(|(_, operation)| operation.concerns(place))
        .filter(|(_, operation)| !was_overtaken_by_a_repair(history, operation))
        .filter_map(|(number, operation)| write_call(number, operation));
    let reads = history.reads();
    let reads = reads
        .iter()
        .filter(|read| read.place == *place)
        .map(|read| Call {
            operation: Step::Read(read.seen),
            called: read.called,
            answered: Some(read.answered),
        });
    let calls: Vec<_> = writes.chain(reads).collect();
    let verdict = linearizable(None, &calls, |state: &Option<usize>, step| match step {
        Step::Write { content, expected } => meets(*state, *expected).then_some(*content),
        Step::Refused(expected) => (!meets(*state, *expected)).then_some(*state),
        Step::Read(seen) => (state == seen).then_some(*state),
    });
    if verdict == Verdict::NotLinearizable {
        for call in &calls {
            history.note(&format!("{call:?}"));
        }
        history.violate("a document's history is linearizable", format!("{place:?}"));
    }
    verdict
}

fn meets(state: Option<usize>, expected: Expected) -> bool {
    match expected {
        Expected::Anything => true,
        Expected::Absent => state.is_none(),
        Expected::Content(number) => state == Some(number),
    }
}

/// Whether it was refused for a version that a repair may have replaced: the content that it
/// expected may have been there all the same.
fn was_overtaken_by_a_repair(history: &History, operation: &Operation) -> bool {
    match (operation.expected, operation.outcome) {
        (
            Expected::Content(_),
            Outcome::Rejected {
                failed_precondition: Some(moment),
            },
        ) => history.was_repaired_before(moment),
        _ => false,
    }
}

fn write_call(number: usize, operation: &Operation) -> Option<Call<Step>> {
    let write = Step::Write {
        content: (operation.kind == Kind::Put).then_some(number),
        expected: operation.expected,
    };
    let call = |operation_step, answered| {
        Some(Call {
            operation: operation_step,
            called: operation.called,
            answered,
        })
    };
    match operation.outcome {
        Outcome::Unknown => call(write, None),
        Outcome::Accepted(moment) => call(write, Some(moment)),
        Outcome::Rejected {
            failed_precondition: Some(moment),
        } => call(Step::Refused(operation.expected), Some(moment)),
        Outcome::Rejected { .. } => None,
    }
}
