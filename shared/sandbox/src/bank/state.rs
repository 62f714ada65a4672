//! What a bank holds: [`SandboxBank`], its registry of logins, tokens and consents, and the lookups in it.
//!
//! Rule: the registry's lock and a login's lock are never held at the same time.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use data_encoding::HEXLOWER;
use okra_core::model::bank::BankStandard;
use sha2::{Digest, Sha256};

use super::{
    error::CommandError,
    journal::Journal,
    login::{AuthorisedConsent, BankLogin, SandboxGrant, lock_mutex},
    options::{MAX_LOGINS, SandboxClock, SandboxOptions},
    tokens::{RefreshTokenGrant, SandboxToken},
};
use crate::{
    account::{AccountProfile, RowSource, SandboxAccount},
    authorise::session::AuthorisationState,
    command::LoginId,
    fault::Faults,
    response_cache::CacheBudget,
    rows::movement::UnixSeconds,
};

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
    /// Held while a command is executed, so that commands take effect one after the other.
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

impl SandboxBank {
    /// A bank that forgets its commands when it is dropped.
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

    /// Requests to the bank's API so far, rejected ones included.
    pub fn call_count(&self) -> u64 {
        self.0.call_count.load(Ordering::Relaxed)
    }

    /// Counts a request to the bank's API, and returns its number.
    pub(crate) fn count_call(&self) -> u64 {
        self.0.call_count.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn options(&self) -> &SandboxOptions {
        &self.0.options
    }

    pub(crate) fn current_second(&self) -> UnixSeconds {
        (self.0.clock)().as_second()
    }

    pub(crate) fn lock_faults(&self) -> MutexGuard<'_, Faults> {
        lock_mutex(&self.0.faults)
    }

    pub(super) fn lock_journal(&self) -> MutexGuard<'_, Option<Journal>> {
        lock_mutex(&self.0.journal)
    }

    pub(super) fn cache_budget(&self) -> &Arc<CacheBudget> {
        &self.0.cache_budget
    }

    /// The logins that users have begun on the login page.
    pub(crate) fn authorisation_state(&self) -> &AuthorisationState {
        &self.0.authorisation_state
    }

    /// An id of 32 hexadecimal digits that nothing else has. Derived from the seed, as tokens are.
    pub(crate) fn generate_id(&self, kind: &str) -> String {
        let number = self.authorisation_state().next_id_number();
        let mut hash = Sha256::new();
        for part in [
            kind.as_bytes(),
            &self.options().seed.to_be_bytes(),
            &self.current_second().to_be_bytes(),
            &number.to_be_bytes(),
        ] {
            hash.update(part);
        }
        HEXLOWER.encode(&hash.finalize()[..16])
    }

    pub(super) fn all_logins(&self) -> Vec<Arc<BankLogin>> {
        self.read_registry().logins.clone()
    }

    pub(crate) fn login_count(&self) -> usize {
        self.read_registry().logins.len()
    }

    pub(crate) fn require_login(&self, id: LoginId) -> Result<Arc<BankLogin>, CommandError> {
        let index = id.0.checked_sub(1).ok_or(CommandError::NoSuchLogin)?;
        let registry = self.read_registry();
        let login = registry.logins.get(index as usize);
        login.cloned().ok_or(CommandError::NoSuchLogin)
    }

    /// What an access token opens.
    pub(crate) fn find_grant(&self, token: &str) -> Option<SandboxGrant> {
        self.read_registry().tokens.get(token).cloned()
    }

    /// What a refresh token stands for.
    pub(super) fn find_refresh_token(&self, refresh_token: &str) -> Option<RefreshTokenGrant> {
        self.read_registry()
            .refresh_tokens
            .get(refresh_token)
            .copied()
    }

    /// A consent that a user authorised.
    pub(crate) fn find_authorised_consent(&self, consent_id: &str) -> Option<AuthorisedConsent> {
        self.read_registry().consents.get(consent_id).copied()
    }

    pub(super) fn store_authorised_consent(&self, consent_id: &str, authorised: AuthorisedConsent) {
        self.write_registry()
            .consents
            .insert(consent_id.to_owned(), authorised);
    }

    pub(super) fn store_access_token(&self, token: &SandboxToken, grant: SandboxGrant) {
        self.write_registry()
            .tokens
            .insert(token.as_str().to_owned(), grant);
    }

    pub(super) fn store_refresh_token(&self, token: &SandboxToken, grant: RefreshTokenGrant) {
        self.write_registry()
            .refresh_tokens
            .insert(token.as_str().to_owned(), grant);
    }

    pub(super) fn remove_access_token(&self, token: &SandboxToken) {
        self.write_registry().tokens.remove(token.as_str());
    }

    /// Adds a login that is not in the journal, with one account.
    ///
    /// # Errors
    ///
    /// [`CommandError::LimitReached`] for logins.
    pub(crate) fn add_unrecorded_login(
        &self,
        standard: BankStandard,
        profile: AccountProfile,
        row_source: RowSource,
    ) -> Result<LoginId, CommandError> {
        let name = profile.name.clone();
        let account = SandboxAccount::new(profile, row_source, self.cache_budget());
        self.register_login(name, standard, |_| vec![account])
    }

    /// Adds a login with its first grant and that grant's token.
    ///
    /// # Errors
    ///
    /// [`CommandError::LimitReached`] for logins.
    pub(super) fn register_login(
        &self,
        name: String,
        standard: BankStandard,
        accounts: impl FnOnce(LoginId) -> Vec<SandboxAccount>,
    ) -> Result<LoginId, CommandError> {
        let mut registry = self.write_registry();
        if registry.logins.len() >= MAX_LOGINS {
            return Err(CommandError::LimitReached("logins"));
        }
        let number = u32::try_from(registry.logins.len() + 1)
            .map_err(|_| CommandError::LimitReached("logins"))?;
        let id = LoginId(number);
        let login = Arc::new(BankLogin::new(id, name, standard, accounts(id)));
        registry.logins.push(Arc::clone(&login));
        let grant = SandboxGrant {
            login,
            grant_number: 0,
            expires_at: None,
        };
        let token = SandboxToken::for_grant(self.options().seed, id, 0);
        registry.tokens.insert(token.into_string(), grant);
        Ok(id)
    }

    // A poisoned lock is still good: a map is changed by one call that either happened or did not.
    fn read_registry(&self) -> RwLockReadGuard<'_, LoginRegistry> {
        let registry = self.0.registry.read();
        registry.unwrap_or_else(PoisonError::into_inner)
    }

    fn write_registry(&self) -> RwLockWriteGuard<'_, LoginRegistry> {
        let registry = self.0.registry.write();
        registry.unwrap_or_else(PoisonError::into_inner)
    }
}
