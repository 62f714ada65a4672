//! Permits of an endpoint's rate limit, which all processes share.
//!
//! The rule: a process takes them in blocks, one write for a block, and only where it sends more than it may by itself
//! ([`okra_core::delivery::permit_pool`]).

use jiff::Timestamp;
use okra_core::{
    delivery::permit_pool::PermitDecision, model::ids::EndpointId,
    resilience::rate_limiter::SendRate,
};

use super::{
    deliverer::Deliverer, endpoint_activity::EndpointActivity, error::DeliverError,
    event::add_seconds, targets::DeliveryTarget,
};

/// Seconds after which a permit is requested again where other processes took one at the same moment each time.
const PERMIT_RETRY_S: i64 = 1;

/// Whether an attempt may be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PermitOutcome {
    /// It may.
    Granted,
    /// It may then, or ask again then where no permit is reserved for it.
    Later { at: Timestamp, is_reserved: bool },
}

impl Deliverer {
    /// Takes a permit of the endpoint's rate limit. One of a later moment is reserved only where the caller
    /// `will_return` at that time.
    pub(super) async fn acquire_permit(
        &self,
        target: &DeliveryTarget,
        will_return: bool,
    ) -> Result<PermitOutcome, DeliverError> {
        let rate = target.rate.map_or(self.config.default_rate, |per_s| {
            SendRate::from_per_second(per_s.into())
        });
        let activity = self.endpoint_activities.activity_for(target.endpoint);
        let decision = match self.try_permit(&activity, rate, will_return) {
            PermitDecision::TakeBlock => {
                self.request_permits(&activity, target.endpoint, rate, will_return)
                    .await?
            }
            decision => decision,
        };
        Ok(match decision {
            PermitDecision::SendNow => PermitOutcome::Granted,
            PermitDecision::SendAt(us) => PermitOutcome::Later {
                at: permit_time(us),
                is_reserved: true,
            },
            PermitDecision::RetryAt(us) => PermitOutcome::Later {
                at: permit_time(us),
                is_reserved: false,
            },
            PermitDecision::TakeBlock => PermitOutcome::Later {
                at: add_seconds(self.now(), PERMIT_RETRY_S),
                is_reserved: false,
            },
        })
    }

    fn try_permit(
        &self,
        activity: &EndpointActivity,
        rate: SendRate,
        will_return: bool,
    ) -> PermitDecision {
        let (now_us, processes) = (self.now().as_microsecond(), self.config.max_processes);
        activity
            .lock_state()
            .permits
            .try_acquire(now_us, rate, processes, will_return)
    }

    /// Takes a block of permits from those of all processes, for all that wait here, unless another one did meanwhile.
    async fn request_permits(
        &self,
        activity: &EndpointActivity,
        endpoint: EndpointId,
        rate: SendRate,
        will_return: bool,
    ) -> Result<PermitDecision, DeliverError> {
        let _waiter = activity.register_waiter(will_return);
        let _request = activity.permit_request.lock().await;
        let decision = self.try_permit(activity, rate, will_return);
        if decision != PermitDecision::TakeBlock {
            return Ok(decision);
        }
        let now = self.now();
        let block = self
            .store
            .acquire_permit_block(endpoint, rate, now, || {
                activity.lock_state().permits.next_block_request(
                    now.as_microsecond(),
                    rate,
                    activity.returning_waiter_count(),
                    activity.other_waiter_count(),
                )
            })
            .await?;
        let Some(block) = block else {
            return Ok(PermitDecision::TakeBlock);
        };
        let (now_us, processes) = (self.now().as_microsecond(), self.config.max_processes);
        // Under one lock, so that nobody else takes the permit of the one who requested the block.
        let mut state = activity.lock_state();
        state.permits.add_block(now_us, block);
        Ok(state
            .permits
            .try_acquire(now_us, rate, processes, will_return))
    }
}

/// A permit's moment, in microseconds since 1970. It lies within minutes of now, so only a clock near the end of the
/// calendar gets the last timestamp there is.
fn permit_time(us: i64) -> Timestamp {
    Timestamp::from_microsecond(us).unwrap_or(Timestamp::MAX)
}
