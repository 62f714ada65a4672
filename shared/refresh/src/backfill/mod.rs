//! The backfill of a record: its older transactions, a bounded range of one account at a step.
//!
//! [`lifecycle`] begins a backfill, resumes it and looks whether its next step is on its way; [`step`] makes a step
//! ([`BackfillStepOutcome`]). The rule: each step is a message of its own, so that a backfill survives crashes, waits as
//! long as the bank wants and delays no refresh.

mod lifecycle;
mod step;

pub(crate) use self::lifecycle::{
    CoverageUpdate, FetchedWindow, begin_backfill, maintain_backfill, record_covered_window,
};
pub use self::{
    lifecycle::{resume_backfill, retry_backfill},
    step::BackfillStepOutcome,
};
