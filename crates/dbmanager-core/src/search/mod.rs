//! Route 2, the search: plan the legs, run them at the same time, fuse what they found (pure),
//! read the current documents once and check every hit against them.
//!
//! - [`context`]: the door to the manager.
//! - [`validate`]: what a query must fulfil.
//! - [`plan`]: which legs run, with which weights.
//! - [`under_way`]: what the legs of a search share, and the time it has.
//! - [`leg`], [`legs`], [`look_up`]: a leg, the semantic and the metadata one, and the scores of
//!   what only other legs found.
//! - [`graph`], [`reached`]: the graph leg and its scores.
//! - [`fuse`]: one ranking out of three lists.
//! - [`hydrate`]: reads and checks.
//! - [`pages`]: keeps rankings for the pages after the first.
//!
//! Nothing here writes, and nothing here knows an adapter or the manager.

mod benchmark;
mod context;
mod fuse;
mod graph;
mod hydrate;
mod leg;
mod legs;
mod look_up;
mod pages;
mod plan;
mod reached;
#[cfg(test)]
mod tests;
mod under_way;
mod validate;

use std::{sync::Arc, time::Duration};

use futures_util::future::join3;
use tracing::Instrument;

pub use benchmark::FusionBenchmark;
pub(crate) use context::{CurrentDocument, SearchContext, SearchStore, SearchStores};
pub(crate) use validate::{validate, validate_filter};

use crate::{
    Error, ErrorKind, Result, Runtime,
    model::{
        Collection, LegName, LegOutcome, LegReport, PageEnd, Query, Role, SearchResponse,
        SearchType,
    },
};
use fuse::{LEGS, slot};
use hydrate::{CheckedPage, Ranking};
use leg::{Leg, MAX_CANDIDATES};
use pages::{PageSet, Pages};
use under_way::{Deadlines, Search};

/// The fewest candidates a leg is asked for.
const MIN_CANDIDATES: usize = 100;
/// How many times more candidates the legs are asked for when too many hits did not hold.
const REFILL_FACTOR: usize = 4;

/// What a search takes from the configuration where the query says nothing.
#[derive(Clone, Debug)]
pub(crate) struct SearchSettings {
    /// The time for a whole search.
    pub(crate) timeout: Duration,
}

impl Default for SearchSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
        }
    }
}

/// The search route. One per manager: it keeps the rankings that cursors point into.
#[derive(Debug, Default)]
pub(crate) struct SearchRoute {
    pages: Pages,
}

impl SearchRoute {
    /// A route that keeps no ranking yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A route that keeps rankings of at most `documents` documents together.
    #[cfg(test)]
    fn keeping(documents: usize) -> Self {
        Self {
            pages: Pages::new(documents),
        }
    }

    /// Searches the collections of `scope`, one, several or all of them, for a query that
    /// [`validate`] has let through.
    ///
    /// A page after the first looks at the collections its first page looked at, all of which must
    /// be in `scope` still; it reads and checks the documents anew.
    ///
    /// # Errors
    /// `InvalidInput` (the vector fits no collection, or the cursor is none), `CursorExpired`,
    /// `Unsupported` (no leg of this search has a store), and if no leg answered: `Unavailable`,
    /// or the legs' own kind if none of them will answer later either.
    pub(crate) async fn search(
        &self,
        context: &dyn SearchContext,
        scope: &[Collection],
        query: Query,
        settings: &SearchSettings,
    ) -> Result<SearchResponse> {
        let operation = name(query.search_type);
        let span = tracing::info_span!(
            "dbmanager.search",
            "db.system.name" = "dbmanager",
            "db.operation.name" = operation,
            collections = scope.len(),
            limit = query.limit,
        );
        let started = context.runtime().monotonic();
        let result = self
            .search_page(context, scope, &query, settings, started)
            .instrument(span)
            .await;
        let elapsed = context.runtime().monotonic().saturating_sub(started);
        let outcome = match &result {
            Ok(response) if response.degraded() => "degraded",
            Ok(_) => "ok",
            Err(_) => "error",
        };
        metrics::histogram!(
            "dbmanager_search_seconds", "operation" => operation, "outcome" => outcome
        )
        .record(elapsed.as_secs_f64());
        result
    }

    /// Whether the page that this cursor of an earlier answer points to can still be had.
    pub(crate) fn keeps_page(
        &self,
        runtime: &Runtime,
        scope: &[Collection],
        query: &Query,
        cursor: &str,
    ) -> bool {
        self.pages.find(runtime, query, scope, cursor).is_ok()
    }

    async fn search_page(
        &self,
        context: &dyn SearchContext,
        scope: &[Collection],
        query: &Query,
        settings: &SearchSettings,
        started: Duration,
    ) -> Result<SearchResponse> {
        let timeout = query.timeout.unwrap_or(settings.timeout);
        let deadlines = Deadlines::new(started, timeout);
        let runtime = context.runtime();
        let (set, page, cursor) = match &query.cursor {
            Some(cursor) => {
                let (set, offset) = self.pages.find(runtime, query, scope, cursor)?;
                let page =
                    hydrate::cut_page(context, &set.ranking, query, offset, deadlines.end).await;
                let next = Pages::advance(cursor, page.next);
                (set, page, next)
            }
            None => {
                let (set, page) = first_page(context, scope, query, deadlines).await?;
                let set = Arc::new(set);
                let more = page.next < set.ranking.items.len();
                let keep = || self.pages.keep(runtime, query, Arc::clone(&set), page.next);
                let cursor = more.then(keep);
                (set, page, cursor)
            }
        };
        let page_end = match (page.next < set.ranking.items.len(), set.saturated) {
            (true, _) => PageEnd::Full,
            (false, true) => PageEnd::Budget,
            (false, false) => PageEnd::Exhausted,
        };
        Ok(SearchResponse {
            hits: page.hits,
            legs: set.reports.clone(),
            unverified: page.unverified,
            page_end,
            cursor: cursor.filter(|_| page_end == PageEnd::Full),
            verified_by: context.verified_by(),
            elapsed: runtime.monotonic().saturating_sub(started),
            cached: false,
        })
    }
}

fn name(search_type: SearchType) -> &'static str {
    match search_type {
        SearchType::Semantic => "semantic",
        SearchType::Graph => "graph",
        SearchType::Metadata => "metadata",
        SearchType::Hybrid => "hybrid",
    }
}

/// Runs the legs and cuts the first page; with more candidates again while too many hits do not
/// hold and there may be others.
async fn first_page(
    context: &dyn SearchContext,
    scope: &[Collection],
    query: &Query,
    deadlines: Deadlines,
) -> Result<(PageSet, CheckedPage)> {
    let asked: Vec<Role> = LEGS
        .into_iter()
        .filter(|leg| plan::wanted(query.search_type, *leg))
        .map(LegName::role)
        .collect();
    let now = context.runtime().monotonic();
    let wait = deadlines.connecting.saturating_sub(now);
    let stores = context.stores(&asked, wait).await;
    let plan = plan::plan(query, scope, &stores, context.embedder().as_deref())?;
    let search = Search::new(context, scope, query, stores, plan, deadlines);
    let mut size = (query.limit * 2 + 50).clamp(MIN_CANDIDATES, MAX_CANDIDATES);
    let mut set = run(&search, size).await?;
    loop {
        let page = hydrate::cut_page(context, &set.ranking, query, 0, search.deadlines.end).await;
        let short = page.hits.len() < query.limit && page.dropped > 0;
        let in_time = context.runtime().monotonic() < deadlines.legs;
        if !(short && set.saturated && size < MAX_CANDIDATES && in_time) {
            return Ok((set, page));
        }
        size = (size * REFILL_FACTOR).min(MAX_CANDIDATES);
        match run(&search, size).await {
            // A leg that fails now must not take away what it has brought before.
            Ok(more) if !worse(&more, &set) => set = more,
            _ => return Ok((set, page)),
        }
    }
}

/// Whether some leg has brought less of an answer than before.
fn worse(new: &PageSet, old: &PageSet) -> bool {
    let answer = |report: &LegReport| match report.outcome {
        LegOutcome::Answered => 2,
        LegOutcome::Incomplete => 1,
        _ => 0,
    };
    let mut legs = new.reports.iter().zip(&old.reports);
    legs.any(|(new, old)| answer(new) < answer(old))
}

/// Runs the legs once, each for `size` candidates, and fuses what they found.
async fn run(search: &Search<'_>, size: usize) -> Result<PageSet> {
    let in_text = search.plan.runs(LegName::Metadata);
    let (mut semantic, mut metadata, mut titles) = join3(
        search.run(LegName::Semantic, legs::semantic(search, size)),
        search.run(LegName::Metadata, legs::metadata(search, size)),
        search.run(LegName::Graph, async {
            match in_text {
                true => Leg::new(LegName::Graph),
                false => graph::match_titles(search, size).await,
            }
        }),
    )
    .await;
    // Full text has counted the words of titles. They only stand in where it found nothing.
    if in_text && metadata.hits.is_empty() {
        let until = search.deadlines.expansion;
        let matched = graph::match_titles(search, size);
        titles = search.run_until(until, LegName::Graph, matched).await;
    }
    let (of_vectors, of_text, graph) = {
        let until = search.deadlines.expansion;
        let (semantic_others, metadata_others) = ([&metadata, &titles], [&semantic, &titles]);
        let expanded = async {
            if search.plan.weight(LegName::Graph) == 0.0 {
                return titles.clone();
            }
            let seeds = graph::choose_seeds(search, &[&semantic, &metadata], &titles).await;
            graph::expand(search, titles.clone(), &seeds).await
        };
        join3(
            search.until(
                until,
                look_up::semantic(search, &semantic, &semantic_others),
            ),
            search.until(
                until,
                look_up::metadata(search, &metadata, &metadata_others),
            ),
            expanded,
        )
        .await
    };
    semantic.take_looked_up(of_vectors);
    metadata.take_looked_up(of_text);
    let legs = [semantic, metadata, graph];
    if !search.scope.is_empty() && !legs.iter().any(Leg::has_answered) {
        return Err(no_answer(&legs));
    }
    Ok(fused(search, &legs))
}

fn fused(search: &Search<'_>, legs: &[Leg; 3]) -> PageSet {
    let lists = legs.each_ref().map(|leg| search.list(leg));
    let reports: Vec<LegReport> = legs
        .iter()
        .map(|leg| leg.report(search.plan.weight(leg.name)))
        .collect();
    let found: usize = legs.iter().map(|leg| leg.hits.len()).sum();
    PageSet {
        ranking: Ranking {
            collections: search.scope.iter().map(|c| c.key.clone()).collect(),
            items: fuse::fuse(search.query.fusion, &lists, MAX_CANDIDATES),
            weights: LEGS.map(|leg| search.plan.weight(leg)),
            filtered: LEGS.map(|leg| legs[slot(leg)].filtered || legs[slot(leg)].hits.is_empty()),
        },
        saturated: found > MAX_CANDIDATES || legs.iter().any(|leg| leg.saturated),
        reports,
    }
}

/// The error of a search that no leg answered.
fn no_answer(legs: &[Leg; 3]) -> Error {
    let mut kinds: Vec<ErrorKind> = Vec::new();
    let mut retryable = false;
    let mut causes = Vec::new();
    for leg in legs {
        if let Some(failure) = &leg.failure {
            kinds.push(failure.kind);
            retryable |= failure.retryable;
            causes.push((leg.name.as_str(), failure.message.clone()));
        }
    }
    let same = kinds
        .first()
        .filter(|first| kinds.iter().all(|kind| kind == *first));
    let error = Error::new(
        *same.unwrap_or(&ErrorKind::Unavailable),
        "no leg of the search answered",
    )
    .with_retryable(retryable);
    causes
        .into_iter()
        .fold(error, |error, (leg, cause)| error.with(leg, cause))
}
