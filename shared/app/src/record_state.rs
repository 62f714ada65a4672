//! What is available of a record now: [`RecordState`], with the availability of each product of each account
//! ([`ProductDataState`]), how far the backfill has come ([`BackfillSummary`]), when the next refresh is due, and when
//! one may be requested.
//!
//! The rule: a state says why a product is not available, and when it is tried next, with one reason: first what is
//! wrong with the record's consent, then with the product itself, then with its bank.

use jiff::{Timestamp, civil::Date};
use okra_core::{
    backfill::progress::{Backfill, UnreadableDay},
    model::{bank::BankLimits, fault::FaultClass, ids::AccountId, snapshot::Product},
    resilience::bank_breaker::{BankBreaker, BankStatus},
    schedule::plan::DueEntry,
    sync::state::{Availability, AvailabilityReason, BackfillEnd, ProductState, RecordStatus},
};
use okra_store::{Account, Consistency, RecordHead};

use crate::{app_scope::AppScope, error::AppError};

/// What is available of a record now.
#[derive(Clone, Debug)]
pub struct RecordState {
    /// The products of each account.
    pub accounts: Vec<AccountDataState>,
    /// How far the backfill has come; `None` before it begins.
    pub backfill: Option<BackfillSummary>,
    /// When the record is refreshed next on its schedule.
    pub next_refresh_at: Option<Timestamp>,
    /// From when on a refresh may be requested without the user; `None` where the user must act or be present.
    pub next_refresh_available_at: Option<NextRefreshTimes>,
    /// True where the bank requires the user to be present for every refresh.
    pub requires_user_present: bool,
    /// How the bank does.
    pub bank_status: BankStatus,
    /// When the consent ends, where that is known.
    pub consent_expires_at: Option<Timestamp>,
}

/// From when on a refresh of each product may be requested: now, unless the bank's circuit is open or its daily quota
/// is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextRefreshTimes {
    /// A refresh of the balances.
    pub balance: Timestamp,
    /// A refresh of the transactions.
    pub transactions: Timestamp,
}

/// The products of an account.
#[derive(Clone, Debug)]
pub struct AccountDataState {
    /// The account.
    pub account: AccountId,
    /// Its balance.
    pub balance: ProductDataState,
    /// Its transactions.
    pub transactions: ProductDataState,
}

impl AccountDataState {
    /// The state of a product.
    pub const fn product_state(&self, product: Product) -> &ProductDataState {
        match product {
            Product::Balance => &self.balance,
            Product::Transactions => &self.transactions,
        }
    }
}

/// Whether a product is available, why not, since when, and when it is tried next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProductDataState {
    /// How much of it is available.
    pub availability: Availability,
    /// Why it is not, or only in part.
    pub reason: Option<AvailabilityReason>,
    /// Since when, where that is known.
    pub since: Option<Timestamp>,
    /// When it is refreshed next on its schedule.
    pub next_refresh_at: Option<Timestamp>,
}

/// How far the backfill of a record has come.
#[derive(Clone, Debug)]
pub struct BackfillSummary {
    /// Nothing is left to fetch.
    pub is_complete: bool,
    /// Accounts whose backfill has ended.
    pub accounts_done: usize,
    /// All accounts.
    pub accounts: usize,
    /// All transactions from this date on are there, of every account.
    pub oldest_date: Option<Date>,
    /// Transactions found so far.
    pub rows: u64,
    /// Of the days to fetch; 100 once complete.
    pub percent: u8,
    /// For each account whose backfill has ended: why it goes no further back.
    pub ends: Vec<AccountBackfillEnd>,
}

/// Where the backfill of an account ended.
#[derive(Clone, Debug)]
pub struct AccountBackfillEnd {
    /// The account.
    pub account: AccountId,
    /// The oldest date that was fetched.
    pub oldest_date: Date,
    /// Transactions found.
    pub rows: u64,
    /// Why it goes no further back.
    pub end: BackfillEnd,
    /// Days that could not be read, each with what is wrong in the bank's response.
    pub unreadable_days: Vec<UnreadableDay>,
    /// Where something is missing that may be available later: from when on a refresh requests it again.
    pub retries_at: Option<Timestamp>,
}

/// What the state of a record is worked out from.
struct StateInputs<'a> {
    head: &'a RecordHead,
    accounts: &'a [Account],
    due_entries: Vec<DueEntry>,
    breaker: BankBreaker,
    backfill: Option<Backfill>,
    limits: BankLimits,
    now: Timestamp,
}

impl AppScope {
    /// The state of a record, and its accounts, which are read for it.
    ///
    /// # Errors
    ///
    /// [`AppError::Internal`] where the store cannot be read.
    pub async fn load_record_state(
        &self,
        head: &RecordHead,
    ) -> Result<(RecordState, Vec<Account>), AppError> {
        // Read everything that the state depends on.
        let store = self.store();
        let consent = store
            .find_consent(head.record, Consistency::Eventual)
            .await?;
        let accounts = self
            .load_accounts_of_records(std::slice::from_ref(head))
            .await?;
        let mut due_entries = Vec::new();
        for key in head.due_keys() {
            due_entries.extend(store.find_due_entry(key, Consistency::Eventual).await?);
        }
        let breaker = store
            .find_bank_breaker(head.bank, Consistency::Eventual)
            .await?;
        let bank = self.load_cached_bank(head.bank).await?;
        let backfill = store
            .find_backfill(head.record, Consistency::Eventual)
            .await?;
        let inputs = StateInputs {
            head,
            accounts: &accounts,
            due_entries,
            // A bank without a stored breaker has never failed; one that is gone has no limits.
            breaker: breaker.unwrap_or_default(),
            limits: bank.map(|bank| bank.limits).unwrap_or_default(),
            backfill,
            now: self.now(),
        };
        // Work out the state.
        let next_refresh_available_at = match inputs.waits_for_user() {
            true => None,
            false => Some(NextRefreshTimes {
                balance: self
                    .find_refresh_available_at(&inputs, Product::Balance)
                    .await?,
                transactions: self
                    .find_refresh_available_at(&inputs, Product::Transactions)
                    .await?,
            }),
        };
        let consent_clock = consent.and_then(|consent| consent.consent_clock);
        let state = RecordState {
            accounts: inputs.describe_accounts(),
            backfill: inputs.backfill.as_ref().map(summarise_backfill),
            next_refresh_at: inputs.find_first_refresh_at(),
            next_refresh_available_at,
            requires_user_present: inputs.limits.user_present_only,
            bank_status: inputs.breaker.bank_status(),
            consent_expires_at: consent_clock.map(|clock| clock.expires_at),
        };
        Ok((state, accounts))
    }

    /// From when on a refresh of a product may be requested. Reads the product's job where its bank has a daily quota.
    async fn find_refresh_available_at(
        &self,
        inputs: &StateInputs<'_>,
        product: Product,
    ) -> Result<Timestamp, AppError> {
        let now = inputs.now;
        let interval = inputs.head.schedule.get(product).copied();
        let quota = inputs
            .limits
            .on_demand_per_day(interval.unwrap_or_default());
        let quota_spent_until = match quota {
            None => None,
            Some(per_day) => {
                let record = inputs.head.record;
                let job = self
                    .store()
                    .find_job(record, product, Consistency::Eventual);
                let requests = job.await?.map(|job| job.unattended_requests);
                requests.and_then(|requests| requests.exhausted_until(per_day, now))
            }
        };
        let probe_at = inputs.breaker.next_probe_at();
        Ok(now
            .max(quota_spent_until.unwrap_or(now))
            .max(probe_at.unwrap_or(now)))
    }
}

impl StateInputs<'_> {
    /// True where the bank does not accept the consent.
    fn needs_reauthorisation(&self) -> bool {
        self.head.status != RecordStatus::Active
    }

    /// True where nothing is refreshed until the user acts or is present.
    fn waits_for_user(&self) -> bool {
        self.needs_reauthorisation() || self.limits.user_present_only
    }

    /// When any product is refreshed next.
    fn find_first_refresh_at(&self) -> Option<Timestamp> {
        let accounts = self.accounts.iter().map(|account| account.id);
        let all = accounts.flat_map(|account| {
            Product::ALL.map(|product| self.find_next_refresh_at(account, product))
        });
        all.flatten().min()
    }

    /// When a product of an account is refreshed next on its schedule.
    fn find_next_refresh_at(&self, account: AccountId, product: Product) -> Option<Timestamp> {
        if self.waits_for_user() {
            return None;
        }
        let from = self
            .breaker
            .next_probe_at()
            .map_or(self.now, |at| at.max(self.now));
        let mut entries = self.due_entries.iter();
        let entry = entries.find(|entry| entry.watermarks.get(product).is_some())?;
        let suspended_until = entry.failure_state.as_ref().and_then(|state| {
            let account_ids = self.accounts.iter().map(|account| account.id);
            let suspended = state.suspended_products(from, account_ids);
            state
                .suspended_until(from)
                .filter(|_| suspended.includes(account, product))
        });
        Some(entry.key.next_due_at(suspended_until.unwrap_or(from)))
    }

    fn describe_accounts(&self) -> Vec<AccountDataState> {
        let accounts = self.accounts.iter();
        let describe = accounts.map(|account| AccountDataState {
            account: account.id,
            balance: self.describe_product(account, Product::Balance),
            transactions: self.describe_product(account, Product::Transactions),
        });
        describe.collect()
    }

    fn describe_product(&self, account: &Account, product: Product) -> ProductDataState {
        let state = account.product_states.get(product);
        let unavailable = self.find_unavailable_reason(state, product);
        let (availability, reason, since) = match (unavailable, state) {
            (Some((reason, since)), _) => (Availability::Unavailable, Some(reason), Some(since)),
            (None, Some(state)) if !state.is_available() => (
                state.availability,
                state.class.map(AvailabilityReason::Fault),
                Some(state.since),
            ),
            (None, state) => match self.find_partial_reason(account, product) {
                Some((reason, since)) => (Availability::Partial, Some(reason), since),
                None => (Availability::Available, None, state.map(|it| it.since)),
            },
        };
        let is_shared = reason != Some(AvailabilityReason::NotShared);
        ProductDataState {
            availability,
            reason,
            since,
            next_refresh_at: is_shared
                .then(|| self.find_next_refresh_at(account.id, product))
                .flatten(),
        }
    }

    /// Why a product is unavailable whatever its own state says: the consent, what the user shared, or the bank.
    fn find_unavailable_reason(
        &self,
        state: Option<&ProductState>,
        product: Product,
    ) -> Option<(AvailabilityReason, Timestamp)> {
        let head = self.head;
        if self.needs_reauthorisation() {
            let reason = AvailabilityReason::Fault(FaultClass::ConsentRejected);
            return Some((reason, head.last_changed_at));
        }
        if head.schedule.get(product).is_none() {
            return Some((AvailabilityReason::NotShared, head.created_at));
        }
        // What is wrong with the record alone comes before what is wrong with its bank.
        if state.is_none_or(ProductState::is_available) && self.breaker.is_open() {
            let reason = AvailabilityReason::Fault(FaultClass::BankUnavailable);
            return Some((reason, self.breaker.failing_since()?));
        }
        None
    }

    /// Why the transactions of an account are not whole, where they are available: its last response lacks rows whose
    /// deletion is not confirmed, or its backfill has a gap or ended early.
    fn find_partial_reason(
        &self,
        account: &Account,
        product: Product,
    ) -> Option<(AvailabilityReason, Option<Timestamp>)> {
        if product != Product::Transactions {
            return None;
        }
        if let Some(deletions) = &account.checks.pending_deletions {
            return Some((AvailabilityReason::RowsMissing, Some(deletions.since)));
        }
        if account.checks.unreadable_rows.is_some() {
            return Some((AvailabilityReason::RowsUnreadable, None));
        }
        let mut accounts = self.backfill.as_ref()?.accounts.iter();
        let backfill = accounts.find(|it| it.account == account.id)?;
        let reason = if backfill.end.is_none() && backfill.resume_point.is_some() {
            AvailabilityReason::BackfillGap
        } else if !backfill.unreadable_days.is_empty() {
            AvailabilityReason::BackfillUnreadable
        } else {
            AvailabilityReason::for_backfill_end(backfill.end?)?
        };
        Some((reason, None))
    }
}

fn summarise_backfill(backfill: &Backfill) -> BackfillSummary {
    let progress = backfill.measure_progress();
    let ends = backfill.accounts.iter().filter_map(|account| {
        Some(AccountBackfillEnd {
            account: account.account,
            oldest_date: account.reached_date,
            rows: account.rows,
            end: account.end?,
            unreadable_days: account.unreadable_days.clone(),
            retries_at: account
                .has_retryable_gaps(false)
                .then(|| backfill.next_retry_at()),
        })
    });
    BackfillSummary {
        is_complete: backfill.is_complete(),
        accounts_done: progress.accounts_done,
        accounts: progress.accounts,
        oldest_date: progress.oldest_date,
        rows: progress.rows,
        percent: progress.percent,
        ends: ends.collect(),
    }
}
