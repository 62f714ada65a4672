//! How the refresh of a record ended: [`RefreshOutcome`] and, where something was dispatched,
//! [`DispatchedChanges`].

use crate::{
    model::ids::Seq,
    refresh::commit_plan::DispatchRange,
    sync::{
        decide::SnapshotDigests,
        feed::{Change, FeedEntry},
    },
};

/// How the refresh of one record ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefreshOutcome {
    /// The bank's answer was that of the last refresh.
    Unchanged,
    /// Changes were committed and dispatched.
    Changed(DispatchedChanges),
    /// No account could be read; the faults of the refresh say why.
    Failed,
    /// Other refreshes of the record committed first, in each attempt; the next refresh takes over.
    Contended,
    /// The record is no longer linked.
    Gone,
    /// The bank was not called: everything is suspended, the consent has expired, or the bank requires the user.
    Deferred,
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

    /// The outcome of a refresh that compared its snapshot with what is committed and dispatched `changes`.
    pub fn after_commit(snapshot_digests: &SnapshotDigests, changes: DispatchedChanges) -> Self {
        let nothing_read =
            snapshot_digests.digests.is_empty() && !snapshot_digests.faults.is_empty();
        if nothing_read && !changes.has_data_changes() {
            Self::Failed
        } else if changes.last_seq > Seq::ZERO {
            Self::Changed(changes)
        } else {
            Self::Unchanged
        }
    }

    /// True where the bank answered the refresh with something usable.
    pub const fn has_response(&self) -> bool {
        matches!(self, Self::Changed(_) | Self::Unchanged)
    }
}

/// What a refresh dispatched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DispatchedChanges {
    /// First sequence number dispatched; 0 where nothing was.
    pub first_seq: Seq,
    /// Last sequence number dispatched; 0 where nothing was.
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

impl DispatchedChanges {
    /// True where a balance or a transaction changed, and not a state alone.
    pub const fn has_data_changes(&self) -> bool {
        self.balances + self.added + self.modified + self.removed > 0
    }

    /// Counts what feed entries change.
    pub fn count_entries(&mut self, entries: &[FeedEntry]) {
        for entry in entries {
            match &entry.change {
                Change::Balance { .. } => self.balances += 1,
                Change::State(_) => self.state_changes += 1,
                Change::Transactions(diff) => {
                    self.added += diff.added.len();
                    self.modified += diff.modified.len();
                    self.removed += diff.removed.len();
                }
            }
        }
    }

    /// Extends the dispatched sequence numbers by those of a range.
    pub fn include_range(&mut self, range: &DispatchRange) {
        self.last_seq = self.last_seq.max(range.last_seq);
        self.first_seq = match self.first_seq {
            Seq::ZERO => range.first_seq,
            first => first.min(range.first_seq),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{
            fault::{BankFault, FaultClass},
            ids::AccountId,
            snapshot::{ByProduct, Product},
        },
        sync::{digest::Digest, feed::FeedStream},
    };

    #[test]
    fn a_record_failed_only_where_nothing_was_read_and_no_data_changed() {
        let fault = BankFault::new(FaultClass::BankUnavailable, "");
        let failed = SnapshotDigests {
            digests: ByProduct::default(),
            faults: vec![(AccountId::derive(&[b"a"]), Product::Balance, fault)],
        };
        let half = SnapshotDigests {
            digests: ByProduct {
                balance: Some(Digest([1; 16])),
                transactions: None,
            },
            ..failed.clone()
        };
        let mut repaired = DispatchedChanges {
            balances: 1,
            ..DispatchedChanges::default()
        };
        repaired.include_range(&DispatchRange {
            stream: FeedStream::Balance,
            first_seq: Seq(3),
            last_seq: Seq(4),
        });
        let nothing = DispatchedChanges::default();
        assert_eq!(
            RefreshOutcome::after_commit(&failed, nothing),
            RefreshOutcome::Failed
        );
        assert_eq!(
            RefreshOutcome::after_commit(&half, nothing),
            RefreshOutcome::Unchanged
        );
        assert_eq!(
            RefreshOutcome::after_commit(&failed, repaired),
            RefreshOutcome::Changed(repaired)
        );
    }
}
