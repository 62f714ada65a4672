//! Places of what a bank allows beside its ticks, for what is asked of it on the way to a linked record.

use jiff::{SignedDuration, Timestamp};
use okra_core::model::bank::BankConfig;
use okra_store::{AdHocPermit, StoreError};

use okra_app::Services;

/// How long a caller waits for a place: the bank's answer has to come within the gateway's 30 seconds.
const MAX_PERMIT_WAIT: SignedDuration = SignedDuration::from_secs(5);

/// Takes a bank's next place and waits for it, 5 seconds at most: one for all calls of a step, which are that a
/// customer is sent to the bank, comes back, or a record is linked. Where the bank is asked as often as it allows,
/// the inner error is when it has another.
///
/// # Errors
///
/// [`StoreError`].
pub async fn await_bank_permit(
    api: &Services,
    bank: &BankConfig,
    now: Timestamp,
) -> Result<Result<(), Timestamp>, StoreError> {
    let rate = bank.limits.records_per_second;
    let place = api
        .store
        .reserve_ad_hoc_permit(bank.id, rate, now, MAX_PERMIT_WAIT)
        .await?;
    match place {
        AdHocPermit::GrantedAt(at) => {
            let wait = at.duration_since(now).unsigned_abs();
            tokio::time::sleep(wait.min(MAX_PERMIT_WAIT.unsigned_abs())).await;
            Ok(Ok(()))
        }
        AdHocPermit::ExhaustedUntil(at) => Ok(Err(at)),
    }
}
