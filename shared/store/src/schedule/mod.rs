//! When records are refreshed: [`due_entries`], how many of them each interval has ([`interval_counts`]), and moving a
//! record's products between intervals ([`reschedule`]).

pub(crate) mod due_entries;
pub(crate) mod interval_counts;
pub(crate) mod reschedule;
