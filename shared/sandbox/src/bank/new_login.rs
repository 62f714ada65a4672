//! Making a login: its bounds, its holder's name, its accounts and their rows, all derived from the bank's seed and
//! the login's number.

use okra_core::model::money::Currency;

use super::{
    error::CommandError,
    options::{MAX_ACCOUNTS_PER_LOGIN, MAX_HISTORY_DAYS, MAX_HISTORY_ROWS, MAX_NAME_CHARS},
    state::SandboxBank,
};
use crate::{
    account::{AccountProfile, RowSource, SandboxAccount, SandboxAccountKind},
    command::{LoginId, NewLogin},
    hash::{SeededRandom, derive_number},
    rows::{
        content::generate_full_name,
        generated::{GeneratedRows, RowSchedule},
        movement::UnixSeconds,
    },
};

impl SandboxBank {
    pub(super) fn apply_create_login(
        &self,
        now: UnixSeconds,
        new_login: &NewLogin,
    ) -> Result<LoginId, CommandError> {
        check_bounds(new_login)?;
        let number = self.login_count() + 1;
        let login_seed = derive_number(&[
            b"login",
            &self.options().seed.to_be_bytes(),
            &(number as u64).to_be_bytes(),
        ]);
        let mut random = SeededRandom::new(login_seed, 0);
        // Drawn also where a name is given: the account numbers that follow are the same either way.
        let generated_name = generate_full_name(&mut random);
        let name = new_login.name.clone().unwrap_or(generated_name);
        self.register_login(name.clone(), new_login.standard, |id| {
            (0..new_login.accounts)
                .map(|index| {
                    let profile = generate_profile(id, index, &name, &mut random);
                    let seed = derive_number(&[b"account", &login_seed.to_be_bytes(), &[index]]);
                    let rows = GeneratedRows::new(
                        seed,
                        now,
                        history_rows(new_login),
                        new_login.history_days,
                        schedule_rows(new_login, index),
                    );
                    SandboxAccount::new(profile, RowSource::Generated(rows), self.cache_budget())
                })
                .collect()
        })
    }
}

fn history_rows(new_login: &NewLogin) -> u32 {
    new_login
        .history_rows
        .unwrap_or_else(|| new_login.volume.history_rows())
}

fn check_bounds(new_login: &NewLogin) -> Result<(), CommandError> {
    if !(1..=MAX_ACCOUNTS_PER_LOGIN).contains(&new_login.accounts) {
        return Err(CommandError::OutOfBounds("accounts"));
    }
    if history_rows(new_login) > MAX_HISTORY_ROWS {
        return Err(CommandError::OutOfBounds("history_rows"));
    }
    if !(1..=MAX_HISTORY_DAYS).contains(&new_login.history_days) {
        return Err(CommandError::OutOfBounds("history_days"));
    }
    if let Some(name) = &new_login.name
        && !(1..=MAX_NAME_CHARS).contains(&name.chars().count())
    {
        return Err(CommandError::OutOfBounds("name"));
    }
    Ok(())
}

/// Every third account of a login, beginning with the second, is a savings account.
fn generate_profile(
    login: LoginId,
    index: u8,
    name: &str,
    random: &mut SeededRandom,
) -> AccountProfile {
    AccountProfile {
        id: format!("{:08}{:02}", login.0, index + 1),
        name: name.to_owned(),
        number: format!("{:010}", random.next_number() % 10_000_000_000),
        kind: if index % 3 == 1 {
            SandboxAccountKind::Savings
        } else {
            SandboxAccountKind::Current
        },
        currency: Currency::NGN,
    }
}

/// The accounts of a login get new rows in rotation, so that the login has one in each interval. An interval that
/// would overflow is longer than a century: no row is ever due then.
fn schedule_rows(new_login: &NewLogin, index: u8) -> Option<RowSchedule> {
    let interval_s = new_login
        .row_interval_s
        .filter(|interval_s| *interval_s > 0)?;
    Some(RowSchedule {
        interval_s: interval_s.saturating_mul(new_login.accounts.into()),
        first_slot_s: interval_s.saturating_mul(index.into()),
    })
}
