//! The minute clock: what EventBridge does on AWS.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use okra_aws::Clock;
use okra_core::model::interval::{Interval, Tick};
use okra_emulator::Emulator;
use okra_handlers::{DeliverEvent, FetchEvent, handle_deliver_event, handle_fetch_event};
use okra_refresh::Refresher;
use okra_store::Store;
use okra_webhooks::Deliverer;
use serde_json::json;
use tokio::time::sleep;

use crate::lines::{LinePrinter, LineSource};

/// Where the last minute served is kept, so that minutes missed while the process was down are served.
const MINUTE_CLOCK_STATE: &str = "minute-clock";

/// Everything a minute wakes.
pub(crate) struct MinuteClock {
    pub(crate) clock: Clock,
    pub(crate) store: Store,
    pub(crate) emulator: Emulator,
    pub(crate) refresher: Refresher,
    pub(crate) deliverer: Arc<Deliverer>,
    pub(crate) printer: LinePrinter,
}

impl MinuteClock {
    /// Serves each minute, from the one after the last that was served, until the process ends.
    pub(crate) async fn run_forever(self) {
        let mut served = match self.store.find_system_state(MINUTE_CLOCK_STATE).await {
            Ok(Some(state)) => state["minute"].as_i64().unwrap_or(i64::MAX),
            Ok(None) | Err(_) => i64::MAX,
        };
        loop {
            let now = self.clock.now().as_second().div_euclid(60);
            if served < now {
                self.serve_minutes(served + 1, now).await;
            }
            served = now;
            let next_ms = (now + 1) * 60_000 - self.clock.now().as_millisecond();
            sleep(Duration::from_millis(u64::try_from(next_ms).unwrap_or(0))).await;
        }
    }

    /// Serves the minutes from `first` to `last`. A slot that came by several times is served once.
    async fn serve_minutes(&self, first_minute: i64, last_minute: i64) {
        for interval in Interval::ALL {
            let oldest = last_minute - i64::from(interval.minutes()) + 1;
            for minute in first_minute.max(oldest)..=last_minute {
                let Ok(at) = Timestamp::from_second(minute * 60) else {
                    continue;
                };
                // A slot missed long ago is due all the same: its next turn may be a day away.
                let tick = Tick { interval, at };
                if let Err(error) =
                    handle_fetch_event(&self.refresher, FetchEvent::Tick(tick)).await
                {
                    self.report_failure(&error);
                }
            }
        }
        if let Ok(sweep) = Timestamp::from_second(last_minute * 60)
            && let Err(error) =
                handle_deliver_event(&self.deliverer, DeliverEvent::Sweep { sweep }).await
        {
            self.report_failure(&error);
        }
        if let Err(error) = self.emulator.sweep_expired_items().await {
            self.report_failure(&error);
        }
        if let Err(error) = self
            .store
            .put_system_state(MINUTE_CLOCK_STATE, &json!({ "minute": last_minute }))
            .await
        {
            self.report_failure(&error);
        }
        let unchanged = self.printer.take_unchanged_count();
        if unchanged > 0 {
            let text = format!("{unchanged} refreshes found nothing new, and wrote nothing");
            self.printer.print_line(LineSource::Refresh, &text);
        }
    }

    fn report_failure(&self, error: &(dyn std::error::Error + 'static)) {
        tracing::error!(
            error,
            "a minute's work failed and is done again by the next"
        );
        self.printer.print_line(
            LineSource::Note,
            &format!("a minute's work failed: {error}"),
        );
    }
}
