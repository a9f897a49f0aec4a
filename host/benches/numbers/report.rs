//! Series of samples, and how they are printed.

use std::fmt;
use std::time::Duration;

/// Figures of the Go gateway, taken on another 2-core machine: an order of magnitude, not a race.
pub(crate) mod reference {
    /// Process start to `initialize` answered.
    pub(crate) const START: &str = "365 ms";
    /// A call over stdio to a server that is kept.
    pub(crate) const CALL_STDIO: &str = "0.46 ms";
    /// The same over HTTP.
    pub(crate) const CALL_HTTP: &str = "0.71 ms";
    /// A call that gets a container of its own.
    pub(crate) const FRESH: &str = "313 ms";
    /// A call that gets a pod of its own, where the floor was 430 ms.
    pub(crate) const POD: &str = "2000 ms";
    /// Resident memory.
    pub(crate) const MEMORY: &str = "40 MB";
}

/// Times of one thing, in the order taken.
#[derive(Default)]
pub(crate) struct Series(Vec<Duration>);

impl Series {
    pub(crate) fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    /// The sample below which this share of all lies.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(index).copied().unwrap_or_default()
    }

    /// What this costs more than `other`, in milliseconds, sample by sample: each was taken right after the other.
    pub(crate) fn adds(&self, other: &Self, percent: usize) -> f64 {
        let pairs = self.0.iter().zip(&other.0);
        let mut differences: Vec<f64> = pairs.map(|(own, other)| milliseconds(*own) - milliseconds(*other)).collect();
        differences.sort_unstable_by(f64::total_cmp);
        let index = (differences.len() * percent).div_ceil(100).saturating_sub(1);
        differences.get(index).copied().unwrap_or_default()
    }
}

/// Several figures of one thing: the one in the middle, and the two that all lie between.
pub(crate) struct Spread {
    pub(crate) median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    pub(crate) fn of(figures: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = figures.collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
        Self { median: at(sorted.len() / 2), least: at(0), most: at(sorted.len().saturating_sub(1)) }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(1);
        let Self { median, least, most } = self;
        let text = format!("{median:.digits$} ({least:.digits$}-{most:.digits$})");
        // Not `pad`, which would take the digits for a length.
        write!(f, "{text:>width$}", width = f.width().unwrap_or_default())
    }
}

/// Opens the table of a part.
pub(crate) fn title(text: &str) {
    println!("{text}");
    println!("  {:44} {:>6} {:>10} {:>10} {:>10} {:>10}   reference", "milliseconds", "n", "min", "p50", "p90", "p99");
}

/// One line of it. `reference` is the Go gateway's figure, measured elsewhere.
pub(crate) fn row(label: &str, series: &Series, reference: &str) {
    let at = |percent| milliseconds(series.percentile(percent));
    println!(
        "  {label:44} {:>6} {:>10.3} {:>10.3} {:>10.3} {:>10.3}   {reference}",
        series.0.len(),
        at(0),
        at(50),
        at(90),
        at(99)
    );
}

/// A figure that has a target.
pub(crate) fn verdict(what: &str, figure: f64, target: f64, unit: &str) {
    let word = if figure < target { "met" } else { "MISSED" };
    println!("  => {what}: {figure:.3} {unit}, target < {target} {unit}: {word}");
}

/// A figure that has none.
pub(crate) fn note(text: &str) {
    println!("  => {text}");
}

/// The end of a part.
pub(crate) fn end() {
    println!();
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// On what, and how busy it is with other things.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split(' ').take(3).collect();
    format!("{cores} cores, load {}; reference: the Go gateway, measured elsewhere", load.join(" "))
}
