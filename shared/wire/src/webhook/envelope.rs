//! The envelope that all events of records share.

use okra_core::{
    model::{
        ids::{AccountId, AppId, BankId, CustomerId, EventId, RecordId},
        snapshot::Environment,
    },
    sync::{
        feed::{Change, FeedEntry},
        state::{ReauthorisationReason, StateChange},
    },
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    context::EventContext,
    kind::{EventDescription, EventKind},
    payload::EventPayload,
};
use crate::{record::callback_url, scalar::IsoInstant};

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
pub(super) struct EventBody<'a> {
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
    meta_responses: (),
    error: Option<EventErrorBody>,
    #[serde(rename = "callbackURL")]
    endpoint_url: &'a str,
    callback_url: String,
    env: Environment,
    started_at: IsoInstant,
    ended_at: IsoInstant,
    record: RecordId,
    #[serde(rename = "recordId")]
    record_id: RecordId,
    #[serde(rename = "customerId")]
    customer_id: CustomerId,
    #[serde(rename = "customerEmail")]
    customer_email: Vec<&'a str>,
    login_type: &'static str,
    country: &'a str,
    #[serde(rename = "bankName")]
    bank_name: &'a str,
    #[serde(rename = "bankType")]
    bank_type: &'static str,
    #[serde(rename = "bankId")]
    bank_id: BankId,
    #[serde(rename = "bankSlug")]
    bank_slug: &'a str,
    #[serde(rename = "accountId", skip_serializing_if = "Option::is_none")]
    account_id: Option<AccountId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nuban: Option<&'a str>,
    options: &'a Value,
    meta: &'a Map<String, Value>,
    extras: Map<String, Value>,
    owner: AppId,
    current_project: AppId,
    token: AppId,
    #[serde(rename = "identityType")]
    identity_type: (),
    #[serde(flatten)]
    resource: EventPayload<'a>,
}

/// Why the user must act: in the words of Okra's errors, its code of refused credentials.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct EventErrorBody {
    #[serde(rename = "type")]
    kind: &'static str,
    code: u16,
    reason: &'static str,
    message: &'static str,
}

/// The body of a feed entry's event, as an endpoint is sent it. It depends on nothing but its arguments, so every
/// attempt sends the same bytes.
///
/// # Errors
///
/// Where the body cannot be written as JSON. It holds texts, numbers and maps with text keys, so none is known.
pub fn render_event_body(
    context: &EventContext<'_>,
    entry: &FeedEntry,
) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&EventBody::new(context, entry))
}

impl<'a> EventBody<'a> {
    pub(super) fn new(context: &EventContext<'a>, entry: &'a FeedEntry) -> Self {
        let EventDescription {
            name,
            method,
            code,
            message,
        } = EventKind::describe_change(&entry.change);
        let error = error_for_change(&entry.change);
        Self {
            event: name,
            event_id: entry.event_id(),
            version: context.body_version.as_str(),
            sequence: entry.seq.0,
            previous_sequence: entry.seq.0.saturating_sub(1),
            method,
            callback_type: method,
            callback_code: code,
            code,
            kind: "CALLBACK",
            status: if error.is_some() {
                "is_error"
            } else {
                "is_success"
            },
            message,
            meta_responses: (),
            error,
            endpoint_url: context.endpoint_url,
            callback_url: callback_url(context.public_url, entry.record, method),
            env: context.env,
            started_at: IsoInstant(entry.committed_at),
            ended_at: IsoInstant(entry.committed_at),
            record: entry.record,
            record_id: entry.record,
            customer_id: context.customer,
            customer_email: context.customer_email.into_iter().collect(),
            login_type: "bank",
            country: context.country,
            bank_name: context.bank_name,
            bank_type: "ind",
            bank_id: context.bank,
            bank_slug: context.bank_slug,
            account_id: entry.account,
            nuban: context.account_facts.map(|account| account.number.as_str()),
            options: context.options,
            meta: context.meta,
            extras: Map::new(),
            owner: context.app,
            current_project: context.app,
            token: context.app,
            identity_type: (),
            resource: EventPayload::for_entry(context, entry),
        }
    }
}

fn error_for_change(change: &Change) -> Option<EventErrorBody> {
    let Change::State(StateChange::ReauthorisationRequired { reason }) = change else {
        return None;
    };
    Some(EventErrorBody {
        kind: "EXPIRED",
        code: 1006,
        reason: reason.as_str(),
        message: match reason {
            ReauthorisationReason::ConsentExpired => {
                "The consent has expired; the user has to authorise again"
            }
            ReauthorisationReason::ConsentRejected => {
                "The bank rejected the consent; the user has to authorise again"
            }
            ReauthorisationReason::UserPresenceRequired => {
                "The bank requires the user to be present for each refresh"
            }
        },
    })
}
