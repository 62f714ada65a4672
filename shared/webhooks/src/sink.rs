//! An event bus as an endpoint: what an attempt at it is.
//!
//! Its deliveries are deliveries like any other, with the same rows, retries, circuit and log; only the
//! way there is another. Attempts that are made at the same time share calls, ten events in each.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use futures::channel::oneshot;
use okra_aws::bus::{Bus, BusEvent, BusFault, MAX_ENTRIES, MAX_ENTRY_BYTES};
use okra_core::retry::Outcome;

type Result = std::result::Result<(), BusFault>;
type Waiting = (BusEvent, oneshot::Sender<Result>);

/// A bus, and the events that are about to be put on it.
pub(crate) struct Sink {
    bus: Bus,
    waiting: Mutex<VecDeque<Waiting>>,
}

impl Sink {
    pub(crate) const fn new(bus: Bus) -> Self {
        Self {
            bus,
            waiting: Mutex::new(VecDeque::new()),
        }
    }

    pub(crate) fn is(&self, name: &str) -> bool {
        self.bus.is(name)
    }

    /// Puts an event on the bus, with those that others put at the same time.
    pub(crate) async fn put(&self, event: BusEvent) -> Result {
        let (answer, mut answered) = oneshot::channel();
        self.lock().push_back((event, answer));
        // Whoever is at it at the same time has the turn to bring his.
        tokio::task::yield_now().await;
        // Each takes what is there until he has his answer, so that nothing stays behind.
        loop {
            match answered.try_recv() {
                Ok(Some(result)) => return result,
                Ok(None) => {}
                Err(oneshot::Canceled) => return Err(BusFault::Unreachable),
            }
            let (events, answers) = self.batch();
            if events.is_empty() {
                // Another has it under way; should he vanish, it may be there or not.
                return answered.await.unwrap_or(Err(BusFault::Unreachable));
            }
            for (result, answer) in self.bus.put(&events).await.into_iter().zip(answers) {
                // Whoever asked may be gone.
                drop(answer.send(result));
            }
        }
    }

    /// What goes in the next call.
    fn batch(&self) -> (Vec<BusEvent>, Vec<oneshot::Sender<Result>>) {
        let mut waiting = self.lock();
        let (mut bytes, mut events, mut answers) = (0, Vec::new(), Vec::new());
        while let Some((event, _)) = waiting.front() {
            bytes += event.size();
            // The first goes in any case: EventBridge says what is wrong with it.
            let full = events.len() == MAX_ENTRIES || bytes > MAX_ENTRY_BYTES;
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

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The class of what came of it.
pub(crate) const fn outcome(result: &Result) -> Outcome {
    match result {
        Ok(()) => Outcome::Ok,
        Err(BusFault::Overloaded(_)) => Outcome::Throttled,
        Err(BusFault::Unreachable) => Outcome::Connect,
        Err(BusFault::Refused(_)) => Outcome::Rejected,
    }
}
