//! Reading accounts, balances and transactions with the tokens of a consent, page by page.
//!
//! The rule: half a list is no list. A page that cannot be read, or a link that cannot be followed, fails the whole
//! list, because missing rows would look like removals.

use std::{
    collections::HashSet,
    ops::{Range, RangeInclusive},
};

use jiff::civil::Date;
use okra_core::{
    model::{
        fault::{BankFault, FaultClass},
        snapshot::{
            AccountFacts, AccountSnapshot, BalanceFacts, Product, Snapshot, TransactionWindow,
        },
    },
    sync::decide::merge_second_response,
};
use url::Url;

use super::{
    accounts::parse_accounts,
    balances::parse_balances,
    errors::into_body,
    resource::{account_url, is_bank_url, resource_url, with_headers},
    response::{MalformedResponse, ObiePage, parse_first_available},
    transactions::parse_transactions,
};
use crate::{
    connector::{AccountRef, ConsentCall, FetchRequest, ListError, RangeResponse},
    pages::{find_ambiguous_dates, join_pages},
    transport::CallContext,
};

/// Lists the accounts that the consent covers.
pub(super) async fn fetch_accounts(call: ConsentCall<'_>) -> Result<Vec<AccountFacts>, BankFault> {
    let url = resource_url(call.bank, &["accounts"])?;
    let pages = fetch_pages(call, "accounts", url, parse_accounts).await?;
    Ok(pages.into_iter().flatten().collect())
}

/// Fetches the requested products, account by account.
pub(super) async fn fetch_snapshot(
    call: ConsentCall<'_>,
    accounts: &[AccountRef<'_>],
    request: FetchRequest<'_>,
) -> Snapshot {
    let mut snapshot = Snapshot {
        accounts: Vec::with_capacity(accounts.len()),
    };
    for account in accounts {
        let balance = match request.products.contains(&Product::Balance) {
            true => Some(fetch_balance(call, account.bank_account_id).await),
            false => None,
        };
        let transactions = match request.products.contains(&Product::Transactions) {
            true => {
                let rows = fetch_recent_transactions(call, account.bank_account_id, request.from);
                Some(rows.await)
            }
            false => None,
        };
        snapshot.accounts.push(AccountSnapshot {
            account: account.id,
            balance,
            transactions,
        });
    }
    snapshot
}

async fn fetch_balance(
    call: ConsentCall<'_>,
    bank_account_id: &str,
) -> Result<BalanceFacts, BankFault> {
    let url = account_url(call.bank, bank_account_id, "balances")?;
    let body = fetch_body(call, "balances", url).await?;
    parse_balances(&body).map_err(BankFault::from)
}

/// Fetches the transactions from `from` on. A day more is requested, because the bank's day need not begin with that of
/// UTC. Where pages moved while they were read, the dates in question are
/// fetched once more, and the second response counts for them.
pub(super) async fn fetch_recent_transactions(
    call: ConsentCall<'_>,
    bank_account_id: &str,
    from: Date,
) -> Result<TransactionWindow, BankFault> {
    let mut url = account_url(call.bank, bank_account_id, "transactions")?;
    url.query_pairs_mut()
        .append_pair("fromBookingDateTime", &start_of_day(day_before(from)));
    let pages = fetch_pages(call, "transactions", url, parse_transactions).await?;
    let ambiguous_dates = find_ambiguous_dates(&pages);
    let mut rows = join_pages(pages);
    // A bank that ignores the filter would show other rows each day.
    rows.retain(|row| row.booking_date() >= from);
    let mut window = TransactionWindow { from, rows };
    if let Some((first, last)) = ambiguous_dates {
        let second = fetch_transactions_between(call, bank_account_id, first..=last).await?;
        merge_second_response(&mut window, second, first, last);
    }
    Ok(window)
}

/// Fetches the transactions with booking dates in `dates`.
pub(super) async fn fetch_transactions_between(
    call: ConsentCall<'_>,
    bank_account_id: &str,
    dates: RangeInclusive<Date>,
) -> Result<TransactionWindow, BankFault> {
    let (first, last) = (*dates.start(), *dates.end());
    let url = range_url(call, bank_account_id, first, last)?;
    let mut rows = join_pages(fetch_pages(call, "transactions", url, parse_transactions).await?);
    rows.retain(|row| dates.contains(&row.booking_date()));
    Ok(TransactionWindow { from: first, rows })
}

/// Fetches the transactions of a range of history, and the first date that the bank says it has any of.
pub(super) async fn fetch_range(
    call: ConsentCall<'_>,
    bank_account_id: &str,
    dates: Range<Date>,
) -> Result<RangeResponse, ListError> {
    // The first day of the calendar has no day before it; nothing ends there.
    let last = dates.end.yesterday().unwrap_or(dates.end);
    let url = range_url(call, bank_account_id, dates.start, last)?;
    let mut first_available = None;
    let parse_page = |body: &[u8]| {
        first_available = parse_first_available(body).or(first_available);
        parse_transactions(body)
    };
    let mut rows = join_pages(fetch_pages(call, "transactions", url, parse_page).await?);
    rows.retain(|row| dates.contains(&row.booking_date()));
    Ok(RangeResponse {
        window: TransactionWindow {
            from: dates.start,
            rows,
        },
        first_available,
    })
}

/// The URL of the transactions booked on the days from `first` to `last`, both inclusive. A day more is requested on
/// both sides, because the bank's day need not be that of UTC.
fn range_url(
    call: ConsentCall<'_>,
    bank_account_id: &str,
    first: Date,
    last: Date,
) -> Result<Url, BankFault> {
    let mut url = account_url(call.bank, bank_account_id, "transactions")?;
    url.query_pairs_mut()
        .append_pair("fromBookingDateTime", &start_of_day(day_before(first)))
        .append_pair(
            "toBookingDateTime",
            &format!("{}T23:59:59Z", day_after(last)),
        );
    Ok(url)
}

/// The day before; at the beginning of the calendar there is none.
fn day_before(day: Date) -> Date {
    day.yesterday().unwrap_or(day)
}

/// The day after; at the end of the calendar there is none.
fn day_after(day: Date) -> Date {
    day.tomorrow().unwrap_or(day)
}

fn start_of_day(date: Date) -> String {
    format!("{date}T00:00:00Z")
}

/// Reads all pages of a list. A link to a page already read, a link away from the bank, and one page too many are
/// errors.
async fn fetch_pages<T>(
    call: ConsentCall<'_>,
    operation: &'static str,
    first_url: Url,
    mut parse_page: impl FnMut(&[u8]) -> Result<ObiePage<T>, MalformedResponse>,
) -> Result<Vec<Vec<T>>, ListError> {
    let (mut pages, mut urls_read) = (Vec::new(), HashSet::new());
    let mut url = first_url;
    for _ in 0..call.bank.limits.max_pages.max(1) {
        let body = fetch_body(call, operation, url.clone()).await?;
        let page = parse_page(&body).map_err(BankFault::from)?;
        pages.push(page.items);
        let Some(link) = page.next else {
            return Ok(pages);
        };
        let next = resolve_link(call, &url, &link)?;
        urls_read.insert(url);
        if urls_read.contains(&next) {
            return Err(link_fault("leads back to a page already read").into());
        }
        url = next;
    }
    Err(ListError::TooManyPages)
}

/// The page that a link leads to; it has to be at the bank.
fn resolve_link(call: ConsentCall<'_>, page: &Url, link: &str) -> Result<Url, BankFault> {
    let mut next = page
        .join(link.trim())
        .map_err(|_| link_fault("must be a URL"))?;
    // A fragment is never sent: two links that differ in it alone are one page.
    next.set_fragment(None);
    match is_bank_url(call.bank, &next)? {
        true => Ok(next),
        false => Err(link_fault("leads away from the bank's base_url")),
    }
}

fn link_fault(problem: &str) -> BankFault {
    BankFault::new(
        FaultClass::MalformedResponse,
        format!("Links.Next: {problem}"),
    )
}

async fn fetch_body(
    call: ConsentCall<'_>,
    operation: &'static str,
    url: Url,
) -> Result<Vec<u8>, BankFault> {
    let request = call.transport.get_request(url);
    let mut request = with_headers(request, call.bank, &call.consent.access_token);
    if let Some(address) = call.user_present {
        request = request.header("x-fapi-customer-ip-address", address.to_string());
    }
    let context = CallContext::for_bank(call.bank, operation, call.now);
    into_body(call.transport.send_request(request, context).await?)
}
