//! What the application layer stands on: [`Services`], built once for each process. It joins the functions' context,
//! the keyring of webhooks, the cache of apps and banks, a source of random bytes, and the sandbox bank where there is
//! one ([`SandboxLoginFactory`]).

use std::{ops::Deref, sync::Arc};

use okra_connectors::ConsentSecret;
use okra_core::model::ids::BankId;
use okra_handlers::RuntimeContext;
use okra_store::{App, KeyHash, OwnedBank, StoreError};
use okra_webhooks::Keyring;

use crate::cache::{AppBankCache, CachedBanks};

/// A login at the sandbox bank, with the consent that its customer gave.
#[derive(Clone, Debug)]
pub struct LinkableLogin {
    /// The bank to link it through.
    pub bank: BankId,
    /// The customer's name.
    pub name: String,
    /// The consent.
    pub consent: ConsentSecret,
}

/// Which sandbox login to create.
#[derive(Clone, Debug, Default)]
pub struct CreateLoginRequest {
    /// The customer's name; the sandbox makes one up where it is absent.
    pub name: Option<String>,
    /// The bank; the sandbox chooses one where it is absent.
    pub bank: Option<BankId>,
    /// Number of accounts, 1 to 5.
    pub accounts: u8,
    /// Okra's `low`, `medium` or `high`.
    pub volume: Option<String>,
}

/// Creates logins at the sandbox bank.
pub trait SandboxLoginFactory: Send + Sync {
    /// A new login, with its customer's consent.
    ///
    /// # Errors
    ///
    /// A sentence that says which part of the request is wrong.
    fn create_login(&self, request: CreateLoginRequest) -> Result<LinkableLogin, String>;
}

/// Fills a buffer with random bytes, from which ids and signing secrets are made.
pub type RandomSource = Arc<dyn Fn(&mut [u8]) -> Result<(), RandomnessError> + Send + Sync>;

/// The operating system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no random bytes are available")]
pub struct RandomnessError;

/// What a process stands on: the functions' context (by dereference), and what the application layer adds.
#[derive(Clone)]
pub struct Services {
    context: RuntimeContext,
    keyring: Keyring,
    cache: Arc<AppBankCache>,
    sandbox: Option<Arc<dyn SandboxLoginFactory>>,
    random_source: RandomSource,
}

impl Services {
    /// Services on this context, with the operating system's random bytes.
    pub fn new(context: RuntimeContext, sandbox: Option<Arc<dyn SandboxLoginFactory>>) -> Self {
        let keyring = Keyring::new(context.store.clone(), Arc::clone(&context.vault));
        Self {
            context,
            keyring,
            cache: Arc::default(),
            sandbox,
            random_source: Arc::new(|bytes| getrandom::fill(bytes).map_err(|_| RandomnessError)),
        }
    }

    /// The same services with another source of random bytes.
    #[must_use]
    pub fn with_random_source(mut self, random_source: RandomSource) -> Self {
        self.random_source = random_source;
        self
    }

    /// `N` random bytes.
    ///
    /// # Errors
    ///
    /// [`RandomnessError`].
    pub fn random_bytes<const N: usize>(&self) -> Result<[u8; N], RandomnessError> {
        let mut bytes = [0; N];
        (self.random_source)(&mut bytes)?;
        Ok(bytes)
    }

    /// The secrets that sign webhooks.
    pub const fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// The sandbox bank, where there is one.
    pub fn sandbox(&self) -> Option<&dyn SandboxLoginFactory> {
        self.sandbox.as_deref()
    }

    /// The app of a key that has not expired, as it was up to five seconds ago.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_app_by_key(&self, key: KeyHash) -> Result<Option<Arc<App>>, StoreError> {
        self.cache
            .load_app(&self.store, key, self.clock.now())
            .await
    }

    /// All banks in the order of their ids, as they were up to five seconds ago.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn load_cached_banks(&self) -> Result<CachedBanks, StoreError> {
        self.cache.load_banks(&self.store, self.clock.now()).await
    }

    /// A bank as it was up to five seconds ago, for its name. What depends on its settings reads it from the store.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn load_cached_bank(
        &self,
        bank: BankId,
    ) -> Result<Option<Arc<OwnedBank>>, StoreError> {
        self.cache
            .load_bank(&self.store, bank, self.clock.now())
            .await
    }

    pub(crate) fn cache(&self) -> &AppBankCache {
        &self.cache
    }
}

impl Deref for Services {
    type Target = RuntimeContext;

    fn deref(&self) -> &RuntimeContext {
        &self.context
    }
}
