//! Badges: a label on a coloured ground. The colour repeats what the label says.

use maud::{Markup, html};
use okra_core::delivery::endpoint_health::EndpointStatus;
use okra_store::{RecordStatus, ReplayState, StoredEndpointHealth};

use super::labels::DELIVERY_STATES;

/// A word on a coloured ground. The colour repeats what the word says.
pub(crate) fn render_badge(tone: &'static str, text: &str) -> Markup {
    html! { span.badge data-tone=(tone) { (text) } }
}

/// A record's state.
pub(crate) fn render_record_status(status: RecordStatus) -> Markup {
    match status {
        RecordStatus::Active => render_badge("good", "Active"),
        RecordStatus::ReauthorisationRequired => render_badge("warn", "Needs the user"),
        RecordStatus::Invalid => render_badge("idle", "Unlinked"),
    }
}

/// Whether events are sent to an endpoint.
pub(crate) fn render_health_badge(health: &StoredEndpointHealth) -> Markup {
    let health = &health.health;
    match health.status() {
        EndpointStatus::Disabled => render_badge("idle", "Disabled"),
        EndpointStatus::Parked => render_badge("bad", "Parked"),
        EndpointStatus::Failing => render_badge("warn", "Failing"),
        EndpointStatus::Healthy => render_badge("good", "Healthy"),
    }
}

pub(crate) fn render_state_badge(state: &str) -> Markup {
    let known = DELIVERY_STATES.iter().find(|(name, _)| *name == state);
    let text = known.map_or(state, |(_, text)| text);
    let tone = match state {
        "delivered" => "good",
        "retry" | "parked" => "warn",
        "exhausted" => "bad",
        _ => "idle",
    };
    render_badge(tone, text)
}

pub(crate) fn render_replay_state(state: ReplayState) -> Markup {
    match state {
        ReplayState::Running => render_badge("warn", "Running"),
        ReplayState::Done => render_badge("good", "Done"),
        ReplayState::Cancelled => render_badge("idle", "Cancelled"),
    }
}
