//! The steps of a link, as the frame shows them.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use jiff::{ToSpan, civil::Date};
use maud::{Markup, html};
use okra_core::{
    model::{
        bank::BankConfig,
        interval::Interval,
        snapshot::{ByProduct, Product, utc_date},
    },
    resilience::bank_breaker::{BankBreaker, BankStatus},
    sync::decide::window_start,
};
use okra_store::{App, Consistency, MAX_OPTIONS_BYTES, OwnedBank, RecordStatus};
use serde_json::{Value, json};

use super::{
    bank_side, is_same_origin,
    session::{self, BankLinkError, LinkProgress, OpenLinkSession, RenewedConsent},
};
use crate::{WebState, form::FormFields, html as shell, show, trouble::PageError};

/// The header that carries the session's token.
const SESSION_HEADER: &str = "x-okra-link";

/// Milliseconds between two looks at something that is under way.
const POLL_INTERVAL_MS: u32 = 1200;

/// Looks at the first pull until the customer is told that it goes on without them.
const MAX_POLLS: u32 = 25;

/// Seconds that a bank may take to be asked for its accounts; whoever asked has crashed after that.
const READING_TIMEOUT_S: i64 = 60;

/// Checks what the options name against what the app has.
pub(crate) async fn validate_options(
    web: &WebState,
    app: &App,
    link: &mut LinkProgress,
) -> Result<Result<(), String>, PageError> {
    let store = &web.api.store;
    let (policy, own) = (web.api.address_policy, &web.api.public_url);
    if let Some(problem) = link.options.check_webhook_url(policy, own) {
        return Ok(Err(problem));
    }
    let echoed = [&link.options.options, &link.options.meta];
    let echoed = echoed.into_iter().filter(|it| !it.is_empty());
    let bytes = echoed.map(|it| serde_json::to_vec(it).map(|it| it.len()));
    if bytes.sum::<Result<usize, _>>()? > MAX_OPTIONS_BYTES {
        return Ok(Err(format!(
            "options and meta have more than {MAX_OPTIONS_BYTES} bytes together."
        )));
    }
    if !link.options.bank_slugs.is_empty() {
        let known = store.list_banks_for_app(app.id).await?;
        let is_known = |slug: &&String| known.iter().any(|bank| bank.slug == **slug);
        if let Some(unknown) = link.options.bank_slugs.iter().find(|it| !is_known(it)) {
            return Ok(Err(format!(
                "filter.banks has {unknown:?}, which is no bank here. Slugs are in banks/list."
            )));
        }
    }
    if let Some(customer) = link.options.customer {
        let known = store.find_customer(customer).await?;
        if known.is_none_or(|known| known.app != app.id) {
            return Ok(Err("customer.id is no customer of this app.".to_owned()));
        }
    }
    if let Some((account, bank)) = link.options.reauth_target {
        let known = store.find_account(account).await?;
        let Some(known) = known.filter(|known| known.app == app.id) else {
            return Ok(Err("reauth_account is no account of this app.".to_owned()));
        };
        if known.bank != bank {
            return Ok(Err(
                "reauth_bank is not the bank of reauth_account.".to_owned()
            ));
        }
        let head = store.find_head(known.record, Consistency::Eventual).await?;
        let Some(head) = head.filter(|head| head.status != RecordStatus::Invalid) else {
            return Ok(Err(
                "The record of reauth_account was unlinked: link it as a new one.".to_owned(),
            ));
        };
        link.reauth_record = Some(known.record);
        // What is consented to anew is what the record is, whatever this page says.
        link.renewed_consent = Some(RenewedConsent {
            schedule: head.schedule,
            since: first_transaction_day(utc_date(head.created_at), head.backfill_months),
        });
        link.bank = Some(bank);
    }
    Ok(Ok(()))
}

/// What a customer sees first.
pub(crate) async fn render_first_step(
    web: &WebState,
    link: &LinkProgress,
) -> Result<Markup, PageError> {
    match link.bank {
        Some(bank) => match web.api.store.find_bank(bank).await? {
            Some(bank) => Ok(render_consent(link, &bank, utc_date(web.now()))),
            None => Ok(render_ended_step(
                "The bank of that account is not configured any more.",
            )),
        },
        None => render_bank_list(web, link).await,
    }
}

fn render_step(name: &str, title: &str, body: &Markup) -> Markup {
    html! {
        section data-step=(name) { h1 tabindex="-1" { (title) } (body) }
    }
}

/// A step that is under way: the frame looks again after a while.
fn render_polling_step(
    name: &str,
    title: &str,
    action: &str,
    poll_count: u32,
    body: &Markup,
) -> Markup {
    html! {
        section data-step=(name) data-again=(action) data-after=(POLL_INTERVAL_MS) data-look=(poll_count) {
            h1 tabindex="-1" { (title) }
            (body)
        }
    }
}

fn render_ended_step(sentence: &str) -> Markup {
    render_step(
        "over",
        "This has ended",
        &html! {
            p { (sentence) }
            div.actions { button.main type="button" data-close { "Close" } }
        },
    )
}

/// Two letters on a ground of the bank's own colour: logos belong to the banks.
fn render_bank_logo(bank: &BankConfig) -> Markup {
    const HUES: usize = 8;
    let firsts = bank
        .name
        .split_whitespace()
        .filter_map(|word| word.chars().next());
    let letters: String = firsts.filter(|it| it.is_alphanumeric()).take(2).collect();
    let mix = |hash: usize, byte: u8| hash.wrapping_mul(31).wrapping_add(byte.into());
    let hue = (bank.slug.bytes().fold(7, mix) >> 3) % HUES;
    html! {
        svg.logo viewBox="0 0 40 40" width="40" height="40" aria-hidden="true" {
            rect width="40" height="40" rx="10" class={ "hue" (hue) } {}
            text x="20" y="25.5" text-anchor="middle" { (letters) }
        }
    }
}

async fn render_bank_list(web: &WebState, link: &LinkProgress) -> Result<Markup, PageError> {
    let store = &web.api.store;
    let banks = store.list_banks_for_app(link.app);
    let (mut banks, breakers) =
        futures::future::try_join(banks, store.list_bank_breakers()).await?;
    banks.retain(|bank| link.options.offers_bank(bank));
    banks.sort_by(|a, b| a.name.cmp(&b.name));
    let sentence = link
        .options
        .connect_message
        .as_deref()
        .unwrap_or("You log in at the bank itself.");
    Ok(render_step(
        "banks",
        "Choose your bank",
        &html! {
            p.sub { (sentence) }
            @if banks.is_empty() {
                p { "No bank can be linked here yet." }
            } @else {
                label.search for="search" { "Search" }
                input id="search" type="search" autocomplete="off" placeholder="Name of the bank" data-filter="banks";
                form data-action="bank" {
                    ul.banks id="banks" {
                        @for bank in &banks {
                        @let open = bank_side::has_login_page(bank);
                        @let doing = breakers.get(&bank.id).map(BankBreaker::bank_status).unwrap_or_default();
                        li data-name=(bank.name.to_lowercase()) {
                            button name="bank" value=(bank.id) disabled[!open || doing == BankStatus::Down] {
                                (render_bank_logo(bank))
                                span.name { (bank.name) }
                                @match (open, doing) {
                                    (false, _) => span.state { "Not available here" },
                                    (true, BankStatus::Degraded) => span.state data-tone="warn" { "Some trouble now" },
                                    (true, BankStatus::Down) => span.state data-tone="bad" { "Down now" },
                                    (true, BankStatus::Healthy) => "",
                                }
                            }
                        }
                    }
                }
            }
            p.none id="none" role="status" hidden { "No bank of that name." }
            }
        },
    ))
}

/// The first day whose transactions are read of a record that is linked on `day`: so many months back, and
/// the window of each refresh.
fn first_transaction_day(day: Date, months: u8) -> Date {
    let asked = day.saturating_sub(i32::from(months).months());
    asked.min(window_start(day))
}

/// How often each product is read: what the bank allows of what is asked for.
fn effective_schedule(link: &LinkProgress, bank: &BankConfig) -> ByProduct<Interval> {
    let mut schedule = match &link.renewed_consent {
        Some(renewed) => renewed.schedule,
        None => link.options.requested_schedule(),
    };
    for product in Product::ALL {
        let slot = schedule.get_mut(product);
        *slot = slot.map(|interval| bank.limits.effective_interval(interval));
    }
    schedule
}

/// `every hour`; or each product's own where they differ.
fn describe_schedule(schedule: ByProduct<Interval>) -> String {
    match (schedule.balance, schedule.transactions) {
        (Some(balance), Some(transactions)) if balance != transactions => format!(
            "balances {}, transactions {}",
            show::describe_interval(balance),
            show::describe_interval(transactions)
        ),
        (Some(one), _) | (None, Some(one)) => show::describe_interval(one).to_owned(),
        (None, None) => "never".to_owned(),
    }
}

/// What the customer agrees to, in plain words: what, since when, how often, how long.
fn render_consent(link: &LinkProgress, bank: &BankConfig, today: Date) -> Markup {
    let app = link.options.app_name.as_deref().unwrap_or("This app");
    let schedule = effective_schedule(link, bank);
    let since = match &link.renewed_consent {
        Some(renewed) => renewed.since,
        None => first_transaction_day(today, link.options.backfill_months),
    };
    let again = link.reauth_record.is_some();
    let title = if again {
        "Renew your consent"
    } else {
        "What you agree to"
    };
    let problem = link.bank_error.map(BankLinkError::customer_message);
    render_step(
        "consent",
        title,
        &html! {
            @if let Some(problem) = problem { p.problem role="alert" { (problem) } }
            div.bank { (render_bank_logo(bank)) strong { (bank.name) } }
            p { (app) " asks to read from your bank:" }
            ul.ticks {
                li { "your name and account numbers" }
                @if schedule.balance.is_some() { li { "your balances" } }
                @if schedule.transactions.is_some() { li { "your transactions, past and new" } }
            }
            dl {
                @if schedule.transactions.is_some() { dt { "Since" } dd { (show::format_date(since)) } }
                dt { "How often" } dd { (describe_schedule(schedule)) "; " (app) " can change how often, and not what" }
                dt { "How long" } dd { "until you or the bank end it; most banks ask again after 90 days" }
                dt { "Never" } dd { "your password, and moving money" }
            }
            form data-action="go" data-popup {
                div.actions {
                    button.main { "Continue to " (bank.name) }
                    @if !again { button type="button" data-action="banks" { "Another bank" } }
                }
            }
        },
    )
}

fn render_bank_login(bank: &BankConfig, url: &str, poll_count: u32) -> Markup {
    render_polling_step(
        "bank",
        &format!("Log in at {}", bank.name),
        "wait",
        poll_count,
        &html! {
            div.bank { (render_bank_logo(bank)) strong { (bank.name) } }
            p { "The bank's own page is open in another window. Come back here when you are done." }
            p.wait role="status" { "Waiting for you to log in…" }
            div.actions {
                a.button href=(url) target="okra-bank" rel="opener" data-go { "Open the bank's page" }
                button type="button" data-action="retry" { "Start again" }
            }
        },
    )
}

/// The customer is back, and the bank has not yet said which accounts there are.
fn render_reading_accounts(bank: &BankConfig, poll_count: u32) -> Markup {
    render_polling_step(
        "reading",
        "Reading your accounts",
        "wait",
        poll_count,
        &html! {
            div.bank { (render_bank_logo(bank)) strong { (bank.name) } }
            div.bar { span {} }
            p.wait role="status" { "The bank is asked for your accounts…" }
        },
    )
}

fn render_account_choice(link: &LinkProgress, bank: &BankConfig) -> Markup {
    render_step(
        "accounts",
        "Choose your accounts",
        &html! {
            div.bank { (render_bank_logo(bank)) strong { (bank.name) } }
            form data-action="accounts" {
                fieldset {
                    legend { "Accounts to share" }
                    @for account in &link.offered_accounts {
                        label.account {
                            input type="checkbox" name="account" value=(account.id) checked;
                            span { span.name { (account.name) } span.sub { (account.kind) " " (mask_account_number(&account.number)) } }
                        }
                    }
                }
                p.problem role="alert" hidden data-need="account" { "Choose at least one account." }
                div.actions { button.main { "Share and continue" } }
            }
        },
    )
}

fn mask_account_number(number: &str) -> String {
    let skip = number.chars().count().saturating_sub(4);
    let tail: String = number.chars().skip(skip).collect();
    format!("•• {tail}")
}

fn render_fetching_data(poll_count: u32) -> Markup {
    render_polling_step(
        "progress",
        "Fetching your data",
        "progress",
        poll_count,
        &html! {
            div.bar { span {} }
            p.wait role="status" { "Your account is linked. The first data are on their way…" }
        },
    )
}

fn render_success(link: &LinkProgress, bank: &BankConfig, is_complete: bool) -> Markup {
    let title = link
        .options
        .success_title
        .as_deref()
        .unwrap_or("Account linked");
    let app = link.options.app_name.as_deref().unwrap_or("the app");
    let message = link.success_payload.as_ref().map(Value::to_string);
    html! {
        section data-step="success" data-success=[message] data-redirect=[link.options.redirect_url.as_deref()] {
            div.tick aria-hidden="true" { svg viewBox="0 0 40 40" width="56" height="56" {
                circle cx="20" cy="20" r="19" {} path d="M12 20.5l5.5 5.5L28.5 15" {}
            } }
            h1 tabindex="-1" { (title) }
            @match &link.options.success_message {
                Some(message) => p { (message) },
                None => p { "From now on " (app) " is kept up to date, " (describe_schedule(effective_schedule(link, bank))) "." },
            }
            @if !is_complete { p.sub { "The first data take a little longer; you need not wait for them." } }
            div.actions { button.main type="button" data-close { "Done" } }
        }
    }
}

/// One step: what was sent, and what is shown next.
pub(crate) async fn handle_step(
    State(web): State<Arc<WebState>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, PageError> {
    if !is_same_origin(&headers) {
        return Ok(StatusCode::FORBIDDEN.into_response());
    }
    let token = headers
        .get(SESSION_HEADER)
        .and_then(|it| it.to_str().ok())
        .unwrap_or_default();
    let Some(mut open) = session::load_session(&web, token).await? else {
        let page =
            render_ended_step("This took longer than an hour. Close the window and start again.");
        return Ok(shell::html_response(StatusCode::OK, page));
    };
    let fields = FormFields::read_body(body).await.unwrap_or_default();
    let look = fields.get("look").parse().unwrap_or(0);
    let page = match fields.get("action") {
        "bank" => choose_bank(&web, &mut open, fields.get("bank")).await?,
        "go" => start_bank_login(&web, &mut open, token).await?,
        "wait" => poll_bank_login(&web, &open.link, look).await?,
        "retry" => restart_bank_login(&web, &mut open).await?,
        "accounts" => {
            let chosen: Vec<&str> = fields.all_values("account").collect();
            link_accounts(&web, &mut open, &chosen).await?
        }
        "progress" => poll_first_refresh(&web, &open.link, look).await?,
        _ if open.link.reauth_record.is_none() && open.link.success_payload.is_none() => {
            render_bank_list(&web, &open.link).await?
        }
        _ => render_first_step(&web, &open.link).await?,
    };
    Ok(shell::html_response(StatusCode::OK, page))
}

async fn load_bank(web: &WebState, link: &LinkProgress) -> Result<BankConfig, PageError> {
    let bank = match link.bank {
        Some(bank) => web.api.store.find_bank(bank).await?,
        None => None,
    };
    bank.ok_or(PageError::NotFound("bank"))
}

async fn choose_bank(
    web: &WebState,
    open: &mut OpenLinkSession,
    bank: &str,
) -> Result<Markup, PageError> {
    let Ok(bank) = bank.parse() else {
        return render_bank_list(web, &open.link).await;
    };
    if open.link.reauth_record.is_none() && open.link.success_payload.is_none() {
        let known = web.api.store.find_owned_bank(bank).await?;
        let app = open.link.app;
        let offered = |it: &OwnedBank| {
            it.is_visible_to(Some(app)) && open.link.options.offers_bank(&it.config)
        };
        if !known.as_ref().is_some_and(offered) {
            return render_bank_list(web, &open.link).await;
        }
        open.link.bank = Some(bank);
        (
            open.link.authorization,
            open.link.reading_since_s,
            open.link.bank_error,
        ) = (None, None, None);
        open.save_session(web).await?;
    }
    let bank = load_bank(web, &open.link).await?;
    Ok(render_consent(&open.link, &bank, utc_date(web.now())))
}

/// Sends the customer to the bank.
async fn start_bank_login(
    web: &WebState,
    open: &mut OpenLinkSession,
    token: &str,
) -> Result<Markup, PageError> {
    let bank = load_bank(web, &open.link).await?;
    let products = effective_schedule(&open.link, &bank).products();
    match bank_side::start_authorization(web, &bank, token, &products).await? {
        Ok(visit) => {
            let url = visit.authorization_url.clone();
            open.link.authorization = Some(visit);
            open.link.bank_error = None;
            open.save_session(web).await?;
            Ok(render_bank_login(&bank, &url, 0))
        }
        Err(problem) => {
            open.link.bank_error = Some(problem);
            Ok(render_consent(&open.link, &bank, utc_date(web.now())))
        }
    }
}

async fn restart_bank_login(
    web: &WebState,
    open: &mut OpenLinkSession,
) -> Result<Markup, PageError> {
    (open.link.authorization, open.link.reading_since_s) = (None, None);
    open.save_session(web).await?;
    let bank = load_bank(web, &open.link).await?;
    Ok(render_consent(&open.link, &bank, utc_date(web.now())))
}

/// Whether the customer has come back from the bank.
async fn poll_bank_login(
    web: &WebState,
    link: &LinkProgress,
    poll_count: u32,
) -> Result<Markup, PageError> {
    let bank = load_bank(web, link).await?;
    if link.success_payload.is_some() {
        return poll_first_refresh(web, link, poll_count).await;
    }
    if link.bank_error.is_some() {
        return Ok(render_consent(link, &bank, utc_date(web.now())));
    }
    match (&link.consent, &link.authorization) {
        (Some(_), _) => Ok(render_account_choice(link, &bank)),
        (None, Some(visit)) => Ok(render_bank_login(
            &bank,
            &visit.authorization_url,
            poll_count.saturating_add(1),
        )),
        (None, None)
            if link
                .reading_since_s
                .is_some_and(|since| web.now().as_second() < since + READING_TIMEOUT_S) =>
        {
            Ok(render_reading_accounts(&bank, poll_count.saturating_add(1)))
        }
        (None, None) => Ok(render_consent(link, &bank, utc_date(web.now()))),
    }
}

/// Makes the record, or renews it; from here on it is refreshed.
async fn link_accounts(
    web: &WebState,
    open: &mut OpenLinkSession,
    account_ids: &[&str],
) -> Result<Markup, PageError> {
    let bank = load_bank(web, &open.link).await?;
    let link = &mut open.link;
    if link.success_payload.is_some() {
        return poll_first_refresh(web, link, 0).await;
    }
    let Some(secret) = link.consent.take() else {
        return Ok(render_consent(link, &bank, utc_date(web.now())));
    };
    let holder = link
        .offered_accounts
        .first()
        .map(|it| it.name.clone())
        .unwrap_or_default();
    let mut body = json!({
        "access_token": secret.access_token,
        "refresh_token": secret.refresh_token,
        "expires_in": secret.expires_at.map(|at| at.duration_since(web.now()).as_secs().max(0)),
        "consent_id": secret.consent_id,
        "bank": bank.id,
        "interval": link.options.interval,
        "products": link.options.products,
        "sync_products": link.options.synced_products,
        "limit": link.options.backfill_months,
        "options": link.options.options,
        "meta": link.options.meta,
    });
    match (link.reauth_record, link.options.customer) {
        (Some(record), _) => body["record_id"] = json!(record),
        (None, Some(customer)) => body["customer"] = json!(customer),
        (None, None) => body["name"] = json!(holder),
    }
    if link.reauth_record.is_none() {
        body["account_ids"] = json!(account_ids);
        if let Some(url) = &link.options.webhook_url {
            body["webhook_url"] = json!(url);
        }
    }
    // The consent leaves the session before it is used: nobody links twice with it.
    if !open.save_session(web).await? {
        return poll_bank_login(web, &open.link, 0).await;
    }
    let (status, answer) =
        okra_api::call_route(&web.api, open.link.app, "records/link", body).await;
    let mut now = open.after_save();
    if !status.is_success() {
        let message = answer["message"]
            .as_str()
            .unwrap_or("The bank could not be linked.")
            .to_owned();
        let plain = match status {
            StatusCode::TOO_MANY_REQUESTS => Some(BankLinkError::RateLimited),
            status if status.is_server_error() => Some(BankLinkError::BankUnavailable),
            _ => None,
        };
        // A fault of ours may have come after the record was made, which then needs the consent.
        let taken_back = !status.is_server_error()
            && bank_side::revoke_unused_consent(web, &bank, &secret).await?;
        let plain = plain.map(BankLinkError::customer_message);
        return Ok(render_link_error(&bank, &message, plain, taken_back));
    }
    let linked = &answer["data"];
    now.link.record = linked["record_id"].as_str().and_then(|id| id.parse().ok());
    now.link.success_payload = Some(build_success_payload(&bank, linked));
    now.save_session(web).await?;
    Ok(render_fetching_data(0))
}

/// A link that was refused: `message` is for the app, `plain` for the customer where there is one.
fn render_link_error(
    bank: &BankConfig,
    message: &str,
    customer_message: Option<&str>,
    is_revoked: bool,
) -> Markup {
    let error = json!({
        "type": "error", "error": true, "status": false, "code": 1008,
        "method": "Link", "message": message,
    });
    html! {
        section data-step="refused" data-error=(error.to_string()) {
            h1 tabindex="-1" { "It could not be linked" }
            p { (customer_message.unwrap_or(message)) }
            p.sub {
                "Nothing that " (bank.name) " shared was kept"
                @if is_revoked { ", and your consent was taken back there." }
                @else { ". You can take your consent back at the bank." }
            }
            div.actions { button.main type="button" data-action="retry" { "Try again" } button type="button" data-close { "Close" } }
        }
    }
}

/// What Okra's widget handed to `onSuccess`.
fn build_success_payload(bank: &BankConfig, link_data: &Value) -> Value {
    let customer = &link_data["customer_id"];
    json!({
        "status": "success",
        "auth": {
            "clientId": format!("okr-{}", link_data["record_id"].as_str().unwrap_or_default()),
            "type": "validate",
            "status": true,
            "login_type": "bank",
            "bank_id": bank.id,
            "customer_id": customer,
            "bank_details": {
                "_id": bank.id, "id": bank.id, "name": bank.name, "slug": bank.slug,
                "logo": "", "icon": "", "v2_logo": "", "v2_icon": "",
                "countries": [bank.country],
            },
        },
        "accounts": link_data["accounts"],
        "customer": { "id": customer, "name": link_data["name"] },
        "customer_id": customer,
        "identity": { "name": link_data["name"] },
        "income": {},
        "bank_id": bank.id,
        "bank_name": bank.name,
        "record_id": link_data["record_id"],
        "refresh": link_data["schedule"],
    })
}

async fn poll_first_refresh(
    web: &WebState,
    link: &LinkProgress,
    poll_count: u32,
) -> Result<Markup, PageError> {
    let Some(record) = link.record else {
        return Ok(render_fetching_data(poll_count.saturating_add(1)));
    };
    let head = web
        .api
        .store
        .find_head(record, Consistency::Eventual)
        .await?;
    let pulled = head.is_some_and(|head| {
        let all = head.schedule.iter().all(|(product, _)| {
            head.watermarks
                .get(product)
                .is_some_and(|mark| mark.digest.is_some())
        });
        all && head.is_first_fetched()
    });
    if pulled || poll_count >= MAX_POLLS {
        return Ok(render_success(link, &load_bank(web, link).await?, pulled));
    }
    Ok(render_fetching_data(poll_count.saturating_add(1)))
}
