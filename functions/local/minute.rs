//! The minute clock: [`MinuteClock`] does what EventBridge does on AWS, and each minute's upkeep.

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

use crate::printer::{LinePrinter, LineSource};

/// The state that holds the last minute served, so that minutes missed while the process was down are served.
const MINUTE_CLOCK_STATE: &str = "minute-clock";

/// What each minute starts.
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
        let mut last_served = self.load_last_served().await;
        loop {
            let minute = self.clock.now().as_second().div_euclid(60);
            // A first run has missed nothing: it starts with the next minute.
            if let Some(last_served) = last_served
                && last_served < minute
            {
                self.serve_minutes(last_served + 1, minute).await;
            }
            last_served = Some(minute);
            let next_ms = (minute + 1) * 60_000 - self.clock.now().as_millisecond();
            // A minute that has begun meanwhile is served without a pause.
            sleep(Duration::from_millis(u64::try_from(next_ms).unwrap_or(0))).await;
        }
    }

    /// The last minute that an earlier run served. One that cannot be read is treated as none, and reported.
    async fn load_last_served(&self) -> Option<i64> {
        match self.store.find_system_state(MINUTE_CLOCK_STATE).await {
            Ok(state) => state.and_then(|state| state["minute"].as_i64()),
            Err(error) => {
                self.report_failure(&error);
                None
            }
        }
    }

    /// Serves the minutes from `first_minute` to `last_minute`. A slot that occurs several times is served once.
    async fn serve_minutes(&self, first_minute: i64, last_minute: i64) {
        for interval in Interval::ALL {
            let oldest = last_minute - i64::from(interval.minutes()) + 1;
            for minute in first_minute.max(oldest)..=last_minute {
                let Ok(at) = Timestamp::from_second(minute * 60) else {
                    continue;
                };
                // A slot missed long ago is due all the same: it may not occur again for a day.
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
            let text = format!("{unchanged} refreshes found no changes and wrote nothing");
            self.printer.print_line(LineSource::Refresh, &text);
        }
    }

    fn report_failure(&self, error: &(dyn std::error::Error + 'static)) {
        tracing::error!(error, "a minute's work failed; the next minute repeats it");
        self.printer.print_line(
            LineSource::Note,
            &format!("a minute's work failed and is repeated by the next: {error}"),
        );
    }
}
