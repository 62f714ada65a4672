//! The changed path of a refresh: the strong reads, the decision, and the commit.
//!
//! [`FetchedRecord`] is what the bank answered; [`Refresher::commit_changes`] compares it with what is committed and
//! takes the changes through the [`CommitPipeline`](crate::commit::CommitPipeline). The rule: what was fetched before
//! another refresh committed is never compared, because that would undo the commit ([`CommitOutcome::Conflict`]).

use okra_core::{
    model::{ids::AccountId, interval::DueKey, snapshot::ByProduct},
    refresh::{
        commit_plan::{
            AccountFault, AccountStateChange, CommitInputs, CommitPlan, DueSettlement,
            accounts_with_transactions, has_committed_transactions, number_entries, plan_commit,
            plan_watermarks,
        },
        outcome::{DispatchedChanges, RefreshOutcome},
    },
    schedule::plan::DueEntry,
    sync::{decide::Watermark, feed::Change, state::RecordStatus},
};
use okra_store::{Consistency, RecordHead};

use crate::{
    RefreshError, Refresher,
    backfill::{self, CoverageUpdate, FetchedWindow},
    commit::{CommitExtra, CommitRequest, DueUpdate, PublishOutcome},
    deletion_check::ComparedSnapshot,
    fetched_record::FetchedRecord,
};

/// How the commit of a refresh ended.
pub(crate) enum CommitOutcome {
    /// The record is as fetched. With it the answers that were read and not accepted.
    Finished(RefreshOutcome, Vec<AccountFault>),
    /// Another refresh committed after the bank was called.
    Conflict,
}

/// What a refresh knows of a record when it commits.
struct CommitContext<'a> {
    due: &'a DueEntry,
    head: &'a RecordHead,
    fetched: FetchedRecord<'a>,
    compared: &'a ComparedSnapshot,
    plan: &'a CommitPlan,
}

/// What a refresh knows of the backfill when it commits.
struct BackfillCheck {
    /// What the answers say of the backfill: nothing where deletions are unconfirmed.
    window: FetchedWindow,
    /// The backfill with the window in it; `None` where none was begun, or it was not looked for.
    coverage: Option<CoverageUpdate>,
}

impl Refresher {
    /// Brings the state of the record to what was fetched, and what was dispatched to the state.
    pub(crate) async fn commit_changes(
        &self,
        key: DueKey,
        fetched: FetchedRecord<'_>,
    ) -> Result<CommitOutcome, RefreshError> {
        // The due entry is read first: it can only be behind the head, never ahead of it.
        let due = self.store.find_due_entry(key, Consistency::Strong).await?;
        let head = self
            .store
            .find_head(key.record, Consistency::Strong)
            .await?;
        let (Some(due), Some(head)) = (due, head) else {
            return Ok(CommitOutcome::Finished(RefreshOutcome::Gone, Vec::new()));
        };
        if head.last_changed_at > fetched.requested_at {
            return Ok(CommitOutcome::Conflict);
        }
        let repaired = self.pipeline().repair_dispatch(&due, &head).await?;

        // Decide: what changed in the data, and what that makes of the record.
        let mut compared = self.compare_snapshot(&due, &head, &fetched).await?;
        let data_changes = std::mem::take(&mut compared.decision.changes);
        let plan = plan_commit(&CommitInputs {
            due: &due,
            status: head.status,
            snapshot: fetched.snapshot,
            digests: &compared.digests,
            decision: &compared.decision,
            suspended: fetched.suspended_products,
            now: self.clock.now(),
        });
        let context = CommitContext {
            due: &due,
            head: &head,
            fetched,
            compared: &compared,
            plan: &plan,
        };
        let outcome = self
            .publish_changes(&context, data_changes, repaired)
            .await?;
        Ok(match outcome {
            Some(outcome) => CommitOutcome::Finished(outcome, compared.decision.faults),
            None => CommitOutcome::Conflict,
        })
    }

    /// Takes the changes of a refresh through the pipeline. `None` where another refresh committed first.
    async fn publish_changes(
        &self,
        context: &CommitContext<'_>,
        data_changes: Vec<(AccountId, Change)>,
        repaired: DispatchedChanges,
    ) -> Result<Option<RefreshOutcome>, RefreshError> {
        let CommitContext {
            due,
            head,
            compared,
            plan,
            ..
        } = *context;
        let state_changes = self.collect_state_changes(context).await?;
        let backfill_check = self.check_backfill(context).await?;

        // Commit, project and dispatch.
        let now = self.clock.now();
        let entries = number_entries(head.record, head.seq, now, data_changes, state_changes);
        let watermarks = plan_watermarks(
            due,
            &head.watermarks,
            &compared.digests,
            &compared.decision,
            &entries,
        );
        let request = CommitRequest {
            head,
            due: Some(due),
            entries: &entries,
            watermarks,
            status: (plan.status != head.status).then_some(plan.status),
            extra: CommitExtra::None,
            now,
        };
        let published = match self.pipeline().publish(request, repaired).await? {
            PublishOutcome::Published(published) => published,
            PublishOutcome::Conflict => return Ok(None),
        };

        // Advance: the backfill's message first, because an advanced due entry is not looked at again.
        self.advance_backfill(context, backfill_check, &watermarks)
            .await?;
        let settlement = DueSettlement {
            watermarks,
            state_seq: published.state_seq,
            has_state_changes: published.has_state_changes,
            failure_state: plan.failure_state.clone(),
        };
        let update = DueUpdate::Settle { due, settlement };
        self.pipeline().advance(&published, update).await?;
        Ok(Some(RefreshOutcome::after_commit(
            &compared.digests,
            published.changes,
        )))
    }

    /// The changes of state of a refresh: the record's status, and, of a record that is active, the availability of its
    /// products and drifts.
    async fn collect_state_changes(
        &self,
        context: &CommitContext<'_>,
    ) -> Result<Vec<AccountStateChange>, RefreshError> {
        let CommitContext { due, plan, .. } = context;
        let status_change = plan.status_change.clone().map(|change| (None, change));
        let mut changes: Vec<AccountStateChange> = status_change.into_iter().collect();
        if plan.status != RecordStatus::Active {
            return Ok(changes);
        }
        if plan.may_change_availability(due.failure_state.as_ref()) {
            let fetched = &context.fetched;
            let accounts = self
                .store
                .load_accounts_of_consent(fetched.consent, Consistency::Strong)
                .await?;
            for account in &accounts {
                let recorded = &account.product_states;
                changes.extend(plan.availability_changes(account.id, recorded, fetched.snapshot));
            }
        }
        changes.extend(context.compared.drift_changes.iter().cloned());
        Ok(changes)
    }

    /// Notes in the backfill, before the commit, which accounts' transactions were read.
    async fn check_backfill(
        &self,
        context: &CommitContext<'_>,
    ) -> Result<BackfillCheck, RefreshError> {
        let fetched = &context.fetched;
        let window = FetchedWindow {
            accounts: match context.compared.decision.has_unconfirmed {
                true => Vec::new(),
                false => accounts_with_transactions(fetched.snapshot),
            },
            from: fetched.window_from,
        };
        let head = context.head;
        let is_begun = has_committed_transactions(&head.watermarks);
        let coverage = match is_begun && !window.accounts.is_empty() {
            true => {
                let now = self.clock.now();
                backfill::record_covered_window(&self.store, head.record, &window, now).await?
            }
            false => None,
        };
        Ok(BackfillCheck { window, coverage })
    }

    /// Begins the backfill after the first transactions, resumes it once the record is active again, or looks whether
    /// its next step is on its way.
    async fn advance_backfill(
        &self,
        context: &CommitContext<'_>,
        check: BackfillCheck,
        watermarks: &ByProduct<Watermark>,
    ) -> Result<(), RefreshError> {
        let CommitContext {
            due, head, plan, ..
        } = context;
        let (store, queues, now) = (&self.store, &self.queues, self.clock.now());
        let BackfillCheck { window, coverage } = check;
        let is_recovered =
            plan.status == RecordStatus::Active && head.status != RecordStatus::Active;
        let is_first_or_unknown = coverage.is_none() && !window.accounts.is_empty();
        if is_first_or_unknown && has_committed_transactions(watermarks) {
            backfill::begin_backfill(store, queues, head, &window, now).await
        } else if is_recovered {
            backfill::resume_backfill(store, queues, head, now).await
        } else if has_committed_transactions(&head.watermarks)
            && head.status == RecordStatus::Active
        {
            // Whoever dispatched the first transactions may have crashed before the first step was enqueued.
            let is_unsettled = due
                .watermarks
                .transactions
                .is_some_and(|watermark| watermark.digest.is_none());
            backfill::maintain_backfill(store, queues, head, coverage, is_unsettled, now).await
        } else {
            Ok(())
        }
    }
}
