//! One call: who calls, with what, and what of it is theirs.
//!
//! Everything an app asks for by id comes through here, where it is compared with the app; the answer
//! to what belongs to another app is the answer to what is not there.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use okra_core::{
    bank::BankConfig,
    ids::{AccountId, BankId, CustomerId, RecordId},
};
use okra_store::{Account, App, Consistency, Customer, Head, OwnedBank};

use crate::{
    ApiState,
    envelope::Refusal,
    input::{ACCOUNT, CUSTOMER, Input, RECORD},
};

/// One call.
pub(crate) struct Call {
    pub(crate) state: Arc<ApiState>,
    pub(crate) input: Input,
    app: Option<Arc<App>>,
    /// Customers that were read already.
    customers: Mutex<HashMap<CustomerId, Arc<Customer>>>,
}

impl Call {
    /// A call of an app; of nobody, on a route without a key.
    pub(crate) fn new(state: Arc<ApiState>, input: Input, app: Option<Arc<App>>) -> Self {
        Self {
            state,
            input,
            app,
            customers: Mutex::default(),
        }
    }

    /// The calling app. Routes without a key have none, and no use for one.
    pub(crate) fn app(&self) -> Result<&App, Refusal> {
        self.app.as_deref().ok_or_else(Refusal::unauthorised)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.state.clock.now()
    }

    pub(crate) async fn own_customer(&self, id: CustomerId) -> Result<Customer, Refusal> {
        let customer = self.state.store.customer(id).await?;
        let customer = self.own(customer)?;
        self.remember(customer.clone());
        Ok(customer)
    }

    /// A customer where it is the app's.
    fn own(&self, customer: Option<Customer>) -> Result<Customer, Refusal> {
        let app = self.app()?.id;
        customer
            .filter(|it| it.app == app)
            .ok_or_else(|| Refusal::not_found("customer"))
    }

    /// The accounts of a customer of the app.
    pub(crate) async fn accounts_of_customer(
        &self,
        id: CustomerId,
    ) -> Result<Vec<Account>, Refusal> {
        let found = self.state.store.customer_with_accounts(id).await?;
        let (customer, accounts) = found.unzip();
        self.remember(self.own(customer)?);
        Ok(accounts.unwrap_or_default())
    }

    /// The records of a customer of the app.
    pub(crate) async fn records_of_customer(&self, id: CustomerId) -> Result<Vec<Head>, Refusal> {
        let found = self.state.store.customer_with_records(id).await?;
        let (customer, heads) = found.unzip();
        self.remember(self.own(customer)?);
        Ok(heads.unwrap_or_default())
    }

    fn remember(&self, customer: Customer) {
        let mut known = self
            .customers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        known.insert(customer.id, Arc::new(customer));
    }

    /// A customer that something of the app's names; read once for a call.
    pub(crate) async fn named_customer(
        &self,
        id: CustomerId,
    ) -> Result<Option<Arc<Customer>>, Refusal> {
        let known = |id| {
            let known = self.customers.lock();
            let known = known.unwrap_or_else(PoisonError::into_inner);
            known.get(&id).cloned()
        };
        if let Some(known) = known(id) {
            return Ok(Some(known));
        }
        let Some(customer) = self.state.store.customer(id).await? else {
            return Ok(None);
        };
        self.remember(customer);
        Ok(known(id))
    }

    /// A bank, as it was some seconds ago: for its name. What depends on its settings reads it anew.
    pub(crate) async fn named_bank(&self, id: BankId) -> Result<Option<Arc<OwnedBank>>, Refusal> {
        let state = &self.state;
        Ok(state.kept.bank(&state.store, id, self.now()).await?)
    }

    /// A bank that the app may use.
    pub(crate) async fn own_bank(&self, id: BankId) -> Result<BankConfig, Refusal> {
        let app = self.app()?.id;
        let bank = self.state.store.owned_bank(id).await?;
        let bank = bank.filter(|bank| bank.is_for(Some(app)));
        Ok(bank.ok_or_else(|| Refusal::not_found("bank"))?.config)
    }

    pub(crate) async fn own_account(&self, id: AccountId) -> Result<Account, Refusal> {
        let app = self.app()?.id;
        let found = self.state.store.account_with_customer(id).await?;
        let (account, customer) = found
            .filter(|(account, _)| account.app == app)
            .ok_or_else(|| Refusal::not_found("account"))?;
        if let Some(customer) = customer {
            self.remember(customer);
        }
        Ok(account)
    }

    pub(crate) async fn own_record(
        &self,
        id: RecordId,
        consistency: Consistency,
    ) -> Result<Head, Refusal> {
        let app = self.app()?.id;
        let head = self.state.store.head(id, consistency).await?;
        head.filter(|it| it.app == app)
            .ok_or_else(|| Refusal::not_found("record"))
    }

    /// Counts a call of this name in a window of so many seconds; where there were `most` already, says
    /// when the next window begins.
    pub(crate) async fn over_limit(
        &self,
        name: &str,
        (most, window_s): (u32, u32),
    ) -> Result<Option<Timestamp>, Refusal> {
        let (app, now) = (self.app()?.id, self.now());
        let store = &self.state.store;
        if store.count_call(app, name, (most, window_s), now).await? {
            return Ok(None);
        }
        let window = i64::from(window_s);
        let left = SignedDuration::from_secs(window - now.as_second().rem_euclid(window));
        Ok(Some(now.saturating_add(left).unwrap_or(now)))
    }

    /// The customer asked for.
    pub(crate) async fn customer(&self) -> Result<Customer, Refusal> {
        self.own_customer(self.input.needed_id(CUSTOMER)?).await
    }

    /// The account asked for.
    pub(crate) async fn account(&self) -> Result<Account, Refusal> {
        self.own_account(self.input.needed_id(ACCOUNT)?).await
    }

    /// The record asked for.
    pub(crate) async fn record(&self) -> Result<Head, Refusal> {
        let record = self.input.needed_id(RECORD)?;
        self.own_record(record, Consistency::Eventual).await
    }
}
