//! Power loss: the journal and every store fall back to what they had made durable, and nothing
//! acknowledged is lost. The two deliberate omissions below show that the test can fail.
#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use common::{Switch, SwitchedFactory, caught_up, eventually};
use dbmanager_backend_graph::sqlite::SqliteFactory as GraphSqlite;
use dbmanager_backend_relational::sqlite::SqliteFactory as RelationalSqlite;
use dbmanager_backend_vector::embedded::EmbeddedFactory;
use dbmanager_core::{
    DatabaseManager, ErrorKind, ManagerBuilder,
    backend::ServiceConfig,
    config::Config,
    journal::{JournalSource, MemoryStorage, RosterState},
    model::{Document, Level, Role, Version},
};

/// Writes before the power goes, this many in a batch.
const WRITES: usize = 120;
const BATCH: usize = 20;
/// Documents that they write, half of them twice.
const DOCUMENTS: usize = 80;
/// After so many batches the journal has let go of everything.
const LET_GO_AFTER: usize = 3;
/// The numbers of the documents that are written before that and never again.
const WRITTEN_ONCE: std::ops::Range<usize> = 40..60;

/// The stores' files, where they are and where their durable copies are.
struct Machine {
    directory: tempfile::TempDir,
    journal: MemoryStorage,
    switches: BTreeMap<Role, Switch>,
}

/// With a timeout that a slow machine keeps too.
fn patient() -> Config {
    Config::in_memory().write(Level::Quorum, Duration::from_secs(60))
}

/// What is left out on purpose, from when the manager has opened. What was made durable until then
/// is found after the power loss: a journal and stores that belong together.
#[derive(Clone, Copy, PartialEq)]
enum Omission {
    Nothing,
    JournalSync,
    StoreSync,
}

fn store_directory(root: &Path, role: Role) -> PathBuf {
    root.join("live").join(role.as_str())
}

fn durable_directory(root: &Path, role: Role) -> PathBuf {
    root.join("durable").join(role.as_str())
}

/// Puts `to` into the state of `from`; the lock file belongs to the process, not to the disk.
fn copy_files(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).unwrap();
    }
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.ends_with(".lock") && !name.ends_with("-shm") {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

impl Machine {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut switches = BTreeMap::new();
        for role in Role::ALL {
            let live = store_directory(directory.path(), role);
            let durable = durable_directory(directory.path(), role);
            fs::create_dir_all(&live).unwrap();
            fs::create_dir_all(&durable).unwrap();
            let switch = Switch::new();
            switch.on_durable(move || copy_files(&live, &durable));
            switches.insert(role, switch);
        }
        Self {
            directory,
            journal: MemoryStorage::crashable(),
            switches,
        }
    }

    /// Whatever is made durable from here on is not, if it is left out.
    fn omit(&self, omission: Omission) {
        match omission {
            Omission::Nothing => {}
            Omission::JournalSync => self.journal.ignore_syncs(),
            Omission::StoreSync => {
                for switch in self.switches.values() {
                    switch.on_durable(|| {});
                }
            }
        }
    }

    fn builder(&self) -> ManagerBuilder {
        let config = Role::ALL.into_iter().fold(patient(), |config, role| {
            let mut settings = ServiceConfig::new();
            let file = store_directory(self.directory.path(), role).join("store.db");
            settings.insert("database_path".to_owned(), file.to_str().unwrap().into());
            config.store(role, "switched", settings)
        });
        let switch = |role: Role| self.switches[&role].clone();
        DatabaseManager::builder(config)
            .journal(JournalSource::Storage(Arc::new(self.journal.clone())))
            .register(SwitchedFactory {
                inner: EmbeddedFactory::new(),
                switch: switch(Role::Vector),
            })
            .register(SwitchedFactory {
                inner: GraphSqlite::new(),
                switch: switch(Role::Graph),
            })
            .register(SwitchedFactory {
                inner: RelationalSqlite::new(),
                switch: switch(Role::Relational),
            })
    }

    /// The power goes: another machine, with what had been made durable at one moment.
    async fn lose_power(&self) -> Self {
        let mut frozen = Vec::new();
        for switch in self.switches.values() {
            frozen.push(switch.freeze().await);
        }
        let after = Self {
            directory: tempfile::tempdir().unwrap(),
            // After the stores stand still: what the journal lets go of later was durable before.
            journal: self.journal.crash_image(),
            switches: Role::ALL
                .into_iter()
                .map(|role| (role, Switch::new()))
                .collect(),
        };
        for role in Role::ALL {
            let durable = durable_directory(self.directory.path(), role);
            copy_files(&durable, &store_directory(after.directory.path(), role));
        }
        after
    }
}

/// Writes, and returns what was acknowledged.
async fn write(db: &DatabaseManager) -> BTreeMap<String, Version> {
    let mut acknowledged = BTreeMap::new();
    for round in 0..WRITES / BATCH {
        if round == LET_GO_AFTER {
            // Some of it has left the journal by now, and some will not have when the power goes.
            eventually("the journal lets go", || db.health().journal.entries == 0).await;
        }
        let batch: Vec<Document> = (0..BATCH)
            .map(|n| {
                let id = format!("d{}", (round * BATCH + n) % DOCUMENTS);
                Document::new(id)
                    .text(format!("text of round {round}"))
                    .references(["d0"])
            })
            .collect();
        for receipt in db.store_documents("c", batch).await.unwrap() {
            let receipt = receipt.unwrap();
            acknowledged.insert(receipt.id.to_string(), receipt.version);
        }
    }
    acknowledged
}

/// What of the acknowledged is not there at its version or a newer one, after catching up.
async fn lost(machine: &Machine, acknowledged: &BTreeMap<String, Version>) -> Vec<String> {
    let db = match machine.builder().open().await {
        Ok(db) => db,
        Err(error) => {
            let kinds = [ErrorKind::ForeignStore, ErrorKind::Damaged];
            assert!(kinds.contains(&error.kind()), "{error}");
            return vec![error.to_string()];
        }
    };
    // A store that lacks what the journal let go of never catches up by itself.
    let given_up = || {
        let lacks = [RosterState::NeedsRebuild, RosterState::NeedsRestore];
        db.health().stores.iter().any(|s| lacks.contains(&s.state))
    };
    eventually("the stores catch up, or are given up", || {
        caught_up(&db) || given_up()
    })
    .await;
    let mut lost = Vec::new();
    for (id, version) in acknowledged {
        match db.get_document("c", id).await {
            Ok(Some(found)) if found.version >= *version => {}
            Ok(found) => lost.push(format!("{id}: {:?}", found.map(|f| f.version))),
            Err(error) => lost.push(format!("{id}: {error}")),
        }
    }
    match db.check_consistency().await {
        Ok(report) if report.is_consistent() => {}
        Ok(report) => lost.push(format!("{report:?}")),
        Err(error) => lost.push(error.to_string()),
    }
    lost
}

async fn run(omission: Omission) -> Vec<String> {
    let machine = Machine::new();
    let db = machine.builder().open().await.unwrap();
    machine.omit(omission);
    let acknowledged = write(&db).await;
    assert_eq!(acknowledged.len(), DOCUMENTS);
    let after = machine.lose_power().await;
    drop(db);
    lost(&after, &acknowledged).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_loss_loses_nothing_acknowledged() {
    assert_eq!(run(Omission::Nothing).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_journals_sync_the_same_power_loss_loses_writes() {
    assert!(!run(Omission::JournalSync).await.is_empty());
}

/// What the journal let go of is lost: had it let go of nothing, nothing would be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truncating_before_a_store_has_synced_would_lose_writes() {
    let lost = run(Omission::StoreSync).await;
    for number in WRITTEN_ONCE {
        let id = format!("d{number}: ");
        assert!(lost.iter().any(|why| why.starts_with(&id)), "{id}{lost:?}");
    }
}
