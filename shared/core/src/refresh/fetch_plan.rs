//! [`FetchPlan`]: which products of which accounts a refresh asks the bank for. A suspended product of an account is
//! left out; everything else of the record is fetched (law 7).

use crate::{
    model::{ids::AccountId, snapshot::Product},
    resilience::failure_state::SuspendedProducts,
};

/// What the bank is asked for in a refresh. `A` is an account in whatever form the connector takes.
#[derive(Clone, Debug)]
pub struct FetchPlan<A> {
    /// Accounts grouped by the products fetched of them: one group where nothing is suspended.
    pub groups: Vec<FetchGroup<A>>,
    /// What is left out.
    pub suspended: SuspendedProducts,
}

/// Accounts of which the same products are fetched.
#[derive(Clone, Debug)]
pub struct FetchGroup<A> {
    /// The products; never empty.
    pub products: Vec<Product>,
    /// The accounts, in the order of the consent.
    pub accounts: Vec<A>,
}

impl<A> FetchPlan<A> {
    /// Plans the fetch of `products` of `accounts`.
    pub fn for_accounts(
        accounts: impl IntoIterator<Item = (AccountId, A)>,
        products: &[Product],
        suspended: SuspendedProducts,
    ) -> Self {
        let mut groups: Vec<FetchGroup<A>> = Vec::with_capacity(1);
        for (id, account) in accounts {
            let mut open = products.to_vec();
            open.retain(|product| !suspended.includes(id, *product));
            match groups.iter_mut().find(|group| group.products == open) {
                Some(group) => group.accounts.push(account),
                None if open.is_empty() => {}
                None => groups.push(FetchGroup {
                    products: open,
                    accounts: vec![account],
                }),
            }
        }
        Self { groups, suspended }
    }

    /// True where nothing is left to fetch.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspended_products_are_left_out_and_the_rest_is_grouped() {
        let ids = [
            AccountId::derive(&[b"a"]),
            AccountId::derive(&[b"b"]),
            AccountId::derive(&[b"c"]),
        ];
        let accounts = || ids.iter().map(|id| (*id, *id));
        let all = Product::ALL;
        let nothing = SuspendedProducts::default();
        let whole = FetchPlan::for_accounts(accounts(), &all, nothing);
        assert_eq!(whole.groups.len(), 1);
        assert_eq!(whole.groups[0].accounts, ids);

        let balance = SuspendedProducts::from_iter([(ids[1], Product::Balance)]);
        let partial = FetchPlan::for_accounts(accounts(), &all, balance);
        assert_eq!(partial.groups.len(), 2);
        assert_eq!(partial.groups[0].accounts, [ids[0], ids[2]]);
        assert_eq!(partial.groups[1].accounts, [ids[1]]);
        assert_eq!(partial.groups[1].products, [Product::Transactions]);

        let none = FetchPlan::for_accounts(accounts(), &all, SuspendedProducts::WholeRecord);
        assert!(none.is_empty());
    }
}
