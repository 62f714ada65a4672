//! The refresh of one record: executes what [`next_refresh_action`] decides.
//!
//! [`RecordRefresh`] is one record's refresh: its terms, and the calls it makes. The rule: no decision is made here; each
//! action's result becomes the [`RefreshProgress`] that the next action is decided from.

use std::net::IpAddr;

use jiff::Timestamp;
use okra_connectors::{AccountRef, FetchRequest};
use okra_core::{
    model::{
        bank::BankConfig,
        snapshot::{Snapshot, utc_date},
    },
    refresh::{
        fetch_plan::FetchPlan,
        outcome::RefreshOutcome,
        step::{
            RefreshAction, RefreshEnd, RefreshProgress, RefreshTerms, next_refresh_action,
            suspended_for_refresh,
        },
    },
    resilience::bank_breaker::CallOutcomes,
    schedule::plan::DueEntry,
    sync::decide::{SnapshotDigests, digest_snapshot, window_start},
};
use okra_store::Consent;

use crate::{
    RefreshError, RefreshReport, Refresher,
    announce::announce_consent_expiry,
    bank_breaker::BreakerGuard,
    changes::CommitOutcome,
    fetched_record::{FetchedRecord, account_ref},
    tokens::{RecordTokens, snapshot_from_fault},
};

/// How the records of a chunk are refreshed.
#[derive(Clone, Copy)]
pub(crate) struct ChunkTerms<'a> {
    pub(crate) bank: &'a BankConfig,
    pub(crate) breaker: &'a BreakerGuard<'a>,
    pub(crate) is_on_demand: bool,
    /// The address of the bank's customer, where they are present.
    pub(crate) user_present: Option<IpAddr>,
    /// When the chunk was taken up.
    pub(crate) started_at: Timestamp,
}

/// How one record's refresh ended.
pub(crate) struct RefreshedRecord {
    /// True where the consent was over before the bank was called.
    pub(crate) is_consent_expired: bool,
    /// `None` where the record was deferred.
    pub(crate) report: Option<RefreshReport>,
}

/// What the bank answered in one attempt.
struct FetchAttempt {
    snapshot: Snapshot,
    digests: SnapshotDigests,
    requested_at: Timestamp,
}

/// The refresh of one record, while it runs.
struct RecordRefresh<'a> {
    refresher: &'a Refresher,
    chunk: ChunkTerms<'a>,
    consent: &'a Consent,
    terms: RefreshTerms<'a>,
    fetch_plan: FetchPlan<AccountRef<'a>>,
}

impl Refresher {
    /// Refreshes one record. `needs_strong_read` says that the strong read is taken whatever the bank answers.
    #[tracing::instrument(level = "debug", name = "refresh", skip_all, fields(record.id = %consent.record, bank.id = %chunk.bank.id))]
    pub(crate) async fn refresh_record(
        &self,
        chunk: ChunkTerms<'_>,
        consent: &Consent,
        entry: &DueEntry,
        needs_strong_read: bool,
    ) -> Result<RefreshedRecord, RefreshError> {
        let linked = consent.accounts.iter();
        let suspended = suspended_for_refresh(
            entry.failure_state.as_ref(),
            linked.clone().map(|account| account.account_id),
            chunk.is_on_demand,
            chunk.started_at,
        );
        let fetch_plan = FetchPlan::for_accounts(
            linked.map(|account| (account.account_id, account_ref(account))),
            &entry.watermarks.products(),
            suspended,
        );
        let refresh = RecordRefresh {
            refresher: self,
            chunk,
            consent,
            terms: RefreshTerms {
                entry,
                account_count: consent.accounts.len(),
                consent_clock: consent.consent_clock,
                is_on_demand: chunk.is_on_demand,
                requires_user: chunk.bank.limits.user_present_only,
                needs_strong_read,
                has_open_products: !fetch_plan.is_empty(),
                has_suspended_products: !fetch_plan.suspended.is_empty(),
            },
            fetch_plan,
        };
        let (action, is_consent_expired) = refresh.check_consent().await?;
        let report = match action {
            RefreshAction::Finish(_) => None,
            _ => {
                let report = refresh.fetch_and_commit().await?;
                self.observer.on_record_refreshed(&report);
                Some(report)
            }
        };
        Ok(RefreshedRecord {
            is_consent_expired,
            report,
        })
    }
}

impl RecordRefresh<'_> {
    /// Executes what comes before the bank is called. Returns the next action, and whether the consent is over.
    async fn check_consent(&self) -> Result<(RefreshAction, bool), RefreshError> {
        let now = self.chunk.started_at;
        let first = next_refresh_action(&self.terms, RefreshProgress::Started { now });
        let Some(clock) = self
            .terms
            .consent_clock
            .filter(|_| first == RefreshAction::AnnounceConsentEnd)
        else {
            return Ok((first, false));
        };
        let (store, queues) = (&self.refresher.store, &self.refresher.queues);
        let record = self.consent.record;
        let is_expired = announce_consent_expiry(store, queues, record, clock, now).await?;
        let progress = RefreshProgress::ConsentChecked { is_expired };
        Ok((next_refresh_action(&self.terms, progress), is_expired))
    }

    /// Calls the bank and commits what it answered, again where another refresh committed meanwhile.
    async fn fetch_and_commit(&self) -> Result<RefreshReport, RefreshError> {
        let Self {
            refresher, terms, ..
        } = self;
        let started_at = refresher.clock.now();
        let mut tokens = refresher.open_tokens(self.consent)?;
        let (mut attempts, mut outcome) = (0, RefreshOutcome::Contended);
        let mut faults;
        let end = loop {
            attempts += 1;
            let fetched = self.fetch_attempt(&mut tokens).await?;
            faults = fetched.digests.faults.clone();
            let progress = RefreshProgress::Fetched {
                digests: &fetched.digests,
                requested_at: fetched.requested_at,
                attempts,
            };
            let mut action = next_refresh_action(terms, progress);
            if action == RefreshAction::Commit {
                let progress = match self.commit_attempt(&fetched, &tokens).await? {
                    CommitOutcome::Finished(committed, rejected) => {
                        outcome = committed;
                        faults.extend(rejected);
                        RefreshProgress::Committed
                    }
                    CommitOutcome::Conflict => RefreshProgress::Conflicted { attempts },
                };
                action = next_refresh_action(terms, progress);
            }
            if let RefreshAction::Finish(end) = action {
                break end;
            }
        };
        match end {
            RefreshEnd::Unchanged => outcome = RefreshOutcome::Unchanged,
            RefreshEnd::StillFailing => outcome = RefreshOutcome::Failed,
            RefreshEnd::Deferred => outcome = RefreshOutcome::Deferred,
            RefreshEnd::Contended | RefreshEnd::Committed => {}
        }
        let elapsed_ms = refresher.clock.now().as_millisecond() - started_at.as_millisecond();
        let report = RefreshReport {
            record: terms.entry.key.record,
            app: self.consent.app,
            bank: self.chunk.bank.id,
            products: terms.entry.watermarks.products(),
            outcome,
            faults,
            elapsed_ms,
        };
        Ok(report)
    }

    /// Calls the bank for everything that is not suspended. Where its circuit is open, the breaker's fault stands in the
    /// place of each answer.
    async fn fetch_attempt(&self, tokens: &mut RecordTokens) -> Result<FetchAttempt, RefreshError> {
        let ChunkTerms { bank, breaker, .. } = self.chunk;
        let requested_at = self.refresher.clock.now();
        let mut snapshot = Snapshot::default();
        let rejection = breaker.rejection_fault();
        for group in &self.fetch_plan.groups {
            let request = FetchRequest {
                products: &group.products,
                from: window_start(utc_date(requested_at)),
                now: requested_at,
                user_present: self.chunk.user_present,
            };
            let answer = match &rejection {
                Some(fault) => snapshot_from_fault(fault, &group.accounts, &group.products),
                None => {
                    self.refresher
                        .fetch_with_renewal(bank, self.consent, tokens, &group.accounts, request)
                        .await?
                }
            };
            snapshot.accounts.extend(answer.accounts);
        }
        if rejection.is_none() {
            breaker
                .record_outcomes(CallOutcomes::from_snapshot(&snapshot))
                .await?;
        }
        Ok(FetchAttempt {
            digests: digest_snapshot(&snapshot),
            snapshot,
            requested_at,
        })
    }

    async fn commit_attempt(
        &self,
        attempt: &FetchAttempt,
        tokens: &RecordTokens,
    ) -> Result<CommitOutcome, RefreshError> {
        let fetched = FetchedRecord {
            bank: self.chunk.bank,
            secret: tokens.consent_secret(),
            consent: self.consent,
            user_present: self.chunk.user_present,
            suspended_products: &self.fetch_plan.suspended,
            window_from: window_start(utc_date(attempt.requested_at)),
            requested_at: attempt.requested_at,
            snapshot: &attempt.snapshot,
            snapshot_digests: &attempt.digests,
        };
        let key = self.terms.entry.key;
        self.refresher.commit_changes(key, fetched).await
    }
}
