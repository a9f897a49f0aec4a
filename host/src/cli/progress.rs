//! Shows how image pulls go on: bars on a terminal, a line now and then in a log.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::capability::container_runtime::ImageProgress;

/// Progress on stderr.
pub(crate) fn on_stderr() -> Arc<dyn ImageProgress> {
    if std::io::stderr().is_terminal() { Arc::new(Bars::default()) } else { Arc::new(Lines::default()) }
}

#[derive(Default)]
struct Bars {
    screen: MultiProgress,
    bars: Mutex<HashMap<String, ProgressBar>>,
}

impl ImageProgress for Bars {
    fn bytes(&self, image: &str, done: u64, total: u64) {
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = bars.entry(image.to_owned()).or_insert_with(|| {
            let style = ProgressStyle::with_template("pulling {msg} {bar:30} {bytes}/{total_bytes}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            self.screen.add(ProgressBar::new(total).with_style(style).with_message(image.to_owned()))
        });
        bar.set_length(total);
        bar.set_position(done);
        if total > 0 && done >= total {
            bar.finish_and_clear();
            bars.remove(image);
        }
    }
}

/// One line for every tenth.
#[derive(Default)]
struct Lines {
    tenths: Mutex<HashMap<String, u64>>,
}

impl ImageProgress for Lines {
    fn bytes(&self, image: &str, done: u64, total: u64) {
        let tenth = (done * 10).checked_div(total).unwrap_or(0);
        let mut tenths = self.tenths.lock().unwrap_or_else(PoisonError::into_inner);
        if tenths.insert(image.to_owned(), tenth) != Some(tenth) {
            tracing::info!(image, "pulling: {} of {} MB", done / 1_000_000, total / 1_000_000);
        }
    }
}
