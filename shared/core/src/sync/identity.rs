//! Identity: which row of a bank's answer is which transaction we know.
//!
//! Banks change a transaction's id when a pending row is booked, reuse ids, leave them blank, number
//! their rows anew with each answer, and re-issue ids with other texts. A row is matched by the first
//! of these rules that fits:
//!
//! 1. **Unchanged**: it says what it said: `Exact`.
//! 2. **Same bank id**, not contradicted by the content ([`contradicts`]): `Exact`. Where an id stands
//!    for several rows, equal content goes first. A pending row whose id now stands only on rows
//!    that it cannot have become ([`may_become`]) was booked under a new id, where one has a row of its
//!    amount and of like text, or where its own id's rows have neither its amount nor its text, of the
//!    same text: `High`.
//! 3. **Same content** (direction, amount, date, text) under another id or none: `High`. Rows that
//!    read alike pair off one to one, so three equal purchases stay three.
//! 4. **A pending row that was booked**, within [`BOOKING_WINDOW_DAYS`]: equal amount and like text:
//!    `High`; equal amount and little or no text: `Medium`; like text and an amount within
//!    [`DRIFT_PERCENT`] (tips, exchange rates): `Medium`; equal text and a round amount held before
//!    the true one was known (fuel, hotels), within [`HOLD_DAYS`]: `Low`.
//! 5. **Edited, or re-issued with another text**: same direction, amount, date and status. Where the
//!    bank's ids stand still, an id that went and another that came are two transactions unless their
//!    texts are alike; where they do not, or there are none, the rows pair off: `Medium`.
//!
//! Rules 2 and 3 change places where the bank numbers its rows anew ([`Matcher::renumbered`]).
//!
//! The result does not depend on the order of the rows. The cost is n log n: every rule sorts or
//! buckets, and where two rows must be compared one by one, a row is compared with no more than
//! [`MAX_CANDIDATES`] others. [`Matching::comparisons`] counts them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::{
    model::{
        ids::{AccountId, EpochDay, TransactionId},
        money::Money,
        snapshot::{BookingStatus, Direction, Transaction, TransactionFacts},
    },
    sync::feed::MatchConfidence,
};

/// Days between a pending row and the booked row it became, at most. Card schemes settle within
/// seven days but for fuel, hotels and cross-border payments.
pub const BOOKING_WINDOW_DAYS: i32 = 10;

/// Days a booked row may be dated before its pending row: banks that book by value date.
const BACK_DATED_DAYS: i32 = 1;

/// Days between a hold and the booked row that replaced it, at most.
pub const MAX_HOLD_DAYS: i32 = 3;

/// Per cent by which a booked amount may differ from the pending one.
pub const MAX_DRIFT_PERCENT: i64 = 25;

/// Rows that one row is compared with in one rule, at most.
pub const MAX_CANDIDATES: usize = 64;

/// Words of a text that are compared, at most.
const MAX_TOKENS: usize = 16;

/// From this similarity on two texts name the same party.
const MIN_SAME_PARTY: u32 = 60;

/// The similarity of equal texts.
const EQUAL_TEXTS: u32 = 100;

/// From this similarity on two texts have something in common.
const MIN_RELATED: u32 = 40;

/// Words that name a way of paying and not a party. They count only where a text has no other.
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

/// Which known transaction each row is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowMatching {
    /// Pairs of (index into the known, index into the rows).
    pub matched: Vec<(usize, usize, MatchConfidence)>,
    /// Rows that are none of the known: indices into the rows.
    pub new: Vec<usize>,
    /// Known transactions that no row is: indices into the known.
    pub missing: Vec<usize>,
    /// Times two rows were compared one with the other; at most [`MAX_CANDIDATES`] for each row and
    /// rule.
    pub comparisons: u64,
}

/// Matches rows with known transactions. `order` of the known and of the rows does not matter: ties
/// are broken by content.
pub fn match_rows(stored: &[Transaction], rows: &[TransactionFacts]) -> RowMatching {
    let mut matcher = RowMatcher::new(stored, rows);
    matcher.pair_one_to_one(
        |row| Some(content_order(row.facts)),
        |_, _| MatchConfidence::Exact,
    );
    if matcher.is_done() {
        return matcher.into_matching();
    }
    if matcher.is_renumbered() {
        matcher.match_same_content();
        matcher.match_same_id();
    } else {
        matcher.match_same_id();
        matcher.match_same_content();
    }
    if !matcher.is_done() {
        let words = TokenIndex::from_matcher(&matcher);
        matcher.match_booked(&words);
        matcher.match_drifted_amounts(&words);
        matcher.match_holds();
        matcher.match_reissued(&words);
    }
    matcher.into_matching()
}

/// A row, and the day of its date.
#[derive(Clone, Copy)]
struct DatedRow<'a> {
    facts: &'a TransactionFacts,
    day: i32,
}

impl<'a> DatedRow<'a> {
    fn new(facts: &'a TransactionFacts) -> Self {
        let day = i32::from(EpochDay::from_date(facts.booking_date()).0);
        Self { facts, day }
    }

    const fn has_status(&self, status: BookingStatus) -> bool {
        matches!(
            (self.facts.status, status),
            (BookingStatus::Pending, BookingStatus::Pending)
                | (BookingStatus::Booked, BookingStatus::Booked)
        )
    }
}

/// How much speaks for a known and a row of one bank id: what agrees, the likeness of the texts, and the
/// days between them, less being more.
type SameIdScore = (u8, u32, i32);

/// Open known rows by day, so that those near a day are found without looking at the others.
type IndicesByDay = BTreeSet<(i32, usize)>;

struct RowMatcher<'a> {
    /// Both sides in content order, which is not the caller's: indices below are places in it.
    stored: Vec<DatedRow<'a>>,
    rows: Vec<DatedRow<'a>>,
    /// The caller's indices.
    stored_indices: Vec<usize>,
    row_indices: Vec<usize>,
    /// Not matched yet, in order.
    open_stored: Vec<usize>,
    open_rows: Vec<usize>,
    matched: Vec<(usize, usize, MatchConfidence)>,
    comparisons: u64,
}

impl<'a> RowMatcher<'a> {
    fn new(stored: &'a [Transaction], rows: &'a [TransactionFacts]) -> Self {
        let mut stored_indices: Vec<usize> = (0..stored.len()).collect();
        stored_indices.sort_by(|&a, &b| {
            let (a, b) = (&stored[a], &stored[b]);
            content_order(&a.facts)
                .cmp(&content_order(&b.facts))
                .then(a.id.cmp(&b.id))
        });
        let mut row_indices: Vec<usize> = (0..rows.len()).collect();
        row_indices.sort_by(|&a, &b| content_order(&rows[a]).cmp(&content_order(&rows[b])));
        Self {
            stored: stored_indices
                .iter()
                .map(|&at| DatedRow::new(&stored[at].facts))
                .collect(),
            rows: row_indices
                .iter()
                .map(|&at| DatedRow::new(&rows[at]))
                .collect(),
            open_stored: (0..stored_indices.len()).collect(),
            open_rows: (0..row_indices.len()).collect(),
            stored_indices,
            row_indices,
            matched: Vec::new(),
            comparisons: 0,
        }
    }

    const fn is_done(&self) -> bool {
        self.open_stored.is_empty() || self.open_rows.is_empty()
    }

    fn settle_pairs(&mut self, pairs: Vec<(usize, usize, MatchConfidence)>) {
        if pairs.is_empty() {
            return;
        }
        let known: HashSet<usize> = pairs.iter().map(|pair| pair.0).collect();
        let rows: HashSet<usize> = pairs.iter().map(|pair| pair.1).collect();
        self.open_stored.retain(|index| !known.contains(index));
        self.open_rows.retain(|index| !rows.contains(index));
        self.matched.extend(pairs);
    }

    /// Open indices of both sides, in content order, grouped by a key. Rows without a key stay out.
    fn group_open_rows<K: Ord>(
        &self,
        key: impl Fn(DatedRow<'a>) -> Option<K>,
    ) -> BTreeMap<K, (Vec<usize>, Vec<usize>)> {
        let mut groups: BTreeMap<K, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
        for &index in &self.open_stored {
            if let Some(key) = key(self.stored[index]) {
                groups.entry(key).or_default().0.push(index);
            }
        }
        for &index in &self.open_rows {
            if let Some(key) = key(self.rows[index]) {
                groups.entry(key).or_default().1.push(index);
            }
        }
        groups
    }

    /// Pairs the rows of each group one to one in their order.
    fn pair_one_to_one<K: Ord>(
        &mut self,
        key: impl Fn(DatedRow<'a>) -> Option<K>,
        confidence: impl Fn(&TransactionFacts, &TransactionFacts) -> MatchConfidence,
    ) {
        let pairs = self
            .group_open_rows(key)
            .into_values()
            .flat_map(|(known, rows)| known.into_iter().zip(rows))
            .map(|(known, row)| {
                let sure = confidence(self.stored[known].facts, self.rows[row].facts);
                (known, row, sure)
            })
            .collect();
        self.settle_pairs(pairs);
    }

    /// True where the bank numbers its rows anew with each answer: more ids stand on a row whose
    /// content is known under another id than on one that reads as it did.
    fn is_renumbered(&self) -> bool {
        let mut ids: HashMap<&str, usize> = HashMap::new();
        let mut contents: HashSet<(ContentKey<'_>, &str)> = HashSet::new();
        let mut texts: HashMap<ContentKey<'_>, usize> = HashMap::new();
        for &index in &self.open_stored {
            let facts = self.stored[index].facts;
            if let Some(id) = facts.bank_id.as_deref() {
                ids.insert(id, index);
                if contents.insert((content_key(facts), id)) {
                    *texts.entry(content_key(facts)).or_default() += 1;
                }
            }
        }
        let unchanged = self
            .matched
            .iter()
            .filter(|(known, ..)| self.stored[*known].facts.bank_id.is_some())
            .count();
        let (mut agreeing, mut moved) = (unchanged, 0);
        for &index in &self.open_rows {
            let facts = self.rows[index].facts;
            let Some(id) = facts.bank_id.as_deref() else {
                continue;
            };
            if contents.contains(&(content_key(facts), id)) {
                agreeing += 1;
            } else if ids.contains_key(id) && texts.contains_key(&content_key(facts)) {
                moved += 1;
            }
        }
        moved > agreeing
    }

    /// Rule 2.
    fn match_same_id(&mut self) {
        let exact = |_: &TransactionFacts, _: &TransactionFacts| MatchConfidence::Exact;
        self.pair_one_to_one(
            |row| {
                Some((
                    row.facts.bank_id.as_deref()?,
                    content_key(row.facts),
                    row.facts.status,
                ))
            },
            exact,
        );
        self.pair_one_to_one(
            |row| Some((row.facts.bank_id.as_deref()?, content_key(row.facts))),
            exact,
        );
        self.match_booked_elsewhere();
        let (mut pairs, mut comparisons) = (Vec::new(), 0);
        for (known, rows) in self
            .group_open_rows(|row| row.facts.bank_id.as_deref())
            .into_values()
        {
            if rows.is_empty() || known.is_empty() {
                continue;
            }
            let mut candidates = self.index_by_day(known.into_iter());
            // Where an id stands for several rows, the likest go first: else a new one under it could
            // take the place of one that was edited.
            let mut scored: Vec<_> = rows
                .iter()
                .flat_map(|&row| {
                    let near = rows_near_day(&candidates, self.rows[row].day);
                    near.map(move |(_, known)| (known, row))
                })
                .inspect(|_| comparisons += 1)
                .filter_map(|(known, row)| Some((self.score_same_id(known, row)?, known, row)))
                .collect();
            scored.sort_unstable_by_key(|&(score, known, row)| {
                std::cmp::Reverse((score, usize::MAX - known, usize::MAX - row))
            });
            let mut taken = HashSet::new();
            for (_, known, row) in scored {
                let candidate = (self.stored[known].day, known);
                if candidates.contains(&candidate) && taken.insert(row) {
                    candidates.remove(&candidate);
                    pairs.push((known, row, MatchConfidence::Exact));
                }
            }
        }
        self.comparisons += comparisons;
        self.settle_pairs(pairs);
    }

    /// Pairs pending rows whose ids went to other payments with the booked rows that they became. Their
    /// ids say less than an equal amount and a like text under an id that is new, and where nothing else
    /// speaks for their ids' rows, less than an equal amount and the same text.
    fn match_booked_elsewhere(&mut self) {
        let (mut displaced, mut comparisons) = (HashMap::new(), 0);
        let mut standing: HashSet<&str> = HashSet::new();
        let groups = self.group_open_rows(|row| row.facts.bank_id.as_deref());
        for (id, (known, rows)) in groups {
            let rows: IndicesByDay = rows.iter().map(|&row| (self.rows[row].day, row)).collect();
            for known in known {
                let before = self.stored[known];
                if !before.has_status(BookingStatus::Pending) || rows.is_empty() {
                    standing.insert(id);
                    continue;
                }
                let looked_at = rows_near_day(&rows, before.day).inspect(|_| comparisons += 1);
                let its: Vec<_> = looked_at
                    .map(|(_, row)| self.rows[row])
                    .filter(|row| may_become(before, *row))
                    .collect();
                let said = |row: &DatedRow<'_>| {
                    let (was, is) = (before.facts, row.facts);
                    was.amount == is.amount || was.description == is.description
                };
                if its.is_empty() {
                    displaced.insert(known, MIN_SAME_PARTY);
                    continue;
                }
                if !its.iter().any(said) {
                    displaced.insert(known, EQUAL_TEXTS);
                }
                standing.insert(id);
            }
        }
        self.comparisons += comparisons;
        if displaced.is_empty() {
            return;
        }
        let moved = |row: &TransactionFacts| {
            let id = row.bank_id.as_deref();
            id.is_none_or(|id| !standing.contains(id))
        };
        let like = |matcher: &Self, known: usize, row: usize| {
            let like = text_similarity(matcher.stored[known].facts, matcher.rows[row].facts);
            let least = displaced.get(&known).copied().unwrap_or(EQUAL_TEXTS);
            if like >= least { like } else { 0 }
        };
        self.pair_pending_with_booked(
            |known, row| displaced.contains_key(&known) && moved(row),
            like,
            MIN_SAME_PARTY,
        );
    }

    /// How much speaks for a row being the known of the same bank id; `None` where it cannot be.
    fn score_same_id(&self, stored: usize, row: usize) -> Option<SameIdScore> {
        let (before, after) = (self.stored[stored], self.rows[row]);
        let like = text_similarity(before.facts, after.facts);
        let agreeing = 2 * u8::from(before.facts.amount == after.facts.amount)
            + u8::from(before.day == after.day)
            + u8::from(like > 0);
        let apart = (before.day - after.day).abs();
        (!contradicts_identity(before, after, like)).then_some((agreeing, like, -apart))
    }

    /// Rule 3.
    fn match_same_content(&mut self) {
        let sure = |before: &TransactionFacts, after: &TransactionFacts| {
            if before.bank_id.is_some() && before.bank_id == after.bank_id {
                MatchConfidence::Exact
            } else {
                MatchConfidence::High
            }
        };
        self.pair_one_to_one(|row| Some((content_key(row.facts), row.facts.status)), sure);
        self.pair_one_to_one(|row| Some(content_key(row.facts)), sure);
    }

    /// Rule 4, equal amounts.
    fn match_booked(&mut self, tokens: &TokenIndex) {
        self.pair_pending_with_booked(
            |_, _| true,
            |matcher, known, row| tokens.similarity_between(matcher, known, row),
            1,
        );
    }

    /// Pairs pending rows with booked ones of equal amount that may be theirs and whose texts are so alike
    /// at least.
    fn pair_pending_with_booked(
        &mut self,
        is_candidate: impl Fn(usize, &TransactionFacts) -> bool,
        similarity: impl Fn(&Self, usize, usize) -> u32,
        min_similarity: u32,
    ) {
        let (mut pairs, mut comparisons) = (Vec::new(), 0);
        for (known, rows) in self
            .group_open_rows(|row| {
                let amount = row.facts.amount;
                Some((row.facts.direction, amount.currency, amount.minor))
            })
            .into_values()
        {
            let pending = known
                .into_iter()
                .filter(|&index| self.stored[index].has_status(BookingStatus::Pending));
            let mut candidates = self.index_by_day(pending);
            for row in rows {
                let after = self.rows[row];
                if !after.has_status(BookingStatus::Booked) || candidates.is_empty() {
                    continue;
                }
                let best = rows_bookable_on_day(&candidates, after.day)
                    .inspect(|_| comparisons += 1)
                    .filter(|&(_, known)| is_candidate(known, after.facts))
                    .filter_map(|(day, known)| {
                        let like = similarity(self, known, row);
                        (like >= min_similarity)
                            .then_some(((like, -(after.day - day).abs()), (day, known)))
                    })
                    .max_by_key(|(score, (day, known))| (*score, -day, usize::MAX - known));
                if let Some(((like, _), (day, known))) = best {
                    candidates.remove(&(day, known));
                    let sure = if like >= MIN_SAME_PARTY {
                        MatchConfidence::High
                    } else {
                        MatchConfidence::Medium
                    };
                    pairs.push((known, row, sure));
                }
            }
        }
        self.comparisons += comparisons;
        self.settle_pairs(pairs);
    }

    /// Rule 4, amounts that drifted; and rows without ids whose amount was edited.
    fn match_drifted_amounts(&mut self, tokens: &TokenIndex) {
        let mut index: BTreeMap<(Direction, u32), IndicesByDay> = BTreeMap::new();
        for &known in &self.open_stored {
            let before = self.stored[known];
            for &word in tokens.stored_tokens(known) {
                let bucket = index.entry((before.facts.direction, word)).or_default();
                bucket.insert((before.day, known));
            }
        }
        let (mut pairs, mut taken, mut comparisons) = (Vec::new(), HashSet::new(), 0);
        for &row in &self.open_rows {
            let after = self.rows[row];
            // The rarest word first: it says most, and its bucket is the shortest.
            let mut buckets: Vec<&IndicesByDay> = tokens
                .row_tokens(row)
                .iter()
                .filter_map(|&word| index.get(&(after.facts.direction, word)))
                .collect();
            buckets.sort_by_key(|bucket| (bucket.len(), bucket.first().copied()));
            let mut looked_at = HashSet::new();
            let best = buckets
                .into_iter()
                .flat_map(|bucket| rows_bookable_on_day(bucket, after.day))
                .take(MAX_CANDIDATES)
                .inspect(|_| comparisons += 1)
                .filter(|(_, known)| !taken.contains(known) && looked_at.insert(*known))
                .filter_map(|(day, known)| {
                    let before = self.stored[known];
                    let booked = before.has_status(BookingStatus::Pending)
                        && after.has_status(BookingStatus::Booked);
                    let edited = before.facts.bank_id.is_none()
                        && after.facts.bank_id.is_none()
                        && before.facts.status == after.facts.status
                        && before.day == after.day
                        && before.facts.description == after.facts.description;
                    let like = tokens.similarity_between(self, known, row);
                    let fits = (booked || edited)
                        && like >= MIN_RELATED
                        && has_drifted(before.facts.amount, after.facts.amount);
                    fits.then_some(((like, -(after.day - day).abs()), (day, known)))
                })
                .max_by_key(|(score, (day, known))| (*score, -day, usize::MAX - known));
            if let Some((_, (_, known))) = best {
                taken.insert(known);
                pairs.push((known, row, MatchConfidence::Medium));
            }
        }
        self.comparisons += comparisons;
        self.settle_pairs(pairs);
    }

    /// Rule 4, holds: only where one pending and one booked row can be meant.
    fn match_holds(&mut self) {
        let pairs = self
            .group_open_rows(|row| {
                let facts = row.facts;
                let named = !facts.description.is_empty();
                named.then_some((facts.direction, facts.amount.currency, &*facts.description))
            })
            .into_values()
            .filter_map(|(known, rows)| match (known.as_slice(), rows.as_slice()) {
                (&[known], &[row]) => Some((known, row, MatchConfidence::Low)),
                _ => None,
            })
            .filter(|&(known, row, _)| {
                let (before, after) = (self.stored[known], self.rows[row]);
                before.has_status(BookingStatus::Pending)
                    && after.has_status(BookingStatus::Booked)
                    && (0..=MAX_HOLD_DAYS).contains(&(after.day - before.day))
                    && is_whole_amount(before.facts.amount)
                    && !is_whole_amount(after.facts.amount)
            })
            .collect();
        self.settle_pairs(pairs);
    }

    /// Rule 5.
    fn match_reissued(&mut self, tokens: &TokenIndex) {
        let standing = self.are_ids_stable();
        let (mut pairs, mut comparisons) = (Vec::new(), 0);
        for (known, rows) in self
            .group_open_rows(|row| {
                let facts = row.facts;
                let amount = (facts.amount.currency, facts.amount.minor);
                Some((facts.direction, amount, row.day, facts.status))
            })
            .into_values()
        {
            let mut candidates: BTreeSet<usize> = (0..known.len()).collect();
            let mut rest = Vec::new();
            for row in rows {
                let best = candidates
                    .iter()
                    .take(MAX_CANDIDATES)
                    .inspect(|_| comparisons += 1)
                    .map(|&at| (tokens.similarity_between(self, known[at], row), at))
                    .filter(|(like, _)| *like >= MIN_RELATED)
                    .max_by_key(|&(like, at)| (like, usize::MAX - at));
                match best {
                    Some((_, at)) => {
                        candidates.remove(&at);
                        pairs.push((known[at], row, MatchConfidence::Medium));
                    }
                    None => rest.push(row),
                }
            }
            for row in rest {
                let named = |facts: &TransactionFacts| facts.bank_id.is_some();
                let may = |at: &usize| {
                    let both = named(self.stored[known[*at]].facts) && named(self.rows[row].facts);
                    !(both && standing)
                };
                let first = candidates.iter().take(MAX_CANDIDATES).copied();
                if let Some(at) = first.inspect(|_| comparisons += 1).find(may) {
                    candidates.remove(&at);
                    pairs.push((known[at], row, MatchConfidence::Medium));
                }
            }
        }
        self.comparisons += comparisons;
        self.settle_pairs(pairs);
    }

    /// True where at least half of the ids in the answer are ids we know.
    fn are_ids_stable(&self) -> bool {
        let id = |row: &DatedRow<'a>| row.facts.bank_id.as_deref();
        let ours: HashSet<&str> = self.stored.iter().filter_map(id).collect();
        let theirs: Vec<&str> = self.rows.iter().filter_map(id).collect();
        let known = theirs.iter().filter(|id| ours.contains(**id)).count();
        known > 0 && known * 2 >= theirs.len()
    }

    fn index_by_day(&self, stored: impl Iterator<Item = usize>) -> IndicesByDay {
        stored
            .map(|index| (self.stored[index].day, index))
            .collect()
    }

    fn into_matching(self) -> RowMatching {
        let mut matched: Vec<_> = self
            .matched
            .into_iter()
            .map(|(known, row, sure)| (self.stored_indices[known], self.row_indices[row], sure))
            .collect();
        matched.sort_unstable_by_key(|&(known, row, _)| (known, row));
        let mut missing: Vec<usize> = self
            .open_stored
            .into_iter()
            .map(|known| self.stored_indices[known])
            .collect();
        missing.sort_unstable();
        RowMatching {
            matched,
            new: self
                .open_rows
                .into_iter()
                .map(|row| self.row_indices[row])
                .collect(),
            missing,
            comparisons: self.comparisons,
        }
    }
}

/// Up to [`MAX_CANDIDATES`] rows around a day, half of them from before it.
fn rows_near_day(candidates: &IndicesByDay, day: i32) -> impl Iterator<Item = (i32, usize)> {
    let half = MAX_CANDIDATES / 2;
    let before = candidates.range(..(day, 0)).rev().take(half);
    before
        .chain(candidates.range((day, 0)..).take(half))
        .copied()
}

/// Up to [`MAX_CANDIDATES`] rows that may have been booked on a day, the nearest first.
fn rows_bookable_on_day(candidates: &IndicesByDay, day: i32) -> impl Iterator<Item = (i32, usize)> {
    let (first, last) = (day - BOOKING_WINDOW_DAYS, day + BACK_DATED_DAYS);
    candidates
        .range((first, 0)..=(last, usize::MAX))
        .rev()
        .take(MAX_CANDIDATES)
        .copied()
}

type ContentKey<'a> = (Direction, i64, &'a str, i64, &'a str);

/// What makes two rows read alike, whatever their ids and whether booked or not. The date is that in
/// UTC, as days.
fn content_key(facts: &TransactionFacts) -> ContentKey<'_> {
    let amount = facts.amount;
    (
        facts.direction,
        amount.minor,
        currency_text(&facts.amount),
        facts.booked_at.as_second().div_euclid(86_400),
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
        content_key(facts),
        facts.status,
        facts.bank_id.as_deref(),
        (
            facts.reference.as_deref(),
            facts.code.as_deref(),
            facts.value_at,
        ),
        facts
            .balance_after
            .map(|money| (money.minor, money.currency)),
    )
}

/// True where two rows with one bank id cannot be one transaction: money went the other way, or
/// amount (or currency), date and text all differ (a reused id). A pending row may change all of
/// amount, date and text when it is booked, but only within the booking window.
fn contradicts_identity(before: DatedRow<'_>, after: DatedRow<'_>, similarity: u32) -> bool {
    if before.facts.direction != after.facts.direction {
        return true;
    }
    let days = -BACK_DATED_DAYS..=BOOKING_WINDOW_DAYS;
    let booked = before.has_status(BookingStatus::Pending)
        && after.has_status(BookingStatus::Booked)
        && days.contains(&(after.day - before.day));
    if before.facts.amount.currency != after.facts.amount.currency {
        return !(booked && similarity > 0);
    }
    !booked
        && before.facts.amount != after.facts.amount
        && before.day != after.day
        && similarity < MIN_RELATED
}

/// True where a row under a pending row's own id may be what it became: the amount is equal; or, within
/// the booking window, has drifted or was a round hold; or day and text are equal.
fn may_become(before: DatedRow<'_>, after: DatedRow<'_>) -> bool {
    let (was, is) = (before.facts.amount, after.facts.amount);
    let like = text_similarity(before.facts, after.facts);
    let days = after.day - before.day;
    let booked = (0..=BOOKING_WINDOW_DAYS).contains(&days);
    let held = is_whole_amount(was) && !is_whole_amount(is) && (0..=MAX_HOLD_DAYS).contains(&days);
    was == is
        || (like >= MIN_RELATED && booked && has_drifted(was, is))
        || (like >= MIN_SAME_PARTY && held)
        || (days == 0 && before.facts.description == after.facts.description)
}

/// The words of the open rows' texts as numbers: two texts are compared without reading them again.
struct TokenIndex {
    stored: HashMap<usize, Vec<u32>>,
    rows: HashMap<usize, Vec<u32>>,
}

impl TokenIndex {
    fn from_matcher(matcher: &RowMatcher<'_>) -> Self {
        let mut numbers: HashMap<String, u32> = HashMap::new();
        let mut read = |facts: &TransactionFacts| {
            let mut found: Vec<u32> = tokenise_text(&facts.description)
                .into_iter()
                .map(|word| {
                    let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
                    *numbers.entry(word).or_insert(next)
                })
                .collect();
            found.sort_unstable();
            found
        };
        let stored = matcher
            .open_stored
            .iter()
            .map(|&index| (index, read(matcher.stored[index].facts)))
            .collect();
        let rows = matcher
            .open_rows
            .iter()
            .map(|&index| (index, read(matcher.rows[index].facts)))
            .collect();
        Self { stored, rows }
    }

    fn stored_tokens(&self, index: usize) -> &[u32] {
        self.stored.get(&index).map_or(&[], Vec::as_slice)
    }

    fn row_tokens(&self, index: usize) -> &[u32] {
        self.rows.get(&index).map_or(&[], Vec::as_slice)
    }

    /// [`similarity`] of a known row and a row.
    fn similarity_between(&self, matcher: &RowMatcher<'_>, stored: usize, row: usize) -> u32 {
        let (before, after) = (matcher.stored[stored].facts, matcher.rows[row].facts);
        token_similarity(
            before,
            after,
            self.stored_tokens(stored),
            self.row_tokens(row),
        )
    }
}

/// The words of a text, each once: at most [`MAX_WORDS`], in small letters, without those that name a
/// way of paying where there are others.
fn tokenise_text(text: &str) -> BTreeSet<String> {
    let all: BTreeSet<String> = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.chars().nth(1).is_some())
        .take(MAX_TOKENS)
        .map(str::to_lowercase)
        .collect();
    let telling: BTreeSet<String> = all
        .iter()
        .filter(|word| !PAYMENT_TOKENS.contains(&word.as_str()))
        .cloned()
        .collect();
    if telling.is_empty() { all } else { telling }
}

/// [`similarity`] of two rows whose words are not at hand.
fn text_similarity(before: &TransactionFacts, after: &TransactionFacts) -> u32 {
    if before.description == after.description {
        return token_similarity(before, after, &[], &[]);
    }
    let (a, b) = (
        tokenise_text(&before.description),
        tokenise_text(&after.description),
    );
    let mut numbers: Vec<&String> = a.union(&b).collect();
    numbers.sort_unstable();
    let number = |word: &String| u32::try_from(numbers.partition_point(|it| *it < word)).ok();
    let (a, b): (Vec<u32>, Vec<u32>) = (
        a.iter().filter_map(number).collect(),
        b.iter().filter_map(number).collect(),
    );
    token_similarity(before, after, &a, &b)
}

/// How alike two rows' texts are, from 0 (nothing in common) to 100. Texts that say nothing neither
/// speak for nor against: both blank 30, one of them 20.
fn token_similarity(
    before: &TransactionFacts,
    after: &TransactionFacts,
    before_tokens: &[u32],
    after_tokens: &[u32],
) -> u32 {
    if before.reference.is_some() && before.reference == after.reference {
        return 90;
    }
    match (before.description.is_empty(), after.description.is_empty()) {
        (true, true) => return 30,
        (true, false) | (false, true) => return 20,
        (false, false) if before.description == after.description => return EQUAL_TEXTS,
        (false, false) => {}
    }
    let common = before_tokens
        .iter()
        .filter(|word| after_tokens.binary_search(word).is_ok())
        .count();
    let smaller = before_tokens.len().min(after_tokens.len());
    if smaller == 0 || common * 2 < smaller {
        return 0;
    }
    u32::try_from(common * 80 / smaller).unwrap_or(0)
}

fn has_drifted(before: Money, after: Money) -> bool {
    let difference = (i128::from(before.minor) - i128::from(after.minor)).abs();
    before.currency == after.currency
        && difference * 100 <= i128::from(before.minor) * i128::from(MAX_DRIFT_PERCENT)
}

/// True for an amount of whole major units, as holds are.
fn is_whole_amount(money: Money) -> bool {
    money.minor % 10_i64.pow(u32::from(money.currency.exponent())) == 0
}

/// Mints ids for new rows: the same row of the same account always gets the same id, and rows that
/// read alike, or that share a reused bank id, get ids of their own.
pub struct TransactionIdMinter {
    account: AccountId,
    taken: HashSet<TransactionId>,
    ordinals: HashMap<TransactionId, u32>,
}

impl TransactionIdMinter {
    /// Rows of one account that may share everything an id is made of, at most.
    pub const MAX_IDENTICAL_ROWS: u32 = 100_000;

    /// A minter that never gives an id of a known transaction again.
    pub fn new(account: AccountId, stored: &[Transaction]) -> Self {
        let taken = stored.iter().map(|transaction| transaction.id).collect();
        Self {
            account,
            taken,
            ordinals: HashMap::new(),
        }
    }

    /// The id of a new row.
    pub fn mint_id(&mut self, facts: &TransactionFacts) -> TransactionId {
        let first = self.candidate_id(facts, 0);
        let start = self.ordinals.get(&first).copied().unwrap_or(0);
        for ordinal in start..Self::MAX_IDENTICAL_ROWS {
            let id = self.candidate_id(facts, ordinal);
            if self.taken.insert(id) {
                self.ordinals.insert(first, ordinal + 1);
                return id;
            }
        }
        first
    }

    fn candidate_id(&self, facts: &TransactionFacts, ordinal: u32) -> TransactionId {
        let day = EpochDay::from_date(facts.booking_date());
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
