//! One app's access: [`AppScope`], through which everything that a caller names by an id is read and compared with the
//! calling app.
//!
//! The rule: what belongs to another app is [`AppError::NotFound`], like what does not exist. A scope lives as long as
//! one request and reads each customer once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use okra_core::model::{
    bank::BankConfig,
    ids::{AccountId, AppId, BankId, CustomerId, RecordId},
};
use okra_store::{Account, App, CallLimit, Consistency, Customer, OwnedBank, RecordHead, Store};

use crate::{
    error::{AppError, RetryTime},
    services::Services,
};

/// One app's access to the services, for one request.
pub struct AppScope {
    services: Arc<Services>,
    app: Arc<App>,
    /// The customers that were read already.
    customer_cache: Mutex<HashMap<CustomerId, Arc<Customer>>>,
}

impl AppScope {
    /// The access of an app that has authenticated.
    pub fn new(services: Arc<Services>, app: Arc<App>) -> Self {
        Self {
            services,
            app,
            customer_cache: Mutex::default(),
        }
    }

    /// The access of an app whose id is known: from a link session, for instance.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where the app does not exist.
    pub async fn load_by_id(services: Arc<Services>, app: AppId) -> Result<Self, AppError> {
        let app = services.store.find_app(app).await?;
        let app = app.ok_or(AppError::NotFound { what: "app" })?;
        Ok(Self::new(services, Arc::new(app)))
    }

    /// The app.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// What the process stands on.
    pub const fn services(&self) -> &Arc<Services> {
        &self.services
    }

    pub(crate) fn store(&self) -> &Store {
        &self.services.store
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.services.clock.now()
    }

    /// A customer of the app.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where it is not the app's.
    pub async fn load_own_customer(&self, id: CustomerId) -> Result<Customer, AppError> {
        let customer = self.store().find_customer(id).await?;
        let customer = self.check_own_customer(customer)?;
        self.cache_customer(customer.clone());
        Ok(customer)
    }

    /// A customer, where it is the app's.
    fn check_own_customer(&self, customer: Option<Customer>) -> Result<Customer, AppError> {
        customer
            .filter(|customer| customer.app == self.app.id)
            .ok_or(AppError::NotFound { what: "customer" })
    }

    /// The accounts of a customer of the app.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where the customer is not the app's.
    pub async fn load_customer_accounts(&self, id: CustomerId) -> Result<Vec<Account>, AppError> {
        let found = self.store().find_customer_with_accounts(id).await?;
        let (customer, accounts) = found.unzip();
        self.cache_customer(self.check_own_customer(customer)?);
        // A customer that was found came with its accounts, be they none.
        Ok(accounts.unwrap_or_default())
    }

    /// The records of a customer of the app.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where the customer is not the app's.
    pub async fn load_customer_records(&self, id: CustomerId) -> Result<Vec<RecordHead>, AppError> {
        let found = self.store().find_customer_with_records(id).await?;
        let (customer, heads) = found.unzip();
        self.cache_customer(self.check_own_customer(customer)?);
        // A customer that was found came with its records, be they none.
        Ok(heads.unwrap_or_default())
    }

    fn cache_customer(&self, customer: Customer) {
        let mut cached = self
            .customer_cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        cached.insert(customer.id, Arc::new(customer));
    }

    fn find_cached_customer(&self, id: CustomerId) -> Option<Arc<Customer>> {
        let cached = self.customer_cache.lock();
        let cached = cached.unwrap_or_else(PoisonError::into_inner);
        cached.get(&id).cloned()
    }

    /// A customer that something of the app's names; read once for a request.
    ///
    /// # Errors
    ///
    /// [`AppError::Internal`] where the store cannot be read.
    pub async fn load_cached_customer(
        &self,
        id: CustomerId,
    ) -> Result<Option<Arc<Customer>>, AppError> {
        if let Some(customer) = self.find_cached_customer(id) {
            return Ok(Some(customer));
        }
        let Some(customer) = self.store().find_customer(id).await? else {
            return Ok(None);
        };
        self.cache_customer(customer);
        Ok(self.find_cached_customer(id))
    }

    /// A bank as it was up to five seconds ago, for its name.
    ///
    /// # Errors
    ///
    /// [`AppError::Internal`] where the store cannot be read.
    pub async fn load_cached_bank(&self, id: BankId) -> Result<Option<Arc<OwnedBank>>, AppError> {
        Ok(self.services.load_cached_bank(id).await?)
    }

    /// A bank that the app may use.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where it is another app's.
    pub async fn load_visible_bank(&self, id: BankId) -> Result<BankConfig, AppError> {
        let bank = self.store().find_owned_bank(id).await?;
        let bank = bank.filter(|bank| bank.is_visible_to(Some(self.app.id)));
        Ok(bank.ok_or(AppError::NotFound { what: "bank" })?.config)
    }

    /// An account of the app.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where it is not the app's.
    pub async fn load_own_account(&self, id: AccountId) -> Result<Account, AppError> {
        let found = self.store().find_account_with_customer(id).await?;
        let (account, customer) = found
            .filter(|(account, _)| account.app == self.app.id)
            .ok_or(AppError::NotFound { what: "account" })?;
        if let Some(customer) = customer {
            self.cache_customer(customer);
        }
        Ok(account)
    }

    /// A record of the app.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where it is not the app's.
    pub async fn load_own_record(
        &self,
        id: RecordId,
        consistency: Consistency,
    ) -> Result<RecordHead, AppError> {
        let head = self.store().find_head(id, consistency).await?;
        head.filter(|head| head.app == self.app.id)
            .ok_or(AppError::NotFound { what: "record" })
    }

    /// Counts a call of this name against its limit; where the limit is reached already, returns when the next
    /// window begins.
    ///
    /// # Errors
    ///
    /// [`AppError::Internal`] where the store cannot be read.
    pub async fn count_against_limit(
        &self,
        name: &str,
        limit: CallLimit,
    ) -> Result<Option<RetryTime>, AppError> {
        let now = self.now();
        let store = self.store();
        if store.count_call(self.app.id, name, limit, now).await? {
            return Ok(None);
        }
        let window_s = i64::from(limit.window_s);
        let left = SignedDuration::from_secs(window_s - now.as_second().rem_euclid(window_s));
        let ends_at = now.checked_add(left).map_err(AppError::internal)?;
        Ok(Some(RetryTime::new(ends_at, now)))
    }
}
