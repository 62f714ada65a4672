//! What came of ticks, chunks and records.

use okra_core::model::{
    fault::BankFault,
    ids::{AccountId, AppId, BankId, RecordId, Seq},
    snapshot::Product,
};
use serde::Serialize;

/// What came of a tick.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TickReport {
    /// Records that were due.
    pub due: usize,
    /// Chunks sent to the fetch queue.
    pub chunks: usize,
    /// Records left out because their bank is down and their apps know it.
    pub down: usize,
    /// Records left out because their bank's pace cannot reach them.
    pub unattainable: usize,
    /// What came of the records refreshed in the same process, where they were few.
    pub inline: Option<ChunkReport>,
}

/// How many records of a chunk ended how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ChunkReport {
    /// The bank said what it had said before.
    pub unchanged: usize,
    /// Something changed and was committed and dispatched.
    pub changed: usize,
    /// No account answered.
    pub failed: usize,
    /// Another refresh committed while this one ran, as often as we tried.
    pub contended: usize,
    /// Not linked any more.
    pub gone: usize,
    /// Dropped because the chunk came too late.
    pub stale: usize,
    /// Left alone until a time that the bank named, or until a backoff is over.
    #[serde(rename = "held")]
    pub deferred: usize,
    /// Of those above, how many are asked again before their next turn.
    #[serde(rename = "put_off")]
    pub requeued: usize,
}

impl RefreshOutcome {
    /// The stable name, as in JSON.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Changed(_) => "changed",
            Self::Failed => "failed",
            Self::Contended => "contended",
            Self::Gone => "gone",
            Self::Deferred => "held",
        }
    }
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

/// What came of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefreshOutcome {
    /// The bank said what it had said before.
    Unchanged,
    /// Committed and dispatched.
    Changed(DispatchedChanges),
    /// No account answered; [`Refreshed::faults`] says why.
    Failed,
    /// Another refresh committed while this one ran, as often as we tried; the next one sees to it.
    Contended,
    /// The record is not linked any more.
    Gone,
    /// The record was not asked for: it is left alone until a time that the bank named, or until a
    /// backoff is over.
    Deferred,
}

/// What was dispatched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DispatchedChanges {
    /// First sequence number dispatched.
    pub first_seq: Seq,
    /// Last sequence number dispatched.
    pub last_seq: Seq,
    /// Balances that changed.
    pub balances: usize,
    /// Transactions added.
    pub added: usize,
    /// Transactions modified.
    pub modified: usize,
    /// Transactions removed.
    pub removed: usize,
    /// Changes of state.
    pub state_changes: usize,
}

/// A record was refreshed.
#[derive(Clone, Debug)]
pub struct RefreshReport {
    /// The record.
    pub record: RecordId,
    /// Its app, where its consent says whose it is.
    pub app: Option<AppId>,
    /// Its bank.
    pub bank: BankId,
    /// The products asked for.
    pub products: Vec<Product>,
    /// What came of it.
    pub outcome: RefreshOutcome,
    /// Accounts and products that failed; the others were kept.
    pub faults: Vec<(AccountId, Product, BankFault)>,
    /// Milliseconds it took.
    pub elapsed_ms: i64,
}

/// Told of what happens to records; must not block.
pub trait RefreshObserver: Send + Sync {
    /// Feed entries were committed, but nobody was told of them yet.
    fn on_entries_committed(&self, _record: RecordId, _from: Seq, _to: Seq) {}

    /// A record was refreshed.
    fn on_record_refreshed(&self, refreshed: &RefreshReport);
}

/// An observer that says nothing.
pub struct SilentRefreshObserver;

impl RefreshObserver for SilentRefreshObserver {
    fn on_record_refreshed(&self, _: &RefreshReport) {}
}
