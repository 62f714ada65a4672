//! Faults on purpose, and the count of calls.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::connector::Service;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// It is served.
    #[default]
    Pass,
    /// It is refused as one too many; nothing happens.
    Throttle,
    /// The service fails (500); nothing happens.
    Fail,
    /// The connection breaks before the service has the call; nothing happens.
    Unreachable,
    /// The call is served, and the connection breaks before the answer.
    LoseAnswer,
    /// Of a batch the first half (rounded up) is served and the rest is handed back: unprocessed
    /// keys and items of DynamoDB, failed entries of SQS and EventBridge. Other calls are served.
    Partial,
}

type Hook = Arc<dyn Fn(Service, &str) -> Fate + Send + Sync>;

#[derive(Default)]
struct State {
    hook: Option<Hook>,
    calls: HashMap<(Service, String), u64>,
}

/// The hook of a test.
#[derive(Default)]
pub(crate) struct Faults(Mutex<State>);

impl Faults {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn inject(&self, hook: impl Fn(Service, &str) -> Fate + Send + Sync + 'static) {
        self.state().hook = Some(Arc::new(hook));
    }

    pub(crate) fn calls(&self, service: Service, operation: &str) -> u64 {
        let key = (service, operation.to_owned());
        self.state().calls.get(&key).copied().unwrap_or_default()
    }

    /// Counts a call and decides on it. The hook runs without the lock: it may ask for the counts.
    pub(crate) fn judge(&self, service: Service, operation: &str) -> Fate {
        let hook = {
            let mut state = self.state();
            *state
                .calls
                .entry((service, operation.to_owned()))
                .or_default() += 1;
            state.hook.clone()
        };
        hook.map_or(Fate::Pass, |hook| hook(service, operation))
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faults")
    }
}
