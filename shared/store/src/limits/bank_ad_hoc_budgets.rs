//! Ad-hoc budgets of banks: the calls that a bank takes beside its ticks, of all processes together. One small item a
//! bank, written for what no tick planned and never for a scheduled refresh.

use jiff::{SignedDuration, Timestamp};
use okra_core::{
    model::ids::BankId,
    resilience::rate_limiter::{AdHocBudget, PermitReservation, RateLimiter},
};

use crate::{
    Store, StoreError,
    key::Key,
    limits::endpoint_rate_limits::{IDLE_AT_ATTRIBUTE, LIMITER_RETENTION_S, read_rate_limiter},
    table::{
        attributes::{TTL_ATTRIBUTE, expiry_value, number_value},
        expression::{Condition, ItemUpdate},
    },
};

/// Times permits are reserved anew where others reserved some, or the limiter became idle, at the same moment; after
/// that the budget counts as exhausted.
const MAX_RESERVE_ATTEMPTS: u32 = 8;

/// Microseconds after which to try again, where the budget counts as exhausted.
const RETRY_AFTER_US: i64 = 1_000_000;

/// A permit of a bank's ad-hoc budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdHocPermit {
    /// It is taken: the bank may be called at this time, which may be now.
    GrantedAt(Timestamp),
    /// None is taken; the next one is free at this time.
    ExhaustedUntil(Timestamp),
}

/// How a reservation of permits ended.
enum BudgetReservation {
    /// So many permits are reserved; the limiter has them.
    Reserved { limiter: RateLimiter, permits: u32 },
    /// None is; the next one is free at this time, in microseconds since 1970.
    ExhaustedUntil(i64),
}

/// A time on the wire, which counts milliseconds: the next one at or after these microseconds.
fn timestamp_from_micros(micros: i64) -> Result<Timestamp, StoreError> {
    let milliseconds = micros.div_euclid(1000) + i64::from(micros.rem_euclid(1000) > 0);
    Timestamp::from_millisecond(milliseconds).map_err(|_| StoreError::OutOfRange {
        what: "the time of a permit",
    })
}

/// Takes permits of a limiter that is idle, where it still is.
fn update_from_idle(update: ItemUpdate, now_us: i64, idle_at_us: i64) -> ItemUpdate {
    let is_idle = Condition::AbsentOrBelow(IDLE_AT_ATTRIBUTE, number_value(now_us + 1));
    update
        .set_attribute(IDLE_AT_ATTRIBUTE, number_value(idle_at_us))
        .with_condition(is_idle)
}

/// Takes permits after those of others, where the limiter is busy and has room for them.
fn update_after_others(
    update: ItemUpdate,
    now_us: i64,
    added_us: i64,
    latest_idle_at_us: i64,
) -> ItemUpdate {
    let is_busy = Condition::MoreThan(IDLE_AT_ATTRIBUTE, number_value(now_us));
    let has_room = Condition::AtMost(IDLE_AT_ATTRIBUTE, number_value(latest_idle_at_us));
    update
        .add_to_number(IDLE_AT_ATTRIBUTE, number_value(added_us))
        .with_condition(is_busy)
        .with_condition(has_room)
}

impl Store {
    /// Reserves the next permit of the ad-hoc budget of a bank that takes so many records a second, where it
    /// is free within `max_wait`: one write unit, none where the budget is exhausted.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn reserve_ad_hoc_permit(
        &self,
        bank: BankId,
        records_per_second: u32,
        now: Timestamp,
        max_wait: SignedDuration,
    ) -> Result<AdHocPermit, StoreError> {
        let budget = AdHocBudget::from_bank_rate(records_per_second);
        // A wait that is too long for the type is no bound at all.
        let max_wait_us = i64::try_from(max_wait.as_micros()).unwrap_or(i64::MAX);
        let reservation = self
            .reserve_from_budget(bank, budget, now, max_wait_us, 1)
            .await?;
        match reservation {
            BudgetReservation::Reserved { limiter, permits } => {
                let at_us = budget.first_permit_at_us(limiter, permits, now.as_microsecond());
                timestamp_from_micros(at_us).map(AdHocPermit::GrantedAt)
            }
            BudgetReservation::ExhaustedUntil(at_us) => {
                timestamp_from_micros(at_us).map(AdHocPermit::ExhaustedUntil)
            }
        }
    }

    /// Takes as many permits of a bank's ad-hoc budget as are free now, `wanted_permits` at most; returns how many. One
    /// write unit for all, none where none is free.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn take_ad_hoc_permits(
        &self,
        bank: BankId,
        records_per_second: u32,
        now: Timestamp,
        wanted_permits: usize,
    ) -> Result<usize, StoreError> {
        let budget = AdHocBudget::from_bank_rate(records_per_second);
        // More than the type holds are more than any budget has.
        let wanted = u32::try_from(wanted_permits).unwrap_or(u32::MAX);
        let reservation = self
            .reserve_from_budget(bank, budget, now, 0, wanted)
            .await?;
        Ok(match reservation {
            BudgetReservation::Reserved { permits, .. } => permits as usize,
            BudgetReservation::ExhaustedUntil(_) => 0,
        })
    }

    async fn reserve_from_budget(
        &self,
        bank: BankId,
        budget: AdHocBudget,
        now: Timestamp,
        max_wait_us: i64,
        wanted: u32,
    ) -> Result<BudgetReservation, StoreError> {
        let now_us = now.as_microsecond();
        for _ in 0..MAX_RESERVE_ATTEMPTS {
            let limiter = self
                .find_rate_limiter(Key::AdHocBudget(bank))
                .await?
                .unwrap_or_default();
            let update = ItemUpdate::new(Key::AdHocBudget(bank))
                .set_attribute(TTL_ATTRIBUTE, expiry_value(now, LIMITER_RETENTION_S));
            let (update, permits) =
                match budget.plan_reservation(limiter, now_us, max_wait_us, wanted) {
                    PermitReservation::RetryAt(at_us) => {
                        return Ok(BudgetReservation::ExhaustedUntil(at_us));
                    }
                    PermitReservation::FromIdle {
                        permits,
                        idle_at_us,
                    } => (update_from_idle(update, now_us, idle_at_us), permits),
                    PermitReservation::AfterOthers {
                        permits,
                        added_us,
                        latest_idle_at_us,
                    } => (
                        update_after_others(update, now_us, added_us, latest_idle_at_us),
                        permits,
                    ),
                };
            if let Some(item) = self.update_and_return(update).await? {
                let limiter = read_rate_limiter(&item)?;
                return Ok(BudgetReservation::Reserved { limiter, permits });
            }
        }
        Ok(BudgetReservation::ExhaustedUntil(now_us + RETRY_AFTER_US))
    }
}
