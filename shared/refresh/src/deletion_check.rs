//! What the changed path compares, and the second call that it makes where rows are missing.
//!
//! [`Refresher::compare_snapshot`] reads what the snapshot is compared with, asks the bank once more for the dates of
//! rows that its answer lacks, and notes how far each account's answers can be trusted. It returns a
//! [`ComparedSnapshot`]. The rule: a row is gone only once two answers lack it (law 1), and the second call is made only
//! where the bank's rate has room for it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp, ToSpan};
use okra_connectors::FetchRequest;
use okra_core::{
    model::{
        ids::{AccountId, TransactionId},
        snapshot::{AccountSnapshot, BalanceFacts, Product, Snapshot, TransactionWindow},
    },
    refresh::commit_plan::{AccountStateChange, has_committed_transactions},
    schedule::plan::DueEntry,
    sync::{
        decide::{
            CommittedAccount, DeletionCheck, RefreshDecision, SnapshotDigests, decide_changes,
            digest_snapshot, merge_second_response,
        },
        drift::tie_out,
        identity::BOOKING_WINDOW_DAYS,
        pending_deletions::PendingDeletions,
        state::StateChange,
    },
};
use okra_store::{Account, AccountChecks, AdHocPermit, Consistency, RecordHead, UnreadableRows};

use crate::{
    RefreshError, Refresher,
    fetched_record::{FetchedRecord, account_ref},
};

/// A snapshot that was compared with what is committed.
#[derive(Default)]
pub(crate) struct ComparedSnapshot {
    /// What it changes.
    pub(crate) decision: RefreshDecision,
    /// What it comes to for each product, with the second answer in the place of the first.
    pub(crate) digests: SnapshotDigests,
    /// Drifts that began or ended.
    pub(crate) drift_changes: Vec<AccountStateChange>,
}

/// What a snapshot is compared with.
struct ComparisonBase {
    /// The snapshot without the products that read as committed.
    snapshot: Snapshot,
    account_states: BTreeMap<AccountId, CommittedAccount>,
    accounts: Vec<Account>,
}

impl Refresher {
    /// Decides what the snapshot changes. Where a few rows are missing, the bank is called once more, for their dates
    /// alone.
    ///
    /// How far each account can be trusted is noted before anything is committed: pending deletions that outlived their
    /// end would make a later answer trusted too early.
    pub(crate) async fn compare_snapshot(
        &self,
        due: &DueEntry,
        head: &RecordHead,
        fetched: &FetchedRecord<'_>,
    ) -> Result<ComparedSnapshot, RefreshError> {
        let mut digests = fetched.snapshot_digests.clone();
        let Some(mut base) = self.load_comparison_base(due, head, fetched).await? else {
            return Ok(ComparedSnapshot {
                digests,
                ..ComparedSnapshot::default()
            });
        };
        let now = self.clock.now();
        let mut decision =
            decide_changes(&base.snapshot, &base.account_states, &BTreeSet::new(), now);
        let confirmed = self
            .confirm_missing_rows(&mut base.snapshot, &decision.deletion_checks, fetched)
            .await?;
        if !confirmed.is_empty() {
            digests.digests.transactions = digest_snapshot(&base.snapshot).digests.transactions;
            decision = decide_changes(&base.snapshot, &base.account_states, &confirmed, now);
        }
        let balances = self
            .fetch_missing_balances(head, &decision, fetched)
            .await?;
        let drift_changes = self
            .store_checks(&base, &decision, &balances, fetched)
            .await?;
        Ok(ComparedSnapshot {
            decision,
            digests,
            drift_changes,
        })
    }

    /// The missing rows about which a second answer was given; that answer is in the snapshot then. Where the bank does
    /// not give one, or its rate has no room for the call, the deletions stay pending and the next refresh checks them. A
    /// bank that counts the calls without its customer gets no second call while they are absent.
    async fn confirm_missing_rows(
        &self,
        snapshot: &mut Snapshot,
        checks: &[DeletionCheck],
        fetched: &FetchedRecord<'_>,
    ) -> Result<BTreeSet<TransactionId>, RefreshError> {
        let mut confirmed = BTreeSet::new();
        if fetched.has_call_quota() {
            return Ok(confirmed);
        }
        for check in checks {
            let mut linked = fetched.consent.accounts.iter();
            let Some(linked) = linked.find(|it| it.account_id == check.account) else {
                continue;
            };
            if let AdHocPermit::ExhaustedUntil(_) = self.acquire_bank_permit(fetched.bank).await? {
                break;
            }
            let second = self
                .connectors
                .fetch_transactions_between(
                    fetched.bank,
                    fetched.secret,
                    &linked.bank_account_id,
                    check.from..=check.to,
                    fetched.user_present,
                    fetched.requested_at,
                )
                .await;
            let window = transactions_mut(snapshot, check.account);
            if let (Ok(second), Some(window)) = (second, window) {
                merge_second_response(window, second, check.from, check.to);
                confirmed.extend(&check.rows);
            }
        }
        Ok(confirmed)
    }

    /// The balances of accounts whose transactions changed in a refresh that did not fetch balances because they are on
    /// another interval: a balance of another hour would not tie with these rows. Where the bank's rate has no room for
    /// the calls, there are none.
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
            let has_balance = find_account(fetched.snapshot, linked.account_id)
                .is_some_and(|account| account.balance.is_some());
            if has_balance || !changed.contains(&linked.account_id) {
                continue;
            }
            if let AdHocPermit::ExhaustedUntil(_) = self.acquire_bank_permit(fetched.bank).await? {
                break;
            }
            let accounts = [account_ref(linked)];
            let request = FetchRequest {
                products: &[Product::Balance],
                from: fetched.window_from,
                now: fetched.requested_at,
                user_present: fetched.user_present,
            };
            let response =
                self.connectors
                    .fetch_snapshot(fetched.bank, fetched.secret, &accounts, request);
            let accounts = response.await.accounts.into_iter();
            balances.extend(accounts.filter_map(|it| Some((it.account, it.balance?.ok()?))));
        }
        Ok(balances)
    }

    /// Writes what changed of how far each account can be trusted, and returns the drifts that began or ended and were
    /// not reported.
    async fn store_checks(
        &self,
        base: &ComparisonBase,
        decision: &RefreshDecision,
        fetched_balances: &BTreeMap<AccountId, BalanceFacts>,
        fetched: &FetchedRecord<'_>,
    ) -> Result<Vec<AccountStateChange>, RefreshError> {
        let mut changes = Vec::new();
        let pending: BTreeMap<_, _> = decision.pending_deletions.iter().cloned().collect();
        for account in &base.accounts {
            let first = fetched.snapshot;
            let balance = find_account(first, account.id)
                .and_then(|it| it.balance.as_ref()?.as_ref().ok())
                .or_else(|| fetched_balances.get(&account.id));
            // Transactions that read as committed are in the first snapshot alone.
            let window = [&base.snapshot, first]
                .into_iter()
                .filter_map(|snapshot| find_account(snapshot, account.id))
                .find_map(|it| it.transactions.as_ref())
                .and_then(|window| window.as_ref().ok());
            let pending_deletions = match pending.get(&account.id) {
                Some(pending) => pending.clone(),
                None => account.checks.pending_deletions.clone(),
            };
            let checks = next_checks(
                &account.checks,
                pending_deletions,
                balance,
                window,
                fetched.requested_at,
            );
            if checks != account.checks {
                self.store.set_account_checks(account.id, &checks).await?;
            }
            // Compared with what was reported, not with what was stored before: a crash may lie between.
            let drift = checks.tie_out.and_then(|it| it.drift);
            if drift.is_some() != account.is_drift_reported {
                changes.push((Some(account.id), StateChange::Drift { drift }));
            }
        }
        Ok(changes)
    }

    /// Reads what the snapshot is to be compared with, and no more than that: nothing where the digests are the
    /// committed ones.
    async fn load_comparison_base(
        &self,
        due: &DueEntry,
        head: &RecordHead,
        fetched: &FetchedRecord<'_>,
    ) -> Result<Option<ComparisonBase>, RefreshError> {
        let mut open = due.watermarks.products();
        open.retain(|product| !reads_as_committed(head, fetched.snapshot_digests, *product));
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
        let is_first_fetch = !has_committed_transactions(&head.watermarks);
        for account in &mut snapshot.accounts {
            if !open.contains(&Product::Balance) {
                account.balance = None;
            }
            if !open.contains(&Product::Transactions) {
                account.transactions = None;
            }
            if !matches!(account.transactions, Some(Ok(_))) {
                continue;
            }
            let state = states.entry(account.account).or_default();
            state.is_first_fetch = is_first_fetch;
            if is_first_fetch {
                continue;
            }
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
        Ok(Some(ComparisonBase {
            snapshot,
            account_states: states,
            accounts,
        }))
    }
}

/// How far an account can be trusted after a refresh. Balance and transactions are tied out only where both are of one
/// refresh, no deletion is pending, and every row could be read.
fn next_checks(
    before: &AccountChecks,
    pending_deletions: Option<PendingDeletions>,
    balance: Option<&BalanceFacts>,
    window: Option<&TransactionWindow>,
    requested_at: Timestamp,
) -> AccountChecks {
    let tied_out = match (balance, window) {
        (Some(balance), Some(window))
            if pending_deletions.is_none() && window.unreadable.is_empty() =>
        {
            tie_out(
                before.tie_out.as_ref(),
                window,
                balance.ledger,
                requested_at,
            )
        }
        _ => None,
    };
    let unreadable_rows = match window {
        Some(window) => UnreadableRows::summarise(&window.unreadable),
        None => before.unreadable_rows.clone(),
    };
    AccountChecks {
        unreadable_rows,
        pending_deletions,
        tie_out: tied_out.or(before.tie_out),
    }
}

/// True where a product's answer is the committed one.
fn reads_as_committed(head: &RecordHead, digests: &SnapshotDigests, product: Product) -> bool {
    let committed = head.watermarks.get(product).and_then(|it| it.digest);
    committed.is_some() && committed.as_ref() == digests.digests.get(product)
}

fn find_account(snapshot: &Snapshot, account: AccountId) -> Option<&AccountSnapshot> {
    snapshot.accounts.iter().find(|it| it.account == account)
}

/// The transactions that were read of an account.
fn transactions_mut(snapshot: &mut Snapshot, account: AccountId) -> Option<&mut TransactionWindow> {
    let mut accounts = snapshot.accounts.iter_mut();
    let account = accounts.find(|it| it.account == account)?;
    account.transactions.as_mut()?.as_mut().ok()
}
