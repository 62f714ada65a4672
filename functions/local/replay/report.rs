//! The figures of a replay: [`ReplayReport`], with the [`DeliveryLatencies`] measured while it ran.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use okra_core::model::ids::{FeedSource, RecordId, Seq};
use okra_refresh::{ChunkReport, RefreshReport};
use okra_store::CapacityUsed;
use okra_webhooks::AttemptReport;

use super::inject::InjectedCounts;
use crate::receiver::WebhookReceiver;

/// Most skipped rows that are listed.
const MAX_LISTED_ROWS: usize = 10;

/// Times from commit to acknowledgement.
#[derive(Default)]
pub(super) struct DeliveryLatencies(Mutex<DeliveryLatenciesInner>);

#[derive(Default)]
struct DeliveryLatenciesInner {
    committed_at: HashMap<(RecordId, Seq), Instant>,
    acknowledged_after: Vec<Duration>,
    attempt_count: u64,
}

/// The latencies of a replay in figures.
struct LatencySummary {
    attempts: u64,
    acknowledged: usize,
    median: Duration,
    p99: Duration,
}

impl DeliveryLatencies {
    fn lock_inner(&self) -> MutexGuard<'_, DeliveryLatenciesInner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Events that are committed and not acknowledged yet.
    pub(super) fn unacknowledged_count(&self) -> usize {
        self.lock_inner().committed_at.len()
    }

    fn summarize_latencies(&self) -> LatencySummary {
        let mut inner = self.lock_inner();
        inner.acknowledged_after.sort_unstable();
        let sorted = &inner.acknowledged_after;
        LatencySummary {
            attempts: inner.attempt_count,
            acknowledged: sorted.len(),
            median: percentile(sorted, 50),
            p99: percentile(sorted, 99),
        }
    }
}

/// A percentile of sorted durations; zero where there are none.
fn percentile(sorted: &[Duration], per_cent: usize) -> Duration {
    let index = sorted.len() * per_cent / 100;
    let at_most = sorted.get(index).or_else(|| sorted.last());
    at_most.copied().unwrap_or_default()
}

impl okra_refresh::RefreshObserver for DeliveryLatencies {
    fn on_entries_committed(&self, record: RecordId, from: Seq, to: Seq) {
        let now = Instant::now();
        let mut inner = self.lock_inner();
        for seq in from.0..=to.0 {
            inner.committed_at.insert((record, Seq(seq)), now);
        }
    }

    fn on_record_refreshed(&self, _: &RefreshReport) {}
}

impl okra_webhooks::DeliveryObserver for DeliveryLatencies {
    fn on_attempt(&self, attempted: &AttemptReport) {
        let mut inner = self.lock_inner();
        inner.attempt_count += 1;
        if attempted.outcome.is_ok()
            && let FeedSource::Record(record) = attempted.source
            && let Some(at) = inner.committed_at.remove(&(record, attempted.seq))
        {
            inner.acknowledged_after.push(at.elapsed());
        }
    }
}

/// What a replay did, in figures.
pub(super) struct ReplayReport<'a> {
    pub(super) accounts: usize,
    pub(super) refreshes: &'a ChunkReport,
    pub(super) feed_entries: u64,
    pub(super) latencies: &'a DeliveryLatencies,
    pub(super) receiver: &'a WebhookReceiver,
    pub(super) capacity: CapacityUsed,
    pub(super) elapsed: Duration,
    pub(super) skipped_rows: &'a [String],
}

/// How many there were per second, rounded down.
pub(super) fn rate_per_second(count: usize, elapsed: Duration) -> u128 {
    count as u128 * 1000 / elapsed.as_millis().max(1)
}

impl fmt::Display for ReplayReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refreshes = self.refreshes.unchanged + self.refreshes.changed;
        let latencies = self.latencies.summarize_latencies();
        writeln!(f, "\naccounts             {}", self.accounts)?;
        writeln!(
            f,
            "refreshes            {refreshes} in {:.1} s, {}/s",
            self.elapsed.as_secs_f64(),
            rate_per_second(refreshes, self.elapsed)
        )?;
        writeln!(f, "  unchanged          {}", self.refreshes.unchanged)?;
        writeln!(f, "  changed            {}", self.refreshes.changed)?;
        writeln!(f, "feed entries         {}", self.feed_entries)?;
        writeln!(
            f,
            "webhooks             {} sent in this run, {} acknowledged",
            latencies.attempts, latencies.acknowledged
        )?;
        writeln!(
            f,
            "  commit to ack      p50 {:.1} ms, p99 {:.1} ms",
            latencies.median.as_secs_f64() * 1000.0,
            latencies.p99.as_secs_f64() * 1000.0
        )?;
        writeln!(
            f,
            "  received           {} events, {} duplicates, {} rejected",
            self.receiver.len(),
            self.receiver.duplicate_count(),
            self.receiver.rejected_count()
        )?;
        writeln!(
            f,
            "capacity             {:.1} read units, {:.1} write units",
            self.capacity.read_units, self.capacity.write_units
        )?;
        for skipped in self.skipped_rows.iter().take(MAX_LISTED_ROWS) {
            writeln!(f, "skipped              {skipped}")?;
        }
        if !self.skipped_rows.is_empty() {
            writeln!(f, "skipped rows         {}", self.skipped_rows.len())?;
        }
        Ok(())
    }
}

impl fmt::Display for InjectedCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} pending rows, {} booked under another id, {} edits, {} removals",
            self.pending, self.booked, self.edited, self.removed
        )
    }
}
