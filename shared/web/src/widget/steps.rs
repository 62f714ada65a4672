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
    bank::BankConfig,
    breaker::{BankStatus, Breaker},
    decide::window_start,
    model::{ByProduct, Product, date_of},
    schedule::Interval,
};
use okra_store::{App, Consistency, MAX_OPTIONS_BYTES, OwnedBank, RecordStatus};
use serde_json::{Value, json};

use super::{
    bank_side, from_ourselves,
    session::{self, Link, Open, Problem, Renewed},
};
use crate::{Web, form::Fields, html as shell, show, trouble::Trouble};

/// The header that carries the session's token.
const SESSION: &str = "x-okra-link";

/// Milliseconds between two looks at something that is under way.
const LOOK_MS: u32 = 1200;

/// Looks at the first pull until the customer is told that it goes on without them.
const MAX_LOOKS: u32 = 25;

/// Seconds that a bank may take to be asked for its accounts; whoever asked has crashed after that.
const READING_S: i64 = 60;

/// Checks what the options name against what the app has.
pub(crate) async fn prepare(
    web: &Web,
    app: &App,
    link: &mut Link,
) -> Result<Result<(), String>, Trouble> {
    let store = &web.api.store;
    let (policy, own) = (web.api.addresses, &web.api.public_url);
    if let Some(problem) = link.asked.webhook_problem(policy, own) {
        return Ok(Err(problem));
    }
    let echoed = [&link.asked.options, &link.asked.meta];
    let echoed = echoed.into_iter().filter(|it| !it.is_empty());
    let bytes = echoed.map(|it| serde_json::to_vec(it).map(|it| it.len()));
    if bytes.sum::<Result<usize, _>>()? > MAX_OPTIONS_BYTES {
        return Ok(Err(format!(
            "options and meta have more than {MAX_OPTIONS_BYTES} bytes together."
        )));
    }
    if !link.asked.banks.is_empty() {
        let known = store.banks_for(app.id).await?;
        let is_known = |slug: &&String| known.iter().any(|bank| bank.slug == **slug);
        if let Some(unknown) = link.asked.banks.iter().find(|it| !is_known(it)) {
            return Ok(Err(format!(
                "filter.banks has {unknown:?}, which is no bank here. Slugs are in banks/list."
            )));
        }
    }
    if let Some(customer) = link.asked.customer {
        let known = store.customer(customer).await?;
        if known.is_none_or(|known| known.app != app.id) {
            return Ok(Err("customer.id is no customer of this app.".to_owned()));
        }
    }
    if let Some((account, bank)) = link.asked.reauth {
        let known = store.account(account).await?;
        let Some(known) = known.filter(|known| known.app == app.id) else {
            return Ok(Err("reauth_account is no account of this app.".to_owned()));
        };
        if known.bank != bank {
            return Ok(Err(
                "reauth_bank is not the bank of reauth_account.".to_owned()
            ));
        }
        let head = store.head(known.record, Consistency::Eventual).await?;
        let Some(head) = head.filter(|head| head.status != RecordStatus::Invalid) else {
            return Ok(Err(
                "The record of reauth_account was unlinked: link it as a new one.".to_owned(),
            ));
        };
        link.reauth = Some(known.record);
        // What is consented to anew is what the record is, whatever this page says.
        link.renewed = Some(Renewed {
            schedule: head.schedule,
            since: reaches_back(date_of(head.created_at), head.months),
        });
        link.bank = Some(bank);
    }
    Ok(Ok(()))
}

/// What a customer sees first.
pub(crate) async fn first(web: &Web, link: &Link) -> Result<Markup, Trouble> {
    match link.bank {
        Some(bank) => match web.api.store.bank(bank).await? {
            Some(bank) => Ok(consent(link, &bank, date_of(web.now()))),
            None => Ok(over("The bank of that account is not configured any more.")),
        },
        None => banks(web, link).await,
    }
}

fn fragment(name: &str, title: &str, body: &Markup) -> Markup {
    html! {
        section data-step=(name) { h1 tabindex="-1" { (title) } (body) }
    }
}

/// A step that is under way: the frame looks again after a while.
fn waiting(name: &str, title: &str, action: &str, look: u32, body: &Markup) -> Markup {
    html! {
        section data-step=(name) data-again=(action) data-after=(LOOK_MS) data-look=(look) {
            h1 tabindex="-1" { (title) }
            (body)
        }
    }
}

fn over(sentence: &str) -> Markup {
    fragment(
        "over",
        "This has ended",
        &html! {
            p { (sentence) }
            div.actions { button.main type="button" data-close { "Close" } }
        },
    )
}

/// Two letters on a ground of the bank's own colour: logos belong to the banks.
fn logo(bank: &BankConfig) -> Markup {
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

async fn banks(web: &Web, link: &Link) -> Result<Markup, Trouble> {
    let store = &web.api.store;
    let banks = store.banks_for(link.app);
    let (mut banks, breakers) = futures::future::try_join(banks, store.breakers()).await?;
    banks.retain(|bank| link.asked.offers(bank));
    banks.sort_by(|a, b| a.name.cmp(&b.name));
    let sentence = link
        .asked
        .connect_message
        .as_deref()
        .unwrap_or("You log in at the bank itself.");
    Ok(fragment(
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
                        @let open = bank_side::has_page(bank);
                        @let doing = breakers.get(&bank.id).map(Breaker::status).unwrap_or_default();
                        li data-name=(bank.name.to_lowercase()) {
                            button name="bank" value=(bank.id) disabled[!open || doing == BankStatus::Down] {
                                (logo(bank))
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
fn reaches_back(day: Date, months: u8) -> Date {
    let asked = day.saturating_sub(i32::from(months).months());
    asked.min(window_start(day))
}

/// How often each product is read: what the bank allows of what is asked for.
fn schedule(link: &Link, bank: &BankConfig) -> ByProduct<Interval> {
    let mut schedule = match &link.renewed {
        Some(renewed) => renewed.schedule,
        None => link.asked.schedule(),
    };
    for product in Product::ALL {
        let slot = schedule.slot(product);
        *slot = slot.map(|interval| bank.limits.effective(interval));
    }
    schedule
}

/// `every hour`; or each product's own where they differ.
fn how_often(schedule: ByProduct<Interval>) -> String {
    match (schedule.balance, schedule.transactions) {
        (Some(balance), Some(transactions)) if balance != transactions => format!(
            "balances {}, transactions {}",
            show::interval(balance),
            show::interval(transactions)
        ),
        (Some(one), _) | (None, Some(one)) => show::interval(one).to_owned(),
        (None, None) => "never".to_owned(),
    }
}

/// What the customer agrees to, in plain words: what, since when, how often, how long.
fn consent(link: &Link, bank: &BankConfig, today: Date) -> Markup {
    let app = link.asked.app_name.as_deref().unwrap_or("This app");
    let schedule = schedule(link, bank);
    let since = match &link.renewed {
        Some(renewed) => renewed.since,
        None => reaches_back(today, link.asked.months),
    };
    let again = link.reauth.is_some();
    let title = if again {
        "Renew your consent"
    } else {
        "What you agree to"
    };
    let problem = link.problem.map(Problem::sentence);
    fragment(
        "consent",
        title,
        &html! {
            @if let Some(problem) = problem { p.problem role="alert" { (problem) } }
            div.bank { (logo(bank)) strong { (bank.name) } }
            p { (app) " asks to read from your bank:" }
            ul.ticks {
                li { "your name and account numbers" }
                @if schedule.balance.is_some() { li { "your balances" } }
                @if schedule.transactions.is_some() { li { "your transactions, past and new" } }
            }
            dl {
                @if schedule.transactions.is_some() { dt { "Since" } dd { (show::date(since)) } }
                dt { "How often" } dd { (how_often(schedule)) "; " (app) " can change how often, and not what" }
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

fn at_bank(bank: &BankConfig, url: &str, look: u32) -> Markup {
    waiting(
        "bank",
        &format!("Log in at {}", bank.name),
        "wait",
        look,
        &html! {
            div.bank { (logo(bank)) strong { (bank.name) } }
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
fn reading(bank: &BankConfig, look: u32) -> Markup {
    waiting(
        "reading",
        "Reading your accounts",
        "wait",
        look,
        &html! {
            div.bank { (logo(bank)) strong { (bank.name) } }
            div.bar { span {} }
            p.wait role="status" { "The bank is asked for your accounts…" }
        },
    )
}

fn choose(link: &Link, bank: &BankConfig) -> Markup {
    fragment(
        "accounts",
        "Choose your accounts",
        &html! {
            div.bank { (logo(bank)) strong { (bank.name) } }
            form data-action="accounts" {
                fieldset {
                    legend { "Accounts to share" }
                    @for account in &link.offered {
                        label.account {
                            input type="checkbox" name="account" value=(account.id) checked;
                            span { span.name { (account.name) } span.sub { (account.kind) " " (tail(&account.number)) } }
                        }
                    }
                }
                p.problem role="alert" hidden data-need="account" { "Choose at least one account." }
                div.actions { button.main { "Share and continue" } }
            }
        },
    )
}

fn tail(number: &str) -> String {
    let skip = number.chars().count().saturating_sub(4);
    let tail: String = number.chars().skip(skip).collect();
    format!("•• {tail}")
}

fn pulling(look: u32) -> Markup {
    waiting(
        "progress",
        "Fetching your data",
        "progress",
        look,
        &html! {
            div.bar { span {} }
            p.wait role="status" { "Your account is linked. The first data are on their way…" }
        },
    )
}

fn success(link: &Link, bank: &BankConfig, pulled: bool) -> Markup {
    let title = link
        .asked
        .success_title
        .as_deref()
        .unwrap_or("Account linked");
    let app = link.asked.app_name.as_deref().unwrap_or("the app");
    let message = link.linked.as_ref().map(Value::to_string);
    html! {
        section data-step="success" data-success=[message] data-redirect=[link.asked.redirect_url.as_deref()] {
            div.tick aria-hidden="true" { svg viewBox="0 0 40 40" width="56" height="56" {
                circle cx="20" cy="20" r="19" {} path d="M12 20.5l5.5 5.5L28.5 15" {}
            } }
            h1 tabindex="-1" { (title) }
            @match &link.asked.success_message {
                Some(message) => p { (message) },
                None => p { "From now on " (app) " is kept up to date, " (how_often(schedule(link, bank))) "." },
            }
            @if !pulled { p.sub { "The first data take a little longer; you need not wait for them." } }
            div.actions { button.main type="button" data-close { "Done" } }
        }
    }
}

/// One step: what was sent, and what is shown next.
pub(crate) async fn step(
    State(web): State<Arc<Web>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Trouble> {
    if !from_ourselves(&headers) {
        return Ok(StatusCode::FORBIDDEN.into_response());
    }
    let token = headers
        .get(SESSION)
        .and_then(|it| it.to_str().ok())
        .unwrap_or_default();
    let Some(mut open) = session::open(&web, token).await? else {
        let page = over("This took longer than an hour. Close the window and start again.");
        return Ok(shell::respond(StatusCode::OK, page));
    };
    let fields = Fields::read(body).await.unwrap_or_default();
    let look = fields.get("look").parse().unwrap_or(0);
    let page = match fields.get("action") {
        "bank" => pick(&web, &mut open, fields.get("bank")).await?,
        "go" => go(&web, &mut open, token).await?,
        "wait" => came_back(&web, &open.link, look).await?,
        "retry" => again(&web, &mut open).await?,
        "accounts" => {
            let chosen: Vec<&str> = fields.all("account").collect();
            share(&web, &mut open, &chosen).await?
        }
        "progress" => progress(&web, &open.link, look).await?,
        _ if open.link.reauth.is_none() && open.link.linked.is_none() => {
            banks(&web, &open.link).await?
        }
        _ => first(&web, &open.link).await?,
    };
    Ok(shell::respond(StatusCode::OK, page))
}

async fn bank_of(web: &Web, link: &Link) -> Result<BankConfig, Trouble> {
    let bank = match link.bank {
        Some(bank) => web.api.store.bank(bank).await?,
        None => None,
    };
    bank.ok_or(Trouble::NotFound("bank"))
}

async fn pick(web: &Web, open: &mut Open, bank: &str) -> Result<Markup, Trouble> {
    let Ok(bank) = bank.parse() else {
        return banks(web, &open.link).await;
    };
    if open.link.reauth.is_none() && open.link.linked.is_none() {
        let known = web.api.store.owned_bank(bank).await?;
        let app = open.link.app;
        let offered = |it: &OwnedBank| it.is_for(Some(app)) && open.link.asked.offers(&it.config);
        if !known.as_ref().is_some_and(offered) {
            return banks(web, &open.link).await;
        }
        open.link.bank = Some(bank);
        (open.link.visit, open.link.reading_s, open.link.problem) = (None, None, None);
        open.save(web).await?;
    }
    let bank = bank_of(web, &open.link).await?;
    Ok(consent(&open.link, &bank, date_of(web.now())))
}

/// Sends the customer to the bank.
async fn go(web: &Web, open: &mut Open, token: &str) -> Result<Markup, Trouble> {
    let bank = bank_of(web, &open.link).await?;
    let products = schedule(&open.link, &bank).products();
    match bank_side::visit(web, &bank, token, &products).await? {
        Ok(visit) => {
            let url = visit.url.clone();
            open.link.visit = Some(visit);
            open.link.problem = None;
            open.save(web).await?;
            Ok(at_bank(&bank, &url, 0))
        }
        Err(problem) => {
            open.link.problem = Some(problem);
            Ok(consent(&open.link, &bank, date_of(web.now())))
        }
    }
}

async fn again(web: &Web, open: &mut Open) -> Result<Markup, Trouble> {
    (open.link.visit, open.link.reading_s) = (None, None);
    open.save(web).await?;
    let bank = bank_of(web, &open.link).await?;
    Ok(consent(&open.link, &bank, date_of(web.now())))
}

/// Whether the customer has come back from the bank.
async fn came_back(web: &Web, link: &Link, look: u32) -> Result<Markup, Trouble> {
    let bank = bank_of(web, link).await?;
    if link.linked.is_some() {
        return progress(web, link, look).await;
    }
    if link.problem.is_some() {
        return Ok(consent(link, &bank, date_of(web.now())));
    }
    match (&link.consent, &link.visit) {
        (Some(_), _) => Ok(choose(link, &bank)),
        (None, Some(visit)) => Ok(at_bank(&bank, &visit.url, look.saturating_add(1))),
        (None, None)
            if link
                .reading_s
                .is_some_and(|since| web.now().as_second() < since + READING_S) =>
        {
            Ok(reading(&bank, look.saturating_add(1)))
        }
        (None, None) => Ok(consent(link, &bank, date_of(web.now()))),
    }
}

/// Makes the record, or renews it; from here on it is refreshed.
async fn share(web: &Web, open: &mut Open, chosen: &[&str]) -> Result<Markup, Trouble> {
    let bank = bank_of(web, &open.link).await?;
    let link = &mut open.link;
    if link.linked.is_some() {
        return progress(web, link, 0).await;
    }
    let Some(secret) = link.consent.take() else {
        return Ok(consent(link, &bank, date_of(web.now())));
    };
    let holder = link
        .offered
        .first()
        .map(|it| it.name.clone())
        .unwrap_or_default();
    let mut body = json!({
        "access_token": secret.access_token,
        "refresh_token": secret.refresh_token,
        "expires_in": secret.expires_at.map(|at| at.duration_since(web.now()).as_secs().max(0)),
        "consent_id": secret.consent_id,
        "bank": bank.id,
        "interval": link.asked.interval,
        "products": link.asked.products,
        "sync_products": link.asked.synced,
        "limit": link.asked.months,
        "options": link.asked.options,
        "meta": link.asked.meta,
    });
    match (link.reauth, link.asked.customer) {
        (Some(record), _) => body["record_id"] = json!(record),
        (None, Some(customer)) => body["customer"] = json!(customer),
        (None, None) => body["name"] = json!(holder),
    }
    if link.reauth.is_none() {
        body["account_ids"] = json!(chosen);
        if let Some(url) = &link.asked.webhook_url {
            body["webhook_url"] = json!(url);
        }
    }
    // The consent leaves the session before it is used: nobody links twice with it.
    if !open.save(web).await? {
        return came_back(web, &open.link, 0).await;
    }
    let (status, answer) = okra_api::call(&web.api, open.link.app, "records/link", body).await;
    let mut now = open.next();
    if !status.is_success() {
        let message = answer["message"]
            .as_str()
            .unwrap_or("The bank could not be linked.")
            .to_owned();
        let plain = match status {
            StatusCode::TOO_MANY_REQUESTS => Some(Problem::Busy),
            status if status.is_server_error() => Some(Problem::Down),
            _ => None,
        };
        // A fault of ours may have come after the record was made, which then needs the consent.
        let taken_back =
            !status.is_server_error() && bank_side::take_back(web, &bank, &secret).await?;
        let plain = plain.map(Problem::sentence);
        return Ok(refused(&bank, &message, plain, taken_back));
    }
    let linked = &answer["data"];
    now.link.record = linked["record_id"].as_str().and_then(|id| id.parse().ok());
    now.link.linked = Some(payload(&bank, linked));
    now.save(web).await?;
    Ok(pulling(0))
}

/// A link that was refused: `message` is for the app, `plain` for the customer where there is one.
fn refused(bank: &BankConfig, message: &str, plain: Option<&str>, taken_back: bool) -> Markup {
    let error = json!({
        "type": "error", "error": true, "status": false, "code": 1008,
        "method": "Link", "message": message,
    });
    html! {
        section data-step="refused" data-error=(error.to_string()) {
            h1 tabindex="-1" { "It could not be linked" }
            p { (plain.unwrap_or(message)) }
            p.sub {
                "Nothing that " (bank.name) " shared was kept"
                @if taken_back { ", and your consent was taken back there." }
                @else { ". You can take your consent back at the bank." }
            }
            div.actions { button.main type="button" data-action="retry" { "Try again" } button type="button" data-close { "Close" } }
        }
    }
}

/// What Okra's widget handed to `onSuccess`.
fn payload(bank: &BankConfig, linked: &Value) -> Value {
    let customer = &linked["customer_id"];
    json!({
        "status": "success",
        "auth": {
            "clientId": format!("okr-{}", linked["record_id"].as_str().unwrap_or_default()),
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
        "accounts": linked["accounts"],
        "customer": { "id": customer, "name": linked["name"] },
        "customer_id": customer,
        "identity": { "name": linked["name"] },
        "income": {},
        "bank_id": bank.id,
        "bank_name": bank.name,
        "record_id": linked["record_id"],
        "refresh": linked["schedule"],
    })
}

async fn progress(web: &Web, link: &Link, look: u32) -> Result<Markup, Trouble> {
    let Some(record) = link.record else {
        return Ok(pulling(look.saturating_add(1)));
    };
    let head = web.api.store.head(record, Consistency::Eventual).await?;
    let pulled = head.is_some_and(|head| {
        let all = head.schedule.iter().all(|(product, _)| {
            head.marks
                .get(product)
                .is_some_and(|mark| mark.digest.is_some())
        });
        all && head.is_pulled()
    });
    if pulled || look >= MAX_LOOKS {
        return Ok(success(link, &bank_of(web, link).await?, pulled));
    }
    Ok(pulling(look.saturating_add(1)))
}
