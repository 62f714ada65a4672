//! The states of a record's accounts and products, and how far its history has come: an extension of
//! `products/records/get`.

use jiff::Timestamp;
use okra_core::{
    fault::FaultClass,
    ids::AccountId,
    model::{ByProduct, Product},
    plan::DueEntry,
    state::{Availability, ProductState, RecordStatus},
};
use okra_store::{Consistency, Head};
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
    /// How the bank does: `HEALTHY`, `DEGRADED` or `DOWN`.
    bank_status: &'static str,
    /// When the consent ends, where that is known.
    consent_expires_at: Option<Instant>,
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
    /// The class of the failure, where it is not available.
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
}

/// The state of a record.
pub(crate) async fn of(call: &Call, head: &Head) -> Result<RecordState, Refusal> {
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
    let next = |product| match waits {
        true => None,
        false => next_at(&due, product, now.max(breaker.probe_at().unwrap_or(now))),
    };
    let next = ByProduct {
        balance: next(Product::Balance),
        transactions: next(Product::Transactions),
    };
    let shown = |states: &ByProduct<ProductState>, product| {
        let refused = waits.then_some(("consent_refused", head.last_changed_at));
        let down = breaker.since().filter(|_| breaker.is_open());
        let down = down.map(|since| (FaultClass::BankUnavailable.as_str(), since));
        // What is wrong with the record alone is told before what is wrong with its bank.
        let down = down.filter(|_| states.get(product).is_none_or(ProductState::is_available));
        shown(
            states.get(product),
            refused.or(down),
            next.get(product).copied(),
        )
    };
    let accounts = accounts
        .iter()
        .map(|account| AccountState {
            account: account.id,
            balance: shown(&account.states, Product::Balance),
            transactions: shown(&account.states, Product::Transactions),
        })
        .collect();
    let history = store.history(head.record, Consistency::Eventual).await?;
    let history = history.map(|history| {
        let progress = history.progress();
        let ends = history.accounts.iter().filter_map(|it| {
            Some(HistoryEndState {
                account: it.account,
                oldest_date: it.reached.to_string(),
                rows: it.rows,
                history_end: it.end?.as_str(),
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
    Ok(RecordState {
        accounts,
        history,
        next_refresh_at: next.iter().map(|(_, at)| *at).min().map(Instant),
        bank_status: breaker.status().as_str(),
        consent_expires_at: consent
            .and_then(|it| it.clock)
            .map(|it| Instant(it.expires_at)),
    })
}

/// When a product is refreshed next without anybody asking.
fn next_at(due: &[DueEntry], product: Product, now: Timestamp) -> Option<Timestamp> {
    let entry = due.iter().find(|it| it.marks.get(product).is_some())?;
    let held = entry.trouble.and_then(|it| it.held_until(now));
    Some(entry.key.next_at(held.unwrap_or(now)))
}

fn shown(
    state: Option<&ProductState>,
    refused: Option<(&'static str, Timestamp)>,
    next: Option<Timestamp>,
) -> DataState {
    let (availability, reason, since) = match (refused, state) {
        (Some((reason, since)), _) => (Availability::Unavailable, Some(reason), Some(since)),
        (None, Some(state)) => (
            state.availability,
            state.class.map(FaultClass::as_str),
            Some(state.since),
        ),
        (None, None) => (Availability::Available, None, None),
    };
    DataState {
        data_status: availability.as_str(),
        reason,
        since: since.map(Instant),
        next_refresh_at: next.map(Instant),
    }
}
