//! The bank: its logins, what is played on it, and what it remembers of that.

use std::{
    collections::HashMap,
    fmt,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::Router;
use jiff::Timestamp;
use okra_core::model::{
    bank::BankStandard,
    money::{Currency, Money},
    snapshot::{BookingStatus, Direction},
};
use serde::Serialize;

use crate::{
    account::{
        AccountProfile, EditError, ListedRow, RowSource, SandboxAccount, SandboxAccountKind,
    },
    answers::CacheBudget,
    authorise::{self, AuthorisationState},
    command::{
        AccountAddress, BookingDetails, FaultTarget, LoginId, NewLogin, NewTransaction,
        RowAmendment, SandboxCommand,
    },
    control,
    fault::{ConsentState, Faults, MAX_SLOW_MS},
    generate::{GeneratedRows, RowSchedule},
    hash::{SeededRandom, derive_number, digest_parts},
    journal::{Journal, JournalEntry, SandboxOpenError},
    lore,
    movement::{RowKey, UnixSeconds},
    obie,
    tokens::{RefreshTokenGrant, SandboxTokens, TokenRenewal},
};

/// Logins of one bank at most.
pub const MAX_LOGINS: usize = 100_000;
/// Accounts of one login at most.
pub const MAX_ACCOUNTS_PER_LOGIN: u8 = 5;
/// Rows of generated history at most.
pub const MAX_HISTORY_ROWS: u32 = 20_000;
/// Days of generated history at most.
pub const MAX_HISTORY_DAYS: u16 = 365;
/// Times access to one login may be granted.
pub const MAX_GRANTS_PER_LOGIN: usize = 1_000;
/// Characters of a holder's name (the standard's bound of `Nickname`).
pub const MAX_NAME_CHARS: usize = 70;

/// Where the bank's time comes from: real or driven, forward or back.
pub type SandboxClock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How a bank behaves.
#[derive(Clone, Debug)]
pub struct SandboxOptions {
    /// What everything generated is derived from. The same seed and clock give the same bank.
    pub seed: u64,
    /// Rows on one page of transactions, at least 1.
    pub page_size: u32,
    /// Seconds between new rows of a login; none by themselves where absent or 0.
    pub row_interval_s: Option<u32>,
    /// `https://bank.example`, put before the paths of links. Where absent, links lead to the `Host`
    /// that was asked, over `http`.
    pub public_url: Option<String>,
    /// Bytes of serialised answers kept, over all accounts; beyond that answers are made anew.
    pub cache_bytes: usize,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            page_size: 100,
            row_interval_s: None,
            public_url: None,
            cache_bytes: 64 * 1024 * 1024,
        }
    }
}

/// Why a command was not played.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// No such login.
    #[error("the bank has no such login")]
    NoSuchLogin,
    /// The login has no such account.
    #[error("the login has no such account")]
    NoSuchAccount,
    /// A number or a text is out of its bounds.
    #[error("{0} is out of bounds")]
    OutOfBounds(&'static str),
    /// The bank has [`MAX_LOGINS`] logins, or the login [`MAX_GRANTS`] grants.
    #[error("the bank has no room for more {0}")]
    LimitReached(&'static str),
    /// The row cannot be added or edited.
    #[error(transparent)]
    EditFailed(#[from] EditError),
    /// It was played, but the journal could not be written: a restart would forget it.
    #[error("the sandbox bank's journal cannot be written")]
    JournalFailed(#[source] std::io::Error),
}

/// What playing a command gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandOutcome {
    /// The login that was made.
    Login(LoginId),
    /// An access token.
    Token(SandboxToken),
    /// Tokens that end.
    Tokens(SandboxTokens),
    /// The row, as it is now or, where it was removed, as it was.
    Row(RowView),
    /// Nothing to say.
    Done,
}

/// An access token. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct SandboxToken(String);

impl SandboxToken {
    pub(crate) const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text that follows `Bearer`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text that follows `Bearer`.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Debug for SandboxToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A login as it is now.
#[derive(Clone, Debug, Serialize)]
pub struct LoginView {
    /// The login.
    pub id: LoginId,
    /// The holder.
    pub name: String,
    /// What its bank is said to speak.
    pub standard: BankStandard,
    /// Of its last grant.
    pub consent: ConsentState,
    /// What goes wrong for it.
    pub faults: Faults,
    /// The accounts that exist by now.
    pub accounts: Vec<SandboxAccountView>,
}

/// An account as it is now. Its `Debug` leaves out the number.
#[derive(Clone, Serialize)]
pub struct SandboxAccountView {
    /// `AccountId` in the bank's URLs.
    pub account_id: String,
    /// The holder.
    pub name: String,
    /// The account number.
    pub number: String,
    /// `CURRENT` or `SAVINGS`.
    pub kind: &'static str,
    /// Its currency.
    pub currency: Currency,
    /// Booked balance in major units, signed.
    pub ledger: String,
    /// Booked and pending, in major units, signed.
    pub available: String,
}

impl fmt::Debug for SandboxAccountView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountView")
            .field("account_id", &self.account_id)
            .field("kind", &self.kind)
            .field("currency", &self.currency)
            .finish_non_exhaustive()
    }
}

/// A row as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RowView {
    /// Its name within the sandbox.
    pub row: RowKey,
    /// `TransactionId`, which may be blank, absent or another row's too.
    pub transaction_id: Option<String>,
    /// Pending or booked.
    #[serde(with = "crate::command::status")]
    pub status: BookingStatus,
    /// Into or out of the account.
    #[serde(with = "crate::command::direction")]
    pub direction: Direction,
    /// In major units, not negative.
    pub amount: String,
    /// `BookingDateTime`.
    #[serde(rename = "dated")]
    pub booking_time: Timestamp,
    /// `TransactionInformation`.
    pub text: String,
}

impl RowView {
    fn from_listed_row(row: ListedRow, currency: Currency) -> Self {
        Self {
            row: row.movement.key,
            transaction_id: row.stage.transaction_id.as_deref().map(str::to_owned),
            status: row.status,
            direction: direction_from_sign(row.stage.amount_minor),
            amount: format_magnitude(row.stage.amount_minor, currency),
            booking_time: to_timestamp(row.stage.booking_time),
            text: row.movement.text.into_owned(),
        }
    }
}

/// Which way an amount with a sign goes; nothing at all comes in.
pub(crate) const fn direction_from_sign(minor: i64) -> Direction {
    if minor < 0 {
        Direction::Debit
    } else {
        Direction::Credit
    }
}

/// An amount without its sign.
pub(crate) fn format_magnitude(minor: i64, currency: Currency) -> String {
    Money::new(minor.saturating_abs(), currency).to_decimal()
}

/// The instant; the last one there is where it is beyond that.
pub(crate) fn to_timestamp(at: UnixSeconds) -> Timestamp {
    Timestamp::from_second(at).unwrap_or(Timestamp::MAX)
}

/// A sandbox bank. Clones are the same bank.
#[derive(Clone)]
pub struct SandboxBank(Arc<SandboxBankInner>);

struct SandboxBankInner {
    options: SandboxOptions,
    clock: SandboxClock,
    cache_budget: Arc<CacheBudget>,
    registry: RwLock<LoginRegistry>,
    faults: Mutex<Faults>,
    call_count: AtomicU64,
    authorisation_state: AuthorisationState,
    /// Also what puts commands in a row: it is held while one is played.
    journal: Mutex<Option<Journal>>,
}

#[derive(Default)]
struct LoginRegistry {
    logins: Vec<Arc<BankLogin>>,
    tokens: HashMap<String, SandboxGrant>,
    refresh_tokens: HashMap<String, RefreshTokenGrant>,
    /// Consents that users authorised, by their ids.
    consents: HashMap<String, AuthorisedConsent>,
}

/// A consent that a user authorised.
#[derive(Clone, Copy)]
pub(crate) struct AuthorisedConsent {
    pub(crate) login: LoginId,
    /// The number of its grant.
    pub(crate) grant_number: u32,
    pub(crate) authorised_at: UnixSeconds,
}

/// What a token opens.
#[derive(Clone)]
pub(crate) struct SandboxGrant {
    pub(crate) login: Arc<BankLogin>,
    pub(crate) grant_number: usize,
    /// When the token ends; with its grant where absent.
    pub(crate) expires_at: Option<UnixSeconds>,
}

impl SandboxGrant {
    /// Whether it still does.
    pub(crate) fn consent_state(&self, state: &LoginState) -> ConsentState {
        let grant = state.grants.get(self.grant_number);
        grant.copied().unwrap_or(ConsentState::Revoked)
    }

    /// Whether the token, not the grant, is over.
    pub(crate) fn is_expired_at(&self, now: UnixSeconds) -> bool {
        self.expires_at.is_some_and(|ends| ends <= now)
    }
}

pub(crate) struct BankLogin {
    id: LoginId,
    name: String,
    standard: BankStandard,
    state: Mutex<LoginState>,
}

/// What changes about a login. One lock for each login, held while an answer is made.
pub(crate) struct LoginState {
    pub(crate) grants: Vec<ConsentState>,
    /// Of the grants whose tokens end, by the grant's number.
    pub(crate) renewals: HashMap<u32, TokenRenewal>,
    pub(crate) faults: Faults,
    pub(crate) accounts: Vec<SandboxAccount>,
}

impl LoginState {
    /// The last grant whose token does not end before it, where it still holds.
    fn active_lasting_grant(&self) -> Option<usize> {
        let ends =
            |number: usize| u32::try_from(number).is_ok_and(|it| self.renewals.contains_key(&it));
        let number = (0..self.grants.len()).rev().find(|&number| !ends(number))?;
        (self.grants.get(number) == Some(&ConsentState::Active)).then_some(number)
    }
}

impl BankLogin {
    pub(crate) fn lock_state(&self) -> MutexGuard<'_, LoginState> {
        lock_mutex(&self.state)
    }

    fn view_at(&self, now: UnixSeconds) -> LoginView {
        let mut state = self.lock_state();
        LoginView {
            id: self.id,
            name: self.name.clone(),
            standard: self.standard,
            consent: state.grants.last().copied().unwrap_or_default(),
            faults: state.faults.clone(),
            accounts: state
                .accounts
                .iter_mut()
                .filter(|account| account.is_open(now))
                .map(|account| view_account(account, now))
                .collect(),
        }
    }
}

fn view_account(account: &mut SandboxAccount, now: UnixSeconds) -> SandboxAccountView {
    let standing = account.balance_at(now);
    let facts = &account.profile;
    let decimal = |minor| Money::new(minor, facts.currency).to_decimal();
    SandboxAccountView {
        account_id: facts.id.clone(),
        name: facts.name.clone(),
        number: facts.number.clone(),
        kind: facts.kind.as_str(),
        currency: facts.currency,
        ledger: decimal(standing.booked),
        available: decimal(standing.booked + standing.pending),
    }
}

/// A lock whose holder panicked guards nothing that could be half done: states are replaced whole.
pub(crate) fn lock_mutex<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SandboxBank {
    /// A bank that forgets what was played on it when it is dropped.
    pub fn in_memory(options: SandboxOptions, clock: SandboxClock) -> Self {
        let options = SandboxOptions {
            page_size: options.page_size.max(1),
            ..options
        };
        Self(Arc::new(SandboxBankInner {
            cache_budget: Arc::new(CacheBudget::new(options.cache_bytes)),
            options,
            clock,
            registry: RwLock::default(),
            faults: Mutex::default(),
            call_count: AtomicU64::new(0),
            authorisation_state: AuthorisationState::default(),
            journal: Mutex::new(None),
        }))
    }

    /// A bank that keeps what is played on it in a folder, and has it again when opened there. What is
    /// generated is not kept but derived again, so the seed must be the one it was made with.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]. A folder is open in one process at a time.
    pub fn open_folder(
        options: SandboxOptions,
        clock: SandboxClock,
        folder: &Path,
    ) -> Result<Self, SandboxOpenError> {
        let bank = Self::in_memory(options, clock);
        let journal = Journal::open_journal(
            folder,
            bank.0.options.seed,
            |JournalEntry {
                 executed_at: at,
                 command: play,
             }| { bank.apply_command(at.as_second(), &play).map(|_| ()) },
        )?;
        *lock_mutex(&bank.0.journal) = Some(journal);
        Ok(bank)
    }

    /// The bank's API in both versions, under [`Bank::base_path`]. To be merged, not nested: the links
    /// in its answers are made from the path it is asked for.
    pub fn api_router(&self) -> Router {
        obie::account_api_router(self).merge(authorise::authorise_router(self))
    }

    /// What drives the bank, under `/control`. Asks for no credentials and hands out access tokens: to
    /// be served on loopback only.
    pub fn control_router(&self) -> Router {
        control::control_router(self)
    }

    /// Where a version's API is: `/open-banking/v3.1/aisp`.
    pub const fn base_path(standard: BankStandard) -> &'static str {
        match standard {
            BankStandard::Obie31 => "/open-banking/v3.1/aisp",
            BankStandard::Obie40 => "/open-banking/v4.0/aisp",
        }
    }

    /// Plays a command: it has its effect and, in a bank with a folder, is on disk before this returns.
    /// Commands take effect one after the other.
    ///
    /// # Errors
    ///
    /// See [`PlayError`]; but for its last variant nothing has changed then.
    pub fn execute_command(&self, command: SandboxCommand) -> Result<CommandOutcome, CommandError> {
        let command = match command {
            // The journal says what was meant, whatever the bank's pace will be after a restart.
            SandboxCommand::CreateLogin(new) => SandboxCommand::CreateLogin(NewLogin {
                row_interval_s: new
                    .row_interval_s
                    .or(self.0.options.row_interval_s)
                    .or(Some(0)),
                ..new
            }),
            other => other,
        };
        let mut journal = lock_mutex(&self.0.journal);
        let at = to_timestamp(self.current_second());
        let played = self.apply_command(at.as_second(), &command)?;
        if let Some(journal) = journal.as_mut() {
            journal
                .append_command(at, &command)
                .map_err(CommandError::JournalFailed)?;
        }
        Ok(played)
    }

    /// Makes a login.
    ///
    /// # Errors
    ///
    /// As [`Bank::play`].
    pub fn create_login(&self, new: NewLogin) -> Result<LoginView, CommandError> {
        match self.execute_command(SandboxCommand::CreateLogin(new))? {
            CommandOutcome::Login(login) => {
                Ok(self.require_login(login)?.view_at(self.current_second()))
            }
            _ => Err(CommandError::NoSuchLogin),
        }
    }

    /// A token for a login: that of its last grant or, where that has ended, of a new one, as after the
    /// user authenticated again.
    ///
    /// # Errors
    ///
    /// As [`Bank::play`].
    pub fn link_login(&self, login: LoginId) -> Result<SandboxToken, CommandError> {
        match self.execute_link(login)? {
            CommandOutcome::Token(token) => Ok(token),
            _ => Err(CommandError::NoSuchLogin),
        }
    }

    fn execute_link(&self, login: LoginId) -> Result<CommandOutcome, CommandError> {
        let active = {
            let login = self.require_login(login)?;
            login.lock_state().active_lasting_grant()
        };
        match active {
            Some(grant) => Ok(CommandOutcome::Token(
                self.derive_access_token(login, grant),
            )),
            None => self.execute_command(SandboxCommand::GrantAccess(login)),
        }
    }

    /// Sets what goes wrong, in place of what was set before.
    ///
    /// # Errors
    ///
    /// As [`Bank::play`].
    pub fn set_faults(&self, target: FaultTarget, faults: Faults) -> Result<(), CommandError> {
        self.execute_command(SandboxCommand::SetFaults { target, faults })
            .map(|_| ())
    }

    /// Ends (or restores) the grants a login has so far.
    ///
    /// # Errors
    ///
    /// As [`Bank::play`].
    pub fn set_consent(&self, login: LoginId, state: ConsentState) -> Result<(), CommandError> {
        self.execute_command(SandboxCommand::SetConsent { login, state })
            .map(|_| ())
    }

    /// Adds a row.
    ///
    /// # Errors
    ///
    /// As [`Bank::play`].
    pub fn add_row(
        &self,
        address: AccountAddress,
        transaction: NewTransaction,
    ) -> Result<RowView, CommandError> {
        self.execute_row_command(SandboxCommand::AddRow {
            address,
            transaction,
        })
    }

    /// Books a pending row.
    ///
    /// # Errors
    ///
    /// As [`Bank::play`].
    pub fn book_row(
        &self,
        address: AccountAddress,
        row: RowKey,
        booking: BookingDetails,
    ) -> Result<RowView, CommandError> {
        self.execute_row_command(SandboxCommand::BookRow {
            address,
            row,
            booking,
        })
    }

    /// Changes a row.
    ///
    /// # Errors
    ///
    /// As [`Bank::play`].
    pub fn amend_row(
        &self,
        address: AccountAddress,
        row: RowKey,
        amendment: RowAmendment,
    ) -> Result<RowView, CommandError> {
        self.execute_row_command(SandboxCommand::AmendRow {
            address,
            row,
            amendment,
        })
    }

    /// Takes a row off the list, and gives it as it was.
    ///
    /// # Errors
    ///
    /// As [`Bank::play`].
    pub fn remove_row(
        &self,
        address: AccountAddress,
        row: RowKey,
    ) -> Result<RowView, CommandError> {
        self.execute_row_command(SandboxCommand::RemoveRow { address, row })
    }

    fn execute_row_command(&self, command: SandboxCommand) -> Result<RowView, CommandError> {
        match self.execute_command(command)? {
            CommandOutcome::Row(row) => Ok(row),
            _ => Err(EditError::NoSuchRow.into()),
        }
    }

    /// All logins, in the order they were made.
    pub fn list_logins(&self) -> Vec<LoginView> {
        let logins = self.read_registry().logins.clone();
        let now = self.current_second();
        logins.iter().map(|login| login.view_at(now)).collect()
    }

    /// One login.
    pub fn find_login(&self, id: LoginId) -> Option<LoginView> {
        let login = self.require_login(id).ok()?;
        Some(login.view_at(self.current_second()))
    }

    /// The rows of an account as they are listed now, newest first; `None` where there is no such
    /// account.
    pub fn list_rows(&self, address: &AccountAddress) -> Option<Vec<RowView>> {
        let (now, login) = (
            self.current_second(),
            self.require_login(address.login).ok()?,
        );
        let state = login.lock_state();
        let account = state
            .accounts
            .iter()
            .find(|account| account.profile.id == address.account_id && account.is_open(now))?;
        let currency = account.profile.currency;
        let listed = account.list_rows(now, UnixSeconds::MIN, UnixSeconds::MAX);
        Some(
            listed
                .into_iter()
                .map(|row| RowView::from_listed_row(row, currency))
                .collect(),
        )
    }

    /// Requests to the bank's API so far, refused ones included.
    pub fn call_count(&self) -> u64 {
        self.0.call_count.load(Ordering::Relaxed)
    }

    /// Counts a request to the bank's API, and gives its number.
    pub(crate) fn count_call(&self) -> u64 {
        self.0.call_count.fetch_add(1, Ordering::Relaxed)
    }

    /// What users' half-done logins hold.
    /// A consent that a user authorised.
    pub(crate) fn find_authorised_consent(&self, consent_id: &str) -> Option<AuthorisedConsent> {
        let registry = self.0.registry.read();
        let registry = registry.unwrap_or_else(PoisonError::into_inner);
        registry.consents.get(consent_id).copied()
    }

    pub(crate) fn store_authorised_consent(&self, consent_id: &str, authorised: AuthorisedConsent) {
        let registry = self.0.registry.write();
        let mut registry = registry.unwrap_or_else(PoisonError::into_inner);
        registry.consents.insert(consent_id.to_owned(), authorised);
    }

    pub(crate) fn authorisation_state(&self) -> &AuthorisationState {
        &self.0.authorisation_state
    }

    pub(crate) fn current_second(&self) -> UnixSeconds {
        (self.0.clock)().as_second()
    }

    pub(crate) fn options(&self) -> &SandboxOptions {
        &self.0.options
    }

    pub(crate) fn lock_faults(&self) -> MutexGuard<'_, Faults> {
        lock_mutex(&self.0.faults)
    }

    /// What a token opens.
    pub(crate) fn find_grant(&self, token: &str) -> Option<SandboxGrant> {
        self.read_registry().tokens.get(token).cloned()
    }

    /// Adds a login that is not in the journal, with one account.
    pub(crate) fn add_login(
        &self,
        standard: BankStandard,
        profile: AccountProfile,
        row_source: RowSource,
    ) -> LoginId {
        let name = profile.name.clone();
        let account = SandboxAccount::new(profile, row_source, &self.0.cache_budget);
        self.register_login(name, standard, |_| vec![account])
    }

    fn read_registry(&self) -> std::sync::RwLockReadGuard<'_, LoginRegistry> {
        let registry = self.0.registry.read();
        registry.unwrap_or_else(PoisonError::into_inner)
    }

    fn write_registry(&self) -> std::sync::RwLockWriteGuard<'_, LoginRegistry> {
        let registry = self.0.registry.write();
        registry.unwrap_or_else(PoisonError::into_inner)
    }

    /// What a refresh token stands for.
    pub(crate) fn find_refresh_token(&self, refresh_token: &str) -> Option<RefreshTokenGrant> {
        self.read_registry()
            .refresh_tokens
            .get(refresh_token)
            .copied()
    }

    /// Makes tokens known, and forgets one.
    pub(crate) fn store_tokens(
        &self,
        access: &SandboxToken,
        grant: SandboxGrant,
        refresh: &SandboxToken,
        refresh_grant: RefreshTokenGrant,
        replaced: Option<&SandboxToken>,
    ) {
        let mut registry = self.write_registry();
        registry.tokens.insert(access.0.clone(), grant);
        registry
            .refresh_tokens
            .insert(refresh.0.clone(), refresh_grant);
        if let Some(stale) = replaced {
            registry.tokens.remove(&stale.0);
        }
    }

    /// Grants access once more, without a token; the grant's number.
    pub(crate) fn add_grant(&self, id: LoginId) -> Result<u32, CommandError> {
        let login = self.require_login(id)?;
        let mut state = login.lock_state();
        let number = state.grants.len();
        if number >= MAX_GRANTS_PER_LOGIN {
            return Err(CommandError::LimitReached("grants"));
        }
        state.grants.push(ConsentState::Active);
        u32::try_from(number).map_err(|_| CommandError::LimitReached("grants"))
    }

    pub(crate) fn require_login(&self, id: LoginId) -> Result<Arc<BankLogin>, CommandError> {
        let index = id.0.checked_sub(1).ok_or(CommandError::NoSuchLogin)?;
        let registry = self.read_registry();
        let login = registry.logins.get(index as usize);
        login.cloned().ok_or(CommandError::NoSuchLogin)
    }

    /// The effect of a command that was played at `now`.
    fn apply_command(
        &self,
        now: UnixSeconds,
        command: &SandboxCommand,
    ) -> Result<CommandOutcome, CommandError> {
        match command {
            SandboxCommand::CreateLogin(new) => {
                self.apply_create_login(now, new).map(CommandOutcome::Login)
            }
            SandboxCommand::GrantAccess(login) => {
                self.renew_grant(*login).map(CommandOutcome::Token)
            }
            SandboxCommand::IssueTokens {
                login,
                terms,
                consent_id: consent,
            } => self.apply_token_issue(now, *login, *terms, consent.as_deref()),
            SandboxCommand::RevokeConsent {
                consent_id: consent,
            } => {
                if let Some(authorised) = self.find_authorised_consent(consent) {
                    let login = self.require_login(authorised.login)?;
                    let mut state = login.lock_state();
                    if let Some(grant) = state.grants.get_mut(authorised.grant_number as usize) {
                        *grant = ConsentState::Revoked;
                    }
                }
                Ok(CommandOutcome::Done)
            }
            SandboxCommand::RenewTokens {
                login,
                grant,
                generation,
            } => self.apply_token_renewal(now, *login, *grant, *generation),
            SandboxCommand::SetFaults { target, faults } => {
                if faults.slow_ms > MAX_SLOW_MS {
                    return Err(CommandError::OutOfBounds("slow_ms"));
                }
                match target {
                    FaultTarget::Bank => *self.lock_faults() = faults.clone(),
                    FaultTarget::Login(login) => {
                        self.require_login(*login)?.lock_state().faults = faults.clone()
                    }
                }
                Ok(CommandOutcome::Done)
            }
            SandboxCommand::SetConsent { login, state } => {
                self.require_login(*login)?.lock_state().grants.fill(*state);
                Ok(CommandOutcome::Done)
            }
            SandboxCommand::AddRow {
                address: place,
                transaction,
            } => self.edit_account(now, place, |account| account.add_row(now, transaction)),
            SandboxCommand::BookRow {
                address: place,
                row,
                booking: how,
            } => self.edit_account(now, place, |account| account.book_row(now, *row, how)),
            SandboxCommand::AmendRow {
                address: place,
                row,
                amendment: change,
            } => self.edit_account(now, place, |account| account.amend_row(now, *row, change)),
            SandboxCommand::RemoveRow {
                address: place,
                row,
            } => self.edit_account(now, place, |account| account.remove_row(now, *row)),
        }
    }

    fn edit_account(
        &self,
        now: UnixSeconds,
        address: &AccountAddress,
        apply_edit: impl FnOnce(&mut SandboxAccount) -> Result<ListedRow, EditError>,
    ) -> Result<CommandOutcome, CommandError> {
        let login = self.require_login(address.login)?;
        let mut state = login.lock_state();
        let account = state
            .accounts
            .iter_mut()
            .find(|account| account.profile.id == address.account_id && account.is_open(now))
            .ok_or(CommandError::NoSuchAccount)?;
        let currency = account.profile.currency;
        let row = apply_edit(account)?;
        Ok(CommandOutcome::Row(RowView::from_listed_row(row, currency)))
    }

    fn apply_create_login(
        &self,
        now: UnixSeconds,
        new_login: &NewLogin,
    ) -> Result<LoginId, CommandError> {
        let rows = new_login
            .history_rows
            .unwrap_or_else(|| new_login.volume.history_rows());
        let name_length = new_login
            .name
            .as_ref()
            .map_or(1, |name| name.chars().count());
        for (is_within, what) in [
            (
                (1..=MAX_ACCOUNTS_PER_LOGIN).contains(&new_login.accounts),
                "accounts",
            ),
            (rows <= MAX_HISTORY_ROWS, "history_rows"),
            (
                (1..=MAX_HISTORY_DAYS).contains(&new_login.history_days),
                "history_days",
            ),
            ((1..=MAX_NAME_CHARS).contains(&name_length), "name"),
        ] {
            if !is_within {
                return Err(CommandError::OutOfBounds(what));
            }
        }
        if self.read_registry().logins.len() >= MAX_LOGINS {
            return Err(CommandError::LimitReached("logins"));
        }
        let number = self.read_registry().logins.len() + 1;
        let seed = derive_number(&[
            b"login",
            &self.0.options.seed.to_be_bytes(),
            &(number as u64).to_be_bytes(),
        ]);
        let mut draw = SeededRandom::new(seed, 0);
        let drawn = lore::generate_full_name(&mut draw);
        let name = new_login.name.clone().unwrap_or(drawn);
        Ok(self.register_login(name.clone(), new_login.standard, |id| {
            (0..new_login.accounts)
                .map(|index| {
                    let facts = generate_profile(id, index, &name, &mut draw);
                    let pace = schedule_rows(new_login, index);
                    let seed = derive_number(&[b"account", &seed.to_be_bytes(), &[index]]);
                    let rows = GeneratedRows::new(seed, now, rows, new_login.history_days, pace);
                    SandboxAccount::new(facts, RowSource::Generated(rows), &self.0.cache_budget)
                })
                .collect()
        }))
    }

    /// Adds a login with its first grant.
    fn register_login(
        &self,
        name: String,
        standard: BankStandard,
        accounts: impl FnOnce(LoginId) -> Vec<SandboxAccount>,
    ) -> LoginId {
        let mut registry = self.write_registry();
        let id = LoginId(u32::try_from(registry.logins.len() + 1).unwrap_or(u32::MAX));
        let login = Arc::new(BankLogin {
            id,
            name,
            standard,
            state: Mutex::new(LoginState {
                grants: vec![ConsentState::Active],
                renewals: HashMap::new(),
                faults: Faults::default(),
                accounts: accounts(id),
            }),
        });
        registry.logins.push(Arc::clone(&login));
        let grant = SandboxGrant {
            login,
            grant_number: 0,
            expires_at: None,
        };
        registry
            .tokens
            .insert(self.derive_access_token(id, 0).0, grant);
        id
    }

    fn renew_grant(&self, id: LoginId) -> Result<SandboxToken, CommandError> {
        let login = self.require_login(id)?;
        let number = {
            let mut state = login.lock_state();
            let number = state.grants.len();
            if let Some(grant) = state.active_lasting_grant() {
                return Ok(self.derive_access_token(id, grant));
            }
            if number >= MAX_GRANTS_PER_LOGIN {
                return Err(CommandError::LimitReached("grants"));
            }
            state.grants.push(ConsentState::Active);
            number
        };
        let token = self.derive_access_token(id, number);
        let grant = SandboxGrant {
            login,
            grant_number: number,
            expires_at: None,
        };
        self.write_registry().tokens.insert(token.0.clone(), grant);
        Ok(token)
    }

    /// The token of a login's grant. Derived from the seed, so that it outlives a restart; whoever
    /// knows the seed knows the tokens, which is fine for money that does not exist.
    fn derive_access_token(&self, login: LoginId, grant_number: usize) -> SandboxToken {
        let digest = digest_parts(&[
            b"token",
            &self.0.options.seed.to_be_bytes(),
            &login.0.to_be_bytes(),
            &(grant_number as u64).to_be_bytes(),
        ]);
        let hex = digest.iter().map(|byte| format!("{byte:02x}"));
        SandboxToken(hex.collect())
    }
}

/// Every third account of a login is a savings account.
fn generate_profile(
    login: LoginId,
    index: u8,
    name: &str,
    random: &mut SeededRandom,
) -> AccountProfile {
    AccountProfile {
        id: format!("{:08}{:02}", login.0, index + 1),
        name: name.to_owned(),
        number: format!("{:010}", random.next_number() % 10_000_000_000),
        kind: if index % 3 == 1 {
            SandboxAccountKind::Savings
        } else {
            SandboxAccountKind::Current
        },
        currency: Currency::NGN,
    }
}

/// The accounts of a login take turns.
fn schedule_rows(new_login: &NewLogin, index: u8) -> Option<RowSchedule> {
    let every = new_login.row_interval_s.filter(|pace_s| *pace_s > 0)?;
    Some(RowSchedule {
        interval_s: every.saturating_mul(new_login.accounts.into()),
        first_slot_s: every.saturating_mul(index.into()),
    })
}
