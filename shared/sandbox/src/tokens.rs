//! Tokens that end before their consent does, and the refresh tokens that buy the next ones (RFC 6749).

use serde::{Deserialize, Serialize};

use crate::{
    bank::{
        AuthorisedConsent, CommandError, CommandOutcome, SandboxBank, SandboxGrant, SandboxToken,
    },
    command::{LoginId, SandboxCommand},
    fault::ConsentState,
    hash::digest_parts,
    movement::UnixSeconds,
};

/// Seconds an access token may live at most.
pub const MAX_TOKEN_LIFE_S: u32 = 86_400;

/// Id of the one client that the sandbox bank knows.
pub const CLIENT_ID: &str = "okra-sync";

/// Its secret: the money does not exist.
pub const CLIENT_SECRET: &str = "sandbox-secret";

/// How tokens of a grant come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenTerms {
    /// Seconds an access token lives, 1 to [`MAX_LIFE_S`].
    pub life_s: u32,
    /// Whether each renewal replaces the refresh token. One that was replaced and is shown again
    /// revokes the grant (RFC 9700, 4.14.2).
    #[serde(default)]
    pub rotate: bool,
}

/// What a client is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SandboxTokens {
    /// The bearer of calls.
    pub access_token: SandboxToken,
    /// What the next one is asked for with.
    pub refresh_token: SandboxToken,
    /// Seconds the access token lives.
    pub expires_in: u32,
}

/// The renewals of one grant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenRenewal {
    terms: TokenTerms,
    generation: u64,
}

/// What a refresh token stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RefreshTokenGrant {
    login: LoginId,
    grant_number: u32,
    generation: u64,
}

impl SandboxBank {
    /// Grants access to a login with tokens that end.
    ///
    /// # Errors
    ///
    /// As [`Bank::play`].
    pub fn issue_tokens(
        &self,
        login: LoginId,
        terms: TokenTerms,
    ) -> Result<SandboxTokens, CommandError> {
        self.issue_for_consent(login, terms, None)
    }

    /// Grants access to a login as if its user had authorised a consent on the login page: the consent's
    /// id, and the tokens.
    ///
    /// # Errors
    ///
    /// As [`Bank::play`].
    pub fn authorise_as_user(
        &self,
        login: LoginId,
        terms: TokenTerms,
    ) -> Result<(String, SandboxTokens), CommandError> {
        let consent = self.generate_id("consent");
        let tokens = self.issue_for_consent(login, terms, Some(consent.clone()))?;
        Ok((consent, tokens))
    }

    /// [`issue`](Self::issue), for a consent that the login's user authorised.
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
            _ => Err(CommandError::NoSuchLogin),
        }
    }

    /// New tokens for a refresh token; `None` where it buys nothing (any more).
    ///
    /// # Errors
    ///
    /// As [`Bank::play`].
    pub fn renew_tokens(&self, refresh_token: &str) -> Result<Option<SandboxTokens>, CommandError> {
        let Some(renewable) = self.find_refresh_token(refresh_token) else {
            return Ok(None);
        };
        let played = self.execute_command(SandboxCommand::RenewTokens {
            login: renewable.login,
            grant: renewable.grant_number,
            generation: renewable.generation,
        })?;
        Ok(match played {
            CommandOutcome::Tokens(tokens) => Some(tokens),
            _ => None,
        })
    }

    pub(crate) fn apply_token_issue(
        &self,
        now: UnixSeconds,
        login: LoginId,
        terms: TokenTerms,
        consent_id: Option<&str>,
    ) -> Result<CommandOutcome, CommandError> {
        if !(1..=MAX_TOKEN_LIFE_S).contains(&terms.life_s) {
            return Err(CommandError::OutOfBounds("life_s"));
        }
        let grant = self.add_grant(login)?;
        if let Some(consent) = consent_id {
            let authorised = AuthorisedConsent {
                login,
                grant_number: grant,
                authorised_at: now,
            };
            self.store_authorised_consent(consent, authorised);
        }
        let renewal = TokenRenewal {
            terms,
            generation: 0,
        };
        Ok(CommandOutcome::Tokens(
            self.store_token_generation(now, login, grant, renewal)?,
        ))
    }

    pub(crate) fn apply_token_renewal(
        &self,
        now: UnixSeconds,
        login: LoginId,
        grant_number: u32,
        generation: u64,
    ) -> Result<CommandOutcome, CommandError> {
        let found = self.require_login(login)?;
        let renewal = {
            let mut state = found.lock_state();
            let number = grant_number as usize;
            let renewal = state.renewals.get(&grant_number).copied();
            let active = state.grants.get(number) == Some(&ConsentState::Active);
            let Some(renewal) = renewal.filter(|_| active) else {
                return Ok(CommandOutcome::Done);
            };
            if renewal.terms.rotate && generation != renewal.generation {
                if let Some(consent) = state.grants.get_mut(number) {
                    *consent = ConsentState::Revoked;
                }
                return Ok(CommandOutcome::Done);
            }
            renewal
        };
        let next = TokenRenewal {
            generation: renewal.generation + 1,
            ..renewal
        };
        Ok(CommandOutcome::Tokens(self.store_token_generation(
            now,
            login,
            grant_number,
            next,
        )?))
    }

    /// Makes the tokens of a generation known. The access token before the last is forgotten.
    fn store_token_generation(
        &self,
        now: UnixSeconds,
        login: LoginId,
        grant_number: u32,
        renewal: TokenRenewal,
    ) -> Result<SandboxTokens, CommandError> {
        let found = self.require_login(login)?;
        found.lock_state().renewals.insert(grant_number, renewal);
        let generation = renewal.generation;
        let access = self.derive_token(b"access", login, grant_number, generation);
        let shown = if renewal.terms.rotate { generation } else { 0 };
        let refresh = self.derive_token(b"refresh", login, grant_number, shown);
        let stale = generation
            .checked_sub(2)
            .map(|old| self.derive_token(b"access", login, grant_number, old));
        let opens = SandboxGrant {
            login: found,
            grant_number: grant_number as usize,
            expires_at: Some(now.saturating_add(renewal.terms.life_s.into())),
        };
        let renewable = RefreshTokenGrant {
            login,
            grant_number,
            generation: shown,
        };
        self.store_tokens(&access, opens, &refresh, renewable, stale.as_ref());
        Ok(SandboxTokens {
            access_token: access,
            refresh_token: refresh,
            expires_in: renewal.terms.life_s,
        })
    }

    /// Derived from the seed, so that it outlives a restart.
    fn derive_token(
        &self,
        kind: &[u8],
        login: LoginId,
        grant_number: u32,
        generation: u64,
    ) -> SandboxToken {
        let digest = digest_parts(&[
            kind,
            &self.options().seed.to_be_bytes(),
            &login.0.to_be_bytes(),
            &grant_number.to_be_bytes(),
            &generation.to_be_bytes(),
        ]);
        SandboxToken::new(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}
