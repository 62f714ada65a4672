//! The delivery log: what an endpoint was told, when, and what it answered.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Redirect, Response},
};
use jiff::Timestamp;
use maud::{Markup, html};
use okra_core::{
    model::ids::{EndpointId, EventId, FeedSource, Seq},
    sync::feed::{FeedEntry, PayloadMode},
};
use okra_store::{Consistency, DeliveryKey, RecordHead};
use okra_webhooks::{endpoint_id, render_bodies};
use serde::Deserialize;
use serde_json::json;

use super::super::{call_api, record::change_href};
use crate::{
    WebState,
    html::{DashboardPage, Section, render_csrf_field, render_empty_state, render_table},
    session::{AppSession, SubmittedForm},
    show,
    trouble::PageError,
};

/// Deliveries on a page of the log.
const DELIVERIES_PER_PAGE: usize = 30;

/// Bytes of a body that are shown: a page is below 100 KB.
const MAX_BODY_BYTES_SHOWN: usize = 48 * 1024;

/// The states of a delivery, and what they mean.
const DELIVERY_STATES: [(&str, &str); 5] = [
    ("delivered", "Delivered"),
    ("retry", "To be retried"),
    ("parked", "Parked"),
    ("exhausted", "Given up"),
    ("cancelled", "Cancelled"),
];

/// A delivery as `webhooks/deliveries` has it.
#[derive(Deserialize)]
pub(crate) struct DeliveryRow {
    event_id: String,
    event: String,
    sequence: u64,
    committed_at: Timestamp,
    state: String,
    attempts: u32,
    next_at: Option<Timestamp>,
    log: Vec<AttemptRow>,
    response: Option<String>,
}

#[derive(Deserialize)]
struct AttemptRow {
    at: Timestamp,
    class: String,
    status: Option<u16>,
    latency_ms: u32,
}

/// A part of the log, newest event first.
#[derive(Deserialize)]
pub(crate) struct DeliveryLog {
    pub(crate) deliveries: Vec<DeliveryRow>,
    next_cursor: Option<String>,
}

/// Reads a part of the log of a URL.
pub(crate) async fn load_delivery_log(
    web: &WebState,
    session: &AppSession,
    url: &str,
    (state, cursor): (&str, &str),
    limit: usize,
) -> Result<DeliveryLog, PageError> {
    let mut body = json!({ "url": url, "limit": limit });
    for (name, value) in [("state", state), ("cursor", cursor)] {
        if !value.is_empty() {
            body[name] = json!(value);
        }
    }
    let answer = call_api(web, session, "webhooks/deliveries", body).await?;
    Ok(serde_json::from_value(answer)?)
}

fn render_state_badge(state: &str) -> Markup {
    let known = DELIVERY_STATES.iter().find(|(name, _)| *name == state);
    let text = known.map_or(state, |(_, text)| text);
    let tone = match state {
        "delivered" => "good",
        "retry" | "parked" => "warn",
        "exhausted" => "bad",
        _ => "idle",
    };
    show::render_badge(tone, text)
}

/// What came of an attempt, in words.
pub(crate) fn describe_outcome(class: &str) -> &str {
    match class {
        "ok" => "taken",
        "redirect" => "redirected, which is not followed",
        "gone" => "gone (410): disabled",
        "throttled" => "asked to wait",
        "rejected" => "refused",
        "timeout" => "no answer in time",
        "connect" => "no connection",
        "tls" => "TLS failed",
        "dns" => "host unknown",
        "blocked" => "address not allowed",
        other => other,
    }
}

/// An address within the log.
pub(crate) fn log_href(path: &str, pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<_> = pairs
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .collect();
    let query = serde_urlencoded::to_string(pairs).unwrap_or_default();
    format!("/dashboard/deliveries{path}?{query}")
}

/// The rows of a log.
pub(crate) fn render_log_rows(url: &str, log: &DeliveryLog, now: Timestamp) -> Markup {
    render_table(
        "Deliveries",
        &html! {
            th { "Event" } th { "State" } th.wide { "Last attempt" }
            th.wide.number { "Attempts" } th.wide.number { "Took" } th.wide { "Changed" }
        },
        &html! {
            @for it in &log.deliveries {
                @let last = it.log.last();
                tr {
                    td { a.strong href=(log_href(&format!("/{}", it.event_id), &[("url", url)])) { (it.event) } " " span.seq { "#" (it.sequence) } }
                    td { (render_state_badge(&it.state)) @if let Some(at) = it.next_at { span.note { (show::render_relative_time(now, at)) } } }
                    td.wide { @match last {
                        Some(last) => { @if let Some(status) = last.status { (status) " " } (describe_outcome(&last.class)) },
                        None => "none yet",
                    } }
                    td.wide.number { (it.attempts) }
                    td.wide.number { @if let Some(last) = last { (show::format_count(last.latency_ms)) " ms" } }
                    td.wide { (show::render_relative_time(now, it.committed_at)) }
                }
            }
        },
    )
}

fn respond_log_page(
    session: &AppSession,
    title: &str,
    live: Option<String>,
    body: Markup,
) -> Response {
    DashboardPage {
        session,
        section: Section::Webhooks,
        title,
        live_url: live,
        body,
    }
    .into_response()
}

/// Where the pages of a URL hang: at the endpoint of that URL, or at data sync, which has URLs of its
/// own.
async fn render_breadcrumb(
    web: &WebState,
    session: &AppSession,
    url: &str,
) -> Result<Markup, PageError> {
    let id = endpoint_id(session.app.id, url);
    let known = web
        .api
        .store
        .find_endpoint(session.app.id, id)
        .await?
        .is_some();
    Ok(html! {
        p.crumb {
            a href="/dashboard/webhooks" { "Webhooks" } " / "
            @if known { a href={ "/dashboard/webhooks/" (id) } { (url) } } @else { (url) span.note { "a URL of data sync" } }
        }
    })
}

fn requested_url(session: &AppSession) -> Result<&str, PageError> {
    match session.query.get("url") {
        "" => Err(PageError::NotFound("endpoint")),
        url => Ok(url),
    }
}

/// The log of one URL.
pub(crate) async fn render_log_page(
    State(web): State<Arc<WebState>>,
    session: AppSession,
) -> Result<Response, PageError> {
    let url = requested_url(&session)?;
    let (state, cursor) = (session.query.get("state"), session.query.get("cursor"));
    let log = load_delivery_log(&web, &session, url, (state, cursor), DELIVERIES_PER_PAGE).await?;
    let tab = |name: &str, text: &str| {
        html! { a href=(log_href("", &[("url", url), ("state", name)])) aria-current=[(name == state).then_some("true")] { (text) } }
    };
    let body = html! {
        div.head { (render_breadcrumb(&web, &session, url).await?) h1 { "Deliveries" } }
        nav.tabs aria-label="State" {
            (tab("", "All"))
            @for (name, text) in DELIVERY_STATES { (tab(name, text)) }
        }
        @if log.deliveries.is_empty() {
            @if state.is_empty() {
                (render_empty_state("Nothing was sent yet", &html! {
                    p { "The first change of a record is told here. " a href="/dashboard/records" { "Choose a record" }
                        " and refresh it, or send the endpoint a test ping." }
                }))
            } @else {
                (render_empty_state("None in that state", &html! { p { a href=(log_href("", &[("url", url)])) { "Show all" } "." } }))
            }
        } @else {
            (render_log_rows(url, &log, web.now()))
        }
        @if let Some(next) = &log.next_cursor {
            p.more { a.button href=(log_href("", &[("url", url), ("state", state), ("cursor", next)])) { "Older" } }
        }
    };
    let live = cursor.is_empty().then(|| super::live_events_href(url));
    Ok(respond_log_page(&session, "Deliveries", live, body))
}

/// One delivery: its attempts, the request, and what was answered.
pub(crate) async fn render_delivery_page(
    State(web): State<Arc<WebState>>,
    session: AppSession,
    Path(event): Path<String>,
) -> Result<Response, PageError> {
    let (url, now) = (requested_url(&session)?, web.now());
    let found = load_delivery_details(&web, &session, url, &event).await?;
    let DeliveryDetails {
        delivery: it,
        source,
        body: sent,
        payload,
    } = &found;
    let body = html! {
        div.head {
            (render_breadcrumb(&web, &session, url).await?)
            div.title {
                h1 { (it.event) }
                (render_state_badge(&it.state))
                @if let FeedSource::Record(_) = source {
                    form.act method="post" action={ "/dashboard/deliveries/" (event) "/resend" } {
                        (render_csrf_field(&session))
                        input type="hidden" name="url" value=(url);
                        button.main { "Resend" }
                    }
                }
            }
        }
        div.columns {
            section.card aria-labelledby="event" {
                h2 #event { "Event" }
                dl {
                    dt { "Id" } dd { (show::render_id(&it.event_id)) }
                    @match source {
                        FeedSource::Record(record) => {
                            dt { "Record" } dd { a href={ "/dashboard/records/" (record) } { (show::render_id(record)) } }
                            dt { "Change" } dd { a href=(change_href(*record, Seq(it.sequence))) { "#" (it.sequence) } }
                        },
                        FeedSource::App(_) => { dt { "About" } dd { "the app's own endpoints" } },
                    }
                    dt { "Committed" } dd { (show::render_relative_time(now, it.committed_at)) }
                    dt { "Attempts" } dd { (it.attempts) }
                    @if let Some(at) = it.next_at { dt { "Next attempt" } dd { (show::render_relative_time(now, at)) } }
                }
            }
            section.card aria-labelledby="answer" {
                h2 #answer { "Response" }
                @match &it.response {
                    Some(text) if !text.is_empty() => { p.note { "The beginning of the last answer that was no 2xx" } pre.limited tabindex="0" { code { (text) } } },
                    _ => p { "Of an answer that takes the event, its status is kept and not its body." },
                }
            }
        }
        section aria-labelledby="attempts" {
            h2 #attempts { "Attempts" }
            @if it.log.is_empty() {
                (render_empty_state("No attempt yet", &html! { p { "It waits its turn." } }))
            } @else {
                (render_table("Attempts, newest first", &html! { th { "When" } th { "Outcome" } th.number { "Status" } th.number { "Took" } }, &html! {
                    @for attempt in it.log.iter().rev() {
                        tr {
                            td { (show::render_relative_time(now, attempt.at)) }
                            td { (describe_outcome(&attempt.class)) }
                            td.number { @match attempt.status { Some(status) => (status), None => "none" } }
                            td.number { (show::format_count(attempt.latency_ms)) " ms" }
                        }
                    }
                }))
            }
        }
        section aria-labelledby="request" {
            h2 #request { "Request" @if payload.is_some() { span.note { "signed anew at each attempt" } } }
            @match sent {
                Some(sent) => {
                    pre { code {
                        "POST " (url) "\ncontent-type: application/json\nwebhook-id: " (it.event_id)
                        "\nwebhook-timestamp: " (it.log.last().map_or(now, |last| last.at).as_second())
                        "\nwebhook-signature: v1,…\nokra-event-sequence: " (it.sequence) "\nokra-attempt: " (it.attempts.max(1))
                    } }
                    pre.limited tabindex="0" { code { (truncate_body(sent)) } }
                },
                None => p.note { "The body tells of an endpoint of the app, and is made anew when it is sent." },
            }
        }
    };
    let live = log_href("/live", &[("url", url), ("event", &event)]);
    Ok(respond_log_page(&session, &it.event, Some(live), body))
}

struct DeliveryDetails {
    delivery: DeliveryRow,
    source: FeedSource,
    /// As the URL is sent it; of a record's event alone.
    body: Option<String>,
    payload: Option<PayloadMode>,
}

/// The event behind a delivery.
pub(super) enum DeliveredEvent {
    Record(Box<RecordHead>, FeedEntry),
    App,
}

/// What is stored of the delivery of an event of the app to an endpoint, and the event.
pub(super) async fn load_delivery(
    web: &WebState,
    session: &AppSession,
    endpoint: EndpointId,
    event: &str,
) -> Result<(okra_store::Delivery, DeliveredEvent), PageError> {
    let none = || PageError::NotFound("delivery");
    let store = &web.api.store;
    let (source, seq) = EventId::parse(event).ok_or_else(none)?;
    let (at, told) = match source {
        FeedSource::Record(record) => {
            let head = store.find_head(record, Consistency::Eventual).await?;
            let head = head.filter(|head| head.app == session.app.id);
            let head = Box::new(head.ok_or_else(none)?);
            let entry = store.find_feed_entry(record, seq).await?.ok_or_else(none)?;
            (entry.committed_at, DeliveredEvent::Record(head, entry))
        }
        FeedSource::App(app) if app == session.app.id => {
            let before = Seq(seq.0.saturating_sub(1));
            let entries = store.read_app_feed(app, before, 1).await?;
            let entry = entries.first().filter(|entry| entry.seq == seq);
            (entry.ok_or_else(none)?.committed_at, DeliveredEvent::App)
        }
        FeedSource::App(_) => return Err(none()),
    };
    let key = DeliveryKey {
        endpoint,
        committed_at: at,
        source,
        seq,
    };
    let row = store.find_delivery(&key).await?.ok_or_else(none)?;
    Ok((row, told))
}

/// The delivery of an event to a URL, with the body as that URL is sent it.
async fn load_delivery_details(
    web: &WebState,
    session: &AppSession,
    url: &str,
    event: &str,
) -> Result<DeliveryDetails, PageError> {
    let store = &web.api.store;
    let endpoint = endpoint_id(session.app.id, url);
    let (row, told) = load_delivery(web, session, endpoint, event).await?;
    let (body, payload) = match told {
        DeliveredEvent::App => (None, None),
        DeliveredEvent::Record(head, entry) => {
            let known = store.find_endpoint(session.app.id, endpoint).await?;
            let to = known.map(|it| (it.payload_mode, it.body_version));
            let (payload, version) = to.unwrap_or_default();
            let entry = std::slice::from_ref(&entry);
            let rendered = render_bodies(
                store,
                &web.api.public_url,
                &head,
                entry,
                (url, payload, version),
            )
            .await;
            let rendered = rendered.map_err(|error| PageError::Internal(Box::new(error)))?;
            (
                rendered.first().map(|body| indent_json(body)),
                Some(payload),
            )
        }
    };
    let source = row.key.source;
    let delivery = DeliveryRow {
        event_id: row.event_id().to_string(),
        sequence: row.key.seq.0,
        committed_at: row.key.committed_at,
        state: row.state.as_str().to_owned(),
        attempts: row.attempt_count,
        next_at: row.next_attempt_at,
        log: row
            .attempt_log
            .into_iter()
            .map(|it| AttemptRow {
                at: it.attempted_at,
                class: it.outcome_class,
                status: it.status,
                latency_ms: it.latency_ms,
            })
            .collect(),
        event: row.event_name,
        response: row.response_excerpt,
    };
    Ok(DeliveryDetails {
        delivery,
        source,
        body,
        payload,
    })
}

/// JSON with its members in their order, one a line.
fn indent_json(json: &[u8]) -> String {
    let (mut text, mut depth, mut quoted, mut escaped) = (String::new(), 0, false, false);
    let fresh = |text: &mut String, depth: usize| {
        text.push('\n');
        text.extend(std::iter::repeat_n("  ", depth));
    };
    let json = String::from_utf8_lossy(json);
    let mut letters = json.chars().peekable();
    while let Some(letter) = letters.next() {
        if quoted {
            text.push(letter);
            quoted = escaped || letter != '"';
            escaped = !escaped && letter == '\\';
            continue;
        }
        match letter {
            '{' | '[' => {
                text.push(letter);
                if matches!(letters.peek(), Some('}' | ']')) {
                    text.extend(letters.next());
                } else {
                    depth += 1;
                    fresh(&mut text, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                fresh(&mut text, depth);
                text.push(letter);
            }
            ',' => {
                text.push(',');
                fresh(&mut text, depth);
            }
            ':' => text.push_str(": "),
            '"' => {
                quoted = true;
                text.push('"');
            }
            _ => text.push(letter),
        }
    }
    text
}

fn truncate_body(body: &str) -> String {
    if body.len() <= MAX_BODY_BYTES_SHOWN {
        return body.to_owned();
    }
    let end = body.floor_char_boundary(MAX_BODY_BYTES_SHOWN);
    format!(
        "{}\n… and {} bytes more",
        &body[..end],
        show::format_count(body.len() - end)
    )
}

/// Sends an event again.
pub(crate) async fn resend_event(
    State(web): State<Arc<WebState>>,
    Path(event): Path<String>,
    posted: SubmittedForm,
) -> Result<Response, PageError> {
    let url = posted.fields.get("url");
    let body = json!({ "event_id": event, "url": url });
    call_api(&web, &posted.session, "events/resend", body).await?;
    Ok(Redirect::to(&log_href(&format!("/{event}"), &[("url", url)])).into_response())
}

/// What became of one event at each endpoint.
pub(crate) async fn render_event_page(
    State(web): State<Arc<WebState>>,
    session: AppSession,
    Path(event): Path<String>,
) -> Result<Response, PageError> {
    #[derive(Deserialize)]
    struct DeliveryAtEndpoint {
        endpoint: EndpointId,
        #[serde(flatten)]
        delivery: DeliveryRow,
    }
    #[derive(Deserialize)]
    struct EventDeliveries {
        deliveries: Vec<DeliveryAtEndpoint>,
    }
    let asked = json!({ "event_id": event });
    let answer = call_api(&web, &session, "events/deliveries", asked).await;
    let answer: EventDeliveries = serde_json::from_value(answer?)?;
    let Some((FeedSource::Record(record), seq)) = EventId::parse(&event) else {
        return Err(PageError::NotFound("event"));
    };
    let urls = super::load_endpoint_urls(&web, &session, record).await?;
    let now = web.now();
    let body = html! {
        div.head {
            p.crumb { a href=(change_href(record, seq)) { "Record" } " / #" (seq) }
            h1 { "Who was told" }
        }
        @if answer.deliveries.is_empty() {
            (render_empty_state("Nobody was told", &html! {
                p { "No endpoint wanted this event when it was committed. " a href="/dashboard/webhooks" { "Add an endpoint" } ", or replay the event to one." }
            }))
        } @else {
            (render_table("Deliveries", &html! { th { "Endpoint" } th { "State" } th.number { "Attempts" } th { "Last attempt" } }, &html! {
                @for it in &answer.deliveries {
                    @let url = urls.get(&it.endpoint).map(String::as_str);
                    tr {
                        td.break { @match url {
                            Some(url) => a.strong href=(log_href(&format!("/{event}"), &[("url", url)])) { (url) },
                            None => (show::render_id(it.endpoint)),
                        } }
                        td { (render_state_badge(&it.delivery.state)) }
                        td.number { (it.delivery.attempts) }
                        td { @if let Some(last) = it.delivery.log.last() { (describe_outcome(&last.class)) span.note { (show::render_relative_time(now, last.at)) } } }
                    }
                }
            }))
        }
    };
    Ok(respond_log_page(&session, "Who was told", None, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_in_its_order() {
        let check = |json: &str, expected: &str| assert_eq!(indent_json(json.as_bytes()), expected);
        check("{}", "{}");
        check("[]", "[]");
        check(r#"{"b":1,"a":[]}"#, "{\n  \"b\": 1,\n  \"a\": []\n}");
        check(r#"["{,:\"}\\",2]"#, "[\n  \"{,:\\\"}\\\\\",\n  2\n]");
    }

    #[test]
    fn a_long_body_is_cut_between_letters() {
        let long = "ä".repeat(MAX_BODY_BYTES_SHOWN);
        let shown = truncate_body(&long);
        assert!(shown.len() < MAX_BODY_BYTES_SHOWN + 100);
        assert!(shown.ends_with("bytes more"));
    }
}
