//! An event bus as an endpoint: what an attempt at it is.
//!
//! Its deliveries are deliveries like any other, with the same rows, retries, circuit and log; only the
//! way there is another. Attempts that are made at the same time share calls, ten events in each.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use futures::channel::oneshot;
use okra_aws::bus::{BusEvent, EventBus, EventBusError, MAX_ENTRY_BYTES, MAX_PUT_ENTRIES};
use okra_core::delivery::retry::AttemptOutcome;

type PutResult = std::result::Result<(), EventBusError>;
type WaitingEvent = (BusEvent, oneshot::Sender<PutResult>);

/// A bus, and the events that are about to be put on it.
pub(crate) struct BusSink {
    bus: EventBus,
    waiting_events: Mutex<VecDeque<WaitingEvent>>,
}

impl BusSink {
    pub(crate) const fn new(bus: EventBus) -> Self {
        Self {
            bus,
            waiting_events: Mutex::new(VecDeque::new()),
        }
    }

    pub(crate) fn is_bus(&self, name: &str) -> bool {
        self.bus.is_named(name)
    }

    /// Puts an event on the bus, with those that others put at the same time.
    pub(crate) async fn put_event(&self, event: BusEvent) -> PutResult {
        let (answer, mut answered) = oneshot::channel();
        self.lock_waiting().push_back((event, answer));
        // Whoever is at it at the same time has the turn to bring his.
        tokio::task::yield_now().await;
        // Each takes what is there until he has his answer, so that nothing stays behind.
        loop {
            match answered.try_recv() {
                Ok(Some(result)) => return result,
                Ok(None) => {}
                Err(oneshot::Canceled) => return Err(EventBusError::Unreachable),
            }
            let (events, answers) = self.take_batch();
            if events.is_empty() {
                // Another has it under way; should he vanish, it may be there or not.
                return answered.await.unwrap_or(Err(EventBusError::Unreachable));
            }
            for (result, answer) in self.bus.put_events(&events).await.into_iter().zip(answers) {
                // Whoever asked may be gone.
                drop(answer.send(result));
            }
        }
    }

    /// What goes in the next call.
    fn take_batch(&self) -> (Vec<BusEvent>, Vec<oneshot::Sender<PutResult>>) {
        let mut waiting = self.lock_waiting();
        let (mut bytes, mut events, mut answers) = (0, Vec::new(), Vec::new());
        while let Some((event, _)) = waiting.front() {
            bytes += event.size_bytes();
            // The first goes in any case: EventBridge says what is wrong with it.
            let full = events.len() == MAX_PUT_ENTRIES || bytes > MAX_ENTRY_BYTES;
            if full && !events.is_empty() {
                break;
            }
            if let Some((event, answer)) = waiting.pop_front() {
                events.push(event);
                answers.push(answer);
            }
        }
        (events, answers)
    }

    fn lock_waiting(&self) -> std::sync::MutexGuard<'_, VecDeque<WaitingEvent>> {
        self.waiting_events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The class of what came of it.
pub(crate) const fn outcome_of_put(result: &PutResult) -> AttemptOutcome {
    match result {
        Ok(()) => AttemptOutcome::Ok,
        Err(EventBusError::Overloaded(_)) => AttemptOutcome::Throttled,
        Err(EventBusError::Unreachable) => AttemptOutcome::Connect,
        Err(EventBusError::Rejected(_)) => AttemptOutcome::Rejected,
    }
}
