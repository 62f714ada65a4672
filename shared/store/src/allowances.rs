//! What a bank is asked beside its ticks, of all processes together: one small item a bank, written for
//! what no tick planned and never for a scheduled refresh.

use jiff::{SignedDuration, Timestamp};
use okra_core::{
    ids::BankId,
    pace::{Allowance, Pace, Taking},
};

use crate::{
    Store, StoreError,
    expression::{Update, When},
    item::{Key, Reader, TTL, n, ttl},
    paces::{IDLE_AT, KEPT_S, KIND},
};

/// Times places are taken anew where the pace came to rest, or was spent, meanwhile; after that it counts as full.
const MAX_ROUNDS: u32 = 8;

/// Microseconds after which to ask again, where it counts as full.
const AGAIN_US: i64 = 1_000_000;

/// A place of a bank's allowance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is taken: the bank may be asked then, which may be now.
    At(Timestamp),
    /// None is taken; the next one is there then.
    Full(Timestamp),
}

fn key(bank: BankId) -> Key {
    Key::new(format!("ALW#{bank}"), "ALW")
}

fn at(us: i64) -> Timestamp {
    // Up to the next millisecond, the precision of the wire.
    let ms = us.div_euclid(1000) + i64::from(us.rem_euclid(1000) > 0);
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX)
}

impl Store {
    /// Takes the next place of what a bank of so many records a second allows beside its ticks, where it
    /// is no more than `ahead` away: one write unit, none where it is full.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn take_unplanned(
        &self,
        bank: BankId,
        records_per_second: u32,
        now: Timestamp,
        ahead: SignedDuration,
    ) -> Result<Place, StoreError> {
        let allowance = Allowance::of(records_per_second);
        let ahead_us = i64::try_from(ahead.as_micros()).unwrap_or(i64::MAX);
        let taken = self.take_of(bank, allowance, now, (ahead_us, 1)).await?;
        Ok(match taken {
            Ok((pace, places)) => {
                Place::At(at(allowance.first_at(pace, places, now.as_microsecond())))
            }
            Err(us) => Place::Full(at(us)),
        })
    }

    /// Takes as many of a bank's places as are free now, `wanted` at most; says how many. One write unit
    /// for all, none where there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn take_places(
        &self,
        bank: BankId,
        records_per_second: u32,
        now: Timestamp,
        wanted: usize,
    ) -> Result<usize, StoreError> {
        let allowance = Allowance::of(records_per_second);
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        let taken = self.take_of(bank, allowance, now, (0, wanted)).await?;
        Ok(taken.map_or(0, |(_, places)| places as usize))
    }

    /// The pace with the places that were taken, and how many; or the moment of the next one.
    async fn take_of(
        &self,
        bank: BankId,
        allowance: Allowance,
        now: Timestamp,
        (ahead_us, wanted): (i64, u32),
    ) -> Result<Result<(Pace, u32), i64>, StoreError> {
        let now_us = now.as_microsecond();
        for _ in 0..MAX_ROUNDS {
            let pace = self.pace(&key(bank)).await?.unwrap_or_default();
            let update = Update::new(key(bank)).set(TTL, ttl(now, KEPT_S));
            let (update, places) = match allowance.take(pace, now_us, ahead_us, wanted) {
                Taking::Full(us) => return Ok(Err(us)),
                Taking::Anew { places, until_us } => {
                    let idle = When::AbsentOrBelow(IDLE_AT, n(now_us.saturating_add(1)));
                    (update.set(IDLE_AT, n(until_us)).when(idle), places)
                }
                Taking::Behind {
                    places,
                    more_us,
                    last_us,
                } => {
                    let update = update.add(IDLE_AT, n(more_us));
                    let update = update.when(When::Above(IDLE_AT, n(now_us)));
                    (update.when(When::AtMost(IDLE_AT, n(last_us))), places)
                }
            };
            if let Some(item) = self.updated(update).await? {
                let idle_us = Reader::new(KIND, &item).number(IDLE_AT)?;
                return Ok(Ok((Pace::idle_from(idle_us), places)));
            }
        }
        Ok(Err(now_us.saturating_add(AGAIN_US)))
    }
}
