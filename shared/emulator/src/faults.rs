//! Faults on purpose, and the count of calls.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::connector::AwsService;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallFate {
    /// It is served.
    #[default]
    Serve,
    /// It is refused as one too many; nothing happens.
    Throttle,
    /// The service fails (500); nothing happens.
    Fail,
    /// The connection breaks before the service has the call; nothing happens.
    Unreachable,
    /// The call is served, and the connection breaks before the answer.
    LoseResponse,
    /// Of a batch the first half (rounded up) is served and the rest is handed back: unprocessed
    /// keys and items of DynamoDB, failed entries of SQS and EventBridge. Other calls are served.
    ServeFirstHalf,
}

type FateHook = Arc<dyn Fn(AwsService, &str) -> CallFate + Send + Sync>;

#[derive(Default)]
struct InjectorState {
    hook: Option<FateHook>,
    call_counts: HashMap<(AwsService, String), u64>,
}

/// The hook of a test.
#[derive(Default)]
pub(crate) struct FaultInjector(Mutex<InjectorState>);

impl FaultInjector {
    fn lock_state(&self) -> MutexGuard<'_, InjectorState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_hook(
        &self,
        hook: impl Fn(AwsService, &str) -> CallFate + Send + Sync + 'static,
    ) {
        self.lock_state().hook = Some(Arc::new(hook));
    }

    pub(crate) fn call_count(&self, service: AwsService, operation: &str) -> u64 {
        let key = (service, operation.to_owned());
        self.lock_state()
            .call_counts
            .get(&key)
            .copied()
            .unwrap_or_default()
    }

    /// Counts a call and decides on it. The hook runs without the lock: it may ask for the counts.
    pub(crate) fn decide_fate(&self, service: AwsService, operation: &str) -> CallFate {
        let hook = {
            let mut state = self.lock_state();
            *state
                .call_counts
                .entry((service, operation.to_owned()))
                .or_default() += 1;
            state.hook.clone()
        };
        hook.map_or(CallFate::Serve, |hook| hook(service, operation))
    }
}

impl fmt::Debug for FaultInjector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faults")
    }
}
