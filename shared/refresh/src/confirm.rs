//! What the changed path compares, and the second question it asks where rows are missing.

use std::collections::{BTreeMap, BTreeSet};

use jiff::ToSpan;
use okra_connectors::FetchRequest;
use okra_core::{
    model::{
        ids::{AccountId, TransactionId},
        snapshot::{AccountSnapshot, BalanceFacts, Product, Snapshot},
    },
    schedule::plan::DueEntry,
    sync::{
        decide::{
            CommittedAccount, DeletionCheck, RefreshDecision, SnapshotDigests, decide_changes,
            digest_snapshot, merge_second_response,
        },
        drift::tie_out,
        identity::BOOKING_WINDOW_DAYS,
        state::StateChange,
    },
};
use okra_store::{Account, AccountChecks, AdHocPermit, Consistency, RecordHead};

use crate::{RefreshError, Refresher, chunk::account_ref, reconcile::FetchedRecord};

/// A drift of an account that began or ended.
type DriftChange = (Option<AccountId>, StateChange);

/// What is compared: the products of the snapshot that read otherwise than committed, and what is
/// known of them.
struct ComparisonBase {
    snapshot: Snapshot,
    account_states: BTreeMap<AccountId, CommittedAccount>,
    accounts: Vec<Account>,
}

impl Refresher {
    /// Decides what the snapshot changes. Where a few rows are missing the bank is asked once more, for
    /// their dates alone; what both answers lack is gone. Returns with it what was observed, with the
    /// second answer in the place of the first.
    ///
    /// How far each account can be believed is noted before anything is committed: a doubt that
    /// outlived its end would make a later answer believed too early.
    pub(crate) async fn decide_changes(
        &self,
        due: &DueEntry,
        head: &RecordHead,
        fetched: &FetchedRecord<'_>,
    ) -> Result<(RefreshDecision, SnapshotDigests, Vec<DriftChange>), RefreshError> {
        let mut observed = fetched.snapshot_digests.clone();
        let Some(mut known) = self.load_comparison_base(due, head, fetched).await? else {
            return Ok((RefreshDecision::default(), observed, Vec::new()));
        };
        let now = self.clock.now();
        let mut decision = decide_changes(
            &known.snapshot,
            &known.account_states,
            &BTreeSet::new(),
            now,
        );
        let missed = self
            .confirm_missing_rows(&mut known.snapshot, &decision.deletion_checks, fetched)
            .await?;
        if !missed.is_empty() {
            observed.digests.transactions = digest_snapshot(&known.snapshot).digests.transactions;
            decision = decide_changes(&known.snapshot, &known.account_states, &missed, now);
        }
        let beside = self
            .fetch_missing_balances(head, &decision, fetched)
            .await?;
        let drifts = self
            .store_checks(&known, &decision, &beside, fetched)
            .await?;
        Ok((decision, observed, drifts))
    }

    /// The suspects that a second answer was given about; that answer is in the snapshot now. Where the
    /// bank does not give one, or has no room for the question, its rows are held, and the next refresh
    /// asks. A bank that counts the calls without its customer has none while he is not there.
    async fn confirm_missing_rows(
        &self,
        snapshot: &mut Snapshot,
        pending: &[DeletionCheck],
        fetched: &FetchedRecord<'_>,
    ) -> Result<BTreeSet<TransactionId>, RefreshError> {
        let mut missed = BTreeSet::new();
        if fetched.has_call_quota() {
            return Ok(missed);
        }
        for suspect in pending {
            let linked = fetched.consent.accounts.iter();
            let Some(linked) = linked
                .into_iter()
                .find(|it| it.account_id == suspect.account)
            else {
                continue;
            };
            let account = account_ref(linked);
            if let AdHocPermit::ExhaustedUntil(_) = self.acquire_bank_permit(fetched.bank).await? {
                break;
            }
            let narrow = self
                .connectors
                .fetch_transactions_between(
                    fetched.bank,
                    fetched.secret,
                    account.bank_account_id,
                    suspect.from..=suspect.to,
                    fetched.user_present,
                    fetched.requested_at,
                )
                .await;
            let mut asked = snapshot.accounts.iter_mut();
            let asked = asked.find(|it| it.account == suspect.account);
            let window = asked.and_then(|it| it.transactions.as_mut()?.as_mut().ok());
            if let (Ok(narrow), Some(window)) = (narrow, window) {
                merge_second_response(window, narrow, suspect.from, suspect.to);
                missed.extend(&suspect.rows);
            }
        }
        Ok(missed)
    }

    /// The balances of accounts whose transactions changed in a refresh that did not ask for balances,
    /// because they are on another interval: a balance of another hour would not tie with these rows.
    /// None where the bank has no room for the question.
    async fn fetch_missing_balances(
        &self,
        head: &RecordHead,
        decision: &RefreshDecision,
        fetched: &FetchedRecord<'_>,
    ) -> Result<BTreeMap<AccountId, BalanceFacts>, RefreshError> {
        let mut balances = BTreeMap::new();
        if head.schedule.balance.is_none() || fetched.has_call_quota() {
            return Ok(balances);
        }
        let changes = decision.changes.iter();
        let changed: BTreeSet<AccountId> = changes
            .filter(|(_, change)| change.concerns_product(Product::Transactions))
            .map(|(account, _)| *account)
            .collect();
        for linked in &fetched.consent.accounts {
            let asked = account_snapshot(fetched.snapshot, linked.account_id)
                .is_some_and(|it| it.balance.is_some());
            if asked || !changed.contains(&linked.account_id) {
                continue;
            }
            if let AdHocPermit::ExhaustedUntil(_) = self.acquire_bank_permit(fetched.bank).await? {
                break;
            }
            let accounts = [account_ref(linked)];
            let ask = FetchRequest {
                products: &[Product::Balance],
                from: fetched.window_from,
                now: fetched.requested_at,
                user_present: fetched.user_present,
            };
            let answer =
                self.connectors
                    .fetch_snapshot(fetched.bank, fetched.secret, &accounts, ask);
            let answers = answer.await.accounts;
            let answers = answers
                .into_iter()
                .filter_map(|it| Some((it.account, it.balance?.ok()?)));
            balances.extend(answers);
        }
        Ok(balances)
    }

    /// Writes what changed of how far each account can be believed, and returns the drifts that began or
    /// ended and were not told.
    async fn store_checks(
        &self,
        base: &ComparisonBase,
        decision: &RefreshDecision,
        fetched_balances: &BTreeMap<AccountId, BalanceFacts>,
        fetched: &FetchedRecord<'_>,
    ) -> Result<Vec<DriftChange>, RefreshError> {
        let mut drifts = Vec::new();
        let doubts: BTreeMap<_, _> = decision.pending_deletions.iter().cloned().collect();
        for account in &base.accounts {
            let old = &account.checks;
            let doubt = doubts
                .get(&account.id)
                .unwrap_or(&old.pending_deletions)
                .clone();
            let (first, merged) = (fetched.snapshot, &base.snapshot);
            let balance = account_snapshot(first, account.id)
                .and_then(|it| it.balance.as_ref())
                .and_then(|balance| balance.as_ref().ok())
                .or_else(|| fetched_balances.get(&account.id));
            let window = [merged, first]
                .into_iter()
                .filter_map(|snapshot| account_snapshot(snapshot, account.id))
                .find_map(|it| it.transactions.as_ref())
                .and_then(|window| window.as_ref().ok());
            // Both must be of one refresh; an answer in doubt proves nothing.
            let tie = match (balance, window) {
                (Some(balance), Some(window)) if doubt.is_none() => {
                    let before = old.tie_out.as_ref();
                    tie_out(before, window, balance.ledger, fetched.requested_at)
                }
                _ => None,
            };
            let checks = AccountChecks {
                pending_deletions: doubt,
                tie_out: tie.or(old.tie_out),
            };
            if checks != *old {
                self.store.set_account_checks(account.id, &checks).await?;
            }
            // Compared with what was told, not with what was stored before: a crash may lie between.
            let drift = checks.tie_out.and_then(|it| it.drift);
            if drift.is_some() != account.is_drift_reported {
                drifts.push((Some(account.id), StateChange::Drift { drift }));
            }
        }
        Ok(drifts)
    }

    /// Reads what the snapshot is to be compared with, and no more than that: nothing where the digests
    /// are the committed ones.
    async fn load_comparison_base(
        &self,
        due: &DueEntry,
        head: &RecordHead,
        fetched: &FetchedRecord<'_>,
    ) -> Result<Option<ComparisonBase>, RefreshError> {
        let committed = |product: Product| {
            let mark = head.watermarks.get(product).copied().unwrap_or_default();
            mark.digest.is_some()
                && mark.digest.as_ref() == fetched.snapshot_digests.digests.get(product)
        };
        let open: Vec<Product> = due
            .watermarks
            .products()
            .into_iter()
            .filter(|&product| !committed(product))
            .collect();
        if open.is_empty() {
            return Ok(None);
        }
        let mut snapshot = fetched.snapshot.clone();
        let mut states: BTreeMap<AccountId, CommittedAccount> = BTreeMap::new();
        let accounts = self
            .store
            .load_accounts_of_consent(fetched.consent, Consistency::Strong)
            .await?;
        for account in &accounts {
            let state = states.entry(account.id).or_default();
            state.balance = account.balance;
            state
                .pending_deletions
                .clone_from(&account.checks.pending_deletions);
        }
        // A row may have moved into the window since it was stored.
        let from = fetched
            .window_from
            .saturating_sub(BOOKING_WINDOW_DAYS.days());
        let first_pull = head
            .watermarks
            .transactions
            .is_none_or(|mark| mark == okra_core::sync::decide::Watermark::default());
        for account in &mut snapshot.accounts {
            if !open.contains(&Product::Balance) {
                account.balance = None;
            }
            if !open.contains(&Product::Transactions) {
                account.transactions = None;
            }
            if matches!(account.transactions, Some(Ok(_))) {
                let state = states.entry(account.account).or_default();
                state.is_first_fetch = first_pull;
                if !first_pull {
                    let rows = self
                        .store
                        .list_transactions(account.account, from, None, Consistency::Strong)
                        .await?;
                    state.last_written_seqs = rows
                        .iter()
                        .map(|row| (row.transaction.id, row.written_by_seq))
                        .collect();
                    state.transactions = rows.into_iter().map(|row| row.transaction).collect();
                }
            }
        }
        Ok(Some(ComparisonBase {
            snapshot,
            account_states: states,
            accounts,
        }))
    }
}

fn account_snapshot(snapshot: &Snapshot, account: AccountId) -> Option<&AccountSnapshot> {
    snapshot.accounts.iter().find(|it| it.account == account)
}
