//! When records are refreshed: [`due_entries`] and how many each interval has.

pub(crate) mod due_entries;
pub(crate) mod interval_counts;
