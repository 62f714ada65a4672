//! What can be asked of a bank: one typed method for each command, and the views of what it holds.

use okra_core::model::bank::BankStandard;

use super::{
    error::CommandError,
    execute::CommandOutcome,
    state::SandboxBank,
    tokens::{SandboxToken, SandboxTokens},
    view::{LoginView, RowView},
};
use crate::{
    command::{
        AccountAddress, BookingDetails, FaultTarget, LoginId, NewLogin, NewTransaction,
        RowAmendment, SandboxCommand, TokenTerms,
    },
    fault::{ConsentState, Faults},
    rows::movement::{RowKey, UnixSeconds},
};

impl SandboxBank {
    /// The path that a version's API is under: `/open-banking/v3.1/aisp`.
    pub const fn base_path(standard: BankStandard) -> &'static str {
        match standard {
            BankStandard::Obie31 => "/open-banking/v3.1/aisp",
            BankStandard::Obie40 => "/open-banking/v4.0/aisp",
        }
    }

    /// Makes a login.
    ///
    /// # Errors
    ///
    /// As [`SandboxBank::execute_command`].
    pub fn create_login(&self, new: NewLogin) -> Result<LoginView, CommandError> {
        match self.execute_command(SandboxCommand::CreateLogin(new))? {
            CommandOutcome::Login(login) => {
                let login = self.require_login(login)?;
                Ok(LoginView::of_login(&login, self.current_second()))
            }
            _ => Err(CommandError::UnexpectedOutcome),
        }
    }

    /// A token for a login that lives as long as its grant: that of its last grant or, where that has ended, of a
    /// new one, as after the user authenticated again.
    ///
    /// # Errors
    ///
    /// As [`SandboxBank::execute_command`].
    pub fn link_login(&self, login: LoginId) -> Result<SandboxToken, CommandError> {
        let active = self
            .require_login(login)?
            .lock_state()
            .active_lasting_grant();
        // An active grant needs no command: nothing changes.
        if let Some(grant_number) = active {
            return Ok(SandboxToken::for_grant(
                self.options().seed,
                login,
                grant_number,
            ));
        }
        match self.execute_command(SandboxCommand::GrantAccess(login))? {
            CommandOutcome::Token(token) => Ok(token),
            _ => Err(CommandError::UnexpectedOutcome),
        }
    }

    /// Grants access to a login with tokens that expire.
    ///
    /// # Errors
    ///
    /// As [`SandboxBank::execute_command`].
    pub fn issue_tokens(
        &self,
        login: LoginId,
        terms: TokenTerms,
    ) -> Result<SandboxTokens, CommandError> {
        self.issue_for_consent(login, terms, None)
    }

    /// Grants access to a login as if its user had authorised a consent on the login page. Returns the consent's id
    /// and the tokens.
    ///
    /// # Errors
    ///
    /// As [`SandboxBank::execute_command`].
    pub fn authorise_as_user(
        &self,
        login: LoginId,
        terms: TokenTerms,
    ) -> Result<(String, SandboxTokens), CommandError> {
        let consent_id = self.generate_id("consent");
        let tokens = self.issue_for_consent(login, terms, Some(consent_id.clone()))?;
        Ok((consent_id, tokens))
    }

    /// [`issue_tokens`](Self::issue_tokens), for a consent that the login's user authorised.
    pub(crate) fn issue_for_consent(
        &self,
        login: LoginId,
        terms: TokenTerms,
        consent_id: Option<String>,
    ) -> Result<SandboxTokens, CommandError> {
        let issue = SandboxCommand::IssueTokens {
            login,
            terms,
            consent_id,
        };
        match self.execute_command(issue)? {
            CommandOutcome::Tokens(tokens) => Ok(tokens),
            _ => Err(CommandError::UnexpectedOutcome),
        }
    }

    /// New tokens for a refresh token; `None` where it buys nothing, or nothing any more.
    ///
    /// # Errors
    ///
    /// As [`SandboxBank::execute_command`].
    pub fn renew_tokens(&self, refresh_token: &str) -> Result<Option<SandboxTokens>, CommandError> {
        let Some(renewable) = self.find_refresh_token(refresh_token) else {
            return Ok(None);
        };
        let renew = SandboxCommand::RenewTokens {
            login: renewable.login,
            grant: renewable.grant_number,
            generation: renewable.generation,
        };
        match self.execute_command(renew)? {
            CommandOutcome::Tokens(tokens) => Ok(Some(tokens)),
            CommandOutcome::Done => Ok(None),
            _ => Err(CommandError::UnexpectedOutcome),
        }
    }

    /// Sets what goes wrong, in place of what was set before.
    ///
    /// # Errors
    ///
    /// As [`SandboxBank::execute_command`].
    pub fn set_faults(&self, target: FaultTarget, faults: Faults) -> Result<(), CommandError> {
        self.execute_command(SandboxCommand::SetFaults { target, faults })
            .map(|_| ())
    }

    /// Sets the state of all grants that a login has so far.
    ///
    /// # Errors
    ///
    /// As [`SandboxBank::execute_command`].
    pub fn set_consent(&self, login: LoginId, state: ConsentState) -> Result<(), CommandError> {
        self.execute_command(SandboxCommand::SetConsent { login, state })
            .map(|_| ())
    }

    /// Adds a row.
    ///
    /// # Errors
    ///
    /// As [`SandboxBank::execute_command`].
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
    /// As [`SandboxBank::execute_command`].
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
    /// As [`SandboxBank::execute_command`].
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

    /// Removes a row from the list, and returns it as it was.
    ///
    /// # Errors
    ///
    /// As [`SandboxBank::execute_command`].
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
            _ => Err(CommandError::UnexpectedOutcome),
        }
    }

    /// All logins, in the order they were made.
    pub fn list_logins(&self) -> Vec<LoginView> {
        let now = self.current_second();
        self.all_logins()
            .iter()
            .map(|login| LoginView::of_login(login, now))
            .collect()
    }

    /// One login.
    pub fn find_login(&self, id: LoginId) -> Option<LoginView> {
        let login = self.require_login(id).ok()?;
        Some(LoginView::of_login(&login, self.current_second()))
    }

    /// The rows of an account as they are listed now, newest first; `None` where there is no such account.
    pub fn list_rows(&self, address: &AccountAddress) -> Option<Vec<RowView>> {
        let now = self.current_second();
        let login = self.require_login(address.login).ok()?;
        let state = login.lock_state();
        let account = state
            .accounts
            .iter()
            .find(|account| account.profile.id == address.account_id && account.is_open(now))?;
        let currency = account.profile.currency;
        let rows = account.list_rows(now, UnixSeconds::MIN, UnixSeconds::MAX);
        let views = rows
            .into_iter()
            .map(|row| RowView::from_listed_row(row, currency));
        Some(views.collect())
    }
}
