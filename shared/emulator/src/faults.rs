//! Faults on purpose ([`CallFate`], decided by a test's hook in the [`FaultInjector`]) and the count of calls.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::service::AwsService;

/// What happens to a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallFate {
    /// It is served.
    #[default]
    Serve,
    /// It is throttled; nothing happens.
    Throttle,
    /// The service fails (500); nothing happens.
    Fail,
    /// The connection breaks before the call reaches the service; nothing happens.
    Unreachable,
    /// The call is served, and the connection breaks before the response.
    LoseResponse,
    /// The first half (rounded up) of a batch is served and the rest is returned: as unprocessed keys and items of
    /// DynamoDB, and as failed entries of SQS and EventBridge. Other calls are served.
    ServeFirstHalf,
}

type FateHook = Arc<dyn Fn(AwsService, &str) -> CallFate + Send + Sync>;

#[derive(Default)]
struct InjectorState {
    hook: Option<FateHook>,
    call_counts: HashMap<(AwsService, String), u64>,
}

/// The hook of a test, and the calls counted so far.
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

    /// Counts a call and decides its fate. The hook runs without the lock: it may read the counts.
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
        f.write_str("FaultInjector")
    }
}
