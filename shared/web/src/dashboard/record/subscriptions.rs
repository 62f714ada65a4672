//! The card of a record's data sync: the interval of each product, the subscriptions behind it, and the form that
//! changes them.

use maud::{Markup, html};
use okra_core::model::{interval::Interval, snapshot::Product};
use okra_store::{RecordHead, RecordStatus, Subscription};

use super::{
    super::{hrefs::log_href, page::render_csrf_field, session::AppSession},
    load::RecordPage,
};
use crate::components::labels::{describe_interval, product_label};

/// The card of the data sync.
pub(crate) fn render_subscriptions(page: &RecordPage, session: &AppSession) -> Markup {
    html! {
        h2 #sync { "Data sync" }
        dl {
            @for (product, interval) in page.head.schedule.iter() {
                dt { (product_label(product)) }
                dd { (render_product_interval(page, product, *interval)) }
            }
        }
        @if page.subscriptions.is_empty() {
            p.note { "No subscription: the record is refreshed daily. Choose an interval to create one." }
        } @else {
            ul.plain {
                @for it in &page.subscriptions { li { (render_subscription(page, session, it)) } }
            }
        }
        @if page.head.status != RecordStatus::Invalid { (render_interval_form(&page.head, session)) }
    }
}

/// How often a product is refreshed, and what holds it at that interval.
fn render_product_interval(page: &RecordPage, product: Product, interval: Interval) -> Markup {
    let requested = subscriptions_of(page, product).map(|it| it.interval).min();
    html! {
        (describe_interval(interval))
        @if requested.is_some_and(|requested| requested < interval) { span.note { "the bank allows no more" } }
        @for (url, own) in find_faster_webhooks(page, product, interval) {
            span.line.note {
                "still " (describe_interval(interval)) " because of " (url)
                ", although the app's webhooks need it only " (describe_interval(own)) "; end that data sync below"
            }
        }
        (render_product_quota(page, product, interval))
    }
}

/// One subscription, and the form that ends it.
fn render_subscription(page: &RecordPage, session: &AppSession, it: &Subscription) -> Markup {
    let products: Vec<_> = it.products.iter().map(|it| product_label(*it)).collect();
    let target = it.webhook_url.as_deref().unwrap_or("the app's webhooks");
    html! {
        (products.join(" and ")) " " (describe_interval(it.interval))
        span.note {
            "to "
            @match &it.webhook_url {
                Some(url) => a href=(log_href("", &[("url", url)])) { (url) },
                None => (target),
            }
        }
        @if page.head.status != RecordStatus::Invalid {
            form.end method="post" action={ "/dashboard/records/" (page.head.record) "/sync/end" } {
                (render_csrf_field(session))
                input type="hidden" name="id" value=(it.id);
                button aria-label={ "End the data sync to " (target) } { "End" }
            }
        }
    }
}

/// The form that puts products of the record on another interval.
fn render_interval_form(head: &RecordHead, session: &AppSession) -> Markup {
    let current = head.schedule.balance.or(head.schedule.transactions);
    let products = head.schedule.products();
    html! {
        form.row method="post" action={ "/dashboard/records/" (head.record) "/interval" } {
            (render_csrf_field(session))
            label { span { "Interval" }
                select name="interval" {
                    @for it in Interval::ALL {
                        option value=(it.as_str()) selected[current == Some(it)] { (describe_interval(it)) }
                    }
                }
            }
            label { span { "Products" }
                select name="products" {
                    @if products.len() > 1 {
                        option value="balance,transactions" { "Balance and transactions" }
                    }
                    @for product in products {
                        option value=(product.as_str()) { (product_label(product)) }
                    }
                }
            }
            button { "Change" }
        }
    }
}

/// The record's subscriptions to a product.
fn subscriptions_of(page: &RecordPage, product: Product) -> impl Iterator<Item = &Subscription> {
    let all = page.subscriptions.iter();
    all.filter(move |it| it.products.contains(&product))
}

/// The URLs whose subscriptions keep a product on its interval although the subscription of the app's own webhooks has a
/// longer one, each with that longer interval: changing the app's own changes nothing then.
fn find_faster_webhooks(
    page: &RecordPage,
    product: Product,
    interval: Interval,
) -> Vec<(&str, Interval)> {
    let own = subscriptions_of(page, product).find(|it| it.webhook_url.is_none());
    let Some(own) = own.map(|it| it.interval).filter(|own| *own > interval) else {
        return vec![];
    };
    let faster = subscriptions_of(page, product).filter(|it| it.interval < own);
    let urls = faster.filter_map(|it| it.webhook_url.as_deref());
    urls.map(|url| (url, own)).collect()
}

/// How much of the bank's daily quota a product uses, where there is a quota.
fn render_product_quota(page: &RecordPage, product: Product, interval: Interval) -> Markup {
    let allowed = page.limits.unattended_per_day;
    let Some((allowed, on_demand)) = allowed.zip(page.limits.on_demand_per_day(interval)) else {
        return html! {};
    };
    let used = page.on_demand_counts.get(product).copied().unwrap_or(0);
    html! {
        span.line.note {
            (1440 / interval.minutes()) " of the bank's " (allowed) " refreshes a day are scheduled; on demand in 24 hours: "
            (used) " of " (on_demand)
        }
    }
}
