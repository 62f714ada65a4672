//! The state of a matching. The cast: [`RowMatcher`], what is paired and what is still open; [`OpenGroup`], open indices
//! of both sides with one key; [`RowMatching`], the result.
//!
//! The rule: a stored transaction and a row are paired at most once, and a pair is final.

use std::collections::{BTreeMap, HashSet};

use crate::{
    model::snapshot::{Transaction, TransactionFacts},
    sync::{
        feed::MatchConfidence,
        identity::candidates::{ContentKey, DatedRow, IndicesByDay, content_key, content_order},
    },
};

/// Which stored transaction each row is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowMatching {
    /// Pairs of (index of the stored transaction, index of the row), with the confidence.
    pub matched: Vec<(usize, usize, MatchConfidence)>,
    /// Indices of rows that are no stored transaction.
    pub new: Vec<usize>,
    /// Indices of stored transactions that no row is.
    pub missing: Vec<usize>,
    /// How often two rows were compared; at most [`MAX_CANDIDATES`](super::MAX_CANDIDATES) for each row and rule.
    pub comparisons: u64,
}

/// Index of the stored transaction, index of the row, and how sure it is that they are one.
pub(super) type Pair = (usize, usize, MatchConfidence);

/// Open indices of both sides, in content order, that share a key.
#[derive(Default)]
pub(super) struct OpenGroup {
    pub(super) stored: Vec<usize>,
    pub(super) rows: Vec<usize>,
}

/// Stored transactions and rows, and which of them are paired.
pub(super) struct RowMatcher<'a> {
    /// Both sides in content order, which is not the caller's; all indices inside are positions in it.
    pub(super) stored: Vec<DatedRow<'a>>,
    pub(super) rows: Vec<DatedRow<'a>>,
    /// The caller's indices.
    stored_indices: Vec<usize>,
    row_indices: Vec<usize>,
    /// Not paired yet, in order.
    pub(super) open_stored: Vec<usize>,
    pub(super) open_rows: Vec<usize>,
    matched: Vec<Pair>,
    pub(super) comparisons: u64,
}

impl<'a> RowMatcher<'a> {
    pub(super) fn new(stored: &'a [Transaction], rows: &'a [TransactionFacts]) -> Self {
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

    /// True where one side has nothing open.
    pub(super) const fn is_done(&self) -> bool {
        self.open_stored.is_empty() || self.open_rows.is_empty()
    }

    /// Makes pairs final.
    pub(super) fn settle_pairs(&mut self, pairs: Vec<Pair>) {
        if pairs.is_empty() {
            return;
        }
        let stored: HashSet<usize> = pairs.iter().map(|pair| pair.0).collect();
        let rows: HashSet<usize> = pairs.iter().map(|pair| pair.1).collect();
        self.open_stored.retain(|index| !stored.contains(index));
        self.open_rows.retain(|index| !rows.contains(index));
        self.matched.extend(pairs);
    }

    /// What is open, grouped by a key. Rows without a key stay out.
    pub(super) fn group_open_rows<K: Ord>(
        &self,
        key: impl Fn(DatedRow<'a>) -> Option<K>,
    ) -> BTreeMap<K, OpenGroup> {
        let mut groups: BTreeMap<K, OpenGroup> = BTreeMap::new();
        for &index in &self.open_stored {
            if let Some(key) = key(self.stored[index]) {
                groups.entry(key).or_default().stored.push(index);
            }
        }
        for &index in &self.open_rows {
            if let Some(key) = key(self.rows[index]) {
                groups.entry(key).or_default().rows.push(index);
            }
        }
        groups
    }

    /// Pairs the rows of each group one to one in their order.
    pub(super) fn pair_one_to_one<K: Ord>(
        &mut self,
        key: impl Fn(DatedRow<'a>) -> Option<K>,
        confidence: impl Fn(&TransactionFacts, &TransactionFacts) -> MatchConfidence,
    ) {
        let pairs = self
            .group_open_rows(key)
            .into_values()
            .flat_map(|group| group.stored.into_iter().zip(group.rows))
            .map(|(stored, row)| {
                let confidence = confidence(self.stored[stored].facts, self.rows[row].facts);
                (stored, row, confidence)
            })
            .collect();
        self.settle_pairs(pairs);
    }

    /// Stored transactions by day.
    pub(super) fn index_by_day(&self, stored: impl Iterator<Item = usize>) -> IndicesByDay {
        stored
            .map(|index| (self.stored[index].day, index))
            .collect()
    }

    /// True where the bank renumbers its rows with each response: more ids are on a row whose content is stored under
    /// another id than on one whose content is unchanged.
    pub(super) fn is_renumbered(&self) -> bool {
        let mut ids: HashSet<&str> = HashSet::new();
        let mut contents: HashSet<(ContentKey<'_>, &str)> = HashSet::new();
        let mut texts: HashSet<ContentKey<'_>> = HashSet::new();
        for &index in &self.open_stored {
            let row = self.stored[index];
            if let Some(id) = row.bank_id() {
                ids.insert(id);
                contents.insert((content_key(row.facts), id));
                texts.insert(content_key(row.facts));
            }
        }
        let unchanged = self
            .matched
            .iter()
            .filter(|(stored, ..)| self.stored[*stored].bank_id().is_some())
            .count();
        let (mut agreeing, mut moved) = (unchanged, 0);
        for &index in &self.open_rows {
            let row = self.rows[index];
            let Some(id) = row.bank_id() else {
                continue;
            };
            if contents.contains(&(content_key(row.facts), id)) {
                agreeing += 1;
            } else if ids.contains(id) && texts.contains(&content_key(row.facts)) {
                moved += 1;
            }
        }
        moved > agreeing
    }

    /// True where at least half of the ids in the response are stored ones.
    pub(super) fn are_ids_stable(&self) -> bool {
        let stored: HashSet<&str> = self.stored.iter().filter_map(DatedRow::bank_id).collect();
        let in_response: Vec<&str> = self.rows.iter().filter_map(DatedRow::bank_id).collect();
        let known = in_response.iter().filter(|id| stored.contains(**id));
        let known = known.count();
        known > 0 && known * 2 >= in_response.len()
    }

    /// The result, in the caller's indices.
    pub(super) fn into_matching(self) -> RowMatching {
        let mut matched: Vec<_> = self
            .matched
            .into_iter()
            .map(|(stored, row, confidence)| {
                (
                    self.stored_indices[stored],
                    self.row_indices[row],
                    confidence,
                )
            })
            .collect();
        matched.sort_unstable_by_key(|&(stored, row, _)| (stored, row));
        let mut missing: Vec<usize> = self
            .open_stored
            .into_iter()
            .map(|index| self.stored_indices[index])
            .collect();
        missing.sort_unstable();
        RowMatching {
            matched,
            new: self
                .open_rows
                .into_iter()
                .map(|index| self.row_indices[index])
                .collect(),
            missing,
            comparisons: self.comparisons,
        }
    }
}
