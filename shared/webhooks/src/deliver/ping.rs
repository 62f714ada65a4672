//! Pings: a signed test event that somebody requested. It has no feed entry, no delivery and no retry.

use okra_core::model::ids::{EventId, Seq};
use okra_queue::EndpointPing;
use okra_store::PingResult;
use okra_wire::operational_event::{self, OperationalEvent};

use super::{deliverer::Deliverer, error::DeliverError};
use crate::send::WebhookMessage;

impl Deliverer {
    /// Sends a signed ping to an endpoint and stores how it ended.
    ///
    /// # Errors
    ///
    /// [`DeliverError`]: repeat it.
    pub async fn send_ping(&self, request: EndpointPing) -> Result<(), DeliverError> {
        let mut target = self.load_target(request.app, request.endpoint).await?;
        // The URL of a subscription, which only its record and the request know.
        if target.url.is_empty() {
            match request.url {
                Some(url) => target.url = url,
                // The endpoint was removed meanwhile.
                None => return Ok(()),
            }
        }
        let at = self.now();
        let context = operational_event::OperationContext {
            public_url: &self.config.public_url,
            endpoint_url: &target.url,
            version: target.body_version,
            app: request.app,
            seq: Seq::ZERO,
            at,
            subject: request.endpoint,
            subject_url: &target.url,
        };
        let event = EventId::for_ping(request.endpoint, at);
        let message = WebhookMessage {
            url: &target.url,
            event_id: &event,
            seq: Seq::ZERO,
            attempt: 1,
            is_replay: false,
            missing_seqs: &[],
            body: operational_event::render_operation_body(&context, &OperationalEvent::Ping)?
                .into(),
            secrets: &target.secrets,
            bearer: target.bearer.as_ref(),
            sent_at: at,
        };
        let response = self.sender.send_message(&message).await?;
        let ping = PingResult {
            pinged_at: self.now(),
            outcome_class: response.outcome.as_str().to_owned(),
            status: response.status,
            latency_ms: response.latency_ms,
        };
        Ok(self.store.put_ping_result(request.endpoint, &ping).await?)
    }
}
