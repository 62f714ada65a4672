//! The states of a record's accounts and products, and how far its history has come: an extension of
//! `products/records/get`.

use jiff::Timestamp;
use okra_core::{
    backfill::progress::{Backfill, UnreadableDay},
    model::{bank::BankLimits, fault::FaultClass, ids::AccountId, snapshot::Product},
    resilience::bank_breaker::BankBreaker,
    schedule::plan::DueEntry,
    sync::state::{Availability, BackfillEnd, ProductState, RecordStatus},
};
use okra_store::{Account, Consistency, RecordHead};
use okra_wire::scalar::IsoInstant;
use serde::Serialize;

use crate::{call::ApiRequest, envelope::ApiError, scope};

/// What can be had of a record now.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
pub(crate) struct RecordState {
    accounts: Vec<AccountProductState>,
    #[serde(rename = "history")]
    backfill: Option<BackfillState>,
    next_refresh_at: Option<IsoInstant>,
    /// From when on a refresh can be asked for, without the user; null where the bank wants the user there.
    next_refresh_available_at: Option<NextRefreshTimes>,
    /// True where the bank wants the user there for every refresh: then there is no `next_refresh_at`,
    /// and who refreshes on demand passes `customer_ip`.
    needs_user: bool,
    /// How the bank does: `HEALTHY`, `DEGRADED` or `DOWN`.
    bank_status: &'static str,
    /// When the consent ends, where that is known.
    consent_expires_at: Option<IsoInstant>,
}

/// From when on a refresh of each product can be asked for: now, but for a bank that is down and for a
/// day's quota that is spent.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct NextRefreshTimes {
    balance: IsoInstant,
    transactions: IsoInstant,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct AccountProductState {
    account: AccountId,
    balance: ProductDataState,
    transactions: ProductDataState,
}

/// Whether a product can be had, why not, since when, and when it is tried next.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct ProductDataState {
    /// `AVAILABLE`, `PARTIAL`, `UNAVAILABLE` or `FAILED`.
    data_status: &'static str,
    /// The class of the failure, where it is not available; where it is partial, `rows_missing` (the last
    /// answer lacked rows that are not known to be gone), `history_refused` or `history_gave_up`.
    reason: Option<&'static str>,
    since: Option<IsoInstant>,
    next_refresh_at: Option<IsoInstant>,
}

/// How far the pull of the history has come.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct BackfillState {
    complete: bool,
    accounts_done: usize,
    accounts: usize,
    oldest_date: Option<String>,
    rows: u64,
    percent: u8,
    /// For each account whose history is over: why it goes no further back.
    ends: Vec<BackfillEndState>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct BackfillEndState {
    account: AccountId,
    oldest_date: String,
    rows: u64,
    history_end: &'static str,
    /// Days that could not be read, each with what is wrong in the bank's answer.
    unreadable: Vec<UnreadableDaySummary>,
    /// Where something is lacking that may be had later: from when on a refresh asks for it again.
    retries_at: Option<IsoInstant>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct UnreadableDaySummary {
    date: String,
    #[serde(rename = "why")]
    reason: String,
}

/// Why a product cannot be had that the record was linked without.
const NOT_SHARED: &str = "not_shared";

/// The state of a record, and its accounts, which were read for it.
pub(crate) async fn load_record_state(
    request: &ApiRequest,
    head: &RecordHead,
) -> Result<(RecordState, Vec<Account>), ApiError> {
    let store = &request.state.store;
    let consent = store
        .find_consent(head.record, Consistency::Eventual)
        .await?;
    let accounts = scope::load_accounts_of_records(request, std::slice::from_ref(head)).await?;
    let mut due = Vec::new();
    for key in head.due_keys() {
        due.extend(store.find_due_entry(key, Consistency::Eventual).await?);
    }
    let breaker = store
        .find_bank_breaker(head.bank, Consistency::Eventual)
        .await?;
    let breaker = breaker.unwrap_or_default();
    let now = request.now();
    let waits = head.status != RecordStatus::Active;
    let bank = request.load_cached_bank(head.bank).await?;
    let limits = bank.map(|it| it.limits).unwrap_or_default();
    // A bank that wants the user there is not asked before he comes.
    let waits_for_user = waits || limits.user_present_only;
    let account_ids: Vec<AccountId> = accounts.iter().map(|it| it.id).collect();
    let next = |account: AccountId, product| {
        let from = now.max(breaker.next_probe_at().unwrap_or(now));
        find_next_refresh_at(&due, &account_ids, account, product, from).filter(|_| !waits_for_user)
    };
    let history = store
        .find_backfill(head.record, Consistency::Eventual)
        .await?;
    let partial = |account: &Account, product| {
        (product == Product::Transactions)
            .then(|| find_partial_reason(account, history.as_ref()))
            .flatten()
    };
    let shown = |account: &Account, product| {
        let states = &account.product_states;
        if !waits && head.schedule.get(product).is_none() {
            let told = Some((NOT_SHARED, head.created_at));
            return build_data_state(None, told, None, None);
        }
        let refused = waits.then_some(("consent_refused", head.last_changed_at));
        let down = breaker.failing_since().filter(|_| breaker.is_open());
        let down = down.map(|since| (FaultClass::BankUnavailable.as_str(), since));
        // What is wrong with the record alone is told before what is wrong with its bank.
        let down = down.filter(|_| states.get(product).is_none_or(ProductState::is_available));
        let next = next(account.id, product);
        let told = refused.or(down);
        build_data_state(states.get(product), told, partial(account, product), next)
    };
    let shown_accounts = accounts
        .iter()
        .map(|account| AccountProductState {
            account: account.id,
            balance: shown(account, Product::Balance),
            transactions: shown(account, Product::Transactions),
        })
        .collect();
    let all = account_ids
        .iter()
        .flat_map(|id| Product::ALL.map(|product| next(*id, product)));
    let next_of_all = all.flatten().min();
    let history = history.map(|history| {
        let progress = history.measure_progress();
        let ends = history.accounts.iter().filter_map(|it| {
            Some(BackfillEndState {
                account: it.account,
                oldest_date: it.reached_date.to_string(),
                rows: it.rows,
                history_end: it.end?.as_str(),
                unreadable: it
                    .unreadable_days
                    .iter()
                    .map(summarise_unreadable_day)
                    .collect(),
                retries_at: it
                    .has_retryable_gaps(false)
                    .then(|| IsoInstant(history.next_retry_at())),
            })
        });
        BackfillState {
            complete: history.is_complete(),
            accounts_done: progress.accounts_done,
            accounts: progress.accounts,
            oldest_date: progress.oldest_date.map(|date| date.to_string()),
            rows: progress.rows,
            percent: progress.percent,
            ends: ends.collect(),
        }
    });
    let state = RecordState {
        accounts: shown_accounts,
        backfill: history,
        next_refresh_at: next_of_all.map(IsoInstant),
        next_refresh_available_at: match waits_for_user {
            true => None,
            false => Some(NextRefreshTimes {
                balance: find_refresh_available_at(
                    request,
                    head,
                    &limits,
                    &breaker,
                    Product::Balance,
                )
                .await?,
                transactions: find_refresh_available_at(
                    request,
                    head,
                    &limits,
                    &breaker,
                    Product::Transactions,
                )
                .await?,
            }),
        },
        needs_user: limits.user_present_only,
        bank_status: breaker.bank_status().as_str(),
        consent_expires_at: consent
            .and_then(|it| it.consent_clock)
            .map(|it| IsoInstant(it.expires_at)),
    };
    Ok((state, accounts))
}

fn summarise_unreadable_day(unreadable_day: &UnreadableDay) -> UnreadableDaySummary {
    UnreadableDaySummary {
        date: unreadable_day.date.to_string(),
        reason: unreadable_day.reason.clone(),
    }
}

/// From when on a refresh of a product can be asked for. Reads the product's job where its bank has a
/// day's quota.
async fn find_refresh_available_at(
    request: &ApiRequest,
    head: &RecordHead,
    limits: &BankLimits,
    breaker: &BankBreaker,
    product: Product,
) -> Result<IsoInstant, ApiError> {
    let now = request.now();
    let interval = head.schedule.get(product).copied().unwrap_or_default();
    let spent = match limits.on_demand_per_day(interval) {
        None => None,
        Some(per_day) => {
            let store = &request.state.store;
            let job = store
                .find_job(head.record, product, Consistency::Eventual)
                .await?;
            let asked = job.map(|job| job.unattended_requests).unwrap_or_default();
            asked.exhausted_until(per_day, now)
        }
    };
    let probe = breaker.next_probe_at();
    Ok(IsoInstant(
        now.max(spent.unwrap_or(now)).max(probe.unwrap_or(now)),
    ))
}

/// When a product is refreshed next without anybody asking.
fn find_next_refresh_at(
    due: &[DueEntry],
    account_ids: &[AccountId],
    account: AccountId,
    product: Product,
    now: Timestamp,
) -> Option<Timestamp> {
    let entry = due.iter().find(|it| it.watermarks.get(product).is_some())?;
    let suspended_until = entry.failure_state.as_ref().and_then(|it| {
        let suspended = it.suspended_products(now, account_ids.iter().copied());
        it.suspended_until(now)
            .filter(|_| suspended.includes(account, product))
    });
    Some(entry.key.next_due_at(suspended_until.unwrap_or(now)))
}

/// Why the transactions of an account are not whole, where they can be had: its last answer lacked rows
/// that are not known to be gone, a part of its history is being asked for again, or could not be read, or
/// its history could not be had as far back as the bank has it.
fn find_partial_reason(
    account: &Account,
    backfill: Option<&Backfill>,
) -> Option<(&'static str, Option<Timestamp>)> {
    if let Some(doubt) = &account.checks.pending_deletions {
        return Some(("rows_missing", Some(doubt.since)));
    }
    let of = backfill?
        .accounts
        .iter()
        .find(|it| it.account == account.id)?;
    if of.end.is_none() && of.resume_point.is_some() {
        return Some(("history_gap", None));
    }
    if !of.unreadable_days.is_empty() {
        return Some(("history_unreadable", None));
    }
    match of.end? {
        BackfillEnd::BankRejected => Some(("history_refused", None)),
        BackfillEnd::GaveUp => Some(("history_gave_up", None)),
        BackfillEnd::RequestedLimit | BackfillEnd::BankLimit => None,
    }
}

fn build_data_state(
    state: Option<&ProductState>,
    unavailable_reason: Option<(&'static str, Timestamp)>,
    partial_reason: Option<(&'static str, Option<Timestamp>)>,
    next_refresh_at: Option<Timestamp>,
) -> ProductDataState {
    let (availability, reason, since) = match (unavailable_reason, state) {
        (Some((reason, since)), _) => (Availability::Unavailable, Some(reason), Some(since)),
        (None, Some(state)) if !state.is_available() => (
            state.availability,
            state.class.map(FaultClass::as_str),
            Some(state.since),
        ),
        (None, state) => match partial_reason {
            Some((reason, since)) => (Availability::Partial, Some(reason), since),
            None => (Availability::Available, None, state.map(|it| it.since)),
        },
    };
    ProductDataState {
        data_status: availability.as_str(),
        reason,
        since: since.map(IsoInstant),
        next_refresh_at: next_refresh_at.map(IsoInstant),
    }
}
