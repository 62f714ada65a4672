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

/// Those of the records of which something cannot be had now, for a reason of this class.
pub(crate) async fn find_failing_records(
    web: &WebState,
    heads: &[RecordHead],
    class: FaultClass,
) -> Result<HashSet<RecordId>, PageError> {
    let store = &web.api.store;
    let down: HashSet<BankId> = match class {
        FaultClass::BankUnavailable => {
            let breakers = store.list_bank_breakers().await?;
            let open = breakers.into_iter().filter(|(_, it)| it.is_open());
            open.map(|(bank, _)| bank).collect()
        }
        _ => HashSet::new(),
    };
    let mut customers: Vec<CustomerId> = heads
        .iter()
        .filter(|head| head.status == RecordStatus::Active)
        .map(|head| head.customer)
        .collect();
    customers.sort_unstable();
    customers.dedup();
    let read = customers
        .into_iter()
        .map(|id| store.find_customer_with_accounts(id));
    let read = futures::future::try_join_all(read).await?;
    let accounts = read
        .into_iter()
        .flatten()
        .flat_map(|(_, accounts)| accounts);
    let mut by_record: HashMap<RecordId, Vec<Account>> = HashMap::new();
    for account in accounts {
        by_record.entry(account.record).or_default().push(account);
    }
    let fails = |head: &&RecordHead| match head.status {
        RecordStatus::Invalid => false,
        // A consent that is refused as a whole is the record's state.
        RecordStatus::ReauthorisationRequired => class == FaultClass::ConsentRejected,
        RecordStatus::Active => {
            let accounts = by_record.get(&head.record).map_or(&[][..], Vec::as_slice);
            let states = accounts
                .iter()
                .flat_map(|account| account.product_states.iter());
            let mut of_class = states.filter(|(_, state)| fails_with_class(state, class));
            down.contains(&head.bank) || of_class.next().is_some()
        }
    };
    Ok(heads.iter().filter(fails).map(|head| head.record).collect())
}

fn fails_with_class(state: &ProductState, class: FaultClass) -> bool {
    !state.is_available() && state.class == Some(class)
}
