//! The conformance suite on a server.

use std::{env, time::Duration};

use dbmanager_core::{
    Runtime,
    conformance::{Subject, Suite, guarded},
};

use crate::environment::report;

/// Rounds of each race; `DBMANAGER_TEST_ROUNDS` chooses another number. A store that is trusted with
/// data has passed 1,000.
const ROUNDS: usize = 50;

/// Runs every case on the subject, bare and behind the resilience that a manager puts around it,
/// and reports how many.
pub(crate) async fn conforms(subject: Subject) {
    let rounds = match env::var("DBMANAGER_TEST_ROUNDS") {
        Ok(rounds) => rounds.parse().expect("DBMANAGER_TEST_ROUNDS is a number"),
        Err(_) => ROUNDS,
    };
    for (subject, rounds) in [
        (subject.clone(), rounds),
        (subject.wrapped("resilience", guarded), 20),
    ] {
        let suite = Suite::new(Runtime::tokio())
            .rounds(rounds)
            .time_limit(Duration::from_secs(600));
        let found = suite.run(&subject).await;
        report(&found.to_string());
        for case in &found.refused_by_capability {
            report(&format!(
                "{}: ruled out by capability: {case}",
                found.subject
            ));
        }
        found.assert_ok();
    }
}
