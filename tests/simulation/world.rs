//! The stores, the disk and what happens to them.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dbmanager_core::{
    DatabaseManager, ManagerBuilder, Runtime,
    backend::{Mutation, ServiceConfig},
    config::Config,
    conformance::{
        FaultRates, Faults, Seeded,
        simulation::{Direction, Link, RemoteFactory, SimulatedDisk, Simulation},
    },
    journal::JournalSource,
    memory::{MemoryFactory, MemoryPlace},
    model::{Level, Role, StoreId},
};

use super::history::History;

/// When a store makes durable what it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Before it answers.
    OnApply,
    /// When it is asked to, or stamped: a restart loses the rest.
    OnSync,
    /// Never: a restart loses everything.
    Never,
}

/// An older state of a store.
struct StoreCopy {
    /// Which store it was then.
    store: Option<StoreId>,
    place: MemoryPlace,
}

/// One store, its disk and the way to it. Clones are the same store.
#[derive(Clone)]
pub struct Site {
    pub role: Role,
    pub link: Link,
    pub durability: Durability,
    place: MemoryPlace,
    durable: MemoryPlace,
    copy: Arc<Mutex<Option<StoreCopy>>>,
    /// Whether something has happened after which the store may rightly need a rebuild.
    pub may_need_rebuild: Arc<AtomicBool>,
    enabled: Arc<AtomicBool>,
}

impl Site {
    fn new(
        role: Role,
        simulation: &Simulation,
        runtime: &Runtime,
        history: &History,
        random: &mut Seeded,
    ) -> Self {
        let faults = Faults::new(random.next_u64(), FaultRates::none());
        let link = Link::new(role.as_str(), simulation, runtime, &faults);
        let durability = match (random.below(10), role) {
            (0..4, _) => Durability::OnApply,
            // A lost authority is restored from a backup, which is another story.
            (9, Role::Vector | Role::Graph) => Durability::Never,
            _ => Durability::OnSync,
        };
        let (place, durable) = (MemoryPlace::new(), MemoryPlace::new());
        if durability == Durability::OnSync {
            let (place, durable) = (place.clone(), durable.clone());
            link.on_durable(move || durable.restore(&place));
        }
        let history = history.clone();
        link.watch(move |applied| history.applied(role, applied));
        Self {
            role,
            link,
            durability,
            place,
            durable,
            copy: Arc::default(),
            may_need_rebuild: Arc::new(AtomicBool::new(false)),
            enabled: Arc::new(AtomicBool::new(false)),
        }
    }

    /// The store's process ends and begins anew.
    pub fn restart(&self, history: &History) {
        self.link.restart();
        if self.durability != Durability::OnApply {
            self.place.restore(&self.durable);
            history.lost_state(self.role);
        }
        if self.durability == Durability::Never {
            self.allow_rebuild();
        }
    }

    /// Another, empty store is put in its place.
    pub fn replace(&self, history: &History) {
        self.link.restart();
        for place in [&self.place, &self.durable] {
            place.restore(&MemoryPlace::new());
        }
        history.lost_state(self.role);
        self.allow_rebuild();
    }

    /// Copies the store as it is.
    pub fn make_copy(&self, history: &History) {
        let place = MemoryPlace::new();
        place.restore(&self.place);
        let store = history.stamped_as(self.role);
        let copy = StoreCopy { store, place };
        *self.copy.lock().unwrap_or_else(PoisonError::into_inner) = Some(copy);
    }

    /// Puts the store back to the copy that was made of it; whether there was one. A copy from before
    /// a rebuild is of another store, which nobody takes for this one.
    pub fn put_back(&self, history: &History) -> bool {
        let copy = self.copy.lock();
        let copy = copy.unwrap_or_else(PoisonError::into_inner).take();
        let Some(copy) = copy.filter(|copy| copy.store == history.stamped_as(self.role)) else {
            return false;
        };
        self.link.restart();
        self.place.restore(&copy.place);
        if self.durability == Durability::OnSync {
            self.durable.restore(&copy.place);
        }
        history.lost_state(self.role);
        self.allow_rebuild();
        true
    }

    pub fn allow_rebuild(&self) {
        self.may_need_rebuild.store(true, Ordering::SeqCst);
    }

    /// A manager was opened with it.
    pub fn enable(&self) {
        self.enabled.store(true, Ordering::SeqCst);
    }

    /// A manager is opened without it. If none was opened with it before, it will come to a journal
    /// in use, and be incomplete.
    pub fn disable(&self) {
        if !self.enabled.load(Ordering::SeqCst) {
            self.allow_rebuild();
        }
    }

    fn poison(&self, on: bool) {
        let refusal: Arc<dyn Fn(&Mutation) -> bool + Send + Sync> = Arc::new(|mutation| {
            let record = mutation.state.record();
            record.is_some_and(|record| record.document().text.ends_with("poison"))
        });
        self.link.refuse(on.then_some(refusal));
    }

    fn heal(&self) {
        self.link.faults().set_rates(FaultRates::none());
        self.link.partition(None);
        self.link.slow_down(Duration::ZERO);
        self.link.set_down(false);
        self.poison(false);
    }

    /// The store as a reader of its own files sees it.
    pub fn place(&self) -> &MemoryPlace {
        &self.place
    }
}

/// Everything outside the manager's process.
#[derive(Clone)]
pub struct World {
    pub simulation: Simulation,
    pub history: History,
    pub sites: Vec<Site>,
    disk: Arc<Mutex<SimulatedDisk>>,
    raging: Arc<AtomicBool>,
    max_entries: Option<u64>,
    batch_size: usize,
}

impl World {
    pub fn new(simulation: &Simulation, history: &History, random: &mut Seeded) -> Self {
        let runtime = simulation.runtime(simulation.process());
        let sites = Role::ALL
            .into_iter()
            .map(|role| Site::new(role, simulation, &runtime, history, random))
            .collect();
        let world = Self {
            simulation: simulation.clone(),
            history: history.clone(),
            sites,
            disk: Arc::new(Mutex::new(SimulatedDisk::new(random.next_u64()))),
            raging: Arc::new(AtomicBool::new(true)),
            max_entries: (random.below(5) == 0).then_some(12),
            batch_size: *random.pick(&[1, 3, 100]),
        };
        let weather = world
            .clone()
            .weather(runtime.clone(), Seeded::new(random.next_u64()));
        drop(runtime.spawn(weather));
        world
    }

    pub fn disk(&self) -> SimulatedDisk {
        self.disk
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set_disk(&self, disk: SimulatedDisk) {
        *self.disk.lock().unwrap_or_else(PoisonError::into_inner) = disk;
    }

    pub fn site(&self, role: Role) -> &Site {
        let found = self.sites.iter().find(|site| site.role == role);
        found.expect("there is a store of every role")
    }

    /// How to open a manager in a process of this runtime.
    pub fn builder(&self, runtime: &Runtime, disabled: Option<Role>) -> ManagerBuilder {
        let (max_entries, batch_size) = (self.max_entries, self.batch_size);
        let config = Role::ALL
            .into_iter()
            .filter(|role| Some(*role) != disabled)
            .fold(Config::in_memory(), |config, role| {
                config.store(role, "memory", ServiceConfig::new())
            })
            .write(Level::Quorum, Duration::from_secs(5))
            .adjust(move |settings| {
                settings.journal.max_entries = max_entries;
                settings.performance.batch_size = batch_size;
            });
        let config = match disabled {
            Some(role) => config.disable(role),
            None => config,
        };
        let builder = DatabaseManager::builder(config)
            .runtime(runtime.clone())
            .journal(JournalSource::Storage(Arc::new(self.disk())));
        self.sites.iter().fold(builder, |builder, site| {
            let inner = MemoryFactory::of(site.role).at(&site.place);
            builder.register(RemoteFactory::new(inner, &site.link))
        })
    }

    /// What the next process finds on the disk, after the power has gone or only the last process.
    pub fn turn_over_disk(&self, power_lost: bool) {
        let disk = self.disk();
        self.set_disk(match power_lost {
            true => disk.after_power_loss(),
            false => disk.after_kill(),
        });
        self.history.disturb_disk(false);
    }

    /// The power goes in the midst of what the next process writes.
    pub fn cut_power_after(&self, calls: u64) {
        self.history.disturb_disk(true);
        self.disk().cut_after(calls);
    }

    /// Ends all faults.
    pub fn heal(&self) {
        self.raging.store(false, Ordering::SeqCst);
        self.sites.iter().for_each(Site::heal);
        self.disk().faults().heal();
        self.simulation.note("all faults have ended");
    }

    async fn weather(self, runtime: Runtime, mut random: Seeded) {
        while self.raging.load(Ordering::SeqCst) {
            let pause = Duration::from_millis(random.below(15_000) as u64);
            runtime.sleep(pause).await;
            if self.raging.load(Ordering::SeqCst) {
                self.change(&mut random);
            }
        }
    }

    fn change(&self, random: &mut Seeded) {
        let site = random.pick(&self.sites).clone();
        let role = site.role;
        let link = &site.link;
        let (kind, what) = match random.below(19) {
            0..5 => {
                let rate = *random.pick(&[0.02, 0.1, 0.25]);
                let seconds = *random.pick(&[1, 10, 60]);
                let delay = *random.pick(&[0.0, 0.1, 0.5]);
                let rates = FaultRates::all(rate / 2.0).delay(delay, Duration::from_secs(seconds));
                link.faults().set_rates(rates);
                let what = format!("{role} fails at {rate}, waits at {delay} up to {seconds} s");
                ("failing", what)
            }
            5..8 => {
                site.heal();
                ("well", format!("{role} is well"))
            }
            8 => {
                link.partition(Some(Direction::Requests));
                ("requests swallowed", format!("{role} hears nothing"))
            }
            9 => {
                link.partition(Some(Direction::Answers));
                ("answers swallowed", format!("{role} is not heard"))
            }
            10 => {
                link.slow_down(Duration::from_millis(700));
                ("slow", format!("{role} is slow"))
            }
            11 => {
                link.set_down(true);
                ("down", format!("{role} is down"))
            }
            12..14 => {
                site.restart(&self.history);
                ("restart", format!("{role} restarts"))
            }
            14 => {
                site.poison(true);
                ("poison", format!("{role} refuses poison"))
            }
            15 => self.disturb_machine(random),
            // A lost authority is restored from a backup, which is another story.
            _ if role == Role::Relational => return,
            16 if site.put_back(&self.history) => {
                ("put back", format!("{role} is put back to its copy"))
            }
            _ => {
                site.make_copy(&self.history);
                ("copied", format!("{role} is copied"))
            }
        };
        self.history.count(kind, 1);
        self.simulation.note(what);
    }

    /// What happens to the machine of the manager.
    fn disturb_machine(&self, random: &mut Seeded) -> (&'static str, String) {
        let disk = self.disk();
        match random.below(6) {
            0..3 => {
                let target = random.below(7_200_000) as i64 - 3_600_000;
                self.simulation
                    .jump_clock(target - self.simulation.clock_offset());
                ("clock", format!("the clock is {target} ms off"))
            }
            3 => {
                self.history.disturb_disk(true);
                let used = disk.faults().to_bytes().len() as u64;
                disk.faults()
                    .set_capacity(used + random.below(200_000) as u64);
                ("disk nearly full", "the disk is nearly full".to_owned())
            }
            4 => {
                self.history.disturb_disk(true);
                disk.faults().fail_syncs_after(random.below(20) as u64);
                ("failing syncs", "the disk's syncs will fail".to_owned())
            }
            _ => {
                disk.faults().heal();
                ("disk well", "the disk is well".to_owned())
            }
        }
    }
}
