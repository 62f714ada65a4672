//! The minute clock: [`MinuteClock`] does what EventBridge does on AWS, and each minute's upkeep.
//!
//! The rule: each interval, the sweep and the upkeep have a loop of their own. What takes long in one does not delay the
//! others, as an invocation does not delay another on AWS.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use okra_aws::Clock;
use okra_core::{
    error_chain::error_chain,
    model::interval::{Interval, Tick},
};
use okra_emulator::Emulator;
use okra_handlers::{DeliverEvent, FetchEvent, handle_deliver_event, handle_fetch_event};
use okra_refresh::Refresher;
use okra_store::Store;
use okra_webhooks::Deliverer;
use serde_json::json;
use tokio::{task::JoinSet, time::sleep};

use crate::printer::{LinePrinter, LineSource};

/// The state that holds the last minute served, so that minutes missed while the process was down are served.
pub(crate) const MINUTE_CLOCK_STATE: &str = "minute-clock";

/// What each minute starts.
pub(crate) struct MinuteClock {
    pub(crate) clock: Clock,
    pub(crate) store: Store,
    pub(crate) emulator: Emulator,
    pub(crate) refresher: Refresher,
    pub(crate) deliverer: Arc<Deliverer>,
    pub(crate) printer: LinePrinter,
}

/// The last minute that each interval's loop has served, in minutes since 1970.
struct ServedMinutes([AtomicI64; Interval::ALL.len()]);

impl ServedMinutes {
    fn new(minute: i64) -> Self {
        Self(std::array::from_fn(|_| AtomicI64::new(minute)))
    }

    /// The minute that every interval has served.
    fn oldest(&self) -> Option<i64> {
        let minutes = self.0.iter();
        minutes.map(|minute| minute.load(Ordering::Relaxed)).min()
    }
}

impl MinuteClock {
    /// Serves each minute, from the one after the last that was served, until the process ends.
    pub(crate) async fn run_forever(self) {
        // A first run has missed nothing: it starts with the next minute.
        let last_served = self.load_last_served().await;
        let last_served = last_served.unwrap_or_else(|| self.current_minute());
        let served = Arc::new(ServedMinutes::new(last_served));
        let clock = Arc::new(self);

        // One loop for each kind of work; dropped together where the process ends.
        let mut loops = JoinSet::new();
        for (position, interval) in Interval::ALL.into_iter().enumerate() {
            let (clock, served) = (Arc::clone(&clock), Arc::clone(&served));
            loops.spawn(async move {
                let served = &served.0[position];
                clock.serve_interval(interval, last_served, served).await;
            });
        }
        let sweeper = Arc::clone(&clock);
        loops.spawn(async move { sweeper.sweep_deliveries(last_served).await });
        let keeper = Arc::clone(&clock);
        loops.spawn(async move { keeper.keep_up(last_served, &served).await });
        while let Some(ended) = loops.join_next().await {
            // None ends by itself: it panicked, and the others go on.
            if let Err(error) = ended {
                clock.report_failure(&error);
            }
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

    fn current_minute(&self) -> i64 {
        self.clock.now().as_second().div_euclid(60)
    }

    /// Waits until a minute has begun that comes after `last`; returns the latest that has.
    async fn wait_for_minute_after(&self, last: i64) -> i64 {
        loop {
            let minute = self.current_minute();
            if minute > last {
                return minute;
            }
            let next_ms = (minute + 1) * 60_000 - self.clock.now().as_millisecond();
            // A minute that has begun meanwhile is served without a pause.
            sleep(Duration::from_millis(u64::try_from(next_ms).unwrap_or(0))).await;
        }
    }

    /// Runs the ticks of an interval, one after the other. A slot that was missed several times is served once.
    async fn serve_interval(&self, interval: Interval, mut last: i64, served: &AtomicI64) {
        loop {
            let minute = self.wait_for_minute_after(last).await;
            let oldest = minute - i64::from(interval.minutes()) + 1;
            for due in oldest.max(last + 1)..=minute {
                let Ok(at) = Timestamp::from_second(due * 60) else {
                    continue;
                };
                // A slot missed long ago is due all the same: it may not occur again for a day.
                let tick = FetchEvent::Tick(Tick { interval, at });
                if let Err(error) = handle_fetch_event(&self.refresher, tick).await {
                    self.report_failure(&error);
                }
            }
            served.store(minute, Ordering::Relaxed);
            last = minute;
        }
    }

    /// Sweeps the deliveries that are due, each minute.
    async fn sweep_deliveries(&self, mut last: i64) {
        loop {
            last = self.wait_for_minute_after(last).await;
            let Ok(sweep) = Timestamp::from_second(last * 60) else {
                continue;
            };
            let sweep = DeliverEvent::Sweep { sweep };
            if let Err(error) = handle_deliver_event(&self.deliverer, sweep).await {
                self.report_failure(&error);
            }
        }
    }

    /// Deletes what has expired, and stores which minutes were served.
    async fn keep_up(&self, mut last: i64, served: &ServedMinutes) {
        loop {
            last = self.wait_for_minute_after(last).await;
            if let Err(error) = self.emulator.sweep_expired_items().await {
                self.report_failure(&error);
            }
            let state = json!({ "minute": served.oldest() });
            if let Err(error) = self
                .store
                .put_system_state(MINUTE_CLOCK_STATE, &state)
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
    }

    fn report_failure(&self, error: &(dyn std::error::Error + 'static)) {
        tracing::error!(error = %error_chain(error), "A minute's work failed; the next minute repeats it");
        self.printer.print_line(
            LineSource::Note,
            &format!("a minute's work failed and is repeated by the next: {error}"),
        );
    }
}
