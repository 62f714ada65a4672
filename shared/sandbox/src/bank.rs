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
use okra_core::{
    bank::Standard,
    model::{BookingStatus, Direction},
    money::{Currency, Money},
};
use serde::Serialize;

use crate::{
    account::{Account, EditError, Facts, Kind, Listed, Source},
    answers::Budget,
    authorise::{self, Desk},
    command::{Amend, Book, Command, LoginId, NewLogin, NewTransaction, Place, Target},
    control,
    fault::{ConsentState, Faults, MAX_SLOW_MS},
    generate::{Generated, Pace},
    hash::{Draw, derive, digest},
    journal::{Entry, Journal, OpenError},
    lore,
    movement::{RowKey, Second},
    obie,
    tokens::{Renewable, Renewal, Tokens},
};

/// Logins of one bank at most.
pub const MAX_LOGINS: usize = 100_000;
/// Accounts of one login at most.
pub const MAX_ACCOUNTS: u8 = 5;
/// Rows of generated history at most.
pub const MAX_HISTORY_ROWS: u32 = 20_000;
/// Days of generated history at most.
pub const MAX_HISTORY_DAYS: u16 = 365;
/// Times access to one login may be granted.
pub const MAX_GRANTS: usize = 1_000;
/// Characters of a holder's name (the standard's bound of `Nickname`).
pub const MAX_NAME: usize = 70;

/// Where the bank's time comes from: real or driven, forward or back.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How a bank behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// What everything generated is derived from. The same seed and clock give the same bank.
    pub seed: u64,
    /// Rows on one page of transactions, at least 1.
    pub page_size: u32,
    /// Seconds between new rows of a login; none by themselves where absent or 0.
    pub pace_s: Option<u32>,
    /// `https://bank.example`, put before the paths of links. Where absent, links lead to the `Host`
    /// that was asked, over `http`.
    pub public_url: Option<String>,
    /// Bytes of serialised answers kept, over all accounts; beyond that answers are made anew.
    pub cache_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            page_size: 100,
            pace_s: None,
            public_url: None,
            cache_bytes: 64 * 1024 * 1024,
        }
    }
}

/// Why a command was not played.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
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
    Full(&'static str),
    /// The row cannot be added or edited.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// It was played, but the journal could not be written: a restart would forget it.
    #[error("the sandbox bank's journal cannot be written")]
    Journal(#[source] std::io::Error),
}

/// What playing a command gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Played {
    /// The login that was made.
    Login(LoginId),
    /// An access token.
    Token(Token),
    /// Tokens that end.
    Tokens(Tokens),
    /// The row, as it is now or, where it was removed, as it was.
    Row(RowView),
    /// Nothing to say.
    Done,
}

/// An access token. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
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

impl fmt::Debug for Token {
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
    pub standard: Standard,
    /// Of its last grant.
    pub consent: ConsentState,
    /// What goes wrong for it.
    pub faults: Faults,
    /// The accounts that exist by now.
    pub accounts: Vec<AccountView>,
}

/// An account as it is now. Its `Debug` leaves out the number.
#[derive(Clone, Serialize)]
pub struct AccountView {
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

impl fmt::Debug for AccountView {
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
    pub dated: Timestamp,
    /// `TransactionInformation`.
    pub text: String,
}

impl RowView {
    fn of(row: Listed, currency: Currency) -> Self {
        Self {
            row: row.movement.key,
            transaction_id: row.stage.id.as_deref().map(str::to_owned),
            status: row.status,
            direction: direction(row.stage.minor),
            amount: magnitude(row.stage.minor, currency),
            dated: timestamp(row.stage.dated),
            text: row.movement.text.into_owned(),
        }
    }
}

/// Which way an amount with a sign goes; nothing at all comes in.
pub(crate) const fn direction(minor: i64) -> Direction {
    if minor < 0 {
        Direction::Debit
    } else {
        Direction::Credit
    }
}

/// An amount without its sign.
pub(crate) fn magnitude(minor: i64, currency: Currency) -> String {
    Money::new(minor.saturating_abs(), currency).to_decimal()
}

/// The instant; the last one there is where it is beyond that.
pub(crate) fn timestamp(at: Second) -> Timestamp {
    Timestamp::from_second(at).unwrap_or(Timestamp::MAX)
}

/// A sandbox bank. Clones are the same bank.
#[derive(Clone)]
pub struct Bank(Arc<Inner>);

struct Inner {
    options: Options,
    clock: Clock,
    budget: Arc<Budget>,
    registry: RwLock<Registry>,
    faults: Mutex<Faults>,
    calls: AtomicU64,
    desk: Desk,
    /// Also what puts commands in a row: it is held while one is played.
    journal: Mutex<Option<Journal>>,
}

#[derive(Default)]
struct Registry {
    logins: Vec<Arc<Login>>,
    tokens: HashMap<String, Grant>,
    renewables: HashMap<String, Renewable>,
    /// Consents that users authorised, by their ids.
    consents: HashMap<String, Authorised>,
}

/// A consent that a user authorised.
#[derive(Clone, Copy)]
pub(crate) struct Authorised {
    pub(crate) login: LoginId,
    /// The number of its grant.
    pub(crate) grant: u32,
    pub(crate) since: Second,
}

/// What a token opens.
#[derive(Clone)]
pub(crate) struct Grant {
    pub(crate) login: Arc<Login>,
    pub(crate) number: usize,
    /// When the token ends; with its grant where absent.
    pub(crate) ends: Option<Second>,
}

impl Grant {
    /// Whether it still does.
    pub(crate) fn consent(&self, state: &State) -> ConsentState {
        let grant = state.grants.get(self.number);
        grant.copied().unwrap_or(ConsentState::Revoked)
    }

    /// Whether the token, not the grant, is over.
    pub(crate) fn is_over(&self, now: Second) -> bool {
        self.ends.is_some_and(|ends| ends <= now)
    }
}

pub(crate) struct Login {
    id: LoginId,
    name: String,
    standard: Standard,
    state: Mutex<State>,
}

/// What changes about a login. One lock for each login, held while an answer is made.
pub(crate) struct State {
    pub(crate) grants: Vec<ConsentState>,
    /// Of the grants whose tokens end, by the grant's number.
    pub(crate) renewals: HashMap<u32, Renewal>,
    pub(crate) faults: Faults,
    pub(crate) accounts: Vec<Account>,
}

impl State {
    /// The last grant whose token does not end before it, where it still holds.
    fn lasting_grant(&self) -> Option<usize> {
        let ends =
            |number: usize| u32::try_from(number).is_ok_and(|it| self.renewals.contains_key(&it));
        let number = (0..self.grants.len()).rev().find(|&number| !ends(number))?;
        (self.grants.get(number) == Some(&ConsentState::Active)).then_some(number)
    }
}

impl Login {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn view(&self, now: Second) -> LoginView {
        let mut state = self.state();
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
                .map(|account| view(account, now))
                .collect(),
        }
    }
}

fn view(account: &mut Account, now: Second) -> AccountView {
    let standing = account.standing(now);
    let facts = &account.facts;
    let decimal = |minor| Money::new(minor, facts.currency).to_decimal();
    AccountView {
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
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bank {
    /// A bank that forgets what was played on it when it is dropped.
    pub fn memory(options: Options, clock: Clock) -> Self {
        let options = Options {
            page_size: options.page_size.max(1),
            ..options
        };
        Self(Arc::new(Inner {
            budget: Arc::new(Budget::new(options.cache_bytes)),
            options,
            clock,
            registry: RwLock::default(),
            faults: Mutex::default(),
            calls: AtomicU64::new(0),
            desk: Desk::default(),
            journal: Mutex::new(None),
        }))
    }

    /// A bank that keeps what is played on it in a folder, and has it again when opened there. What is
    /// generated is not kept but derived again, so the seed must be the one it was made with.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]. A folder is open in one process at a time.
    pub fn open(options: Options, clock: Clock, folder: &Path) -> Result<Self, OpenError> {
        let bank = Self::memory(options, clock);
        let journal = Journal::open(folder, bank.0.options.seed, |Entry { at, play }| {
            bank.apply(at.as_second(), &play).map(|_| ())
        })?;
        *lock(&bank.0.journal) = Some(journal);
        Ok(bank)
    }

    /// The bank's API in both versions, under [`Bank::base_path`]. To be merged, not nested: the links
    /// in its answers are made from the path it is asked for.
    pub fn router(&self) -> Router {
        obie::router(self).merge(authorise::router(self))
    }

    /// What drives the bank, under `/control`. Asks for no credentials and hands out access tokens: to
    /// be served on loopback only.
    pub fn control_router(&self) -> Router {
        control::router(self)
    }

    /// Where a version's API is: `/open-banking/v3.1/aisp`.
    pub const fn base_path(standard: Standard) -> &'static str {
        match standard {
            Standard::Obie31 => "/open-banking/v3.1/aisp",
            Standard::Obie40 => "/open-banking/v4.0/aisp",
        }
    }

    /// Plays a command: it has its effect and, in a bank with a folder, is on disk before this returns.
    /// Commands take effect one after the other.
    ///
    /// # Errors
    ///
    /// See [`PlayError`]; but for its last variant nothing has changed then.
    pub fn play(&self, command: Command) -> Result<Played, PlayError> {
        let command = match command {
            // The journal says what was meant, whatever the bank's pace will be after a restart.
            Command::CreateLogin(new) => Command::CreateLogin(NewLogin {
                pace_s: new.pace_s.or(self.0.options.pace_s).or(Some(0)),
                ..new
            }),
            other => other,
        };
        let mut journal = lock(&self.0.journal);
        let at = timestamp(self.now());
        let played = self.apply(at.as_second(), &command)?;
        if let Some(journal) = journal.as_mut() {
            journal.append(at, &command).map_err(PlayError::Journal)?;
        }
        Ok(played)
    }

    /// Makes a login.
    ///
    /// # Errors
    ///
    /// As [`Bank::play`].
    pub fn create_login(&self, new: NewLogin) -> Result<LoginView, PlayError> {
        match self.play(Command::CreateLogin(new))? {
            Played::Login(login) => Ok(self.find(login)?.view(self.now())),
            _ => Err(PlayError::NoSuchLogin),
        }
    }

    /// A token for a login: that of its last grant or, where that has ended, of a new one, as after the
    /// user authenticated again.
    ///
    /// # Errors
    ///
    /// As [`Bank::play`].
    pub fn link(&self, login: LoginId) -> Result<Token, PlayError> {
        match self.play_link(login)? {
            Played::Token(token) => Ok(token),
            _ => Err(PlayError::NoSuchLogin),
        }
    }

    fn play_link(&self, login: LoginId) -> Result<Played, PlayError> {
        let active = {
            let login = self.find(login)?;
            login.state().lasting_grant()
        };
        match active {
            Some(grant) => Ok(Played::Token(self.token(login, grant))),
            None => self.play(Command::Link(login)),
        }
    }

    /// Sets what goes wrong, in place of what was set before.
    ///
    /// # Errors
    ///
    /// As [`Bank::play`].
    pub fn set_faults(&self, target: Target, faults: Faults) -> Result<(), PlayError> {
        self.play(Command::SetFaults { target, faults }).map(|_| ())
    }

    /// Ends (or restores) the grants a login has so far.
    ///
    /// # Errors
    ///
    /// As [`Bank::play`].
    pub fn set_consent(&self, login: LoginId, state: ConsentState) -> Result<(), PlayError> {
        self.play(Command::SetConsent { login, state }).map(|_| ())
    }

    /// Adds a row.
    ///
    /// # Errors
    ///
    /// As [`Bank::play`].
    pub fn add(&self, place: Place, transaction: NewTransaction) -> Result<RowView, PlayError> {
        self.play_row(Command::Add { place, transaction })
    }

    /// Books a pending row.
    ///
    /// # Errors
    ///
    /// As [`Bank::play`].
    pub fn book(&self, place: Place, row: RowKey, how: Book) -> Result<RowView, PlayError> {
        self.play_row(Command::Book { place, row, how })
    }

    /// Changes a row.
    ///
    /// # Errors
    ///
    /// As [`Bank::play`].
    pub fn amend(&self, place: Place, row: RowKey, change: Amend) -> Result<RowView, PlayError> {
        self.play_row(Command::Amend { place, row, change })
    }

    /// Takes a row off the list, and gives it as it was.
    ///
    /// # Errors
    ///
    /// As [`Bank::play`].
    pub fn remove(&self, place: Place, row: RowKey) -> Result<RowView, PlayError> {
        self.play_row(Command::Remove { place, row })
    }

    fn play_row(&self, command: Command) -> Result<RowView, PlayError> {
        match self.play(command)? {
            Played::Row(row) => Ok(row),
            _ => Err(EditError::NoSuchRow.into()),
        }
    }

    /// All logins, in the order they were made.
    pub fn logins(&self) -> Vec<LoginView> {
        let logins = self.read().logins.clone();
        let now = self.now();
        logins.iter().map(|login| login.view(now)).collect()
    }

    /// One login.
    pub fn login(&self, id: LoginId) -> Option<LoginView> {
        let login = self.find(id).ok()?;
        Some(login.view(self.now()))
    }

    /// The rows of an account as they are listed now, newest first; `None` where there is no such
    /// account.
    pub fn rows(&self, place: &Place) -> Option<Vec<RowView>> {
        let (now, login) = (self.now(), self.find(place.login).ok()?);
        let state = login.state();
        let account = state
            .accounts
            .iter()
            .find(|account| account.facts.id == place.account && account.is_open(now))?;
        let currency = account.facts.currency;
        let listed = account.listed(now, Second::MIN, Second::MAX);
        Some(
            listed
                .into_iter()
                .map(|row| RowView::of(row, currency))
                .collect(),
        )
    }

    /// Requests to the bank's API so far, refused ones included.
    pub fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::Relaxed)
    }

    /// Counts a request to the bank's API, and gives its number.
    pub(crate) fn count_call(&self) -> u64 {
        self.0.calls.fetch_add(1, Ordering::Relaxed)
    }

    /// What users' half-done logins hold.
    /// A consent that a user authorised.
    pub(crate) fn authorised(&self, consent: &str) -> Option<Authorised> {
        let registry = self.0.registry.read();
        let registry = registry.unwrap_or_else(PoisonError::into_inner);
        registry.consents.get(consent).copied()
    }

    pub(crate) fn authorise(&self, consent: &str, authorised: Authorised) {
        let registry = self.0.registry.write();
        let mut registry = registry.unwrap_or_else(PoisonError::into_inner);
        registry.consents.insert(consent.to_owned(), authorised);
    }

    pub(crate) fn desk(&self) -> &Desk {
        &self.0.desk
    }

    pub(crate) fn now(&self) -> Second {
        (self.0.clock)().as_second()
    }

    pub(crate) fn options(&self) -> &Options {
        &self.0.options
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.0.faults)
    }

    /// What a token opens.
    pub(crate) fn grant(&self, token: &str) -> Option<Grant> {
        self.read().tokens.get(token).cloned()
    }

    /// Adds a login that is not in the journal, with one account.
    pub(crate) fn adopt(&self, standard: Standard, facts: Facts, source: Source) -> LoginId {
        let name = facts.name.clone();
        let account = Account::new(facts, source, &self.0.budget);
        self.enter(name, standard, |_| vec![account])
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Registry> {
        let registry = self.0.registry.read();
        registry.unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Registry> {
        let registry = self.0.registry.write();
        registry.unwrap_or_else(PoisonError::into_inner)
    }

    /// What a refresh token stands for.
    pub(crate) fn renewable(&self, refresh_token: &str) -> Option<Renewable> {
        self.read().renewables.get(refresh_token).copied()
    }

    /// Makes tokens known, and forgets one.
    pub(crate) fn remember(
        &self,
        access: &Token,
        opens: Grant,
        refresh: &Token,
        renewable: Renewable,
        stale: Option<&Token>,
    ) {
        let mut registry = self.write();
        registry.tokens.insert(access.0.clone(), opens);
        registry.renewables.insert(refresh.0.clone(), renewable);
        if let Some(stale) = stale {
            registry.tokens.remove(&stale.0);
        }
    }

    /// Grants access once more, without a token; the grant's number.
    pub(crate) fn add_grant(&self, id: LoginId) -> Result<u32, PlayError> {
        let login = self.find(id)?;
        let mut state = login.state();
        let number = state.grants.len();
        if number >= MAX_GRANTS {
            return Err(PlayError::Full("grants"));
        }
        state.grants.push(ConsentState::Active);
        u32::try_from(number).map_err(|_| PlayError::Full("grants"))
    }

    pub(crate) fn find(&self, id: LoginId) -> Result<Arc<Login>, PlayError> {
        let index = id.0.checked_sub(1).ok_or(PlayError::NoSuchLogin)?;
        let registry = self.read();
        let login = registry.logins.get(index as usize);
        login.cloned().ok_or(PlayError::NoSuchLogin)
    }

    /// The effect of a command that was played at `now`.
    fn apply(&self, now: Second, command: &Command) -> Result<Played, PlayError> {
        match command {
            Command::CreateLogin(new) => self.create(now, new).map(Played::Login),
            Command::Link(login) => self.grant_anew(*login).map(Played::Token),
            Command::Issue {
                login,
                terms,
                consent,
            } => self.apply_issue(now, *login, *terms, consent.as_deref()),
            Command::Revoke { consent } => {
                if let Some(authorised) = self.authorised(consent) {
                    let login = self.find(authorised.login)?;
                    let mut state = login.state();
                    if let Some(grant) = state.grants.get_mut(authorised.grant as usize) {
                        *grant = ConsentState::Revoked;
                    }
                }
                Ok(Played::Done)
            }
            Command::Renew {
                login,
                grant,
                generation,
            } => self.apply_renew(now, *login, *grant, *generation),
            Command::SetFaults { target, faults } => {
                if faults.slow_ms > MAX_SLOW_MS {
                    return Err(PlayError::OutOfBounds("slow_ms"));
                }
                match target {
                    Target::Bank => *self.faults() = faults.clone(),
                    Target::Login(login) => self.find(*login)?.state().faults = faults.clone(),
                }
                Ok(Played::Done)
            }
            Command::SetConsent { login, state } => {
                self.find(*login)?.state().grants.fill(*state);
                Ok(Played::Done)
            }
            Command::Add { place, transaction } => {
                self.edit(now, place, |account| account.add(now, transaction))
            }
            Command::Book { place, row, how } => {
                self.edit(now, place, |account| account.book(now, *row, how))
            }
            Command::Amend { place, row, change } => {
                self.edit(now, place, |account| account.amend(now, *row, change))
            }
            Command::Remove { place, row } => {
                self.edit(now, place, |account| account.remove(now, *row))
            }
        }
    }

    fn edit(
        &self,
        now: Second,
        place: &Place,
        edit: impl FnOnce(&mut Account) -> Result<Listed, EditError>,
    ) -> Result<Played, PlayError> {
        let login = self.find(place.login)?;
        let mut state = login.state();
        let account = state
            .accounts
            .iter_mut()
            .find(|account| account.facts.id == place.account && account.is_open(now))
            .ok_or(PlayError::NoSuchAccount)?;
        let currency = account.facts.currency;
        let row = edit(account)?;
        Ok(Played::Row(RowView::of(row, currency)))
    }

    fn create(&self, now: Second, new: &NewLogin) -> Result<LoginId, PlayError> {
        let rows = new.history_rows.unwrap_or_else(|| new.volume.rows());
        let name_length = new.name.as_ref().map_or(1, |name| name.chars().count());
        for (is_within, what) in [
            ((1..=MAX_ACCOUNTS).contains(&new.accounts), "accounts"),
            (rows <= MAX_HISTORY_ROWS, "history_rows"),
            (
                (1..=MAX_HISTORY_DAYS).contains(&new.history_days),
                "history_days",
            ),
            ((1..=MAX_NAME).contains(&name_length), "name"),
        ] {
            if !is_within {
                return Err(PlayError::OutOfBounds(what));
            }
        }
        if self.read().logins.len() >= MAX_LOGINS {
            return Err(PlayError::Full("logins"));
        }
        let number = self.read().logins.len() + 1;
        let seed = derive(&[
            b"login",
            &self.0.options.seed.to_be_bytes(),
            &(number as u64).to_be_bytes(),
        ]);
        let mut draw = Draw::new(seed, 0);
        let drawn = lore::person(&mut draw);
        let name = new.name.clone().unwrap_or(drawn);
        Ok(self.enter(name.clone(), new.standard, |id| {
            (0..new.accounts)
                .map(|index| {
                    let facts = facts(id, index, &name, &mut draw);
                    let pace = pace(new, index);
                    let seed = derive(&[b"account", &seed.to_be_bytes(), &[index]]);
                    let rows = Generated::new(seed, now, rows, new.history_days, pace);
                    Account::new(facts, Source::Generated(rows), &self.0.budget)
                })
                .collect()
        }))
    }

    /// Adds a login with its first grant.
    fn enter(
        &self,
        name: String,
        standard: Standard,
        accounts: impl FnOnce(LoginId) -> Vec<Account>,
    ) -> LoginId {
        let mut registry = self.write();
        let id = LoginId(u32::try_from(registry.logins.len() + 1).unwrap_or(u32::MAX));
        let login = Arc::new(Login {
            id,
            name,
            standard,
            state: Mutex::new(State {
                grants: vec![ConsentState::Active],
                renewals: HashMap::new(),
                faults: Faults::default(),
                accounts: accounts(id),
            }),
        });
        registry.logins.push(Arc::clone(&login));
        let grant = Grant {
            login,
            number: 0,
            ends: None,
        };
        registry.tokens.insert(self.token(id, 0).0, grant);
        id
    }

    fn grant_anew(&self, id: LoginId) -> Result<Token, PlayError> {
        let login = self.find(id)?;
        let number = {
            let mut state = login.state();
            let number = state.grants.len();
            if let Some(grant) = state.lasting_grant() {
                return Ok(self.token(id, grant));
            }
            if number >= MAX_GRANTS {
                return Err(PlayError::Full("grants"));
            }
            state.grants.push(ConsentState::Active);
            number
        };
        let token = self.token(id, number);
        let grant = Grant {
            login,
            number,
            ends: None,
        };
        self.write().tokens.insert(token.0.clone(), grant);
        Ok(token)
    }

    /// The token of a login's grant. Derived from the seed, so that it outlives a restart; whoever
    /// knows the seed knows the tokens, which is fine for money that does not exist.
    fn token(&self, login: LoginId, grant: usize) -> Token {
        let digest = digest(&[
            b"token",
            &self.0.options.seed.to_be_bytes(),
            &login.0.to_be_bytes(),
            &(grant as u64).to_be_bytes(),
        ]);
        let hex = digest.iter().map(|byte| format!("{byte:02x}"));
        Token(hex.collect())
    }
}

/// Every third account of a login is a savings account.
fn facts(login: LoginId, index: u8, name: &str, draw: &mut Draw) -> Facts {
    Facts {
        id: format!("{:08}{:02}", login.0, index + 1),
        name: name.to_owned(),
        number: format!("{:010}", draw.next() % 10_000_000_000),
        kind: if index % 3 == 1 {
            Kind::Savings
        } else {
            Kind::Current
        },
        currency: Currency::NGN,
    }
}

/// The accounts of a login take turns.
fn pace(new: &NewLogin, index: u8) -> Option<Pace> {
    let every = new.pace_s.filter(|pace_s| *pace_s > 0)?;
    Some(Pace {
        every: every.saturating_mul(new.accounts.into()),
        phase: every.saturating_mul(index.into()),
    })
}
