//! The quickstart's output for people.

use std::fmt::Display;

use dbmanager::{
    ConsistencyReport,
    health::Health,
    model::{Contribution, Hit, LegReport, Receipt, SearchResponse, StoreWriteState},
};

use super::support::searches::Outcome;

/// Characters of a text that are shown.
const EXCERPT: usize = 70;

pub(crate) fn opening(stores: &str, source: &str, documents: usize) {
    println!("{documents} crates from {source}");
    println!("stores {stores}\n");
}

pub(crate) fn locked(receipt: &Receipt, health: &Health) {
    heading("One store fails beneath its adapter: somebody else locks the file vector.db");
    let held = receipt.stores.len() - receipt.pending().count();
    println!(
        "  stored {} as version {}: acknowledged by {held} of {} stores, a quorum",
        receipt.id,
        receipt.version,
        receipt.stores.len()
    );
    for store in &receipt.stores {
        let state = match store.state {
            StoreWriteState::Applied => "applied",
            StoreWriteState::Pending => "pending: it will get it from the journal",
            StoreWriteState::Parked => "parked",
            _ => "skipped",
        };
        println!(
            "    {:<10} {:<9} {state}",
            store.role.as_str(),
            store.service
        );
    }
    backlog(health);
}

pub(crate) fn caught_up(health: &Health) {
    println!("  the lock is gone, and the store catches up by itself");
    backlog(health);
    println!();
}

fn backlog(health: &Health) {
    let stores: Vec<String> = health
        .stores
        .iter()
        .map(|store| format!("{} {}", store.role, store.backlog))
        .collect();
    println!("  backlog: {}", stores.join(", "));
}

pub(crate) fn consistency(report: &ConsistencyReport) {
    heading("Every store compared with the authority, document by document");
    for store in &report.stores {
        println!(
            "  {:<10} {} documents, {} differences, {} pending",
            store.role.as_str(),
            store.documents,
            store.differences,
            store.pending
        );
    }
    println!();
}

pub(crate) fn search(words: &str, response: &SearchResponse) {
    heading(format!("Hybrid search: {words}"));
    for (index, hit) in response.hits.iter().enumerate() {
        hit_lines(index + 1, hit);
    }
    for leg in &response.legs {
        leg_line(leg);
    }
    println!();
}

fn hit_lines(rank: usize, hit: &Hit) {
    let text = hit
        .document
        .as_ref()
        .map(|document| document.text.as_str())
        .unwrap_or_default();
    println!("  {rank}. {} {:.3}  {}", hit.id, hit.score, excerpt(text));
    for part in &hit.contributions {
        contribution(part);
    }
}

/// `rank: raw score → normalised × weight = contribution`.
fn contribution(part: &Contribution) {
    let rank = part
        .rank
        .map_or_else(|| "-".to_owned(), |rank| format!("#{rank}"));
    println!(
        "       {:<8} {rank:>4}  raw {:>7.3}  {:.3} × {:.2} = {:.3}  {}",
        part.leg.as_str(),
        part.raw_score,
        part.normalised_score,
        part.weight,
        part.contribution,
        part.detail.as_deref().unwrap_or_default()
    );
}

fn leg_line(leg: &LegReport) {
    println!(
        "  leg {:<8} {:?}, {} candidates in {:.1} ms, weight {:.2}{}",
        leg.leg.as_str(),
        leg.outcome,
        leg.candidates,
        leg.elapsed.as_secs_f64() * 1e3,
        leg.weight,
        leg.error
            .as_ref()
            .map(|error| format!(": {error}"))
            .unwrap_or_default()
    );
}

pub(crate) fn searches(outcomes: &[Outcome]) {
    heading("Searches whose answer is known");
    for outcome in outcomes {
        println!(
            "  {} {:<32} {}{}",
            if outcome.passed { "ok  " } else { "MISS" },
            outcome.query,
            outcome.found.join(", "),
            outcome
                .remark
                .as_ref()
                .map(|remark| format!("  ({remark})"))
                .unwrap_or_default()
        );
        if !outcome.passed {
            println!("       expected {}", outcome.expected.join(" or "));
        }
    }
    println!();
}

pub(crate) fn health(health: &Health) {
    heading(format!("Health: {:?}", health.status));
    for store in &health.stores {
        println!(
            "  {:<10} {:<9} {:?}, backlog {}, parked {}",
            store.role.as_str(),
            store.service,
            store.state,
            store.backlog,
            store.parked
        );
    }
    println!(
        "  journal    {} live entries, {}",
        health.journal.entries,
        if health.journal.writable {
            "writable"
        } else {
            "not writable"
        }
    );
}

fn heading(text: impl Display) {
    println!("{text}");
}

fn excerpt(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(EXCERPT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
