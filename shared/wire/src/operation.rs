//! Bodies of operational events: what becomes of an app's endpoints, told to its other endpoints.

use jiff::Timestamp;
use okra_core::{
    feed::BodyVersion,
    health::{DisabledBy, Gap},
    ids::{AppId, EndpointId, EventId, Seq, Source},
};
use serde::Serialize;

use crate::scalar::Instant;

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Operation<'a> {
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
        by: DisabledBy,
    },
    /// An endpoint takes events again.
    Recovered {
        /// Since when it had failed.
        since: Timestamp,
        /// What was not kept for it.
        gap: Option<Gap>,
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

impl Operation<'_> {
    /// The event's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Failing { .. } => "endpoint.failing",
            Self::Parked { .. } => "endpoint.parked",
            Self::Disabled { .. } => "endpoint.disabled",
            Self::Recovered { .. } => "endpoint.recovered",
            Self::Ping => "webhook.ping",
            Self::Exhausted { .. } => "delivery.exhausted",
        }
    }

    const fn code(&self) -> &'static str {
        match self {
            Self::Failing { .. } => "ENDPOINT_FAILING",
            Self::Parked { .. } => "ENDPOINT_PARKED",
            Self::Disabled { .. } => "ENDPOINT_DISABLED",
            Self::Recovered { .. } => "ENDPOINT_RECOVERED",
            Self::Ping => "WEBHOOK_PING",
            Self::Exhausted { .. } => "DELIVERY_EXHAUSTED",
        }
    }

    const fn message(&self) -> &'static str {
        match self {
            Self::Failing { .. } => "An endpoint has been failing for days",
            Self::Parked { .. } => "An endpoint is down; its events are parked until it is back",
            Self::Disabled { .. } => "An endpoint was disabled; its events are parked",
            Self::Recovered { .. } => "An endpoint takes events again",
            Self::Ping => "A ping, to see whether this endpoint answers",
            Self::Exhausted { .. } => "An event was given up for an endpoint",
        }
    }
}

/// What a body says besides what happened.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
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
struct Body<'a> {
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
    started_at: Instant,
    ended_at: Instant,
    owner: AppId,
    current_project: AppId,
    endpoint: Subject<'a>,
    #[serde(flatten)]
    detail: Detail<'a>,
}

#[derive(Serialize)]
struct Subject<'a> {
    id: EndpointId,
    url: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Detail<'a> {
    Health {
        #[serde(skip_serializing_if = "Option::is_none")]
        failing_since: Option<Instant>,
        #[serde(skip_serializing_if = "Option::is_none")]
        failing_days: Option<u8>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<DisabledBy>,
        #[serde(skip_serializing_if = "Option::is_none")]
        gap: Option<GapBody>,
    },
    Exhausted {
        delivery: Delivery<'a>,
    },
}

#[derive(Serialize)]
struct GapBody {
    from: Instant,
    until: Instant,
    events: u64,
}

#[derive(Serialize)]
struct Delivery<'a> {
    event_id: &'a str,
    event: &'a str,
    attempts: u32,
    class: &'a str,
}

/// The body. It depends on nothing but its arguments, so every attempt sends the same bytes.
pub fn body(context: &Context<'_>, operation: &Operation<'_>) -> Vec<u8> {
    let code = operation.code();
    let method = match operation {
        Operation::Exhausted { .. } => "DELIVERY",
        Operation::Ping => "PING",
        _ => "ENDPOINT",
    };
    let body = Body {
        event: operation.name(),
        event_id: match operation {
            Operation::Ping => EventId::ping(context.subject, context.at),
            _ => EventId::of_source(Source::App(context.app), context.seq),
        },
        version: context.version.as_str(),
        sequence: context.seq.0,
        previous_sequence: context.seq.0.saturating_sub(1),
        method,
        callback_type: method,
        callback_code: code,
        code,
        kind: "CALLBACK",
        status: "is_success",
        message: operation.message(),
        endpoint_url: context.endpoint_url,
        callback_url: format!("{}/v2/webhooks/list", context.public_url),
        started_at: Instant(context.at),
        ended_at: Instant(context.at),
        owner: context.app,
        current_project: context.app,
        endpoint: Subject {
            id: context.subject,
            url: context
                .subject_url
                .split(['?', '#'])
                .next()
                .unwrap_or_default(),
        },
        detail: detail(operation),
    };
    // A body holds texts, numbers and maps with text keys: there is nothing JSON cannot say.
    serde_json::to_vec(&body).unwrap_or_default()
}

fn detail<'a>(operation: &Operation<'a>) -> Detail<'a> {
    let health = |since: Option<Timestamp>, days, reason, gap: Option<Gap>| Detail::Health {
        failing_since: since.map(Instant),
        failing_days: days,
        reason,
        gap: gap.map(|gap| GapBody {
            from: Instant(gap.from),
            until: Instant(gap.until),
            events: gap.events,
        }),
    };
    match *operation {
        Operation::Ping => health(None, None, None, None),
        Operation::Failing { since, days } => health(Some(since), Some(days), None, None),
        Operation::Parked { since } => health(Some(since), None, None, None),
        Operation::Disabled { by } => health(None, None, Some(by), None),
        Operation::Recovered { since, gap } => health(Some(since), None, None, gap),
        Operation::Exhausted {
            event,
            name,
            attempts,
            class,
        } => Detail::Exhausted {
            delivery: Delivery {
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
    use crate::webhook::SCHEMAS;

    /// A body is what the schema of its event says, and of no other event.
    pub(crate) fn conforms(body: &Value) {
        let mut schema: Value = serde_json::from_str(SCHEMAS).unwrap();
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
        let gap = Gap {
            from: at,
            until: at,
            events: 3,
        };
        let context = Context {
            public_url: "https://sync.example",
            endpoint_url: "https://operator.example/",
            version: BodyVersion::LATEST,
            app: AppId::from_bytes([0xa0; 12]),
            seq: Seq(4),
            at,
            subject: EndpointId::from_bytes([0xe0; 12]),
            subject_url: "https://app.example/hook?token=secret",
        };
        let recovered = |gap| Operation::Recovered { since: at, gap };
        for operation in [
            Operation::Failing { since: at, days: 3 },
            Operation::Parked { since: at },
            Operation::Disabled {
                by: DisabledBy::Failing,
            },
            recovered(None),
            recovered(Some(gap)),
            Operation::Exhausted {
                event: "evt_646464646464646464646464_7",
                name: "balance.success",
                attempts: 10,
                class: "rejected",
            },
            Operation::Ping,
        ] {
            let body = body(&context, &operation);
            let body: Value = serde_json::from_slice(&body).unwrap();
            conforms(&body);
            assert_eq!(body["endpoint"]["url"], "https://app.example/hook");
        }
    }
}
