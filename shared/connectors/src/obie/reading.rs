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
            AccountFacts, AccountSnapshot, BalanceFacts, Product, Snapshot, TransactionFacts,
            TransactionWindow, UnreadableRow,
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
    Ok(pages.rows.into_iter().flatten().collect())
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
    let ambiguous_dates = find_ambiguous_dates(&pages.rows);
    // A bank that ignores the filter would show other rows each day.
    let mut window = pages.into_window(from, |day| day >= from);
    check_mostly_readable(&window)?;
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
    let pages = fetch_pages(call, "transactions", url, parse_transactions).await?;
    Ok(pages.into_window(first, |day| dates.contains(&day)))
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
    let pages = fetch_pages(call, "transactions", url, parse_page).await?;
    let window = pages.into_window(dates.start, |day| dates.contains(&day));
    check_mostly_readable(&window)?;
    Ok(RangeResponse {
        window,
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

/// The pages of a list.
struct FetchedPages<T> {
    /// The items of each page.
    rows: Vec<Vec<T>>,
    /// What could not be read, of all pages.
    unreadable: Vec<UnreadableRow>,
}

impl FetchedPages<TransactionFacts> {
    /// The rows of the days that were requested. An unreadable row whose day is not known may be of any.
    fn into_window(self, from: Date, is_requested: impl Fn(Date) -> bool) -> TransactionWindow {
        let mut rows = join_pages(self.rows);
        rows.retain(|row| is_requested(row.booking_date()));
        let mut unreadable = self.unreadable;
        unreadable.retain(|row| row.day.is_none_or(&is_requested));
        TransactionWindow {
            from,
            rows,
            unreadable,
        }
    }
}

/// Checks that no more rows were set aside than read: a list of which most is unreadable is another format than we know.
fn check_mostly_readable(window: &TransactionWindow) -> Result<(), BankFault> {
    match window.unreadable.first() {
        Some(row) if window.unreadable.len() > window.rows.len() => Err(BankFault::new(
            FaultClass::MalformedResponse,
            row.fault.clone(),
        )),
        _ => Ok(()),
    }
}

/// Reads all pages of a list. A link to a page already read, a link away from the bank, and one page too many are
/// errors.
async fn fetch_pages<T>(
    call: ConsentCall<'_>,
    operation: &'static str,
    first_url: Url,
    mut parse_page: impl FnMut(&[u8]) -> Result<ObiePage<T>, MalformedResponse>,
) -> Result<FetchedPages<T>, ListError> {
    let mut urls_read = HashSet::new();
    let mut pages = FetchedPages {
        rows: Vec::new(),
        unreadable: Vec::new(),
    };
    let mut url = first_url;
    for _ in 0..call.bank.limits.max_pages.max(1) {
        let body = fetch_body(call, operation, url.clone()).await?;
        let page = parse_page(&body).map_err(BankFault::from)?;
        pages.rows.push(page.items);
        pages.unreadable.extend(page.unreadable);
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
