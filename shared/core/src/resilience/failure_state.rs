//! What a due entry knows of the failures of its record. The cast: [`FailureState`], what failed and until when
//! something is suspended, and [`SuspendedProducts`], which products of which accounts are.
//!
//! The rules: a refresh that fails as the last one did has an equal state and writes nothing; one that fails
//! otherwise, or no longer, has another. A malformed response, a spent quota and a rejected consent suspend only the
//! product of the account that they concern: the other accounts and the other product are fetched as ever. A bank's
//! rate limit suspends the whole record.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::{
    fault::{BankFault, FaultClass},
    ids::AccountId,
    snapshot::Product,
};

/// Consecutive refreshes that fail before the failure is reported to the app, where it may pass by itself.
pub const REPORTED_FROM_FAILURES: u8 = 2;

/// The longest suspension.
pub const MAX_SUSPENSION: SignedDuration = SignedDuration::from_hours(24);

/// The longest backoff where the bank does not say how long to wait.
const MAX_BACKOFF_MIN: i64 = 6 * 60;

/// Accounts of a record that can have suspended products; with more, the whole record is suspended. A record has 25
/// accounts at most.
pub const MAX_SUSPENDED_ACCOUNTS: usize = 31;

/// The highest number of consecutive failures that is counted.
const MAX_COUNTED_FAILURES: u8 = 15;

/// The failures of a record's last refresh, and until when something of it is suspended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureState {
    /// 28 bits of a hash of what failed and how.
    #[serde(rename = "hash")]
    fault_hash: u32,
    /// Refreshes that failed in a row, at most [`MAX_COUNTED_FAILURES`].
    #[serde(rename = "count")]
    consecutive_failures: u8,
    /// Minutes since 1970 until which the products are suspended; 0: nothing is.
    #[serde(rename = "until_min")]
    suspended_until_min: u32,
    /// What is suspended until then.
    #[serde(rename = "places")]
    suspended: StoredSuspension,
}

/// What is suspended, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "SuspensionJson", into = "SuspensionJson")]
enum StoredSuspension {
    /// Products of accounts, by what is stable of them.
    Products(SuspendedProducts),
    /// The form of earlier versions: two bits for each account of the record, in the order of the account ids.
    Positions(u64),
}

/// Products of a record's accounts whose refresh is suspended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SuspendedProducts {
    /// These, ordered by account; at most [`MAX_SUSPENDED_ACCOUNTS`].
    Products(Box<[SuspendedAccount]>),
    /// All products of all accounts.
    WholeRecord,
}

/// The suspended products of one account: [`ACCOUNT_HASH_BITS`] bits of the account's id, then one bit for each
/// product.
///
/// The id's first bytes are a hash of the record and the bank's account id, so they stay when accounts come and go.
/// That two accounts of a record share them happens once in 14,000 records of 25 accounts, and then both are
/// suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SuspendedAccount(u32);

const ACCOUNT_HASH_BITS: u32 = 22;

/// Bits for the products of one account.
const PRODUCT_BITS: u32 = 2;

/// Bytes of a stored [`SuspendedAccount`].
const SUSPENDED_ACCOUNT_BYTES: usize = 3;

const _: () = assert!((ACCOUNT_HASH_BITS + PRODUCT_BITS) as usize == 8 * SUSPENDED_ACCOUNT_BYTES);

impl SuspendedAccount {
    fn new(account: AccountId, product: Product) -> Self {
        let [a, b, c, ..] = *account.as_bytes();
        let hash = u32::from_be_bytes([0, a, b, c]) >> PRODUCT_BITS;
        Self((hash << PRODUCT_BITS) | product_bit(product))
    }

    const fn account_hash(self) -> u32 {
        self.0 >> PRODUCT_BITS
    }

    const fn includes_products_of(self, other: Self) -> bool {
        self.account_hash() == other.account_hash() && self.0 & other.0 & PRODUCT_MASK != 0
    }
}

const PRODUCT_MASK: u32 = (1 << PRODUCT_BITS) - 1;

const fn product_bit(product: Product) -> u32 {
    match product {
        Product::Balance => 1,
        Product::Transactions => 2,
    }
}

impl Default for SuspendedProducts {
    fn default() -> Self {
        Self::Products(Box::default())
    }
}

impl FromIterator<(AccountId, Product)> for SuspendedProducts {
    fn from_iter<T: IntoIterator<Item = (AccountId, Product)>>(products: T) -> Self {
        let products = products.into_iter();
        Self::from_accounts(
            products
                .map(|(account, product)| SuspendedAccount::new(account, product))
                .collect(),
        )
    }
}

impl SuspendedProducts {
    /// Brings entries into their stored order, one for each account.
    fn from_accounts(mut accounts: Vec<SuspendedAccount>) -> Self {
        accounts.sort_unstable_by_key(|it| it.0);
        accounts.dedup_by(|later, earlier| {
            let is_same = later.account_hash() == earlier.account_hash();
            if is_same {
                earlier.0 |= later.0;
            }
            is_same
        });
        match accounts.len() <= MAX_SUSPENDED_ACCOUNTS {
            true => Self::Products(accounts.into_boxed_slice()),
            false => Self::WholeRecord,
        }
    }

    /// True where the product of the account is suspended.
    pub fn includes(&self, account: AccountId, product: Product) -> bool {
        match self {
            Self::Products(accounts) => {
                let wanted = SuspendedAccount::new(account, product);
                accounts.iter().any(|it| it.includes_products_of(wanted))
            }
            Self::WholeRecord => true,
        }
    }

    /// What is in either.
    #[must_use]
    pub fn union_with(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Products(some), Self::Products(more)) => {
                Self::from_accounts(some.iter().chain(more).copied().collect())
            }
            (Self::WholeRecord, _) | (_, Self::WholeRecord) => Self::WholeRecord,
        }
    }

    /// True where nothing is suspended.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Products(accounts) if accounts.is_empty())
    }
}

impl StoredSuspension {
    /// What is suspended of a record with these accounts.
    fn resolve(&self, accounts: impl IntoIterator<Item = AccountId>) -> SuspendedProducts {
        match self {
            Self::Products(suspended) => suspended.clone(),
            Self::Positions(bits) => {
                let mut accounts: Vec<_> = accounts.into_iter().collect();
                accounts.sort_unstable();
                accounts
                    .into_iter()
                    .enumerate()
                    .flat_map(|(position, account)| {
                        Product::ALL
                            .into_iter()
                            .filter(move |product| bits & position_bit(position, *product) != 0)
                            .map(move |product| (account, product))
                    })
                    .collect()
            }
        }
    }
}

/// The bit of a product of the account at a position. Accounts beyond the last position share it.
fn position_bit(position: usize, product: Product) -> u64 {
    const LAST_POSITION: usize = 30;
    u64::from(product_bit(product)) << (2 * position.min(LAST_POSITION))
}

/// [`StoredSuspension`] in the JSON of a queue's message. The number is the form of earlier versions, and still that
/// of a whole record.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum SuspensionJson {
    Positions(u64),
    Products(Vec<SuspendedAccount>),
}

/// All positions: the whole record.
const ALL_POSITIONS: u64 = u64::MAX;

impl From<SuspensionJson> for StoredSuspension {
    fn from(json: SuspensionJson) -> Self {
        match json {
            SuspensionJson::Positions(ALL_POSITIONS) => {
                Self::Products(SuspendedProducts::WholeRecord)
            }
            SuspensionJson::Positions(0) => Self::Products(SuspendedProducts::default()),
            SuspensionJson::Positions(bits) => Self::Positions(bits),
            SuspensionJson::Products(accounts) => {
                Self::Products(SuspendedProducts::from_accounts(accounts))
            }
        }
    }
}

impl From<StoredSuspension> for SuspensionJson {
    fn from(stored: StoredSuspension) -> Self {
        match stored {
            StoredSuspension::Positions(bits) => Self::Positions(bits),
            StoredSuspension::Products(SuspendedProducts::WholeRecord) => {
                Self::Positions(ALL_POSITIONS)
            }
            StoredSuspension::Products(SuspendedProducts::Products(accounts)) => {
                match accounts.is_empty() {
                    true => Self::Positions(0),
                    false => Self::Products(accounts.into_vec()),
                }
            }
        }
    }
}

/// What failed in a refresh of a record.
#[derive(Clone, Copy, Debug)]
pub struct RefreshFaults<'a> {
    /// What failed of what was fetched.
    pub faults: &'a [(AccountId, Product, BankFault)],
    /// What was suspended, and so not fetched.
    pub suspended: &'a SuspendedProducts,
}

impl FailureState {
    /// The state after a refresh at `now`, where it was `before`; `None` where nothing failed and nothing was
    /// suspended.
    ///
    /// What failed is suspended for as long as the bank asked. Where the bank did not say, the backoff doubles with
    /// each consecutive failure.
    pub fn after_refresh(
        before: Option<&Self>,
        refresh_faults: RefreshFaults<'_>,
        now: Timestamp,
    ) -> Option<Self> {
        let RefreshFaults { faults, suspended } = refresh_faults;
        let still_suspended = before.filter(|_| !suspended.is_empty());
        if faults.is_empty() {
            return still_suspended.cloned();
        }
        // One more failure, and the suspension that it brings.
        let failures = before.map_or(1, |it| {
            (it.consecutive_failures + 1).min(MAX_COUNTED_FAILURES)
        });
        let new_until_min = longest_wait_s(faults, failures)
            .map(|wait_s| minutes_since_epoch(now.as_second() + wait_s));
        // What was suspended still is: the later of the two ends counts for both.
        let until_min = new_until_min
            .into_iter()
            .chain(still_suspended.map(|it| it.suspended_until_min))
            .max()
            .unwrap_or(0);
        let suspended = match until_min {
            0 => SuspendedProducts::default(),
            _ => suspended.union_with(&suspended_by_faults(faults)),
        };
        // Once the failure is reported and suspends nothing, more of the same is not counted: that would be a write.
        let fault_hash = hash_faults(faults);
        let reported_before = before.filter(|it| {
            new_until_min.is_none() && it.is_reported() && it.fault_hash == fault_hash
        });
        Some(Self {
            fault_hash,
            consecutive_failures: reported_before.map_or(failures, |it| it.consecutive_failures),
            suspended_until_min: until_min,
            suspended: StoredSuspension::Products(suspended),
        })
    }

    /// The same failures, of a record that is not suspended any more.
    #[must_use]
    pub fn without_suspension(&self) -> Self {
        Self {
            suspended_until_min: 0,
            suspended: StoredSuspension::Products(SuspendedProducts::default()),
            ..*self
        }
    }

    /// True once the failure is reported to the app.
    pub const fn is_reported(&self) -> bool {
        self.consecutive_failures >= REPORTED_FROM_FAILURES
    }

    /// What is suspended at `now` of a record with these accounts, in any order.
    pub fn suspended_products(
        &self,
        now: Timestamp,
        accounts: impl IntoIterator<Item = AccountId>,
    ) -> SuspendedProducts {
        match self.suspended_until(now) {
            Some(_) => self.suspended.resolve(accounts),
            None => SuspendedProducts::default(),
        }
    }

    /// Until when something is suspended, where that is after `now`.
    pub fn suspended_until(&self, now: Timestamp) -> Option<Timestamp> {
        let until = Timestamp::from_second(i64::from(self.suspended_until_min) * 60).ok()?;
        (until > now).then_some(until)
    }

    /// The stored form: count and hash in four bytes, the end of the suspension in four more, and the suspended
    /// products in three for each account, unless the whole record is suspended.
    pub fn to_bytes(&self) -> Vec<u8> {
        let word = (u32::from(self.consecutive_failures) << 28) | (self.fault_hash & HASH_MASK);
        let mut bytes = word.to_be_bytes().to_vec();
        bytes.extend(self.suspended_until_min.to_be_bytes());
        if self.suspended_until_min == 0 {
            return bytes;
        }
        match &self.suspended {
            StoredSuspension::Positions(bits) => bytes.extend(bits.to_be_bytes()),
            StoredSuspension::Products(SuspendedProducts::WholeRecord) => {}
            StoredSuspension::Products(SuspendedProducts::Products(accounts)) => {
                bytes.push(PRODUCTS_FORM);
                for account in accounts {
                    let [_, bytes_of_account @ ..] = account.0.to_be_bytes();
                    bytes.extend(bytes_of_account);
                }
            }
        }
        bytes
    }

    /// Reads the [stored form](Self::to_bytes), and that of earlier versions with eight bytes of positions. `None`
    /// for other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (word, rest) = bytes.split_first_chunk::<4>()?;
        let (until, rest) = rest.split_first_chunk::<4>()?;
        let word = u32::from_be_bytes(*word);
        let until_min = u32::from_be_bytes(*until);
        let suspended = match rest {
            [] if until_min == 0 => StoredSuspension::Products(SuspendedProducts::default()),
            [] => StoredSuspension::Products(SuspendedProducts::WholeRecord),
            // Eight bytes are never the form of products: that has one byte more than a multiple of three.
            rest if rest.len() == size_of::<u64>() => {
                StoredSuspension::Positions(u64::from_be_bytes(rest.try_into().ok()?))
            }
            [PRODUCTS_FORM, rest @ ..] => {
                let (accounts, []) = rest.as_chunks::<SUSPENDED_ACCOUNT_BYTES>() else {
                    return None;
                };
                let accounts = accounts
                    .iter()
                    .map(|&[a, b, c]| SuspendedAccount(u32::from_be_bytes([0, a, b, c])));
                StoredSuspension::Products(SuspendedProducts::from_accounts(accounts.collect()))
            }
            _ => return None,
        };
        let [.., count] = (word >> 28).to_be_bytes();
        Some(Self {
            fault_hash: word & HASH_MASK,
            consecutive_failures: count,
            suspended_until_min: until_min,
            suspended,
        })
    }
}

/// The first byte of stored products.
const PRODUCTS_FORM: u8 = 1;

/// Seconds for which the faults suspend what they concern: the longest of them, rounded up to minutes by
/// [`minutes_since_epoch`]; `None` where none of them does.
fn longest_wait_s(
    faults: &[(AccountId, Product, BankFault)],
    consecutive_failures: u8,
) -> Option<i64> {
    let doublings = u32::from(consecutive_failures.saturating_sub(1));
    let backoff_min = (1_i64 << doublings).min(MAX_BACKOFF_MIN);
    faults
        .iter()
        .filter_map(|(_, _, fault)| match (fault.class, fault.retry_after_s) {
            (FaultClass::RateLimited | FaultClass::QuotaSpent, Some(seconds)) => {
                Some(i64::from(seconds).min(MAX_SUSPENSION.as_secs()))
            }
            (
                FaultClass::RateLimited
                | FaultClass::ConsentRejected
                | FaultClass::AccountGone
                | FaultClass::MalformedResponse,
                _,
            ) => Some(backoff_min * 60),
            // A quota is one of a day: it is tried four times until it must be available again.
            (FaultClass::QuotaSpent, None) => Some(MAX_BACKOFF_MIN * 60),
            (FaultClass::BankUnavailable | FaultClass::Internal, _) => None,
        })
        .max()
}

/// Minutes since 1970, rounded up.
fn minutes_since_epoch(second: i64) -> u32 {
    let minute = u32::try_from((second + 59).div_euclid(60));
    debug_assert!(minute.is_ok(), "{second} s is not between 1970 and 9999");
    // A clock before 1970 suspends nothing.
    minute.unwrap_or(0)
}

/// What the faults suspend: the record, the product of the account, or nothing.
fn suspended_by_faults(faults: &[(AccountId, Product, BankFault)]) -> SuspendedProducts {
    let is_rate_limited = faults
        .iter()
        .any(|(_, _, fault)| fault.class == FaultClass::RateLimited);
    if is_rate_limited {
        return SuspendedProducts::WholeRecord;
    }
    faults
        .iter()
        .filter(|(_, _, fault)| match fault.class {
            FaultClass::QuotaSpent
            | FaultClass::ConsentRejected
            | FaultClass::AccountGone
            | FaultClass::MalformedResponse => true,
            FaultClass::RateLimited | FaultClass::BankUnavailable | FaultClass::Internal => false,
        })
        .map(|(account, product, _)| (*account, *product))
        .collect()
}

const HASH_MASK: u32 = (1 << 28) - 1;

/// FNV-1a of the faults, in any order. Their details are left out, because banks put times and ids into them.
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
        let mut fault = BankFault::new(class, "");
        fault.retry_after_s = retry_after_s;
        vec![(first_account(), Product::Balance, fault)]
    }

    fn first_account() -> AccountId {
        AccountId::derive(&[b"a"])
    }

    fn second_account() -> AccountId {
        AccountId::derive(&[b"b"])
    }

    fn failure_after(
        before: Option<&FailureState>,
        faults: &[(AccountId, Product, BankFault)],
        suspended: &SuspendedProducts,
        now: Timestamp,
    ) -> Option<FailureState> {
        let refresh_faults = RefreshFaults { faults, suspended };
        FailureState::after_refresh(before, refresh_faults, now)
    }

    fn failure_of_all(
        before: Option<&FailureState>,
        faults: &[(AccountId, Product, BankFault)],
        now: Timestamp,
    ) -> Option<FailureState> {
        failure_after(before, faults, &SuspendedProducts::default(), now)
    }

    /// What is suspended of a record of two accounts.
    fn suspended_at(state: &FailureState, now: Timestamp) -> SuspendedProducts {
        state.suspended_products(now, [second_account(), first_account()])
    }

    fn timestamp_at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn a_passing_failure_is_reported_the_second_time_and_then_written_no_more() {
        let unavailable = single_fault(FaultClass::BankUnavailable, None);
        let once = failure_of_all(None, &unavailable, timestamp_at(0));
        let twice = failure_of_all(once.as_ref(), &unavailable, timestamp_at(60));
        let third = failure_of_all(twice.as_ref(), &unavailable, timestamp_at(120));
        assert!(!once.unwrap().is_reported());
        assert!(twice.as_ref().unwrap().is_reported());
        assert_eq!(third, twice, "more of the same is not written");
        assert_eq!(failure_of_all(third.as_ref(), &[], timestamp_at(180)), None);
    }

    #[test]
    fn the_banks_wait_is_respected_and_without_one_the_backoff_doubles() {
        let limited = single_fault(FaultClass::RateLimited, Some(90));
        let state = failure_of_all(None, &limited, timestamp_at(0)).unwrap();
        assert!(state.suspended_until(timestamp_at(89)).is_some());
        assert_eq!(state.suspended_until(timestamp_at(150)), None);
        let malformed = single_fault(FaultClass::MalformedResponse, None);
        let mut state = None;
        let mut waits = Vec::new();
        for _ in 0..12 {
            state = failure_of_all(state.as_ref(), &malformed, timestamp_at(0));
            let until = state.as_ref().unwrap().suspended_until(timestamp_at(0));
            waits.push(until.unwrap().duration_since(timestamp_at(0)).as_mins());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360, 360]);
    }

    /// Law 7: an account with a malformed response is suspended, and nothing else is.
    #[test]
    fn one_account_that_fails_delays_no_other() {
        let malformed = single_fault(FaultClass::MalformedResponse, None);
        let first = failure_of_all(None, &malformed, timestamp_at(0)).unwrap();
        let suspended = suspended_at(&first, timestamp_at(1));
        assert!(suspended.includes(first_account(), Product::Balance));
        assert!(!suspended.includes(first_account(), Product::Transactions));
        assert!(!suspended.includes(second_account(), Product::Balance));
        // The others respond: the state stays, and nothing is written.
        assert_eq!(
            failure_after(Some(&first), &[], &suspended, timestamp_at(1)).as_ref(),
            Some(&first)
        );
        // Another fails too: both are suspended until the later time.
        let mut other = single_fault(FaultClass::QuotaSpent, Some(3_600));
        (other[0].0, other[0].1) = (second_account(), Product::Transactions);
        let both = failure_after(Some(&first), &other, &suspended, timestamp_at(1)).unwrap();
        let suspended = suspended_at(&both, timestamp_at(2));
        assert!(suspended.includes(first_account(), Product::Balance));
        assert!(suspended.includes(second_account(), Product::Transactions));
        assert!(!suspended.includes(second_account(), Product::Balance));
        assert!(both.suspended_until(timestamp_at(3_600)).is_some());
        // After that time it is fetched again, and responds.
        assert!(suspended_at(&both, timestamp_at(4_000)).is_empty());
        assert_eq!(failure_of_all(Some(&both), &[], timestamp_at(4_000)), None);
        // A rate limit concerns the whole record.
        let limited = single_fault(FaultClass::RateLimited, None);
        let whole = failure_of_all(None, &limited, timestamp_at(0)).unwrap();
        assert_eq!(
            suspended_at(&whole, timestamp_at(1)),
            SuspendedProducts::WholeRecord
        );
    }

    #[test]
    fn accounts_that_come_with_a_new_link_move_no_suspension() {
        let malformed = single_fault(FaultClass::MalformedResponse, None);
        let state = failure_of_all(None, &malformed, timestamp_at(0)).unwrap();
        let linked = (0..24_u8).map(|n| AccountId::derive(&[b"new", &[n]]));
        let all: Vec<_> = linked.chain([first_account()]).collect();
        let suspended = state.suspended_products(timestamp_at(1), all.clone());
        for account in all {
            assert_eq!(
                suspended.includes(account, Product::Balance),
                account == first_account()
            );
            assert!(!suspended.includes(account, Product::Transactions));
        }
    }

    /// A due entry that an earlier version wrote: accounts by their position in the order of their ids.
    #[test]
    fn the_form_with_positions_is_read_and_stays_until_something_changes() {
        let mut order = [first_account(), second_account()];
        order.sort_unstable();
        let until_min = u32::try_from(timestamp_at(600).as_second() / 60).unwrap();
        let bits: u64 = 0b0110;
        let bytes = [
            [0x2f, 0, 0, 1],
            until_min.to_be_bytes(),
            [0; 4],
            u32::try_from(bits).unwrap().to_be_bytes(),
        ]
        .concat();
        let json =
            format!(r#"{{"hash":251658241,"count":2,"until_min":{until_min},"places":{bits}}}"#);
        let state = FailureState::from_bytes(&bytes).unwrap();
        assert_eq!(serde_json::from_str::<FailureState>(&json).unwrap(), state);
        assert_eq!(serde_json::to_string(&state).unwrap(), json);
        assert_eq!(state.to_bytes(), bytes);
        let suspended = suspended_at(&state, timestamp_at(0));
        for (account, product, expected) in [
            (order[0], Product::Balance, false),
            (order[0], Product::Transactions, true),
            (order[1], Product::Balance, true),
            (order[1], Product::Transactions, false),
        ] {
            assert_eq!(suspended.includes(account, product), expected);
        }
        // The rest responds: nothing is written.
        assert_eq!(
            failure_after(Some(&state), &[], &suspended, timestamp_at(1)).as_ref(),
            Some(&state)
        );
        let unavailable = single_fault(FaultClass::BankUnavailable, None);
        let later = failure_after(Some(&state), &unavailable, &suspended, timestamp_at(1)).unwrap();
        assert_eq!(suspended_at(&later, timestamp_at(2)), suspended);
        assert_eq!(later.to_bytes().len(), 15, "no longer than with positions");
    }

    prop_compose! {
        fn any_suspension()(
            bits in prop::option::of(any::<u64>()),
            products in prop::collection::vec((any::<[u8; 12]>(), any::<bool>()), 0..30),
            whole: bool,
        ) -> StoredSuspension {
            if let Some(bits) = bits.filter(|bits| ![0, ALL_POSITIONS].contains(bits)) {
                return StoredSuspension::Positions(bits);
            }
            let products = products.into_iter().map(|(id, is_balance)| {
                let product = if is_balance { Product::Balance } else { Product::Transactions };
                (AccountId::from_bytes(id), product)
            });
            StoredSuspension::Products(if whole { SuspendedProducts::WholeRecord } else { products.collect() })
        }
    }

    proptest! {
        /// Whatever failed, the record is fetched again within a day: no failure state is a trap.
        #[test]
        fn no_failure_suspends_for_ever(
            classes in prop::collection::vec(prop::sample::select(FaultClass::ALL.to_vec()), 1..40),
            retry in prop::option::of(any::<u32>()),
        ) {
            let mut state = None;
            for class in classes {
                state = failure_of_all(state.as_ref(), &single_fault(class, retry), timestamp_at(0));
                let until = state.as_ref().unwrap().suspended_until(timestamp_at(0));
                prop_assert!(until.is_none_or(|until| until <= timestamp_at(0) + MAX_SUSPENSION + SignedDuration::from_mins(1)));
            }
            prop_assert_eq!(failure_of_all(state.as_ref(), &[], timestamp_at(1)), None);
        }

        #[test]
        fn a_state_survives_its_bytes_and_its_json(
            fault_hash in 0..HASH_MASK, count in 0..=MAX_COUNTED_FAILURES, until_min: u32, suspended in any_suspension(),
        ) {
            let state = FailureState { fault_hash, consecutive_failures: count, suspended_until_min: until_min, suspended };
            let state = if until_min == 0 { state.without_suspension() } else { state };
            prop_assert_eq!(&FailureState::from_bytes(&state.to_bytes()).unwrap(), &state);
            let json = serde_json::to_string(&state).unwrap();
            prop_assert_eq!(&serde_json::from_str::<FailureState>(&json).unwrap(), &state);
            let whole = FailureState { suspended: StoredSuspension::Products(SuspendedProducts::WholeRecord), ..state };
            prop_assert_eq!(whole.to_bytes().len(), 8);
        }
    }
}
