//! Rows that need no storage: [`GeneratedRows`] derives each from the account's seed and the row's number, so a
//! restarted bank shows the same rows, and an account that nobody reads costs nothing.

use std::borrow::Cow;

use super::{
    content::{RowContent, generate_card_payment, generate_other_payment},
    movement::{
        AccountBalance, Movement, RowKey, RowStage, SECONDS_PER_DAY, ShownTransactionId,
        UnixSeconds,
    },
};
use crate::hash::SeededRandom;

/// Seconds a card payment is pending: at least, and the spread above that.
const PENDING_S: (UnixSeconds, u32) = (60, 60);
/// Longest time between a row's announcement and its booking.
const MAX_PENDING_S: UnixSeconds = PENDING_S.0 + PENDING_S.1 as UnixSeconds;
/// Rows that an account gets at its full rate. It slows down after them, so that a bank left running for weeks stays
/// within what a reader will page through.
const BUSY_ROWS: u32 = 1_440;
/// Fewest seconds between two rows of an account that has slowed down.
const CALM_INTERVAL_S: u32 = 1_800;

// Keep the random numbers of an account's history apart from those of its live rows.
const HISTORY_STREAM: u64 = 0x4849_5354;
const LIVE_STREAM: u64 = 0x4C49_5645;

/// The generated rows of one account.
#[derive(Clone, Debug)]
pub(crate) struct GeneratedRows {
    seed: u64,
    created_at: UnixSeconds,
    opening_balance: i64,
    history_rows: u32,
    history_days: u16,
    schedule: Option<RowSchedule>,
    /// The balance of the rows that are booked for good. `None` until the balance is first read.
    settled_balance: Option<SettledBalance>,
}

/// When an account gets rows as time passes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowSchedule {
    /// Seconds from one row to the next, at least 1.
    pub(crate) interval_s: u32,
    /// Seconds from the account's creation to its first slot.
    pub(crate) first_slot_s: u32,
}

/// All live rows below `next_row` are booked, and this is the balance after them.
#[derive(Clone, Copy, Debug)]
struct SettledBalance {
    next_row: u32,
    balance: AccountBalance,
}

impl RowSchedule {
    const fn calm_interval_s(self) -> u32 {
        if self.interval_s > CALM_INTERVAL_S {
            self.interval_s
        } else {
            CALM_INTERVAL_S
        }
    }

    /// Start and length of a slot in seconds, counted from the account's creation.
    fn slot_bounds(self, number: u32) -> (UnixSeconds, u32) {
        let busy = UnixSeconds::from(number.min(BUSY_ROWS)) * UnixSeconds::from(self.interval_s);
        let calm = UnixSeconds::from(number.saturating_sub(BUSY_ROWS))
            * UnixSeconds::from(self.calm_interval_s());
        let length = if number < BUSY_ROWS {
            self.interval_s
        } else {
            self.calm_interval_s()
        };
        (UnixSeconds::from(self.first_slot_s) + busy + calm, length)
    }

    /// The slot that contains a second counted from the account's creation; 0 before the first.
    fn slot_number_at(self, elapsed: UnixSeconds) -> u32 {
        let elapsed = elapsed.saturating_sub(self.first_slot_s.into()).max(0);
        let busy_end = UnixSeconds::from(BUSY_ROWS) * UnixSeconds::from(self.interval_s);
        let number = if elapsed < busy_end {
            elapsed / UnixSeconds::from(self.interval_s)
        } else {
            UnixSeconds::from(BUSY_ROWS)
                + (elapsed - busy_end) / UnixSeconds::from(self.calm_interval_s())
        };
        clamp_to_u32(number)
    }
}

impl GeneratedRows {
    /// An account with `history_rows` rows in the `history_days` (at least 1) before `created`.
    pub(crate) fn new(
        seed: u64,
        created_at: UnixSeconds,
        history_rows: u32,
        history_days: u16,
        schedule: Option<RowSchedule>,
    ) -> Self {
        let opening_balance =
            i64::from(2_500 + SeededRandom::new(seed, 0).next_below(20_000)) * 10_000;
        Self {
            seed,
            created_at,
            opening_balance,
            history_rows,
            history_days: history_days.max(1),
            schedule,
            settled_balance: None,
        }
    }

    /// The account's first second.
    pub(crate) const fn created_at(&self) -> UnixSeconds {
        self.created_at
    }

    /// The first second of its hicontent.
    pub(crate) fn history_starts_at(&self) -> UnixSeconds {
        self.created_at - self.history_span()
    }

    /// What the account holds.
    pub(crate) fn balance_at(&mut self, now: UnixSeconds) -> AccountBalance {
        let settled = match self.settled_balance {
            Some(settled) if settled.balance.changed_at <= now => settled,
            _ => self.balance_before_live_rows(),
        };
        let mut balance = settled.balance;
        let mut reached = settled;
        let Some(schedule) = self.schedule else {
            self.settled_balance = Some(settled);
            return balance;
        };
        // One slot past the present: its row, or the next, is the next change.
        let last = schedule
            .slot_number_at(now - self.created_at)
            .saturating_add(1);
        for number in settled.next_row..=last {
            let row = self.generate_live_row(schedule, number);
            row.add_to_balance(now, 1, &mut balance);
            if row.is_settled(now) && reached.next_row == number {
                reached.next_row = number + 1;
                row.add_to_balance(now, 1, &mut reached.balance);
            }
        }
        self.settled_balance = Some(reached);
        balance
    }

    fn balance_before_live_rows(&self) -> SettledBalance {
        let mut balance =
            AccountBalance::with_opening_balance(self.opening_balance, self.created_at);
        for number in 0..self.history_rows {
            self.generate_history_row(number)
                .add_to_balance(UnixSeconds::MAX, 1, &mut balance);
        }
        balance.changed_at = self.created_at;
        SettledBalance {
            next_row: 0,
            balance,
        }
    }

    /// Visits every row that may be listed at `now` with a date from `from` to `to`, and possibly some more.
    pub(crate) fn visit_rows(
        &self,
        now: UnixSeconds,
        from: UnixSeconds,
        to: UnixSeconds,
        visitor: &mut dyn FnMut(Movement),
    ) {
        if from < self.created_at && self.history_rows > 0 {
            let last = self.history_rows - 1;
            for number in self.history_row_at(from)..=self.history_row_at(to).min(last) {
                visitor(self.generate_history_row(number));
            }
        }
        if let Some(schedule) = self.schedule
            && to >= self.created_at
        {
            let first =
                schedule.slot_number_at(from.saturating_sub(MAX_PENDING_S + self.created_at));
            for number in first..=schedule.slot_number_at(to.min(now) - self.created_at) {
                visitor(self.generate_live_row(schedule, number));
            }
        }
    }

    /// One row, where there is such a row.
    pub(crate) fn find_row(&self, key: RowKey) -> Option<Movement> {
        match (key, self.schedule) {
            (RowKey::History(number), _) if number < self.history_rows => {
                Some(self.generate_history_row(number))
            }
            (RowKey::Live(number), Some(schedule)) => {
                Some(self.generate_live_row(schedule, number))
            }
            _ => None,
        }
    }

    fn history_span(&self) -> UnixSeconds {
        UnixSeconds::from(self.history_days) * SECONDS_PER_DAY
    }

    fn history_row_at(&self, at: UnixSeconds) -> u32 {
        let span = self.history_span();
        let elapsed = at.saturating_sub(self.created_at - span).clamp(0, span - 1);
        clamp_to_u32(elapsed * UnixSeconds::from(self.history_rows) / span)
    }

    fn generate_history_row(&self, number: u32) -> Movement {
        let mut random = SeededRandom::new(self.seed ^ HISTORY_STREAM, u64::from(number));
        let (span, rows) = (self.history_span(), UnixSeconds::from(self.history_rows));
        // The history is cut into as many equal parts as it has rows; the row falls into one of them.
        let position = UnixSeconds::from(number);
        let from = div_ceil(position * span, rows);
        let until = div_ceil((position + 1) * span, rows);
        let spread = clamp_to_u32(until - from);
        let at = self.created_at - span + from + UnixSeconds::from(random.next_below(spread));
        let content = if random.next_below(100) < 55 {
            generate_card_payment(&mut random)
        } else {
            generate_other_payment(&mut random)
        };
        let stage = generate_stage(at, content.booked_minor, &mut random);
        build_movement(RowKey::History(number), None, stage, content)
    }

    fn generate_live_row(&self, schedule: RowSchedule, number: u32) -> Movement {
        let mut random = SeededRandom::new(self.seed ^ LIVE_STREAM, u64::from(number));
        let (start, length) = schedule.slot_bounds(number);
        let at =
            self.created_at + start + UnixSeconds::from(length / 4 + random.next_below(length / 2));
        let key = RowKey::Live(number);
        if number.is_multiple_of(2) {
            let content = generate_card_payment(&mut random);
            let pending = generate_stage(at, content.amount_minor, &mut random);
            let books = at + PENDING_S.0 + UnixSeconds::from(random.next_below(PENDING_S.1 + 1));
            let booked = generate_stage(books, content.booked_minor, &mut random);
            build_movement(key, Some(pending), booked, content)
        } else {
            let content = generate_other_payment(&mut random);
            let booked = generate_stage(at, content.booked_minor, &mut random);
            build_movement(key, None, booked, content)
        }
    }
}

/// A number that is not negative as `u32`. Saturates: window bounds may be at the end of time, and no account has that
/// many rows.
fn clamp_to_u32(number: UnixSeconds) -> u32 {
    debug_assert!(number >= 0, "{number} is negative");
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Division rounded up, of numbers that are not negative by one that is positive.
const fn div_ceil(dividend: UnixSeconds, divisor: UnixSeconds) -> UnixSeconds {
    (dividend + divisor - 1) / divisor
}

fn generate_stage(
    starts_at: UnixSeconds,
    amount_minor: i64,
    random: &mut SeededRandom,
) -> RowStage {
    RowStage {
        starts_at,
        booking_time: starts_at,
        amount_minor,
        transaction_id: ShownTransactionId::Text(format!("{:016X}", random.next_number())),
    }
}

fn build_movement(
    key: RowKey,
    pending: Option<RowStage>,
    booked: RowStage,
    content: RowContent,
) -> Movement {
    Movement {
        key,
        pending,
        booked: Some(booked),
        text: Cow::Owned(content.text),
        code: Cow::Borrowed(content.code),
        merchant: content.merchant,
        balance_after: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATED: UnixSeconds = 1_800_000_000;

    fn generated_rows(rows: u32, interval_s: u32) -> GeneratedRows {
        let schedule = (interval_s > 0).then_some(RowSchedule {
            interval_s,
            first_slot_s: 0,
        });
        GeneratedRows::new(42, CREATED, rows, 60, schedule)
    }

    fn list_generated_rows(
        account: &GeneratedRows,
        now: UnixSeconds,
        from: UnixSeconds,
        to: UnixSeconds,
    ) -> Vec<Movement> {
        let mut rows = Vec::new();
        account.visit_rows(now, from, to, &mut |row| {
            let dated = row.stage_at(now).map(|(_, stage)| stage.booking_time);
            if dated.is_some_and(|dated| (from..=to).contains(&dated)) {
                rows.push(row);
            }
        });
        rows
    }

    #[test]
    fn history_has_exactly_its_rows_inside_its_days() {
        for rows in [1, 7, 100, 3_000] {
            let account = generated_rows(rows, 0);
            let listed = list_generated_rows(&account, CREATED, 0, CREATED);
            assert_eq!(listed.len(), rows as usize);
            for row in listed {
                let (_, stage) = row.stage_at(CREATED).unwrap();
                assert!((CREATED - 60 * SECONDS_PER_DAY..CREATED).contains(&stage.booking_time));
            }
        }
    }

    #[test]
    fn a_window_lists_what_the_whole_list_has_there() {
        let account = generated_rows(200, 60);
        let now = CREATED + 5 * SECONDS_PER_DAY;
        let all = list_generated_rows(&account, now, 0, now);
        for (from, to) in [
            (
                CREATED - 10 * SECONDS_PER_DAY,
                CREATED - 5 * SECONDS_PER_DAY,
            ),
            (CREATED - SECONDS_PER_DAY, CREATED + 600),
            (CREATED + 600, CREATED + 900),
            (CREATED + 2 * SECONDS_PER_DAY, now),
        ] {
            let expected: Vec<_> = all
                .iter()
                .filter(|row| (from..=to).contains(&row.stage_at(now).unwrap().1.booking_time))
                .map(|row| row.key)
                .collect();
            let found: Vec<_> = list_generated_rows(&account, now, from, to)
                .iter()
                .map(|row| row.key)
                .collect();
            assert_eq!(found, expected);
            assert!(!found.is_empty());
        }
    }

    #[test]
    fn a_balance_is_the_sum_of_the_rows_however_it_was_reached() {
        let mut advanced = generated_rows(50, 30);
        for step in 0..400 {
            let now = CREATED + step * 37;
            let balance = advanced.balance_at(now);
            assert_eq!(balance, generated_rows(50, 30).balance_at(now), "at {step}");
            let mut sum = AccountBalance::with_opening_balance(advanced.opening_balance, CREATED);
            for row in list_generated_rows(&advanced, now, 0, now) {
                row.add_to_balance(now, 1, &mut sum);
            }
            assert_eq!((balance.booked, balance.pending), (sum.booked, sum.pending));
            assert!(
                balance.changed_at <= now && balance.next_change_at.is_some_and(|next| next > now)
            );
        }
        let back = advanced.balance_at(CREATED + 37);
        assert_eq!(back, generated_rows(50, 30).balance_at(CREATED + 37));
    }

    #[test]
    fn nothing_changes_before_the_next_change() {
        let mut account = generated_rows(5, 45);
        let mut now = CREATED;
        for _ in 0..60 {
            let balance = account.balance_at(now);
            let next = balance.next_change_at.unwrap();
            let before = account.balance_at(next - 1);
            assert_eq!(
                (before.booked, before.pending),
                (balance.booked, balance.pending)
            );
            assert_eq!(account.balance_at(next).changed_at, next);
            now = next;
        }
    }

    #[test]
    fn every_slot_has_one_row_also_after_the_account_slows_down() {
        let schedule = RowSchedule {
            interval_s: 60,
            first_slot_s: 20,
        };
        for number in [0, 1, BUSY_ROWS - 1, BUSY_ROWS, BUSY_ROWS + 1, 100_000] {
            let (start, length) = schedule.slot_bounds(number);
            assert_eq!(schedule.slot_number_at(start), number);
            assert_eq!(
                schedule.slot_number_at(start + UnixSeconds::from(length) - 1),
                number
            );
        }
    }
}
