//! Runs the semantic and the metadata leg, and holds what every leg has in common: its time, its
//! hits and what became of it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream};
use tokio::sync::OnceCell;

use super::{
    context::{SearchContext, SearchStore, SearchStores},
    fuse::{self, LegHit, LegList, slot},
    plan::{LegPlan, Plan, VectorTarget},
};
use crate::{
    Error, ErrorKind,
    backend::{
        BackendError, BackendErrorKind, BackendResult, TextHit, TextSearchRequest, VectorHit,
        VectorSearchRequest,
    },
    model::{Collection, CollectionKey, Filter, Fusion, LegName, LegOutcome, LegReport, Query},
};

/// The most candidates of a leg, and of a ranking.
pub(super) const MAX_CANDIDATES: usize = 1_000;
/// How many times more is fetched where the filter is evaluated here.
const UNFILTERED_FACTOR: usize = 5;
/// The most collections asked at the same time by one leg.
const CONCURRENT_COLLECTIONS: usize = 8;
/// Whether documents that only another leg found are scored in the vector store too, which is a
/// few hundred comparisons of vectors.
const LOOK_UP_SEMANTIC: bool = true;
/// Whether documents that only another leg found are scored by full text too.
const LOOK_UP_METADATA: bool = true;

/// When each part of a search must be done, on the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    /// The end of the legs.
    pub(super) legs: Duration,
    /// The end of the graph's expansion and of the look-ups.
    pub(super) expansion: Duration,
    /// The end of the search.
    pub(super) end: Duration,
}

impl Deadlines {
    /// Three quarters of the time for the legs, a tenth for what follows from them, the rest for
    /// reading the documents.
    pub(super) fn new(started: Duration, timeout: Duration) -> Self {
        let end = started.saturating_add(timeout);
        let share = |percent: u32| started.saturating_add(timeout / 100 * percent);
        Self {
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
        if let LegPlan::Skip { outcome, note } = &self.plan.legs[slot(name)] {
            return Leg::skipped(name, outcome.clone(), note);
        }
        let start = self.context.runtime().monotonic();
        let mut leg = match self.until(self.deadlines.legs, work).await {
            Ok(leg) => leg,
            Err(error) => Leg::failed(name, Failure::from(&error)),
        };
        leg.elapsed = self.context.runtime().monotonic().saturating_sub(start);
        leg
    }

    async fn query_vector(&self) -> Result<Arc<[f32]>, Error> {
        let embed = || async {
            let embedder = self
                .context
                .embedder()
                .ok_or_else(|| Error::new(ErrorKind::Embedding, "the embedder is gone"))?;
            let vector = embedder.embed_query(Arc::clone(&self.text)).await?;
            match vector.iter().all(|number| number.is_finite()) {
                true => Ok(Arc::from(vector)),
                false => Err(Error::new(
                    ErrorKind::Embedding,
                    "the embedder made a number that is not finite",
                )),
            }
        };
        self.vector.get_or_try_init(embed).await.cloned()
    }
}

/// Why a leg, or a part of it, brought nothing.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) outcome: LegOutcome,
    pub(super) kind: ErrorKind,
    pub(super) message: String,
    pub(super) retryable: bool,
}

impl From<&BackendError> for Failure {
    fn from(error: &BackendError) -> Self {
        let (outcome, kind) = match error.kind() {
            BackendErrorKind::CircuitOpen => (LegOutcome::CircuitOpen, ErrorKind::Unavailable),
            BackendErrorKind::Timeout => (LegOutcome::TimedOut, ErrorKind::Unavailable),
            BackendErrorKind::Unsupported => (LegOutcome::Failed, ErrorKind::Unsupported),
            _ => (LegOutcome::Failed, ErrorKind::Unavailable),
        };
        Self {
            outcome,
            kind,
            message: error.to_string(),
            retryable: error.is_transient(),
        }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self {
            outcome: LegOutcome::Failed,
            kind: error.kind(),
            message: error.to_string(),
            retryable: error.is_retryable(),
        }
    }
}

/// A leg and what became of it.
#[derive(Clone, Debug)]
pub(super) struct Leg {
    pub(super) name: LegName,
    /// What it found, best first.
    pub(super) hits: Vec<LegHit>,
    /// Scores of what other legs found.
    pub(super) looked_up: Vec<LegHit>,
    /// There may be more than was fetched.
    pub(super) saturated: bool,
    /// Its store has evaluated the filter.
    pub(super) filtered: bool,
    /// How long it took.
    pub(super) elapsed: Duration,
    /// What went wrong in it or in a part of it.
    pub(super) failure: Option<Failure>,
    /// Whether it, or a part of it, answered, and whether from a store that has everything.
    answered: Option<bool>,
    skipped: LegOutcome,
    notes: Vec<String>,
}

impl Leg {
    /// A leg that has not been asked anything.
    pub(super) fn new(name: LegName) -> Self {
        Self {
            name,
            hits: Vec::new(),
            looked_up: Vec::new(),
            saturated: false,
            filtered: false,
            elapsed: Duration::ZERO,
            failure: None,
            answered: None,
            skipped: LegOutcome::NotAsked,
            notes: Vec::new(),
        }
    }

    fn skipped(name: LegName, outcome: LegOutcome, note: &str) -> Self {
        let mut leg = Self::new(name);
        leg.skipped = outcome;
        leg.note(note);
        leg
    }

    pub(super) fn failed(name: LegName, failure: Failure) -> Self {
        let mut leg = Self::new(name);
        leg.fail(failure);
        leg
    }

    /// A part of it failed. The first failure is the one that is reported.
    pub(super) fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }

    /// It, or a part of it, answered.
    pub(super) fn answer(&mut self, caught_up: bool) {
        self.answered = Some(self.answered.unwrap_or(true) && caught_up);
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Whether anything of it answered.
    pub(super) fn has_answered(&self) -> bool {
        self.answered.is_some()
    }

    pub(super) fn outcome(&self) -> LegOutcome {
        match (self.answered, &self.failure) {
            (Some(true), None) => LegOutcome::Answered,
            (Some(_), _) => LegOutcome::Incomplete,
            (None, Some(failure)) => failure.outcome.clone(),
            (None, None) => self.skipped.clone(),
        }
    }

    pub(super) fn report(&self, weight: f64) -> LegReport {
        let mut report = LegReport::new(self.name, self.outcome());
        report.candidates = self.hits.len();
        report.elapsed = self.elapsed;
        report.weight = weight;
        report.error = self.failure.as_ref().map(|failure| failure.message.clone());
        report.notes = self.notes.clone();
        report
    }

    /// Takes in the answers of every collection, at most `size` hits.
    pub(super) fn take<T>(
        &mut self,
        answers: Answers<T>,
        caught_up: bool,
        size: usize,
        search: &Search<'_>,
        convert: impl Fn(u32, T) -> LegHit,
    ) {
        for (index, answer) in answers {
            match answer {
                Ok(found) => {
                    self.answer(caught_up);
                    self.saturated |= found.len() >= size;
                    self.hits
                        .extend(found.into_iter().map(|hit| convert(index, hit)));
                }
                // The write that creates it is still on its way.
                Err(error) if error.kind() == BackendErrorKind::CollectionMissing && !caught_up => {
                    self.answer(false);
                }
                Err(error) => {
                    let name = &search.scope[index as usize].key.name;
                    self.note(format!("collection {name:?} did not answer: {error}"));
                    self.fail(Failure::from(&error));
                }
            }
        }
        let found = self.hits.len();
        self.hits.retain(|hit| hit.score.is_finite());
        if self.hits.len() < found {
            let dropped = found - self.hits.len();
            self.note(format!(
                "{dropped} hits had no finite score and were dropped"
            ));
        }
        fuse::sort_hits(&mut self.hits);
        self.saturated |= self.hits.len() > size;
        self.hits.truncate(size);
    }

    /// The filter to push down and how much to fetch. A store that cannot filter is asked for
    /// more, and the filter is evaluated when the hits are checked.
    fn push_down(
        &mut self,
        search: &Search<'_>,
        store_filters: bool,
        size: usize,
    ) -> (Option<Arc<Filter>>, usize) {
        match &search.filter {
            Some(_) if !store_filters => {
                let size = (size * UNFILTERED_FACTOR).min(MAX_CANDIDATES);
                self.note(format!(
                    "the store cannot filter: the filter is evaluated over its best {size}"
                ));
                (None, size)
            }
            filter => {
                self.filtered = true;
                (filter.clone(), size)
            }
        }
    }
}

/// What each collection answered, by its place in the scope.
pub(super) type Answers<T> = Vec<(u32, BackendResult<Vec<T>>)>;

/// A request to a store that is under way.
pub(super) type Asked<'a, T> = Pin<Box<dyn Future<Output = BackendResult<Vec<T>>> + Send + 'a>>;

/// Asks every collection, a bounded number at a time.
pub(super) async fn ask<'a, T: Send + 'a>(requests: Vec<(u32, Asked<'a, T>)>) -> Answers<T> {
    let (places, requests): (Vec<u32>, Vec<Asked<'a, T>>) = requests.into_iter().unzip();
    let answers: Vec<_> = stream::iter(requests)
        .buffered(CONCURRENT_COLLECTIONS)
        .collect()
        .await;
    places.into_iter().zip(answers).collect()
}

/// The store to ask and whether it has caught up; or why it cannot be asked.
pub(super) fn ready<B: ?Sized>(store: &SearchStore<B>) -> Result<(&Arc<B>, bool), Failure> {
    match store {
        SearchStore::Ready { backend, caught_up } => Ok((backend, *caught_up)),
        SearchStore::Unavailable(error) => Err(Failure::from(error)),
        SearchStore::NotConfigured => Err(Failure {
            outcome: LegOutcome::NotConfigured,
            kind: ErrorKind::Unsupported,
            message: "no store is configured".to_owned(),
            retryable: false,
        }),
    }
}

fn of_vector(collection: u32, hit: VectorHit) -> LegHit {
    LegHit {
        collection,
        id: hit.id,
        version: hit.version,
        score: hit.score,
        passage: hit.passage,
        detail: None,
    }
}

fn of_text(collection: u32, hit: TextHit) -> LegHit {
    LegHit {
        collection,
        id: hit.id,
        version: hit.version,
        score: hit.score,
        passage: None,
        detail: None,
    }
}

/// The semantic leg: nearest neighbours of the query's vector.
pub(super) async fn semantic(search: &Search<'_>, size: usize) -> Leg {
    let mut leg = Leg::new(LegName::Semantic);
    let (backend, caught_up) = match ready(&search.stores.vector) {
        Ok(store) => store,
        Err(failure) => return Leg::failed(LegName::Semantic, failure),
    };
    note_targets(search, &mut leg);
    if !search.plan.targets.contains(&VectorTarget::Ask) {
        if leg.failure.is_none() {
            leg.answer(caught_up);
        }
        return leg;
    }
    let vector = match search.query_vector().await {
        Ok(vector) => vector,
        Err(error) => {
            leg.fail(Failure::from(&error));
            return leg;
        }
    };
    let (filter, size) = leg.push_down(search, backend.capabilities().filter, size);
    let requests = asked_collections(search).map(|(index, key)| {
        let request =
            VectorSearchRequest::new(key.clone(), Arc::clone(&vector), size).filter(filter.clone());
        (index, backend.search_vectors(request))
    });
    let answers = ask(requests.collect()).await;
    leg.take(answers, caught_up, size, search, of_vector);
    leg
}

fn asked_collections<'s>(search: &'s Search<'_>) -> impl Iterator<Item = (u32, &'s CollectionKey)> {
    (0..)
        .zip(search.scope.iter().zip(&search.plan.targets))
        .filter(|(_, (_, target))| **target == VectorTarget::Ask)
        .map(|(index, (collection, _))| (index, &collection.key))
}

/// Says which collections are left out, and fails the part of those that should not be.
fn note_targets(search: &Search<'_>, leg: &mut Leg) {
    let mut metrics = HashSet::new();
    for (collection, target) in search.scope.iter().zip(&search.plan.targets) {
        let name = &collection.key.name;
        match target {
            VectorTarget::Ask => {
                metrics.extend(
                    collection
                        .options
                        .embedding_space
                        .as_ref()
                        .map(|s| s.metric),
                );
            }
            VectorTarget::Empty => {}
            VectorTarget::CallerVectors => leg.note(format!(
                "collection {name:?} is left out: its vectors are the caller's"
            )),
            VectorTarget::OtherDimension => leg.note(format!(
                "collection {name:?} is left out: its vectors have another dimension"
            )),
            VectorTarget::OtherModel => leg.fail(Failure::from(
                &Error::new(
                    ErrorKind::EmbeddingSpaceMismatch,
                    "the embedder is not the model that made the collection's vectors",
                )
                .with("collection", name),
            )),
        }
    }
    if metrics.len() > 1 {
        leg.note("the collections use different metrics: their scores are not comparable");
    }
}

/// The metadata leg: full text under the filter; without words, what fulfils the filter.
pub(super) async fn metadata(search: &Search<'_>, size: usize) -> Leg {
    let mut leg = Leg::new(LegName::Metadata);
    let (backend, caught_up) = match ready(&search.stores.relational) {
        Ok(store) => store,
        Err(failure) => return Leg::failed(LegName::Metadata, failure),
    };
    let (filter, size) = leg.push_down(search, backend.capabilities().filter, size);
    let requests = (0..).zip(search.scope).map(|(index, collection)| {
        let request =
            TextSearchRequest::new(collection.key.clone(), Arc::clone(&search.text), size)
                .filter(filter.clone());
        (index, backend.search_text(request))
    });
    let answers = ask(requests.collect()).await;
    leg.take(answers, caught_up, size, search, of_text);
    leg
}

/// The ids of `others` that `own` may know but did not rank, by collection. A list that came short
/// holds everything its store has to say.
fn missing(own: &Leg, others: &[&Leg]) -> BTreeMap<u32, Vec<Arc<str>>> {
    let mut missing: BTreeMap<u32, Vec<Arc<str>>> = BTreeMap::new();
    if !own.saturated {
        return missing;
    }
    let mut known: HashSet<(u32, &str)> = own
        .hits
        .iter()
        .map(|hit| (hit.collection, &*hit.id))
        .collect();
    for hit in others.iter().flat_map(|leg| &leg.hits) {
        if known.insert((hit.collection, &hit.id)) {
            missing
                .entry(hit.collection)
                .or_default()
                .push(Arc::clone(&hit.id));
        }
    }
    missing
}

/// Whether looking scores up in other legs can change the ranking.
fn looks_up(search: &Search<'_>) -> bool {
    !matches!(search.query.fusion, Fusion::Rrf { .. })
}

/// What the vector store says of documents that only other legs found.
pub(super) async fn look_up_semantic(
    search: &Search<'_>,
    own: &Leg,
    others: &[&Leg],
) -> Answers<LegHit> {
    let Ok((backend, _)) = ready(&search.stores.vector) else {
        return Vec::new();
    };
    let Some(vector) = search
        .vector
        .get()
        .filter(|_| LOOK_UP_SEMANTIC && looks_up(search))
    else {
        return Vec::new();
    };
    let filter = search.filter.clone().filter(|_| own.filtered);
    let requests = missing(own, others).into_iter().filter_map(|(index, ids)| {
        if search.plan.targets[index as usize] != VectorTarget::Ask {
            return None;
        }
        let key = search.scope[index as usize].key.clone();
        let request = VectorSearchRequest::new(key, Arc::clone(vector), ids.len())
            .filter(filter.clone())
            .restrict_to(ids);
        Some((index, backend.search_vectors(request)))
    });
    converted(ask(requests.collect()).await, of_vector)
}

/// What full text says of documents that only other legs found.
pub(super) async fn look_up_metadata(
    search: &Search<'_>,
    own: &Leg,
    others: &[&Leg],
) -> Answers<LegHit> {
    let Ok((backend, _)) = ready(&search.stores.relational) else {
        return Vec::new();
    };
    if !(LOOK_UP_METADATA && looks_up(search) && search.has_words) {
        return Vec::new();
    }
    let filter = search.filter.clone().filter(|_| own.filtered);
    let requests = missing(own, others).into_iter().map(|(index, ids)| {
        let key = search.scope[index as usize].key.clone();
        let request = TextSearchRequest::new(key, Arc::clone(&search.text), ids.len())
            .filter(filter.clone())
            .restrict_to(ids);
        (index, backend.search_text(request))
    });
    converted(ask(requests.collect()).await, of_text)
}

fn converted<T>(answers: Answers<T>, convert: impl Fn(u32, T) -> LegHit) -> Answers<LegHit> {
    answers
        .into_iter()
        .map(|(index, answer)| {
            (
                index,
                answer.map(|hits| hits.into_iter().map(|hit| convert(index, hit)).collect()),
            )
        })
        .collect()
}

impl Leg {
    /// Takes in scores that were looked up. Their failure costs no hit, so the leg has answered.
    pub(super) fn take_looked_up(&mut self, answers: Result<Answers<LegHit>, BackendError>) {
        let answers = answers.unwrap_or_else(|error| vec![(0, Err(error))]);
        for (_, answer) in answers {
            match answer {
                Ok(hits) => self
                    .looked_up
                    .extend(hits.into_iter().filter(|hit| hit.score.is_finite())),
                Err(error) => {
                    self.note(format!("scores of other legs' hits not looked up: {error}"));
                }
            }
        }
    }
}
