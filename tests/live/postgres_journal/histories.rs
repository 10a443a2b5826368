//! Histories of managers that share a journal. Writes and refused preconditions of all of them are
//! linearizable per document, and so are reads that wait for what was acknowledged before
//! (`at_least`). A plain read may be behind; through one manager it never goes back, and never
//! misses what that manager has written.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dbmanager::{
    DatabaseManager, ErrorKind, Result,
    model::{Document, Precondition, Receipt, Version},
};
use dbmanager_core::conformance::{
    Seeded,
    simulation::{Call, Verdict, linearizable},
};
use futures_util::future::join_all;

use super::world::{SOON, World, assert_all_equal};

const DOCUMENTS: usize = 3;
const CLIENTS_EACH: usize = 3;
const ACTIONS: usize = 16;

/// What a call did to its document, by the versions it was told of.
#[derive(Clone, Copy, Debug)]
enum Step {
    Write {
        /// The live version afterwards.
        leaves: Option<Version>,
        precondition: Option<Precondition>,
    },
    Refused(Precondition),
    Read(Option<Version>),
}

#[derive(Default)]
struct History {
    moment: AtomicU64,
    calls: Mutex<Vec<(usize, Call<Step>)>>,
    /// The highest version acknowledged so far, of any document.
    acknowledged: AtomicU64,
}

impl History {
    fn tick(&self) -> u64 {
        self.moment.fetch_add(1, Ordering::SeqCst)
    }

    fn add(&self, document: usize, operation: Step, called: u64) {
        let call = Call {
            operation,
            called,
            answered: Some(self.tick()),
        };
        self.calls.lock().unwrap().push((document, call));
    }

    fn acknowledged(&self) -> Version {
        Version::from_u64(self.acknowledged.load(Ordering::SeqCst))
    }

    fn acknowledge(&self, version: Version) {
        self.acknowledged
            .fetch_max(version.as_u64(), Ordering::SeqCst);
    }
}

/// One user of one manager; `newest` is what that manager has shown or acknowledged.
struct Client {
    db: DatabaseManager,
    history: Arc<History>,
    newest: Arc<[AtomicU64; DOCUMENTS]>,
    random: Seeded,
    known: [Option<Version>; DOCUMENTS],
}

impl Client {
    async fn run(mut self) {
        for _ in 0..ACTIONS {
            let document = self.random.below(DOCUMENTS);
            match self.random.below(10) {
                0..4 => self.write(document, false).await,
                4..6 => self.write(document, true).await,
                6..8 => self.read_newest(document).await,
                _ => self.read(document).await,
            }
        }
    }

    async fn write(&mut self, document: usize, delete: bool) {
        let precondition = match self.random.below(3) {
            0 => None,
            1 => Some(Precondition::Absent),
            _ => self.known[document].map(Precondition::Version),
        };
        let called = self.history.tick();
        let id = document.to_string();
        let answer = self.send(&id, delete, precondition).await;
        match (answer, precondition) {
            (Ok(receipt), _) => {
                let leaves = (!delete).then_some(receipt.version);
                self.known[document] = leaves;
                self.newest[document].fetch_max(receipt.version.as_u64(), Ordering::SeqCst);
                self.history.acknowledge(receipt.version);
                let step = Step::Write {
                    leaves,
                    precondition,
                };
                self.history.add(document, step, called);
            }
            (Err(error), Some(precondition)) if error.kind() == ErrorKind::PreconditionFailed => {
                self.history
                    .add(document, Step::Refused(precondition), called);
            }
            (Err(error), _) => panic!("{error}"),
        }
    }

    async fn send(
        &self,
        id: &str,
        delete: bool,
        precondition: Option<Precondition>,
    ) -> Result<Receipt> {
        macro_rules! send {
            ($write:expr) => {{
                let write = $write.timeout(SOON);
                match precondition {
                    Some(precondition) => write.precondition(precondition).await,
                    None => write.await,
                }
            }};
        }
        match delete {
            true => send!(self.db.delete_document("papers", id)),
            false => send!(
                self.db
                    .store_document("papers", Document::new(id).text("words"))
            ),
        }
    }

    async fn get(&self, document: usize) -> Option<Version> {
        let found = self.db.get_document("papers", document.to_string()).await;
        found.unwrap().map(|found| found.version)
    }

    /// A read that is not behind what was acknowledged before it, through any manager.
    async fn read_newest(&mut self, document: usize) {
        let called = self.history.tick();
        let acknowledged = self.history.acknowledged();
        self.db.at_least(acknowledged, SOON).await.unwrap();
        let seen = self.get(document).await;
        self.known[document] = seen;
        self.history.add(document, Step::Read(seen), called);
    }

    async fn read(&mut self, document: usize) {
        let before = Version::from_u64(self.newest[document].load(Ordering::SeqCst));
        if let Some(seen) = self.get(document).await {
            assert!(
                seen >= before,
                "{seen} after {before} through the same manager"
            );
            self.newest[document].fetch_max(seen.as_u64(), Ordering::SeqCst);
        }
    }
}

fn meets(state: Option<Version>, precondition: Precondition) -> bool {
    match precondition {
        Precondition::Absent => state.is_none(),
        Precondition::Version(version) => state == Some(version),
    }
}

fn judge(history: &History, document: usize) -> Verdict {
    let calls = history.calls.lock().unwrap();
    let own: Vec<_> = calls
        .iter()
        .filter(|(of, _)| *of == document)
        .map(|(_, call)| call.clone())
        .collect();
    assert!(own.len() > 10, "idle: {own:?}");
    linearizable(None, &own, |state: &Option<Version>, step| match *step {
        Step::Write {
            leaves,
            precondition,
        } => precondition
            .is_none_or(|precondition| meets(*state, precondition))
            .then_some(leaves),
        Step::Refused(precondition) => (!meets(*state, precondition)).then_some(*state),
        Step::Read(seen) => (*state == seen).then_some(*state),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_of_two_managers_are_linearizable_per_document() {
    let Some(world) = World::new(Duration::from_secs(10)) else {
        return;
    };
    let managers = [world.open().await, world.open().await];
    for seed in 0..8 {
        let history = Arc::new(History::default());
        // Each round has documents of its own state: gone at its beginning.
        for document in 0..DOCUMENTS {
            let id = document.to_string();
            let blank = managers[0].store_document("papers", Document::new(&id));
            blank.timeout(SOON).await.unwrap();
            let gone = managers[0].delete_document("papers", &id);
            history.acknowledge(gone.timeout(SOON).await.unwrap().version);
        }
        let mut clients = Vec::new();
        for (number, db) in managers.iter().enumerate() {
            let newest: Arc<[AtomicU64; DOCUMENTS]> = Arc::default();
            db.at_least(history.acknowledged(), SOON).await.unwrap();
            for client in 0..CLIENTS_EACH {
                clients.push(Client {
                    db: db.clone(),
                    history: Arc::clone(&history),
                    newest: Arc::clone(&newest),
                    random: Seeded::new((seed * 2 + number as u64) * 100 + client as u64),
                    known: [None; DOCUMENTS],
                });
            }
        }
        let running = clients.into_iter().map(|client| tokio::spawn(client.run()));
        for ended in join_all(running).await {
            ended.unwrap();
        }
        for document in 0..DOCUMENTS {
            let verdict = judge(&history, document);
            assert_eq!(
                verdict,
                Verdict::Linearizable,
                "seed {seed}, document {document}"
            );
        }
    }
    assert_all_equal(&managers[0], DOCUMENTS as u64).await;
}
