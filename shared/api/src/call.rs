//! One call: who calls, with what, and what of it is theirs.
//!
//! Everything an app asks for by id comes through here, where it is compared with the app; the answer
//! to what belongs to another app is the answer to what is not there.

use std::sync::Arc;

use jiff::Timestamp;
use okra_core::ids::{AccountId, CustomerId, RecordId};
use okra_store::{Account, App, Consistency, Customer, Head};

use crate::{
    ApiState,
    envelope::Refusal,
    input::{ACCOUNT, CUSTOMER, Input, RECORD},
};

/// One call.
pub(crate) struct Call {
    pub(crate) state: Arc<ApiState>,
    pub(crate) input: Input,
    app: Option<App>,
}

impl Call {
    /// A call of an app; of nobody, on a route without a key.
    pub(crate) const fn new(state: Arc<ApiState>, input: Input, app: Option<App>) -> Self {
        Self { state, input, app }
    }

    /// The calling app. Routes without a key have none, and no use for one.
    pub(crate) fn app(&self) -> Result<&App, Refusal> {
        self.app.as_ref().ok_or_else(Refusal::unauthorised)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.state.clock.now()
    }

    pub(crate) async fn own_customer(&self, id: CustomerId) -> Result<Customer, Refusal> {
        let app = self.app()?.id;
        let customer = self.state.store.customer(id).await?;
        customer
            .filter(|it| it.app == app)
            .ok_or_else(|| Refusal::not_found("customer"))
    }

    pub(crate) async fn own_account(&self, id: AccountId) -> Result<Account, Refusal> {
        let app = self.app()?.id;
        let account = self.state.store.account(id).await?;
        account
            .filter(|it| it.app == app)
            .ok_or_else(|| Refusal::not_found("account"))
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
