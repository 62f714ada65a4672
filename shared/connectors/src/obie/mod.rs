//! UK Open Banking, Account and Transaction API, v3.1 and v4.0 (`account-info-openapi` 3.1.11 and 4.0.0).
//!
//! [`ObieConnector`] is the standard's [`Connector`]. `login` sends a user to the bank, `consent` makes, reads and
//! revokes consents, `reading` fetches accounts, balances and transactions, page by page. [`parse_accounts`],
//! [`parse_balances`] and [`parse_transactions`] bring one page each into normal form, from the envelope that all
//! responses share (`response`). `errors` is the table of the standard's error codes.
//!
//! The rule: one code path for both versions. They differ in the spelling of codes alone, and `dialect` has both
//! spellings.

mod accounts;
mod balances;
mod consent;
mod date_time;
mod dialect;
mod errors;
mod login;
mod reading;
mod resource;
mod response;
mod transactions;

use std::ops::{Range, RangeInclusive};

use jiff::civil::Date;
use okra_core::model::{
    bank::BankConfig,
    fault::BankFault,
    snapshot::{AccountFacts, Snapshot, TransactionWindow},
};

pub use self::{
    accounts::parse_accounts,
    balances::parse_balances,
    response::{MalformedResponse, ObiePage},
    transactions::parse_transactions,
};
use crate::{
    connector::{
        AccountRef, ClientCall, ConfigProblem, Connector, ConnectorFuture, ConsentCall,
        FetchRequest, ListError, LoginCode, LoginRedirect, LoginRequest, RangeResponse,
    },
    consent::{ConsentId, ConsentSecret, ConsentTerms},
    security,
};

/// Version 3.1.
pub(crate) static OBIE_3_1: ObieConnector = ObieConnector {
    display_name: "UK Open Banking 3.1",
};

/// Version 4.0.
pub(crate) static OBIE_4_0: ObieConnector = ObieConnector {
    display_name: "UK Open Banking 4.0",
};

/// A version of the standard.
#[derive(Debug)]
pub(crate) struct ObieConnector {
    display_name: &'static str,
}

impl Connector for ObieConnector {
    fn display_name(&self) -> &'static str {
        self.display_name
    }

    fn check_config(&self, bank: &BankConfig) -> Result<(), ConfigProblem> {
        resource::check_financial_id(bank)
    }

    fn has_login_page(&self, bank: &BankConfig) -> bool {
        login::authorization_url(bank).is_some()
    }

    fn begin_login<'a>(
        &'a self,
        call: ClientCall<'a>,
        request: LoginRequest<'a>,
    ) -> ConnectorFuture<'a, Result<LoginRedirect, BankFault>> {
        Box::pin(login::begin_login(call, request))
    }

    fn complete_login<'a>(
        &'a self,
        call: ClientCall<'a>,
        code: LoginCode<'a>,
    ) -> ConnectorFuture<'a, Result<ConsentSecret, BankFault>> {
        Box::pin(security::complete_login(call, code))
    }

    fn renew_tokens<'a>(
        &'a self,
        call: ClientCall<'a>,
        consent: &'a ConsentSecret,
    ) -> ConnectorFuture<'a, Result<ConsentSecret, BankFault>> {
        Box::pin(security::renew_tokens(call, consent))
    }

    fn fetch_consent_terms<'a>(
        &'a self,
        call: ClientCall<'a>,
        id: &'a ConsentId,
    ) -> ConnectorFuture<'a, Result<ConsentTerms, BankFault>> {
        Box::pin(consent::fetch_consent_terms(call, id))
    }

    fn revoke_consent<'a>(
        &'a self,
        call: ClientCall<'a>,
        id: &'a ConsentId,
    ) -> ConnectorFuture<'a, Result<(), BankFault>> {
        Box::pin(consent::revoke_consent(call, id))
    }

    fn fetch_accounts<'a>(
        &'a self,
        call: ConsentCall<'a>,
    ) -> ConnectorFuture<'a, Result<Vec<AccountFacts>, BankFault>> {
        Box::pin(reading::fetch_accounts(call))
    }

    fn fetch_snapshot<'a>(
        &'a self,
        call: ConsentCall<'a>,
        accounts: &'a [AccountRef<'a>],
        request: FetchRequest<'a>,
    ) -> ConnectorFuture<'a, Snapshot> {
        Box::pin(reading::fetch_snapshot(call, accounts, request))
    }

    fn fetch_transactions_between<'a>(
        &'a self,
        call: ConsentCall<'a>,
        bank_account_id: &'a str,
        dates: RangeInclusive<Date>,
    ) -> ConnectorFuture<'a, Result<TransactionWindow, BankFault>> {
        Box::pin(reading::fetch_transactions_between(
            call,
            bank_account_id,
            dates,
        ))
    }

    fn fetch_recent_transactions<'a>(
        &'a self,
        call: ConsentCall<'a>,
        bank_account_id: &'a str,
        from: Date,
    ) -> ConnectorFuture<'a, Result<TransactionWindow, BankFault>> {
        Box::pin(reading::fetch_recent_transactions(
            call,
            bank_account_id,
            from,
        ))
    }

    fn fetch_range<'a>(
        &'a self,
        call: ConsentCall<'a>,
        bank_account_id: &'a str,
        dates: Range<Date>,
    ) -> ConnectorFuture<'a, Result<RangeResponse, ListError>> {
        Box::pin(reading::fetch_range(call, bank_account_id, dates))
    }
}
