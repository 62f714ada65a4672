//! The seam between the engine and the bank standards: the `Connector` trait is everything that the engine needs
//! of any bank, and the types here are what goes in and what comes out.
//!
//! The two kinds of call differ in who is authenticated: a `ClientCall` shows our own client's credentials
//! (logins, tokens, consents), a `ConsentCall` the tokens of a user's consent (accounts, balances,
//! transactions). A connector reads neither clock nor randomness: `now`, state, nonce and PKCE verifier are
//! given to it, and the caller takes the rate limit's permit before it calls.
//!
//! # A standard that works otherwise
//!
//! Standards differ in what one call returns, whose quota it spends, how a user grants access and how far ids
//! can be trusted. The trait leaves room for each:
//!
//! * *Fetch unit.* `fetch_snapshot` takes all accounts of a record at once, so a standard whose one call
//!   returns a whole connection makes one call, and one whose call returns an account makes one for each.
//! * *Id trust.* A connector leaves `bank_id` of a row empty where its ids change between reads; the engine
//!   then identifies rows by their contents. An id that is stable only once a row is booked is left empty for
//!   pending rows.
//! * *Link.* `begin_login` describes a redirect with a code. A standard without one (a pasted token, an
//!   uploaded file) has no login page, and its consents are linked through the API.
//! * *Limits.* Rates and quotas are the bank's configuration, [`BankLimits`](okra_core::model::bank::BankLimits);
//!   `check_config` is where a standard rejects limits that cannot be met.
//! * *Money and dates.* Signs, currencies and calendar days are settled inside the connector: the engine sees
//!   a direction, minor units and the bank's day.

use std::{
    fmt,
    net::IpAddr,
    ops::{Range, RangeInclusive},
    pin::Pin,
};

use jiff::{Timestamp, civil::Date};
use okra_core::model::{
    bank::BankConfig,
    fault::{BankFault, FaultClass},
    ids::AccountId,
    snapshot::{AccountFacts, Product, Snapshot, TransactionWindow},
};

use crate::{
    consent::{ConsentId, ConsentSecret, ConsentTerms},
    transport::BankTransport,
};

/// An account by our id and by the bank's.
#[derive(Clone, Copy, Debug)]
pub struct AccountRef<'a> {
    /// Our id.
    pub id: AccountId,
    /// The bank's id, used in its URLs.
    pub bank_account_id: &'a str,
}

/// What to fetch of a bank.
#[derive(Clone, Copy, Debug)]
pub struct FetchRequest<'a> {
    /// The products to fetch.
    pub products: &'a [Product],
    /// First booking date of the transactions.
    pub from: Date,
    /// The time now, which the bank's `Retry-After` dates are measured from.
    pub now: Timestamp,
    /// The user's address, where the user is present: banks allow more calls then.
    pub user_present: Option<IpAddr>,
}

/// What became of a request for a range of an account's history.
#[derive(Clone, Debug)]
pub enum BackfillResponse {
    /// The bank returned the range.
    Rows {
        /// All transactions of the range.
        window: TransactionWindow,
        /// The first date that the bank has any transaction of, where it says so.
        first_available: Option<Date>,
    },
    /// The range cannot be read, although today's transactions can: it has more pages than are read at once, or a
    /// row that does not make sense. A smaller range may be readable.
    Unreadable(BankFault),
    /// The bank rejects dates this old and accepts newer ones.
    DatesRejected,
    /// The bank could not be read at all.
    Fault(BankFault),
}

/// The part of a login that the caller chooses; each value is sent to the bank.
#[derive(Clone, Copy)]
pub struct LoginRequest<'a> {
    /// What the consent has to open.
    pub products: &'a [Product],
    /// Where the bank sends the user back to.
    pub redirect_uri: &'a str,
    /// Returned by the bank with the code; it binds the return to the session.
    pub state: &'a str,
    /// Used once; the bank puts it into its id token.
    pub nonce: &'a str,
    /// The secret of PKCE (RFC 7636); the bank is sent its digest and sees it when the code is exchanged.
    pub pkce_verifier: &'a str,
}

/// A login that has begun: a consent waits at the bank for its user, who has to be sent there.
#[derive(Clone, Debug)]
pub struct LoginRedirect {
    /// The consent to be authorised.
    pub consent_id: ConsentId,
    /// The bank's page to send the user to.
    pub authorization_url: String,
}

/// What a user comes back from the bank with, and what of the [`LoginRequest`] is needed to redeem it.
#[derive(Clone, Copy)]
pub struct LoginCode<'a> {
    /// The code.
    pub code: &'a str,
    /// The `redirect_uri` of the request.
    pub redirect_uri: &'a str,
    /// The `pkce_verifier` of the request.
    pub pkce_verifier: &'a str,
    /// The consent that was authorised.
    pub consent_id: &'a ConsentId,
}

/// A call with our own client's credentials.
#[derive(Clone, Copy)]
pub(crate) struct ClientCall<'a> {
    pub(crate) transport: &'a BankTransport,
    pub(crate) bank: &'a BankConfig,
    /// Empty where the client has none.
    pub(crate) client_secret: &'a str,
    pub(crate) now: Timestamp,
}

/// A call with the tokens of a user's consent.
#[derive(Clone, Copy)]
pub(crate) struct ConsentCall<'a> {
    pub(crate) transport: &'a BankTransport,
    pub(crate) bank: &'a BankConfig,
    pub(crate) consent: &'a ConsentSecret,
    pub(crate) user_present: Option<IpAddr>,
    pub(crate) now: Timestamp,
}

/// A range of transactions.
pub(crate) struct RangeResponse {
    pub(crate) window: TransactionWindow,
    pub(crate) first_available: Option<Date>,
}

/// Why a list could not be read.
#[derive(Debug)]
pub(crate) enum ListError {
    /// The list has more pages than the bank's limit allows; a smaller range may have fewer.
    TooManyPages,
    /// The bank's fault.
    Fault(BankFault),
}

impl From<BankFault> for ListError {
    fn from(fault: BankFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<ListError> for BankFault {
    fn from(error: ListError) -> Self {
        match error {
            ListError::TooManyPages => Self::new(
                FaultClass::MalformedResponse,
                "the response has more pages than the bank's limit allows",
            ),
            ListError::Fault(fault) => fault,
        }
    }
}

/// What is wrong with one field of a bank's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConfigProblem {
    /// Its path: `oauth.token_url`.
    pub(crate) field: &'static str,
    /// A predicate: `must be an https URL`.
    pub(crate) problem: &'static str,
}

/// What a method of [`Connector`] returns. Boxed, so that a connector can be chosen by configuration.
pub(crate) type ConnectorFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One bank standard.
///
/// Faults are classed by who can mend them: [`FaultClass::ConsentRejected`] only where the user has to act, never
/// for a rejection of our own client.
pub(crate) trait Connector: fmt::Debug + Send + Sync {
    /// The standard and its version, as people call it.
    fn display_name(&self) -> &'static str;

    /// Checks the part of a bank's configuration that only this standard reads.
    fn check_config(&self, bank: &BankConfig) -> Result<(), ConfigProblem>;

    /// True where a user can be sent to the bank to grant access.
    fn has_login_page(&self, bank: &BankConfig) -> bool;

    /// Makes a consent at the bank for the user to authorise, and the URL to send the user to.
    fn begin_login<'a>(
        &'a self,
        call: ClientCall<'a>,
        request: LoginRequest<'a>,
    ) -> ConnectorFuture<'a, Result<LoginRedirect, BankFault>>;

    /// Exchanges the code that a login ended with for the tokens of its consent.
    fn complete_login<'a>(
        &'a self,
        call: ClientCall<'a>,
        code: LoginCode<'a>,
    ) -> ConnectorFuture<'a, Result<ConsentSecret, BankFault>>;

    /// Exchanges the refresh token of a consent for its next tokens.
    fn renew_tokens<'a>(
        &'a self,
        call: ClientCall<'a>,
        consent: &'a ConsentSecret,
    ) -> ConnectorFuture<'a, Result<ConsentSecret, BankFault>>;

    /// Reads when a consent ends and what it opens.
    fn fetch_consent_terms<'a>(
        &'a self,
        call: ClientCall<'a>,
        id: &'a ConsentId,
    ) -> ConnectorFuture<'a, Result<ConsentTerms, BankFault>>;

    /// Revokes a consent. One that the bank does not know any more counts as revoked.
    fn revoke_consent<'a>(
        &'a self,
        call: ClientCall<'a>,
        id: &'a ConsentId,
    ) -> ConnectorFuture<'a, Result<(), BankFault>>;

    /// Lists the accounts that a consent covers.
    fn fetch_accounts<'a>(
        &'a self,
        call: ConsentCall<'a>,
    ) -> ConnectorFuture<'a, Result<Vec<AccountFacts>, BankFault>>;

    /// Fetches the requested products of these accounts. A product that cannot be read carries its fault and does
    /// not stop the rest.
    fn fetch_snapshot<'a>(
        &'a self,
        call: ConsentCall<'a>,
        accounts: &'a [AccountRef<'a>],
        request: FetchRequest<'a>,
    ) -> ConnectorFuture<'a, Snapshot>;

    /// Fetches the transactions of an account with booking dates in `dates`.
    fn fetch_transactions_between<'a>(
        &'a self,
        call: ConsentCall<'a>,
        bank_account_id: &'a str,
        dates: RangeInclusive<Date>,
    ) -> ConnectorFuture<'a, Result<TransactionWindow, BankFault>>;

    /// Fetches the transactions of an account from `from` on.
    fn fetch_recent_transactions<'a>(
        &'a self,
        call: ConsentCall<'a>,
        bank_account_id: &'a str,
        from: Date,
    ) -> ConnectorFuture<'a, Result<TransactionWindow, BankFault>>;

    /// Fetches a range of an account's history.
    fn fetch_range<'a>(
        &'a self,
        call: ConsentCall<'a>,
        bank_account_id: &'a str,
        dates: Range<Date>,
    ) -> ConnectorFuture<'a, Result<RangeResponse, ListError>>;
}
