//! An account: where its rows come from, what was edited about them, and its kept answers.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use okra_core::{
    model::{BookingStatus, Direction},
    money::{Currency, Money},
};

use crate::{
    answers::{Answers, Budget},
    command::{Amend, Book, NewTransaction},
    generate::Generated,
    hash::{Draw, derive},
    movement::{Movement, RowKey, Second, ShownId, Stage, Standing},
    replayed::Replayed,
};

/// Rows of one account that may be added or edited.
pub const MAX_EDITS: usize = 10_000;
/// Largest amount of an added or amended row in major units, so that no balance outgrows the 13
/// digits the standard has for it.
pub const MAX_AMOUNT: i64 = 1_000_000_000;
/// Characters of a row's text (the standard's bound of `TransactionInformation`).
pub const MAX_TEXT: usize = 500;
/// Characters of a transaction id (the standard's bound).
pub const MAX_ID: usize = 210;

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
    #[error("an amount is a decimal like 12.50, not negative, at most 1,000,000,000")]
    Amount,
    /// Longer than the standard allows.
    #[error("the text or the id is longer than the standard allows")]
    TooLong,
    /// See [`MAX_EDITS`].
    #[error("the account has no room for more edits")]
    TooMany,
}

/// The two kinds of account the sandbox has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Current,
    Savings,
}

impl Kind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "CURRENT",
            Self::Savings => "SAVINGS",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Source {
    Generated(Generated),
    Replayed(Replayed),
}

impl Source {
    fn created(&self) -> Second {
        match self {
            Self::Generated(rows) => rows.created(),
            Self::Replayed(rows) => rows.created(),
        }
    }

    fn standing(&mut self, now: Second) -> Standing {
        match self {
            Self::Generated(rows) => rows.standing(now),
            Self::Replayed(rows) => rows.standing(now),
        }
    }

    fn visit(&self, now: Second, from: Second, to: Second, take: &mut dyn FnMut(Movement)) {
        match self {
            Self::Generated(rows) => rows.visit(now, from, to, take),
            Self::Replayed(rows) => rows.visit(now, from, to, take),
        }
    }

    fn find(&self, key: RowKey) -> Option<Movement> {
        match (self, key) {
            (Self::Replayed(rows), RowKey::File(id)) => rows.find(id),
            (Self::Generated(rows), key) => rows.find(key),
            _ => None,
        }
    }
}

/// What is fixed about an account. Not `Debug`: it has the number.
#[derive(Clone)]
pub(crate) struct Facts {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) number: String,
    pub(crate) kind: Kind,
    pub(crate) currency: Currency,
}

pub(crate) struct Account {
    pub(crate) facts: Facts,
    pub(crate) answers: Answers,
    source: Source,
    /// Rows that were added or edited, as they are now; `None` where a row was removed.
    edits: BTreeMap<RowKey, Option<Movement>>,
    edited: Second,
    added: u32,
}

/// A row as it is listed.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) movement: Movement,
    pub(crate) status: BookingStatus,
    pub(crate) stage: Stage,
}

impl Account {
    pub(crate) fn new(facts: Facts, source: Source, budget: &Arc<Budget>) -> Self {
        Self {
            facts,
            answers: Answers::new(Arc::clone(budget)),
            source,
            edits: BTreeMap::new(),
            edited: Second::MIN,
            added: 0,
        }
    }

    /// The account's first second.
    pub(crate) fn created(&self) -> Second {
        self.source.created()
    }

    /// The first second rows are had of.
    pub(crate) fn first_available(&self) -> Second {
        match &self.source {
            Source::Generated(rows) => rows.history_start(),
            Source::Replayed(rows) => rows.created(),
        }
    }

    /// True once the account exists.
    pub(crate) fn is_open(&self, now: Second) -> bool {
        self.created() <= now
    }

    /// What the account holds.
    pub(crate) fn standing(&mut self, now: Second) -> Standing {
        let mut standing = self.source.standing(now);
        for (key, edited) in &self.edits {
            if let Some(original) = self.source.find(*key) {
                original.count(now, -1, &mut standing);
            }
            if let Some(movement) = edited {
                movement.count(now, 1, &mut standing);
            }
        }
        if self.edited <= now {
            standing.changed = standing.changed.max(self.edited);
        }
        standing
    }

    /// The rows listed at `now` with a booking date from `from` to `to`, newest first.
    pub(crate) fn listed(&self, now: Second, from: Second, to: Second) -> Vec<Listed> {
        let mut rows = Vec::new();
        let mut list = |movement: Movement| {
            let Some((status, stage)) = movement.shown(now) else {
                return;
            };
            if (from..=to).contains(&stage.dated) {
                let stage = stage.clone();
                rows.push(Listed {
                    movement,
                    status,
                    stage,
                });
            }
        };
        self.source.visit(now, from, to, &mut |movement| {
            if self.edits.is_empty() || !self.edits.contains_key(&movement.key) {
                list(movement);
            }
        });
        self.edits.values().flatten().cloned().for_each(list);
        rows.sort_unstable_by_key(|row| std::cmp::Reverse((row.stage.dated, row.movement.key)));
        rows
    }

    /// Adds a row.
    pub(crate) fn add(&mut self, now: Second, new: &NewTransaction) -> Result<Listed, EditError> {
        self.check_room()?;
        check_text(&new.text)?;
        let magnitude = self.amount(&new.amount)?;
        let minor = match new.direction {
            Direction::Credit => magnitude,
            Direction::Debit => -magnitude,
        };
        let number = self.added + 1;
        let id = self.id_of(new.id.as_ref(), number, "added")?;
        let stage = Stage {
            from: now,
            dated: new.dated.map_or(now, Timestamp::as_second),
            minor,
            id,
        };
        let (pending, booked) = match new.status {
            BookingStatus::Pending => (Some(stage), None),
            BookingStatus::Booked => (None, Some(stage)),
        };
        self.added = number;
        self.keep(
            now,
            Movement {
                key: RowKey::Manual(number),
                pending,
                booked,
                text: Cow::Owned(new.text.clone()),
                code: Cow::Borrowed("ADJ"),
                merchant: None,
                balance_after: None,
            },
        )
    }

    /// Books a pending row.
    pub(crate) fn book(
        &mut self,
        now: Second,
        key: RowKey,
        how: &Book,
    ) -> Result<Listed, EditError> {
        let mut movement = self.find(now, key)?;
        let (status, stage) = movement.shown(now).ok_or(EditError::NoSuchRow)?;
        if status == BookingStatus::Booked {
            return Err(EditError::AlreadyBooked);
        }
        let sign = if stage.minor < 0 { -1 } else { 1 };
        let magnitude = stage
            .minor
            .abs()
            .checked_add(how.drift)
            .filter(|magnitude| (0..=self.max_minor()).contains(magnitude))
            .ok_or(EditError::Amount)?;
        let edits = u32::try_from(self.edits.len()).unwrap_or(u32::MAX);
        let id = self.id_of(how.id.as_ref(), edits, &key.to_string())?;
        movement.booked = Some(Stage {
            from: now,
            dated: how.dated.map_or(now, Timestamp::as_second),
            minor: sign * magnitude,
            id,
        });
        self.keep(now, movement)
    }

    /// Changes a row, and what it is going to be.
    pub(crate) fn amend(
        &mut self,
        now: Second,
        key: RowKey,
        change: &Amend,
    ) -> Result<Listed, EditError> {
        let mut movement = self.find(now, key)?;
        if let Some(text) = &change.text {
            check_text(text)?;
            movement.text = Cow::Owned(text.clone());
        }
        if let Some(amount) = &change.amount {
            let magnitude = self.amount(amount)?;
            for stage in [&mut movement.pending, &mut movement.booked]
                .into_iter()
                .flatten()
            {
                stage.minor = if stage.minor < 0 {
                    -magnitude
                } else {
                    magnitude
                };
            }
        }
        if let Some(id) = &change.id {
            check_id(id)?;
            let booked = movement.booked.as_mut().filter(|stage| stage.from <= now);
            if let Some(stage) = booked.or(movement.pending.as_mut()) {
                stage.id = id.clone();
            }
        }
        self.keep(now, movement)
    }

    /// Takes a row off the list, and says how it was last.
    pub(crate) fn remove(&mut self, now: Second, key: RowKey) -> Result<Listed, EditError> {
        let movement = self.find(now, key)?;
        let last = list(movement, now)?;
        if !matches!(key, RowKey::Manual(_)) && !self.edits.contains_key(&key) {
            self.check_room()?;
        }
        self.edits.insert(key, None);
        self.touch(now);
        Ok(last)
    }

    /// The row as it is now, where it is listed.
    fn find(&self, now: Second, key: RowKey) -> Result<Movement, EditError> {
        let movement = match self.edits.get(&key) {
            Some(edited) => edited.clone(),
            None => self.source.find(key),
        };
        movement
            .filter(|movement| movement.shown(now).is_some())
            .ok_or(EditError::NoSuchRow)
    }

    fn keep(&mut self, now: Second, movement: Movement) -> Result<Listed, EditError> {
        if !self.edits.contains_key(&movement.key) {
            self.check_room()?;
        }
        self.edits.insert(movement.key, Some(movement.clone()));
        self.touch(now);
        list(movement, now)
    }

    fn touch(&mut self, now: Second) {
        self.edited = now;
        self.answers.clear();
    }

    fn check_room(&self) -> Result<(), EditError> {
        if self.edits.len() >= MAX_EDITS {
            return Err(EditError::TooMany);
        }
        Ok(())
    }

    fn max_minor(&self) -> i64 {
        MAX_AMOUNT * 10_i64.pow(self.facts.currency.exponent().into())
    }

    fn amount(&self, text: &str) -> Result<i64, EditError> {
        Money::parse(text, self.facts.currency)
            .ok()
            .map(|money| money.minor)
            .filter(|minor| (0..=self.max_minor()).contains(minor))
            .ok_or(EditError::Amount)
    }

    fn id_of(
        &self,
        asked: Option<&ShownId>,
        number: u32,
        salt: &str,
    ) -> Result<ShownId, EditError> {
        if let Some(id) = asked {
            check_id(id)?;
            return Ok(id.clone());
        }
        let seed = derive(&[self.facts.id.as_bytes(), salt.as_bytes()]);
        let id = Draw::new(seed, number.into()).next();
        Ok(ShownId::Is(format!("{id:016X}")))
    }
}

fn list(movement: Movement, now: Second) -> Result<Listed, EditError> {
    let (status, stage) = movement.shown(now).ok_or(EditError::NoSuchRow)?;
    let stage = stage.clone();
    Ok(Listed {
        movement,
        status,
        stage,
    })
}

fn check_text(text: &str) -> Result<(), EditError> {
    if text.chars().count() > MAX_TEXT {
        return Err(EditError::TooLong);
    }
    Ok(())
}

fn check_id(id: &ShownId) -> Result<(), EditError> {
    match id {
        ShownId::Is(text) if text.chars().count() > MAX_ID => Err(EditError::TooLong),
        _ => Ok(()),
    }
}
