//! The delivery log: what an endpoint was told, when, and what it answered.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Redirect, Response},
};
use jiff::Timestamp;
use maud::{Markup, html};
use okra_core::{
    feed::{FeedEntry, PayloadMode},
    ids::{EndpointId, EventId, Seq, Source},
};
use okra_store::{Consistency, DeliveryKey, Head};
use okra_webhooks::{bodies, endpoint_id};
use serde::Deserialize;
use serde_json::json;

use super::super::{call, record::change_href};
use crate::{
    Web,
    html::{Page, Section, csrf, empty, table},
    session::{Posted, Signed},
    show,
    trouble::Trouble,
};

/// Deliveries on a page of the log.
const PER_PAGE: usize = 30;

/// Bytes of a body that are shown: a page is below 100 KB.
const MAX_BODY_SHOWN: usize = 48 * 1024;

/// The states of a delivery, and what they mean.
const STATES: [(&str, &str); 5] = [
    ("delivered", "Delivered"),
    ("retry", "To be retried"),
    ("parked", "Parked"),
    ("exhausted", "Given up"),
    ("cancelled", "Cancelled"),
];

/// A delivery as `webhooks/deliveries` has it.
#[derive(Deserialize)]
pub(crate) struct Delivery {
    event_id: String,
    event: String,
    sequence: u64,
    committed_at: Timestamp,
    state: String,
    attempts: u32,
    next_at: Option<Timestamp>,
    log: Vec<Attempt>,
    response: Option<String>,
}

#[derive(Deserialize)]
struct Attempt {
    at: Timestamp,
    class: String,
    status: Option<u16>,
    latency_ms: u32,
}

/// A part of the log, newest event first.
#[derive(Deserialize)]
pub(crate) struct Log {
    pub(crate) deliveries: Vec<Delivery>,
    next_cursor: Option<String>,
}

/// Reads a part of the log of a URL.
pub(crate) async fn read(
    web: &Web,
    signed: &Signed,
    url: &str,
    (state, cursor): (&str, &str),
    limit: usize,
) -> Result<Log, Trouble> {
    let mut body = json!({ "url": url, "limit": limit });
    for (name, value) in [("state", state), ("cursor", cursor)] {
        if !value.is_empty() {
            body[name] = json!(value);
        }
    }
    let answer = call(web, signed, "webhooks/deliveries", body).await?;
    Ok(serde_json::from_value(answer)?)
}

fn state_badge(state: &str) -> Markup {
    let known = STATES.iter().find(|(name, _)| *name == state);
    let text = known.map_or(state, |(_, text)| text);
    let tone = match state {
        "delivered" => "good",
        "retry" | "parked" => "warn",
        "exhausted" => "bad",
        _ => "idle",
    };
    show::badge(tone, text)
}

/// What came of an attempt, in words.
pub(crate) fn outcome(class: &str) -> &str {
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
pub(crate) fn href(path: &str, pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<_> = pairs
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .collect();
    let query = serde_urlencoded::to_string(pairs).unwrap_or_default();
    format!("/dashboard/deliveries{path}?{query}")
}

/// The rows of a log.
pub(crate) fn rows(url: &str, log: &Log, now: Timestamp) -> Markup {
    table(
        "Deliveries",
        &html! {
            th { "Event" } th { "State" } th.wide { "Last attempt" }
            th.wide.number { "Attempts" } th.wide.number { "Took" } th.wide { "Changed" }
        },
        &html! {
            @for it in &log.deliveries {
                @let last = it.log.last();
                tr {
                    td { a.strong href=(href(&format!("/{}", it.event_id), &[("url", url)])) { (it.event) } " " span.seq { "#" (it.sequence) } }
                    td { (state_badge(&it.state)) @if let Some(at) = it.next_at { span.note { (show::when(now, at)) } } }
                    td.wide { @match last {
                        Some(last) => { @if let Some(status) = last.status { (status) " " } (outcome(&last.class)) },
                        None => "none yet",
                    } }
                    td.wide.number { (it.attempts) }
                    td.wide.number { @if let Some(last) = last { (show::count(last.latency_ms)) " ms" } }
                    td.wide { (show::when(now, it.committed_at)) }
                }
            }
        },
    )
}

fn shell(signed: &Signed, title: &str, live: Option<String>, body: Markup) -> Response {
    Page {
        signed,
        section: Section::Webhooks,
        title,
        live,
        body,
    }
    .into_response()
}

/// Where the pages of a URL hang: at the endpoint of that URL, or at data sync, which has URLs of its
/// own.
async fn crumb(web: &Web, signed: &Signed, url: &str) -> Result<Markup, Trouble> {
    let id = endpoint_id(signed.app.id, url);
    let known = web.api.store.endpoint(signed.app.id, id).await?.is_some();
    Ok(html! {
        p.crumb {
            a href="/dashboard/webhooks" { "Webhooks" } " / "
            @if known { a href={ "/dashboard/webhooks/" (id) } { (url) } } @else { (url) span.note { "a URL of data sync" } }
        }
    })
}

fn url_of(signed: &Signed) -> Result<&str, Trouble> {
    match signed.query.get("url") {
        "" => Err(Trouble::NotFound("endpoint")),
        url => Ok(url),
    }
}

/// The log of one URL.
pub(crate) async fn page(State(web): State<Arc<Web>>, signed: Signed) -> Result<Response, Trouble> {
    let url = url_of(&signed)?;
    let (state, cursor) = (signed.query.get("state"), signed.query.get("cursor"));
    let log = read(&web, &signed, url, (state, cursor), PER_PAGE).await?;
    let tab = |name: &str, text: &str| {
        html! { a href=(href("", &[("url", url), ("state", name)])) aria-current=[(name == state).then_some("true")] { (text) } }
    };
    let body = html! {
        div.head { (crumb(&web, &signed, url).await?) h1 { "Deliveries" } }
        nav.tabs aria-label="State" {
            (tab("", "All"))
            @for (name, text) in STATES { (tab(name, text)) }
        }
        @if log.deliveries.is_empty() {
            @if state.is_empty() {
                (empty("Nothing was sent yet", &html! {
                    p { "The first change of a record is told here. " a href="/dashboard/records" { "Choose a record" }
                        " and refresh it, or send the endpoint a test ping." }
                }))
            } @else {
                (empty("None in that state", &html! { p { a href=(href("", &[("url", url)])) { "Show all" } "." } }))
            }
        } @else {
            (rows(url, &log, web.now()))
        }
        @if let Some(next) = &log.next_cursor {
            p.more { a.button href=(href("", &[("url", url), ("state", state), ("cursor", next)])) { "Older" } }
        }
    };
    let live = cursor.is_empty().then(|| super::live_href(url));
    Ok(shell(&signed, "Deliveries", live, body))
}

/// One delivery: its attempts, the request, and what was answered.
pub(crate) async fn delivery(
    State(web): State<Arc<Web>>,
    signed: Signed,
    Path(event): Path<String>,
) -> Result<Response, Trouble> {
    let (url, now) = (url_of(&signed)?, web.now());
    let found = found(&web, &signed, url, &event).await?;
    let Found {
        delivery: it,
        source,
        body: sent,
        payload,
    } = &found;
    let body = html! {
        div.head {
            (crumb(&web, &signed, url).await?)
            div.title {
                h1 { (it.event) }
                (state_badge(&it.state))
                @if let Source::Record(_) = source {
                    form.act method="post" action={ "/dashboard/deliveries/" (event) "/resend" } {
                        (csrf(&signed))
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
                    dt { "Id" } dd { (show::id(&it.event_id)) }
                    @match source {
                        Source::Record(record) => {
                            dt { "Record" } dd { a href={ "/dashboard/records/" (record) } { (show::id(record)) } }
                            dt { "Change" } dd { a href=(change_href(*record, Seq(it.sequence))) { "#" (it.sequence) } }
                        },
                        Source::App(_) => { dt { "About" } dd { "the app's own endpoints" } },
                    }
                    dt { "Committed" } dd { (show::when(now, it.committed_at)) }
                    dt { "Attempts" } dd { (it.attempts) }
                    @if let Some(at) = it.next_at { dt { "Next attempt" } dd { (show::when(now, at)) } }
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
                (empty("No attempt yet", &html! { p { "It waits its turn." } }))
            } @else {
                (table("Attempts, newest first", &html! { th { "When" } th { "Outcome" } th.number { "Status" } th.number { "Took" } }, &html! {
                    @for attempt in it.log.iter().rev() {
                        tr {
                            td { (show::when(now, attempt.at)) }
                            td { (outcome(&attempt.class)) }
                            td.number { @match attempt.status { Some(status) => (status), None => "none" } }
                            td.number { (show::count(attempt.latency_ms)) " ms" }
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
                    pre.limited tabindex="0" { code { (cut(sent)) } }
                },
                None => p.note { "The body tells of an endpoint of the app, and is made anew when it is sent." },
            }
        }
    };
    let live = href("/live", &[("url", url), ("event", &event)]);
    Ok(shell(&signed, &it.event, Some(live), body))
}

struct Found {
    delivery: Delivery,
    source: Source,
    /// As the URL is sent it; of a record's event alone.
    body: Option<String>,
    payload: Option<PayloadMode>,
}

/// The event behind a delivery.
pub(super) enum Told {
    Record(Box<Head>, FeedEntry),
    App,
}

/// What is stored of the delivery of an event of the app to an endpoint, and the event.
pub(super) async fn row(
    web: &Web,
    signed: &Signed,
    endpoint: EndpointId,
    event: &str,
) -> Result<(okra_store::Delivery, Told), Trouble> {
    let none = || Trouble::NotFound("delivery");
    let store = &web.api.store;
    let (source, seq) = EventId::parse(event).ok_or_else(none)?;
    let (at, told) = match source {
        Source::Record(record) => {
            let head = store.head(record, Consistency::Eventual).await?;
            let head = head.filter(|head| head.app == signed.app.id);
            let head = Box::new(head.ok_or_else(none)?);
            let entry = store.entry(record, seq).await?.ok_or_else(none)?;
            (entry.at, Told::Record(head, entry))
        }
        Source::App(app) if app == signed.app.id => {
            let before = Seq(seq.0.saturating_sub(1));
            let entries = store.app_feed(app, before, 1).await?;
            let entry = entries.first().filter(|entry| entry.seq == seq);
            (entry.ok_or_else(none)?.at, Told::App)
        }
        Source::App(_) => return Err(none()),
    };
    let key = DeliveryKey {
        endpoint,
        at,
        source,
        seq,
    };
    let row = store.delivery(&key).await?.ok_or_else(none)?;
    Ok((row, told))
}

/// The delivery of an event to a URL, with the body as that URL is sent it.
async fn found(web: &Web, signed: &Signed, url: &str, event: &str) -> Result<Found, Trouble> {
    let store = &web.api.store;
    let endpoint = endpoint_id(signed.app.id, url);
    let (row, told) = row(web, signed, endpoint, event).await?;
    let (body, payload) = match told {
        Told::App => (None, None),
        Told::Record(head, entry) => {
            let known = store.endpoint(signed.app.id, endpoint).await?;
            let to = known.map(|it| (it.payload, it.version));
            let (payload, version) = to.unwrap_or_default();
            let entry = std::slice::from_ref(&entry);
            let rendered = bodies(
                store,
                &web.api.public_url,
                &head,
                entry,
                (url, payload, version),
            )
            .await;
            let rendered = rendered.map_err(|error| Trouble::Internal(Box::new(error)))?;
            (rendered.first().map(|body| indented(body)), Some(payload))
        }
    };
    let source = row.key.source;
    let delivery = Delivery {
        event_id: row.event_id().to_string(),
        sequence: row.key.seq.0,
        committed_at: row.key.at,
        state: row.state.as_str().to_owned(),
        attempts: row.attempts,
        next_at: row.next_at,
        log: row
            .log
            .into_iter()
            .map(|it| Attempt {
                at: it.at,
                class: it.class,
                status: it.status,
                latency_ms: it.latency_ms,
            })
            .collect(),
        event: row.event,
        response: row.excerpt,
    };
    Ok(Found {
        delivery,
        source,
        body,
        payload,
    })
}

/// JSON with its members in their order, one a line.
fn indented(json: &[u8]) -> String {
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

fn cut(body: &str) -> String {
    if body.len() <= MAX_BODY_SHOWN {
        return body.to_owned();
    }
    let end = body.floor_char_boundary(MAX_BODY_SHOWN);
    format!(
        "{}\n… and {} bytes more",
        &body[..end],
        show::count(body.len() - end)
    )
}

/// Sends an event again.
pub(crate) async fn resend(
    State(web): State<Arc<Web>>,
    Path(event): Path<String>,
    posted: Posted,
) -> Result<Response, Trouble> {
    let url = posted.fields.get("url");
    let body = json!({ "event_id": event, "url": url });
    call(&web, &posted.signed, "events/resend", body).await?;
    Ok(Redirect::to(&href(&format!("/{event}"), &[("url", url)])).into_response())
}

/// What became of one event at each endpoint.
pub(crate) async fn of_event(
    State(web): State<Arc<Web>>,
    signed: Signed,
    Path(event): Path<String>,
) -> Result<Response, Trouble> {
    #[derive(Deserialize)]
    struct At {
        endpoint: EndpointId,
        #[serde(flatten)]
        delivery: Delivery,
    }
    #[derive(Deserialize)]
    struct Answer {
        deliveries: Vec<At>,
    }
    let asked = json!({ "event_id": event });
    let answer = call(&web, &signed, "events/deliveries", asked).await;
    let answer: Answer = serde_json::from_value(answer?)?;
    let Some((Source::Record(record), seq)) = EventId::parse(&event) else {
        return Err(Trouble::NotFound("event"));
    };
    let urls = super::urls(&web, &signed, record).await?;
    let now = web.now();
    let body = html! {
        div.head {
            p.crumb { a href=(change_href(record, seq)) { "Record" } " / #" (seq) }
            h1 { "Who was told" }
        }
        @if answer.deliveries.is_empty() {
            (empty("Nobody was told", &html! {
                p { "No endpoint wanted this event when it was committed. " a href="/dashboard/webhooks" { "Add an endpoint" } ", or replay the event to one." }
            }))
        } @else {
            (table("Deliveries", &html! { th { "Endpoint" } th { "State" } th.number { "Attempts" } th { "Last attempt" } }, &html! {
                @for it in &answer.deliveries {
                    @let url = urls.get(&it.endpoint).map(String::as_str);
                    tr {
                        td.break { @match url {
                            Some(url) => a.strong href=(href(&format!("/{event}"), &[("url", url)])) { (url) },
                            None => (show::id(it.endpoint)),
                        } }
                        td { (state_badge(&it.delivery.state)) }
                        td.number { (it.delivery.attempts) }
                        td { @if let Some(last) = it.delivery.log.last() { (outcome(&last.class)) span.note { (show::when(now, last.at)) } } }
                    }
                }
            }))
        }
    };
    Ok(shell(&signed, "Who was told", None, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_in_its_order() {
        let check = |json: &str, expected: &str| assert_eq!(indented(json.as_bytes()), expected);
        check("{}", "{}");
        check("[]", "[]");
        check(r#"{"b":1,"a":[]}"#, "{\n  \"b\": 1,\n  \"a\": []\n}");
        check(r#"["{,:\"}\\",2]"#, "[\n  \"{,:\\\"}\\\\\",\n  2\n]");
    }

    #[test]
    fn a_long_body_is_cut_between_letters() {
        let long = "ä".repeat(MAX_BODY_SHOWN);
        let shown = cut(&long);
        assert!(shown.len() < MAX_BODY_SHOWN + 100);
        assert!(shown.ends_with("bytes more"));
    }
}
