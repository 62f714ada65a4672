//! The standards that banks speak: [`Connectors`] takes a bank's configuration and calls the connector of its
//! standard. A new standard is one line in `connector_for`.

use std::{
    net::IpAddr,
    ops::{Range, RangeInclusive},
    sync::Arc,
};

use jiff::{Timestamp, civil::Date};
use okra_core::model::{
    bank::{BankConfig, BankStandard},
    fault::{BankFault, FaultClass},
    snapshot::{AccountFacts, Snapshot, TransactionWindow, utc_date},
};

use crate::{
    connector::{
        AccountRef, BackfillResponse, ClientCall, Connector, ConsentCall, FetchRequest, ListError,
        LoginCode, LoginRedirect, LoginRequest,
    },
    consent::{ConsentId, ConsentSecret, ConsentTerms},
    obie,
    transport::{BankTransport, ConnectorError, HttpClient},
};

/// The connector of a standard.
pub(crate) fn connector_for(standard: BankStandard) -> &'static dyn Connector {
    match standard {
        BankStandard::Obie31 => &obie::OBIE_3_1,
        BankStandard::Obie40 => &obie::OBIE_4_0,
    }
}

/// A standard and its version, as people call it: `UK Open Banking 3.1`.
pub fn display_name(standard: BankStandard) -> &'static str {
    connector_for(standard).display_name()
}

/// True where the bank has a page to which a user can be sent to authorise a consent.
pub fn has_login_page(bank: &BankConfig) -> bool {
    connector_for(bank.standard).has_login_page(bank)
}

/// Calls banks. Cheap to clone; clones share their connections.
///
/// Everywhere, `client_secret` is our client's opened secret at the bank, empty where it has none, and `now` is the
/// time that lifetimes and the bank's `Retry-After` dates are measured from.
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

    /// The same connectors over another HTTP client: the simulation's.
    #[must_use]
    pub fn with_http_client(self, http_client: Arc<dyn HttpClient>) -> Self {
        Self {
            transport: self.transport.with_http_client(http_client),
        }
    }

    /// Makes a consent at the bank for a user to authorise, and the URL to send the user to.
    ///
    /// # Errors
    ///
    /// The bank's fault. A rejection of our own client is [`FaultClass::Internal`]: no user can mend it.
    pub async fn begin_login(
        &self,
        bank: &BankConfig,
        client_secret: &str,
        request: LoginRequest<'_>,
        now: Timestamp,
    ) -> Result<LoginRedirect, BankFault> {
        connector_for(bank.standard)
            .begin_login(self.client_call(bank, client_secret, now), request)
            .await
    }

    /// Exchanges the code that a login ended with for the tokens of its consent.
    ///
    /// # Errors
    ///
    /// As for [`renew_tokens`](Self::renew_tokens).
    pub async fn complete_login(
        &self,
        bank: &BankConfig,
        client_secret: &str,
        code: LoginCode<'_>,
        now: Timestamp,
    ) -> Result<ConsentSecret, BankFault> {
        connector_for(bank.standard)
            .complete_login(self.client_call(bank, client_secret, now), code)
            .await
    }

    /// Exchanges the refresh token of a consent for its next tokens. Where the bank does not replace the refresh
    /// token, the result holds the old one; the consent's id is carried over.
    ///
    /// # Errors
    ///
    /// [`FaultClass::ConsentRejected`] where the consent is over, and only then: a rejection of our client is
    /// [`FaultClass::Internal`], because no user can mend it.
    pub async fn renew_tokens(
        &self,
        bank: &BankConfig,
        client_secret: &str,
        consent: &ConsentSecret,
        now: Timestamp,
    ) -> Result<ConsentSecret, BankFault> {
        connector_for(bank.standard)
            .renew_tokens(self.client_call(bank, client_secret, now), consent)
            .await
    }

    /// Reads when a consent ends and what it opens.
    ///
    /// # Errors
    ///
    /// As for [`begin_login`](Self::begin_login).
    pub async fn fetch_consent_terms(
        &self,
        bank: &BankConfig,
        client_secret: &str,
        id: &ConsentId,
        now: Timestamp,
    ) -> Result<ConsentTerms, BankFault> {
        connector_for(bank.standard)
            .fetch_consent_terms(self.client_call(bank, client_secret, now), id)
            .await
    }

    /// Revokes a consent at the bank, so that its tokens open nothing any more. A consent that the bank does not
    /// know any more counts as revoked.
    ///
    /// # Errors
    ///
    /// As for [`begin_login`](Self::begin_login).
    pub async fn revoke_consent(
        &self,
        bank: &BankConfig,
        client_secret: &str,
        id: &ConsentId,
        now: Timestamp,
    ) -> Result<(), BankFault> {
        connector_for(bank.standard)
            .revoke_consent(self.client_call(bank, client_secret, now), id)
            .await
    }

    /// Lists the accounts that a consent covers.
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
        connector_for(bank.standard)
            .fetch_accounts(self.consent_call(bank, consent, None, now))
            .await
    }

    /// Fetches the requested products of these accounts. Calls are made one after the other, each within the bank's
    /// deadline; one that fails leaves its fault in the snapshot and does not stop the rest.
    pub async fn fetch_snapshot(
        &self,
        bank: &BankConfig,
        consent: &ConsentSecret,
        accounts: &[AccountRef<'_>],
        request: FetchRequest<'_>,
    ) -> Snapshot {
        let call = self.consent_call(bank, consent, request.user_present, request.now);
        connector_for(bank.standard)
            .fetch_snapshot(call, accounts, request)
            .await
    }

    /// Fetches the transactions of one account with booking dates in `dates`: a second, narrower request about
    /// dates that a first response left unclear.
    ///
    /// # Errors
    ///
    /// The bank's fault.
    pub async fn fetch_transactions_between(
        &self,
        bank: &BankConfig,
        consent: &ConsentSecret,
        bank_account_id: &str,
        dates: RangeInclusive<Date>,
        user_present: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<TransactionWindow, BankFault> {
        connector_for(bank.standard)
            .fetch_transactions_between(
                self.consent_call(bank, consent, user_present, now),
                bank_account_id,
                dates,
            )
            .await
    }

    /// Fetches a range of one account's history.
    ///
    /// Where the bank rejects the range or its response makes no sense, today's transactions are requested as well:
    /// if those can be read, the old dates are the reason, and neither we nor the bank. A bank that counts
    /// unattended calls is not sent that extra call.
    pub async fn fetch_backfill(
        &self,
        bank: &BankConfig,
        consent: &ConsentSecret,
        bank_account_id: &str,
        dates: Range<Date>,
        now: Timestamp,
    ) -> BackfillResponse {
        let connector = connector_for(bank.standard);
        let call = self.consent_call(bank, consent, None, now);
        let fault = match connector.fetch_range(call, bank_account_id, dates).await {
            Ok(response) => {
                return BackfillResponse::Rows {
                    window: response.window,
                    first_available: response.first_available,
                };
            }
            Err(error @ ListError::TooManyPages) => {
                return BackfillResponse::Unreadable(error.into());
            }
            Err(ListError::Fault(fault)) => fault,
        };
        let response_if_dates_are_at_fault = match fault.class {
            FaultClass::ConsentRejected | FaultClass::AccountGone => {
                BackfillResponse::DatesRejected
            }
            FaultClass::MalformedResponse => BackfillResponse::Unreadable(fault.clone()),
            FaultClass::BankUnavailable
            | FaultClass::RateLimited
            | FaultClass::QuotaSpent
            | FaultClass::Internal => return BackfillResponse::Fault(fault),
        };
        if bank.limits.unattended_per_day.is_some() {
            return BackfillResponse::Fault(fault);
        }
        let today = connector.fetch_recent_transactions(call, bank_account_id, utc_date(now));
        match today.await {
            Ok(_) => response_if_dates_are_at_fault,
            Err(_) => BackfillResponse::Fault(fault),
        }
    }

    const fn client_call<'a>(
        &'a self,
        bank: &'a BankConfig,
        client_secret: &'a str,
        now: Timestamp,
    ) -> ClientCall<'a> {
        ClientCall {
            transport: &self.transport,
            bank,
            client_secret,
            now,
        }
    }

    const fn consent_call<'a>(
        &'a self,
        bank: &'a BankConfig,
        consent: &'a ConsentSecret,
        user_present: Option<IpAddr>,
        now: Timestamp,
    ) -> ConsentCall<'a> {
        ConsentCall {
            transport: &self.transport,
            bank,
            consent,
            user_present,
            now,
        }
    }
}
