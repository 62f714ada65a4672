//! Trouble: what a due entry knows of the failures of its record, in eight or sixteen bytes. A refresh
//! that fails as the last one did is recognised by it and writes nothing; one that fails otherwise, or no
//! longer, is not.
//!
//! What answers nonsense, has spent its quota or is refused is left alone by itself: the other accounts
//! of the record, and the other product, are asked as ever. Only a bank's rate limit holds a record as a
//! whole.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::{
    fault::{BankFault, FaultClass},
    ids::AccountId,
    snapshot::Product,
};

/// Refreshes that fail in passing until it is told: one blip is nobody's business.
pub const REPORTED_FROM_FAILURES: u8 = 2;

/// The longest that a record is left alone on its own account.
pub const MAX_SUSPENSION: SignedDuration = SignedDuration::from_hours(24);

/// The longest backoff where the bank does not say how long to wait.
const MAX_BACKOFF_MIN: i64 = 6 * 60;

/// Accounts of a record that can be left alone by themselves.
pub const MAX_SUSPENDABLE_ACCOUNTS: usize = 31;

/// The highest count that is kept.
const MAX_COUNTED_FAILURES: u8 = 15;

/// What was wrong with the last refresh, and until when the record is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureState {
    /// 28 bits of a hash of what failed and how.
    #[serde(rename = "hash")]
    fault_hash: u32,
    /// Refreshes that failed one after the other, at most 15.
    #[serde(rename = "count")]
    consecutive_failures: u8,
    /// Minutes since 1970 until which the places are left alone; 0: they are not.
    #[serde(rename = "until_min")]
    suspended_until_min: u32,
    /// The places that are.
    #[serde(rename = "places")]
    suspended: SuspendedProducts,
}

/// Accounts of a record and products of them, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SuspendedProducts(u64);

impl SuspendedProducts {
    /// All there are.
    pub const ALL: Self = Self(u64::MAX);

    /// A product of an account that is the `nth` of its record's, in the order of their ids. One that is
    /// past [`MAX_PLACES`] shares the last.
    pub fn for_product(account_index: usize, product: Product) -> Self {
        let second = usize::from(product == Product::Transactions);
        Self(1 << (2 * account_index.min(MAX_SUSPENDABLE_ACCOUNTS - 1) + second))
    }

    /// True where it holds one of the other's.
    pub const fn overlaps_with(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Both.
    #[must_use]
    pub const fn union_with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// True where it holds nothing.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// What a refresh heard of the accounts of a record.
#[derive(Clone, Copy, Debug)]
pub struct RefreshFaults<'a> {
    /// What failed of what was asked.
    pub faults: &'a [(AccountId, Product, BankFault)],
    /// What was left alone, and so not asked.
    pub suspended: SuspendedProducts,
    /// The record's accounts, in the order of their ids.
    pub accounts: &'a [AccountId],
}

impl FailureState {
    /// The trouble after a refresh at `now`, after `before`; `None` where nothing failed and nothing was
    /// left alone.
    ///
    /// What failed is left alone until the bank said it may be asked again; where the bank did not say,
    /// and where it answers nonsense, for a time that doubles with each failure.
    pub fn after_refresh(
        before: Option<Self>,
        refresh_faults: RefreshFaults<'_>,
        now: Timestamp,
    ) -> Option<Self> {
        let faults = refresh_faults.faults;
        if faults.is_empty() {
            return before.filter(|_| !refresh_faults.suspended.is_empty());
        }
        let count = before.map_or(1, |it| {
            (it.consecutive_failures + 1).min(MAX_COUNTED_FAILURES)
        });
        let backoff_min = (1_i64 << (count - 1)).min(MAX_BACKOFF_MIN);
        let wait_s = faults
            .iter()
            .filter_map(|(_, _, fault)| match (fault.class, fault.retry_after_s) {
                (FaultClass::RateLimited | FaultClass::QuotaSpent, Some(seconds)) => {
                    Some(i64::from(seconds).min(MAX_SUSPENSION.as_secs()))
                }
                (
                    FaultClass::RateLimited
                    | FaultClass::ConsentRejected
                    | FaultClass::MalformedResponse,
                    _,
                ) => Some(backoff_min * 60),
                // A quota is of a day: it is asked again four times until it must be open.
                (FaultClass::QuotaSpent, None) => Some(MAX_BACKOFF_MIN * 60),
                _ => None,
            })
            .max();
        let until = wait_s.map(|seconds| (now.as_second() + seconds + 59).div_euclid(60));
        let until_min = until.map_or(0, |minute| u32::try_from(minute).unwrap_or(0));
        // What was left alone still is: the longer of two waits is waited for both.
        let still = before.filter(|_| !refresh_faults.suspended.is_empty());
        let until_min = until_min.max(still.map_or(0, |it| it.suspended_until_min));
        let places = faults
            .iter()
            .map(|(account, product, fault)| match fault.class {
                FaultClass::RateLimited => SuspendedProducts::ALL,
                FaultClass::QuotaSpent
                | FaultClass::ConsentRejected
                | FaultClass::MalformedResponse => {
                    let nth = refresh_faults.accounts.iter().position(|it| it == account);
                    nth.map_or(SuspendedProducts::ALL, |nth| {
                        SuspendedProducts::for_product(nth, *product)
                    })
                }
                FaultClass::BankUnavailable | FaultClass::Internal => SuspendedProducts::default(),
            })
            .fold(refresh_faults.suspended, SuspendedProducts::union_with);
        let seen = before.filter(|it| it.fault_hash == hash_faults(faults));
        Some(Self {
            fault_hash: hash_faults(faults),
            // Once it is told and nobody is held, more of the same is not counted: it would be a write.
            consecutive_failures: match seen {
                Some(it) if until.is_none() && it.is_reported() => it.consecutive_failures,
                _ => count,
            },
            suspended_until_min: until_min,
            suspended: if until_min == 0 {
                SuspendedProducts::default()
            } else {
                places
            },
        })
    }

    /// The same trouble, of a record that is not left alone any more.
    #[must_use]
    pub const fn without_suspension(self) -> Self {
        Self {
            suspended_until_min: 0,
            suspended: SuspendedProducts(0),
            ..self
        }
    }

    /// True once it is told to the app.
    pub const fn is_reported(self) -> bool {
        self.consecutive_failures >= REPORTED_FROM_FAILURES
    }

    /// What is left alone at `now`.
    pub fn suspended_products(self, now: Timestamp) -> SuspendedProducts {
        match self.suspended_until(now) {
            Some(_) => self.suspended,
            None => SuspendedProducts::default(),
        }
    }

    /// Until when something is left alone, where that is after `now`.
    pub fn suspended_until(self, now: Timestamp) -> Option<Timestamp> {
        let until = Timestamp::from_second(i64::from(self.suspended_until_min) * 60).ok()?;
        (until > now).then_some(until)
    }

    /// As it is stored.
    pub fn to_bytes(self) -> Vec<u8> {
        let word = (u32::from(self.consecutive_failures) << 28) | (self.fault_hash & HASH_MASK);
        let mut bytes = word.to_be_bytes().to_vec();
        bytes.extend(self.suspended_until_min.to_be_bytes());
        if self.suspended_until_min > 0 && self.suspended != SuspendedProducts::ALL {
            bytes.extend(self.suspended.0.to_be_bytes());
        }
        bytes
    }

    /// As it was stored: eight bytes are of a whole record. `None` for what is neither.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (word, rest) = bytes.split_first_chunk::<4>()?;
        let (until, rest) = rest.split_first_chunk::<4>()?;
        let word = u32::from_be_bytes(*word);
        let until_min = u32::from_be_bytes(*until);
        let places = match rest {
            [] if until_min == 0 => SuspendedProducts::default(),
            [] => SuspendedProducts::ALL,
            rest => SuspendedProducts(u64::from_be_bytes(rest.try_into().ok()?)),
        };
        Some(Self {
            fault_hash: word & HASH_MASK,
            consecutive_failures: u8::try_from(word >> 28).unwrap_or(MAX_COUNTED_FAILURES),
            suspended_until_min: until_min,
            suspended: places,
        })
    }
}

const HASH_MASK: u32 = (1 << 28) - 1;

/// FNV-1a of the faults, whatever their order; their details are not part of it, because banks put
/// times and ids there.
fn hash_faults(faults: &[(AccountId, Product, BankFault)]) -> u32 {
    let mut parts: Vec<_> = faults
        .iter()
        .map(|(account, product, fault)| (*account, *product, fault.class.as_str()))
        .collect();
    parts.sort_unstable();
    let mut hash = 0x811c_9dc5_u32;
    for (account, product, class) in parts {
        let bytes = account.as_bytes().iter();
        for byte in bytes
            .chain(product.as_str().as_bytes())
            .chain(class.as_bytes())
        {
            hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }
    (hash ^ (hash >> 28)) & HASH_MASK
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn single_fault(
        class: FaultClass,
        retry_after_s: Option<u32>,
    ) -> Vec<(AccountId, Product, BankFault)> {
        let account = AccountId::derive(&[b"a"]);
        let mut fault = BankFault::new(class, "");
        fault.retry_after_s = retry_after_s;
        vec![(account, Product::Balance, fault)]
    }

    fn failure_after(
        before: Option<FailureState>,
        faults: &[(AccountId, Product, BankFault)],
        now: Timestamp,
    ) -> Option<FailureState> {
        let told = RefreshFaults {
            faults,
            suspended: SuspendedProducts::default(),
            accounts: &[AccountId::derive(&[b"a"])],
        };
        FailureState::after_refresh(before, told, now)
    }

    fn timestamp_at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn a_blip_is_not_told_and_the_same_again_is() {
        let once = failure_after(
            None,
            &single_fault(FaultClass::BankUnavailable, None),
            timestamp_at(0),
        );
        let twice = failure_after(
            once,
            &single_fault(FaultClass::BankUnavailable, None),
            timestamp_at(60),
        );
        let again = failure_after(
            twice,
            &single_fault(FaultClass::BankUnavailable, None),
            timestamp_at(120),
        );
        assert!(!once.unwrap().is_reported());
        assert!(twice.unwrap().is_reported());
        assert_eq!(again, twice, "more of the same is not written");
        assert_eq!(failure_after(again, &[], timestamp_at(180)), None);
    }

    #[test]
    fn what_the_bank_says_to_wait_is_waited_and_else_the_wait_doubles() {
        let said = failure_after(
            None,
            &single_fault(FaultClass::RateLimited, Some(90)),
            timestamp_at(0),
        )
        .unwrap();
        assert!(said.suspended_until(timestamp_at(89)).is_some());
        assert_eq!(said.suspended_until(timestamp_at(150)), None);
        let mut trouble = None;
        let mut waits = Vec::new();
        for _ in 0..12 {
            trouble = failure_after(
                trouble,
                &single_fault(FaultClass::MalformedResponse, None),
                timestamp_at(0),
            );
            let until = trouble.unwrap().suspended_until(timestamp_at(0)).unwrap();
            waits.push(until.duration_since(timestamp_at(0)).as_mins());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360, 360]);
    }

    /// Law 7: an account that answers nonsense is left alone, and nothing else is.
    #[test]
    fn one_account_that_fails_delays_no_other() {
        let accounts = [AccountId::derive(&[b"a"]), AccountId::derive(&[b"b"])];
        let told = |faults: &[(AccountId, Product, BankFault)], left_alone, before, now| {
            let told = RefreshFaults {
                faults,
                suspended: left_alone,
                accounts: &accounts,
            };
            FailureState::after_refresh(before, told, now)
        };
        let nothing = SuspendedProducts::default();
        let nonsense = single_fault(FaultClass::MalformedResponse, None);
        let first = told(&nonsense, nothing, None, timestamp_at(0)).unwrap();
        let left = first.suspended_products(timestamp_at(1));
        assert!(left.overlaps_with(SuspendedProducts::for_product(0, Product::Balance)));
        assert!(!left.overlaps_with(SuspendedProducts::for_product(0, Product::Transactions)));
        assert!(!left.overlaps_with(SuspendedProducts::for_product(1, Product::Balance)));
        // The others answer: it is the same trouble, and nothing is written.
        assert_eq!(told(&[], left, Some(first), timestamp_at(1)), Some(first));
        // The other fails too: both are left alone until the later time.
        let mut other = single_fault(FaultClass::QuotaSpent, Some(3_600));
        (other[0].0, other[0].1) = (accounts[1], Product::Transactions);
        let both = told(&other, left, Some(first), timestamp_at(1)).unwrap();
        let left = both.suspended_products(timestamp_at(2));
        assert!(left.overlaps_with(SuspendedProducts::for_product(0, Product::Balance)));
        assert!(left.overlaps_with(SuspendedProducts::for_product(1, Product::Transactions)));
        assert!(both.suspended_until(timestamp_at(3_600)).is_some());
        // Its time over, it is asked, and answers.
        assert_eq!(both.suspended_products(timestamp_at(4_000)), nothing);
        assert_eq!(told(&[], nothing, Some(both), timestamp_at(4_000)), None);
        // A rate limit is the record's.
        let limited = single_fault(FaultClass::RateLimited, None);
        let whole = told(&limited, nothing, None, timestamp_at(0)).unwrap();
        assert_eq!(
            whole.suspended_products(timestamp_at(1)),
            SuspendedProducts::ALL
        );
    }

    proptest! {
        /// Whatever went wrong, the record is asked again within a day: no trouble is a trap.
        #[test]
        fn no_trouble_holds_for_ever(
            classes in prop::collection::vec(prop::sample::select(FaultClass::ALL.to_vec()), 1..40),
            retry in prop::option::of(any::<u32>()),
        ) {
            let mut trouble = None;
            for class in classes {
                trouble = failure_after(trouble, &single_fault(class, retry), timestamp_at(0));
                let held = trouble.unwrap().suspended_until(timestamp_at(0));
                prop_assert!(held.is_none_or(|until| until <= timestamp_at(0) + MAX_SUSPENSION + SignedDuration::from_mins(1)));
            }
            prop_assert_eq!(failure_after(trouble, &[], timestamp_at(1)), None);
        }

        #[test]
        fn trouble_survives_its_bytes(hash in 0..HASH_MASK, count in 0..=MAX_COUNTED_FAILURES, until_min: u32, places: u64) {
            let places = SuspendedProducts(if until_min == 0 { 0 } else { places });
            let trouble = FailureState { fault_hash: hash, consecutive_failures: count, suspended_until_min: until_min, suspended: places };
            prop_assert_eq!(FailureState::from_bytes(&trouble.to_bytes()), Some(trouble));
            let whole = FailureState { suspended: SuspendedProducts::ALL, ..trouble };
            prop_assert_eq!(whole.to_bytes().len(), 8);
            prop_assert_eq!(FailureState::from_bytes(&whole.to_bytes()).unwrap().suspended_until_min, until_min);
        }
    }
}
