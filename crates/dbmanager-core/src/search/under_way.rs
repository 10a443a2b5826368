//! A search under way: what every leg of it shares, and the time it has.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::sync::OnceCell;

use super::{
    context::{SearchContext, SearchStores},
    fuse::{LegList, slot},
    leg::{Failure, Leg},
    plan::{LegPlan, Plan},
};
use crate::{
    Error, ErrorKind,
    backend::{BackendError, BackendErrorKind},
    model::{Collection, CollectionKey, Filter, LegName, Query},
};

/// When each part of a search must be done, on the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    /// The end of the wait for lost connections.
    pub(super) connecting: Duration,
    /// The end of the legs.
    pub(super) legs: Duration,
    /// The end of the graph's expansion and of the look-ups.
    pub(super) expansion: Duration,
    /// The end of the search.
    pub(super) end: Duration,
}

impl Deadlines {
    /// A quarter of the time at most for connecting, three quarters for that and the legs, a tenth for what follows from them, the rest for
    /// reading the documents.
    pub(super) fn new(started: Duration, timeout: Duration) -> Self {
        let end = started.saturating_add(timeout);
        let share = |percent: u32| started.saturating_add(timeout / 100 * percent);
        Self {
            connecting: share(25),
            legs: share(75),
            expansion: share(85),
            end,
        }
    }
}

/// A search under way.
pub(super) struct Search<'a> {
    pub(super) context: &'a dyn SearchContext,
    pub(super) scope: &'a [Collection],
    pub(super) query: &'a Query,
    pub(super) stores: SearchStores,
    pub(super) plan: Plan,
    pub(super) deadlines: Deadlines,
    /// The query's words, without white space around them.
    pub(super) text: Arc<str>,
    pub(super) has_words: bool,
    pub(super) filter: Option<Arc<Filter>>,
    places: HashMap<&'a CollectionKey, u32>,
    /// The query's vector, computed once, also if the legs run again with more candidates.
    vector: OnceCell<Arc<[f32]>>,
}

impl<'a> Search<'a> {
    pub(super) fn new(
        context: &'a dyn SearchContext,
        scope: &'a [Collection],
        query: &'a Query,
        stores: SearchStores,
        plan: Plan,
        deadlines: Deadlines,
    ) -> Self {
        let text = query.text.trim();
        Self {
            context,
            scope,
            query,
            stores,
            plan,
            deadlines,
            text: Arc::from(text),
            has_words: !text.is_empty(),
            filter: query.filter.clone().map(Arc::new),
            places: scope.iter().map(|c| &c.key).zip(0..).collect(),
            vector: OnceCell::new_with(query.vector.as_deref().map(Arc::from)),
        }
    }

    /// The place of a collection in the scope.
    pub(super) fn index_of(&self, collection: &CollectionKey) -> Option<u32> {
        self.places.get(collection).copied()
    }

    /// A leg's hits as the fusion takes them.
    pub(super) fn list<'l>(&self, leg: &'l Leg) -> LegList<'l> {
        LegList {
            leg: leg.name,
            weight: self.plan.weight(leg.name),
            hits: &leg.hits,
            looked_up: &leg.looked_up,
        }
    }

    /// Waits for `work` until the deadline.
    pub(super) async fn until<T>(
        &self,
        deadline: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, BackendError> {
        let runtime = self.context.runtime();
        let left = deadline.saturating_sub(runtime.monotonic());
        runtime.timeout(left, work).await.map_err(|_| {
            BackendError::new(
                BackendErrorKind::Timeout,
                "no answer within its share of the time",
            )
        })
    }

    /// Runs a leg within its share of the time, unless the plan leaves it out.
    pub(super) async fn run(&self, name: LegName, work: impl Future<Output = Leg>) -> Leg {
        self.run_until(self.deadlines.legs, name, work).await
    }

    /// Runs a leg until the deadline, unless the plan leaves it out.
    pub(super) async fn run_until(
        &self,
        deadline: Duration,
        name: LegName,
        work: impl Future<Output = Leg>,
    ) -> Leg {
        if let LegPlan::Skip { outcome, note } = &self.plan.legs[slot(name)] {
            return Leg::skipped(name, outcome.clone(), note);
        }
        let start = self.context.runtime().monotonic();
        let mut leg = match self.until(deadline, work).await {
            Ok(leg) => leg,
            Err(error) => Leg::failed(name, Failure::from(&error)),
        };
        leg.elapsed = self.context.runtime().monotonic().saturating_sub(start);
        leg
    }

    /// The query's vector; empty if its words give none.
    pub(super) async fn query_vector(&self) -> Result<Arc<[f32]>, Error> {
        let failed = |message| Error::new(ErrorKind::Embedding, message);
        let embed = || async {
            let embedder = self.context.embedder();
            let embedder = embedder.ok_or_else(|| failed("the embedder is gone"))?;
            let vector = embedder.embed_query(Arc::clone(&self.text)).await?;
            if vector.iter().all(|number| number.is_finite()) {
                Ok(Arc::from(vector))
            } else {
                Err(failed("the embedder made a number that is not finite"))
            }
        };
        self.vector.get_or_try_init(embed).await.cloned()
    }

    /// The query's vector if a leg has needed it, and it is not empty.
    pub(super) fn known_vector(&self) -> Option<&Arc<[f32]>> {
        self.vector.get().filter(|vector| !vector.is_empty())
    }
}
