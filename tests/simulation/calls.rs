//! Calls of a manager: each is answered in time, and never with what only a defect explains.

use std::{future::IntoFuture, time::Duration};

use dbmanager_core::{Error, ErrorKind, Result, Runtime, WriteOutcome};

use super::history::History;

/// What a call may take beyond its own time: a manager that is busy or waits for a lost connection.
const GRACE: Duration = Duration::from_secs(120);
/// The time of a call that has none of its own.
pub const USUAL: Duration = Duration::from_secs(30);
/// The time of a call that goes through everything that the stores hold.
pub const LONG: Duration = Duration::from_secs(3_600);

/// Waits for the answer to a call that has this time for it.
pub async fn call<T>(
    history: &History,
    runtime: &Runtime,
    name: &str,
    time: Duration,
    call: impl IntoFuture<Output = Result<T>>,
) -> Result<T> {
    let answer = runtime.timeout(time + GRACE, call.into_future()).await;
    let Ok(answer) = answer else {
        let what = format!("{name} has not been after {:?}", time + GRACE);
        history.violate("every call is answered", what);
        // The run ends here, and an answer would be taken down.
        return std::future::pending().await;
    };
    if let Err(error) = &answer {
        check(history, name, error);
    }
    answer
}

/// Checks an error by itself, whatever was called.
pub fn check(history: &History, name: &str, error: &Error) {
    if error.kind() == ErrorKind::Internal {
        history.violate("no error is the library's own", format!("{name}: {error}"));
    }
    let unknown = matches!(error.write_outcome(), Some(WriteOutcome::Indeterminate(_)));
    // Only the disk keeps a journal from knowing what it has. A repetition under a key may find an
    // accepted write that is not shown yet, until its own time is over.
    if unknown && error.kind() != ErrorKind::Timeout && !history.is_disk_disturbed() {
        history.violate(
            "an outcome is unknown only after a fault of the disk",
            format!("{name}: {error}"),
        );
    }
}
