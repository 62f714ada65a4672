//! How a job ended: [`product_result`] says it for one product of a refresh on demand ([`ProductResult`]).
//!
//! The rule: a product of which no account could be read has failed, whatever became of the other product.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::{
    model::{fault::FaultClass, snapshot::Product},
    refresh::commit_plan::AccountFault,
};

/// How a job ended for one product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProductResult {
    /// True where no account of the record could be read.
    pub is_failed: bool,
    /// Why something of it could not be read. What needs the user comes before what passes by itself.
    pub fault_class: Option<FaultClass>,
    /// From when on the bank may be called again, where it said so.
    pub retry_at: Option<Timestamp>,
}

/// How a refresh that ended at `ended_at` ended for a product of a record with `account_count` accounts.
pub fn product_result(
    faults: &[AccountFault],
    product: Product,
    account_count: usize,
    ended_at: Timestamp,
) -> ProductResult {
    let faults: Vec<&AccountFault> = faults.iter().filter(|(_, of, _)| *of == product).collect();
    let failed: BTreeSet<_> = faults.iter().map(|(account, ..)| *account).collect();
    let classes = || faults.iter().map(|(_, _, fault)| fault.class);
    let wait_s = faults
        .iter()
        .filter_map(|(_, _, fault)| fault.retry_after_s);
    ProductResult {
        is_failed: !failed.is_empty() && failed.len() >= account_count,
        fault_class: classes()
            .find(|class| class.needs_user())
            .or_else(|| classes().next()),
        // A time past the last that there is names none.
        retry_at: wait_s.max().and_then(|wait_s| {
            let wait = SignedDuration::from_secs(wait_s.into());
            ended_at.checked_add(wait).ok()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{fault::BankFault, ids::AccountId};

    #[test]
    fn a_product_failed_where_no_account_could_be_read() {
        let fault = |name: u8, product, class, retry_after_s| {
            let mut fault = BankFault::new(class, "");
            fault.retry_after_s = retry_after_s;
            (AccountId::from_bytes([name; 12]), product, fault)
        };
        let faults = [
            fault(1, Product::Balance, FaultClass::RateLimited, Some(30)),
            fault(2, Product::Balance, FaultClass::ConsentRejected, None),
            fault(2, Product::Transactions, FaultClass::Internal, None),
        ];
        let end = Timestamp::UNIX_EPOCH;
        let balance = product_result(&faults, Product::Balance, 2, end);
        assert!(balance.is_failed);
        assert_eq!(balance.fault_class, Some(FaultClass::ConsentRejected));
        assert_eq!(balance.retry_at, Timestamp::from_second(30).ok());
        let transactions = product_result(&faults, Product::Transactions, 2, end);
        assert!(!transactions.is_failed);
        assert_eq!(transactions.fault_class, Some(FaultClass::Internal));
        let whole = product_result(&[], Product::Balance, 2, end);
        assert_eq!((whole.is_failed, whole.fault_class), (false, None));
    }
}
