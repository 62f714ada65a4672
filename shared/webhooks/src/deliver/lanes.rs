//! How many attempts are in flight: in all, so that sockets do not run out, and at one endpoint, so
//! that one that hangs does not take the places of all others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use okra_core::model::ids::EndpointId;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Endpoints that are remembered at most before those without an attempt are forgotten.
const MAX_IDLE_ENDPOINTS: usize = 1024;

/// All slow endpoints together have one place in so many.
const SLOW_LANE_DIVISOR: usize = 8;

/// Hands out places for attempts.
pub(super) struct SendLanes {
    total: Arc<Semaphore>,
    /// Of these, those that slow endpoints share.
    slow: Arc<Semaphore>,
    endpoint_concurrency: usize,
    endpoints: Mutex<HashMap<EndpointId, Arc<Semaphore>>>,
}

/// A place; given back when it is dropped.
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

    /// Waits for a place. Whoever waits for its endpoint holds no place that others could use.
    ///
    /// # Errors
    ///
    /// Never: the semaphores are not closed.
    pub(super) async fn acquire_send_permit(
        &self,
        endpoint: EndpointId,
        is_slow: bool,
    ) -> Result<SendPermit, AcquireError> {
        let of_endpoint = self.endpoint_semaphore(endpoint).acquire_owned().await?;
        let of_slow = match is_slow {
            true => Some(Arc::clone(&self.slow).acquire_owned().await?),
            false => None,
        };
        let of_total = Arc::clone(&self.total).acquire_owned().await?;
        Ok(SendPermit {
            _endpoint: of_endpoint,
            _slow: of_slow,
            _total: of_total,
        })
    }

    fn endpoint_semaphore(&self, endpoint: EndpointId) -> Arc<Semaphore> {
        let mut endpoints = self
            .endpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if endpoints.len() >= MAX_IDLE_ENDPOINTS {
            endpoints.retain(|_, places| Arc::strong_count(places) > 1);
        }
        let places = endpoints
            .entry(endpoint)
            .or_insert_with(|| Arc::new(Semaphore::new(self.endpoint_concurrency)));
        Arc::clone(places)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn one_endpoint_never_has_all_places() {
        let (hanging, good) = (
            EndpointId::from_bytes([1; 12]),
            EndpointId::from_bytes([2; 12]),
        );
        let lanes = SendLanes::new(3, 2);
        let enter = |endpoint| {
            lanes
                .acquire_send_permit(endpoint, false)
                .now_or_never()
                .map(Result::unwrap)
        };
        let held = [enter(hanging).unwrap(), enter(hanging).unwrap()];
        assert!(enter(hanging).is_none());
        let last = enter(good).unwrap();
        assert!(enter(good).is_none());
        drop(last);
        assert!(enter(good).is_some());
        drop(held);
        assert!(enter(hanging).is_some());
    }

    #[test]
    fn slow_endpoints_share_one_place_in_eight() {
        let lanes = SendLanes::new(16, 16);
        let enter = |n: u8, slow| {
            let endpoint = EndpointId::from_bytes([n; 12]);
            lanes
                .acquire_send_permit(endpoint, slow)
                .now_or_never()
                .map(Result::unwrap)
        };
        let held = [enter(1, true), enter(2, true)];
        assert!(held.iter().all(Option::is_some));
        assert!(enter(3, true).is_none());
        assert!(enter(3, false).is_some());
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
