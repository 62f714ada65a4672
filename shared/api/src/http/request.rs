//! One request: [`ApiRequest`], with its input and, where it carries a key, the access of the calling app
//! ([`AppScope`]).
//!
//! The rule: everything that a request names by an id is read through its scope, which compares it with the app.

use std::sync::Arc;

use jiff::Timestamp;
use okra_app::{AppScope, Services};
use okra_store::{Account, App, Consistency, Customer, RecordHead};

use crate::http::{
    envelope::ApiError,
    input::{ACCOUNT, CUSTOMER, Input, RECORD},
};

/// One request.
pub(crate) struct ApiRequest {
    pub(crate) services: Arc<Services>,
    pub(crate) input: Input,
    scope: Option<AppScope>,
}

impl ApiRequest {
    /// A request of an app; without one on a route that needs no key.
    pub(crate) fn new(services: Arc<Services>, input: Input, app: Option<Arc<App>>) -> Self {
        let scope = app.map(|app| AppScope::new(Arc::clone(&services), app));
        Self {
            services,
            input,
            scope,
        }
    }

    /// The access of the calling app. Every route that needs a key has one.
    pub(crate) fn scope(&self) -> Result<&AppScope, ApiError> {
        self.scope.as_ref().ok_or_else(ApiError::unauthorised)
    }

    /// The calling app, where the request carries a key.
    pub(crate) fn find_app(&self) -> Option<&App> {
        self.scope.as_ref().map(AppScope::app)
    }

    /// The calling app.
    pub(crate) fn require_app(&self) -> Result<&App, ApiError> {
        Ok(self.scope()?.app())
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.services.clock.now()
    }

    /// The customer that the request names.
    pub(crate) async fn load_requested_customer(&self) -> Result<Customer, ApiError> {
        let customer = self.input.require_id(CUSTOMER)?;
        Ok(self.scope()?.load_own_customer(customer).await?)
    }

    /// The account that the request names.
    pub(crate) async fn load_requested_account(&self) -> Result<Account, ApiError> {
        let account = self.input.require_id(ACCOUNT)?;
        Ok(self.scope()?.load_own_account(account).await?)
    }

    /// The record that the request names.
    pub(crate) async fn load_requested_record(&self) -> Result<RecordHead, ApiError> {
        let record = self.input.require_id(RECORD)?;
        let scope = self.scope()?;
        Ok(scope.load_own_record(record, Consistency::Eventual).await?)
    }
}
