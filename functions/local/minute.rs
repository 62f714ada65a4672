//! The minute clock: what EventBridge does on AWS.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use okra_aws::Clock;
use okra_core::schedule::{Interval, Tick};
use okra_emulator::Emulator;
use okra_handlers::{DeliverEvent, FetchEvent, deliver, fetch};
use okra_refresh::Refresher;
use okra_store::Store;
use okra_webhooks::Deliverer;
use serde_json::json;
use tokio::time::sleep;

use crate::lines::{Lines, Source};

/// Where the last minute served is kept, so that minutes missed while the process was down are served.
const STATE: &str = "minute-clock";

/// Everything a minute wakes.
pub(crate) struct MinuteClock {
    pub(crate) clock: Clock,
    pub(crate) store: Store,
    pub(crate) emulator: Emulator,
    pub(crate) refresher: Refresher,
    pub(crate) deliverer: Arc<Deliverer>,
    pub(crate) lines: Lines,
}

impl MinuteClock {
    /// Serves each minute, from the one after the last that was served, until the process ends.
    pub(crate) async fn run(self) {
        let mut served = match self.store.state(STATE).await {
            Ok(Some(state)) => state["minute"].as_i64().unwrap_or(i64::MAX),
            Ok(None) | Err(_) => i64::MAX,
        };
        loop {
            let now = self.clock.now().as_second().div_euclid(60);
            if served < now {
                self.serve(served + 1, now).await;
            }
            served = now;
            let next_ms = (now + 1) * 60_000 - self.clock.now().as_millisecond();
            sleep(Duration::from_millis(u64::try_from(next_ms).unwrap_or(0))).await;
        }
    }

    /// Serves the minutes from `first` to `last`. A slot that came by several times is served once.
    async fn serve(&self, first: i64, last: i64) {
        for interval in Interval::ALL {
            let oldest = last - i64::from(interval.minutes()) + 1;
            for minute in first.max(oldest)..=last {
                let Ok(at) = Timestamp::from_second(minute * 60) else {
                    continue;
                };
                // A slot missed long ago is due all the same: its next turn may be a day away.
                let tick = Tick { interval, at };
                if let Err(error) = fetch(&self.refresher, FetchEvent::Tick(tick)).await {
                    self.failed(&error);
                }
            }
        }
        if let Ok(sweep) = Timestamp::from_second(last * 60)
            && let Err(error) = deliver(&self.deliverer, DeliverEvent::Sweep { sweep }).await
        {
            self.failed(&error);
        }
        if let Err(error) = self.emulator.sweep_ttl().await {
            self.failed(&error);
        }
        if let Err(error) = self
            .store
            .put_state(STATE, &json!({ "minute": last }))
            .await
        {
            self.failed(&error);
        }
        let unchanged = self.lines.take_unchanged();
        if unchanged > 0 {
            let text = format!("{unchanged} refreshes found nothing new, and wrote nothing");
            self.lines.say(Source::Refresh, &text);
        }
    }

    fn failed(&self, error: &(dyn std::error::Error + 'static)) {
        tracing::error!(
            error,
            "a minute's work failed and is done again by the next"
        );
        self.lines
            .say(Source::Note, &format!("a minute's work failed: {error}"));
    }
}
