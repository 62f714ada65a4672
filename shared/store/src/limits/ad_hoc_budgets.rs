//! What a bank is asked beside its ticks, of all processes together: one small item a bank, written for
//! what no tick planned and never for a scheduled refresh.

use jiff::{SignedDuration, Timestamp};
use okra_core::{
    model::ids::BankId,
    resilience::rate_limiter::{AdHocBudget, PermitReservation, RateLimiter},
};

use crate::{
    Store, StoreError,
    limits::rate_limiters::{IDLE_AT_ATTRIBUTE, KIND, LIMITER_RETENTION_S},
    table::{
        expression::{Condition, ItemUpdate},
        item::{ItemReader, Key, TTL_ATTRIBUTE, expiry_value, number_value},
    },
};

/// Times places are taken anew where the pace came to rest, or was spent, meanwhile; after that it counts as full.
const MAX_RESERVE_ATTEMPTS: u32 = 8;

/// Microseconds after which to ask again, where it counts as full.
const RETRY_AFTER_US: i64 = 1_000_000;

/// A place of a bank's allowance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdHocPermit {
    /// It is taken: the bank may be asked then, which may be now.
    GrantedAt(Timestamp),
    /// None is taken; the next one is there then.
    ExhaustedUntil(Timestamp),
}

fn ad_hoc_budget_key(bank: BankId) -> Key {
    Key::new(format!("ALW#{bank}"), "ALW")
}

fn timestamp_from_micros(micros: i64) -> Timestamp {
    // Up to the next millisecond, the precision of the wire.
    let ms = micros.div_euclid(1000) + i64::from(micros.rem_euclid(1000) > 0);
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX)
}

impl Store {
    /// Takes the next place of what a bank of so many records a second allows beside its ticks, where it
    /// is no more than `ahead` away: one write unit, none where it is full.
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
        let allowance = AdHocBudget::from_bank_rate(records_per_second);
        let ahead_us = i64::try_from(max_wait.as_micros()).unwrap_or(i64::MAX);
        let taken = self
            .reserve_from_budget(bank, allowance, now, (ahead_us, 1))
            .await?;
        Ok(match taken {
            Ok((pace, places)) => AdHocPermit::GrantedAt(timestamp_from_micros(
                allowance.first_permit_at_us(pace, places, now.as_microsecond()),
            )),
            Err(us) => AdHocPermit::ExhaustedUntil(timestamp_from_micros(us)),
        })
    }

    /// Takes as many of a bank's places as are free now, `wanted` at most; says how many. One write unit
    /// for all, none where there is none.
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
        let allowance = AdHocBudget::from_bank_rate(records_per_second);
        let wanted = u32::try_from(wanted_permits).unwrap_or(u32::MAX);
        let taken = self
            .reserve_from_budget(bank, allowance, now, (0, wanted))
            .await?;
        Ok(taken.map_or(0, |(_, places)| places as usize))
    }

    /// The pace with the places that were taken, and how many; or the moment of the next one.
    async fn reserve_from_budget(
        &self,
        bank: BankId,
        budget: AdHocBudget,
        now: Timestamp,
        (ahead_us, wanted): (i64, u32),
    ) -> Result<Result<(RateLimiter, u32), i64>, StoreError> {
        let now_us = now.as_microsecond();
        for _ in 0..MAX_RESERVE_ATTEMPTS {
            let pace = self
                .find_rate_limiter(&ad_hoc_budget_key(bank))
                .await?
                .unwrap_or_default();
            let update = ItemUpdate::new(ad_hoc_budget_key(bank))
                .set_attribute(TTL_ATTRIBUTE, expiry_value(now, LIMITER_RETENTION_S));
            let (update, places) = match budget.plan_reservation(pace, now_us, ahead_us, wanted) {
                PermitReservation::RetryAt(us) => return Ok(Err(us)),
                PermitReservation::FromIdle {
                    permits: places,
                    idle_at_us: until_us,
                } => {
                    let idle = Condition::AbsentOrBelow(
                        IDLE_AT_ATTRIBUTE,
                        number_value(now_us.saturating_add(1)),
                    );
                    (
                        update
                            .set_attribute(IDLE_AT_ATTRIBUTE, number_value(until_us))
                            .with_condition(idle),
                        places,
                    )
                }
                PermitReservation::AfterOthers {
                    permits: places,
                    added_us: more_us,
                    latest_idle_at_us: last_us,
                } => {
                    let update = update.add_to_number(IDLE_AT_ATTRIBUTE, number_value(more_us));
                    let update = update.with_condition(Condition::MoreThan(
                        IDLE_AT_ATTRIBUTE,
                        number_value(now_us),
                    ));
                    (
                        update.with_condition(Condition::AtMost(
                            IDLE_AT_ATTRIBUTE,
                            number_value(last_us),
                        )),
                        places,
                    )
                }
            };
            if let Some(item) = self.update_and_return(update).await? {
                let idle_us = ItemReader::new(KIND, &item).read_number(IDLE_AT_ATTRIBUTE)?;
                return Ok(Ok((RateLimiter::from_idle_at_us(idle_us), places)));
            }
        }
        Ok(Err(now_us.saturating_add(RETRY_AFTER_US)))
    }
}
