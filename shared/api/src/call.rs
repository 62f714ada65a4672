//! One call: who calls, with what, and what of it is theirs.
//!
//! Everything an app asks for by id comes through here, where it is compared with the app; the answer
//! to what belongs to another app is the answer to what is not there.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use okra_core::model::{
    bank::BankConfig,
    ids::{AccountId, BankId, CustomerId, RecordId},
};
use okra_store::{Account, App, CallLimit, Consistency, Customer, OwnedBank, RecordHead};

use crate::{
    ApiState,
    envelope::ApiError,
    input::{ACCOUNT, CUSTOMER, Input, RECORD},
};

/// One call.
pub(crate) struct ApiRequest {
    pub(crate) state: Arc<ApiState>,
    pub(crate) input: Input,
    app: Option<Arc<App>>,
    /// Customers that were read already.
    customer_cache: Mutex<HashMap<CustomerId, Arc<Customer>>>,
}

impl ApiRequest {
    /// A call of an app; of nobody, on a route without a key.
    pub(crate) fn new(state: Arc<ApiState>, input: Input, app: Option<Arc<App>>) -> Self {
        Self {
            state,
            input,
            app,
            customer_cache: Mutex::default(),
        }
    }

    /// The calling app. Routes without a key have none, and no use for one.
    pub(crate) fn require_app(&self) -> Result<&App, ApiError> {
        self.app.as_deref().ok_or_else(ApiError::unauthorised)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.state.clock.now()
    }

    pub(crate) async fn load_own_customer(&self, id: CustomerId) -> Result<Customer, ApiError> {
        let customer = self.state.store.find_customer(id).await?;
        let customer = self.check_own_customer(customer)?;
        self.cache_customer(customer.clone());
        Ok(customer)
    }

    /// A customer where it is the app's.
    fn check_own_customer(&self, customer: Option<Customer>) -> Result<Customer, ApiError> {
        let app = self.require_app()?.id;
        customer
            .filter(|it| it.app == app)
            .ok_or_else(|| ApiError::not_found("customer"))
    }

    /// The accounts of a customer of the app.
    pub(crate) async fn load_customer_accounts(
        &self,
        id: CustomerId,
    ) -> Result<Vec<Account>, ApiError> {
        let found = self.state.store.find_customer_with_accounts(id).await?;
        let (customer, accounts) = found.unzip();
        self.cache_customer(self.check_own_customer(customer)?);
        Ok(accounts.unwrap_or_default())
    }

    /// The records of a customer of the app.
    pub(crate) async fn load_customer_records(
        &self,
        id: CustomerId,
    ) -> Result<Vec<RecordHead>, ApiError> {
        let found = self.state.store.find_customer_with_records(id).await?;
        let (customer, heads) = found.unzip();
        self.cache_customer(self.check_own_customer(customer)?);
        Ok(heads.unwrap_or_default())
    }

    fn cache_customer(&self, customer: Customer) {
        let mut known = self
            .customer_cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        known.insert(customer.id, Arc::new(customer));
    }

    /// A customer that something of the app's names; read once for a call.
    pub(crate) async fn load_cached_customer(
        &self,
        id: CustomerId,
    ) -> Result<Option<Arc<Customer>>, ApiError> {
        let known = |id| {
            let known = self.customer_cache.lock();
            let known = known.unwrap_or_else(PoisonError::into_inner);
            known.get(&id).cloned()
        };
        if let Some(known) = known(id) {
            return Ok(Some(known));
        }
        let Some(customer) = self.state.store.find_customer(id).await? else {
            return Ok(None);
        };
        self.cache_customer(customer);
        Ok(known(id))
    }

    /// A bank, as it was some seconds ago: for its name. What depends on its settings reads it anew.
    pub(crate) async fn load_cached_bank(
        &self,
        id: BankId,
    ) -> Result<Option<Arc<OwnedBank>>, ApiError> {
        let state = &self.state;
        Ok(state.cache.load_bank(&state.store, id, self.now()).await?)
    }

    /// A bank that the app may use.
    pub(crate) async fn load_own_bank(&self, id: BankId) -> Result<BankConfig, ApiError> {
        let app = self.require_app()?.id;
        let bank = self.state.store.find_owned_bank(id).await?;
        let bank = bank.filter(|bank| bank.is_visible_to(Some(app)));
        Ok(bank.ok_or_else(|| ApiError::not_found("bank"))?.config)
    }

    pub(crate) async fn load_own_account(&self, id: AccountId) -> Result<Account, ApiError> {
        let app = self.require_app()?.id;
        let found = self.state.store.find_account_with_customer(id).await?;
        let (account, customer) = found
            .filter(|(account, _)| account.app == app)
            .ok_or_else(|| ApiError::not_found("account"))?;
        if let Some(customer) = customer {
            self.cache_customer(customer);
        }
        Ok(account)
    }

    pub(crate) async fn load_own_record(
        &self,
        id: RecordId,
        consistency: Consistency,
    ) -> Result<RecordHead, ApiError> {
        let app = self.require_app()?.id;
        let head = self.state.store.find_head(id, consistency).await?;
        head.filter(|it| it.app == app)
            .ok_or_else(|| ApiError::not_found("record"))
    }

    /// Counts a call of this name; where the limit is reached, returns when the next window begins.
    pub(crate) async fn count_against_limit(
        &self,
        limit_name: &str,
        limit: CallLimit,
    ) -> Result<Option<Timestamp>, ApiError> {
        let (app, now) = (self.require_app()?.id, self.now());
        let store = &self.state.store;
        if store.count_call(app, limit_name, limit, now).await? {
            return Ok(None);
        }
        let window = i64::from(limit.window_s);
        let left = SignedDuration::from_secs(window - now.as_second().rem_euclid(window));
        Ok(Some(now.saturating_add(left).unwrap_or(now)))
    }

    /// The customer asked for.
    pub(crate) async fn load_requested_customer(&self) -> Result<Customer, ApiError> {
        self.load_own_customer(self.input.require_id(CUSTOMER)?)
            .await
    }

    /// The account asked for.
    pub(crate) async fn load_requested_account(&self) -> Result<Account, ApiError> {
        self.load_own_account(self.input.require_id(ACCOUNT)?).await
    }

    /// The record asked for.
    pub(crate) async fn load_requested_record(&self) -> Result<RecordHead, ApiError> {
        let record = self.input.require_id(RECORD)?;
        self.load_own_record(record, Consistency::Eventual).await
    }
}
