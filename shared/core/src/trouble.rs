//! Trouble: what a due entry knows of the failures of its record, in eight bytes. A refresh that fails
//! as the last one did is recognised by it and writes nothing; one that fails otherwise, or no longer,
//! is not.

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

/// The highest count that is kept.
const MAX_COUNT: u8 = 15;

/// What was wrong with the last refresh, and until when the record is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// 28 bits of a hash of what failed and how.
    hash: u32,
    /// Refreshes that failed one after the other, at most 15.
    count: u8,
    /// Minutes since 1970 until which the record is left alone; 0: it is not.
    until_min: u32,
}

impl Trouble {
    /// The trouble of a refresh at `now` with these faults, after `before`; `None` for no fault.
    ///
    /// It is left alone until the bank said it may be asked again; where the bank did not say, and
    /// where it answers nonsense, for a time that doubles with each failure.
    pub fn after(
        before: Option<Self>,
        faults: &[(AccountId, Product, BankFault)],
        now: Timestamp,
    ) -> Option<Self> {
        if faults.is_empty() {
            return None;
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
        let seen = before.filter(|it| it.hash == hash(faults));
        Some(Self {
            hash: hash(faults),
            // Once it is told and nobody is held, more of the same is not counted: it would be a write.
            count: match seen {
                Some(it) if until.is_none() && it.is_told() => it.count,
                _ => count,
            },
            until_min: until.map_or(0, |minute| u32::try_from(minute).unwrap_or(0)),
        })
    }

    /// The same trouble, of a record that is not left alone any more.
    #[must_use]
    pub const fn released(self) -> Self {
        Self {
            until_min: 0,
            ..self
        }
    }

    /// True once it is told to the app.
    pub const fn is_told(self) -> bool {
        self.count >= TOLD_FROM
    }

    /// Until when the record is left alone, where that is after `now`.
    pub fn held_until(self, now: Timestamp) -> Option<Timestamp> {
        let until = Timestamp::from_second(i64::from(self.until_min) * 60).ok()?;
        (until > now).then_some(until)
    }

    /// As it is stored.
    pub fn to_bytes(self) -> [u8; 8] {
        let word = (u32::from(self.count) << 28) | (self.hash & HASH);
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&word.to_be_bytes());
        bytes[4..].copy_from_slice(&self.until_min.to_be_bytes());
        bytes
    }

    /// As it was stored.
    pub fn from_bytes([a, b, c, d, e, f, g, h]: [u8; 8]) -> Self {
        let word = u32::from_be_bytes([a, b, c, d]);
        Self {
            hash: word & HASH,
            count: u8::try_from(word >> 28).unwrap_or(MAX_COUNT),
            until_min: u32::from_be_bytes([e, f, g, h]),
        }
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

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn a_blip_is_not_told_and_the_same_again_is() {
        let once = Trouble::after(None, &faults(FaultClass::BankUnavailable, None), at(0));
        let twice = Trouble::after(once, &faults(FaultClass::BankUnavailable, None), at(60));
        let again = Trouble::after(twice, &faults(FaultClass::BankUnavailable, None), at(120));
        assert!(!once.unwrap().is_told());
        assert!(twice.unwrap().is_told());
        assert_eq!(again, twice, "more of the same is not written");
        assert_eq!(Trouble::after(again, &[], at(180)), None);
    }

    #[test]
    fn what_the_bank_says_to_wait_is_waited_and_else_the_wait_doubles() {
        let said = Trouble::after(None, &faults(FaultClass::RateLimited, Some(90)), at(0)).unwrap();
        assert!(said.held_until(at(89)).is_some());
        assert_eq!(said.held_until(at(150)), None);
        let mut trouble = None;
        let mut waits = Vec::new();
        for _ in 0..12 {
            trouble = Trouble::after(trouble, &faults(FaultClass::Nonsense, None), at(0));
            let until = trouble.unwrap().held_until(at(0)).unwrap();
            waits.push(until.duration_since(at(0)).as_mins());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360, 360]);
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
                trouble = Trouble::after(trouble, &faults(class, retry), at(0));
                let held = trouble.unwrap().held_until(at(0));
                prop_assert!(held.is_none_or(|until| until <= at(0) + MAX_HOLD + SignedDuration::from_mins(1)));
            }
            prop_assert_eq!(Trouble::after(trouble, &[], at(1)), None);
        }

        #[test]
        fn trouble_survives_its_bytes(hash in 0..HASH, count in 0..=MAX_COUNT, until_min: u32) {
            let trouble = Trouble { hash, count, until_min };
            prop_assert_eq!(Trouble::from_bytes(trouble.to_bytes()), trouble);
        }
    }
}
