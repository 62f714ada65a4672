//! An app's own feed: what becomes of its endpoints, told to its other endpoints.

use bytes::Bytes;
use futures::future::join_all;
use okra_core::{
    health::Notice,
    ids::{AppId, EndpointId, Seq, Source},
};
use okra_queue::AppFeed;
use okra_store::{AppEntry, Happened, MAX_APP_FEED_PAGE};
use okra_wire::operation;

use super::{DeliverError, Deliverer, Event, Mode, Target, Turn};
use crate::report::{DispatchReport, Told};

/// Seconds after which an app's feed is looked at in any case: longer than a process that commits an entry
/// to it may live.
const ANYWAY_S: u16 = 60;

impl Deliverer {
    /// Has an app's feed looked at although this process may be gone: to be called before an entry is
    /// committed. After it, nobody would know that it is to be told.
    pub(super) async fn tell_anyway(&self, app: AppId) -> Result<(), DeliverError> {
        Ok(self.queues.send_app_feed(app, ANYWAY_S).await?)
    }

    /// Tells of what is new in an app's own feed. May be repeated.
    ///
    /// # Errors
    ///
    /// [`DeliverError`]: repeat it.
    pub async fn app_feed(&self, feed: AppFeed) -> Result<DispatchReport, DeliverError> {
        let app = feed.app;
        let (last, told) = self.store.app_feed_head(app).await?;
        let mut report = DispatchReport::default();
        if told >= last {
            return Ok(report);
        }
        let entries = self.store.app_feed(app, told, MAX_APP_FEED_PAGE).await?;
        let targets = self.targets_of_app(app).await?;
        let mut work = Vec::new();
        for entry in &entries {
            let event = event(entry);
            for target in targets.iter().filter(|target| wants(target, entry, &event)) {
                work.push(self.tell_app(entry, target, Mode::FIRST));
            }
        }
        for told in join_all(work).await {
            report.count(told?);
        }
        report.events = entries.len();
        // What is not there any more was kept for its 30 days.
        let to = entries.last().map_or(last, |entry| entry.seq);
        self.store.app_feed_told(app, to).await?;
        if to < last {
            self.queues.send_app_feed(app, 0).await?;
        }
        Ok(report)
    }

    async fn tell_app(
        &self,
        entry: &AppEntry,
        target: &Target,
        mode: Mode,
    ) -> Result<Told, DeliverError> {
        let event = event(entry);
        let row = self.store.delivery(&event.key(target.endpoint)).await?;
        let body = || body(entry, &self.config.public_url, target);
        let came = self.tell(&event, target, row, mode, &Turn::Free, body);
        Ok(came.await?.told)
    }

    pub(super) async fn attempt_of_app(
        &self,
        app: AppId,
        seq: Seq,
        endpoint: EndpointId,
        stored: bool,
        mode: Mode,
    ) -> Result<Told, DeliverError> {
        let before = Seq(seq.0.saturating_sub(1));
        let entries = self.store.app_feed(app, before, 1).await?;
        let Some(entry) = entries.first().filter(|entry| entry.seq == seq) else {
            return Ok(Told::Unwanted);
        };
        let event = event(entry);
        let row = self.store.delivery(&event.key(endpoint)).await?;
        if let Some(told) = self.undue(row.as_ref(), stored, mode).await? {
            return Ok(told);
        }
        let targets = self.targets_of_app(app).await?;
        let wanted = |target: &&Target| target.endpoint == endpoint && wants(target, entry, &event);
        match targets.iter().find(wanted) {
            Some(target) => {
                let body = || body(entry, &self.config.public_url, target);
                let came = self.tell(&event, target, row, mode, &Turn::Free, body);
                Ok(came.await?.told)
            }
            None => self.close(&event, endpoint, row).await,
        }
    }

    async fn targets_of_app(&self, app: AppId) -> Result<Vec<Target>, DeliverError> {
        let endpoints = self.store.endpoints(app).await?;
        let ids: Vec<EndpointId> = endpoints.iter().map(|endpoint| endpoint.id).collect();
        let mut healths = self.store.healths(&ids).await?;
        endpoints
            .iter()
            .map(|endpoint| {
                let health = healths.remove(&endpoint.id).unwrap_or_default();
                self.target(endpoint, health)
            })
            .collect()
    }
}

/// An endpoint is not told of itself, and only of what it named.
fn wants(target: &Target, entry: &AppEntry, event: &Event) -> bool {
    target.endpoint != entry.endpoint && target.asks_for(event.name)
}

fn event(entry: &AppEntry) -> Event {
    Event {
        source: Source::App(entry.app),
        seq: entry.seq,
        at: entry.at,
        name: operation_of(entry).name(),
    }
}

/// An entry in the words of the wire.
pub(crate) fn operation_of(entry: &AppEntry) -> operation::Operation<'_> {
    use operation::Operation;
    match &entry.happened {
        Happened::Health(Notice::Failing { since, days }) => Operation::Failing {
            since: *since,
            days: *days,
        },
        Happened::Health(Notice::Parked { since }) => Operation::Parked { since: *since },
        Happened::Health(Notice::Disabled { by }) => Operation::Disabled { by: *by },
        Happened::Health(Notice::Recovered { since, gap }) => Operation::Recovered {
            since: *since,
            gap: *gap,
        },
        Happened::Exhausted {
            event,
            name,
            attempts,
            class,
        } => Operation::Exhausted {
            event: event.as_str(),
            name,
            attempts: *attempts,
            class,
        },
    }
}

fn body(entry: &AppEntry, public_url: &str, target: &Target) -> Bytes {
    let context = operation::Context {
        public_url,
        endpoint_url: &target.url,
        version: target.version,
        app: entry.app,
        seq: entry.seq,
        at: entry.at,
        subject: entry.endpoint,
        subject_url: &entry.url,
    };
    operation::body(&context, &operation_of(entry)).into()
}
