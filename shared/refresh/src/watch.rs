//! The breaker of a bank around its calls: whether it is called, and what is heard of it.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use okra_core::{
    model::{fault::BankFault, ids::BankId},
    resilience::bank_breaker::{Admission, BankBreaker, CallOutcomes, bank_down_fault},
};
use okra_store::Consistency;

use crate::{RefreshError, Refresher};

/// Times a breaker is stored against others that store it at the same time; after that it is theirs.
const MAX_STORE_ATTEMPTS: u32 = 4;

/// A bank while some of its records are refreshed.
pub(crate) struct BreakerGuard<'a> {
    refresher: &'a Refresher,
    bank: BankId,
    state: Mutex<GuardState>,
}

#[derive(Clone, Copy)]
struct GuardState {
    /// The breaker as it was last read or stored.
    stored_breaker: Option<BankBreaker>,
    /// What was heard since.
    outcomes: CallOutcomes,
    /// The probe that is due is ours to make.
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
    /// Begins to watch a bank. Where a probe is due, it is claimed.
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
        let seen = GuardState {
            stored_breaker: stored,
            outcomes: CallOutcomes::default(),
            is_probing: probing,
        };
        Ok(BreakerGuard {
            refresher: self,
            bank,
            state: Mutex::new(seen),
        })
    }
}

impl BreakerGuard<'_> {
    fn current_state(&self) -> GuardState {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True while the probe is ours to make and not yet made: one record goes before the others.
    pub(crate) fn is_probing(&self) -> bool {
        self.current_state().is_probing
    }

    /// What a record is told in the place of a call; `None` where the bank is to be called.
    pub(crate) fn rejection_fault(&self) -> Option<BankFault> {
        let (seen, now) = (self.current_state(), self.refresher.clock.now());
        if seen.is_probing {
            return None;
        }
        match seen.stored_breaker.unwrap_or_default().admission(now) {
            Admission::Admit => None,
            // Somebody else's probe that is late is not made by those who did not claim it.
            Admission::Probe => Some(bank_down_fault(now, now)),
            Admission::Reject { until } => Some(bank_down_fault(until, now)),
        }
    }

    /// Takes note of what a record heard. Where it opens or closes the circuit, that is stored at once.
    pub(crate) async fn record_outcomes(&self, outcomes: CallOutcomes) -> Result<(), RefreshError> {
        let settled = {
            let mut seen = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            seen.outcomes = seen.outcomes.merge_with(outcomes);
            let after = seen.updated_breaker(self.refresher.clock.now(), 0);
            let decided = seen.is_probing && outcomes != CallOutcomes::default();
            decided
                || after.bank_status() != seen.stored_breaker.unwrap_or_default().bank_status()
                    && after.is_open()
        };
        if settled {
            return self.store_breaker().await;
        }
        Ok(())
    }

    /// Stores what was heard, where it changes the breaker.
    pub(crate) async fn store_breaker(&self) -> Result<(), RefreshError> {
        let mut seen = {
            let mut shared = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let seen = *shared;
            // What is heard from now on counts on top of what is stored here.
            shared.outcomes = CallOutcomes::default();
            seen
        };
        let store = &self.refresher.store;
        for _ in 0..MAX_STORE_ATTEMPTS {
            let now = self.refresher.clock.now();
            let after = seen.updated_breaker(now, draw_jitter(self.bank, now));
            let unchanged = after == seen.stored_breaker.unwrap_or_default();
            if unchanged
                || store
                    .put_bank_breaker(self.bank, seen.stored_breaker.as_ref(), &after)
                    .await?
            {
                if !unchanged {
                    self.log_transition(&seen.stored_breaker.unwrap_or_default(), &after);
                    seen.stored_breaker = Some(after);
                }
                break;
            }
            seen.stored_breaker = store
                .find_bank_breaker(self.bank, Consistency::Strong)
                .await?;
        }
        let mut shared = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (shared.stored_breaker, shared.is_probing) = (seen.stored_breaker, false);
        Ok(())
    }

    fn log_transition(&self, before: &BankBreaker, after: &BankBreaker) {
        match (before.is_open(), after.is_open()) {
            (false, true) => {
                tracing::warn!(bank = %self.bank, "a bank is down: its circuit opened");
            }
            (true, false) => {
                tracing::info!(bank = %self.bank, "a bank is back: its circuit closed");
            }
            _ => {}
        }
    }
}

/// Drawn from the bank and the time, so that a simulation is repeatable; evenly from all of `u32`.
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
