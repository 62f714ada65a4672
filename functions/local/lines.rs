//! What the local process prints: one readable line for each thing that happens.

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
use okra_core::{ids::RecordId, model::Product};
use okra_handlers::Tally;
use okra_refresh::{Outcome, Refreshed};

/// Where a line comes from, as its first word.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    Bank,
    Refresh,
    Deliver,
    App,
    Note,
}

impl Source {
    const fn word(self) -> &'static str {
        match self {
            Self::Bank => "bank",
            Self::Refresh => "refresh",
            Self::Deliver => "deliver",
            Self::App => "app",
            Self::Note => "",
        }
    }

    const fn colour(self) -> u8 {
        match self {
            Self::Bank => 33,
            Self::Refresh => 36,
            Self::Deliver => 35,
            Self::App => 32,
            Self::Note => 37,
        }
    }
}

/// Prints lines. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Lines(Arc<Inner>);

struct Inner {
    clock: Clock,
    coloured: bool,
    names: Mutex<HashMap<RecordId, String>>,
    unchanged: AtomicUsize,
    tally: Tally,
}

impl Lines {
    pub(crate) fn new(clock: Clock) -> Self {
        Self(Arc::new(Inner {
            clock,
            coloured: std::io::stdout().is_terminal(),
            names: Mutex::default(),
            unchanged: AtomicUsize::new(0),
            tally: Tally::default(),
        }))
    }

    /// What to call a record in lines about it.
    pub(crate) fn name(&self, record: RecordId, name: String) {
        self.0
            .names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(record, name);
    }

    fn name_of(&self, record: RecordId) -> String {
        let names = self.0.names.lock().unwrap_or_else(PoisonError::into_inner);
        names
            .get(&record)
            .cloned()
            .unwrap_or_else(|| record.to_string())
    }

    /// Prints one line. What cannot be printed (a closed pipe) is let go: the work goes on.
    pub(crate) fn say(&self, source: Source, text: &str) {
        let time = time_of_day(self.0.clock.now());
        let word = source.word();
        let line = if self.0.coloured {
            format!(
                "\x1b[2m{time}\x1b[0m  \x1b[{}m{word:<8}\x1b[0m {text}\n",
                source.colour()
            )
        } else {
            format!("{time}  {word:<8} {text}\n")
        };
        let _ = std::io::stdout().lock().write_all(line.as_bytes());
    }

    /// Prints text as it stands.
    pub(crate) fn plain(&self, text: &str) {
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
    }

    /// What is counted for the dashboard.
    pub(crate) fn tally(&self) -> &Tally {
        &self.0.tally
    }

    /// Records refreshed and found unchanged since the last call.
    pub(crate) fn take_unchanged(&self) -> usize {
        self.0.unchanged.swap(0, Ordering::Relaxed)
    }
}

fn time_of_day(at: Timestamp) -> String {
    Offset::UTC.to_datetime(at).strftime("%H:%M:%S").to_string()
}

impl okra_refresh::Observer for Lines {
    fn refreshed(&self, refreshed: &Refreshed) {
        okra_refresh::Observer::refreshed(&self.0.tally, refreshed);
        let name = self.name_of(refreshed.record);
        for (_, product, fault) in &refreshed.faults {
            let product = product.as_str();
            self.say(
                Source::Refresh,
                &format!("{name}: {product} not refreshed, {fault}"),
            );
        }
        match &refreshed.outcome {
            Outcome::Unchanged => {
                self.0.unchanged.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Changed(changes) => {
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
                let text = format!("{name}: {what}; feed at {}, {took} ms", changes.to);
                self.say(Source::Refresh, &text);
            }
            Outcome::Failed | Outcome::Gone | Outcome::Held => {}
            Outcome::Contended => {
                self.say(
                    Source::Refresh,
                    &format!("{name}: refreshed by another at the same time"),
                );
            }
        }
    }
}

impl okra_webhooks::Observer for Lines {
    fn attempted(&self, attempted: &okra_webhooks::Attempted) {
        okra_webhooks::Observer::attempted(&self.0.tally, attempted);
        let status = attempted.status.map_or_else(
            || attempted.outcome.as_str().to_owned(),
            |status| status.to_string(),
        );
        let next = attempted.next_at.map_or_else(String::new, |next_at| {
            format!("; next attempt at {}", time_of_day(next_at))
        });
        let text = format!(
            "{}: {} {} to {}, {status} in {} ms (attempt {}){next}",
            match attempted.source {
                okra_core::ids::Source::Record(record) => self.name_of(record),
                okra_core::ids::Source::App(_) => "the app".to_owned(),
            },
            attempted.name,
            attempted.seq,
            attempted.host,
            attempted.latency_ms,
            attempted.attempt,
        );
        self.say(Source::Deliver, &text);
    }
}
