//! Rows that need no storage: each is derived from the account's seed and its number, so a restarted
//! bank shows the same history, and an account nobody asks for costs nothing.

use std::borrow::Cow;

use crate::{
    hash::Draw,
    lore::{self, Story},
    movement::{DAY, Movement, RowKey, Second, ShownId, Stage, Standing},
};

/// Seconds a card payment is pending: at least, and the spread above that.
const PENDING_S: (Second, u32) = (60, 60);
/// Longest time between a row's announcement and its booking.
const MAX_PENDING_S: Second = PENDING_S.0 + PENDING_S.1 as Second;
/// Rows an account makes at its full pace; then it calms down, so that a bank left running for weeks
/// does not outgrow what a reader is willing to page through.
const BUSY_ROWS: u32 = 1_440;
/// Seconds between two rows of a calm account at least.
const CALM_PACE_S: u32 = 1_800;

/// What distinguishes the draws of one account from each other.
const HISTORY_STREAM: u64 = 0x4849_5354;
const LIVE_STREAM: u64 = 0x4C49_5645;

/// The generated rows of one account.
#[derive(Clone, Debug)]
pub(crate) struct Generated {
    seed: u64,
    created: Second,
    opening: i64,
    history_rows: u32,
    history_days: u16,
    pace: Option<Pace>,
    /// Everything before this is booked for good. `None` until the first question.
    settled: Option<Settled>,
}

/// When an account makes rows as time passes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Seconds from one row to the next, at least 1.
    pub(crate) every: u32,
    /// Seconds from the account's creation to its first slot.
    pub(crate) phase: u32,
}

/// All live rows below `next` are booked, and this is where they leave the account.
#[derive(Clone, Copy, Debug)]
struct Settled {
    next: u32,
    standing: Standing,
}

impl Pace {
    const fn calm(self) -> u32 {
        if self.every > CALM_PACE_S {
            self.every
        } else {
            CALM_PACE_S
        }
    }

    /// Start and length of a slot in seconds, counted from the account's creation.
    fn slot(self, number: u32) -> (Second, u32) {
        let busy = Second::from(number.min(BUSY_ROWS)) * Second::from(self.every);
        let calm = Second::from(number.saturating_sub(BUSY_ROWS)) * Second::from(self.calm());
        let length = if number < BUSY_ROWS {
            self.every
        } else {
            self.calm()
        };
        (Second::from(self.phase) + busy + calm, length)
    }

    /// The slot that contains a second counted from the account's creation; 0 before the first.
    fn slot_at(self, elapsed: Second) -> u32 {
        let elapsed = elapsed.saturating_sub(self.phase.into()).max(0);
        let busy_end = Second::from(BUSY_ROWS) * Second::from(self.every);
        let number = if elapsed < busy_end {
            elapsed / Second::from(self.every)
        } else {
            Second::from(BUSY_ROWS) + (elapsed - busy_end) / Second::from(self.calm())
        };
        u32::try_from(number).unwrap_or(u32::MAX)
    }
}

impl Generated {
    /// An account with `history_rows` rows in the `history_days` (at least 1) before `created`.
    pub(crate) fn new(
        seed: u64,
        created: Second,
        history_rows: u32,
        history_days: u16,
        pace: Option<Pace>,
    ) -> Self {
        let opening = i64::from(2_500 + Draw::new(seed, 0).below(20_000)) * 10_000;
        Self {
            seed,
            created,
            opening,
            history_rows,
            history_days: history_days.max(1),
            pace,
            settled: None,
        }
    }

    /// The account's first second.
    pub(crate) const fn created(&self) -> Second {
        self.created
    }

    /// The first second of its history.
    pub(crate) fn history_start(&self) -> Second {
        self.created - self.history_span()
    }

    /// What the account holds.
    pub(crate) fn standing(&mut self, now: Second) -> Standing {
        let settled = match self.settled {
            Some(settled) if settled.standing.changed <= now => settled,
            _ => self.before_the_first(),
        };
        let mut standing = settled.standing;
        let mut reached = settled;
        let Some(pace) = self.pace else {
            self.settled = Some(settled);
            return standing;
        };
        // One slot beyond the present: its row, or its successor's, is the next change.
        let last = pace.slot_at(now - self.created).saturating_add(1);
        for number in settled.next..=last {
            let row = self.live(pace, number);
            row.count(now, 1, &mut standing);
            if row.is_settled(now) && reached.next == number {
                reached.next = number + 1;
                row.count(now, 1, &mut reached.standing);
            }
        }
        self.settled = Some(reached);
        standing
    }

    fn before_the_first(&self) -> Settled {
        let mut standing = Standing::opening(self.opening, self.created);
        for number in 0..self.history_rows {
            self.history(number).count(Second::MAX, 1, &mut standing);
        }
        standing.changed = self.created;
        Settled { next: 0, standing }
    }

    /// Hands out every row that may be listed at `now` with a date from `from` to `to`, and perhaps
    /// some more.
    pub(crate) fn visit(
        &self,
        now: Second,
        from: Second,
        to: Second,
        take: &mut dyn FnMut(Movement),
    ) {
        if from < self.created && self.history_rows > 0 {
            let last = self.history_rows - 1;
            for number in self.history_at(from)..=self.history_at(to).min(last) {
                take(self.history(number));
            }
        }
        if let Some(pace) = self.pace
            && to >= self.created
        {
            let first = pace.slot_at(from.saturating_sub(MAX_PENDING_S + self.created));
            for number in first..=pace.slot_at(to.min(now) - self.created) {
                take(self.live(pace, number));
            }
        }
    }

    /// One row, where there is such a row.
    pub(crate) fn find(&self, key: RowKey) -> Option<Movement> {
        match (key, self.pace) {
            (RowKey::History(number), _) if number < self.history_rows => {
                Some(self.history(number))
            }
            (RowKey::Live(number), Some(pace)) => Some(self.live(pace, number)),
            _ => None,
        }
    }

    fn history_span(&self) -> Second {
        Second::from(self.history_days) * DAY
    }

    fn history_at(&self, at: Second) -> u32 {
        let span = self.history_span();
        let elapsed = at.saturating_sub(self.created - span).clamp(0, span - 1);
        u32::try_from(elapsed * Second::from(self.history_rows) / span).unwrap_or(u32::MAX)
    }

    fn history(&self, number: u32) -> Movement {
        let mut draw = Draw::new(self.seed ^ HISTORY_STREAM, u64::from(number));
        let (span, rows) = (self.history_span(), Second::from(self.history_rows));
        let start = |number: Second| div_ceil(number * span, rows);
        let (from, until) = (start(number.into()), start(Second::from(number) + 1));
        let spread = u32::try_from(until - from).unwrap_or(u32::MAX);
        let at = self.created - span + from + Second::from(draw.below(spread));
        let story = if draw.below(100) < 55 {
            lore::card_payment(&mut draw)
        } else {
            lore::other(&mut draw)
        };
        let stage = stage(at, story.booked_minor, &mut draw);
        movement(RowKey::History(number), None, stage, story)
    }

    fn live(&self, pace: Pace, number: u32) -> Movement {
        let mut draw = Draw::new(self.seed ^ LIVE_STREAM, u64::from(number));
        let (start, length) = pace.slot(number);
        let at = self.created + start + Second::from(length / 4 + draw.below(length / 2));
        let key = RowKey::Live(number);
        if number.is_multiple_of(2) {
            let story = lore::card_payment(&mut draw);
            let pending = stage(at, story.minor, &mut draw);
            let books = at + PENDING_S.0 + Second::from(draw.below(PENDING_S.1 + 1));
            let booked = stage(books, story.booked_minor, &mut draw);
            movement(key, Some(pending), booked, story)
        } else {
            let story = lore::other(&mut draw);
            let booked = stage(at, story.booked_minor, &mut draw);
            movement(key, None, booked, story)
        }
    }
}

/// Division rounded up, of numbers that are not negative by one that is positive.
const fn div_ceil(dividend: Second, divisor: Second) -> Second {
    (dividend + divisor - 1) / divisor
}

fn stage(at: Second, minor: i64, draw: &mut Draw) -> Stage {
    Stage {
        from: at,
        dated: at,
        minor,
        id: ShownId::Is(format!("{:016X}", draw.next())),
    }
}

fn movement(key: RowKey, pending: Option<Stage>, booked: Stage, story: Story) -> Movement {
    Movement {
        key,
        pending,
        booked: Some(booked),
        text: Cow::Owned(story.text),
        code: Cow::Borrowed(story.code),
        merchant: story.merchant,
        balance_after: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATED: Second = 1_800_000_000;

    fn account(rows: u32, every: u32) -> Generated {
        let pace = (every > 0).then_some(Pace { every, phase: 0 });
        Generated::new(42, CREATED, rows, 60, pace)
    }

    fn listed(account: &Generated, now: Second, from: Second, to: Second) -> Vec<Movement> {
        let mut rows = Vec::new();
        account.visit(now, from, to, &mut |row| {
            let dated = row.shown(now).map(|(_, stage)| stage.dated);
            if dated.is_some_and(|dated| (from..=to).contains(&dated)) {
                rows.push(row);
            }
        });
        rows
    }

    #[test]
    fn history_has_exactly_its_rows_inside_its_days() {
        for rows in [1, 7, 100, 3_000] {
            let account = account(rows, 0);
            let listed = listed(&account, CREATED, 0, CREATED);
            assert_eq!(listed.len(), rows as usize);
            for row in listed {
                let (_, stage) = row.shown(CREATED).unwrap();
                assert!((CREATED - 60 * DAY..CREATED).contains(&stage.dated));
            }
        }
    }

    #[test]
    fn a_window_lists_what_the_whole_list_has_there() {
        let account = account(200, 60);
        let now = CREATED + 5 * DAY;
        let all = listed(&account, now, 0, now);
        for (from, to) in [
            (CREATED - 10 * DAY, CREATED - 5 * DAY),
            (CREATED - DAY, CREATED + 600),
            (CREATED + 600, CREATED + 900),
            (CREATED + 2 * DAY, now),
        ] {
            let expected: Vec<_> = all
                .iter()
                .filter(|row| (from..=to).contains(&row.shown(now).unwrap().1.dated))
                .map(|row| row.key)
                .collect();
            let got: Vec<_> = listed(&account, now, from, to)
                .iter()
                .map(|row| row.key)
                .collect();
            assert_eq!(got, expected);
            assert!(!got.is_empty());
        }
    }

    #[test]
    fn a_standing_is_the_sum_of_the_rows_however_it_was_reached() {
        let mut walked = account(50, 30);
        for step in 0..400 {
            let now = CREATED + step * 37;
            let standing = walked.standing(now);
            assert_eq!(standing, account(50, 30).standing(now), "at {step}");
            let mut sum = Standing::opening(walked.opening, CREATED);
            for row in listed(&walked, now, 0, now) {
                row.count(now, 1, &mut sum);
            }
            assert_eq!(
                (standing.booked, standing.pending),
                (sum.booked, sum.pending)
            );
            assert!(standing.changed <= now && standing.next.is_some_and(|next| next > now));
        }
        let back = walked.standing(CREATED + 37);
        assert_eq!(back, account(50, 30).standing(CREATED + 37));
    }

    #[test]
    fn nothing_changes_before_the_next_change() {
        let mut account = account(5, 45);
        let mut now = CREATED;
        for _ in 0..60 {
            let standing = account.standing(now);
            let next = standing.next.unwrap();
            let before = account.standing(next - 1);
            assert_eq!(
                (before.booked, before.pending),
                (standing.booked, standing.pending)
            );
            assert_eq!(account.standing(next).changed, next);
            now = next;
        }
    }

    #[test]
    fn every_slot_has_one_row_also_after_the_busy_time() {
        let pace = Pace {
            every: 60,
            phase: 20,
        };
        for number in [0, 1, BUSY_ROWS - 1, BUSY_ROWS, BUSY_ROWS + 1, 100_000] {
            let (start, length) = pace.slot(number);
            assert_eq!(pace.slot_at(start), number);
            assert_eq!(pace.slot_at(start + Second::from(length) - 1), number);
        }
    }
}
