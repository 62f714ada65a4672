//! What ticks, chunks and records report: [`TickReport`], [`ChunkReport`] and [`RefreshReport`], and the
//! [`RefreshObserver`] that is called for each record.

use std::ops::AddAssign;

use okra_core::{
    model::{
        ids::{AppId, BankId, RecordId, Seq},
        snapshot::Product,
    },
    refresh::{commit_plan::AccountFault, outcome::RefreshOutcome},
};
use serde::Serialize;

/// How a tick ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TickReport {
    /// Records that were due.
    pub due: usize,
    /// Chunks sent to the fetch queue.
    pub chunks: usize,
    /// Records left out because their bank is down and their apps were notified.
    pub down: usize,
    /// Records left out because their bank's rate does not reach so far; later ticks come to them.
    pub unattainable: usize,
    /// How the records ended that were refreshed in the same process, where they were few.
    pub inline: Option<ChunkReport>,
}

/// How many records of a chunk ended how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ChunkReport {
    /// The bank's answer was that of the last refresh.
    pub unchanged: usize,
    /// Changes were committed and dispatched.
    pub changed: usize,
    /// No account could be read.
    pub failed: usize,
    /// Another refresh committed first, in each attempt.
    pub contended: usize,
    /// No longer linked.
    pub gone: usize,
    /// Dropped because the chunk came too late.
    pub stale: usize,
    /// The bank was not called: suspended, without a permit, expired, or in need of the user.
    #[serde(rename = "held")]
    pub deferred: usize,
    /// Of the failed and deferred, how many come again before their next turn.
    #[serde(rename = "put_off")]
    pub requeued: usize,
}

impl ChunkReport {
    pub(crate) fn count_outcome(&mut self, outcome: &RefreshOutcome) {
        *match outcome {
            RefreshOutcome::Unchanged => &mut self.unchanged,
            RefreshOutcome::Changed(_) => &mut self.changed,
            RefreshOutcome::Failed => &mut self.failed,
            RefreshOutcome::Contended => &mut self.contended,
            RefreshOutcome::Gone => &mut self.gone,
            RefreshOutcome::Deferred => &mut self.deferred,
        } += 1;
    }
}

impl AddAssign for ChunkReport {
    fn add_assign(&mut self, other: Self) {
        self.unchanged += other.unchanged;
        self.changed += other.changed;
        self.failed += other.failed;
        self.contended += other.contended;
        self.gone += other.gone;
        self.stale += other.stale;
        self.deferred += other.deferred;
        self.requeued += other.requeued;
    }
}

/// How the refresh of a record ended.
#[derive(Clone, Debug)]
pub struct RefreshReport {
    /// The record.
    pub record: RecordId,
    /// Its app; `None` for a consent that was stored before consents named their app.
    pub app: Option<AppId>,
    /// Its bank.
    pub bank: BankId,
    /// The products of the due entry.
    pub products: Vec<Product>,
    /// How it ended.
    pub outcome: RefreshOutcome,
    /// What failed, by account and product; everything else was read.
    pub faults: Vec<AccountFault>,
    /// Milliseconds it took.
    pub elapsed_ms: i64,
}

/// Is called for each record; must not block.
pub trait RefreshObserver: Send + Sync {
    /// Feed entries were committed, and not dispatched yet.
    fn on_entries_committed(&self, _record: RecordId, _from: Seq, _to: Seq) {}

    /// A record was refreshed.
    fn on_record_refreshed(&self, refreshed: &RefreshReport);
}

/// An observer that ignores everything.
pub struct SilentRefreshObserver;

impl RefreshObserver for SilentRefreshObserver {
    fn on_record_refreshed(&self, _: &RefreshReport) {}
}
