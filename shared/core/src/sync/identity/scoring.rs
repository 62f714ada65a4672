//! Scoring: how alike two rows are, and whether one can be the other. The cast: [`TokenIndex`], the words of all open
//! rows as numbers; [`text_similarity`] and [`token_similarity`], from 0 to 100.
//!
//! The rule: texts are compared by the words that name a party. Words that name a way of paying count only where a text
//! has no others.

use std::collections::{BTreeSet, HashMap};

use crate::{
    model::{money::Money, snapshot::TransactionFacts},
    sync::identity::candidates::{BACK_DATED_DAYS, BOOKING_WINDOW_DAYS, DatedRow},
};

/// Days between a hold and the booked row that replaced it, at most.
pub const MAX_HOLD_DAYS: i32 = 3;

/// Per cent by which a booked amount may differ from the pending one.
pub const MAX_DRIFT_PERCENT: i64 = 25;

/// Words of a text that are compared, at most.
const MAX_TOKENS: usize = 16;

/// From this similarity on two texts name the same party.
pub(super) const MIN_SAME_PARTY: u32 = 60;

/// The similarity of equal texts.
pub(super) const EQUAL_TEXTS: u32 = 100;

/// From this similarity on two texts have something in common.
pub(super) const MIN_RELATED: u32 = 40;

/// The similarity of rows with the same reference.
const EQUAL_REFERENCES: u32 = 90;

/// The similarity of texts that have all words in common.
const ALL_TOKENS: usize = 80;

/// The similarity of two blank texts, which speak neither for nor against.
const BOTH_BLANK: u32 = 30;

/// The similarity of a blank text and another.
const ONE_BLANK: u32 = 20;

/// Words that name a way of paying and not a party.
const PAYMENT_TOKENS: [&str; 24] = [
    "ach",
    "auth",
    "bank",
    "card",
    "contactless",
    "credit",
    "debit",
    "direct",
    "from",
    "mastercard",
    "nip",
    "payment",
    "pending",
    "pos",
    "purchase",
    "ref",
    "the",
    "to",
    "transfer",
    "trf",
    "ussd",
    "verve",
    "visa",
    "web",
];

/// True where two rows with one bank id cannot be one transaction: money went the other way, or amount (or currency),
/// date and text all differ (a reused id). A pending row may change all of amount, date and text when it is booked, but
/// only within the booking window.
pub(super) fn contradicts_identity(
    before: DatedRow<'_>,
    after: DatedRow<'_>,
    similarity: u32,
) -> bool {
    if before.facts.direction != after.facts.direction {
        return true;
    }
    let days = -BACK_DATED_DAYS..=BOOKING_WINDOW_DAYS;
    let is_booking =
        before.is_pending() && after.is_booked() && days.contains(&(after.day - before.day));
    if before.facts.amount.currency != after.facts.amount.currency {
        return !(is_booking && similarity > 0);
    }
    !is_booking
        && before.facts.amount != after.facts.amount
        && before.day != after.day
        && similarity < MIN_RELATED
}

/// True where a row under a pending row's own id may be what it became: the amount is equal; or, within the booking
/// window, has drifted or was a round hold; or day and text are equal.
pub(super) fn may_become(before: DatedRow<'_>, after: DatedRow<'_>) -> bool {
    let (old, new) = (before.facts.amount, after.facts.amount);
    let similarity = text_similarity(before.facts, after.facts);
    let days = after.day - before.day;
    let is_in_window = (0..=BOOKING_WINDOW_DAYS).contains(&days);
    old == new
        || (similarity >= MIN_RELATED && is_in_window && has_drifted(old, new))
        || (similarity >= MIN_SAME_PARTY && is_settled_hold(before, after))
        || (days == 0 && before.facts.description == after.facts.description)
}

/// True where a round amount gave way to one that is not, within [`MAX_HOLD_DAYS`].
pub(super) fn is_settled_hold(before: DatedRow<'_>, after: DatedRow<'_>) -> bool {
    is_whole_amount(before.facts.amount)
        && !is_whole_amount(after.facts.amount)
        && (0..=MAX_HOLD_DAYS).contains(&(after.day - before.day))
}

/// True where the amounts differ by at most [`MAX_DRIFT_PERCENT`].
pub(super) fn has_drifted(before: Money, after: Money) -> bool {
    let difference = (i128::from(before.minor) - i128::from(after.minor)).abs();
    before.currency == after.currency
        && difference * 100 <= i128::from(before.minor) * i128::from(MAX_DRIFT_PERCENT)
}

/// True for an amount of whole major units, as holds are.
fn is_whole_amount(money: Money) -> bool {
    money.minor % 10_i64.pow(u32::from(money.currency.exponent())) == 0
}

/// The words of the open rows' texts as numbers: two texts are compared without reading them again.
pub(super) struct TokenIndex {
    stored: HashMap<usize, Vec<u32>>,
    rows: HashMap<usize, Vec<u32>>,
}

impl TokenIndex {
    /// Reads the texts of stored transactions and of rows, each with its index.
    pub(super) fn from_facts<'a>(
        stored: impl Iterator<Item = (usize, &'a TransactionFacts)>,
        rows: impl Iterator<Item = (usize, &'a TransactionFacts)>,
    ) -> Self {
        let mut numbers = TokenNumbers::default();
        Self {
            stored: stored
                .map(|(index, facts)| (index, numbers.number_tokens(facts)))
                .collect(),
            rows: rows
                .map(|(index, facts)| (index, numbers.number_tokens(facts)))
                .collect(),
        }
    }

    pub(super) fn stored_tokens(&self, index: usize) -> &[u32] {
        self.stored.get(&index).map_or(&[], Vec::as_slice)
    }

    pub(super) fn row_tokens(&self, index: usize) -> &[u32] {
        self.rows.get(&index).map_or(&[], Vec::as_slice)
    }
}

/// A number for each word.
#[derive(Default)]
struct TokenNumbers {
    numbers: HashMap<String, u32>,
    next: u32,
}

impl TokenNumbers {
    /// The words of a row's text as numbers, in order.
    fn number_tokens(&mut self, facts: &TransactionFacts) -> Vec<u32> {
        let mut tokens: Vec<u32> = tokenise_text(&facts.description)
            .into_iter()
            .map(|token| {
                *self.numbers.entry(token).or_insert_with(|| {
                    self.next += 1;
                    self.next
                })
            })
            .collect();
        tokens.sort_unstable();
        tokens
    }
}

/// The words of a text, each once: at most [`MAX_TOKENS`], in small letters, without those that name a way of paying
/// where there are others.
fn tokenise_text(text: &str) -> BTreeSet<String> {
    let all: BTreeSet<String> = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|token| token.chars().nth(1).is_some())
        .take(MAX_TOKENS)
        .map(str::to_lowercase)
        .collect();
    let of_party: BTreeSet<String> = all
        .iter()
        .filter(|token| !PAYMENT_TOKENS.contains(&token.as_str()))
        .cloned()
        .collect();
    if of_party.is_empty() { all } else { of_party }
}

/// [`token_similarity`] of two rows whose words are not indexed.
pub(super) fn text_similarity(before: &TransactionFacts, after: &TransactionFacts) -> u32 {
    if before.description == after.description {
        return token_similarity::<String>(before, after, &[], &[]);
    }
    let before_tokens = Vec::from_iter(tokenise_text(&before.description));
    let after_tokens = Vec::from_iter(tokenise_text(&after.description));
    token_similarity(before, after, &before_tokens, &after_tokens)
}

/// How alike the texts of two rows are, from 0 (nothing in common) to [`EQUAL_TEXTS`]. The tokens are in order.
pub(super) fn token_similarity<T: Ord>(
    before: &TransactionFacts,
    after: &TransactionFacts,
    before_tokens: &[T],
    after_tokens: &[T],
) -> u32 {
    if before.reference.is_some() && before.reference == after.reference {
        return EQUAL_REFERENCES;
    }
    match (before.description.is_empty(), after.description.is_empty()) {
        (true, true) => return BOTH_BLANK,
        (true, false) | (false, true) => return ONE_BLANK,
        (false, false) if before.description == after.description => return EQUAL_TEXTS,
        (false, false) => {}
    }
    let common = before_tokens
        .iter()
        .filter(|token| after_tokens.binary_search(token).is_ok())
        .count();
    let smaller = before_tokens.len().min(after_tokens.len());
    if smaller == 0 || common * 2 < smaller {
        return 0;
    }
    // At most ALL_TOKENS, because no more words are common than the smaller text has.
    u32::try_from(common * ALL_TOKENS / smaller).unwrap_or(0)
}
