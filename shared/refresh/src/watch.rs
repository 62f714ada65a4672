//! The breaker of a bank around its calls: whether it is called, and what is heard of it.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use okra_core::{
    breaker::{Breaker, Gate, Heard, down},
    fault::BankFault,
    ids::BankId,
};
use okra_store::Consistency;

use crate::{RefreshError, Refresher};

/// Times a breaker is stored against others that store it at the same time; after that it is theirs.
const MAX_ROUNDS: u32 = 4;

/// A bank while some of its records are refreshed.
pub(crate) struct Watch<'a> {
    refresher: &'a Refresher,
    bank: BankId,
    seen: Mutex<Seen>,
}

#[derive(Clone, Copy)]
struct Seen {
    /// The breaker as it was last read or stored.
    stored: Option<Breaker>,
    /// What was heard since.
    heard: Heard,
    /// The probe that is due is ours to make.
    probing: bool,
}

impl Seen {
    fn breaker(&self, now: Timestamp, jitter: u32) -> Breaker {
        let stored = self.stored.unwrap_or_default();
        if self.probing {
            stored.after_probe(self.heard, now, jitter)
        } else {
            stored.after(self.heard, now, jitter)
        }
    }
}

impl Refresher {
    /// Begins to watch a bank. Where a probe is due, it is claimed.
    pub(crate) async fn watch(&self, bank: BankId) -> Result<Watch<'_>, RefreshError> {
        let mut stored = self.store.breaker(bank, Consistency::Eventual).await?;
        let now = self.clock.now();
        let mut probing = false;
        if let Some(breaker) = stored
            && breaker.gate(now) == Gate::Probe
        {
            let claimed = breaker.probing(now);
            probing = self
                .store
                .put_breaker(bank, stored.as_ref(), &claimed)
                .await?;
            stored = if probing {
                Some(claimed)
            } else {
                self.store.breaker(bank, Consistency::Strong).await?
            };
        }
        let seen = Seen {
            stored,
            heard: Heard::default(),
            probing,
        };
        Ok(Watch {
            refresher: self,
            bank,
            seen: Mutex::new(seen),
        })
    }
}

impl Watch<'_> {
    fn seen(&self) -> Seen {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True while the probe is ours to make and not yet made: one record goes before the others.
    pub(crate) fn is_probing(&self) -> bool {
        self.seen().probing
    }

    /// What a record is told in the place of a call; `None` where the bank is to be called.
    pub(crate) fn refuses(&self) -> Option<BankFault> {
        let (seen, now) = (self.seen(), self.refresher.clock.now());
        if seen.probing {
            return None;
        }
        match seen.stored.unwrap_or_default().gate(now) {
            Gate::Call => None,
            // Somebody else's probe that is late is not made by those who did not claim it.
            Gate::Probe => Some(down(now, now)),
            Gate::Hold { until } => Some(down(until, now)),
        }
    }

    /// Takes note of what a record heard. Where it opens or closes the circuit, that is stored at once.
    pub(crate) async fn hear(&self, heard: Heard) -> Result<(), RefreshError> {
        let settled = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.heard = seen.heard.and(heard);
            let after = seen.breaker(self.refresher.clock.now(), 0);
            let decided = seen.probing && heard != Heard::default();
            decided || after.status() != seen.stored.unwrap_or_default().status() && after.is_open()
        };
        if settled {
            return self.settle().await;
        }
        Ok(())
    }

    /// Stores what was heard, where it changes the breaker.
    pub(crate) async fn settle(&self) -> Result<(), RefreshError> {
        let mut seen = {
            let mut shared = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let seen = *shared;
            // What is heard from now on counts on top of what is stored here.
            shared.heard = Heard::default();
            seen
        };
        let store = &self.refresher.store;
        for _ in 0..MAX_ROUNDS {
            let now = self.refresher.clock.now();
            let after = seen.breaker(now, jitter(self.bank, now));
            let unchanged = after == seen.stored.unwrap_or_default();
            if unchanged
                || store
                    .put_breaker(self.bank, seen.stored.as_ref(), &after)
                    .await?
            {
                if !unchanged {
                    self.say(&seen.stored.unwrap_or_default(), &after);
                    seen.stored = Some(after);
                }
                break;
            }
            seen.stored = store.breaker(self.bank, Consistency::Strong).await?;
        }
        let mut shared = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        (shared.stored, shared.probing) = (seen.stored, false);
        Ok(())
    }

    fn say(&self, before: &Breaker, after: &Breaker) {
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
fn jitter(bank: BankId, now: Timestamp) -> u32 {
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
