//! One run: some lives of a manager, each ended in its own way, then peace, then the judgement.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use dbmanager_core::{
    DatabaseManager, ErrorKind, Runtime,
    conformance::{
        Seeded,
        simulation::{Process, Simulation},
    },
    model::Role,
};

use super::{
    calls::call, client::Client, counts::Counts, history::History, judgement, operator::Operator,
    rest::places, world::World,
};

/// Steps after which a life ends in any case.
const LONGEST_LIFE: u64 = 200_000;

/// What a run came to.
pub struct Outcome {
    /// The promise that was broken, if one was.
    pub violation: Option<String>,
    /// The end of the trace.
    pub notes: Vec<String>,
    /// Tells traces apart.
    pub digest: u64,
    pub counts: Counts,
}

/// Runs this seed to its end.
pub fn run(seed: u64) -> Outcome {
    let mut random = Seeded::new(seed);
    let simulation = Simulation::new(random.next_u64());
    let history = History::new(&simulation);
    let world = World::new(&simulation, &history, &mut random);
    let mut run = Run {
        simulation: simulation.clone(),
        history: history.clone(),
        world,
        random,
        counts: Counts::default(),
    };
    for _ in 0..1 + run.random.below(4) {
        if history.violation().is_some() {
            break;
        }
        run.live();
    }
    if history.violation().is_none() {
        run.rest();
    }
    for site in &run.world.sites {
        let faults = site.link.faults().counts();
        history.count("refused before", faults.refused_before);
        history.count("lost before", faults.lost_before);
        history.count("lost after", faults.lost_after);
        history.count("late", faults.late);
        history.count("duplicate", faults.duplicate);
        history.count("delayed", faults.delay);
    }
    let operations = history.operations();
    Outcome {
        violation: history.violation(),
        notes: simulation.notes(),
        digest: simulation.digest(),
        counts: Counts {
            steps: simulation.steps(),
            operations: operations.len() as u64,
            accepted: operations.iter().filter(|o| o.version.is_some()).count() as u64,
            reads: history.reads().len() as u64,
            kinds: history.counts(),
            ..run.counts
        },
    }
}

struct Run {
    simulation: Simulation,
    history: History,
    world: World,
    random: Seeded,
    counts: Counts,
}

/// How far a life has come.
#[derive(Clone, Default)]
struct Life {
    manager: Arc<Mutex<Option<DatabaseManager>>>,
    /// Clients that have not ended.
    clients: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
}

impl Life {
    fn manager(&self) -> Option<DatabaseManager> {
        let manager = self.manager.lock();
        manager.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Run {
    /// Opens a manager, has it used, and ends it at some moment.
    fn live(&mut self) {
        let process = self.simulation.process();
        let runtime = self.simulation.runtime(process);
        let disabled = match self.random.below(8) {
            0 => Some(*self.random.pick(&[Role::Vector, Role::Graph])),
            _ => None,
        };
        self.simulation
            .note(format!("a manager is opened, without {disabled:?}"));
        if let Some(role) = disabled {
            self.history.count("disabled", 1);
            self.world.site(role).disable();
        }
        if self.random.below(3) == 0 {
            // While it opens, or in the midst of its work.
            let calls = *self.random.pick(&[60, 3_000]);
            let calls = self.random.below(calls) as u64;
            self.world.cut_power_after(calls);
        }
        let life = Life::default();
        let opening = open(
            self.world.clone(),
            self.history.clone(),
            runtime.clone(),
            disabled,
            life.clone(),
            Seeded::new(self.random.next_u64()),
        );
        drop(runtime.spawn(opening));
        let planned = match self.random.below(3) {
            // Most of these come while the manager opens.
            0 => self.random.below(400) as u64,
            1 => self.random.below(10_000) as u64,
            _ => LONGEST_LIFE,
        };
        let last = self.simulation.steps() + planned;
        let read_only = |life: &Life| {
            let manager = life.manager();
            manager.is_some_and(|manager| !manager.health().journal.writable)
        };
        while self.simulation.steps() < last
            && !life.ended.load(Ordering::SeqCst)
            && !self.world.disk().is_cut()
            && self.history.violation().is_none()
        {
            if !self.simulation.step() {
                let what = "nothing will ever go on";
                self.history.violate("every life ends", what);
            }
            if self.simulation.steps().is_multiple_of(64) && read_only(&life) {
                self.history.count("read-only journal", 1);
                self.simulation.note("the journal takes no writes any more");
                break;
            }
        }
        if planned == LONGEST_LIFE && self.simulation.steps() >= last {
            let left = life.clients.load(Ordering::SeqCst);
            let what = format!("{left} clients are left after {LONGEST_LIFE} steps");
            self.history.violate("every life ends", what);
        }
        self.end(process);
    }

    fn end(&mut self, process: Process) {
        let power_lost = self.world.disk().is_cut() || self.random.below(2) == 0;
        self.simulation.note(match power_lost {
            true => "the power goes",
            false => "the manager is killed",
        });
        match power_lost {
            true => self.counts.power_losses += 1,
            false => self.counts.crashes += 1,
        }
        if self.world.disk().is_cut() {
            self.history.count("power lost in a write", 1);
        }
        self.world.turn_over_disk(power_lost);
        self.simulation.kill(process);
    }

    /// Ends all faults, opens a manager for good, and judges when everything has come to rest.
    fn rest(&mut self) {
        self.world.heal();
        let process = self.simulation.process();
        let runtime = self.simulation.runtime(process);
        let done = Arc::new(AtomicBool::new(false));
        let judged = judgement::judge(
            self.world.clone(),
            self.history.clone(),
            runtime.clone(),
            Seeded::new(self.random.next_u64()),
        );
        let (flag, too_large) = (Arc::clone(&done), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&too_large);
        drop(runtime.spawn(async move {
            counted.store(judged.await, Ordering::SeqCst);
            flag.store(true, Ordering::SeqCst);
        }));
        let last = self.simulation.steps() + LONGEST_LIFE;
        while !done.load(Ordering::SeqCst) && self.history.violation().is_none() {
            if self.simulation.steps() > last || !self.simulation.step() {
                self.history
                    .violate("I7 everything comes to rest", "it never ends");
            }
        }
        self.counts.places += places().len() as u64;
        self.counts.too_large += too_large.load(Ordering::SeqCst) as u64;
        self.simulation.kill(process);
    }
}

/// Opens the manager, lets its clients loose, and closes it when they have ended.
async fn open(
    world: World,
    history: History,
    runtime: Runtime,
    disabled: Option<Role>,
    life: Life,
    mut random: Seeded,
) {
    let Some(db) = open_manager(&world, &history, &runtime, disabled).await else {
        life.ended.store(true, Ordering::SeqCst);
        return;
    };
    *life.manager.lock().unwrap_or_else(PoisonError::into_inner) = Some(db.clone());
    let clients = 1 + random.below(4);
    life.clients.store(clients, Ordering::SeqCst);
    let poison = *random.pick(&[0.0, 0.1]);
    for _ in 0..clients {
        let client = Client {
            db: db.clone(),
            runtime: runtime.clone(),
            history: history.clone(),
            random: Seeded::new(random.next_u64()),
            poison,
            known: BTreeMap::new(),
        };
        let (left, actions) = (Arc::clone(&life.clients), 4 + random.below(20));
        drop(runtime.spawn(async move {
            client.run(actions).await;
            left.fetch_sub(1, Ordering::SeqCst);
        }));
    }
    let (sites, roles) = (world.clone(), world.clone());
    let operator = Operator {
        db: db.clone(),
        runtime: runtime.clone(),
        history: history.clone(),
        random: Seeded::new(random.next_u64()),
        rebuilding: Box::new(move |role| sites.site(role).allow_rebuild()),
        removing: Box::new(move |role| {
            if disabled == Some(role) {
                roles.site(role).allow_rebuild();
            }
        }),
        removed: Box::new(move |role| world.site(role).replace(&world.history)),
    };
    if random.below(3) == 0 {
        drop(runtime.spawn(operator.run()));
    }
    while life.clients.load(Ordering::SeqCst) > 0 {
        runtime.sleep(Duration::from_millis(500)).await;
    }
    if random.below(2) == 0 {
        // A deadline that passes is one more way to end.
        let time = Duration::from_secs(20);
        drop(call(&history, &runtime, "close", time, db.close(time)).await);
        history.note("the manager is closed");
    }
    life.ended.store(true, Ordering::SeqCst);
}

/// Opens the manager; a disk that fails is no reason not to open it later.
pub async fn open_manager(
    world: &World,
    history: &History,
    runtime: &Runtime,
    disabled: Option<Role>,
) -> Option<DatabaseManager> {
    match world.builder(runtime, disabled).open().await {
        Ok(db) => {
            for site in world
                .sites
                .iter()
                .filter(|site| Some(site.role) != disabled)
            {
                site.enable();
            }
            Some(db)
        }
        Err(error) => {
            history.note(&format!("not opened: {error}"));
            let kinds = [
                ErrorKind::Unavailable,
                ErrorKind::Overloaded,
                ErrorKind::Indeterminate,
            ];
            if !kinds.contains(&error.kind()) {
                history.violate("a manager opens on what is its own", error.to_string());
            }
            None
        }
    }
}
