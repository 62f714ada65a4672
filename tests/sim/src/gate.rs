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
pub(crate) enum Fate {
    /// It happens.
    Pass,
    /// The service refuses it as one too many.
    Throttle,
    /// The service fails.
    Fail,
    /// It is not reached.
    Unreachable,
    /// It happens, and the answer is lost.
    LoseAnswer,
    /// Of a batch only the first half happens.
    Partial,
    /// A read sees what was there so many milliseconds ago.
    Stale(i64),
}

/// Which side of an effect a process waits at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Before,
    After,
}

/// A process that waits at an effect.
#[derive(Debug)]
pub(crate) struct Point {
    pub(crate) process: u64,
    pub(crate) label: String,
    pub(crate) kind: Kind,
    pub(crate) side: Side,
    released: Option<Fate>,
    waker: Option<Waker>,
}

/// What an effect is, for the choice of its fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
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
struct State {
    /// Nobody waits: the laws are looking, or a world is being set up.
    open: bool,
    current: u64,
    points: BTreeMap<u64, Point>,
    next: u64,
}

/// The gate. Clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<Mutex<State>>);

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens it for good or closes it.
    pub(crate) fn set_open(&self, open: bool) {
        self.state().open = open;
    }

    /// Says whose future is polled from now on.
    pub(crate) fn enter(&self, process: u64) {
        self.state().current = process;
    }

    /// Whose future is polled now.
    pub(crate) fn current(&self) -> u64 {
        self.state().current
    }

    /// The points where processes wait, oldest first, with what is known of them.
    pub(crate) fn waiting<T>(&self, look: impl Fn(u64, &Point) -> T) -> Vec<T> {
        let state = self.state();
        let unreleased = state
            .points
            .iter()
            .filter(|(_, point)| point.released.is_none());
        unreleased.map(|(&id, point)| look(id, point)).collect()
    }

    /// Lets a point pass.
    pub(crate) fn release(&self, id: u64, fate: Fate) {
        let waker = match self.state().points.get_mut(&id) {
            None => None,
            Some(point) => {
                point.released = Some(fate);
                point.waker.take()
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits for the world's decision.
    pub(crate) fn pass(&self, side: Side, kind: Kind, label: String) -> Passing {
        Passing {
            gate: self.clone(),
            id: None,
            point: Some((side, kind, label)),
        }
    }
}

/// See [`Gate::pass`].
pub(crate) struct Passing {
    gate: Gate,
    id: Option<u64>,
    point: Option<(Side, Kind, String)>,
}

impl Future for Passing {
    type Output = Fate;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Fate> {
        let this = &mut *self;
        let mut state = this.gate.state();
        if let Some((side, kind, label)) = this.point.take() {
            if state.open {
                return Poll::Ready(Fate::Pass);
            }
            let id = state.next;
            state.next += 1;
            let process = state.current;
            let waker = Some(cx.waker().clone());
            let point = Point {
                process,
                label,
                kind,
                side,
                released: None,
                waker,
            };
            state.points.insert(id, point);
            this.id = Some(id);
            return Poll::Pending;
        }
        let Some(id) = this.id else {
            return Poll::Ready(Fate::Pass);
        };
        let Some(point) = state.points.get_mut(&id) else {
            return Poll::Ready(Fate::Pass);
        };
        if let Some(fate) = point.released {
            state.points.remove(&id);
            this.id = None;
            return Poll::Ready(fate);
        }
        point.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.gate.state().points.remove(&id);
        }
    }
}
