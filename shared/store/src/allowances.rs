//! What a bank is asked beside its ticks, of all processes together: one small item a bank, written for
//! what no tick planned and never for a scheduled refresh.

use jiff::{SignedDuration, Timestamp};
use okra_core::{ids::BankId, pace::Slot};

use crate::{Store, StoreError, item::Key};

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
        let ahead_us = i64::try_from(ahead.as_micros()).unwrap_or(i64::MAX);
        let taken = self.change_pace(key(bank), now, |pace| {
            match pace.take_unplanned(now.as_microsecond(), records_per_second, ahead_us) {
                Slot::At(us) => (true, Place::At(at(us))),
                Slot::Full(us) => (false, Place::Full(at(us))),
            }
        });
        let soon = now.saturating_add(SignedDuration::from_secs(1));
        Ok(taken
            .await?
            .unwrap_or_else(|| Place::Full(soon.unwrap_or(now))))
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
        let taken = self.change_pace(key(bank), now, |pace| {
            let mut free = || {
                let slot = pace.take_unplanned(now.as_microsecond(), records_per_second, 0);
                matches!(slot, Slot::At(_))
            };
            let places = (0..wanted).take_while(|_| free()).count();
            (places > 0, places)
        });
        Ok(taken.await?.unwrap_or(0))
    }
}
