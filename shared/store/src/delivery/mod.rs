//! Webhooks as they are stored: [`deliveries`] with their due [`retries`], [`parked_events`], the health of endpoints
//! ([`endpoint_health`]), the feed of an app in which it is notified ([`app_feed`]), and [`replays`].

pub(crate) mod app_feed;
pub(crate) mod deliveries;
pub(crate) mod endpoint_health;
pub(crate) mod parked_events;
pub(crate) mod replays;
pub(crate) mod retries;
