//! What the changed path compares, and the second question it asks where rows are missing.

use std::collections::{BTreeMap, BTreeSet};

use jiff::ToSpan;
use okra_banks::Ask;
use okra_core::{
    decide::{AccountState, Decision, Observed, Suspects, decide, merge, observe},
    identity::BOOKING_WINDOW_DAYS,
    ids::{AccountId, TransactionId},
    model::{AccountSnapshot, BalanceFacts, Product, Snapshot},
    plan::DueEntry,
    state::StateChange,
    tieout::tie_out,
};
use okra_store::{Account, Checks, Consistency, Head, Place};

use crate::{RefreshError, Refresher, chunk::at_bank, reconcile::Fetched};

/// A drift of an account that began or ended.
type DriftChange = (Option<AccountId>, StateChange);

/// What is compared: the products of the snapshot that read otherwise than committed, and what is
/// known of them.
struct Known {
    snapshot: Snapshot,
    states: BTreeMap<AccountId, AccountState>,
    accounts: Vec<Account>,
}

impl Refresher {
    /// Decides what the snapshot changes. Where a few rows are missing the bank is asked once more, for
    /// their dates alone; what both answers lack is gone. Returns with it what was observed, with the
    /// second answer in the place of the first.
    ///
    /// How far each account can be believed is noted before anything is committed: a doubt that
    /// outlived its end would make a later answer believed too early.
    pub(crate) async fn decided(
        &self,
        due: &DueEntry,
        head: &Head,
        fetched: &Fetched<'_>,
    ) -> Result<(Decision, Observed, Vec<DriftChange>), RefreshError> {
        let mut observed = fetched.observed.clone();
        let Some(mut known) = self.known(due, head, fetched).await? else {
            return Ok((Decision::default(), observed, Vec::new()));
        };
        let now = self.clock.now();
        let mut decision = decide(&known.snapshot, &known.states, &BTreeSet::new(), now);
        let missed = self
            .ask_again(&mut known.snapshot, &decision.suspects, fetched)
            .await?;
        if !missed.is_empty() {
            observed.digests.transactions = observe(&known.snapshot).digests.transactions;
            decision = decide(&known.snapshot, &known.states, &missed, now);
        }
        let beside = self.balances_beside(head, &decision, fetched).await?;
        let drifts = self
            .note_checks(&known, &decision, &beside, fetched)
            .await?;
        Ok((decision, observed, drifts))
    }

    /// The suspects that a second answer was given about; that answer is in the snapshot now. Where the
    /// bank does not give one, or has no room for the question, its rows are held, and the next refresh
    /// asks. A bank that counts the calls without its customer has none while he is not there.
    async fn ask_again(
        &self,
        snapshot: &mut Snapshot,
        suspects: &[Suspects],
        fetched: &Fetched<'_>,
    ) -> Result<BTreeSet<TransactionId>, RefreshError> {
        let mut missed = BTreeSet::new();
        if fetched.counts_calls() {
            return Ok(missed);
        }
        for suspect in suspects {
            let linked = fetched.consent.accounts.iter();
            let Some(linked) = linked.into_iter().find(|it| it.id == suspect.account) else {
                continue;
            };
            let account = at_bank(linked);
            if let Place::Full(_) = self.take_place(fetched.bank).await? {
                break;
            }
            let ask = Ask {
                products: &[Product::Transactions],
                from: suspect.from,
                now: fetched.asked_at,
                user_present: fetched.user,
            };
            let dates = (suspect.from, suspect.to);
            let narrow = self
                .connectors
                .transactions_between(fetched.bank, fetched.secret, account, dates, ask)
                .await;
            let mut asked = snapshot.accounts.iter_mut();
            let asked = asked.find(|it| it.account == suspect.account);
            let window = asked.and_then(|it| it.transactions.as_mut()?.as_mut().ok());
            if let (Ok(narrow), Some(window)) = (narrow, window) {
                merge(window, narrow, suspect.from, suspect.to);
                missed.extend(&suspect.rows);
            }
        }
        Ok(missed)
    }

    /// The balances of accounts whose transactions changed in a refresh that did not ask for balances,
    /// because they are on another interval: a balance of another hour would not tie with these rows.
    /// None where the bank has no room for the question.
    async fn balances_beside(
        &self,
        head: &Head,
        decision: &Decision,
        fetched: &Fetched<'_>,
    ) -> Result<BTreeMap<AccountId, BalanceFacts>, RefreshError> {
        let mut balances = BTreeMap::new();
        if head.schedule.balance.is_none() || fetched.counts_calls() {
            return Ok(balances);
        }
        let changes = decision.changes.iter();
        let changed: BTreeSet<AccountId> = changes
            .filter(|(_, change)| change.is_of(Product::Transactions))
            .map(|(account, _)| *account)
            .collect();
        for linked in &fetched.consent.accounts {
            let asked = of(fetched.snapshot, linked.id).is_some_and(|it| it.balance.is_some());
            if asked || !changed.contains(&linked.id) {
                continue;
            }
            if let Place::Full(_) = self.take_place(fetched.bank).await? {
                break;
            }
            let accounts = [at_bank(linked)];
            let ask = Ask {
                products: &[Product::Balance],
                from: fetched.from,
                now: fetched.asked_at,
                user_present: fetched.user,
            };
            let answer = self
                .connectors
                .fetch(fetched.bank, fetched.secret, &accounts, ask);
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
    async fn note_checks(
        &self,
        known: &Known,
        decision: &Decision,
        beside: &BTreeMap<AccountId, BalanceFacts>,
        fetched: &Fetched<'_>,
    ) -> Result<Vec<DriftChange>, RefreshError> {
        let mut drifts = Vec::new();
        let doubts: BTreeMap<_, _> = decision.doubts.iter().cloned().collect();
        for account in &known.accounts {
            let old = &account.checks;
            let doubt = doubts.get(&account.id).unwrap_or(&old.doubt).clone();
            let (first, merged) = (fetched.snapshot, &known.snapshot);
            let balance = of(first, account.id)
                .and_then(|it| it.balance.as_ref())
                .and_then(|balance| balance.as_ref().ok())
                .or_else(|| beside.get(&account.id));
            let window = [merged, first]
                .into_iter()
                .filter_map(|snapshot| of(snapshot, account.id))
                .find_map(|it| it.transactions.as_ref())
                .and_then(|window| window.as_ref().ok());
            // Both must be of one refresh; an answer in doubt proves nothing.
            let tie = match (balance, window) {
                (Some(balance), Some(window)) if doubt.is_none() => {
                    let before = old.tie_out.as_ref();
                    tie_out(before, window, balance.ledger, fetched.asked_at)
                }
                _ => None,
            };
            let checks = Checks {
                doubt,
                tie_out: tie.or(old.tie_out),
            };
            if checks != *old {
                self.store.set_checks(account.id, &checks).await?;
            }
            // Compared with what was told, not with what was stored before: a crash may lie between.
            let drift = checks.tie_out.and_then(|it| it.drift);
            if drift.is_some() != account.drift_told {
                drifts.push((Some(account.id), StateChange::Drift { drift }));
            }
        }
        Ok(drifts)
    }

    /// Reads what the snapshot is to be compared with, and no more than that: nothing where the digests
    /// are the committed ones.
    async fn known(
        &self,
        due: &DueEntry,
        head: &Head,
        fetched: &Fetched<'_>,
    ) -> Result<Option<Known>, RefreshError> {
        let committed = |product: Product| {
            let mark = head.marks.get(product).copied().unwrap_or_default();
            mark.digest.is_some() && mark.digest.as_ref() == fetched.observed.digests.get(product)
        };
        let open: Vec<Product> = due
            .marks
            .products()
            .into_iter()
            .filter(|&product| !committed(product))
            .collect();
        if open.is_empty() {
            return Ok(None);
        }
        let mut snapshot = fetched.snapshot.clone();
        let mut states: BTreeMap<AccountId, AccountState> = BTreeMap::new();
        let accounts = self
            .store
            .accounts_of(fetched.consent, Consistency::Strong)
            .await?;
        for account in &accounts {
            let state = states.entry(account.id).or_default();
            state.balance = account.balance;
            state.doubt.clone_from(&account.checks.doubt);
        }
        // A row may have moved into the window since it was stored.
        let from = fetched.from.saturating_sub(BOOKING_WINDOW_DAYS.days());
        let first_pull = head
            .marks
            .transactions
            .is_none_or(|mark| mark == okra_core::decide::Mark::default());
        for account in &mut snapshot.accounts {
            if !open.contains(&Product::Balance) {
                account.balance = None;
            }
            if !open.contains(&Product::Transactions) {
                account.transactions = None;
            }
            if matches!(account.transactions, Some(Ok(_))) {
                let state = states.entry(account.account).or_default();
                state.first_pull = first_pull;
                if !first_pull {
                    let rows = self
                        .store
                        .transactions(account.account, from, None, Consistency::Strong)
                        .await?;
                    state.written = rows
                        .iter()
                        .map(|row| (row.transaction.id, row.seq))
                        .collect();
                    state.transactions = rows.into_iter().map(|row| row.transaction).collect();
                }
            }
        }
        Ok(Some(Known {
            snapshot,
            states,
            accounts,
        }))
    }
}

fn of(snapshot: &Snapshot, account: AccountId) -> Option<&AccountSnapshot> {
    snapshot.accounts.iter().find(|it| it.account == account)
}
