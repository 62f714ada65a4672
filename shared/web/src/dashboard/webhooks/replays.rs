//! Replays: an endpoint is told again of a range of events.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Redirect, Response},
};
use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};
use okra_core::ids::{EndpointId, ReplayId};
use okra_store::{Replay, ReplayState};
use serde_json::json;

use super::super::call;
use crate::{
    Web,
    html::{csrf, table},
    session::{Posted, Signed},
    show,
    trouble::Trouble,
};

/// Replays of an endpoint that are shown, newest first.
const SHOWN: usize = 10;

/// How far back the form reaches where nothing is chosen.
const USUAL: SignedDuration = SignedDuration::from_hours(24);

/// The value of a field of date and time, in UTC.
fn field(at: Timestamp) -> String {
    jiff::tz::Offset::UTC
        .to_datetime(at)
        .strftime("%Y-%m-%dT%H:%M")
        .to_string()
}

/// The form that starts one, and how far those before have come.
pub(super) fn section(
    signed: &Signed,
    endpoint: EndpointId,
    replays: &[Replay],
    now: Timestamp,
) -> Markup {
    let mut own: Vec<&Replay> = replays
        .iter()
        .filter(|it| it.endpoint == endpoint)
        .collect();
    own.sort_by_key(|it| std::cmp::Reverse(it.created_at));
    let path = format!("/dashboard/webhooks/{endpoint}/replays");
    let since = now.checked_sub(USUAL).unwrap_or(now);
    html! {
        section aria-labelledby="replay" {
            h2 #replay { "Replay" span.note { "events committed in a range of time are sent again, up to 30 days back" } }
            form.row method="post" action=(path) {
                (csrf(signed))
                label { span { "From" span.note { "UTC" } } input type="datetime-local" name="since" required value=(field(since)); }
                label { span { "Until" span.note { "UTC" } } input type="datetime-local" name="until" required value=(field(now)); }
                label { span { "Which" }
                    select name="which" {
                        option value="failed" { "Those that failed" }
                        option value="missing" { "Those never sent" }
                        option value="all" { "All" }
                    }
                }
                button { "Replay" }
            }
        }
        @if !own.is_empty() {
            section aria-label="Replays" {
                (table("Replays", &html! {
                    th { "Range, UTC" } th { "State" } th.number { "Looked at" } th.number { "Sent" } th { span.hidden { "Change" } }
                }, &html! {
                    @for it in own.into_iter().take(SHOWN) {
                        tr {
                            td { (show::moment(it.times.0)) " – " (show::moment(it.times.1)) span.note { (which(it)) } }
                            td { (state(it.state)) span.note { (show::when(now, it.updated_at)) } }
                            td.number { (show::count(it.looked_at)) }
                            td.number { (show::count(it.sent)) }
                            td { (change(signed, &path, it)) }
                        }
                    }
                }))
            }
        }
    }
}

fn which(replay: &Replay) -> &'static str {
    match replay.of.as_str() {
        "failed" => "those that failed",
        "missing" => "those never sent",
        _ => "all",
    }
}

fn state(state: ReplayState) -> Markup {
    match state {
        ReplayState::Running => show::badge("warn", "Running"),
        ReplayState::Done => show::badge("good", "Done"),
        ReplayState::Cancelled => show::badge("idle", "Cancelled"),
    }
}

fn change(signed: &Signed, path: &str, replay: &Replay) -> Markup {
    let text = match replay.state {
        ReplayState::Running => "Cancel",
        ReplayState::Cancelled => "Go on",
        ReplayState::Done => return html! {},
    };
    html! {
        form method="post" action={ (path) "/" (replay.id) } {
            (csrf(signed))
            @if replay.state == ReplayState::Cancelled { input type="hidden" name="resume" value="true"; }
            button { (text) }
        }
    }
}

/// A field of date and time as an instant.
fn instant(text: &str) -> String {
    match text.len() {
        // Minutes, as browsers send it where the seconds are zero.
        16 => format!("{text}:00Z"),
        _ => format!("{text}Z"),
    }
}

pub(crate) async fn start(
    State(web): State<Arc<Web>>,
    Path(id): Path<EndpointId>,
    posted: Posted,
) -> Result<Response, Trouble> {
    let fields = &posted.fields;
    let until = instant(fields.get("until"));
    let body = json!({
        "id": id,
        "since": instant(fields.get("since")),
        // The end of that minute.
        "until": until.parse::<Timestamp>().map_or(until, |at| (at + SignedDuration::from_millis(59_999)).to_string()),
        "which": fields.get("which"),
    });
    call(&web, &posted.signed, "webhooks/replay", body).await?;
    Ok(Redirect::to(&format!("/dashboard/webhooks/{id}#replay")).into_response())
}

/// Cancels one, or has it go on.
pub(crate) async fn set(
    State(web): State<Arc<Web>>,
    Path((id, replay)): Path<(EndpointId, ReplayId)>,
    posted: Posted,
) -> Result<Response, Trouble> {
    let resume = posted.fields.get("resume") == "true";
    let body = json!({ "id": replay, "resume": resume });
    call(&web, &posted.signed, "webhooks/replay/cancel", body).await?;
    Ok(Redirect::to(&format!("/dashboard/webhooks/{id}#replay")).into_response())
}
