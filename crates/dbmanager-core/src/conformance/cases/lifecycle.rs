//! Opening, closing, opening again; what a factory says of its configuration.

use std::{fmt, future::Future};

use super::{EVERY_ROLE, cases};
use crate::{
    backend::{
        AnyBackend, ApplyRequest, BackendErrorKind, BackendResult, CreateCollectionRequest,
        DropCollectionRequest, ListRequest, Mutation, StampRequest,
    },
    conformance::{
        client::{Client, expect_kind},
        data::{self, MOST_ATTEMPTS, pause, persist, sample, stamp, version},
        expect::Expected,
        trial::{CaseResult, Failure, Trial},
    },
};

cases!(EVERY_ROLE;
    a_probe_and_a_refresh_change_nothing,
    reopening_keeps_everything needs |c| c.durable,
    applied_is_durable_without_sync needs |c| c.durable_on_apply,
    close_is_idempotent,
    a_closed_store_is_unavailable,
    an_abandoned_write_can_be_repeated,
    a_factory_names_its_role_and_location,
    an_unknown_setting_is_refused_by_its_name,
);

async fn a_probe_and_a_refresh_change_nothing(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put(1, &sample("a", 3)).await?;
    let before = client.identity().await?;
    persist(&client.runtime, || client.shared.probe()).await?;
    persist(&client.runtime, || client.shared.refresh()).await?;
    client.sync().await?;
    ensure_eq!(client.identity().await?, before, "identity");
    client.expect_live(1, &sample("a", 3)).await
}

async fn fill(client: &Client) -> CaseResult {
    let records: Vec<_> = (1..=8).map(|n| sample(&format!("id {n}"), n)).collect();
    client.put_all(&records).await?;
    client.delete(9, "id 1").await
}

async fn expect_filled(client: &Client) -> CaseResult {
    for number in 2..=8 {
        let record = sample(&format!("id {number}"), number);
        client.expect_live(number, &record).await?;
    }
    client
        .expect(&[
            ("id 1", Expected::Deleted(version(9))),
            ("id 9", Expected::Never),
        ])
        .await?;
    let identity = client.identity().await?;
    ensure_eq!(identity.stamp, Some(stamp(1)), "stamp");
    ensure_eq!(
        identity.highest_version,
        Some(version(9)),
        "highest version"
    );
    Ok(())
}

async fn reopening_keeps_everything(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    fill(&client).await?;
    client.sync().await?;
    client.close().await?;
    drop(client);
    let client = trial.open().await?;
    expect_filled(&client).await?;
    // And it can be written as before.
    client.put(1, &sample("id 1", 1)).await?;
    client.expect_deleted(9, "id 1").await?;
    client.put(10, &sample("id 1", 10)).await?;
    client.expect_live(10, &sample("id 1", 10)).await
}

async fn applied_is_durable_without_sync(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    fill(&client).await?;
    // Dropped, neither synced nor closed.
    drop(client);
    expect_filled(&trial.open().await?).await
}

async fn close_is_idempotent(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    for _ in 0..3 {
        client.close().await?;
    }
    Ok(())
}

/// The call answers `Unavailable`; one that timed out is asked again.
async fn unavailable<T: fmt::Debug, F: Future<Output = BackendResult<T>>>(
    client: &Client,
    what: &str,
    call: impl Fn() -> F,
) -> CaseResult {
    for attempt in 0..MOST_ATTEMPTS {
        match call().await {
            Err(error) if error.kind() == BackendErrorKind::Timeout => {
                pause(&client.runtime, attempt).await
            }
            answer => {
                let what = format!("{what} after close");
                return expect_kind(answer, BackendErrorKind::Unavailable, &what);
            }
        }
    }
    Err(Failure::new(format!("{what} after close only timed out")))
}

async fn a_closed_store_is_unavailable(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put(1, &sample("a", 1)).await?;
    client.close().await?;
    let shared = &client.shared;
    let key = || client.collection.clone();
    let ids = || client.ids(["a"]);
    let apply = || {
        let mutations = [Mutation::upsert("a", version(2), sample("a", 2))];
        shared.apply(ApplyRequest::new(key(), 1, mutations))
    };
    let create = || shared.create_collection(CreateCollectionRequest::new(data::collection(), 1));
    unavailable(&client, "probe", || shared.probe()).await?;
    unavailable(&client, "identity", || shared.identity()).await?;
    unavailable(&client, "write_stamp", || {
        shared.write_stamp(StampRequest::new(stamp(2)))
    })
    .await?;
    unavailable(&client, "create_collection", create).await?;
    unavailable(&client, "drop_collection", || {
        shared.drop_collection(DropCollectionRequest::new(key(), 1))
    })
    .await?;
    unavailable(&client, "collections", || shared.collections()).await?;
    unavailable(&client, "apply", apply).await?;
    unavailable(&client, "heads", || shared.heads(ids())).await?;
    unavailable(&client, "fingerprints", || {
        shared.fingerprints(ListRequest::new(key(), 1))
    })
    .await?;
    unavailable(&client, "fingerprints_of", || shared.fingerprints_of(ids())).await?;
    unavailable(&client, "sync", || shared.sync()).await?;
    match &client.backend {
        AnyBackend::Vector(vector) => {
            unavailable(&client, "vectors", || vector.vectors(ids())).await
        }
        AnyBackend::Graph(graph) => unavailable(&client, "edges", || graph.edges(ids())).await,
        AnyBackend::Relational(relational) => {
            unavailable(&client, "get", || relational.get(ids())).await
        }
    }
}

/// The answer of a write is given up at its first wait; the write may land or not, and repeating
/// it settles the matter.
async fn an_abandoned_write_can_be_repeated(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    for number in 1..=20 {
        let mutations = [Mutation::upsert("a", version(number), sample("a", number))];
        let request = ApplyRequest::new(client.collection.clone(), 1, mutations.clone());
        let abandoned = client.shared.apply(request);
        match futures_util::future::select(abandoned, std::future::ready(())).await {
            futures_util::future::Either::Left((answer, _)) => drop(answer),
            futures_util::future::Either::Right(((), abandoned)) => drop(abandoned),
        }
        if number % 2 == 0 {
            client.doubt(&mutations);
            client.write(&mutations).await?;
            client.expect_live(number, &sample("a", number)).await?;
        }
    }
    Ok(())
}

async fn a_factory_names_its_role_and_location(trial: Trial) -> CaseResult {
    let client = trial.open().await?;
    let (here, there) = (&trial.instance, trial.another_instance());
    ensure_eq!(
        here.factory.role(),
        client.backend.role(),
        "role of the factory and of what it opened"
    );
    ensure_eq!(
        client.shared.role(),
        client.backend.role(),
        "role said and role opened"
    );
    ensure_eq!(
        client.shared.service(),
        here.factory.service(),
        "service of the factory and of what it opened"
    );
    let context = here.context(&trial.runtime);
    let location = here.factory.location(&here.config, &context)?;
    ensure_eq!(
        here.factory.location(&here.config, &context)?,
        location,
        "location, asked twice"
    );
    let other = there
        .factory
        .location(&there.config, &there.context(&trial.runtime))?;
    ensure!(
        other != location,
        "two stores have the same location {location:?}"
    );
    Ok(())
}

async fn an_unknown_setting_is_refused_by_its_name(trial: Trial) -> CaseResult {
    let mut config = trial.instance.config.clone();
    config.insert("no_such_setting".to_owned(), true.into());
    let context = trial.instance.context(&trial.runtime);
    match trial.instance.factory.open(&config, &context).await {
        Ok(_) => Err(Failure::new("an unknown setting was accepted".to_owned())),
        Err(error) => {
            ensure_eq!(error.kind(), BackendErrorKind::Config, "kind of {error}");
            ensure!(
                error.message().contains("no_such_setting"),
                "the error does not name the setting: {error}"
            );
            Ok(())
        }
    }
}
