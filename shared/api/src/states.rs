//! The states of a record's accounts and products, and how far its history has come: an extension of
//! `products/records/get`.

use jiff::Timestamp;
use okra_core::{
    bank::BankLimits,
    breaker::Breaker,
    fault::FaultClass,
    history::{History, Hole},
    ids::AccountId,
    model::Product,
    plan::DueEntry,
    state::{Availability, HistoryEnd, ProductState, RecordStatus},
    trouble::Places,
};
use okra_store::{Account, Consistency, Head};
use okra_wire::scalar::Instant;
use serde::Serialize;

use crate::{call::Call, envelope::Refusal, scope};

/// What can be had of a record now.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
pub(crate) struct RecordState {
    accounts: Vec<AccountState>,
    history: Option<HistoryState>,
    next_refresh_at: Option<Instant>,
    /// From when on a refresh can be asked for, without the user; null where the bank wants the user there.
    next_refresh_available_at: Option<RefreshAvailable>,
    /// True where the bank wants the user there for every refresh: then there is no `next_refresh_at`,
    /// and who refreshes on demand passes `customer_ip`.
    needs_user: bool,
    /// How the bank does: `HEALTHY`, `DEGRADED` or `DOWN`.
    bank_status: &'static str,
    /// When the consent ends, where that is known.
    consent_expires_at: Option<Instant>,
}

/// From when on a refresh of each product can be asked for: now, but for a bank that is down and for a
/// day's quota that is spent.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct RefreshAvailable {
    balance: Instant,
    transactions: Instant,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct AccountState {
    account: AccountId,
    balance: DataState,
    transactions: DataState,
}

/// Whether a product can be had, why not, since when, and when it is tried next.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct DataState {
    /// `AVAILABLE`, `PARTIAL`, `UNAVAILABLE` or `FAILED`.
    data_status: &'static str,
    /// The class of the failure, where it is not available; where it is partial, `rows_missing` (the last
    /// answer lacked rows that are not known to be gone), `history_refused` or `history_gave_up`.
    reason: Option<&'static str>,
    since: Option<Instant>,
    next_refresh_at: Option<Instant>,
}

/// How far the pull of the history has come.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct HistoryState {
    complete: bool,
    accounts_done: usize,
    accounts: usize,
    oldest_date: Option<String>,
    rows: u64,
    percent: u8,
    /// For each account whose history is over: why it goes no further back.
    ends: Vec<HistoryEndState>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct HistoryEndState {
    account: AccountId,
    oldest_date: String,
    rows: u64,
    history_end: &'static str,
    /// Days that could not be read, each with what is wrong in the bank's answer.
    unreadable: Vec<UnreadableDay>,
    /// Where something is lacking that may be had later: from when on a refresh asks for it again.
    retries_at: Option<Instant>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct UnreadableDay {
    date: String,
    why: String,
}

/// Why a product cannot be had that the record was linked without.
const NOT_SHARED: &str = "not_shared";

/// The state of a record, and its accounts, which were read for it.
pub(crate) async fn of(call: &Call, head: &Head) -> Result<(RecordState, Vec<Account>), Refusal> {
    let store = &call.state.store;
    let consent = store.consent(head.record, Consistency::Eventual).await?;
    let accounts = scope::accounts_of(call, std::slice::from_ref(head)).await?;
    let mut due = Vec::new();
    for key in head.due_keys() {
        due.extend(store.due_entry(key, Consistency::Eventual).await?);
    }
    let breaker = store.breaker(head.bank, Consistency::Eventual).await?;
    let breaker = breaker.unwrap_or_default();
    let now = call.now();
    let waits = head.status != RecordStatus::Active;
    let bank = call.named_bank(head.bank).await?;
    let limits = bank.map(|it| it.limits).unwrap_or_default();
    // A bank that wants the user there is not asked before he comes.
    let waits_for_user = waits || limits.user_present_only;
    let mut order: Vec<AccountId> = accounts.iter().map(|it| it.id).collect();
    order.sort_unstable();
    let next = |account: AccountId, product| {
        let nth = order.iter().position(|id| *id == account).unwrap_or(0);
        let place = Places::of(nth, product);
        let from = now.max(breaker.probe_at().unwrap_or(now));
        next_at(&due, place, product, from).filter(|_| !waits_for_user)
    };
    let history = store.history(head.record, Consistency::Eventual).await?;
    let partial = |account: &Account, product| {
        (product == Product::Transactions)
            .then(|| partial(account, history.as_ref()))
            .flatten()
    };
    let shown = |account: &Account, product| {
        let states = &account.states;
        if !waits && head.schedule.get(product).is_none() {
            let told = Some((NOT_SHARED, head.created_at));
            return shown(None, told, None, None);
        }
        let refused = waits.then_some(("consent_refused", head.last_changed_at));
        let down = breaker.since().filter(|_| breaker.is_open());
        let down = down.map(|since| (FaultClass::BankUnavailable.as_str(), since));
        // What is wrong with the record alone is told before what is wrong with its bank.
        let down = down.filter(|_| states.get(product).is_none_or(ProductState::is_available));
        let next = next(account.id, product);
        let told = refused.or(down);
        shown(states.get(product), told, partial(account, product), next)
    };
    let shown_accounts = accounts
        .iter()
        .map(|account| AccountState {
            account: account.id,
            balance: shown(account, Product::Balance),
            transactions: shown(account, Product::Transactions),
        })
        .collect();
    let all = order
        .iter()
        .flat_map(|id| Product::ALL.map(|product| next(*id, product)));
    let next_of_all = all.flatten().min();
    let history = history.map(|history| {
        let progress = history.progress();
        let ends = history.accounts.iter().filter_map(|it| {
            Some(HistoryEndState {
                account: it.account,
                oldest_date: it.reached.to_string(),
                rows: it.rows,
                history_end: it.end?.as_str(),
                unreadable: it.holes.iter().map(unreadable).collect(),
                retries_at: it.lacks(false).then(|| Instant(history.retries_at())),
            })
        });
        HistoryState {
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
        history,
        next_refresh_at: next_of_all.map(Instant),
        next_refresh_available_at: match waits_for_user {
            true => None,
            false => Some(RefreshAvailable {
                balance: available(call, head, &limits, &breaker, Product::Balance).await?,
                transactions: available(call, head, &limits, &breaker, Product::Transactions)
                    .await?,
            }),
        },
        needs_user: limits.user_present_only,
        bank_status: breaker.status().as_str(),
        consent_expires_at: consent
            .and_then(|it| it.clock)
            .map(|it| Instant(it.expires_at)),
    };
    Ok((state, accounts))
}

fn unreadable(hole: &Hole) -> UnreadableDay {
    UnreadableDay {
        date: hole.date.to_string(),
        why: hole.why.clone(),
    }
}

/// From when on a refresh of a product can be asked for. Reads the product's job where its bank has a
/// day's quota.
async fn available(
    call: &Call,
    head: &Head,
    limits: &BankLimits,
    breaker: &Breaker,
    product: Product,
) -> Result<Instant, Refusal> {
    let now = call.now();
    let interval = head.schedule.get(product).copied().unwrap_or_default();
    let spent = match limits.on_demand_per_day(interval) {
        None => None,
        Some(per_day) => {
            let store = &call.state.store;
            let job = store
                .job(head.record, product, Consistency::Eventual)
                .await?;
            let asked = job.map(|job| job.asked).unwrap_or_default();
            asked.spent_until(per_day, now)
        }
    };
    let probe = breaker.probe_at();
    Ok(Instant(
        now.max(spent.unwrap_or(now)).max(probe.unwrap_or(now)),
    ))
}

/// When a product is refreshed next without anybody asking.
fn next_at(due: &[DueEntry], place: Places, product: Product, now: Timestamp) -> Option<Timestamp> {
    let entry = due.iter().find(|it| it.marks.get(product).is_some())?;
    let trouble = entry.trouble.filter(|it| it.left_alone(now).holds(place));
    let held = trouble.and_then(|it| it.held_until(now));
    Some(entry.key.next_at(held.unwrap_or(now)))
}

/// Why the transactions of an account are not whole, where they can be had: its last answer lacked rows
/// that are not known to be gone, a part of its history is being asked for again, or could not be read, or
/// its history could not be had as far back as the bank has it.
fn partial(
    account: &Account,
    history: Option<&History>,
) -> Option<(&'static str, Option<Timestamp>)> {
    if let Some(doubt) = &account.checks.doubt {
        return Some(("rows_missing", Some(doubt.since)));
    }
    let of = history?
        .accounts
        .iter()
        .find(|it| it.account == account.id)?;
    if of.end.is_none() && of.beyond.is_some() {
        return Some(("history_gap", None));
    }
    if !of.holes.is_empty() {
        return Some(("history_unreadable", None));
    }
    match of.end? {
        HistoryEnd::BankRefused => Some(("history_refused", None)),
        HistoryEnd::GaveUp => Some(("history_gave_up", None)),
        HistoryEnd::Limit | HistoryEnd::BankLimit => None,
    }
}

fn shown(
    state: Option<&ProductState>,
    refused: Option<(&'static str, Timestamp)>,
    partial: Option<(&'static str, Option<Timestamp>)>,
    next: Option<Timestamp>,
) -> DataState {
    let (availability, reason, since) = match (refused, state) {
        (Some((reason, since)), _) => (Availability::Unavailable, Some(reason), Some(since)),
        (None, Some(state)) if !state.is_available() => (
            state.availability,
            state.class.map(FaultClass::as_str),
            Some(state.since),
        ),
        (None, state) => match partial {
            Some((reason, since)) => (Availability::Partial, Some(reason), since),
            None => (Availability::Available, None, state.map(|it| it.since)),
        },
    };
    DataState {
        data_status: availability.as_str(),
        reason,
        since: since.map(Instant),
        next_refresh_at: next.map(Instant),
    }
}
