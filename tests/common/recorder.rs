//! A recorder of metrics for one thread: what a test on the current thread exports.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, SharedString, Unit,
};

/// Name and labels, the labels by their keys.
type Series = (String, BTreeMap<String, String>);

/// Keeps every counter and gauge.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<BTreeMap<Series, f64>>>);

impl Recorder {
    /// The series of this name with their labels.
    pub fn series(&self, name: &str) -> Vec<(BTreeMap<String, String>, f64)> {
        let values = self.0.lock().unwrap();
        let of_name = values.iter().filter(|((held, _), _)| held == name);
        of_name
            .map(|((_, labels), value)| (labels.clone(), *value))
            .collect()
    }

    fn one(&self, key: &Key) -> Arc<One> {
        let labels = key
            .labels()
            .map(|label| (label.key().to_owned(), label.value().to_owned()))
            .collect();
        Arc::new(One {
            series: (key.name().to_owned(), labels),
            all: Arc::clone(&self.0),
        })
    }
}

struct One {
    series: Series,
    all: Arc<Mutex<BTreeMap<Series, f64>>>,
}

impl One {
    fn change(&self, change: impl FnOnce(f64) -> f64) {
        let mut all = self.all.lock().unwrap();
        let value = all.entry(self.series.clone()).or_default();
        *value = change(*value);
    }
}

impl CounterFn for One {
    fn increment(&self, by: u64) {
        self.change(|value| value + by as f64);
    }
    fn absolute(&self, to: u64) {
        self.change(|_| to as f64);
    }
}

impl GaugeFn for One {
    fn increment(&self, by: f64) {
        self.change(|value| value + by);
    }
    fn decrement(&self, by: f64) {
        self.change(|value| value - by);
    }
    fn set(&self, to: f64) {
        self.change(|_| to);
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.one(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.one(key))
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
