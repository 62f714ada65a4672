//! Bodies of operational events: what becomes of an app's endpoints, told to its other endpoints.

use jiff::Timestamp;
use okra_core::{
    delivery::endpoint_health::{DisableReason, EventGap},
    model::ids::{AppId, EndpointId, EventId, FeedSource, Seq},
    sync::feed::BodyVersion,
};
use serde::Serialize;

use crate::{scalar::IsoInstant, webhook::EventKind};

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum OperationalEvent<'a> {
    /// An endpoint has been failing for whole days.
    Failing {
        /// Since when.
        since: Timestamp,
        /// How many.
        days: u8,
    },
    /// Events for an endpoint are parked from now on.
    Parked {
        /// Since when it has failed.
        since: Timestamp,
    },
    /// An endpoint was disabled.
    Disabled {
        /// Why.
        by: DisableReason,
    },
    /// An endpoint takes events again.
    Recovered {
        /// Since when it had failed.
        since: Timestamp,
        /// What was not kept for it.
        gap: Option<EventGap>,
    },
    /// A ping: shows that the endpoint answers and can verify a signature.
    Ping,
    /// An event for an endpoint was given up.
    Exhausted {
        /// The event's id.
        event: &'a str,
        /// Its name.
        name: &'a str,
        /// Attempts made.
        attempts: u32,
        /// The class of the last.
        class: &'a str,
    },
}

impl OperationalEvent<'_> {
    /// Which event it is.
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::Failing { .. } => EventKind::EndpointFailing,
            Self::Parked { .. } => EventKind::EndpointParked,
            Self::Disabled { .. } => EventKind::EndpointDisabled,
            Self::Recovered { .. } => EventKind::EndpointRecovered,
            Self::Ping => EventKind::WebhookPing,
            Self::Exhausted { .. } => EventKind::DeliveryExhausted,
        }
    }

    /// The event's name.
    pub const fn event_name(&self) -> &'static str {
        self.kind().name()
    }
}

/// What a body says besides what happened.
#[derive(Clone, Copy, Debug)]
pub struct OperationContext<'a> {
    /// Where the API is reached, without a trailing slash.
    pub public_url: &'a str,
    /// The URL this is sent to.
    pub endpoint_url: &'a str,
    /// The version of the body.
    pub version: BodyVersion,
    /// The app.
    pub app: AppId,
    /// The place in the app's own feed.
    pub seq: Seq,
    /// When it was committed.
    pub at: Timestamp,
    /// The endpoint it is about.
    pub subject: EndpointId,
    /// That endpoint's URL; its query, which may be a token, is not shown.
    pub subject_url: &'a str,
}

#[derive(Serialize)]
struct OperationBody<'a> {
    event: &'static str,
    event_id: EventId,
    version: &'static str,
    sequence: u64,
    previous_sequence: u64,
    method: &'static str,
    callback_type: &'static str,
    callback_code: &'static str,
    code: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    status: &'static str,
    message: &'static str,
    #[serde(rename = "callbackURL")]
    endpoint_url: &'a str,
    callback_url: String,
    started_at: IsoInstant,
    ended_at: IsoInstant,
    owner: AppId,
    current_project: AppId,
    endpoint: OperationEndpointBody<'a>,
    #[serde(flatten)]
    detail: OperationDetail<'a>,
}

#[derive(Serialize)]
struct OperationEndpointBody<'a> {
    id: EndpointId,
    url: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum OperationDetail<'a> {
    Health {
        #[serde(skip_serializing_if = "Option::is_none")]
        failing_since: Option<IsoInstant>,
        #[serde(skip_serializing_if = "Option::is_none")]
        failing_days: Option<u8>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<DisableReason>,
        #[serde(skip_serializing_if = "Option::is_none")]
        gap: Option<OperationGapBody>,
    },
    Exhausted {
        delivery: ExhaustedDeliveryBody<'a>,
    },
}

#[derive(Serialize)]
struct OperationGapBody {
    from: IsoInstant,
    until: IsoInstant,
    events: u64,
}

#[derive(Serialize)]
struct ExhaustedDeliveryBody<'a> {
    event_id: &'a str,
    event: &'a str,
    attempts: u32,
    class: &'a str,
}

/// The body. It depends on nothing but its arguments, so every attempt sends the same bytes.
///
/// # Errors
///
/// Where the body cannot be written as JSON, as for [`render_event_body`](crate::webhook::render_event_body).
pub fn render_operation_body(
    context: &OperationContext<'_>,
    operation: &OperationalEvent<'_>,
) -> Result<Vec<u8>, serde_json::Error> {
    let kind = operation.kind().describe();
    let body = OperationBody {
        event: kind.name,
        event_id: match operation {
            OperationalEvent::Ping => EventId::for_ping(context.subject, context.at),
            _ => EventId::for_feed_entry(FeedSource::App(context.app), context.seq),
        },
        version: context.version.as_str(),
        sequence: context.seq.0,
        previous_sequence: context.seq.0.saturating_sub(1),
        method: kind.method,
        callback_type: kind.method,
        callback_code: kind.code,
        code: kind.code,
        kind: "CALLBACK",
        status: "is_success",
        message: kind.message,
        endpoint_url: context.endpoint_url,
        callback_url: format!("{}/v2/webhooks/list", context.public_url),
        started_at: IsoInstant(context.at),
        ended_at: IsoInstant(context.at),
        owner: context.app,
        current_project: context.app,
        endpoint: OperationEndpointBody {
            id: context.subject,
            url: context
                .subject_url
                .split(['?', '#'])
                .next()
                .unwrap_or_default(),
        },
        detail: operation_detail(operation),
    };
    serde_json::to_vec(&body)
}

/// The detail about an endpoint's health, with nothing in it.
const NO_HEALTH_DETAIL: OperationDetail<'static> = OperationDetail::Health {
    failing_since: None,
    failing_days: None,
    reason: None,
    gap: None,
};

fn operation_detail<'a>(operation: &OperationalEvent<'a>) -> OperationDetail<'a> {
    match *operation {
        OperationalEvent::Ping => NO_HEALTH_DETAIL,
        OperationalEvent::Failing { since, days } => OperationDetail::Health {
            failing_since: Some(IsoInstant(since)),
            failing_days: Some(days),
            reason: None,
            gap: None,
        },
        OperationalEvent::Parked { since } => OperationDetail::Health {
            failing_since: Some(IsoInstant(since)),
            failing_days: None,
            reason: None,
            gap: None,
        },
        OperationalEvent::Disabled { by } => OperationDetail::Health {
            failing_since: None,
            failing_days: None,
            reason: Some(by),
            gap: None,
        },
        OperationalEvent::Recovered { since, gap } => OperationDetail::Health {
            failing_since: Some(IsoInstant(since)),
            failing_days: None,
            reason: None,
            gap: gap.map(|gap| OperationGapBody {
                from: IsoInstant(gap.from),
                until: IsoInstant(gap.until),
                events: gap.events,
            }),
        },
        OperationalEvent::Exhausted {
            event,
            name,
            attempts,
            class,
        } => OperationDetail::Exhausted {
            delivery: ExhaustedDeliveryBody {
                event_id: event,
                event: name,
                attempts,
                class,
            },
        },
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::webhook::WEBHOOK_SCHEMAS;

    /// A body is what the schema of its event says, and of no other event.
    pub(crate) fn assert_documented(body: &Value) {
        let mut schema: Value = serde_json::from_str(WEBHOOK_SCHEMAS).unwrap();
        let name = body["event"].as_str().unwrap();
        let content = &schema["webhooks"][name]["post"]["requestBody"]["content"];
        let of_event = content["application/json"]["schema"]["$ref"].clone();
        for reference in [of_event, json!("#/components/schemas/WebhookEvent")] {
            schema["$ref"] = reference;
            let validator = jsonschema::draft202012::new(&schema).unwrap();
            let errors: Vec<_> = validator
                .iter_errors(body)
                .map(|it| it.to_string())
                .collect();
            assert!(errors.is_empty(), "{name}: {errors:#?}");
        }
        schema["$ref"] = json!("#/components/schemas/WebhookEvent");
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        let mut more = body.clone();
        more["undocumented"] = json!(1);
        assert!(
            !validator.is_valid(&more),
            "{name}: a field that is not documented"
        );
    }

    #[test]
    fn operations_are_what_is_documented() {
        let at: Timestamp = "2026-03-01T12:00:00.5Z".parse().unwrap();
        let gap = EventGap {
            from: at,
            until: at,
            events: 3,
        };
        let context = OperationContext {
            public_url: "https://sync.example",
            endpoint_url: "https://operator.example/",
            version: BodyVersion::LATEST,
            app: AppId::from_bytes([0xa0; 12]),
            seq: Seq(4),
            at,
            subject: EndpointId::from_bytes([0xe0; 12]),
            subject_url: "https://app.example/hook?token=secret",
        };
        let recovered = |gap| OperationalEvent::Recovered { since: at, gap };
        for operation in [
            OperationalEvent::Failing { since: at, days: 3 },
            OperationalEvent::Parked { since: at },
            OperationalEvent::Disabled {
                by: DisableReason::Failing,
            },
            recovered(None),
            recovered(Some(gap)),
            OperationalEvent::Exhausted {
                event: "evt_646464646464646464646464_7",
                name: "balance.success",
                attempts: 10,
                class: "rejected",
            },
            OperationalEvent::Ping,
        ] {
            let body = render_operation_body(&context, &operation).unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_documented(&body);
            assert_eq!(body["endpoint"]["url"], "https://app.example/hook");
        }
    }
}
