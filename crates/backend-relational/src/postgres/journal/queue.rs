//! Group commit: whoever comes first leads, everyone who comes meanwhile is in the next group.

use std::{collections::VecDeque, sync::Arc};

use dbmanager_core::journal::{
    AppendRequest, Appended, Change, JournalError, JournalErrorKind, JournalResult,
};
use tokio::sync::oneshot;

use super::engine::{Engine, lost};

/// Bytes that a request without a document takes of a group.
const SMALL: u64 = 256;

/// Calls that wait for a group.
#[derive(Default)]
pub(super) struct Queue {
    calls: VecDeque<Call>,
    led: bool,
}

pub(super) type Answers = Vec<JournalResult<Appended>>;

/// One call of `append`.
pub(super) struct Call {
    pub(super) requests: Vec<AppendRequest>,
    reply: oneshot::Sender<Answers>,
}

impl Call {
    pub(super) fn answer(self, answers: Answers) {
        // The caller may have given up the answer.
        let _ = self.reply.send(answers);
    }

    pub(super) fn fail(self, error: &JournalError) {
        let answers = vec![Err(error.clone()); self.requests.len()];
        self.answer(answers);
    }

    fn bytes(&self) -> u64 {
        let bytes = self.requests.iter().map(|request| match &request.change {
            Change::Upsert(record) => {
                let vectors = &record.vectors().vectors;
                let numbers: usize = vectors.iter().map(|vector| vector.values.len()).sum();
                (record.canonical().len() + 4 * numbers) as u64
            }
            _ => SMALL,
        });
        bytes.sum()
    }
}

/// Answers whoever still waits if the leader is dropped before its end, and makes way for another.
struct Leadership {
    engine: Arc<Engine>,
    ended: bool,
}

impl Drop for Leadership {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let calls = {
            let mut queue = self.engine.queue();
            queue.led = false;
            std::mem::take(&mut queue.calls)
        };
        let closed = JournalError::new(JournalErrorKind::Closed, "the journal is closed");
        for call in calls {
            call.fail(&closed);
        }
    }
}

impl Engine {
    /// Puts the requests into the next group and waits for their answers. Once this was polled,
    /// dropping it gives up the answers, never the append.
    pub(super) async fn submit(self: &Arc<Self>, requests: Vec<AppendRequest>) -> Answers {
        let count = requests.len();
        let (reply, answers) = oneshot::channel();
        let must_lead = {
            let mut queue = self.queue();
            if let Err(error) = self.check_open() {
                return vec![Err(error); count];
            }
            queue.calls.push_back(Call { requests, reply });
            !std::mem::replace(&mut queue.led, true)
        };
        if must_lead {
            let leadership = Leadership {
                engine: Arc::clone(self),
                ended: false,
            };
            drop(self.runtime.spawn(lead(leadership)));
        }
        answers.await.unwrap_or_else(|_| vec![Err(lost()); count])
    }

    /// The next group; with none waiting the leader has ended.
    fn next_group(&self) -> Option<Vec<Call>> {
        let mut queue = self.queue();
        let mut group: Vec<Call> = Vec::new();
        let (mut entries, mut bytes) = (0_usize, 0_u64);
        while let Some(call) = queue.calls.front() {
            entries = entries.saturating_add(call.requests.len());
            bytes = bytes.saturating_add(call.bytes());
            let fits =
                entries <= self.options.group_max_entries && bytes <= self.options.group_max_bytes;
            if !group.is_empty() && !fits {
                break;
            }
            group.extend(queue.calls.pop_front());
        }
        queue.led = !group.is_empty();
        queue.led.then_some(group)
    }
}

/// Commits group after group until none waits.
async fn lead(mut leadership: Leadership) {
    let engine = Arc::clone(&leadership.engine);
    let _closing_waits = engine.leading.lock().await;
    while let Some(group) = engine.next_group() {
        engine.append_group(group).await;
    }
    // Nobody waits any more, and whoever came since has a leader of their own.
    leadership.ended = true;
}
