//! An account: [`SandboxAccount`] with its [`AccountProfile`], the [`RowSource`] its rows come from, the edits made to
//! them, and its cached responses.
//!
//! Rule: edits replace rows of the source by their key; the source itself never changes.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use okra_core::model::{
    money::{Currency, Money},
    snapshot::{BookingStatus, Direction},
};

use crate::{
    command::{BookingDetails, NewTransaction, RowAmendment},
    hash::{SeededRandom, derive_number},
    response_cache::{AccountResponseCache, CacheBudget},
    rows::{
        generated::GeneratedRows,
        movement::{AccountBalance, Movement, RowKey, RowStage, ShownTransactionId, UnixSeconds},
        replayed::ReplayedRows,
    },
};

/// Most rows of one account that may be added or edited.
pub const MAX_EDITS: usize = 10_000;
/// Largest amount of an added or amended row in major units, so that no balance outgrows the 13
/// digits that the standard allows.
pub const MAX_AMOUNT_MAJOR: i64 = 1_000_000_000;
/// Most characters of a row's text (the standard's bound of `TransactionInformation`).
pub const MAX_TEXT_CHARS: usize = 500;
/// Most characters of a transaction id (the standard's bound).
pub const MAX_TRANSACTION_ID_CHARS: usize = 210;

/// Why a row cannot be added or edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The account has no such row.
    #[error("the account lists no such row now")]
    NoSuchRow,
    /// Only pending rows can be booked.
    #[error("the row is booked already")]
    AlreadyBooked,
    /// Not a decimal of the account's currency, or out of bounds.
    #[error("the amount must be a decimal such as 12.50, not negative, at most 1,000,000,000")]
    InvalidAmount,
    /// Longer than the standard allows.
    #[error("the text or the id is longer than the standard allows")]
    TooLong,
    /// See [`MAX_EDITS`].
    #[error("the account has no room for more edits")]
    TooManyEdits,
}

/// The two kinds of account that the sandbox has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SandboxAccountKind {
    Current,
    Savings,
}

impl SandboxAccountKind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "CURRENT",
            Self::Savings => "SAVINGS",
        }
    }
}

/// Where an account's rows come from.
#[derive(Clone, Debug)]
pub(crate) enum RowSource {
    Generated(GeneratedRows),
    Replayed(ReplayedRows),
}

impl RowSource {
    fn created_at(&self) -> UnixSeconds {
        match self {
            Self::Generated(rows) => rows.created_at(),
            Self::Replayed(rows) => rows.created_at(),
        }
    }

    fn balance_at(&mut self, now: UnixSeconds) -> AccountBalance {
        match self {
            Self::Generated(rows) => rows.balance_at(now),
            Self::Replayed(rows) => rows.balance_at(now),
        }
    }

    fn visit_rows(
        &self,
        now: UnixSeconds,
        from: UnixSeconds,
        to: UnixSeconds,
        visitor: &mut dyn FnMut(Movement),
    ) {
        match self {
            Self::Generated(rows) => rows.visit_rows(now, from, to, visitor),
            Self::Replayed(rows) => rows.visit_rows(now, from, to, visitor),
        }
    }

    fn find_row(&self, key: RowKey) -> Option<Movement> {
        match (self, key) {
            (Self::Replayed(rows), RowKey::File(id)) => rows.find_row(id),
            (Self::Generated(rows), key) => rows.find_row(key),
            _ => None,
        }
    }
}

/// What is fixed about an account. Not `Debug`: it has the number.
#[derive(Clone)]
pub(crate) struct AccountProfile {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) number: String,
    pub(crate) kind: SandboxAccountKind,
    pub(crate) currency: Currency,
}

/// An account of the bank.
pub(crate) struct SandboxAccount {
    pub(crate) profile: AccountProfile,
    pub(crate) response_cache: AccountResponseCache,
    row_source: RowSource,
    /// Rows that were added or edited, as they are now; `None` where a row was removed.
    edits: BTreeMap<RowKey, Option<Movement>>,
    edited_at: UnixSeconds,
    added_count: u32,
}

/// A row as it is listed.
#[derive(Clone, Debug)]
pub(crate) struct ListedRow {
    pub(crate) movement: Movement,
    pub(crate) status: BookingStatus,
    pub(crate) stage: RowStage,
}

impl ListedRow {
    /// The row as it is listed at `now`; `None` before its first second.
    fn from_movement(movement: Movement, now: UnixSeconds) -> Option<Self> {
        let (status, stage) = movement.stage_at(now)?;
        let stage = stage.clone();
        Some(Self {
            movement,
            status,
            stage,
        })
    }
}

impl SandboxAccount {
    pub(crate) fn new(
        profile: AccountProfile,
        row_source: RowSource,
        budget: &Arc<CacheBudget>,
    ) -> Self {
        Self {
            profile,
            response_cache: AccountResponseCache::new(Arc::clone(budget)),
            row_source,
            edits: BTreeMap::new(),
            edited_at: UnixSeconds::MIN,
            added_count: 0,
        }
    }

    /// The account's first second.
    pub(crate) fn created_at(&self) -> UnixSeconds {
        self.row_source.created_at()
    }

    /// The first second of which there are rows.
    pub(crate) fn first_available_at(&self) -> UnixSeconds {
        match &self.row_source {
            RowSource::Generated(rows) => rows.history_starts_at(),
            RowSource::Replayed(rows) => rows.created_at(),
        }
    }

    /// True once the account exists.
    pub(crate) fn is_open(&self, now: UnixSeconds) -> bool {
        self.created_at() <= now
    }

    /// What the account holds.
    pub(crate) fn balance_at(&mut self, now: UnixSeconds) -> AccountBalance {
        let mut balance = self.row_source.balance_at(now);
        for (key, edited) in &self.edits {
            if let Some(original) = self.row_source.find_row(*key) {
                original.add_to_balance(now, -1, &mut balance);
            }
            if let Some(movement) = edited {
                movement.add_to_balance(now, 1, &mut balance);
            }
        }
        if self.edited_at <= now {
            balance.changed_at = balance.changed_at.max(self.edited_at);
        }
        balance
    }

    /// The rows listed at `now` with a booking date from `from` to `to`, newest first.
    pub(crate) fn list_rows(
        &self,
        now: UnixSeconds,
        from: UnixSeconds,
        to: UnixSeconds,
    ) -> Vec<ListedRow> {
        let mut rows = Vec::new();
        self.row_source.visit_rows(now, from, to, &mut |movement| {
            if self.edits.is_empty() || !self.edits.contains_key(&movement.key) {
                rows.extend(ListedRow::from_movement(movement, now));
            }
        });
        let edited = self.edits.values().flatten().cloned();
        rows.extend(edited.filter_map(|movement| ListedRow::from_movement(movement, now)));
        rows.retain(|row| (from..=to).contains(&row.stage.booking_time));
        rows.sort_unstable_by_key(|row| {
            std::cmp::Reverse((row.stage.booking_time, row.movement.key))
        });
        rows
    }

    /// Adds a row.
    pub(crate) fn add_row(
        &mut self,
        now: UnixSeconds,
        transaction: &NewTransaction,
    ) -> Result<ListedRow, EditError> {
        self.check_edit_limit()?;
        check_text(&transaction.text)?;
        let magnitude = self.parse_amount(&transaction.amount)?;
        let minor = match transaction.direction {
            Direction::Credit => magnitude,
            Direction::Debit => -magnitude,
        };
        let number = self.added_count + 1;
        let id = self.choose_transaction_id(transaction.id.as_ref(), number, "added")?;
        let stage = RowStage {
            starts_at: now,
            booking_time: transaction.booking_time.map_or(now, Timestamp::as_second),
            amount_minor: minor,
            transaction_id: id,
        };
        let (pending, booked) = match transaction.status {
            BookingStatus::Pending => (Some(stage), None),
            BookingStatus::Booked => (None, Some(stage)),
        };
        self.added_count = number;
        self.store_edit(
            now,
            Movement {
                key: RowKey::Manual(number),
                pending,
                booked,
                text: Cow::Owned(transaction.text.clone()),
                code: Cow::Borrowed("ADJ"),
                merchant: None,
                balance_after: None,
            },
        )
    }

    /// Books a pending row.
    pub(crate) fn book_row(
        &mut self,
        now: UnixSeconds,
        key: RowKey,
        booking: &BookingDetails,
    ) -> Result<ListedRow, EditError> {
        let mut movement = self.find_listed_row(now, key)?;
        let (status, stage) = movement.stage_at(now).ok_or(EditError::NoSuchRow)?;
        if status == BookingStatus::Booked {
            return Err(EditError::AlreadyBooked);
        }
        let sign = if stage.amount_minor < 0 { -1 } else { 1 };
        let magnitude = stage
            .amount_minor
            .abs()
            .checked_add(booking.drift)
            .filter(|magnitude| (0..=self.max_amount_minor()).contains(magnitude))
            .ok_or(EditError::InvalidAmount)?;
        let edits = u32::try_from(self.edits.len()).map_err(|_| EditError::TooManyEdits)?;
        let id = self.choose_transaction_id(booking.id.as_ref(), edits, &key.to_string())?;
        movement.booked = Some(RowStage {
            starts_at: now,
            booking_time: booking.booking_time.map_or(now, Timestamp::as_second),
            amount_minor: sign * magnitude,
            transaction_id: id,
        });
        self.store_edit(now, movement)
    }

    /// Changes a row: how it is, and how it will be once booked.
    pub(crate) fn amend_row(
        &mut self,
        now: UnixSeconds,
        key: RowKey,
        amendment: &RowAmendment,
    ) -> Result<ListedRow, EditError> {
        let mut movement = self.find_listed_row(now, key)?;
        if let Some(text) = &amendment.text {
            check_text(text)?;
            movement.text = Cow::Owned(text.clone());
        }
        if let Some(amount) = &amendment.amount {
            let magnitude = self.parse_amount(amount)?;
            for stage in [&mut movement.pending, &mut movement.booked]
                .into_iter()
                .flatten()
            {
                stage.amount_minor = if stage.amount_minor < 0 {
                    -magnitude
                } else {
                    magnitude
                };
            }
        }
        if let Some(id) = &amendment.id {
            check_transaction_id(id)?;
            let booked = movement
                .booked
                .as_mut()
                .filter(|stage| stage.starts_at <= now);
            if let Some(stage) = booked.or(movement.pending.as_mut()) {
                stage.transaction_id = id.clone();
            }
        }
        self.store_edit(now, movement)
    }

    /// Removes a row from the list, and returns it as it was.
    pub(crate) fn remove_row(
        &mut self,
        now: UnixSeconds,
        key: RowKey,
    ) -> Result<ListedRow, EditError> {
        let movement = self.find_listed_row(now, key)?;
        let last = ListedRow::from_movement(movement, now).ok_or(EditError::NoSuchRow)?;
        if !matches!(key, RowKey::Manual(_)) && !self.edits.contains_key(&key) {
            self.check_edit_limit()?;
        }
        self.edits.insert(key, None);
        self.register_edit(now);
        Ok(last)
    }

    /// The row as it is now, where it is listed.
    fn find_listed_row(&self, now: UnixSeconds, key: RowKey) -> Result<Movement, EditError> {
        let movement = match self.edits.get(&key) {
            Some(edited) => edited.clone(),
            None => self.row_source.find_row(key),
        };
        movement
            .filter(|movement| movement.stage_at(now).is_some())
            .ok_or(EditError::NoSuchRow)
    }

    fn store_edit(&mut self, now: UnixSeconds, movement: Movement) -> Result<ListedRow, EditError> {
        if !self.edits.contains_key(&movement.key) {
            self.check_edit_limit()?;
        }
        self.edits.insert(movement.key, Some(movement.clone()));
        self.register_edit(now);
        ListedRow::from_movement(movement, now).ok_or(EditError::NoSuchRow)
    }

    fn register_edit(&mut self, now: UnixSeconds) {
        self.edited_at = now;
        self.response_cache.clear_entries();
    }

    fn check_edit_limit(&self) -> Result<(), EditError> {
        if self.edits.len() >= MAX_EDITS {
            return Err(EditError::TooManyEdits);
        }
        Ok(())
    }

    fn max_amount_minor(&self) -> i64 {
        MAX_AMOUNT_MAJOR * 10_i64.pow(self.profile.currency.exponent().into())
    }

    fn parse_amount(&self, text: &str) -> Result<i64, EditError> {
        Money::parse(text, self.profile.currency)
            .ok()
            .map(|money| money.minor)
            .filter(|minor| (0..=self.max_amount_minor()).contains(minor))
            .ok_or(EditError::InvalidAmount)
    }

    fn choose_transaction_id(
        &self,
        requested_id: Option<&ShownTransactionId>,
        number: u32,
        salt: &str,
    ) -> Result<ShownTransactionId, EditError> {
        if let Some(id) = requested_id {
            check_transaction_id(id)?;
            return Ok(id.clone());
        }
        let seed = derive_number(&[self.profile.id.as_bytes(), salt.as_bytes()]);
        let id = SeededRandom::new(seed, number.into()).next_number();
        Ok(ShownTransactionId::Text(format!("{id:016X}")))
    }
}

fn check_text(text: &str) -> Result<(), EditError> {
    if text.chars().count() > MAX_TEXT_CHARS {
        return Err(EditError::TooLong);
    }
    Ok(())
}

fn check_transaction_id(id: &ShownTransactionId) -> Result<(), EditError> {
    match id {
        ShownTransactionId::Text(text) if text.chars().count() > MAX_TRANSACTION_ID_CHARS => {
            Err(EditError::TooLong)
        }
        _ => Ok(()),
    }
}
