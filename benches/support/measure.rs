//! What the benchmarks share: figures that are ratios within one run.

use std::time::{Duration, Instant};

use criterion::Criterion;

/// Few and short samples: what is compared lies far apart or in the same run.
pub(crate) fn criterion() -> Criterion {
    Criterion::default()
        .configure_from_args()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
}

/// Whether every benchmark is only to be tried once (`cargo bench -- --test`).
pub(crate) fn is_trial() -> bool {
    std::env::args().any(|argument| argument == "--test")
}

/// Measures one call of `once`, and returns the median of all calls in seconds; `None` if a filter
/// leaves this benchmark out.
pub(crate) fn measure(criterion: &mut Criterion, name: &str, once: impl FnMut()) -> Option<f64> {
    measure_after(criterion, name, || (), once)
}

/// [`measure`] with something before each call that is not measured.
pub(crate) fn measure_after(
    criterion: &mut Criterion,
    name: &str,
    mut before: impl FnMut(),
    mut once: impl FnMut(),
) -> Option<f64> {
    let mut times = Vec::new();
    criterion.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            let mut total = Duration::ZERO;
            for _ in 0..iterations {
                before();
                let started = Instant::now();
                once();
                let elapsed = started.elapsed();
                times.push(elapsed.as_secs_f64());
                total += elapsed;
            }
            total
        });
    });
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}

/// Prints a quotient of two medians of the same run; nothing for a trial, whose one call is cold.
pub(crate) fn ratio(what: &str, above: Option<f64>, below: Option<f64>) {
    if is_trial() {
        return;
    }
    if let (Some(above), Some(below)) = (above, below) {
        let (above_ms, below_ms) = (above * 1e3, below * 1e3);
        println!(
            "{what}: {:.2} ({above_ms:.3} ms ÷ {below_ms:.3} ms)\n",
            above / below
        );
    }
}
