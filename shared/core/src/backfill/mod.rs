//! The backfill of a record. The cast: [`progress`], how far it has come and which range is fetched next; [`step`], what
//! one step does and what its response means.
//!
//! The rule: a range is bounded, and a step is committed once.

pub mod progress;
pub mod step;
