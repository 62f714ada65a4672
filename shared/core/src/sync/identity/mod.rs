//! Identity: which row of a bank's response is which stored transaction.
//!
//! The cast: [`match_rows`] pairs stored transactions with rows and returns a [`RowMatching`]; a [`TransactionIdMinter`]
//! gives ids to the rows that are new. Inside, [`candidates`] bounds which rows are compared, [`scoring`] says how alike
//! two rows are, [`matcher`] holds what is still open, and [`rules`] applies the rules one after the other.
//!
//! Banks change a transaction's id when a pending row is booked, reuse ids, leave them blank, renumber their rows with
//! each response, and reissue ids with other texts. A row is matched by the first of these rules that fits:
//!
//! 1. **Unchanged**: all facts are equal: `Exact`.
//! 2. **Same bank id**, not contradicted by the content ([`scoring::contradicts_identity`]): `Exact`. Where an id is on
//!    several rows, equal content goes first. A pending row whose id is now only on rows that it cannot have become
//!    ([`scoring::may_become`]) was booked under a new id, where a row has its amount and a similar text, or where the
//!    rows of its own id have neither its amount nor its text, a row has its amount and the same text: `High`.
//! 3. **Same content** (direction, amount, date, text) under another id or none: `High`. Equal rows pair off one to one,
//!    so three equal purchases stay three.
//! 4. **A pending row that was booked**, within [`BOOKING_WINDOW_DAYS`]: equal amount and similar text: `High`; equal
//!    amount and little or no text: `Medium`; similar text and an amount within [`MAX_DRIFT_PERCENT`] (tips, exchange
//!    rates): `Medium`; equal text and a round amount that was held before the true one was known (fuel, hotels), within
//!    [`MAX_HOLD_DAYS`]: `Low`.
//! 5. **Edited, or reissued with another text**: same direction, amount, date and status. Where the bank's ids are
//!    stable, an id that disappeared and another that appeared are two transactions unless their texts are similar;
//!    where they are not, or there are none, the rows pair off: `Medium`.
//!
//! Rules 2 and 3 swap where the bank renumbers its rows.
//!
//! The result does not depend on the order of the rows. The cost is n log n: every rule sorts or buckets, and where two
//! rows must be compared one by one, a row is compared with at most [`MAX_CANDIDATES`] others in a rule.
//! [`RowMatching::comparisons`] counts them.

mod candidates;
mod ids;
mod matching_rules;
mod matching_state;
mod scoring;

pub use candidates::{BOOKING_WINDOW_DAYS, MAX_CANDIDATES};
pub use ids::TransactionIdMinter;
pub use matching_state::RowMatching;
pub use scoring::{MAX_DRIFT_PERCENT, MAX_HOLD_DAYS};

use crate::{
    model::snapshot::{Transaction, TransactionFacts},
    sync::identity::matching_state::RowMatcher,
};

/// Matches rows with stored transactions. The order of both does not matter: ties are broken by content.
pub fn match_rows(stored: &[Transaction], rows: &[TransactionFacts]) -> RowMatching {
    let mut matcher = RowMatcher::new(stored, rows);
    // Rules 1 to 3: what is equal, by facts, id or content.
    matcher.match_unchanged();
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
    // Rules 4 and 5: what is similar.
    if !matcher.is_done() {
        let tokens = matcher.index_tokens();
        matcher.match_booked(&tokens);
        matcher.match_drifted_amounts(&tokens);
        matcher.match_holds();
        matcher.match_reissued(&tokens);
    }
    matcher.into_matching()
}
