//! Replays: a range of events is sent to an endpoint anew.

use axum::{
    extract::Path,
    response::{IntoResponse, Redirect, Response},
};
use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};
use okra_app::{
    endpoint_lookup::EndpointSelector,
    replays::{ReplayChange, StartReplayRequest},
};
use okra_core::model::ids::{EndpointId, ReplayId};
use okra_store::{Replay, ReplayFilter, ReplayState};

use super::super::{
    page::render_csrf_field,
    session::{AppSession, SubmittedForm},
};
use crate::{
    components::{
        badges::render_replay_state,
        format::{format_count, format_day_and_time, render_relative_time},
        parts::render_table,
    },
    form::FormFields,
    page_error::PageError,
};

/// Replays of an endpoint that are shown, newest first.
const MAX_REPLAYS_SHOWN: usize = 10;

/// How far back the form reaches by default.
const DEFAULT_RANGE: SignedDuration = SignedDuration::from_hours(24);

/// The value of a field of date and time, in UTC.
fn format_datetime_field(at: Timestamp) -> String {
    jiff::tz::Offset::UTC
        .to_datetime(at)
        .strftime("%Y-%m-%dT%H:%M")
        .to_string()
}

/// The form that starts a replay, and the progress of those before.
pub(super) fn render_replays(
    session: &AppSession,
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
    let since = now.checked_sub(DEFAULT_RANGE).unwrap_or(now);
    html! {
        section aria-labelledby="replay" {
            h2 #replay { "Replay" span.note { "events committed in a range of time are sent once more, up to 30 days back" } }
            form.row method="post" action=(path) {
                (render_csrf_field(session))
                label { span { "From" span.note { "UTC" } } input type="datetime-local" name="since" required value=(format_datetime_field(since)); }
                label { span { "Until" span.note { "UTC" } } input type="datetime-local" name="until" required value=(format_datetime_field(now)); }
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
                (render_table("Replays", &html! {
                    th { "Range, UTC" } th { "State" } th.number { "Examined" } th.number { "Sent" } th { span.hidden { "Change" } }
                }, &html! {
                    @for it in own.into_iter().take(MAX_REPLAYS_SHOWN) {
                        tr {
                            td { (format_day_and_time(it.commit_time_range.0)) " – " (format_day_and_time(it.commit_time_range.1)) span.note { (describe_selection(it)) } }
                            td { (render_replay_state(it.state)) span.note { (render_relative_time(now, it.updated_at)) } }
                            td.number { (format_count(it.examined_count)) }
                            td.number { (format_count(it.sent_count)) }
                            td { (render_replay_action(session, &path, it)) }
                        }
                    }
                }))
            }
        }
    }
}

fn describe_selection(replay: &Replay) -> &'static str {
    match replay.filter {
        ReplayFilter::Failed => "those that failed",
        ReplayFilter::Missing => "those never sent",
        ReplayFilter::All => "all",
    }
}

fn render_replay_action(session: &AppSession, path: &str, replay: &Replay) -> Markup {
    let text = match replay.state {
        ReplayState::Running => "Cancel",
        ReplayState::Cancelled => "Resume",
        ReplayState::Done => return html! {},
    };
    html! {
        form method="post" action={ (path) "/" (replay.id) } {
            (render_csrf_field(session))
            @if replay.state == ReplayState::Cancelled { input type="hidden" name="resume" value="true"; }
            button { (text) }
        }
    }
}

/// The instant of the value of a field of date and time in UTC.
fn parse_datetime_field(fields: &FormFields, name: &str) -> Result<Timestamp, PageError> {
    let text = fields.get(name);
    let text = match text.len() {
        // Browsers leave out seconds that are zero.
        16 => format!("{text}:00Z"),
        _ => format!("{text}Z"),
    };
    let problem = format!("{name} must be a date and a time.");
    text.parse().map_err(|_| PageError::invalid_form(problem))
}

pub(crate) async fn start_replay(
    Path(id): Path<EndpointId>,
    posted: SubmittedForm,
) -> Result<Response, PageError> {
    let fields = &posted.fields;
    // To the end of that minute.
    let until = parse_datetime_field(fields, "until")?
        .checked_add(SignedDuration::from_millis(59_999))
        .map_err(PageError::internal)?;
    let filter = match fields.get("which") {
        "failed" => ReplayFilter::Failed,
        "missing" => ReplayFilter::Missing,
        _ => ReplayFilter::All,
    };
    let request = StartReplayRequest {
        endpoint: EndpointSelector::Id(id),
        customer: None,
        record: None,
        from_seq: None,
        to_seq: None,
        since: Some(parse_datetime_field(fields, "since")?),
        until: Some(until),
        filter,
        events_per_second: None,
    };
    posted.session.scope.start_replay(&request).await?;
    Ok(Redirect::to(&format!("/dashboard/webhooks/{id}#replay")).into_response())
}

/// Cancels a replay, or resumes it.
pub(crate) async fn cancel_or_resume_replay(
    Path((id, replay)): Path<(EndpointId, ReplayId)>,
    posted: SubmittedForm,
) -> Result<Response, PageError> {
    let change = match posted.fields.get("resume") {
        "true" => ReplayChange::Resume,
        _ => ReplayChange::Cancel,
    };
    posted.session.scope.change_replay(replay, change).await?;
    Ok(Redirect::to(&format!("/dashboard/webhooks/{id}#replay")).into_response())
}
