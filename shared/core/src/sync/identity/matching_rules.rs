//! The rules of the [module documentation](super), each a method of [`RowMatcher`] that pairs what it fits.
//!
//! The rule of the rules: each looks only at what the ones before it left open.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::{
    model::snapshot::{Direction, TransactionFacts},
    sync::{
        feed::MatchConfidence,
        identity::{
            candidates::{
                DatedRow, IndicesByDay, MAX_CANDIDATES, content_key, content_order,
                rows_bookable_on_day, rows_near_day,
            },
            matching_state::{OpenGroup, Pair, RowMatcher},
            scoring::{
                EQUAL_TEXTS, MIN_RELATED, MIN_SAME_PARTY, TokenIndex, contradicts_identity,
                has_drifted, is_settled_hold, may_become, text_similarity, token_similarity,
            },
        },
    },
};

/// How much speaks for a stored transaction and a row of one bank id: what agrees, the similarity of the texts, and
/// minus the days between them.
type SameIdScore = (u8, u32, i32);

/// Pending rows whose bank ids went to other payments.
#[derive(Default)]
struct DisplacedRows<'a> {
    /// How alike the text of the booked row must be, by pending row.
    min_similarities: HashMap<usize, u32>,
    /// Ids that still stand for a stored transaction.
    standing_ids: HashSet<&'a str>,
}

impl DisplacedRows<'_> {
    fn includes(&self, stored: usize) -> bool {
        self.min_similarities.contains_key(&stored)
    }

    /// True where the row's id, if it has one, stands for no stored transaction.
    fn is_free(&self, row: &TransactionFacts) -> bool {
        let id = row.bank_id.as_deref();
        id.is_none_or(|id| !self.standing_ids.contains(id))
    }
}

impl<'a> RowMatcher<'a> {
    /// Rule 1.
    pub(super) fn match_unchanged(&mut self) {
        self.pair_one_to_one(
            |row| Some(content_order(row.facts)),
            |_, _| MatchConfidence::Exact,
        );
    }

    /// Rule 2.
    pub(super) fn match_same_id(&mut self) {
        // Equal content first, with the same status before another.
        self.pair_one_to_one(
            |row| Some((row.bank_id()?, content_key(row.facts), row.facts.status)),
            |_, _| MatchConfidence::Exact,
        );
        self.pair_one_to_one(
            |row| Some((row.bank_id()?, content_key(row.facts))),
            |_, _| MatchConfidence::Exact,
        );
        self.match_booked_elsewhere();
        // Where an id is on several rows, the most alike go first: else a new row under it could take the stored
        // transaction of one that was edited.
        let mut pairs = Vec::new();
        for group in self.group_open_rows(|row| row.bank_id()).into_values() {
            if !group.rows.is_empty() && !group.stored.is_empty() {
                self.pair_most_alike(group, &mut pairs);
            }
        }
        self.settle_pairs(pairs);
    }

    /// Pairs what has one bank id by [`SameIdScore`], the highest first.
    fn pair_most_alike(&mut self, group: OpenGroup, pairs: &mut Vec<Pair>) {
        let mut candidates = self.index_by_day(group.stored.into_iter());
        let mut comparisons = 0;
        let mut scored: Vec<_> = group
            .rows
            .iter()
            .flat_map(|&row| {
                rows_near_day(&candidates, self.rows[row].day).map(move |(_, stored)| (stored, row))
            })
            .inspect(|_| comparisons += 1)
            .filter_map(|(stored, row)| Some((self.score_same_id(stored, row)?, stored, row)))
            .collect();
        scored.sort_unstable_by_key(|&(score, stored, row)| {
            std::cmp::Reverse((score, usize::MAX - stored, usize::MAX - row))
        });
        let mut taken = HashSet::new();
        for (_, stored, row) in scored {
            let candidate = (self.stored[stored].day, stored);
            if candidates.contains(&candidate) && taken.insert(row) {
                candidates.remove(&candidate);
                pairs.push((stored, row, MatchConfidence::Exact));
            }
        }
        self.comparisons += comparisons;
    }

    /// How much speaks for a row being the stored transaction of the same bank id; `None` where it cannot be.
    fn score_same_id(&self, stored: usize, row: usize) -> Option<SameIdScore> {
        let (before, after) = (self.stored[stored], self.rows[row]);
        let similarity = text_similarity(before.facts, after.facts);
        let agreeing = 2 * u8::from(before.facts.amount == after.facts.amount)
            + u8::from(before.day == after.day)
            + u8::from(similarity > 0);
        let days = (before.day - after.day).abs();
        (!contradicts_identity(before, after, similarity)).then_some((agreeing, similarity, -days))
    }

    /// Pairs pending rows whose ids went to other payments with the booked rows that they became. Their ids say less
    /// than an equal amount and a similar text under an id that is new, and where nothing else speaks for their ids'
    /// rows, less than an equal amount and the same text.
    fn match_booked_elsewhere(&mut self) {
        let displaced = self.find_displaced_rows();
        if displaced.min_similarities.is_empty() {
            return;
        }
        self.pair_pending_with_booked(
            |stored, row| displaced.includes(stored) && displaced.is_free(row),
            |matcher, stored, row| {
                let similarity =
                    text_similarity(matcher.stored[stored].facts, matcher.rows[row].facts);
                let min_similarity = displaced.min_similarities.get(&stored);
                match min_similarity.is_some_and(|least| similarity >= *least) {
                    true => similarity,
                    false => 0,
                }
            },
            MIN_SAME_PARTY,
        );
    }

    /// Finds the pending rows that no row of their id can be, or that only an id speaks for.
    fn find_displaced_rows(&mut self) -> DisplacedRows<'a> {
        let (mut displaced, mut comparisons) = (DisplacedRows::default(), 0);
        for (id, group) in self.group_open_rows(|row| row.bank_id()) {
            let rows: IndicesByDay = group
                .rows
                .iter()
                .map(|&row| (self.rows[row].day, row))
                .collect();
            for stored in group.stored {
                let before = self.stored[stored];
                if !before.is_pending() || rows.is_empty() {
                    displaced.standing_ids.insert(id);
                    continue;
                }
                let possible: Vec<_> = rows_near_day(&rows, before.day)
                    .inspect(|_| comparisons += 1)
                    .map(|(_, row)| self.rows[row])
                    .filter(|row| may_become(before, *row))
                    .collect();
                if possible.is_empty() {
                    displaced.min_similarities.insert(stored, MIN_SAME_PARTY);
                    continue;
                }
                if !possible
                    .iter()
                    .any(|row| has_same_amount_or_text(before, *row))
                {
                    displaced.min_similarities.insert(stored, EQUAL_TEXTS);
                }
                displaced.standing_ids.insert(id);
            }
        }
        self.comparisons += comparisons;
        displaced
    }

    /// Rule 3.
    pub(super) fn match_same_content(&mut self) {
        self.pair_one_to_one(
            |row| Some((content_key(row.facts), row.facts.status)),
            same_content_confidence,
        );
        self.pair_one_to_one(|row| Some(content_key(row.facts)), same_content_confidence);
    }

    /// The words of what is open, for rules 4 and 5.
    pub(super) fn index_tokens(&self) -> TokenIndex {
        TokenIndex::from_facts(
            self.open_stored
                .iter()
                .map(|&index| (index, self.stored[index].facts)),
            self.open_rows
                .iter()
                .map(|&index| (index, self.rows[index].facts)),
        )
    }

    fn similarity_between(&self, tokens: &TokenIndex, stored: usize, row: usize) -> u32 {
        token_similarity(
            self.stored[stored].facts,
            self.rows[row].facts,
            tokens.stored_tokens(stored),
            tokens.row_tokens(row),
        )
    }

    /// Rule 4, equal amounts.
    pub(super) fn match_booked(&mut self, tokens: &TokenIndex) {
        self.pair_pending_with_booked(
            |_, _| true,
            |matcher, stored, row| matcher.similarity_between(tokens, stored, row),
            1,
        );
    }

    /// Pairs pending rows with booked ones of equal amount that may be theirs and whose texts have at least this
    /// similarity.
    fn pair_pending_with_booked(
        &mut self,
        is_candidate: impl Fn(usize, &TransactionFacts) -> bool,
        similarity: impl Fn(&Self, usize, usize) -> u32,
        min_similarity: u32,
    ) {
        let (mut pairs, mut comparisons) = (Vec::new(), 0);
        let groups = self.group_open_rows(|row| {
            let amount = row.facts.amount;
            Some((row.facts.direction, amount.currency, amount.minor))
        });
        for group in groups.into_values() {
            let pending = group.stored.into_iter();
            let pending = pending.filter(|&index| self.stored[index].is_pending());
            let mut candidates = self.index_by_day(pending);
            for row in group.rows {
                let after = self.rows[row];
                if !after.is_booked() || candidates.is_empty() {
                    continue;
                }
                let best = rows_bookable_on_day(&candidates, after.day)
                    .inspect(|_| comparisons += 1)
                    .filter(|&(_, stored)| is_candidate(stored, after.facts))
                    .map(|(day, stored)| (similarity(self, stored, row), day, stored))
                    .filter(|(similarity, ..)| *similarity >= min_similarity)
                    .max_by_key(|(similarity, day, stored)| {
                        let days = (after.day - day).abs();
                        (*similarity, -days, -day, usize::MAX - stored)
                    });
                if let Some((similarity, day, stored)) = best {
                    candidates.remove(&(day, stored));
                    let confidence = match similarity >= MIN_SAME_PARTY {
                        true => MatchConfidence::High,
                        false => MatchConfidence::Medium,
                    };
                    pairs.push((stored, row, confidence));
                }
            }
        }
        self.comparisons += comparisons;
        self.settle_pairs(pairs);
    }

    /// Rule 4, amounts that drifted; and rows without ids whose amount was edited.
    pub(super) fn match_drifted_amounts(&mut self, tokens: &TokenIndex) {
        let mut index: BTreeMap<(Direction, u32), IndicesByDay> = BTreeMap::new();
        for &stored in &self.open_stored {
            let before = self.stored[stored];
            for &token in tokens.stored_tokens(stored) {
                let bucket = index.entry((before.facts.direction, token)).or_default();
                bucket.insert((before.day, stored));
            }
        }
        let (mut pairs, mut taken, mut comparisons) = (Vec::new(), HashSet::new(), 0);
        for &row in &self.open_rows {
            let after = self.rows[row];
            // The rarest word first: it says most, and its bucket is the shortest.
            let mut buckets: Vec<&IndicesByDay> = tokens
                .row_tokens(row)
                .iter()
                .filter_map(|&token| index.get(&(after.facts.direction, token)))
                .collect();
            buckets.sort_by_key(|bucket| (bucket.len(), bucket.first().copied()));
            let mut compared = HashSet::new();
            let best = buckets
                .into_iter()
                .flat_map(|bucket| rows_bookable_on_day(bucket, after.day))
                .take(MAX_CANDIDATES)
                .inspect(|_| comparisons += 1)
                .filter(|(_, stored)| !taken.contains(stored) && compared.insert(*stored))
                .map(|(day, stored)| (self.similarity_between(tokens, stored, row), day, stored))
                .filter(|(similarity, _, stored)| {
                    *similarity >= MIN_RELATED && may_drift_into(self.stored[*stored], after)
                })
                .max_by_key(|(similarity, day, stored)| {
                    let days = (after.day - day).abs();
                    (*similarity, -days, -day, usize::MAX - stored)
                });
            if let Some((_, _, stored)) = best {
                taken.insert(stored);
                pairs.push((stored, row, MatchConfidence::Medium));
            }
        }
        self.comparisons += comparisons;
        self.settle_pairs(pairs);
    }

    /// Rule 4, holds: only where one pending and one booked row can be meant.
    pub(super) fn match_holds(&mut self) {
        let pairs = self
            .group_open_rows(|row| {
                let facts = row.facts;
                let text = Some(facts.description.as_str()).filter(|text| !text.is_empty());
                Some((facts.direction, facts.amount.currency, text?))
            })
            .into_values()
            .filter_map(
                |group| match (group.stored.as_slice(), group.rows.as_slice()) {
                    (&[stored], &[row]) => Some((stored, row, MatchConfidence::Low)),
                    _ => None,
                },
            )
            .filter(|&(stored, row, _)| {
                let (before, after) = (self.stored[stored], self.rows[row]);
                before.is_pending() && after.is_booked() && is_settled_hold(before, after)
            })
            .collect();
        self.settle_pairs(pairs);
    }

    /// Rule 5.
    pub(super) fn match_reissued(&mut self, tokens: &TokenIndex) {
        let are_ids_stable = self.are_ids_stable();
        let mut pairs = Vec::new();
        let groups = self.group_open_rows(|row| {
            let facts = row.facts;
            let amount = (facts.amount.currency, facts.amount.minor);
            Some((facts.direction, amount, row.day, facts.status))
        });
        for group in groups.into_values() {
            let mut candidates: BTreeSet<usize> = (0..group.stored.len()).collect();
            let unpaired = self.pair_similar_texts(tokens, &group, &mut candidates, &mut pairs);
            for row in unpaired {
                let mut comparisons = 0;
                let first = candidates
                    .iter()
                    .take(MAX_CANDIDATES)
                    .copied()
                    .inspect(|_| comparisons += 1)
                    .find(|&at| {
                        let have_ids = self.stored[group.stored[at]].bank_id().is_some()
                            && self.rows[row].bank_id().is_some();
                        !(have_ids && are_ids_stable)
                    });
                self.comparisons += comparisons;
                if let Some(at) = first {
                    candidates.remove(&at);
                    pairs.push((group.stored[at], row, MatchConfidence::Medium));
                }
            }
        }
        self.settle_pairs(pairs);
    }

    /// Pairs the rows of a group whose texts are similar, and returns the others. `candidates` are the positions in
    /// the group's stored side that are free.
    fn pair_similar_texts(
        &mut self,
        tokens: &TokenIndex,
        group: &OpenGroup,
        candidates: &mut BTreeSet<usize>,
        pairs: &mut Vec<Pair>,
    ) -> Vec<usize> {
        let mut unpaired = Vec::new();
        let mut comparisons = 0;
        for &row in &group.rows {
            let best = candidates
                .iter()
                .take(MAX_CANDIDATES)
                .inspect(|_| comparisons += 1)
                .map(|&at| (self.similarity_between(tokens, group.stored[at], row), at))
                .filter(|(similarity, _)| *similarity >= MIN_RELATED)
                .max_by_key(|&(similarity, at)| (similarity, usize::MAX - at));
            match best {
                Some((_, at)) => {
                    candidates.remove(&at);
                    pairs.push((group.stored[at], row, MatchConfidence::Medium));
                }
                None => unpaired.push(row),
            }
        }
        self.comparisons += comparisons;
        unpaired
    }
}

fn same_content_confidence(before: &TransactionFacts, after: &TransactionFacts) -> MatchConfidence {
    match before.bank_id.is_some() && before.bank_id == after.bank_id {
        true => MatchConfidence::Exact,
        false => MatchConfidence::High,
    }
}

fn has_same_amount_or_text(before: DatedRow<'_>, after: DatedRow<'_>) -> bool {
    before.facts.amount == after.facts.amount || before.facts.description == after.facts.description
}

/// True where a row may be a stored transaction whose amount drifted: it was booked, or edited without an id.
fn may_drift_into(before: DatedRow<'_>, after: DatedRow<'_>) -> bool {
    let is_booking = before.is_pending() && after.is_booked();
    let is_edit = before.facts.bank_id.is_none()
        && after.facts.bank_id.is_none()
        && before.facts.status == after.facts.status
        && before.day == after.day
        && before.facts.description == after.facts.description;
    (is_booking || is_edit) && has_drifted(before.facts.amount, after.facts.amount)
}
