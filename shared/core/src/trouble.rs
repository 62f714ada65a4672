//! Trouble: what a due entry knows of the failures of its record, in eight or sixteen bytes. A refresh
//! that fails as the last one did is recognised by it and writes nothing; one that fails otherwise, or no
//! longer, is not.
//!
//! What answers nonsense, has spent its quota or is refused is left alone by itself: the other accounts
//! of the record, and the other product, are asked as ever. Only a bank's rate limit holds a record as a
//! whole.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    fault::{BankFault, FaultClass},
    ids::AccountId,
    model::Product,
};

/// Refreshes that fail in passing until it is told: one blip is nobody's business.
pub const TOLD_FROM: u8 = 2;

/// The longest that a record is left alone on its own account.
pub const MAX_HOLD: SignedDuration = SignedDuration::from_hours(24);

/// The longest backoff where the bank does not say how long to wait.
const MAX_BACKOFF_MIN: i64 = 6 * 60;

/// Accounts of a record that can be left alone by themselves.
pub const MAX_PLACES: usize = 31;

/// The highest count that is kept.
const MAX_COUNT: u8 = 15;

/// What was wrong with the last refresh, and until when the record is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// 28 bits of a hash of what failed and how.
    hash: u32,
    /// Refreshes that failed one after the other, at most 15.
    count: u8,
    /// Minutes since 1970 until which the places are left alone; 0: they are not.
    until_min: u32,
    /// The places that are.
    places: Places,
}

/// Accounts of a record and products of them, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Places(u64);

impl Places {
    /// All there are.
    pub const WHOLE: Self = Self(u64::MAX);

    /// A product of an account that is the `nth` of its record's, in the order of their ids. One that is
    /// past [`MAX_PLACES`] shares the last.
    pub fn of(nth: usize, product: Product) -> Self {
        let second = usize::from(product == Product::Transactions);
        Self(1 << (2 * nth.min(MAX_PLACES - 1) + second))
    }

    /// True where it holds one of the other's.
    pub const fn holds(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// True where it holds nothing.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// What a refresh heard of the accounts of a record.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// What failed of what was asked.
    pub faults: &'a [(AccountId, Product, BankFault)],
    /// What was left alone, and so not asked.
    pub left_alone: Places,
    /// The record's accounts, in the order of their ids.
    pub accounts: &'a [AccountId],
}

impl Trouble {
    /// The trouble after a refresh at `now`, after `before`; `None` where nothing failed and nothing was
    /// left alone.
    ///
    /// What failed is left alone until the bank said it may be asked again; where the bank did not say,
    /// and where it answers nonsense, for a time that doubles with each failure.
    pub fn after(before: Option<Self>, told: Told<'_>, now: Timestamp) -> Option<Self> {
        let faults = told.faults;
        if faults.is_empty() {
            return before.filter(|_| !told.left_alone.is_empty());
        }
        let count = before.map_or(1, |it| (it.count + 1).min(MAX_COUNT));
        let backoff_min = (1_i64 << (count - 1)).min(MAX_BACKOFF_MIN);
        let wait_s = faults
            .iter()
            .filter_map(|(_, _, fault)| match (fault.class, fault.retry_after_s) {
                (FaultClass::RateLimited | FaultClass::QuotaSpent, Some(seconds)) => {
                    Some(i64::from(seconds).min(MAX_HOLD.as_secs()))
                }
                (
                    FaultClass::RateLimited | FaultClass::ConsentRefused | FaultClass::Nonsense,
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
        let still = before.filter(|_| !told.left_alone.is_empty());
        let until_min = until_min.max(still.map_or(0, |it| it.until_min));
        let places = faults
            .iter()
            .map(|(account, product, fault)| match fault.class {
                FaultClass::RateLimited => Places::WHOLE,
                FaultClass::QuotaSpent | FaultClass::ConsentRefused | FaultClass::Nonsense => {
                    let nth = told.accounts.iter().position(|it| it == account);
                    nth.map_or(Places::WHOLE, |nth| Places::of(nth, *product))
                }
                FaultClass::BankUnavailable | FaultClass::Internal => Places::default(),
            })
            .fold(told.left_alone, Places::and);
        let seen = before.filter(|it| it.hash == hash(faults));
        Some(Self {
            hash: hash(faults),
            // Once it is told and nobody is held, more of the same is not counted: it would be a write.
            count: match seen {
                Some(it) if until.is_none() && it.is_told() => it.count,
                _ => count,
            },
            until_min,
            places: if until_min == 0 {
                Places::default()
            } else {
                places
            },
        })
    }

    /// The same trouble, of a record that is not left alone any more.
    #[must_use]
    pub const fn released(self) -> Self {
        Self {
            until_min: 0,
            places: Places(0),
            ..self
        }
    }

    /// True once it is told to the app.
    pub const fn is_told(self) -> bool {
        self.count >= TOLD_FROM
    }

    /// What is left alone at `now`.
    pub fn left_alone(self, now: Timestamp) -> Places {
        match self.held_until(now) {
            Some(_) => self.places,
            None => Places::default(),
        }
    }

    /// Until when something is left alone, where that is after `now`.
    pub fn held_until(self, now: Timestamp) -> Option<Timestamp> {
        let until = Timestamp::from_second(i64::from(self.until_min) * 60).ok()?;
        (until > now).then_some(until)
    }

    /// As it is stored.
    pub fn to_bytes(self) -> Vec<u8> {
        let word = (u32::from(self.count) << 28) | (self.hash & HASH);
        let mut bytes = word.to_be_bytes().to_vec();
        bytes.extend(self.until_min.to_be_bytes());
        if self.until_min > 0 && self.places != Places::WHOLE {
            bytes.extend(self.places.0.to_be_bytes());
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
            [] if until_min == 0 => Places::default(),
            [] => Places::WHOLE,
            rest => Places(u64::from_be_bytes(rest.try_into().ok()?)),
        };
        Some(Self {
            hash: word & HASH,
            count: u8::try_from(word >> 28).unwrap_or(MAX_COUNT),
            until_min,
            places,
        })
    }
}

const HASH: u32 = (1 << 28) - 1;

/// FNV-1a of the faults, whatever their order; their details are not part of it, because banks put
/// times and ids there.
fn hash(faults: &[(AccountId, Product, BankFault)]) -> u32 {
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
    (hash ^ (hash >> 28)) & HASH
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLASSES: [FaultClass; 6] = [
        FaultClass::BankUnavailable,
        FaultClass::RateLimited,
        FaultClass::QuotaSpent,
        FaultClass::ConsentRefused,
        FaultClass::Nonsense,
        FaultClass::Internal,
    ];

    fn faults(
        class: FaultClass,
        retry_after_s: Option<u32>,
    ) -> Vec<(AccountId, Product, BankFault)> {
        let account = AccountId::derive(&[b"a"]);
        let mut fault = BankFault::new(class, "");
        fault.retry_after_s = retry_after_s;
        vec![(account, Product::Balance, fault)]
    }

    fn after(
        before: Option<Trouble>,
        faults: &[(AccountId, Product, BankFault)],
        now: Timestamp,
    ) -> Option<Trouble> {
        let told = Told {
            faults,
            left_alone: Places::default(),
            accounts: &[AccountId::derive(&[b"a"])],
        };
        Trouble::after(before, told, now)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn a_blip_is_not_told_and_the_same_again_is() {
        let once = after(None, &faults(FaultClass::BankUnavailable, None), at(0));
        let twice = after(once, &faults(FaultClass::BankUnavailable, None), at(60));
        let again = after(twice, &faults(FaultClass::BankUnavailable, None), at(120));
        assert!(!once.unwrap().is_told());
        assert!(twice.unwrap().is_told());
        assert_eq!(again, twice, "more of the same is not written");
        assert_eq!(after(again, &[], at(180)), None);
    }

    #[test]
    fn what_the_bank_says_to_wait_is_waited_and_else_the_wait_doubles() {
        let said = after(None, &faults(FaultClass::RateLimited, Some(90)), at(0)).unwrap();
        assert!(said.held_until(at(89)).is_some());
        assert_eq!(said.held_until(at(150)), None);
        let mut trouble = None;
        let mut waits = Vec::new();
        for _ in 0..12 {
            trouble = after(trouble, &faults(FaultClass::Nonsense, None), at(0));
            let until = trouble.unwrap().held_until(at(0)).unwrap();
            waits.push(until.duration_since(at(0)).as_mins());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360, 360]);
    }

    /// Law 7: an account that answers nonsense is left alone, and nothing else is.
    #[test]
    fn one_account_that_fails_delays_no_other() {
        let accounts = [AccountId::derive(&[b"a"]), AccountId::derive(&[b"b"])];
        let told = |faults: &[(AccountId, Product, BankFault)], left_alone, before, now| {
            let told = Told {
                faults,
                left_alone,
                accounts: &accounts,
            };
            Trouble::after(before, told, now)
        };
        let nothing = Places::default();
        let nonsense = faults(FaultClass::Nonsense, None);
        let first = told(&nonsense, nothing, None, at(0)).unwrap();
        let left = first.left_alone(at(1));
        assert!(left.holds(Places::of(0, Product::Balance)));
        assert!(!left.holds(Places::of(0, Product::Transactions)));
        assert!(!left.holds(Places::of(1, Product::Balance)));
        // The others answer: it is the same trouble, and nothing is written.
        assert_eq!(told(&[], left, Some(first), at(1)), Some(first));
        // The other fails too: both are left alone until the later time.
        let mut other = faults(FaultClass::QuotaSpent, Some(3_600));
        (other[0].0, other[0].1) = (accounts[1], Product::Transactions);
        let both = told(&other, left, Some(first), at(1)).unwrap();
        let left = both.left_alone(at(2));
        assert!(left.holds(Places::of(0, Product::Balance)));
        assert!(left.holds(Places::of(1, Product::Transactions)));
        assert!(both.held_until(at(3_600)).is_some());
        // Its time over, it is asked, and answers.
        assert_eq!(both.left_alone(at(4_000)), nothing);
        assert_eq!(told(&[], nothing, Some(both), at(4_000)), None);
        // A rate limit is the record's.
        let limited = faults(FaultClass::RateLimited, None);
        let whole = told(&limited, nothing, None, at(0)).unwrap();
        assert_eq!(whole.left_alone(at(1)), Places::WHOLE);
    }

    proptest! {
        /// Whatever went wrong, the record is asked again within a day: no trouble is a trap.
        #[test]
        fn no_trouble_holds_for_ever(
            classes in prop::collection::vec(prop::sample::select(CLASSES.to_vec()), 1..40),
            retry in prop::option::of(any::<u32>()),
        ) {
            let mut trouble = None;
            for class in classes {
                trouble = after(trouble, &faults(class, retry), at(0));
                let held = trouble.unwrap().held_until(at(0));
                prop_assert!(held.is_none_or(|until| until <= at(0) + MAX_HOLD + SignedDuration::from_mins(1)));
            }
            prop_assert_eq!(after(trouble, &[], at(1)), None);
        }

        #[test]
        fn trouble_survives_its_bytes(hash in 0..HASH, count in 0..=MAX_COUNT, until_min: u32, places: u64) {
            let places = Places(if until_min == 0 { 0 } else { places });
            let trouble = Trouble { hash, count, until_min, places };
            prop_assert_eq!(Trouble::from_bytes(&trouble.to_bytes()), Some(trouble));
            let whole = Trouble { places: Places::WHOLE, ..trouble };
            prop_assert_eq!(whole.to_bytes().len(), 8);
            prop_assert_eq!(Trouble::from_bytes(&whole.to_bytes()).unwrap().until_min, until_min);
        }
    }
}
