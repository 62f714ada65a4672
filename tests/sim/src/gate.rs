//! The gate that every effect passes twice: before it happens, and before its answer arrives. The
//! world decides whose turn it is and what becomes of the effect, so it also decides every order of
//! events and every point at which a process dies.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// What becomes of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EffectFate {
    /// It happens.
    Succeed,
    /// The service refuses it as one too many.
    Throttle,
    /// The service fails.
    Fail,
    /// It is not reached.
    Unreachable,
    /// It happens, and the answer is lost.
    LoseResponse,
    /// Of a batch only the first half happens.
    Partial,
    /// A read sees what was there so many milliseconds ago.
    StaleRead(i64),
}

/// Which side of an effect a process waits at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EffectPhase {
    Before,
    After,
}

/// A process that waits at an effect.
#[derive(Debug)]
pub(crate) struct PendingEffect {
    pub(crate) process: u64,
    pub(crate) label: String,
    pub(crate) kind: EffectKind,
    pub(crate) phase: EffectPhase,
    released_with: Option<EffectFate>,
    waker: Option<Waker>,
}

/// What an effect is, for the choice of its fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EffectKind {
    /// A read of the table that may be stale.
    EventualRead,
    /// Any other call of the table.
    Table,
    /// A batch that can be served by half.
    Batch,
    /// A queue.
    Queue,
    /// A rule.
    Rule,
    /// A bank; it has faults of its own.
    Bank,
    /// A receiver; it has faults of its own.
    Receiver,
}

#[derive(Debug, Default)]
struct SchedulerState {
    /// Nobody waits: the laws are looking, or a world is being set up.
    is_bypassed: bool,
    current_process: u64,
    pending_effects: BTreeMap<u64, PendingEffect>,
    next_effect_id: u64,
}

/// The gate. Clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct EffectScheduler(Arc<Mutex<SchedulerState>>);

impl EffectScheduler {
    fn lock_state(&self) -> MutexGuard<'_, SchedulerState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens it for good or closes it.
    pub(crate) fn set_bypassed(&self, is_bypassed: bool) {
        self.lock_state().is_bypassed = is_bypassed;
    }

    /// Says whose future is polled from now on.
    pub(crate) fn set_current_process(&self, process: u64) {
        self.lock_state().current_process = process;
    }

    /// Whose future is polled now.
    pub(crate) fn current_process(&self) -> u64 {
        self.lock_state().current_process
    }

    /// The points where processes wait, oldest first, with what is known of them.
    pub(crate) fn map_pending_effects<T>(
        &self,
        map_effect: impl Fn(u64, &PendingEffect) -> T,
    ) -> Vec<T> {
        let state = self.lock_state();
        let unreleased = state
            .pending_effects
            .iter()
            .filter(|(_, point)| point.released_with.is_none());
        unreleased
            .map(|(&id, point)| map_effect(id, point))
            .collect()
    }

    /// Lets a point pass.
    pub(crate) fn release_effect(&self, id: u64, fate: EffectFate) {
        let waker = match self.lock_state().pending_effects.get_mut(&id) {
            None => None,
            Some(point) => {
                point.released_with = Some(fate);
                point.waker.take()
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits for the world's decision.
    pub(crate) fn await_release(
        &self,
        phase: EffectPhase,
        kind: EffectKind,
        label: String,
    ) -> EffectRelease {
        EffectRelease {
            scheduler: self.clone(),
            effect_id: None,
            new_effect: Some((phase, kind, label)),
        }
    }
}

/// See [`Gate::pass`].
pub(crate) struct EffectRelease {
    scheduler: EffectScheduler,
    effect_id: Option<u64>,
    new_effect: Option<(EffectPhase, EffectKind, String)>,
}

impl Future for EffectRelease {
    type Output = EffectFate;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<EffectFate> {
        let this = &mut *self;
        let mut state = this.scheduler.lock_state();
        if let Some((side, kind, label)) = this.new_effect.take() {
            if state.is_bypassed {
                return Poll::Ready(EffectFate::Succeed);
            }
            let id = state.next_effect_id;
            state.next_effect_id += 1;
            let process = state.current_process;
            let waker = Some(cx.waker().clone());
            let point = PendingEffect {
                process,
                label,
                kind,
                phase: side,
                released_with: None,
                waker,
            };
            state.pending_effects.insert(id, point);
            this.effect_id = Some(id);
            return Poll::Pending;
        }
        let Some(id) = this.effect_id else {
            return Poll::Ready(EffectFate::Succeed);
        };
        let Some(point) = state.pending_effects.get_mut(&id) else {
            return Poll::Ready(EffectFate::Succeed);
        };
        if let Some(fate) = point.released_with {
            state.pending_effects.remove(&id);
            this.effect_id = None;
            return Poll::Ready(fate);
        }
        point.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for EffectRelease {
    fn drop(&mut self) {
        if let Some(id) = self.effect_id {
            self.scheduler.lock_state().pending_effects.remove(&id);
        }
    }
}
