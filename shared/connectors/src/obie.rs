//! UK Open Banking, Account and Transaction API, v3.1 and v4.0
//! (`account-info-openapi` 3.1.11 and 4.0.0). One code path: the versions differ in the spelling of
//! codes alone, and `codes` has both.

mod accounts;
mod answer;
mod balances;
mod codes;
mod transactions;

use std::{
    collections::HashSet,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use jiff::{Timestamp, civil::Date};
use okra_core::{
    model::{
        bank::BankConfig,
        fault::{BankFault, FaultClass},
        snapshot::{AccountFacts, BalanceFacts, TransactionWindow},
    },
    sync::decide::merge_second_response,
};
use url::Url;

use self::accounts::is_usable_account_id;
pub use self::{
    accounts::parse_accounts,
    answer::{MalformedResponse, ObiePage},
    balances::parse_balances,
    transactions::{find_ambiguous_dates, join_pages, parse_transactions},
};
use crate::{
    ConsentSecret, quota,
    transport::{BankResponse, BankTransport},
};

/// What is wrong with an answer that is too long.
pub(crate) const TOO_MANY_PAGES: &str = "the answer has more pages than the bank's limit allows";

/// One record's calls to its bank.
pub(crate) struct ObieSession<'a> {
    transport: &'a BankTransport,
    bank: &'a BankConfig,
    consent: &'a ConsentSecret,
    user_present: Option<IpAddr>,
    now: Timestamp,
}

impl<'a> ObieSession<'a> {
    pub(crate) const fn new(
        transport: &'a BankTransport,
        bank: &'a BankConfig,
        consent: &'a ConsentSecret,
        user_present: Option<IpAddr>,
        now: Timestamp,
    ) -> Self {
        Self {
            transport,
            bank,
            consent,
            user_present,
            now,
        }
    }

    pub(crate) async fn fetch_accounts(&self) -> Result<Vec<AccountFacts>, BankFault> {
        let pages = self
            .fetch_pages(self.resource_url(&["accounts"])?, parse_accounts)
            .await?;
        Ok(pages.into_iter().flatten().collect())
    }

    pub(crate) async fn fetch_balance(&self, account: &str) -> Result<BalanceFacts, BankFault> {
        let url = self.resource_url(&["accounts", account, "balances"])?;
        let body = self.fetch_body(url).await?;
        parse_balances(&body).map_err(BankFault::from)
    }

    pub(crate) async fn fetch_transactions(
        &self,
        account: &str,
        from: Date,
    ) -> Result<TransactionWindow, BankFault> {
        let mut url = self.resource_url(&["accounts", account, "transactions"])?;
        url.query_pairs_mut()
            .append_pair("fromBookingDateTime", &format!("{from}T00:00:00Z"));
        let pages = self.fetch_pages(url, parse_transactions).await?;
        let doubtful = find_ambiguous_dates(&pages);
        let mut rows = join_pages(pages);
        // A bank that ignores the filter would show other rows each day.
        rows.retain(|row| row.booking_date() >= from);
        let mut window = TransactionWindow { from, rows };
        if let Some((first, last)) = doubtful {
            let narrow = self
                .fetch_transactions_between(account, first, last)
                .await?;
            merge_second_response(&mut window, narrow, first, last);
        }
        Ok(window)
    }

    /// The rows with dates from `from` to `to`, both inclusive. A day more is asked for on both sides:
    /// the bank's day need not be that of UTC.
    pub(crate) async fn fetch_transactions_between(
        &self,
        account: &str,
        from: Date,
        to: Date,
    ) -> Result<TransactionWindow, BankFault> {
        let mut url = self.resource_url(&["accounts", account, "transactions"])?;
        let (first, last) = (
            from.yesterday().unwrap_or(from),
            to.tomorrow().unwrap_or(to),
        );
        url.query_pairs_mut()
            .append_pair("fromBookingDateTime", &format!("{first}T00:00:00Z"))
            .append_pair("toBookingDateTime", &format!("{last}T23:59:59Z"));
        let mut rows = join_pages(self.fetch_pages(url, parse_transactions).await?);
        rows.retain(|row| (from..=to).contains(&row.booking_date()));
        Ok(TransactionWindow { from, rows })
    }

    /// The transactions with dates from `from` (inclusive) to `to` (exclusive), and the first date that
    /// the bank says it has any of.
    pub(crate) async fn fetch_backfill(
        &self,
        account: &str,
        from: Date,
        to: Date,
    ) -> Result<(TransactionWindow, Option<Date>), BankFault> {
        let mut url = self.resource_url(&["accounts", account, "transactions"])?;
        let last = to.saturating_sub(jiff::Span::new().days(1));
        url.query_pairs_mut()
            .append_pair("fromBookingDateTime", &format!("{from}T00:00:00Z"))
            .append_pair("toBookingDateTime", &format!("{last}T23:59:59Z"));
        let first_available = Mutex::new(None);
        let parse = |body: &[u8]| {
            if let Some(first) = answer::parse_first_available(body) {
                let mut known = first_available
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                *known = Some(first);
            }
            parse_transactions(body)
        };
        let mut rows = join_pages(self.fetch_pages(url, parse).await?);
        rows.retain(|row| row.booking_date() >= from && row.booking_date() < to);
        let first_available = first_available
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        Ok((TransactionWindow { from, rows }, first_available))
    }

    /// Reads all pages of an answer. A page that links to one already read, or to another place, or one
    /// page too many, is nonsense: half a list would look like removals.
    async fn fetch_pages<T>(
        &self,
        first_url: Url,
        parse_page: impl Fn(&[u8]) -> Result<ObiePage<T>, MalformedResponse>,
    ) -> Result<Vec<Vec<T>>, BankFault> {
        let nonsense = |detail: &str| Err(BankFault::new(FaultClass::MalformedResponse, detail));
        let (mut pages, mut read) = (Vec::new(), HashSet::new());
        let mut url = first_url;
        for _ in 0..self.bank.limits.max_pages.max(1) {
            let page = parse_page(&self.fetch_body(url.clone()).await?)?;
            pages.push(page.items);
            let Some(link) = page.next else {
                return Ok(pages);
            };
            let Ok(mut next) = url.join(link.trim()) else {
                return nonsense("Links.Next is no URL");
            };
            // Never sent; two links that differ in it alone are one page.
            next.set_fragment(None);
            if !self.is_bank_url(&next)? {
                return nonsense("Links.Next leads to another place");
            }
            read.insert(url);
            if read.contains(&next) {
                return nonsense("Links.Next leads back to a page already read");
            }
            url = next;
        }
        nonsense(TOO_MANY_PAGES)
    }

    /// True for a URL below the bank's base: the consent's token goes nowhere else.
    fn is_bank_url(&self, url: &Url) -> Result<bool, BankFault> {
        let base = self.resource_url(&[])?;
        let below = url
            .path()
            .strip_prefix(base.path().trim_end_matches('/'))
            .is_some_and(|rest| rest.starts_with('/'));
        let anonymous = url.username().is_empty() && url.password().is_none();
        Ok(url.origin() == base.origin() && below && anonymous)
    }

    async fn fetch_body(&self, url: Url) -> Result<Vec<u8>, BankFault> {
        let mut request = self
            .transport
            .get_request(url)
            .bearer_auth(&self.consent.access_token)
            .header("accept", "application/json");
        if let Some(financial_id) = &self.bank.financial_id {
            request = request.header("x-fapi-financial-id", financial_id);
        }
        if let Some(address) = self.user_present {
            request = request.header("x-fapi-customer-ip-address", address.to_string());
        }
        let reply = self
            .transport
            .send_request(request, &self.bank.limits, self.now)
            .await?;
        match reply {
            BankResponse::Success(body) => Ok(body),
            BankResponse::Rejected { mut fault, body } => {
                let status = fault.status.unwrap_or_default();
                if let Some(class) = quota::classify_limit_error(status, &body, fault.retry_after_s)
                {
                    fault.class = class;
                }
                if let Some(code) = codes::parse_error_code(&body) {
                    fault.detail = format!("{}, {code}", fault.detail);
                }
                Err(fault)
            }
        }
    }

    /// The URL of a resource; its segments are encoded.
    fn resource_url(&self, segments: &[&str]) -> Result<Url, BankFault> {
        let unusable = |what: &str| BankFault::new(FaultClass::Internal, what);
        if !segments.iter().all(|segment| is_usable_account_id(segment)) {
            return Err(unusable("the account's id at the bank is not usable"));
        }
        let base_unusable = || unusable("the bank's base_url is not usable");
        let mut url = Url::parse(&self.bank.base_url).map_err(|_| base_unusable())?;
        url.path_segments_mut()
            .map_err(|()| base_unusable())?
            .pop_if_empty()
            .extend(segments);
        Ok(url)
    }
}
