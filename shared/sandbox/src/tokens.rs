//! Tokens that end before their consent does, and the refresh tokens that buy the next ones (RFC 6749).

use serde::{Deserialize, Serialize};

use crate::{
    bank::{Authorised, Bank, Grant, PlayError, Played, Token},
    command::{Command, LoginId},
    fault::ConsentState,
    hash::digest,
    movement::Second,
};

/// Seconds an access token may live at most.
pub const MAX_LIFE_S: u32 = 86_400;

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
pub struct Tokens {
    /// The bearer of calls.
    pub access_token: Token,
    /// What the next one is asked for with.
    pub refresh_token: Token,
    /// Seconds the access token lives.
    pub expires_in: u32,
}

/// The renewals of one grant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Renewal {
    terms: TokenTerms,
    generation: u64,
}

/// What a refresh token stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Renewable {
    login: LoginId,
    grant: u32,
    generation: u64,
}

impl Bank {
    /// Grants access to a login with tokens that end.
    ///
    /// # Errors
    ///
    /// As [`Bank::play`].
    pub fn issue(&self, login: LoginId, terms: TokenTerms) -> Result<Tokens, PlayError> {
        self.issue_for(login, terms, None)
    }

    /// Grants access to a login as if its user had authorised a consent on the login page: the consent's
    /// id, and the tokens.
    ///
    /// # Errors
    ///
    /// As [`Bank::play`].
    pub fn authorised_by_user(
        &self,
        login: LoginId,
        terms: TokenTerms,
    ) -> Result<(String, Tokens), PlayError> {
        let consent = self.draw("consent");
        let tokens = self.issue_for(login, terms, Some(consent.clone()))?;
        Ok((consent, tokens))
    }

    /// [`issue`](Self::issue), for a consent that the login's user authorised.
    pub(crate) fn issue_for(
        &self,
        login: LoginId,
        terms: TokenTerms,
        consent: Option<String>,
    ) -> Result<Tokens, PlayError> {
        let issue = Command::Issue {
            login,
            terms,
            consent,
        };
        match self.play(issue)? {
            Played::Tokens(tokens) => Ok(tokens),
            _ => Err(PlayError::NoSuchLogin),
        }
    }

    /// New tokens for a refresh token; `None` where it buys nothing (any more).
    ///
    /// # Errors
    ///
    /// As [`Bank::play`].
    pub fn renew(&self, refresh_token: &str) -> Result<Option<Tokens>, PlayError> {
        let Some(renewable) = self.renewable(refresh_token) else {
            return Ok(None);
        };
        let played = self.play(Command::Renew {
            login: renewable.login,
            grant: renewable.grant,
            generation: renewable.generation,
        })?;
        Ok(match played {
            Played::Tokens(tokens) => Some(tokens),
            _ => None,
        })
    }

    pub(crate) fn apply_issue(
        &self,
        now: Second,
        login: LoginId,
        terms: TokenTerms,
        consent: Option<&str>,
    ) -> Result<Played, PlayError> {
        if !(1..=MAX_LIFE_S).contains(&terms.life_s) {
            return Err(PlayError::OutOfBounds("life_s"));
        }
        let grant = self.add_grant(login)?;
        if let Some(consent) = consent {
            let authorised = Authorised {
                login,
                grant,
                since: now,
            };
            self.authorise(consent, authorised);
        }
        let renewal = Renewal {
            terms,
            generation: 0,
        };
        Ok(Played::Tokens(self.hand_out(now, login, grant, renewal)?))
    }

    pub(crate) fn apply_renew(
        &self,
        now: Second,
        login: LoginId,
        grant: u32,
        generation: u64,
    ) -> Result<Played, PlayError> {
        let found = self.find(login)?;
        let renewal = {
            let mut state = found.state();
            let number = grant as usize;
            let renewal = state.renewals.get(&grant).copied();
            let active = state.grants.get(number) == Some(&ConsentState::Active);
            let Some(renewal) = renewal.filter(|_| active) else {
                return Ok(Played::Done);
            };
            if renewal.terms.rotate && generation != renewal.generation {
                if let Some(consent) = state.grants.get_mut(number) {
                    *consent = ConsentState::Revoked;
                }
                return Ok(Played::Done);
            }
            renewal
        };
        let next = Renewal {
            generation: renewal.generation + 1,
            ..renewal
        };
        Ok(Played::Tokens(self.hand_out(now, login, grant, next)?))
    }

    /// Makes the tokens of a generation known. The access token before the last is forgotten.
    fn hand_out(
        &self,
        now: Second,
        login: LoginId,
        grant: u32,
        renewal: Renewal,
    ) -> Result<Tokens, PlayError> {
        let found = self.find(login)?;
        found.state().renewals.insert(grant, renewal);
        let generation = renewal.generation;
        let access = self.text(b"access", login, grant, generation);
        let shown = if renewal.terms.rotate { generation } else { 0 };
        let refresh = self.text(b"refresh", login, grant, shown);
        let stale = generation
            .checked_sub(2)
            .map(|old| self.text(b"access", login, grant, old));
        let opens = Grant {
            login: found,
            number: grant as usize,
            ends: Some(now.saturating_add(renewal.terms.life_s.into())),
        };
        let renewable = Renewable {
            login,
            grant,
            generation: shown,
        };
        self.remember(&access, opens, &refresh, renewable, stale.as_ref());
        Ok(Tokens {
            access_token: access,
            refresh_token: refresh,
            expires_in: renewal.terms.life_s,
        })
    }

    /// Derived from the seed, so that it outlives a restart.
    fn text(&self, kind: &[u8], login: LoginId, grant: u32, generation: u64) -> Token {
        let digest = digest(&[
            kind,
            &self.options().seed.to_be_bytes(),
            &login.0.to_be_bytes(),
            &grant.to_be_bytes(),
            &generation.to_be_bytes(),
        ]);
        Token::new(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}
