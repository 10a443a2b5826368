//! Group commit: whoever comes first leads, everyone who comes meanwhile is in the next group.

use std::{
    collections::VecDeque,
    sync::{Arc, MutexGuard, PoisonError},
};

use redb::Database;
use tokio::sync::{OwnedRwLockReadGuard, oneshot};

use super::{
    super::{JournalError, JournalErrorKind, JournalResult},
    engine::Engine,
    failure::{Failure, caught},
    group::{Group, State},
    tables::Tables,
};

/// Calls that wait for a group.
#[derive(Default)]
pub(super) struct Queue {
    jobs: VecDeque<Box<dyn Job>>,
    /// Long ones: see [`Size::alone`].
    alone: VecDeque<Box<dyn Job>>,
    /// Whether the next group is one of those, if there is any.
    alone_is_next: bool,
    led: bool,
    pub(super) closed: bool,
}

/// How much of a group a call takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) entries: usize,
    pub(super) bytes: u64,
    /// It takes long and is not urgent: it shares no group, and every other group goes to those
    /// that do as long as there are any. So an append waits for one of them at most.
    pub(super) alone: bool,
}

impl Size {
    /// A call that writes a few small records.
    pub(super) const SMALL: Size = Size {
        entries: 1,
        bytes: 256,
        alone: false,
    };
}

/// A call's part in a group.
trait Job: Send {
    fn size(&self) -> Size;
    /// Does the part; what it answers is told only after the commit.
    fn run(&mut self, group: &mut Group<'_, '_>) -> Result<(), Failure>;
    /// Tells the caller, who may be gone.
    fn answer(self: Box<Self>, outcome: JournalResult<()>);
}

struct TypedJob<T, W> {
    size: Size,
    work: Option<W>,
    value: Option<JournalResult<T>>,
    reply: oneshot::Sender<JournalResult<T>>,
}

impl<T, W> Job for TypedJob<T, W>
where
    T: Send,
    W: FnOnce(&mut Group<'_, '_>) -> Result<JournalResult<T>, Failure> + Send,
{
    fn size(&self) -> Size {
        self.size
    }

    fn run(&mut self, group: &mut Group<'_, '_>) -> Result<(), Failure> {
        if let Some(work) = self.work.take() {
            self.value = Some(work(group)?);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: JournalResult<()>) {
        let value = match (outcome, self.value) {
            (Err(error), _) => Err(error),
            (Ok(()), Some(value)) => value,
            (Ok(()), None) => Err(lost()),
        };
        // The caller may have given up the answer.
        let _ = self.reply.send(value);
    }
}

fn lost() -> JournalError {
    JournalError::new(
        JournalErrorKind::Indeterminate,
        "the group ended without an answer: the runtime is shutting down",
    )
}

fn closed() -> JournalError {
    JournalError::new(JournalErrorKind::Closed, "the journal is closed")
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
        let (jobs, alone) = {
            let mut queue = self.engine.queue();
            queue.led = false;
            (
                std::mem::take(&mut queue.jobs),
                std::mem::take(&mut queue.alone),
            )
        };
        for job in jobs.into_iter().chain(alone) {
            job.answer(Err(closed()));
        }
    }
}

impl Engine {
    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it holds the lock halfway through a change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a call into the next group and waits for its answer. Once this was polled, dropping
    /// it gives up the answer, never the call.
    pub(super) async fn submit<T: Send + 'static>(
        self: &Arc<Self>,
        size: Size,
        work: impl FnOnce(&mut Group<'_, '_>) -> Result<JournalResult<T>, Failure> + Send + 'static,
    ) -> JournalResult<T> {
        if let Some(message) = self.read_only() {
            return Err(JournalError::new(JournalErrorKind::ReadOnly, message));
        }
        let (reply, answer) = oneshot::channel();
        let must_lead = {
            let mut queue = self.queue();
            if queue.closed {
                return Err(closed());
            }
            let job = Box::new(TypedJob {
                size,
                work: Some(work),
                value: None,
                reply,
            });
            match size.alone {
                true => queue.alone.push_back(job),
                false => queue.jobs.push_back(job),
            }
            !std::mem::replace(&mut queue.led, true)
        };
        if must_lead {
            let leadership = Leadership {
                engine: self.clone(),
                ended: false,
            };
            drop(self.runtime.spawn(lead(leadership)));
        }
        answer.await.unwrap_or_else(|_| Err(lost()))
    }

    /// The next group; with none waiting the leader has ended.
    fn next_group(&self) -> Option<Vec<Box<dyn Job>>> {
        let mut queue = self.queue();
        if (queue.alone_is_next || queue.jobs.is_empty())
            && let Some(job) = queue.alone.pop_front()
        {
            queue.alone_is_next = false;
            return Some(vec![job]);
        }
        queue.alone_is_next = !queue.jobs.is_empty();
        let mut group: Vec<Box<dyn Job>> = Vec::new();
        let (mut entries, mut bytes) = (0_usize, 0_u64);
        while let Some(job) = queue.jobs.front() {
            let size = job.size();
            entries = entries.saturating_add(size.entries);
            bytes = bytes.saturating_add(size.bytes);
            let fits =
                entries <= self.options.group_max_entries && bytes <= self.options.group_max_bytes;
            if !group.is_empty() && !fits {
                break;
            }
            group.extend(queue.jobs.pop_front());
        }
        queue.led = !group.is_empty();
        queue.led.then_some(group)
    }

    /// Carries one group out and answers its callers. Blocks.
    fn run_group(&self, database: Option<&Database>, mut jobs: Vec<Box<dyn Job>>) {
        let outcome = if let Some(message) = self.read_only() {
            Err(JournalError::new(JournalErrorKind::ReadOnly, message))
        } else if let Some(database) = database {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let committed = caught(|| self.commit(database, &mut state, &mut jobs));
            match committed {
                Ok(()) => {
                    self.publish(&state);
                    Ok(())
                }
                Err(failure) => {
                    self.fail(&failure);
                    Err(JournalError::new(
                        JournalErrorKind::Indeterminate,
                        failure.message,
                    ))
                }
            }
        } else {
            Err(closed())
        };
        for job in jobs {
            job.answer(outcome.clone());
        }
    }

    fn commit(
        &self,
        database: &Database,
        state: &mut State,
        jobs: &mut [Box<dyn Job>],
    ) -> Result<(), Failure> {
        let mut transaction = database.begin_write()?;
        transaction.set_two_phase_commit(true);
        let tables = Tables::write(&transaction)?;
        let now = self.runtime.unix_milliseconds();
        let mut group = Group::new(tables, state, &self.options, now);
        for job in jobs {
            job.run(&mut group)?;
        }
        let truncated = group.truncated;
        if group.finish()? {
            transaction.commit()?;
        } else {
            transaction.abort()?;
        }
        if truncated {
            state.refused_for_room = false;
            self.restore_reserve(state);
        }
        Ok(())
    }

    /// Sets the reserve aside again, now that there is room inside the journal.
    fn restore_reserve(&self, state: &mut State) {
        if state.has_reserve {
            return;
        }
        match self.storage.restore_reserve(false) {
            Ok(()) => state.has_reserve = true,
            Err(error) => {
                tracing::warn!(%error, "no room for the journal's reserve; appends stay refused");
            }
        }
    }
}

/// Commits group after group until none waits. The guard is held all the while, so that closing
/// waits for the last group.
async fn lead(mut leadership: Leadership) {
    let engine = leadership.engine.clone();
    let mut database: OwnedRwLockReadGuard<_> = engine.database.clone().read_owned().await;
    while let Some(jobs) = engine.next_group() {
        let worker = engine.clone();
        let group = engine.runtime.blocking(move || {
            worker.run_group(database.as_ref(), jobs);
            database
        });
        match group.await {
            Ok(guard) => database = guard,
            Err(lost) => {
                engine.fail(&Failure::storage(lost.to_string()));
                return;
            }
        }
    }
    // Nobody waits any more, and whoever came since has a leader of their own.
    leadership.ended = true;
}
