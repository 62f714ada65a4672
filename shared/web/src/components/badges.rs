//! Badges: a label on a coloured ground. The colour repeats what the label says.

use maud::{Markup, html};
use okra_core::{
    delivery::endpoint_health::{EndpointHealth, EndpointStatus},
    resilience::bank_breaker::BankStatus,
};
use okra_store::{DeliveryState, RecordStatus, ReplayState};

use super::labels::{delivery_state_label, record_status_label};

/// A label on a ground of the tone's colour: `good`, `warn`, `bad` or `idle`.
pub(crate) fn render_badge(tone: &'static str, text: &str) -> Markup {
    html! { span.badge data-tone=(tone) { (text) } }
}

/// A record's state.
pub(crate) fn render_record_status(status: RecordStatus) -> Markup {
    let tone = match status {
        RecordStatus::Active => "good",
        RecordStatus::ReauthorisationRequired => "warn",
        RecordStatus::Invalid => "idle",
    };
    render_badge(tone, record_status_label(status))
}

/// The health of a bank.
pub(crate) fn render_bank_status(status: BankStatus) -> Markup {
    match status {
        BankStatus::Healthy => render_badge("good", "Healthy"),
        BankStatus::Degraded => render_badge("warn", "Degraded"),
        BankStatus::Down => render_badge("bad", "Down"),
    }
}

/// The health of an endpoint: whether events are sent to it.
pub(crate) fn render_health_badge(health: &EndpointHealth) -> Markup {
    match health.status() {
        EndpointStatus::Disabled => render_badge("idle", "Disabled"),
        EndpointStatus::Parked => render_badge("bad", "Parked"),
        EndpointStatus::Failing => render_badge("warn", "Failing"),
        EndpointStatus::Healthy => render_badge("good", "Healthy"),
    }
}

/// The state of a delivery.
pub(crate) fn render_delivery_state(state: DeliveryState) -> Markup {
    let tone = match state {
        DeliveryState::Delivered => "good",
        DeliveryState::Retry | DeliveryState::Parked => "warn",
        DeliveryState::Exhausted => "bad",
        DeliveryState::Cancelled => "idle",
    };
    render_badge(tone, delivery_state_label(state))
}

/// The state of a replay.
pub(crate) fn render_replay_state(state: ReplayState) -> Markup {
    match state {
        ReplayState::Running => render_badge("warn", "Running"),
        ReplayState::Done => render_badge("good", "Done"),
        ReplayState::Cancelled => render_badge("idle", "Cancelled"),
    }
}
