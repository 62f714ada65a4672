//! Ranges of sort keys, and how much of one is read.

use super::attributes::HIGHEST_SORT_CHAR;

/// Begins a range of all sort keys: below every character used in them.
const LOWEST_SORT_KEY: &str = " ";

/// Sort keys of one partition, both ends included.
#[derive(Clone, Debug)]
pub(crate) struct KeyRange {
    pub(super) pk: String,
    pub(super) first: String,
    pub(super) last: String,
}

impl KeyRange {
    pub(crate) fn between_keys(
        pk: impl Into<String>,
        first: impl Into<String>,
        last: String,
    ) -> Self {
        Self {
            pk: pk.into(),
            first: first.into(),
            last,
        }
    }

    /// All sort keys.
    pub(crate) fn whole_partition(pk: impl Into<String>) -> Self {
        Self::between_keys(pk, LOWEST_SORT_KEY, HIGHEST_SORT_CHAR.to_string())
    }

    /// All sort keys that begin with `prefix`.
    pub(crate) fn with_prefix(pk: impl Into<String>, prefix: &str) -> Self {
        Self::between_keys(pk, prefix, format!("{prefix}{HIGHEST_SORT_CHAR}"))
    }

    /// All sort keys that begin with `prefix` and come after `prefix` and `last_suffix`.
    pub(crate) fn with_prefix_after(
        pk: impl Into<String>,
        prefix: &str,
        last_suffix: Option<&str>,
    ) -> Self {
        match last_suffix {
            None => Self::with_prefix(pk, prefix),
            Some(last) => Self::between_keys(
                pk,
                format!("{prefix}{last}{HIGHEST_SORT_CHAR}"),
                format!("{prefix}{HIGHEST_SORT_CHAR}"),
            ),
        }
    }

    /// The rest of this range, after a sort key of it.
    pub(crate) fn after_key(mut self, sk: &str) -> Self {
        self.first = format!("{sk}{LOWEST_SORT_KEY}");
        self
    }

    /// The part of this range up to a sort key, which is in it.
    pub(crate) fn up_to_key(mut self, sk: impl Into<String>) -> Self {
        self.last = sk.into();
        self
    }
}

/// Times a limit that are read of a list whose length is limited. Lists of earlier releases, whose limits were not
/// enforced, are longer than their limit.
pub(crate) const READ_MARGIN: usize = 10;

/// How much of a range is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ReadLimit {
    /// The first so many items.
    First(usize),
    /// All, up to the bound. What is beyond it is left out, and an error is logged, which raises an alarm: a list of many
    /// owners, or one that a message needs, must not fail as a whole.
    Capped { bound: usize, what: &'static str },
    /// All; more than the bound is [`StoreError::BoundExceeded`](crate::StoreError::BoundExceeded) of `what`.
    All { bound: usize, what: &'static str },
}

/// In which order a range is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortOrder {
    /// By rising keys: oldest first.
    Ascending,
    /// By falling keys: newest first.
    Descending,
}
