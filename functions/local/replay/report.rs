//! Figures of a replay.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use okra_core::ids::{RecordId, Seq, Source};
use okra_refresh::{ChunkReport, Refreshed};
use okra_store::CapacityUsed;
use okra_webhooks::Attempted;

use crate::receiver::Receiver;

/// Times from commit to acknowledgement.
#[derive(Default)]
pub(crate) struct Latencies(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    committed: HashMap<(RecordId, Seq), Instant>,
    acknowledged_us: Vec<u64>,
    sent: u64,
}

impl Latencies {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Events committed and not acknowledged yet.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().committed.len()
    }

    /// (attempts made, acknowledged ones, p50, p99), the last two in milliseconds.
    fn figures(&self) -> (u64, usize, f64, f64) {
        let mut inner = self.lock();
        inner.acknowledged_us.sort_unstable();
        let sorted = &inner.acknowledged_us;
        #[expect(clippy::cast_precision_loss, reason = "milliseconds for people")]
        let at = |per_cent: usize| {
            let index = (sorted.len() * per_cent / 100).min(sorted.len().saturating_sub(1));
            sorted.get(index).map_or(0.0, |us| *us as f64 / 1000.0)
        };
        (inner.sent, sorted.len(), at(50), at(99))
    }
}

impl okra_refresh::Observer for Latencies {
    fn committed(&self, record: RecordId, from: Seq, to: Seq) {
        let now = Instant::now();
        let mut inner = self.lock();
        for seq in from.0..=to.0 {
            inner.committed.insert((record, Seq(seq)), now);
        }
    }

    fn refreshed(&self, _: &Refreshed) {}
}

impl okra_webhooks::Observer for Latencies {
    fn attempted(&self, attempted: &Attempted) {
        let mut inner = self.lock();
        inner.sent += 1;
        if attempted.outcome.is_ok()
            && let Source::Record(record) = attempted.source
            && let Some(at) = inner.committed.remove(&(record, attempted.seq))
        {
            inner
                .acknowledged_us
                .push(u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
    }
}

/// What a replay found.
pub(crate) struct Report<'a> {
    pub(crate) accounts: usize,
    pub(crate) refreshes: ChunkReport,
    pub(crate) feed_entries: u64,
    pub(crate) latencies: &'a Latencies,
    pub(crate) receiver: &'a Receiver,
    pub(crate) capacity: CapacityUsed,
    pub(crate) played_s: f64,
    pub(crate) skipped: &'a [String],
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refreshes = self.refreshes.unchanged + self.refreshes.changed;
        let (sent, acknowledged, p50, p99) = self.latencies.figures();
        let (refused, again) = self.receiver.oddities();
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
        for skipped in self.skipped.iter().take(10) {
            writeln!(f, "skipped              {skipped}")?;
        }
        if !self.skipped.is_empty() {
            writeln!(f, "skipped rows         {}", self.skipped.len())?;
        }
        Ok(())
    }
}
