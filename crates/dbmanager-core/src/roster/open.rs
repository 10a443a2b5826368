//! Opening the stores of a manager against the roster in the journal.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    lacking_state,
    stamp::Moment,
    store::{Store, StoreParts},
};
use crate::{
    Error, ErrorKind, Result, Runtime,
    backend::{
        Backend, BackendError, BackendErrorKind, BackendResult, Identity, OpenContext, Registry,
        ServiceConfig, Stamp, StampRequest,
    },
    journal::{Journal, RosterRecord, RosterState},
    model::{Role, Version},
    resilience::{Guard, ResilienceSettings},
};

/// One enabled role as the configuration has it.
#[derive(Clone, Debug)]
pub(crate) struct RoleSetting {
    pub(crate) role: Role,
    pub(crate) service: String,
    pub(crate) config: ServiceConfig,
}

/// What opening needs besides the roles.
pub(crate) struct RosterOpening<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) journal_location: String,
    pub(crate) context: OpenContext,
    pub(crate) resilience: ResilienceSettings,
    /// Takes over stores of another journal or without a stamp.
    pub(crate) adopt: bool,
    /// Whether this manager sends to the stores; otherwise the stores and the roster are only read.
    pub(crate) sends: bool,
}

/// The opened roster.
pub(crate) struct Roster {
    /// The enabled stores, in the order of [`Role::ALL`]. One that cannot be reached is there too.
    pub(crate) stores: Vec<Arc<Store>>,
    /// Stores that are on the roster and not enabled.
    pub(crate) disabled: Vec<RosterRecord>,
}

/// Opens every enabled store and writes this epoch into the stamps of those that answer.
///
/// # Errors
/// `Config` for a wrong configuration, `Locked` if another process holds a store, `ForeignStore`
/// if one does not belong to the journal. A store that merely does not answer is no error.
pub(crate) async fn open_roster(
    opening: RosterOpening<'_>,
    roles: Vec<RoleSetting>,
) -> Result<Roster> {
    let mut stores = Vec::new();
    let disabled = match open_and_disable(&opening, &roles, &mut stores).await {
        Ok(disabled) => disabled,
        Err(error) => {
            // So that whoever tries again does not find them locked.
            close_stores(&stores).await;
            return Err(error);
        }
    };
    stores.sort_by_key(|store| store.role);
    Ok(Roster { stores, disabled })
}

/// Closes every store for good; the first error, and of which store it is.
pub(crate) async fn close_stores(stores: &[Arc<Store>]) -> Option<(Role, BackendError)> {
    let mut failed = None;
    for store in stores {
        if let Err(error) = store.close().await {
            tracing::warn!(role = %store.role, %error, "store did not close cleanly");
            failed.get_or_insert((store.role, error));
        }
    }
    failed
}

/// Opens each store, adds it to `stores`, and returns those that are no longer enabled.
async fn open_and_disable(
    opening: &RosterOpening<'_>,
    roles: &[RoleSetting],
    stores: &mut Vec<Arc<Store>>,
) -> Result<Vec<RosterRecord>> {
    let known = open_stores(opening, roles, stores).await?;
    match opening.sends {
        true => disable_others(opening.journal.as_ref(), &known, stores).await,
        false => Ok(Vec::new()),
    }
}

/// Opens each store, adds it to `stores`, and returns the roster as it was before.
async fn open_stores(
    opening: &RosterOpening<'_>,
    roles: &[RoleSetting],
    stores: &mut Vec<Arc<Store>>,
) -> Result<Vec<RosterRecord>> {
    let known = opening
        .journal
        .roster()
        .await
        .map_err(crate::write::journal_error)?;
    let mut locations = BTreeMap::from([(opening.journal_location.clone(), "journal".to_owned())]);
    for setting in roles {
        let factory = opening.registry.factory(setting.role, &setting.service)?;
        let location = factory
            .location(&setting.config, &opening.context)
            .map_err(|error| config_error(setting.role, error))?;
        if let Some(other) = locations.insert(location.clone(), setting.role.to_string()) {
            return Err(Error::new(
                ErrorKind::Config,
                format!("{other} and {} are given the same place", setting.role),
            )
            .with("location", location));
        }
        let current = known
            .iter()
            .find(|record| record.role == setting.role && record.state != RosterState::Removed);
        let record = provisional(opening, current, setting, &location);
        let guard = Arc::new(Guard::new(
            opening.context.runtime.clone(),
            opening.resilience.clone(),
            setting.role,
            setting.service.as_str(),
        ));
        let store = Arc::new(Store::new(StoreParts {
            factory,
            config: setting.config.clone(),
            context: opening.context.clone(),
            guard,
            journal: Arc::clone(&opening.journal),
            record,
            sends: opening.sends,
        }));
        stores.push(Arc::clone(&store));
        open_store(opening, &store, &known, current).await?;
    }
    Ok(known)
}

/// Records of roles that the configuration no longer enables: they hold truncation until they are
/// removed.
pub(crate) async fn disable_others(
    journal: &dyn Journal,
    known: &[RosterRecord],
    stores: &[Arc<Store>],
) -> Result<Vec<RosterRecord>> {
    let mut disabled = Vec::new();
    for record in known {
        let taken = stores.iter().any(|store| store.role == record.role);
        if taken || record.state == RosterState::Removed {
            continue;
        }
        let record = RosterRecord {
            enabled: false,
            ..record.clone()
        };
        journal
            .put_store(record.clone())
            .await
            .map_err(crate::write::journal_error)?;
        disabled.push(record);
    }
    Ok(disabled)
}

/// The record a store has before it was looked at. Where it lies does not tell stores apart: a
/// data directory may be moved. Its stamp does, as soon as it can be read.
fn provisional(
    opening: &RosterOpening<'_>,
    current: Option<&RosterRecord>,
    setting: &RoleSetting,
    location: &str,
) -> RosterRecord {
    let fresh = || {
        let used = opening.journal.mark() > Version::ZERO;
        RosterRecord {
            store_id: opening.context.runtime.new_store_id(),
            role: setting.role,
            service: String::new(),
            location: String::new(),
            state: if used {
                lacking_state(setting.role)
            } else {
                RosterState::Active
            },
            enabled: true,
            stamped: false,
            progress: Version::ZERO,
        }
    };
    RosterRecord {
        service: setting.service.clone(),
        location: location.to_owned(),
        enabled: true,
        ..current.cloned().unwrap_or_else(fresh)
    }
}

/// Finds out which store it is, and checks and stamps it.
async fn look_at(
    opening: &RosterOpening<'_>,
    store: &Arc<Store>,
    known: &[RosterRecord],
    current: Option<&RosterRecord>,
) -> BackendResult<()> {
    let mut current = current.cloned();
    let mut seen = None;
    loop {
        let backend = store.open().await?;
        if !opening.sends {
            store.open_and_verify(Moment::Reconnecting).await?;
            return Ok(());
        }
        let mut identity = backend.identity().await?;
        let stamp = identity.stamp.clone();
        if opening.adopt {
            identity = adopt(opening, store, backend.as_ref(), identity).await?;
        }
        let runtime = opening.context.runtime.clone();
        let record = recognise(runtime, &identity, store.record(), known);
        if let Some(replaced) = current.filter(|old| old.store_id != record.store_id) {
            let removed = RosterRecord {
                state: RosterState::Removed,
                ..replaced
            };
            let put = opening.journal.put_store(removed).await;
            put.map_err(roster_unwritten)?;
        }
        store.replace_record(record.clone()).await?;
        current = Some(record);
        match store.open_and_verify(Moment::Opening).await {
            // Unless a stamp that an earlier manager had sent arrived in between: then it is
            // another one than before.
            Err(error)
                if error.kind() == BackendErrorKind::Foreign && seen != Some(stamp.clone()) =>
            {
                seen = Some(stamp);
            }
            verified => return verified.map(drop),
        }
    }
}

fn roster_unwritten(error: crate::journal::JournalError) -> BackendError {
    BackendError::new(
        BackendErrorKind::Unavailable,
        "the roster cannot be written",
    )
    .with_source(error)
}

async fn open_store(
    opening: &RosterOpening<'_>,
    store: &Arc<Store>,
    known: &[RosterRecord],
    current: Option<&RosterRecord>,
) -> Result<()> {
    match look_at(opening, store, known, current).await {
        Ok(()) => Ok(()),
        Err(error) => match error.kind() {
            BackendErrorKind::Config => Err(config_error(store.role, error)),
            BackendErrorKind::Locked => Err(store_error(ErrorKind::Locked, store.role, error)),
            BackendErrorKind::Foreign | BackendErrorKind::StaleEpoch => {
                Err(store_error(ErrorKind::ForeignStore, store.role, error))
            }
            BackendErrorKind::Damaged => Err(store_error(ErrorKind::Damaged, store.role, error)),
            _ => {
                tracing::warn!(role = %store.role, service = %store.service, %error, "store does not answer at open");
                store.note_failure(&error);
                if !opening.sends {
                    return Ok(());
                }
                store
                    .replace_record(store.record())
                    .await
                    .map_err(|error| store_error(ErrorKind::Unavailable, store.role, error))
            }
        },
    }
}

/// The record of the store that was found at the place: the expected one, another one of this
/// journal that was put there, or a new one.
fn recognise(
    runtime: Runtime,
    identity: &Identity,
    expected: RosterRecord,
    known: &[RosterRecord],
) -> RosterRecord {
    match &identity.stamp {
        Some(stamp) if stamp.store_id != expected.store_id => {
            let other = known
                .iter()
                .find(|r| r.store_id == stamp.store_id && r.role == expected.role);
            match other {
                // It was on the roster before and missed what came since it was replaced.
                Some(record) => RosterRecord {
                    state: lacking_state(record.role),
                    progress: needed_progress(record, known),
                    enabled: true,
                    location: expected.location,
                    service: expected.service,
                    ..record.clone()
                },
                None => expected,
            }
        }
        None if identity.empty && expected.stamped => RosterRecord {
            store_id: runtime.new_store_id(),
            state: lacking_state(expected.role),
            stamped: false,
            progress: needed_progress(
                &RosterRecord {
                    progress: Version::ZERO,
                    ..expected.clone()
                },
                known,
            ),
            ..expected
        },
        _ => expected,
    }
}

/// The progress below which a store lacks data. Every round of truncation is recorded at each store
/// that took part, so the highest progress on the roster covers all that the journal has let go
/// of; another store is filled from the authority whatever it lacks.
fn needed_progress(record: &RosterRecord, known: &[RosterRecord]) -> Version {
    match record.role {
        Role::Relational => known
            .iter()
            .map(|known| known.progress)
            .fold(record.progress, Version::max),
        Role::Vector | Role::Graph => record.progress,
    }
}

/// Takes over an authority that was restored from a backup, though the journal has let go of
/// writes since; what those were nobody knows, unless another store holds a document that
/// `check_consistency` then calls foreign. An empty authority is none.
///
/// Also takes over a store that belongs to another journal or to none: the journal's mark is lifted
/// above every version it holds, and it gets a stamp of this journal. Nothing is discarded.
async fn adopt(
    opening: &RosterOpening<'_>,
    store: &Arc<Store>,
    backend: &dyn Backend,
    identity: Identity,
) -> Result<Identity, BackendError> {
    let ours = identity.stamp.as_ref().is_some_and(|stamp| {
        stamp.journal_id == opening.journal.journal_id()
            && stamp.epoch < opening.journal.epoch()
            && stamp.store_id == store.store_id()
    });
    let within_mark = identity
        .highest_version
        .is_none_or(|v| v <= opening.journal.mark());
    let record = store.record();
    let progress = identity.stamp.as_ref().map(|stamp| stamp.progress);
    let backup = record.role == Role::Relational
        && !identity.empty
        && (record.state == RosterState::NeedsRestore || progress < Some(record.progress));
    if ours && within_mark && !backup || identity.stamp.is_none() && identity.empty {
        return Ok(identity);
    }
    let journal_failed = |error: crate::journal::JournalError| {
        BackendError::new(
            BackendErrorKind::Unavailable,
            "the journal cannot record the adoption",
        )
        .with_source(error)
    };
    if let Some(highest) = identity.highest_version {
        opening
            .journal
            .lift_mark(highest)
            .await
            .map_err(journal_failed)?;
    }
    if let Some(shared) = opening.journal.shared()
        && record.role == Role::Relational
    {
        shared.authority_adopted().await.map_err(journal_failed)?;
    }
    let held = identity.stamp.as_ref();
    let held = held.filter(|held| held.journal_id == opening.journal.journal_id());
    if let Some(held) = held.filter(|held| held.epoch >= opening.journal.epoch()) {
        opening
            .journal
            .raise_epoch(held.epoch)
            .await
            .map_err(journal_failed)?;
    }
    let same = held.filter(|held| held.store_id == record.store_id);
    let progress = same.map_or(record.progress, |held| held.progress.max(record.progress));
    let stamp = Stamp {
        store_id: record.store_id,
        journal_id: opening.journal.journal_id(),
        epoch: opening.journal.epoch().saturating_sub(1),
        progress,
    };
    tracing::warn!(role = %store.role, service = %store.service, "store adopted; run check_consistency");
    backend
        .write_stamp(StampRequest::new(stamp).replace())
        .await?;
    store
        .replace_record(RosterRecord {
            state: RosterState::Active,
            stamped: true,
            ..record
        })
        .await?;
    backend.identity().await
}

fn config_error(role: Role, error: BackendError) -> Error {
    Error::new(ErrorKind::Config, error.message().to_owned())
        .with_role(role)
        .with_source(error)
}

pub(crate) fn store_error(kind: ErrorKind, role: Role, error: BackendError) -> Error {
    Error::new(kind, error.message().to_owned())
        .with_role(role)
        .with_source(error)
}
