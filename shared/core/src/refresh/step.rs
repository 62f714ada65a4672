//! The refresh of one record as a state machine: [`next_refresh_action`] decides the next action from what is fixed
//! ([`RefreshTerms`]) and what was done so far ([`RefreshProgress`]); the shell executes it and reports back.
//!
//! ```text
//! Started ----- a notice of the consent's end is due ----> AnnounceConsentEnd -> ConsentChecked
//!    |                                                                              |
//!    +------------------------------------------------------------------------------+
//!    v
//!    nothing may be fetched now ------------------------------------------> Finish(Deferred)
//!    else Fetch -> Fetched
//!                    reads as it was last dispatched ---------------------> Finish(Unchanged)
//!                    fails as it was last reported -----------------------> Finish(StillFailing)
//!                    else Commit -> Committed ----------------------------> Finish(Committed)
//!                                -> Conflicted: Fetch again, and after
//!                                   MAX_FETCH_ATTEMPTS -------------------> Finish(Contended)
//! ```
//!
//! Only `Finish(Unchanged)` and `Finish(StillFailing)` end a refresh without the strong read of the record's head. A
//! refresh that may repair a crash, was asked for on demand, or is an audit, never takes these two exits.

use jiff::Timestamp;

use crate::{
    model::{ids::AccountId, snapshot::Product},
    resilience::failure_state::{FailureState, RefreshFaults, SuspendedProducts},
    schedule::{consent_clock::ConsentClock, plan::DueEntry},
    sync::decide::SnapshotDigests,
};

/// Times a record is fetched in one refresh at most: again only where another refresh committed meanwhile.
pub const MAX_FETCH_ATTEMPTS: u32 = 3;

/// What is fixed for the refresh of a record.
#[derive(Clone, Copy, Debug)]
pub struct RefreshTerms<'a> {
    /// The due entry: what was last dispatched, and what was last wrong.
    pub entry: &'a DueEntry,
    /// How many accounts the record has.
    pub account_count: usize,
    /// When the consent ends, where that is known.
    pub consent_clock: Option<ConsentClock>,
    /// True where an app or a user asked for the refresh.
    pub is_on_demand: bool,
    /// True where the bank allows refreshes only while the user is present.
    pub requires_user: bool,
    /// True where the strong read is taken whatever the bank answers.
    pub needs_strong_read: bool,
    /// True where at least one product of one account is not suspended.
    pub has_open_products: bool,
    /// True where a product of an account is suspended, and so not fetched.
    pub has_suspended_products: bool,
}

/// How far the refresh of a record has come.
#[derive(Clone, Copy, Debug)]
pub enum RefreshProgress<'a> {
    /// It begins.
    Started {
        /// The time.
        now: Timestamp,
    },
    /// The notices of the consent's end that were due are committed.
    ConsentChecked {
        /// True where the consent is over.
        is_expired: bool,
    },
    /// The bank was called, or its circuit breaker answered in its place.
    Fetched {
        /// What the bank's answer comes to.
        digests: &'a SnapshotDigests,
        /// When the bank was called.
        requested_at: Timestamp,
        /// Fetches so far, this one included.
        attempts: u32,
    },
    /// Another refresh of the record committed after the bank was called: what was fetched is out of date.
    Conflicted {
        /// Fetches so far.
        attempts: u32,
    },
    /// What was fetched is committed and dispatched.
    Committed,
}

/// The next action of a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshAction {
    /// Commit the notices of the consent's end that are due.
    AnnounceConsentEnd,
    /// Call the bank.
    Fetch,
    /// Compare the snapshot with what is committed, commit the changes and dispatch them.
    Commit,
    /// Stop.
    Finish(RefreshEnd),
}

/// Why a refresh stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshEnd {
    /// The bank is not called: everything is suspended, the consent has expired, or the bank requires the user.
    Deferred,
    /// Every product reads as it did when it was last dispatched.
    Unchanged,
    /// What fails is what failed the last time and was reported then; the rest is unchanged.
    StillFailing,
    /// Other refreshes committed first in every attempt.
    Contended,
    /// The snapshot was compared, committed and dispatched.
    Committed,
}

/// The next action of a record's refresh.
pub fn next_refresh_action(
    terms: &RefreshTerms<'_>,
    progress: RefreshProgress<'_>,
) -> RefreshAction {
    match progress {
        RefreshProgress::Started { now } => {
            let is_notice_due = terms
                .consent_clock
                .is_some_and(|clock| clock.next_notice_at() <= now);
            match is_notice_due {
                true => RefreshAction::AnnounceConsentEnd,
                false => fetch_or_defer(terms, false),
            }
        }
        RefreshProgress::ConsentChecked { is_expired } => fetch_or_defer(terms, is_expired),
        RefreshProgress::Fetched {
            digests,
            requested_at,
            attempts,
        } => {
            // A second fetch means that somebody committed: what the due entry says is out of date.
            if terms.needs_strong_read || attempts > 1 {
                RefreshAction::Commit
            } else if is_unchanged(terms.entry, digests) {
                RefreshAction::Finish(RefreshEnd::Unchanged)
            } else if is_still_failing(terms, digests, requested_at) {
                RefreshAction::Finish(RefreshEnd::StillFailing)
            } else {
                RefreshAction::Commit
            }
        }
        RefreshProgress::Conflicted { attempts } if attempts < MAX_FETCH_ATTEMPTS => {
            RefreshAction::Fetch
        }
        RefreshProgress::Conflicted { .. } => RefreshAction::Finish(RefreshEnd::Contended),
        RefreshProgress::Committed => RefreshAction::Finish(RefreshEnd::Committed),
    }
}

/// An expired consent is used only on demand, because the user may have prolonged it at the bank; a bank that requires
/// the user is called only on demand.
fn fetch_or_defer(terms: &RefreshTerms<'_>, is_expired: bool) -> RefreshAction {
    let is_barred = !terms.is_on_demand && (is_expired || terms.requires_user);
    match is_barred || !terms.has_open_products {
        true => RefreshAction::Finish(RefreshEnd::Deferred),
        false => RefreshAction::Fetch,
    }
}

/// What of a record with these accounts is suspended at `now`. A refresh on demand fetches everything.
pub fn suspended_for_refresh(
    failure_state: Option<&FailureState>,
    accounts: impl IntoIterator<Item = AccountId>,
    is_on_demand: bool,
    now: Timestamp,
) -> SuspendedProducts {
    failure_state
        .filter(|_| !is_on_demand)
        .map(|state| state.suspended_products(now, accounts))
        .unwrap_or_default()
}

/// True where a product's answer is the one that was last dispatched.
fn is_dispatched(entry: &DueEntry, product: Product, digests: &SnapshotDigests) -> bool {
    let dispatched = entry.watermarks.get(product).and_then(|it| it.digest);
    dispatched.is_some() && dispatched.as_ref() == digests.digests.get(product)
}

/// True where nothing was wrong and every product reads as it did when it was last dispatched.
fn is_unchanged(entry: &DueEntry, digests: &SnapshotDigests) -> bool {
    entry.failure_state.is_none()
        && entry
            .watermarks
            .iter()
            .all(|(product, _)| is_dispatched(entry, product, digests))
}

/// True where what fails is what failed the last time and was reported then, and where everything else reads as before.
/// A product of which no account could be read changes nothing. With something suspended the answer is not the whole
/// record's, so that the strong read decides.
fn is_still_failing(
    terms: &RefreshTerms<'_>,
    digests: &SnapshotDigests,
    requested_at: Timestamp,
) -> bool {
    let entry = terms.entry;
    let before = entry.failure_state.as_ref();
    if terms.has_suspended_products || !before.is_some_and(FailureState::is_reported) {
        return false;
    }
    let refresh_faults = RefreshFaults {
        faults: &digests.faults,
        suspended: &SuspendedProducts::default(),
    };
    FailureState::after_refresh(before, refresh_faults, requested_at).as_ref() == before
        && entry.watermarks.iter().all(|(product, _)| {
            let failed = digests.faults.iter().filter(|(_, of, _)| *of == product);
            failed.count() == terms.account_count || is_dispatched(entry, product, digests)
        })
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::{
        model::{
            fault::{BankFault, FaultClass},
            ids::{BankId, RecordId, Seq},
            interval::{DueKey, Interval},
            snapshot::ByProduct,
        },
        sync::{decide::Watermark, digest::Digest},
    };

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn due_entry() -> DueEntry {
        let watermark = Watermark {
            digest: Some(Digest([1; 16])),
            seq: Seq(3),
        };
        DueEntry {
            key: DueKey {
                interval: Interval::OneHour,
                bank: BankId::from_bytes([1; 12]),
                record: RecordId::from_bytes([2; 12]),
            },
            watermarks: ByProduct {
                balance: Some(watermark),
                transactions: None,
            },
            state_seq: None,
            failure_state: None,
        }
    }

    fn refresh_terms(entry: &DueEntry) -> RefreshTerms<'_> {
        RefreshTerms {
            entry,
            account_count: 1,
            consent_clock: None,
            is_on_demand: false,
            requires_user: false,
            needs_strong_read: false,
            has_open_products: true,
            has_suspended_products: false,
        }
    }

    fn balance_digest(byte: u8) -> SnapshotDigests {
        SnapshotDigests {
            digests: ByProduct {
                balance: Some(Digest([byte; 16])),
                transactions: None,
            },
            faults: Vec::new(),
        }
    }

    fn fetched(digests: &SnapshotDigests, attempts: u32) -> RefreshProgress<'_> {
        RefreshProgress::Fetched {
            digests,
            requested_at: NOW,
            attempts,
        }
    }

    #[test]
    fn an_unchanged_answer_ends_the_refresh_unless_a_strong_read_is_due() {
        let entry = due_entry();
        let terms = refresh_terms(&entry);
        let (same, other) = (balance_digest(1), balance_digest(2));
        let unchanged = RefreshAction::Finish(RefreshEnd::Unchanged);
        assert_eq!(next_refresh_action(&terms, fetched(&same, 1)), unchanged);
        let changed = next_refresh_action(&terms, fetched(&other, 1));
        assert_eq!(changed, RefreshAction::Commit);
        let strong = RefreshTerms {
            needs_strong_read: true,
            ..terms
        };
        let audited = next_refresh_action(&strong, fetched(&same, 1));
        assert_eq!(audited, RefreshAction::Commit);
        // After a conflict the due entry proves nothing.
        let second = next_refresh_action(&terms, fetched(&same, 2));
        assert_eq!(second, RefreshAction::Commit);
    }

    #[test]
    fn a_conflict_is_fetched_again_a_bounded_number_of_times() {
        let entry = due_entry();
        let terms = refresh_terms(&entry);
        for attempts in 1..MAX_FETCH_ATTEMPTS {
            let next = next_refresh_action(&terms, RefreshProgress::Conflicted { attempts });
            assert_eq!(next, RefreshAction::Fetch);
        }
        let attempts = MAX_FETCH_ATTEMPTS;
        let last = next_refresh_action(&terms, RefreshProgress::Conflicted { attempts });
        assert_eq!(last, RefreshAction::Finish(RefreshEnd::Contended));
    }

    #[test]
    fn an_expired_consent_is_announced_and_used_only_on_demand() {
        let entry = due_entry();
        let ends_tomorrow = NOW + SignedDuration::from_hours(24);
        let scheduled = RefreshTerms {
            consent_clock: Some(ConsentClock {
                expires_at: ends_tomorrow,
                last_notice_days: None,
            }),
            ..refresh_terms(&entry)
        };
        let started = RefreshProgress::Started { now: NOW };
        let first = next_refresh_action(&scheduled, started);
        assert_eq!(first, RefreshAction::AnnounceConsentEnd);
        let expired = RefreshProgress::ConsentChecked { is_expired: true };
        let deferred = RefreshAction::Finish(RefreshEnd::Deferred);
        assert_eq!(next_refresh_action(&scheduled, expired), deferred);
        let on_demand = RefreshTerms {
            is_on_demand: true,
            ..scheduled
        };
        assert_eq!(
            next_refresh_action(&on_demand, expired),
            RefreshAction::Fetch
        );
        let valid = RefreshProgress::ConsentChecked { is_expired: false };
        assert_eq!(next_refresh_action(&scheduled, valid), RefreshAction::Fetch);
    }

    #[test]
    fn a_bank_that_requires_the_user_and_a_suspended_record_are_deferred() {
        let entry = due_entry();
        let terms = refresh_terms(&entry);
        let started = RefreshProgress::Started { now: NOW };
        let deferred = RefreshAction::Finish(RefreshEnd::Deferred);
        let requires_user = RefreshTerms {
            requires_user: true,
            ..terms
        };
        assert_eq!(next_refresh_action(&requires_user, started), deferred);
        let suspended = RefreshTerms {
            has_open_products: false,
            ..terms
        };
        assert_eq!(next_refresh_action(&suspended, started), deferred);
        assert_eq!(next_refresh_action(&terms, started), RefreshAction::Fetch);
    }

    #[test]
    fn a_failure_that_was_reported_ends_the_refresh_and_a_new_one_is_committed() {
        let account = AccountId::derive(&[b"a"]);
        let failing = |class| SnapshotDigests {
            digests: ByProduct::default(),
            faults: vec![(account, Product::Balance, BankFault::new(class, ""))],
        };
        let down = failing(FaultClass::BankUnavailable);
        let faults = RefreshFaults {
            faults: &down.faults,
            suspended: &SuspendedProducts::default(),
        };
        let once = FailureState::after_refresh(None, faults, NOW);
        let reported = FailureState::after_refresh(once.as_ref(), faults, NOW);
        let entry = |failure_state| DueEntry {
            failure_state,
            ..due_entry()
        };
        let (first, second) = (entry(once), entry(reported));
        let terms = refresh_terms(&second);
        let still = RefreshAction::Finish(RefreshEnd::StillFailing);
        assert_eq!(next_refresh_action(&terms, fetched(&down, 1)), still);
        let other = failing(FaultClass::Internal);
        let new = next_refresh_action(&terms, fetched(&other, 1));
        assert_eq!(new, RefreshAction::Commit);
        let terms = refresh_terms(&first);
        let unreported = next_refresh_action(&terms, fetched(&down, 1));
        assert_eq!(unreported, RefreshAction::Commit);
    }
}
