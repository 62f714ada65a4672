//! Redeliveries: somebody requested that an event is sent again, whatever the state of its delivery.

use okra_core::delivery::attempt::AttemptKind;
use okra_queue::Redelivery;

use super::{
    deliverer::Deliverer,
    error::DeliverError,
    event::{AttemptMode, DeliveryRef},
};
use crate::report::DeliveryOutcome;

impl Deliverer {
    /// Sends an event to an endpoint whatever came of it before, and begins the retry schedule anew.
    ///
    /// # Errors
    ///
    /// [`DeliverError`]: repeat it.
    pub async fn attempt_resend(
        &self,
        resend: Redelivery,
    ) -> Result<DeliveryOutcome, DeliverError> {
        let mode = AttemptMode {
            has_permit: resend.has_permit,
            ..AttemptMode::for_kind(AttemptKind::Resend)
        };
        let delivery = DeliveryRef {
            source: resend.source,
            seq: resend.seq,
            endpoint: resend.endpoint,
            must_be_stored: false,
        };
        self.attempt_one(delivery, mode).await
    }
}
