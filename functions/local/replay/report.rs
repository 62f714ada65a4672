//! Figures of a replay.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use okra_core::model::ids::{FeedSource, RecordId, Seq};
use okra_refresh::{ChunkReport, RefreshReport};
use okra_store::CapacityUsed;
use okra_webhooks::AttemptReport;

use crate::receiver::WebhookReceiver;

/// Times from commit to acknowledgement.
#[derive(Default)]
pub(crate) struct DeliveryLatencies(Mutex<DeliveryLatenciesInner>);

#[derive(Default)]
struct DeliveryLatenciesInner {
    committed_at: HashMap<(RecordId, Seq), Instant>,
    acknowledged_us: Vec<u64>,
    attempt_count: u64,
}

impl DeliveryLatencies {
    fn lock_inner(&self) -> std::sync::MutexGuard<'_, DeliveryLatenciesInner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Events committed and not acknowledged yet.
    pub(crate) fn unacknowledged_count(&self) -> usize {
        self.lock_inner().committed_at.len()
    }

    /// (attempts made, acknowledged ones, p50, p99), the last two in milliseconds.
    fn summarize_latencies(&self) -> (u64, usize, f64, f64) {
        let mut inner = self.lock_inner();
        inner.acknowledged_us.sort_unstable();
        let sorted = &inner.acknowledged_us;
        #[expect(clippy::cast_precision_loss, reason = "milliseconds for people")]
        let at = |per_cent: usize| {
            let index = (sorted.len() * per_cent / 100).min(sorted.len().saturating_sub(1));
            sorted.get(index).map_or(0.0, |us| *us as f64 / 1000.0)
        };
        (inner.attempt_count, sorted.len(), at(50), at(99))
    }
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
            inner
                .acknowledged_us
                .push(u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
    }
}

/// What a replay found.
pub(crate) struct ReplayReport<'a> {
    pub(crate) accounts: usize,
    pub(crate) refreshes: ChunkReport,
    pub(crate) feed_entries: u64,
    pub(crate) latencies: &'a DeliveryLatencies,
    pub(crate) receiver: &'a WebhookReceiver,
    pub(crate) capacity: CapacityUsed,
    pub(crate) played_s: f64,
    pub(crate) skipped_rows: &'a [String],
}

impl fmt::Display for ReplayReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refreshes = self.refreshes.unchanged + self.refreshes.changed;
        let (sent, acknowledged, p50, p99) = self.latencies.summarize_latencies();
        let (refused, again) = self.receiver.rejected_and_duplicate_counts();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = refreshes as f64 / self.played_s.max(0.001);
        writeln!(f, "\naccounts             {}", self.accounts)?;
        writeln!(
            f,
            "refreshes            {refreshes} in {:.1} s, {rate:.0}/s",
            self.played_s
        )?;
        writeln!(f, "  unchanged          {}", self.refreshes.unchanged)?;
        writeln!(f, "  changed            {}", self.refreshes.changed)?;
        writeln!(f, "feed entries         {}", self.feed_entries)?;
        writeln!(
            f,
            "webhooks             {sent} sent in this run, {acknowledged} acknowledged"
        )?;
        writeln!(f, "  commit to ack      p50 {p50:.1} ms, p99 {p99:.1} ms")?;
        writeln!(
            f,
            "  received           {} events, {again} again, {refused} refused",
            self.receiver.len()
        )?;
        let CapacityUsed {
            read_units,
            write_units,
        } = self.capacity;
        writeln!(
            f,
            "capacity             {read_units:.1} read units, {write_units:.1} write units"
        )?;
        for skipped in self.skipped_rows.iter().take(10) {
            writeln!(f, "skipped              {skipped}")?;
        }
        if !self.skipped_rows.is_empty() {
            writeln!(f, "skipped rows         {}", self.skipped_rows.len())?;
        }
        Ok(())
    }
}
