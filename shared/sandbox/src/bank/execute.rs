//! How commands take effect: each is applied to the state and appended to the journal, one after the other.
//!
//! Rule: [`SandboxBank::execute_command`] is the only way to change a bank, so that the journal misses nothing.

use std::path::Path;

use super::{
    error::CommandError,
    journal::{Journal, SandboxOpenError},
    login::{AuthorisedConsent, SandboxGrant},
    options::{MAX_GRANTS_PER_LOGIN, SandboxClock, SandboxOptions},
    state::SandboxBank,
    tokens::{
        RefreshTokenGrant, SandboxToken, SandboxTokens, TokenKind, TokenRenewal,
        derive_generation_token,
    },
    view::RowView,
};
use crate::{
    account::{EditError, ListedRow, SandboxAccount},
    command::{
        AccountAddress, FaultTarget, LoginId, MAX_TOKEN_LIFE_S, NewLogin, SandboxCommand,
        TokenTerms,
    },
    fault::{ConsentState, Faults, MAX_SLOW_MS},
    rows::movement::{UnixSeconds, to_timestamp},
};

/// What executing a command gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandOutcome {
    /// The login that was made.
    Login(LoginId),
    /// An access token.
    Token(SandboxToken),
    /// Tokens that expire.
    Tokens(SandboxTokens),
    /// The row, as it is now or, where it was removed, as it was.
    Row(RowView),
    /// Nothing to report.
    Done,
}

impl SandboxBank {
    /// A bank whose commands are kept in the folder's journal, and are executed again when it is opened there. What
    /// is generated is not kept but derived again, so the seed must be the one the bank was made with.
    ///
    /// # Errors
    ///
    /// See [`SandboxOpenError`]. A folder is open in one process at a time.
    pub fn open_folder(
        options: SandboxOptions,
        clock: SandboxClock,
        folder: &Path,
    ) -> Result<Self, SandboxOpenError> {
        let bank = Self::in_memory(options, clock);
        let journal = Journal::open_journal(folder, bank.options().seed, |entry| {
            bank.apply_command(entry.executed_at.as_second(), &entry.command)
                .map(|_| ())
        })?;
        *bank.lock_journal() = Some(journal);
        Ok(bank)
    }

    /// Executes a command: it has its effect and, in a bank with a folder, is on disk before this returns. Commands
    /// take effect one after the other.
    ///
    /// # Errors
    ///
    /// See [`CommandError`]. Nothing has changed then, except after [`CommandError::JournalFailed`].
    pub fn execute_command(&self, command: SandboxCommand) -> Result<CommandOutcome, CommandError> {
        let command = match command {
            // The journal states the interval, whatever the bank's own is after a restart.
            SandboxCommand::CreateLogin(new) => SandboxCommand::CreateLogin(NewLogin {
                row_interval_s: new
                    .row_interval_s
                    .or_else(|| self.options().row_interval_s)
                    .or(Some(0)),
                ..new
            }),
            other => other,
        };
        let mut journal = self.lock_journal();
        let now = to_timestamp(self.current_second());
        let outcome = self.apply_command(now.as_second(), &command)?;
        if let Some(journal) = journal.as_mut() {
            journal
                .append_command(now, &command)
                .map_err(CommandError::JournalFailed)?;
        }
        Ok(outcome)
    }

    /// The effect of a command that is executed at `now`.
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
                self.renew_lasting_grant(*login).map(CommandOutcome::Token)
            }
            SandboxCommand::IssueTokens {
                login,
                terms,
                consent_id,
            } => self
                .apply_token_issue(now, *login, *terms, consent_id.as_deref())
                .map(CommandOutcome::Tokens),
            SandboxCommand::RevokeConsent { consent_id } => {
                self.apply_revocation(consent_id)?;
                Ok(CommandOutcome::Done)
            }
            SandboxCommand::RenewTokens {
                login,
                grant,
                generation,
            } => {
                let tokens = self.apply_token_renewal(now, *login, *grant, *generation)?;
                Ok(tokens.map_or(CommandOutcome::Done, CommandOutcome::Tokens))
            }
            SandboxCommand::SetFaults { target, faults } => {
                self.apply_faults(*target, faults)?;
                Ok(CommandOutcome::Done)
            }
            SandboxCommand::SetConsent { login, state } => {
                self.require_login(*login)?.lock_state().grants.fill(*state);
                Ok(CommandOutcome::Done)
            }
            SandboxCommand::AddRow {
                address,
                transaction,
            } => self.edit_account(now, address, |account| account.add_row(now, transaction)),
            SandboxCommand::BookRow {
                address,
                row,
                booking,
            } => self.edit_account(now, address, |account| account.book_row(now, *row, booking)),
            SandboxCommand::AmendRow {
                address,
                row,
                amendment,
            } => self.edit_account(now, address, |account| {
                account.amend_row(now, *row, amendment)
            }),
            SandboxCommand::RemoveRow { address, row } => {
                self.edit_account(now, address, |account| account.remove_row(now, *row))
            }
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

    fn apply_faults(&self, target: FaultTarget, faults: &Faults) -> Result<(), CommandError> {
        if faults.slow_ms > MAX_SLOW_MS {
            return Err(CommandError::OutOfBounds("slow_ms"));
        }
        match target {
            FaultTarget::Bank => *self.lock_faults() = faults.clone(),
            FaultTarget::Login(login) => {
                self.require_login(login)?.lock_state().faults = faults.clone();
            }
        }
        Ok(())
    }

    /// Revokes a consent that a user authorised; an unknown one is none of the bank's and stays so.
    fn apply_revocation(&self, consent_id: &str) -> Result<(), CommandError> {
        let Some(authorised) = self.find_authorised_consent(consent_id) else {
            return Ok(());
        };
        let login = self.require_login(authorised.login)?;
        let mut state = login.lock_state();
        if let Some(grant) = state.grants.get_mut(authorised.grant_number as usize) {
            *grant = ConsentState::Revoked;
        }
        Ok(())
    }

    /// The token of the login's active lasting grant or, where there is none, of a new one.
    fn renew_lasting_grant(&self, id: LoginId) -> Result<SandboxToken, CommandError> {
        let active = self.require_login(id)?.lock_state().active_lasting_grant();
        let seed = self.options().seed;
        if let Some(grant_number) = active {
            return Ok(SandboxToken::for_grant(seed, id, grant_number));
        }
        let grant_number = self.add_grant(id)? as usize;
        let token = SandboxToken::for_grant(seed, id, grant_number);
        let grant = SandboxGrant {
            login: self.require_login(id)?,
            grant_number,
            expires_at: None,
        };
        self.store_access_token(&token, grant);
        Ok(token)
    }

    /// Grants access once more, without a token. Returns the grant's number.
    fn add_grant(&self, id: LoginId) -> Result<u32, CommandError> {
        let login = self.require_login(id)?;
        let mut state = login.lock_state();
        let number = state.grants.len();
        if number >= MAX_GRANTS_PER_LOGIN {
            return Err(CommandError::LimitReached("grants"));
        }
        state.grants.push(ConsentState::Active);
        u32::try_from(number).map_err(|_| CommandError::LimitReached("grants"))
    }

    fn apply_token_issue(
        &self,
        now: UnixSeconds,
        login: LoginId,
        terms: TokenTerms,
        consent_id: Option<&str>,
    ) -> Result<SandboxTokens, CommandError> {
        if !(1..=MAX_TOKEN_LIFE_S).contains(&terms.life_s) {
            return Err(CommandError::OutOfBounds("life_s"));
        }
        let grant_number = self.add_grant(login)?;
        if let Some(consent_id) = consent_id {
            let authorised = AuthorisedConsent {
                login,
                grant_number,
                authorised_at: now,
            };
            self.store_authorised_consent(consent_id, authorised);
        }
        let renewal = TokenRenewal {
            terms,
            generation: 0,
        };
        self.store_token_generation(now, login, grant_number, renewal)
    }

    /// The next tokens of a grant; `None` where the refresh token buys nothing any more.
    fn apply_token_renewal(
        &self,
        now: UnixSeconds,
        login: LoginId,
        grant_number: u32,
        generation: u64,
    ) -> Result<Option<SandboxTokens>, CommandError> {
        let found = self.require_login(login)?;
        let renewal = {
            let mut state = found.lock_state();
            let index = grant_number as usize;
            let is_active = state.grants.get(index) == Some(&ConsentState::Active);
            let renewal = state.renewals.get(&grant_number).copied();
            let Some(renewal) = renewal.filter(|_| is_active) else {
                return Ok(None);
            };
            // A rotated refresh token that is shown again was stolen or copied: the grant ends.
            if renewal.terms.rotate && generation != renewal.generation {
                if let Some(consent) = state.grants.get_mut(index) {
                    *consent = ConsentState::Revoked;
                }
                return Ok(None);
            }
            renewal
        };
        let next = TokenRenewal {
            generation: renewal.generation + 1,
            ..renewal
        };
        self.store_token_generation(now, login, grant_number, next)
            .map(Some)
    }

    /// Stores the tokens of a generation, and removes the access token before the last.
    fn store_token_generation(
        &self,
        now: UnixSeconds,
        login: LoginId,
        grant_number: u32,
        renewal: TokenRenewal,
    ) -> Result<SandboxTokens, CommandError> {
        let found = self.require_login(login)?;
        found.lock_state().renewals.insert(grant_number, renewal);
        let seed = self.options().seed;
        let generation = renewal.generation;
        // A refresh token that is not rotated stays that of the first generation.
        let refresh_generation = if renewal.terms.rotate { generation } else { 0 };
        let access =
            derive_generation_token(TokenKind::Access, seed, login, grant_number, generation);
        let refresh = derive_generation_token(
            TokenKind::Refresh,
            seed,
            login,
            grant_number,
            refresh_generation,
        );
        let grant = SandboxGrant {
            login: found,
            grant_number: grant_number as usize,
            expires_at: Some(now + UnixSeconds::from(renewal.terms.life_s)),
        };
        let renewable = RefreshTokenGrant {
            login,
            grant_number,
            generation: refresh_generation,
        };
        self.store_access_token(&access, grant);
        self.store_refresh_token(&refresh, renewable);
        if let Some(stale) = generation.checked_sub(2) {
            let stale =
                derive_generation_token(TokenKind::Access, seed, login, grant_number, stale);
            self.remove_access_token(&stale);
        }
        Ok(SandboxTokens {
            access_token: access,
            refresh_token: refresh,
            expires_in: renewal.terms.life_s,
        })
    }
}
