//! The calls on short links, addresses that open the widget with options that the app gave once. What they do is in
//! [`okra_app::short_links`].

use okra_core::model::ids::{AppId, LinkId};
use okra_store::ShortLink;
use okra_webhooks::check_url;
use okra_wire::{envelope::Pagination, scalar::IsoInstant};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::http::{
    envelope::{ApiError, ApiResponse, success_response},
    request::ApiRequest,
};

/// Fields of a call that are the widget's options under another name: Okra's, and the widget's.
const RENAMED_OPTIONS: &[(&str, &str)] = &[
    ("billable_products", "products"),
    ("success_url", "redirect_url"),
    ("continue_cta", "continue_cta"),
    ("support_email", "support_email"),
];

/// Options of the widget that a link may carry.
const WIDGET_OPTIONS: &[&str] = &[
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
struct ShortLinkResponse {
    link: ShortLinkSummary,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct ShortLinksResponse {
    pagination: Pagination,
    links: Vec<ShortLinkSummary>,
}

/// A short link in Okra's shape.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = ShortLink))]
#[derive(Serialize)]
struct ShortLinkSummary {
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
    past_refs: okra_wire::scalar::EmptyList,
    filter: ShortLinkFilter,
    owner: ShortLinkOwner,
    app: ShortLinkApp,
    options: Map<String, Value>,
    created_at: IsoInstant,
}

/// Slugs of the banks to choose among; all where empty.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = LinkFilter))]
#[derive(Serialize)]
struct ShortLinkFilter {
    banks: Vec<String>,
    corp_banks: okra_wire::scalar::EmptyList,
    ind_banks: okra_wire::scalar::EmptyList,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = LinkOwner))]
#[derive(Serialize)]
struct ShortLinkOwner {
    _id: AppId,
    name: String,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct ShortLinkApp {
    _id: AppId,
    tracking_id: String,
}

fn collect_texts(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array);
    items
        .into_iter()
        .flatten()
        .filter_map(|it| it.as_str().map(str::to_owned))
        .collect()
}

fn summarise_short_link(
    request: &ApiRequest,
    link: ShortLink,
) -> Result<ShortLinkSummary, ApiError> {
    let app = request.require_app()?;
    let options = &link.options;
    let text = |name: &str| options.get(name).and_then(Value::as_str).map(str::to_owned);
    let banks = options.get("filter").and_then(|filter| filter.get("banks"));
    let echoed = options.get("options").and_then(Value::as_object);
    Ok(ShortLinkSummary {
        _id: link.id,
        url: format!("{}/link/{}", request.services.public_url, link.name),
        name: text("name").unwrap_or_default(),
        callback_url: text("callback_url"),
        billable_products: collect_texts(options.get("products")),
        countries: collect_texts(options.get("countries")),
        env: app.environment.as_str(),
        reauth: options.contains_key("reauth_account"),
        current_project: app.id,
        count: 0,
        past_refs: okra_wire::scalar::EmptyList,
        filter: ShortLinkFilter {
            banks: collect_texts(banks),
            corp_banks: okra_wire::scalar::EmptyList,
            ind_banks: okra_wire::scalar::EmptyList,
        },
        owner: ShortLinkOwner {
            _id: app.id,
            name: app.name.clone(),
        },
        app: ShortLinkApp {
            _id: app.id,
            tracking_id: link.name.clone(),
        },
        options: echoed.cloned().unwrap_or_default(),
        created_at: IsoInstant(link.created_at),
        short_url: link.name,
    })
}

/// The widget's options in what was sent, checked as far as they can be before a customer is there.
fn parse_widget_options(request: &ApiRequest) -> Result<Map<String, Value>, ApiError> {
    let input = &request.input;
    input.require_text(&["name"])?;
    input.parse_interval()?;
    for name in ["callback_url", "success_url", "redirect_url"] {
        if let Some(url) = input.find_text(&[name]) {
            check_url(&url, request.services.address_policy).map_err(|rule| {
                ApiError::invalid_field(
                    name,
                    format!("cannot be used: {rule} ({})", rule.rule_name()),
                )
            })?;
        }
    }
    let lists = ["billable_products", "products", "countries"];
    let objects = ["options", "filter"];
    let mut options = Map::new();
    for (name, value) in input.fields() {
        let renamed = RENAMED_OPTIONS.iter().find(|(theirs, _)| theirs == name);
        let Some(of_widget) = renamed
            .map(|(_, ours)| *ours)
            .or_else(|| WIDGET_OPTIONS.iter().copied().find(|it| it == name))
        else {
            continue;
        };
        let value = match name.as_str() {
            name if lists.contains(&name) => input.find_texts(name).unwrap_or_default().into(),
            name if objects.contains(&name) => input.parse_object(name)?.unwrap_or_default().into(),
            _ => value.clone(),
        };
        options.insert(of_widget.to_owned(), value);
    }
    Ok(options)
}

pub(crate) async fn create_short_link(request: &ApiRequest) -> ApiResponse {
    let options = parse_widget_options(request)?;
    let link = request.scope()?.create_short_link(options).await?;
    let link = summarise_short_link(request, link)?;
    success_response("Link created successfully", ShortLinkResponse { link })
}

/// The name of a short link, alone or at the end of its address.
fn parse_link_name(request: &ApiRequest) -> Result<String, ApiError> {
    let mut name = request.input.require_text(&["short_url", "name", "ref"])?;
    if let Some(slash) = name.rfind('/') {
        name.drain(..=slash);
    }
    Ok(name)
}

pub(crate) async fn get_short_link(request: &ApiRequest) -> ApiResponse {
    let name = parse_link_name(request)?;
    let link = request.scope()?.load_own_short_link(&name).await?;
    let link = summarise_short_link(request, link)?;
    success_response("Link retrieved successfully", ShortLinkResponse { link })
}

pub(crate) async fn list_short_links(request: &ApiRequest) -> ApiResponse {
    let links = request.scope()?.list_short_links().await?;
    let pagination = request.input.parse_page(links.len())?;
    let links = pagination.cut_page(links).into_iter();
    let links = links.map(|link| summarise_short_link(request, link));
    let data = ShortLinksResponse {
        links: links.collect::<Result<_, _>>()?,
        pagination,
    };
    success_response("Links retrieved successfully", data)
}

pub(crate) async fn remove_short_link(request: &ApiRequest) -> ApiResponse {
    let name = parse_link_name(request)?;
    let link = request.scope()?.remove_short_link(&name).await?;
    let link = summarise_short_link(request, link)?;
    success_response("Link removed", ShortLinkResponse { link })
}

routes! {
    Change Key [Okra "links/new"] => create_short_link(NAME, LINK) -> ShortLinkResponse:
        "Creates a short link that opens the widget with these options, and returns it.";
    Post Key [Ours "links/get"] => get_short_link(SHORT_URL) -> ShortLinkResponse:
        "Returns one short link.";
    Post Key [Ours "links/list"] => list_short_links(PAGE) -> ShortLinksResponse:
        "Lists the app's short links.";
    Change Key [Ours "links/remove"] => remove_short_link(SHORT_URL) -> ShortLinkResponse:
        "Removes a short link, which then opens nothing, and returns it.";
}
