//! What the stores were seen to do.

use dbmanager_core::{
    DatabaseManager,
    backend::{DocumentState, Head, Mutation},
    conformance::simulation::Applied,
    journal::RosterState,
    model::{CollectionKey, Role, StoreId, Version},
};

use super::{history::History, operation::number_of};

impl History {
    /// Checks what took effect in a store.
    pub fn applied(&self, role: Role, applied: &Applied<'_>) {
        match applied {
            Applied::Mutations {
                collection,
                mutations,
                heads,
            } => {
                for (mutation, head) in mutations.iter().zip(*heads) {
                    self.applied_one(role, collection, mutation, *head);
                }
            }
            Applied::Refused(mutation) => {
                let mut inner = self.lock();
                let store_id = inner.stamps.get(&role).copied();
                inner.refused.insert((role, store_id, mutation.version));
            }
            Applied::Stamped(stamp) => {
                self.lock().stamps.insert(role, stamp.store_id);
            }
            Applied::Created(collection) => {
                let mut inner = self.lock();
                let key = (role, (*collection).clone());
                if inner.dropped.contains(&key) {
                    inner.left_over.insert(key);
                }
            }
            Applied::Dropped(collection) => {
                let mut inner = self.lock();
                inner
                    .held
                    .retain(|(at, held, _), _| *at != role || held != *collection);
                // What was left over stays so: the store may forget this drop and not the creation.
                inner.dropped.insert((role, (*collection).clone()));
            }
        }
    }

    /// Whether a late message has made the collection again after the store had dropped it. Nobody
    /// is shown it, and the comparison reports it.
    pub fn is_left_over(&self, role: Role, collection: &CollectionKey) -> bool {
        let key = (role, collection.clone());
        self.lock().left_over.contains(&key)
    }

    /// Which store was stamped last in this role.
    pub fn stamped_as(&self, role: Role) -> Option<StoreId> {
        self.lock().stamps.get(&role).copied()
    }

    /// The store lost what it had not made durable, was wiped or was replaced.
    pub fn lost_state(&self, role: Role) {
        self.count("state lost", 1);
        self.lock().held.retain(|(at, _, _), _| *at != role);
    }

    /// Nothing is parked but what its store has refused, being the store that it is now.
    pub fn check_parked(&self, db: &DatabaseManager) {
        for parked in db.parked_writes() {
            self.count("parked", 1);
            let health = db.health();
            // Nothing is known of what it was parked for while it is being emptied.
            let store = health.store(parked.role);
            let store = store.filter(|store| store.state != RosterState::NeedsRebuild);
            let store_id = store.map(|store| store.store_id);
            let refused = self.lock().refused.iter().any(|(role, by, version)| {
                (*role, *version) == (parked.role, parked.version)
                    && (store_id.is_none() || *by == store_id)
            });
            if !refused {
                let what = format!("{parked:?}, which {store_id:?} has never refused");
                self.violate("only what was refused is parked", what);
            }
        }
    }

    fn applied_one(
        &self,
        role: Role,
        collection: &CollectionKey,
        mutation: &Mutation,
        head: Option<Head>,
    ) {
        let place = (collection.name.to_string(), mutation.id.to_string());
        let version = head.map_or(Version::ZERO, |head| head.version);
        self.note(&format!(
            "{role} was sent {collection} {} {} and holds {version}",
            mutation.id, mutation.version
        ));
        let mut problems = Vec::new();
        {
            let mut inner = self.lock();
            let key = (role, collection.clone(), place.1.clone());
            let before = inner.held.insert(key, version).unwrap_or(Version::ZERO);
            if version < before || version < mutation.version {
                problems.push((
                    "I2 a store's version never falls",
                    format!("{role} {place:?}: {before}, then {version}"),
                ));
            }
            let ever = inner.ever.entry((role, place)).or_insert(Version::ZERO);
            *ever = (*ever).max(version);
            if let DocumentState::Live(record) = &mutation.state {
                let number = number_of(&record.document().text);
                problems.extend(inner.check_shown(number, mutation.version));
            }
        }
        for (promise, problem) in problems {
            self.violate(promise, problem);
        }
    }
}
