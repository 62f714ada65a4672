//! An event bus as an endpoint.
//!
//! Its deliveries are deliveries like any other, with the same rows, retries, circuit and log; only the transport
//! differs. Attempts that are made at the same time share calls, ten events in each: [`BusSink`] collects them. The
//! rule: whoever waits for a result puts events on the bus until it has its own, so that none stays behind.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use futures::channel::oneshot;
use okra_aws::bus::{BusEvent, EventBus, EventBusError, MAX_ENTRY_BYTES, MAX_PUT_ENTRIES};
use okra_core::delivery::retry::AttemptOutcome;

type PutResult = std::result::Result<(), EventBusError>;
type WaitingEvent = (BusEvent, oneshot::Sender<PutResult>);

/// A bus, and the events that wait to be put on it.
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

    /// Puts an event on the bus, together with those of others at the same time.
    pub(crate) async fn put_event(&self, event: BusEvent) -> PutResult {
        let (sender, mut receiver) = oneshot::channel();
        self.lock_waiting().push_back((event, sender));
        // Others that attempt at the same time add their events now.
        tokio::task::yield_now().await;
        loop {
            match receiver.try_recv() {
                Ok(Some(result)) => return result,
                Ok(None) => {}
                Err(oneshot::Canceled) => return Err(EventBusError::Unreachable),
            }
            let (events, senders) = self.take_batch();
            if events.is_empty() {
                // Another attempt sends it. Should that one be dropped, the event may be on the bus or not.
                return receiver.await.unwrap_or(Err(EventBusError::Unreachable));
            }
            for (result, sender) in self.bus.put_events(&events).await.into_iter().zip(senders) {
                // The attempt that waits for it may have been dropped.
                drop(sender.send(result));
            }
        }
    }

    /// The events of the next call.
    fn take_batch(&self) -> (Vec<BusEvent>, Vec<oneshot::Sender<PutResult>>) {
        let mut waiting = self.lock_waiting();
        let (mut bytes, mut events, mut senders) = (0, Vec::new(), Vec::new());
        while let Some((event, _)) = waiting.front() {
            bytes += event.size_bytes();
            // The first is sent in any case: EventBridge reports what is wrong with it.
            let is_full = events.len() == MAX_PUT_ENTRIES || bytes > MAX_ENTRY_BYTES;
            if is_full && !events.is_empty() {
                break;
            }
            if let Some((event, sender)) = waiting.pop_front() {
                events.push(event);
                senders.push(sender);
            }
        }
        (events, senders)
    }

    fn lock_waiting(&self) -> std::sync::MutexGuard<'_, VecDeque<WaitingEvent>> {
        self.waiting_events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The class of an attempt that ended so.
pub(crate) const fn put_outcome(result: &PutResult) -> AttemptOutcome {
    match result {
        Ok(()) => AttemptOutcome::Ok,
        Err(EventBusError::Overloaded(_)) => AttemptOutcome::Throttled,
        Err(EventBusError::Unreachable) => AttemptOutcome::Connect,
        Err(EventBusError::Rejected(_)) => AttemptOutcome::Rejected,
    }
}
