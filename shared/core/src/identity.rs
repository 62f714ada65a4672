//! Identity: which row of a bank's answer is which transaction we know.
//!
//! Banks change a transaction's id when a pending row is booked, reuse ids, leave them blank, and
//! re-issue them with other texts. A row is matched by the first of these rules that fits:
//!
//! 1. **Same bank id**, not contradicted by the content ([`contradicts`]): `Exact`.
//! 2. **Same content** (direction, amount, date, text) under another id or none: `High`. Rows that
//!    read alike pair off one to one, so three equal purchases stay three.
//! 3. **A pending row that was booked**: same direction and amount, date within
//!    [`BOOKING_WINDOW_DAYS`], similar text: `High`; or similar text and an amount within
//!    [`DRIFT_PERCENT`] (tips, exchange rates, fuel): `Medium`.
//! 4. **Re-issued with another text**: same direction, amount and date, as many unmatched rows on
//!    both sides: `Medium`.
//!
//! The result does not depend on the order of the rows. The cost is n log n: every rule sorts or
//! buckets, and rule 3 looks at no more than [`MAX_CANDIDATES`] rows of a bucket.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::civil::Date;

use crate::{
    feed::Confidence,
    ids::{AccountId, Day, TransactionId},
    model::{BookingStatus, Direction, Transaction, TransactionFacts},
    money::Money,
};

/// Days between a pending row and the booked row it became, at most. Card schemes settle within
/// seven days but for fuel, hotels and cross-border payments.
pub const BOOKING_WINDOW_DAYS: i32 = 10;

/// Per cent by which a booked amount may differ from the pending one.
pub const DRIFT_PERCENT: i64 = 25;

/// Pending rows that one booked row is compared with, at most.
pub const MAX_CANDIDATES: usize = 64;

/// Which known transaction each row is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matching {
    /// Pairs of (index into the known, index into the rows).
    pub matched: Vec<(usize, usize, Confidence)>,
    /// Rows that are none of the known: indices into the rows.
    pub new: Vec<usize>,
    /// Known transactions that no row is: indices into the known.
    pub missing: Vec<usize>,
}

/// Matches rows with known transactions. `order` of the known and of the rows does not matter: ties
/// are broken by content.
pub fn match_rows(known: &[Transaction], rows: &[TransactionFacts]) -> Matching {
    let mut matcher = Matcher::new(known, rows);
    matcher.by_bank_id();
    matcher.by_content();
    matcher.by_booking();
    matcher.by_reissue();
    matcher.finish()
}

struct Matcher<'a> {
    known: &'a [Transaction],
    rows: &'a [TransactionFacts],
    /// Indices not matched yet, in content order.
    open_known: Vec<usize>,
    open_rows: Vec<usize>,
    matched: Vec<(usize, usize, Confidence)>,
}

impl<'a> Matcher<'a> {
    fn new(known: &'a [Transaction], rows: &'a [TransactionFacts]) -> Self {
        let mut open_known: Vec<usize> = (0..known.len()).collect();
        open_known.sort_by(|&a, &b| {
            let (a, b) = (&known[a], &known[b]);
            content_order(&a.facts)
                .cmp(&content_order(&b.facts))
                .then(a.id.cmp(&b.id))
        });
        let mut open_rows: Vec<usize> = (0..rows.len()).collect();
        open_rows.sort_by(|&a, &b| content_order(&rows[a]).cmp(&content_order(&rows[b])));
        Self {
            known,
            rows,
            open_known,
            open_rows,
            matched: Vec::new(),
        }
    }

    fn settle(&mut self, pairs: Vec<(usize, usize, Confidence)>) {
        if pairs.is_empty() {
            return;
        }
        let known: HashSet<usize> = pairs.iter().map(|pair| pair.0).collect();
        let rows: HashSet<usize> = pairs.iter().map(|pair| pair.1).collect();
        self.open_known.retain(|index| !known.contains(index));
        self.open_rows.retain(|index| !rows.contains(index));
        self.matched.extend(pairs);
    }

    /// Open indices of both sides, grouped by a key of their facts. Facts without a key stay out.
    fn grouped<K: Ord>(
        &self,
        key: impl Fn(&'a TransactionFacts) -> Option<K>,
    ) -> BTreeMap<K, (Vec<usize>, Vec<usize>)> {
        let mut groups: BTreeMap<K, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
        for &index in &self.open_known {
            if let Some(key) = key(&self.known[index].facts) {
                groups.entry(key).or_default().0.push(index);
            }
        }
        for &index in &self.open_rows {
            if let Some(key) = key(&self.rows[index]) {
                groups.entry(key).or_default().1.push(index);
            }
        }
        groups
    }

    /// Rule 1. Where an id stands for several rows, equal content goes first.
    fn by_bank_id(&mut self) {
        let mut pairs = Vec::new();
        for (known, rows) in self.grouped(|facts| facts.bank_id.as_deref()).into_values() {
            let mut rows: Vec<Option<usize>> = rows.into_iter().map(Some).collect();
            let mut rest = Vec::new();
            for index in known {
                let content = content(&self.known[index].facts);
                let same = rows
                    .iter_mut()
                    .find(|row| row.is_some_and(|row| self::content(&self.rows[row]) == content));
                match same.and_then(Option::take) {
                    Some(row) => pairs.push((index, row, Confidence::Exact)),
                    None => rest.push(index),
                }
            }
            for index in rest {
                let facts = &self.known[index].facts;
                let fitting = rows
                    .iter_mut()
                    .find(|row| row.is_some_and(|row| !contradicts(facts, &self.rows[row])));
                if let Some(row) = fitting.and_then(Option::take) {
                    pairs.push((index, row, Confidence::Exact));
                }
            }
        }
        self.settle(pairs);
    }

    /// Rule 2.
    fn by_content(&mut self) {
        let pairs = self
            .grouped(|facts| Some(content(facts)))
            .into_values()
            .flat_map(|(known, rows)| known.into_iter().zip(rows))
            .map(|(known, row)| {
                let (before, after) = (&self.known[known].facts, &self.rows[row]);
                let same_id = before.bank_id == after.bank_id;
                (
                    known,
                    row,
                    if same_id {
                        Confidence::Exact
                    } else {
                        Confidence::High
                    },
                )
            })
            .collect();
        self.settle(pairs);
    }

    /// Rule 3: first equal amounts, then drifted ones.
    fn by_booking(&mut self) {
        let pairs = self.bookings(
            |facts| Some((facts.direction, facts.amount.minor)),
            |_, _| true,
        );
        self.settle(pairs);
        let pairs = self.bookings(
            |facts| first_word(&facts.description).map(|word| (facts.direction, word)),
            |before, after| drifted(before.amount, after.amount),
        );
        self.settle(pairs);
    }

    fn bookings<K: Ord>(
        &self,
        key: impl Fn(&'a TransactionFacts) -> Option<K>,
        fits: impl Fn(&TransactionFacts, &TransactionFacts) -> bool,
    ) -> Vec<(usize, usize, Confidence)> {
        let mut pairs = Vec::new();
        for (known, rows) in self.grouped(key).into_values() {
            let mut pending: Vec<Option<usize>> = known
                .into_iter()
                .filter(|&index| self.known[index].facts.status == BookingStatus::Pending)
                .take(MAX_CANDIDATES)
                .map(Some)
                .collect();
            for row in rows {
                let after = &self.rows[row];
                if after.status != BookingStatus::Booked {
                    continue;
                }
                let best = pending
                    .iter_mut()
                    .filter_map(|slot| {
                        let before = &self.known[(*slot)?].facts;
                        let days = days_between(before.date(), after.date());
                        let near = (-1..=BOOKING_WINDOW_DAYS).contains(&days);
                        let similar = similarity(before, after);
                        let fitting = near
                            && similar > 0
                            && before.amount.currency == after.amount.currency
                            && fits(before, after);
                        fitting.then_some(((similar, -days.abs()), slot))
                    })
                    .max_by_key(|(score, _)| *score);
                if let Some(known) = best.and_then(|(_, slot)| slot.take()) {
                    let same_amount = self.known[known].facts.amount == after.amount;
                    let sure = if same_amount {
                        Confidence::High
                    } else {
                        Confidence::Medium
                    };
                    pairs.push((known, row, sure));
                }
            }
        }
        pairs
    }

    /// Rule 4.
    fn by_reissue(&mut self) {
        let pairs = self
            .grouped(|facts| {
                Some((
                    facts.direction,
                    facts.amount.minor,
                    facts.date(),
                    facts.status,
                ))
            })
            .into_values()
            .filter(|(known, rows)| known.len() == rows.len())
            .flat_map(|(known, rows)| known.into_iter().zip(rows))
            .filter(|&(known, row)| {
                self.known[known].facts.amount.currency == self.rows[row].amount.currency
            })
            .map(|(known, row)| (known, row, Confidence::Medium))
            .collect();
        self.settle(pairs);
    }

    fn finish(mut self) -> Matching {
        self.matched
            .sort_unstable_by_key(|&(known, row, _)| (known, row));
        self.open_known.sort_unstable();
        Matching {
            matched: self.matched,
            new: self.open_rows,
            missing: self.open_known,
        }
    }
}

type Content<'a> = (Direction, i64, &'a str, Date, &'a str);

/// What makes two rows read alike, whatever their ids and whether booked or not.
fn content(facts: &TransactionFacts) -> Content<'_> {
    let amount = facts.amount;
    let currency = currency_text(&facts.amount);
    (
        facts.direction,
        amount.minor,
        currency,
        facts.date(),
        &facts.description,
    )
}

fn currency_text(money: &Money) -> &str {
    money.currency.as_str()
}

/// A total order of rows by all they say, so that equal input in any order is treated alike.
fn content_order(facts: &TransactionFacts) -> impl Ord + '_ {
    (
        facts.booked_at,
        content(facts),
        facts.status,
        facts.bank_id.as_deref(),
        (
            facts.reference.as_deref(),
            facts.code.as_deref(),
            facts.value_at,
        ),
        facts.balance_after.map(|money| money.minor),
    )
}

/// True where two rows with one bank id cannot be one transaction: money went the other way or in
/// another currency, or amount, date and text all differ (a reused id). A pending row may change all
/// three only within the booking window.
fn contradicts(before: &TransactionFacts, after: &TransactionFacts) -> bool {
    before.direction != after.direction
        || before.amount.currency != after.amount.currency
        || (before.amount != after.amount
            && before.date() != after.date()
            && similarity(before, after) == 0)
}

/// How alike two rows' texts are, from 0 (nothing in common) to 100.
fn similarity(before: &TransactionFacts, after: &TransactionFacts) -> u32 {
    if before.description == after.description {
        return 100;
    }
    if before.reference.is_some() && before.reference == after.reference {
        return 90;
    }
    let words = |facts: &TransactionFacts| -> HashSet<String> {
        facts
            .description
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| word.len() > 1)
            .map(str::to_lowercase)
            .collect()
    };
    let (a, b) = (words(before), words(after));
    let common = a.intersection(&b).count();
    let smaller = a.len().min(b.len());
    if smaller == 0 || common * 2 < smaller {
        return 0;
    }
    u32::try_from(common * 80 / smaller).unwrap_or(0)
}

fn first_word(description: &str) -> Option<String> {
    description
        .split(|c: char| !c.is_alphanumeric())
        .find(|word| !word.is_empty())
        .map(str::to_lowercase)
}

fn drifted(before: Money, after: Money) -> bool {
    let difference = (i128::from(before.minor) - i128::from(after.minor)).abs();
    difference * 100 <= i128::from(before.minor) * i128::from(DRIFT_PERCENT)
}

/// Days from one date to another; negative where the second is earlier.
fn days_between(from: Date, to: Date) -> i32 {
    i32::from(Day::of(to).0) - i32::from(Day::of(from).0)
}

/// Mints ids for new rows: the same row of the same account always gets the same id, and rows that
/// read alike, or that share a reused bank id, get ids of their own.
pub struct Minter {
    account: AccountId,
    taken: HashSet<TransactionId>,
    ordinals: HashMap<TransactionId, u32>,
}

impl Minter {
    /// Rows of one account that may share everything an id is made of, at most.
    pub const MAX_TWINS: u32 = 100_000;

    /// A minter that never gives an id of a known transaction again.
    pub fn new(account: AccountId, known: &[Transaction]) -> Self {
        let taken = known.iter().map(|transaction| transaction.id).collect();
        Self {
            account,
            taken,
            ordinals: HashMap::new(),
        }
    }

    /// The id of a new row.
    pub fn mint(&mut self, facts: &TransactionFacts) -> TransactionId {
        let first = self.candidate(facts, 0);
        let start = self.ordinals.get(&first).copied().unwrap_or(0);
        for ordinal in start..Self::MAX_TWINS {
            let id = self.candidate(facts, ordinal);
            if self.taken.insert(id) {
                self.ordinals.insert(first, ordinal + 1);
                return id;
            }
        }
        first
    }

    fn candidate(&self, facts: &TransactionFacts, ordinal: u32) -> TransactionId {
        let day = Day::of(facts.date());
        let ordinal = ordinal.to_be_bytes();
        match &facts.bank_id {
            Some(bank_id) => {
                TransactionId::new(self.account, day, &[b"id", bank_id.as_bytes(), &ordinal])
            }
            None => TransactionId::new(
                self.account,
                day,
                &[
                    b"content",
                    &facts.signed_minor().to_be_bytes(),
                    facts.description.as_bytes(),
                    &ordinal,
                ],
            ),
        }
    }
}
