//! What the operator of a manager does.

use std::{future::IntoFuture, time::Duration};

use dbmanager_core::{DatabaseManager, Result, Runtime, conformance::Seeded, model::Role};
use futures_util::future::join;

use super::{
    calls::{self, LONG},
    history::History,
};

/// The operator of one manager.
pub struct Operator {
    pub db: DatabaseManager,
    pub runtime: Runtime,
    pub history: History,
    pub random: Seeded,
    /// Told before a store is rebuilt, since it is incomplete from then on.
    pub rebuilding: Box<dyn Fn(Role) + Send + Sync>,
    /// Told before a store is taken off the roster, if it is one that can be.
    pub removing: Box<dyn Fn(Role) + Send + Sync>,
    /// Told after it was.
    pub removed: Box<dyn Fn(Role) + Send + Sync>,
}

impl Operator {
    async fn call<T>(&self, name: &str, call: impl IntoFuture<Output = Result<T>>) -> Result<T> {
        calls::call(&self.history, &self.runtime, name, LONG, call).await
    }

    /// Rebuilds the store, and now and then asks for it again before that has ended.
    async fn rebuild(&mut self, role: Role) {
        let impatient = self.random.below(3) == 0;
        let pause = Duration::from_millis(self.random.below(5_000) as u64);
        let first = self.call("rebuild", self.db.rebuild(role));
        if !impatient {
            if first.await.is_ok() {
                self.history.count("rebuild", 1);
            }
            return;
        }
        let again = async {
            self.runtime.sleep(pause).await;
            self.call("rebuild", self.db.rebuild(role)).await
        };
        drop(join(first, again).await);
    }

    /// Acts now and then, for as long as the manager lives.
    pub async fn run(mut self) {
        loop {
            let pause = Duration::from_millis(self.random.below(30_000) as u64);
            self.runtime.sleep(pause).await;
            let role = *self.random.pick(&[Role::Vector, Role::Graph]);
            // Errors say that a store could not be reached, or that there is nothing to do.
            match self.random.below(6) {
                0 => {
                    // What the store refuses is written again, so that it can be parked.
                    self.history.repairing();
                    (self.rebuilding)(role);
                    self.rebuild(role).await;
                }
                1 => {
                    self.history.repairing();
                    let repair = self.db.check_consistency().repair();
                    if self.call("repair", repair).await.is_ok() {
                        self.history.count("repair", 1);
                    }
                }
                2 => drop(self.db.health_check().await),
                3 => drop(self.db.verify_backends().await),
                _ => {
                    (self.removing)(role);
                    let removed = self.call("remove_store", self.db.remove_store(role));
                    if removed.await.is_ok() {
                        self.history.count("store replaced", 1);
                        (self.removed)(role);
                    }
                }
            }
        }
    }
}
