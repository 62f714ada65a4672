//! What the local process prints: [`LinePrinter`] writes one readable line for each refresh, delivery and event.

use std::{
    collections::HashMap,
    io::{IsTerminal, Write},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use jiff::{Timestamp, tz::Offset};
use okra_aws::Clock;
use okra_core::model::{ids::RecordId, snapshot::Product};
use okra_handlers::MetricsCollector;
use okra_refresh::{RefreshOutcome, RefreshReport};

/// What a line is about: its first word.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LineSource {
    Bank,
    Refresh,
    Deliver,
    App,
    Note,
}

impl LineSource {
    const fn label(self) -> &'static str {
        match self {
            Self::Bank => "bank",
            Self::Refresh => "refresh",
            Self::Deliver => "deliver",
            Self::App => "app",
            Self::Note => "",
        }
    }

    const fn ansi_colour(self) -> u8 {
        match self {
            Self::Bank => 33,
            Self::Refresh => 36,
            Self::Deliver => 35,
            Self::App => 32,
            Self::Note => 37,
        }
    }
}

/// Prints lines, and counts what the dashboard shows. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LinePrinter(Arc<LinePrinterInner>);

struct LinePrinterInner {
    clock: Clock,
    is_coloured: bool,
    record_names: Mutex<HashMap<RecordId, String>>,
    unchanged_count: AtomicUsize,
    tally: MetricsCollector,
}

impl LinePrinter {
    pub(crate) fn new(clock: Clock) -> Self {
        Self(Arc::new(LinePrinterInner {
            clock,
            is_coloured: std::io::stdout().is_terminal(),
            record_names: Mutex::default(),
            unchanged_count: AtomicUsize::new(0),
            tally: MetricsCollector::default(),
        }))
    }

    /// Sets the name of a record in lines about it.
    pub(crate) fn set_record_name(&self, record: RecordId, name: String) {
        self.0
            .record_names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(record, name);
    }

    fn record_name(&self, record: RecordId) -> String {
        let names = self
            .0
            .record_names
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        names
            .get(&record)
            .cloned()
            .unwrap_or_else(|| record.to_string())
    }

    /// Prints one line. A line that cannot be printed (a closed pipe) is dropped: the work goes on.
    pub(crate) fn print_line(&self, source: LineSource, text: &str) {
        let time = format_time_of_day(self.0.clock.now());
        let word = source.label();
        let line = if self.0.is_coloured {
            format!(
                "\x1b[2m{time}\x1b[0m  \x1b[{}m{word:<8}\x1b[0m {text}\n",
                source.ansi_colour()
            )
        } else {
            format!("{time}  {word:<8} {text}\n")
        };
        let _ = std::io::stdout().lock().write_all(line.as_bytes());
    }

    /// Prints text as it stands.
    pub(crate) fn print_text(&self, text: &str) {
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
    }

    /// The counts for the dashboard.
    pub(crate) fn tally(&self) -> &MetricsCollector {
        &self.0.tally
    }

    /// Records refreshed and found unchanged since the last call.
    pub(crate) fn take_unchanged_count(&self) -> usize {
        self.0.unchanged_count.swap(0, Ordering::Relaxed)
    }
}

fn format_time_of_day(at: Timestamp) -> String {
    Offset::UTC.to_datetime(at).strftime("%H:%M:%S").to_string()
}

impl okra_refresh::RefreshObserver for LinePrinter {
    fn on_record_refreshed(&self, refreshed: &RefreshReport) {
        okra_refresh::RefreshObserver::on_record_refreshed(&self.0.tally, refreshed);
        let name = self.record_name(refreshed.record);
        for (_, product, fault) in &refreshed.faults {
            let product = product.as_str();
            self.print_line(
                LineSource::Refresh,
                &format!("{name}: {product} was not refreshed, {fault}"),
            );
        }
        match &refreshed.outcome {
            RefreshOutcome::Unchanged => {
                self.0.unchanged_count.fetch_add(1, Ordering::Relaxed);
            }
            RefreshOutcome::Changed(changes) => {
                let mut parts = Vec::new();
                if changes.balances > 0 {
                    parts.push(Product::Balance.as_str().to_owned());
                }
                for (sign, count) in [
                    ("+", changes.added),
                    ("~", changes.modified),
                    ("-", changes.removed),
                ] {
                    if count > 0 {
                        parts.push(format!("{sign}{count} transactions"));
                    }
                }
                let (what, took) = (parts.join(", "), refreshed.elapsed_ms);
                let text = format!("{name}: {what}; feed at {}, {took} ms", changes.last_seq);
                self.print_line(LineSource::Refresh, &text);
            }
            RefreshOutcome::Failed | RefreshOutcome::Gone | RefreshOutcome::Deferred => {}
            RefreshOutcome::Contended => {
                self.print_line(
                    LineSource::Refresh,
                    &format!("{name}: another refresh committed at the same time"),
                );
            }
        }
    }
}

impl okra_webhooks::DeliveryObserver for LinePrinter {
    fn on_attempt(&self, attempted: &okra_webhooks::AttemptReport) {
        okra_webhooks::DeliveryObserver::on_attempt(&self.0.tally, attempted);
        let status = attempted.status.map_or_else(
            || attempted.outcome.as_str().to_owned(),
            |status| status.to_string(),
        );
        let next = attempted.next_at.map_or_else(String::new, |next_at| {
            format!("; next attempt at {}", format_time_of_day(next_at))
        });
        let text = format!(
            "{}: {} {} to {}, {status} in {} ms (attempt {}){next}",
            match attempted.source {
                okra_core::model::ids::FeedSource::Record(record) => self.record_name(record),
                okra_core::model::ids::FeedSource::App(_) => "the app".to_owned(),
            },
            attempted.event_name,
            attempted.seq,
            attempted.host,
            attempted.latency_ms,
            attempted.attempt,
        );
        self.print_line(LineSource::Deliver, &text);
    }
}
