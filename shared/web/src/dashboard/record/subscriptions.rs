//! The card of a record's data sync: the interval of each product, the subscriptions behind it, and the form that
//! changes them.

use maud::{Markup, html};
use okra_core::model::{interval::Interval, snapshot::Product};
use okra_store::RecordStatus;

use super::{
    super::{hrefs::log_href, page::render_csrf_field, session::AppSession},
    load::RecordPage,
};
use crate::components::labels::{describe_interval, product_name};

pub(crate) fn render_subscriptions(page: &RecordPage, session: &AppSession) -> Markup {
    let head = &page.head;
    html! {
        h2 #sync { "Data sync" }
        dl {
            @for (product, interval) in head.schedule.iter() {
                dt { (product_name(product)) }
                dd {
                    (describe_interval(*interval))
                    @let asked = page.subscriptions.iter().filter(|it| it.products.contains(&product)).map(|it| it.interval).min();
                    @if asked.is_some_and(|asked| asked < *interval) { span.note { "the bank allows no more" } }
                    @for (url, own) in find_faster_webhooks(page, product, *interval) {
                        span.line.note {
                            "still " (describe_interval(*interval)) " because of " (url)
                            ", though " (describe_interval(own)) " is enough for the app's webhooks; end that data sync below"
                        }
                    }
                    (render_product_quota(page, product, *interval))
                }
            }
        }
        @if page.subscriptions.is_empty() {
            p.note { "No subscription: the record is refreshed daily. Choose an interval to make one." }
        } @else {
            ul.plain {
                @for it in &page.subscriptions {
                    li {
                        (it.products.iter().map(|it| product_name(*it)).collect::<Vec<_>>().join(" and "))
                        " " (describe_interval(it.interval))
                        span.note {
                            @match &it.webhook_url {
                                Some(url) => { "to " a href=(log_href("", &[("url", url)])) { (url) } },
                                None => "to the app's webhooks",
                            }
                        }
                        @if head.status != RecordStatus::Invalid {
                            form.end method="post" action={ "/dashboard/records/" (head.record) "/sync/end" } {
                                (render_csrf_field(session))
                                input type="hidden" name="id" value=(it.id);
                                @let whose = it.webhook_url.as_deref().unwrap_or("the app's webhooks");
                                button aria-label={ "End the data sync to " (whose) } { "End" }
                            }
                        }
                    }
                }
            }
        }
        @if head.status != RecordStatus::Invalid {
            form.row method="post" action={ "/dashboard/records/" (head.record) "/interval" } {
                (render_csrf_field(session))
                @let current = head.schedule.balance.or(head.schedule.transactions);
                label { span { "Interval" }
                    select name="interval" {
                        @for it in Interval::ALL {
                            option value=(it.as_str()) selected[current == Some(it)] { (describe_interval(it)) }
                        }
                    }
                }
                label { span { "Products" }
                    select name="products" {
                        @if head.schedule.products().len() > 1 {
                            option value="balance,transactions" { "Balance and transactions" }
                        }
                        @for product in head.schedule.products() {
                            option value=(product.as_str()) { (product_name(product)) }
                        }
                    }
                }
                button { "Change" }
            }
        }
    }
}

/// The URLs that keep a product on its interval, where the app's own data sync asks for a longer one:
/// changing that changes nothing then. With the interval that the app asks for.
fn find_faster_webhooks(
    page: &RecordPage,
    product: Product,
    interval: Interval,
) -> Vec<(&str, Interval)> {
    let of = || {
        let all = page.subscriptions.iter();
        all.filter(move |it| it.products.contains(&product))
    };
    let own = of().find(|it| it.webhook_url.is_none());
    let Some(own) = own.map(|it| it.interval).filter(|own| *own > interval) else {
        return vec![];
    };
    let faster = of().filter(|it| it.interval < own);
    let urls = faster.filter_map(|it| it.webhook_url.as_deref());
    urls.map(|url| (url, own)).collect()
}

/// What of the bank's daily quota a product uses, where there is one.
fn render_product_quota(page: &RecordPage, product: Product, interval: Interval) -> Markup {
    let allowed = page.limits.unattended_per_day;
    let Some((allowed, on_demand)) = allowed.zip(page.limits.on_demand_per_day(interval)) else {
        return html! {};
    };
    let asked = page.on_demand_counts.get(product).copied().unwrap_or(0);
    html! {
        span.line.note {
            "of the bank's " (allowed) " a day " (1440 / interval.minutes()) " are the schedule's; asked for in 24 hours: "
            (asked) " of " (on_demand)
        }
    }
}
