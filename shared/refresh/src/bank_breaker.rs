//! The circuit breaker of a bank around its calls: [`BreakerGuard`] says whether the bank is called while some of its
//! records are refreshed, counts how the calls ended, and stores what that makes of the breaker.
//!
//! The rule: one process makes the probe that is due, and a healthy bank's calls write nothing.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use okra_core::{
    model::{fault::BankFault, ids::BankId},
    resilience::bank_breaker::{Admission, BankBreaker, CallOutcomes, bank_down_fault},
};
use okra_store::Consistency;

use crate::{RefreshError, Refresher};

/// Times a breaker is stored against others that store it at the same time; after that theirs counts.
const MAX_STORE_ATTEMPTS: u32 = 4;

/// The breaker of a bank while some of its records are refreshed.
pub(crate) struct BreakerGuard<'a> {
    refresher: &'a Refresher,
    bank: BankId,
    state: Mutex<GuardState>,
}

#[derive(Clone, Copy)]
struct GuardState {
    /// The breaker as it was last read or stored.
    stored_breaker: Option<BankBreaker>,
    /// How the calls since then ended.
    outcomes: CallOutcomes,
    /// True where this process claimed the probe that is due.
    is_probing: bool,
}

impl GuardState {
    fn updated_breaker(&self, now: Timestamp, jitter: u32) -> BankBreaker {
        let stored = self.stored_breaker.unwrap_or_default();
        if self.is_probing {
            stored.after_probe(self.outcomes, now, jitter)
        } else {
            stored.after_calls(self.outcomes, now, jitter)
        }
    }
}

impl Refresher {
    /// Reads the breaker of a bank. Where a probe is due, it is claimed.
    pub(crate) async fn guard_bank(&self, bank: BankId) -> Result<BreakerGuard<'_>, RefreshError> {
        let mut stored = self
            .store
            .find_bank_breaker(bank, Consistency::Eventual)
            .await?;
        let now = self.clock.now();
        let mut probing = false;
        if let Some(breaker) = stored
            && breaker.admission(now) == Admission::Probe
        {
            let claimed = breaker.claim_probe(now);
            probing = self
                .store
                .put_bank_breaker(bank, stored.as_ref(), &claimed)
                .await?;
            stored = if probing {
                Some(claimed)
            } else {
                self.store
                    .find_bank_breaker(bank, Consistency::Strong)
                    .await?
            };
        }
        let state = GuardState {
            stored_breaker: stored,
            outcomes: CallOutcomes::default(),
            is_probing: probing,
        };
        Ok(BreakerGuard {
            refresher: self,
            bank,
            state: Mutex::new(state),
        })
    }
}

impl BreakerGuard<'_> {
    fn current_state(&self) -> GuardState {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True while the claimed probe is not made yet: one record goes before the others.
    pub(crate) fn is_probing(&self) -> bool {
        self.current_state().is_probing
    }

    /// The fault that stands in the place of a call; `None` where the bank is to be called.
    pub(crate) fn rejection_fault(&self) -> Option<BankFault> {
        let (state, now) = (self.current_state(), self.refresher.clock.now());
        if state.is_probing {
            return None;
        }
        match state.stored_breaker.unwrap_or_default().admission(now) {
            Admission::Admit => None,
            // A probe that became due is made by whoever claims it, and this guard did not.
            Admission::Probe => Some(bank_down_fault(now, now)),
            Admission::Reject { until } => Some(bank_down_fault(until, now)),
        }
    }

    /// Counts how a record's calls ended. Where that opens or closes the circuit, it is stored at once.
    pub(crate) async fn record_outcomes(&self, outcomes: CallOutcomes) -> Result<(), RefreshError> {
        let has_transition = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.outcomes = state.outcomes.merge_with(outcomes);
            let after = state.updated_breaker(self.refresher.clock.now(), 0);
            let is_probe_over = state.is_probing && outcomes != CallOutcomes::default();
            let before = state.stored_breaker.unwrap_or_default();
            is_probe_over || (after.is_open() && after.bank_status() != before.bank_status())
        };
        if has_transition {
            return self.store_breaker().await;
        }
        Ok(())
    }

    /// Stores how the calls ended, where that changes the breaker.
    pub(crate) async fn store_breaker(&self) -> Result<(), RefreshError> {
        let mut state = {
            let mut shared = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let state = *shared;
            // Calls that end from now on count on top of what is stored here.
            shared.outcomes = CallOutcomes::default();
            state
        };
        let store = &self.refresher.store;
        for _ in 0..MAX_STORE_ATTEMPTS {
            let now = self.refresher.clock.now();
            let after = state.updated_breaker(now, draw_jitter(self.bank, now));
            let unchanged = after == state.stored_breaker.unwrap_or_default();
            if unchanged
                || store
                    .put_bank_breaker(self.bank, state.stored_breaker.as_ref(), &after)
                    .await?
            {
                if !unchanged {
                    self.log_transition(&state.stored_breaker.unwrap_or_default(), &after);
                    state.stored_breaker = Some(after);
                }
                break;
            }
            state.stored_breaker = store
                .find_bank_breaker(self.bank, Consistency::Strong)
                .await?;
        }
        let mut shared = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (shared.stored_breaker, shared.is_probing) = (state.stored_breaker, false);
        Ok(())
    }

    fn log_transition(&self, before: &BankBreaker, after: &BankBreaker) {
        match (before.is_open(), after.is_open()) {
            (false, true) => {
                tracing::warn!(bank.id = %self.bank, "The bank is down; its circuit opened");
            }
            (true, false) => {
                tracing::info!(bank.id = %self.bank, "The bank responds again; its circuit closed");
            }
            _ => {}
        }
    }
}

/// A jitter from all of `u32`, derived from the bank and the time (FNV-1a), so that a simulation is repeatable.
fn draw_jitter(bank: BankId, now: Timestamp) -> u32 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bank
        .as_bytes()
        .iter()
        .chain(&now.as_millisecond().to_be_bytes())
    {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let [a, b, c, d, ..] = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}
