//! How many attempts are in flight: in all, so that sockets do not run out, and at one endpoint, so that one that
//! hangs does not take the permits of all others.
//!
//! [`SendLanes`] hands out a [`SendPermit`] for each attempt. The rule: slow endpoints together hold only a part of the
//! permits, and whoever waits for an endpoint holds none that others could use.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use okra_core::model::ids::EndpointId;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Endpoints that are remembered before those without an attempt are forgotten.
const MAX_IDLE_ENDPOINTS: usize = 1024;

/// All slow endpoints together have one permit in so many.
const SLOW_LANE_DIVISOR: usize = 8;

/// Hands out permits for attempts.
pub(super) struct SendLanes {
    total: Arc<Semaphore>,
    /// Of these, those that slow endpoints share.
    slow: Arc<Semaphore>,
    endpoint_concurrency: usize,
    endpoints: Mutex<HashMap<EndpointId, Arc<Semaphore>>>,
}

/// A permit; returned when it is dropped.
pub(super) struct SendPermit {
    _endpoint: OwnedSemaphorePermit,
    _slow: Option<OwnedSemaphorePermit>,
    _total: OwnedSemaphorePermit,
}

impl SendLanes {
    pub(super) fn new(total: usize, per_endpoint: usize) -> Self {
        Self {
            total: Arc::new(Semaphore::new(total.max(1))),
            slow: Arc::new(Semaphore::new((total / SLOW_LANE_DIVISOR).max(1))),
            endpoint_concurrency: per_endpoint.max(1),
            endpoints: Mutex::default(),
        }
    }

    /// Waits for a permit.
    ///
    /// # Errors
    ///
    /// [`AcquireError`] where the semaphores are closed, which nothing does.
    pub(super) async fn acquire_send_permit(
        &self,
        endpoint: EndpointId,
        is_slow: bool,
    ) -> Result<SendPermit, AcquireError> {
        let endpoint_permit = self.endpoint_semaphore(endpoint).acquire_owned().await?;
        let slow_permit = match is_slow {
            true => Some(Arc::clone(&self.slow).acquire_owned().await?),
            false => None,
        };
        let total_permit = Arc::clone(&self.total).acquire_owned().await?;
        Ok(SendPermit {
            _endpoint: endpoint_permit,
            _slow: slow_permit,
            _total: total_permit,
        })
    }

    fn endpoint_semaphore(&self, endpoint: EndpointId) -> Arc<Semaphore> {
        let mut endpoints = self
            .endpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if endpoints.len() >= MAX_IDLE_ENDPOINTS {
            endpoints.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
        }
        let semaphore = endpoints
            .entry(endpoint)
            .or_insert_with(|| Arc::new(Semaphore::new(self.endpoint_concurrency)));
        Arc::clone(semaphore)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn one_endpoint_never_has_all_permits() {
        let (hanging, good) = (
            EndpointId::from_bytes([1; 12]),
            EndpointId::from_bytes([2; 12]),
        );
        let lanes = SendLanes::new(3, 2);
        let try_acquire = |endpoint| {
            lanes
                .acquire_send_permit(endpoint, false)
                .now_or_never()
                .map(Result::unwrap)
        };
        let permits = [try_acquire(hanging).unwrap(), try_acquire(hanging).unwrap()];
        assert!(try_acquire(hanging).is_none());
        let last = try_acquire(good).unwrap();
        assert!(try_acquire(good).is_none());
        drop(last);
        assert!(try_acquire(good).is_some());
        drop(permits);
        assert!(try_acquire(hanging).is_some());
    }

    #[test]
    fn slow_endpoints_share_one_permit_in_eight() {
        let lanes = SendLanes::new(16, 16);
        let try_acquire = |n: u8, slow| {
            let endpoint = EndpointId::from_bytes([n; 12]);
            lanes
                .acquire_send_permit(endpoint, slow)
                .now_or_never()
                .map(Result::unwrap)
        };
        let permits = [try_acquire(1, true), try_acquire(2, true)];
        assert!(permits.iter().all(Option::is_some));
        assert!(try_acquire(3, true).is_none());
        assert!(try_acquire(3, false).is_some());
    }

    #[test]
    fn idle_endpoints_are_forgotten() {
        let lanes = SendLanes::new(1, 1);
        for n in 0..=MAX_IDLE_ENDPOINTS {
            let endpoint = EndpointId::derive(&[&n.to_be_bytes()]);
            assert!(
                lanes
                    .acquire_send_permit(endpoint, false)
                    .now_or_never()
                    .is_some()
            );
        }
        assert!(lanes.endpoints.lock().unwrap().len() < MAX_IDLE_ENDPOINTS);
    }
}
