//! One login: [`BankLogin`], the [`LoginState`] behind its lock, and the [`SandboxGrant`] that a token opens.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use okra_core::model::bank::BankStandard;

use super::tokens::TokenRenewal;
use crate::{
    account::SandboxAccount,
    command::LoginId,
    fault::{ConsentState, Faults},
    rows::movement::UnixSeconds,
};

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
    /// When the token expires; where absent, with its grant.
    pub(crate) expires_at: Option<UnixSeconds>,
}

impl SandboxGrant {
    /// The state of the consent behind the token. Grants are never removed, so a missing one cannot be.
    pub(crate) fn consent_state(&self, state: &LoginState) -> ConsentState {
        let grant = state.grants.get(self.grant_number);
        debug_assert!(grant.is_some(), "a token without its grant");
        grant.copied().unwrap_or(ConsentState::Revoked)
    }

    /// True where the token itself has expired, whatever its grant.
    pub(crate) fn is_expired_at(&self, now: UnixSeconds) -> bool {
        self.expires_at.is_some_and(|ends| ends <= now)
    }
}

/// A login of the bank. What is fixed about it is outside the lock.
pub(crate) struct BankLogin {
    pub(super) id: LoginId,
    pub(super) name: String,
    pub(super) standard: BankStandard,
    state: Mutex<LoginState>,
}

/// What changes about a login. One lock for each login, held while a response is built.
pub(crate) struct LoginState {
    pub(crate) grants: Vec<ConsentState>,
    /// Of the grants whose tokens expire, by the grant's number.
    pub(crate) renewals: HashMap<u32, TokenRenewal>,
    pub(crate) faults: Faults,
    pub(crate) accounts: Vec<SandboxAccount>,
}

impl LoginState {
    /// The last grant whose token does not expire before it, where it is active.
    pub(super) fn active_lasting_grant(&self) -> Option<usize> {
        let number = (0..self.grants.len())
            .rev()
            .find(|&number| !self.has_expiring_tokens(number))?;
        (self.grants.get(number) == Some(&ConsentState::Active)).then_some(number)
    }

    fn has_expiring_tokens(&self, grant_number: usize) -> bool {
        u32::try_from(grant_number).is_ok_and(|number| self.renewals.contains_key(&number))
    }
}

impl BankLogin {
    /// A login with its first grant.
    pub(super) fn new(
        id: LoginId,
        name: String,
        standard: BankStandard,
        accounts: Vec<SandboxAccount>,
    ) -> Self {
        Self {
            id,
            name,
            standard,
            state: Mutex::new(LoginState {
                grants: vec![ConsentState::Active],
                renewals: HashMap::new(),
                faults: Faults::default(),
                accounts,
            }),
        }
    }

    pub(crate) fn lock_state(&self) -> MutexGuard<'_, LoginState> {
        lock_mutex(&self.state)
    }
}

/// Locks also where a holder panicked: states are replaced whole, so nothing behind the lock is half done.
pub(crate) fn lock_mutex<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
