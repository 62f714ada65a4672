//! Which records fail now, by class of fault.

use std::collections::{HashMap, HashSet};

use okra_core::{
    model::{
        fault::FaultClass,
        ids::{BankId, CustomerId, RecordId},
    },
    sync::state::ProductState,
};
use okra_store::{Account, RecordHead, RecordStatus};

use crate::{page_error::PageError, web_state::WebState};

/// Those of these records that fail now with a class of fault: something of them is unavailable for that reason.
pub(crate) async fn find_failing_records(
    web: &WebState,
    heads: &[RecordHead],
    class: FaultClass,
) -> Result<HashSet<RecordId>, PageError> {
    let down = match class {
        FaultClass::BankUnavailable => load_banks_down(web).await?,
        _ => HashSet::new(),
    };
    let accounts = load_accounts_by_record(web, heads).await?;
    let failing = heads.iter().filter(|head| match head.status {
        RecordStatus::Invalid => false,
        // A consent that is not accepted at all is the state of the record, not of an account.
        RecordStatus::ReauthorisationRequired => class == FaultClass::ConsentRejected,
        RecordStatus::Active => {
            let accounts = accounts.get(&head.record).map_or(&[][..], Vec::as_slice);
            let mut states = accounts.iter().flat_map(|it| it.product_states.iter());
            down.contains(&head.bank) || states.any(|(_, state)| fails_with_class(state, class))
        }
    });
    Ok(failing.map(|head| head.record).collect())
}

/// The banks whose circuit is open.
async fn load_banks_down(web: &WebState) -> Result<HashSet<BankId>, PageError> {
    let breakers = web.services.store.list_bank_breakers().await?;
    let open = breakers.into_iter().filter(|(_, it)| it.is_open());
    Ok(open.map(|(bank, _)| bank).collect())
}

/// The accounts of the active ones of these records: one query for each customer.
async fn load_accounts_by_record(
    web: &WebState,
    heads: &[RecordHead],
) -> Result<HashMap<RecordId, Vec<Account>>, PageError> {
    let mut customers: Vec<CustomerId> = heads
        .iter()
        .filter(|head| head.status == RecordStatus::Active)
        .map(|head| head.customer)
        .collect();
    customers.sort_unstable();
    customers.dedup();
    let store = &web.services.store;
    let reads = customers
        .into_iter()
        .map(|id| store.find_customer_with_accounts(id));
    let customers = futures::future::try_join_all(reads).await?;
    let accounts = customers.into_iter().flatten();
    let mut by_record: HashMap<RecordId, Vec<Account>> = HashMap::new();
    for account in accounts.flat_map(|(_, accounts)| accounts) {
        by_record.entry(account.record).or_default().push(account);
    }
    Ok(by_record)
}

fn fails_with_class(state: &ProductState, class: FaultClass) -> bool {
    !state.is_available() && state.class == Some(class)
}
