//! What a bank with a folder knows after a restart.

use std::{fs, path::Path};

use okra_core::model::snapshot::{BookingStatus, Direction};
use okra_sandbox::{
    BookingDetails, ConsentState, FaultTarget, Faults, JOURNAL_FILE, NewTransaction, Outage,
    RowAmendment, SandboxBank, SandboxOpenError, SandboxOptions,
};

use crate::support::{LoginClient, ManualClock, login_with_rows};

fn open_bank(folder: &Path, manual_clock: &ManualClock) -> Result<SandboxBank, SandboxOpenError> {
    SandboxBank::open_folder(SandboxOptions::default(), manual_clock.bank_clock(), folder)
}

fn pending_transaction(text: &str) -> NewTransaction {
    NewTransaction {
        direction: Direction::Debit,
        amount: "10.00".to_owned(),
        text: text.to_owned(),
        status: BookingStatus::Pending,
        booking_time: None,
        id: None,
    }
}

/// Everything a bank shows.
fn describe_bank(bank: &SandboxBank) -> String {
    let logins = bank.list_logins();
    let rows: Vec<_> = logins
        .iter()
        .flat_map(|login| {
            login.accounts.iter().map(|account| {
                bank.list_rows(&okra_sandbox::AccountAddress {
                    login: login.id,
                    account_id: account.account_id.clone(),
                })
            })
        })
        .collect();
    serde_json::to_string_pretty(&(logins, rows)).unwrap()
}

/// A bank in `folder` with one of every edit.
fn play_commands(folder: &Path, manual_clock: &ManualClock) -> String {
    let bank = open_bank(folder, manual_clock).unwrap();
    let probe = LoginClient::for_bank(bank, manual_clock.clone(), login_with_rows(5));
    let (bank, place) = (&probe.bank, probe.account_address());
    let second = okra_sandbox::NewLogin {
        row_interval_s: Some(60),
        ..login_with_rows(3)
    };
    manual_clock.advance_seconds(100);
    bank.create_login(second).unwrap();
    let row = bank
        .add_row(place.clone(), pending_transaction("A"))
        .unwrap()
        .row;
    manual_clock.advance_seconds(1_000);
    bank.book_row(place.clone(), row, BookingDetails::default())
        .unwrap();
    let row = bank
        .add_row(place.clone(), pending_transaction("B"))
        .unwrap()
        .row;
    let change = RowAmendment {
        text: Some("B2".to_owned()),
        ..RowAmendment::default()
    };
    bank.amend_row(place.clone(), row, change).unwrap();
    let oldest = bank.list_rows(&place).unwrap().pop().unwrap();
    bank.remove_row(place, oldest.row).unwrap();
    let faults = Faults {
        outage: Some(Outage::Unavailable),
        ..Faults::default()
    };
    bank.set_faults(FaultTarget::Bank, faults.clone()).unwrap();
    bank.set_faults(FaultTarget::Login(probe.login), faults)
        .unwrap();
    bank.set_consent(probe.login, ConsentState::Expired)
        .unwrap();
    describe_bank(bank)
}

#[tokio::test]
async fn nothing_that_was_played_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let hand = ManualClock::new();
    let before = play_commands(folder.path(), &hand);
    let bank = open_bank(folder.path(), &hand).unwrap();
    assert_eq!(describe_bank(&bank), before);
    let login = bank.list_logins()[0].id;
    let token = bank.link_login(login).unwrap();
    drop(bank);
    let bank = open_bank(folder.path(), &hand).unwrap();
    assert_eq!(bank.link_login(login).unwrap(), token);
}

#[test]
fn a_line_that_was_being_written_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let hand = ManualClock::new();
    play_commands(folder.path(), &hand);
    let file = folder.path().join(JOURNAL_FILE);
    let whole = fs::read(&file).unwrap();
    let lines = whole.iter().filter(|byte| **byte == b'\n').count();
    for length in (0..whole.len()).rev().step_by(37) {
        fs::write(&file, &whole[..length]).unwrap();
        let bank = open_bank(folder.path(), &hand).unwrap();
        let added = bank.create_login(login_with_rows(1)).unwrap();
        drop(bank);
        let bank = open_bank(folder.path(), &hand).unwrap();
        assert!(bank.find_login(added.id).is_some(), "cut to {length} bytes");
    }
    assert!(lines > 8);
}

#[test]
fn a_folder_is_open_once_and_with_one_seed() {
    let folder = tempfile::tempdir().unwrap();
    let hand = ManualClock::new();
    let bank = open_bank(folder.path(), &hand).unwrap();
    assert!(matches!(
        open_bank(folder.path(), &hand).err(),
        Some(SandboxOpenError::Locked)
    ));
    drop(bank);
    let options = SandboxOptions {
        seed: 2,
        ..SandboxOptions::default()
    };
    assert!(matches!(
        SandboxBank::open_folder(options, hand.bank_clock(), folder.path()).err(),
        Some(SandboxOpenError::SeedMismatch { made_with: 1 })
    ));
}

#[test]
fn a_journal_that_cannot_be_understood_is_not_guessed_at() {
    let hand = ManualClock::new();
    let check = |spoil: &dyn Fn(&str) -> String, expected: u64| {
        let folder = tempfile::tempdir().unwrap();
        play_commands(folder.path(), &hand);
        let file = folder.path().join(JOURNAL_FILE);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, spoil(&text)).unwrap();
        match open_bank(folder.path(), &hand).err() {
            Some(
                SandboxOpenError::UnreadableLine { line, .. }
                | SandboxOpenError::ReplayFailed { line, .. },
            ) => {
                assert_eq!(line, expected);
            }
            other => panic!("{other:?}"),
        }
    };
    check(&|text| text.replacen("create_login", "make_login", 1), 2);
    check(
        &|text| text.replacen("\"sandbox_journal\":1", "\"sandbox_journal\":9", 1),
        1,
    );
    check(
        &|text| text.replacen("\"row\":\"m1\"", "\"row\":\"m7\"", 1),
        5,
    );
    check(&|text| format!("{}\n{text}", "x".repeat(70_000)), 1);
}
