//! Short links: an address that opens the widget with options that the app gave once.

use axum::http::StatusCode;
use data_encoding::BASE32_NOPAD;
use okra_core::ids::{AppId, LinkId};
use okra_store::{MAX_SHORT_LINK_BYTES, MAX_SHORT_LINKS_PER_APP, ShortLink};
use okra_webhooks::check_url;
use okra_wire::{envelope::Pagination, scalar::Instant};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    call::Call,
    envelope::{Answer, Refusal, success},
    sync,
};

/// Random bytes of a name; 50 bits of them are shown, in ten characters.
const NAME_BYTES: usize = 7;
const NAME_CHARACTERS: usize = 10;

/// Fields of a call that are the widget's options under another name: Okra's, and the widget's.
const RENAMED: &[(&str, &str)] = &[
    ("billable_products", "products"),
    ("success_url", "redirect_url"),
    ("continue_cta", "continue_cta"),
    ("support_email", "support_email"),
];

/// Options of the widget that a link may carry.
const OPTIONS: &[&str] = &[
    "name",
    "products",
    "countries",
    "color",
    "logo",
    "callback_url",
    "redirect_url",
    "options",
    "filter",
    "refresh",
    "limit",
    "connectMessage",
    "success_title",
    "success_message",
    "widget_success",
    "customer",
    "reauth_account",
    "reauth_bank",
];

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct OneLink {
    link: Shown,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Links {
    pagination: Pagination,
    links: Vec<Shown>,
}

/// A short link in Okra's shape.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = ShortLink))]
#[derive(Serialize)]
struct Shown {
    _id: LinkId,
    /// The link's name: what `Okra.buildWithShortUrl` takes.
    short_url: String,
    /// Where it opens.
    url: String,
    name: String,
    callback_url: Option<String>,
    billable_products: Vec<String>,
    countries: Vec<String>,
    env: &'static str,
    reauth: bool,
    current_project: AppId,
    /// How often it was opened is not counted: always 0.
    count: u32,
    past_refs: okra_wire::scalar::Empty,
    filter: Filter,
    owner: Owner,
    app: TrackedApp,
    options: Map<String, Value>,
    created_at: Instant,
}

/// Slugs of the banks to choose among; all where empty.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = LinkFilter))]
#[derive(Serialize)]
struct Filter {
    banks: Vec<String>,
    corp_banks: okra_wire::scalar::Empty,
    ind_banks: okra_wire::scalar::Empty,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = LinkOwner))]
#[derive(Serialize)]
struct Owner {
    _id: AppId,
    name: String,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct TrackedApp {
    _id: AppId,
    tracking_id: String,
}

fn texts(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array);
    items
        .into_iter()
        .flatten()
        .filter_map(|it| it.as_str().map(str::to_owned))
        .collect()
}

fn shown(call: &Call, link: ShortLink) -> Result<Shown, Refusal> {
    let app = call.app()?;
    let options = &link.options;
    let text = |name: &str| options.get(name).and_then(Value::as_str).map(str::to_owned);
    let banks = options.get("filter").and_then(|filter| filter.get("banks"));
    let echoed = options.get("options").and_then(Value::as_object);
    Ok(Shown {
        _id: link.id,
        url: format!("{}/link/{}", call.state.public_url, link.name),
        name: text("name").unwrap_or_default(),
        callback_url: text("callback_url"),
        billable_products: texts(options.get("products")),
        countries: texts(options.get("countries")),
        env: app.env.as_str(),
        reauth: options.contains_key("reauth_account"),
        current_project: app.id,
        count: 0,
        past_refs: okra_wire::scalar::Empty,
        filter: Filter {
            banks: texts(banks),
            corp_banks: okra_wire::scalar::Empty,
            ind_banks: okra_wire::scalar::Empty,
        },
        owner: Owner {
            _id: app.id,
            name: app.name.clone(),
        },
        app: TrackedApp {
            _id: app.id,
            tracking_id: link.name.clone(),
        },
        options: echoed.cloned().unwrap_or_default(),
        created_at: Instant(link.created_at),
        short_url: link.name,
    })
}

/// The widget's options in what was sent, checked as far as they can be before a customer is there.
fn options(call: &Call) -> Result<Map<String, Value>, Refusal> {
    let input = &call.input;
    input.needed_text(&["name"])?;
    sync::interval(input)?;
    for name in ["callback_url", "success_url", "redirect_url"] {
        if let Some(url) = input.text(&[name]) {
            check_url(&url, call.state.addresses).map_err(|rule| {
                Refusal::field(name, format!("is refused: {rule} ({})", rule.rule()))
            })?;
        }
    }
    let lists = ["billable_products", "products", "countries"];
    let objects = ["options", "filter"];
    let mut options = Map::new();
    for (name, value) in input.fields() {
        let renamed = RENAMED.iter().find(|(theirs, _)| theirs == name);
        let Some(of_widget) = renamed
            .map(|(_, ours)| *ours)
            .or_else(|| OPTIONS.iter().copied().find(|it| it == name))
        else {
            continue;
        };
        let value = match name.as_str() {
            name if lists.contains(&name) => input.texts(name).unwrap_or_default().into(),
            name if objects.contains(&name) => input.object(name)?.unwrap_or_default().into(),
            _ => value.clone(),
        };
        options.insert(of_widget.to_owned(), value);
    }
    if serde_json::to_vec(&options)?.len() > MAX_SHORT_LINK_BYTES {
        let problem = format!("has more than {MAX_SHORT_LINK_BYTES} bytes");
        return Err(Refusal::field("body", problem));
    }
    Ok(options)
}

/// Makes a short link of the widget's options, in Okra's names or the widget's own.
pub(crate) async fn make(call: &Call) -> Answer {
    let (app, store) = (call.app()?.id, &call.state.store);
    let options = options(call)?;
    if store.short_link_names(app).await?.len() >= MAX_SHORT_LINKS_PER_APP {
        let message = format!("The app has {MAX_SHORT_LINKS_PER_APP} short links; remove some");
        return Err(Refusal::new(StatusCode::CONFLICT, "CONFLICT", message));
    }
    let mut name = BASE32_NOPAD.encode(&call.state.random::<NAME_BYTES>()?);
    name.truncate(NAME_CHARACTERS);
    let link = ShortLink {
        id: LinkId::from_bytes(call.state.random()?),
        name: name.to_ascii_lowercase(),
        app,
        options,
        created_at: call.now(),
    };
    store.put_short_link(&link).await?;
    let link = shown(call, link)?;
    success("Link created successfully", OneLink { link })
}

/// The app's short link of that name.
async fn own(call: &Call) -> Result<ShortLink, Refusal> {
    let name = call.input.needed_text(&["short_url", "name", "ref"])?;
    let name = name.rsplit('/').next().unwrap_or_default().to_owned();
    let link = call.state.store.short_link(&name).await?;
    let app = call.app()?.id;
    link.filter(|link| link.app == app)
        .ok_or_else(|| Refusal::not_found("link"))
}

pub(crate) async fn get(call: &Call) -> Answer {
    let link = shown(call, own(call).await?)?;
    success("Link retrieved successfully", OneLink { link })
}

pub(crate) async fn list(call: &Call) -> Answer {
    let links = call.state.store.short_links(call.app()?.id).await?;
    let pagination = call.input.page(links.len())?;
    let links = pagination.cut(links).into_iter();
    let links = links.map(|link| shown(call, link));
    let data = Links {
        links: links.collect::<Result<_, _>>()?,
        pagination,
    };
    success("Links retrieved successfully", data)
}

pub(crate) async fn remove(call: &Call) -> Answer {
    let link = own(call).await?;
    call.state.store.remove_short_link(&link).await?;
    let link = shown(call, link)?;
    success("Link removed", OneLink { link })
}

documented! {
    make(NAME, LINK) -> OneLink: "Makes a short link that opens the widget with these options.";
    get(SHORT_URL) -> OneLink: "One short link.";
    list(PAGE) -> Links: "The app's short links.";
    remove(SHORT_URL) -> OneLink: "Removes a short link: it opens nothing any more.";
}
