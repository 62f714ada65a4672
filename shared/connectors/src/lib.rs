//! Connectors: one per bank standard, over HTTP.
//!
//! A connector turns a bank's answers into a [`Snapshot`] and never fails as a whole: each account and
//! product that could not be read carries its own fault, and the others are kept.

pub mod config;
mod consents;
pub mod oauth;
pub mod obie;
mod quota;
mod transport;

use std::{fmt, net::IpAddr, sync::Arc};

use jiff::{Timestamp, civil::Date};
use okra_core::model::{
    bank::BankConfig,
    fault::{BankFault, FaultClass},
    ids::AccountId,
    snapshot::{AccountFacts, AccountSnapshot, Product, Snapshot, TransactionWindow, utc_date},
};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use self::transport::BankTransport;
pub use self::{
    consents::{ConsentId, ConsentTerms},
    transport::{BankTransportError, ConnectorError, HttpClient, HttpResponseFuture},
};

/// What a consent gives us: kept sealed, never shown.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct ConsentSecret {
    /// Sent as the bearer of each call; empty where only the refresh token is known yet.
    pub access_token: String,
    /// Buys the next access token, where the bank gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// When the access token ends, where the bank said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[zeroize(skip)]
    pub expires_at: Option<Timestamp>,
    /// The bank's own id of the consent, where it is known: with it the bank says when the consent
    /// ends, and takes it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[zeroize(skip)]
    pub consent_id: Option<ConsentId>,
}

impl ConsentSecret {
    /// An access token that lives as long as its consent.
    pub fn from_bearer_token(access_token: impl Into<String>) -> Self {
        Self {
            access_token: access_token.into(),
            refresh_token: None,
            expires_at: None,
            consent_id: None,
        }
    }
}

impl fmt::Debug for ConsentSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConsentSecret(..)")
    }
}

/// An account as we and the bank name it.
#[derive(Clone, Copy, Debug)]
pub struct AccountRef<'a> {
    /// Our id.
    pub id: AccountId,
    /// The bank's id, used in its URLs.
    pub bank_account_id: &'a str,
}

/// What is asked of a bank.
#[derive(Clone, Copy, Debug)]
pub struct FetchRequest<'a> {
    /// The products.
    pub products: &'a [Product],
    /// First booking date of the transactions.
    pub from: Date,
    /// The time now; a bank may answer a date to wait for.
    pub now: Timestamp,
    /// Address of the user, where one is present: banks allow more calls then.
    pub user_present: Option<IpAddr>,
}

/// What a bank says of a stretch of history.
#[derive(Clone, Debug)]
pub enum BackfillResponse {
    /// Its rows.
    Rows {
        /// All of the stretch.
        window: TransactionWindow,
        /// The first date that the bank has anything of, where it says so.
        first_available: Option<Date>,
    },
    /// It cannot be read, although the answer for today can: more than is read at once, or a row of it is
    /// nonsense. Ask for less.
    Unreadable(BankFault),
    /// Dates this old are refused, newer ones are not.
    DatesRejected,
    /// It could not be read.
    Fault(BankFault),
}

/// Calls banks. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Connectors {
    transport: BankTransport,
}

impl Connectors {
    /// Connectors that trust the roots of this TLS configuration.
    ///
    /// # Errors
    ///
    /// [`ConnectorError`] where no HTTP client can be built from it.
    pub fn new(tls: rustls::ClientConfig) -> Result<Self, ConnectorError> {
        Ok(Self {
            transport: BankTransport::new(tls)?,
        })
    }

    /// The same connectors over another carrier of requests: the simulation's.
    #[must_use]
    pub fn with_http_client(self, http_client: Arc<dyn HttpClient>) -> Self {
        Self {
            transport: self.transport.with_http_client(http_client),
        }
    }

    /// The accounts that a consent covers. `now` is what a date to wait for counts from.
    ///
    /// # Errors
    ///
    /// The bank's fault.
    pub async fn fetch_accounts(
        &self,
        bank: &BankConfig,
        consent: &ConsentSecret,
        now: Timestamp,
    ) -> Result<Vec<AccountFacts>, BankFault> {
        obie::ObieSession::new(&self.transport, bank, consent, None, now)
            .fetch_accounts()
            .await
    }

    /// What the bank says of an account's history. Where it refuses or answers nonsense, it is asked for
    /// today's rows, unless it counts unattended calls: if it answers those, the old ones are the matter,
    /// and not us or the bank.
    pub async fn fetch_backfill(
        &self,
        bank: &BankConfig,
        consent: &ConsentSecret,
        account: &str,
        (from, to): (Date, Date),
        now: Timestamp,
    ) -> BackfillResponse {
        let session = obie::ObieSession::new(&self.transport, bank, consent, None, now);
        let fault = match session.fetch_backfill(account, from, to).await {
            Ok((window, first_available)) => {
                return BackfillResponse::Rows {
                    window,
                    first_available,
                };
            }
            Err(fault) => fault,
        };
        if fault.detail.starts_with(obie::TOO_MANY_PAGES) {
            return BackfillResponse::Unreadable(fault);
        }
        // Where the bank counts unattended calls, one beside would be one too many.
        let doubtful = bank.limits.unattended_per_day.is_none()
            && matches!(
                fault.class,
                FaultClass::ConsentRejected | FaultClass::MalformedResponse
            );
        let today = utc_date(now);
        if !doubtful || session.fetch_transactions(account, today).await.is_err() {
            return BackfillResponse::Fault(fault);
        }
        match fault.class {
            FaultClass::MalformedResponse => BackfillResponse::Unreadable(fault),
            _ => BackfillResponse::DatesRejected,
        }
    }

    /// What the bank says of these accounts now. Calls are made one after the other, each within the
    /// bank's deadline; one that fails leaves its fault in its place and does not stop the rest.
    pub async fn fetch_snapshot(
        &self,
        bank: &BankConfig,
        consent: &ConsentSecret,
        accounts: &[AccountRef<'_>],
        request: FetchRequest<'_>,
    ) -> Snapshot {
        let session = obie::ObieSession::new(
            &self.transport,
            bank,
            consent,
            request.user_present,
            request.now,
        );
        let asked = |product| request.products.contains(&product);
        let mut snapshot = Snapshot {
            accounts: Vec::with_capacity(accounts.len()),
        };
        for account in accounts {
            let (balance, transactions) = (asked(Product::Balance), asked(Product::Transactions));
            let at_bank = account.bank_account_id;
            snapshot.accounts.push(AccountSnapshot {
                account: account.id,
                balance: if balance {
                    Some(session.fetch_balance(at_bank).await)
                } else {
                    None
                },
                transactions: if transactions {
                    Some(session.fetch_transactions(at_bank, request.from).await)
                } else {
                    None
                },
            });
        }
        snapshot
    }

    /// The transactions of one account with dates from `from` to `to`, both inclusive: a second,
    /// narrower question about dates that a first answer left in doubt. `ask.from` and `ask.products`
    /// do not count.
    ///
    /// # Errors
    ///
    /// The bank's fault.
    pub async fn fetch_transactions_between(
        &self,
        bank: &BankConfig,
        consent: &ConsentSecret,
        account: AccountRef<'_>,
        (from, to): (Date, Date),
        request: FetchRequest<'_>,
    ) -> Result<TransactionWindow, BankFault> {
        obie::ObieSession::new(
            &self.transport,
            bank,
            consent,
            request.user_present,
            request.now,
        )
        .fetch_transactions_between(account.bank_account_id, from, to)
        .await
    }
}
