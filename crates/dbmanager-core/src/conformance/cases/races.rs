//! Concurrent writes end at the newest version, whatever the order of arrival.

use std::sync::Arc;

use super::{EVERY_ROLE, cases};
use crate::{
    TaskHandle,
    backend::{AnyBackend, Mutation},
    conformance::{
        client::Client,
        data::{pause, persist, sample, version},
        expect::Expected,
        trial::{CaseResult, Failure, Trial},
    },
    model::nearly_same,
};

cases!(EVERY_ROLE;
    newer_and_older_race_on_an_absent_id,
    newer_and_older_race_on_a_present_id,
    upsert_and_delete_race,
    overlapping_batches_race,
    readers_see_whole_versions,
);

fn spawn(client: &Client, mutation: Mutation) -> TaskHandle<CaseResult> {
    let task = client.clone();
    client
        .runtime
        .spawn(async move { task.write(&[mutation]).await })
}

async fn ended(task: TaskHandle<CaseResult>) -> CaseResult {
    task.await
        .unwrap_or_else(|_| Err(Failure::new("a write panicked".to_owned())))
}

/// Both at once, each of them first in every other round.
async fn race(client: &Client, round: usize, a: Mutation, b: Mutation) -> CaseResult {
    let (first, second) = if round.is_multiple_of(2) {
        (a, b)
    } else {
        (b, a)
    };
    let tasks = [spawn(client, first), spawn(client, second)];
    for task in tasks {
        ended(task).await?;
    }
    Ok(())
}

fn upsert(id: &str, number: u64) -> Mutation {
    Mutation::upsert(id, version(number), sample(id, number))
}

async fn newer_and_older_race_on_an_absent_id(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    for round in 0..trial.rounds {
        let id = format!("round {round}");
        // Sets of chunks and references grow in some rounds and shrink in others.
        let number = 1 + round as u64;
        race(&client, round, upsert(&id, number), upsert(&id, number + 1)).await?;
        client
            .expect_live(number + 1, &sample(&id, number + 1))
            .await?;
    }
    Ok(())
}

async fn newer_and_older_race_on_a_present_id(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put(1, &sample("a", 1)).await?;
    for round in 0..trial.rounds {
        let number = 2 + 3 * round as u64;
        race(&client, round, upsert("a", number), upsert("a", number + 2)).await?;
        client
            .expect_live(number + 2, &sample("a", number + 2))
            .await?;
    }
    Ok(())
}

async fn upsert_and_delete_race(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    for round in 0..trial.rounds {
        let number = 1 + 2 * round as u64;
        let (older, newer) = (number, number + 1);
        if round % 4 < 2 {
            let delete = Mutation::delete("a", version(newer));
            race(&client, round, upsert("a", older), delete).await?;
            client.expect_deleted(newer, "a").await?;
        } else {
            let delete = Mutation::delete("a", version(older));
            race(&client, round, upsert("a", newer), delete).await?;
            client.expect_live(newer, &sample("a", newer)).await?;
        }
    }
    Ok(())
}

/// Several tasks write the same ids, in different orders, at versions of their own.
async fn overlapping_batches_race(trial: Trial) -> CaseResult {
    const TASKS: u64 = 6;
    const IDS: u64 = 8;
    let client = trial.store().await?;
    for round in 0..trial.rounds.div_ceil(4) as u64 {
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let mutations: Vec<_> = (0..IDS)
                    .map(|i| {
                        let id = format!("id {}", (i + task) % IDS);
                        upsert(&id, 1 + round * TASKS + task)
                    })
                    .collect();
                let writer = client.clone();
                client
                    .runtime
                    .spawn(async move { writer.write(&mutations).await })
            })
            .collect();
        for task in tasks {
            ended(task).await?;
        }
        let newest = (round + 1) * TASKS;
        for i in 0..IDS {
            let record = sample(&format!("id {i}"), newest);
            client.expect_live(newest, &record).await?;
        }
    }
    Ok(())
}

/// What a reader is shown of one version belongs to that version, all of it.
async fn readers_see_whole_versions(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let last = 1 + 2 * trial.rounds as u64;
    client.put(1, &sample("a", 1)).await?;
    let writer = client.clone();
    let writing = client.runtime.spawn(async move {
        for number in 2..=last {
            writer.put(number, &sample("a", number)).await?;
        }
        Ok(())
    });
    let mut seen = 1;
    for _ in 0..10_000 {
        let (number, same) = read_once(&client, last).await?;
        ensure!(
            same,
            "version {number} was shown with the content of another"
        );
        ensure!(number >= seen, "version {number} was shown after {seen}");
        if number == last {
            break;
        }
        if number == seen {
            pause(&client.runtime, 0).await;
        }
        seen = number;
    }
    ended(writing).await?;
    client
        .expect(&[("a", Expected::Live(version(last), sample("a", last)))])
        .await
}

/// The version that is shown, by its number, and whether the content is that version's.
async fn read_once(client: &Client, last: u64) -> CaseResult<(u64, bool)> {
    let request = client.ids(["a"]);
    let absent = || Failure::new("a live document was not shown".to_owned());
    let number_of = |shown| {
        (1..=last)
            .find(|number| version(*number) == shown)
            .ok_or_else(|| Failure::new(format!("{shown} was never written")))
    };
    let runtime = &client.runtime;
    Ok(match &client.backend {
        AnyBackend::Relational(relational) => {
            let found = persist(runtime, || relational.get(request.clone())).await?;
            let found = found.into_iter().next().flatten().ok_or_else(absent)?;
            let number = number_of(found.version)?;
            let expected = sample("a", number);
            let same = found.state.record().is_some_and(|record| {
                record.canonical() == expected.canonical()
                    && record.vectors().vectors == expected.vectors().vectors
            });
            (number, same)
        }
        AnyBackend::Vector(vector) => {
            let found = persist(runtime, || vector.vectors(request.clone())).await?;
            let found = found.into_iter().next().flatten().ok_or_else(absent)?;
            let number = number_of(found.version)?;
            let expected = sample("a", number);
            let expected = &expected.vectors().vectors;
            let exact = vector.capabilities().exact_vectors;
            let same =
                found.vectors == *expected || !exact && nearly_same(expected, &found.vectors, true);
            (number, same)
        }
        AnyBackend::Graph(graph) => {
            let found = persist(runtime, || graph.edges(request.clone())).await?;
            let found = found.into_iter().next().flatten().ok_or_else(absent)?;
            let number = number_of(found.version)?;
            let targets = |references: &[crate::model::Reference]| -> Vec<Arc<str>> {
                references
                    .iter()
                    .map(|r| r.target.as_str().into())
                    .collect()
            };
            let expected = sample("a", number);
            let same = targets(&found.references) == targets(&expected.document().references);
            (number, same)
        }
    })
}
