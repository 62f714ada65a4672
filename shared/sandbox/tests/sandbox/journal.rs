//! What a bank with a folder restores after a restart.

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
fn execute_every_command(folder: &Path, manual_clock: &ManualClock) -> String {
    let bank = open_bank(folder, manual_clock).unwrap();
    let client = LoginClient::for_bank(bank, manual_clock.clone(), login_with_rows(5));
    let (bank, address) = (&client.bank, client.account_address());
    let second = okra_sandbox::NewLogin {
        row_interval_s: Some(60),
        ..login_with_rows(3)
    };
    manual_clock.advance_seconds(100);
    bank.create_login(second).unwrap();
    let row = bank
        .add_row(address.clone(), pending_transaction("A"))
        .unwrap()
        .row;
    manual_clock.advance_seconds(1_000);
    bank.book_row(address.clone(), row, BookingDetails::default())
        .unwrap();
    let row = bank
        .add_row(address.clone(), pending_transaction("B"))
        .unwrap()
        .row;
    let change = RowAmendment {
        text: Some("B2".to_owned()),
        ..RowAmendment::default()
    };
    bank.amend_row(address.clone(), row, change).unwrap();
    let oldest = bank.list_rows(&address).unwrap().pop().unwrap();
    bank.remove_row(address, oldest.row).unwrap();
    let faults = Faults {
        outage: Some(Outage::Unavailable),
        ..Faults::default()
    };
    bank.set_faults(FaultTarget::Bank, faults.clone()).unwrap();
    bank.set_faults(FaultTarget::Login(client.login), faults)
        .unwrap();
    bank.set_consent(client.login, ConsentState::Expired)
        .unwrap();
    describe_bank(bank)
}

#[tokio::test]
async fn every_command_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let manual_clock = ManualClock::new();
    let before = execute_every_command(folder.path(), &manual_clock);
    let bank = open_bank(folder.path(), &manual_clock).unwrap();
    assert_eq!(describe_bank(&bank), before);
    let login = bank.list_logins()[0].id;
    let token = bank.link_login(login).unwrap();
    drop(bank);
    let bank = open_bank(folder.path(), &manual_clock).unwrap();
    assert_eq!(bank.link_login(login).unwrap(), token);
}

#[test]
fn a_line_that_was_being_written_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let manual_clock = ManualClock::new();
    execute_every_command(folder.path(), &manual_clock);
    let file = folder.path().join(JOURNAL_FILE);
    let whole = fs::read(&file).unwrap();
    let lines = whole.iter().filter(|byte| **byte == b'\n').count();
    for length in (0..whole.len()).rev().step_by(37) {
        fs::write(&file, &whole[..length]).unwrap();
        let bank = open_bank(folder.path(), &manual_clock).unwrap();
        let added = bank.create_login(login_with_rows(1)).unwrap();
        drop(bank);
        let bank = open_bank(folder.path(), &manual_clock).unwrap();
        assert!(bank.find_login(added.id).is_some(), "cut to {length} bytes");
    }
    assert!(lines > 8);
}

#[test]
fn a_folder_is_open_once_and_with_one_seed() {
    let folder = tempfile::tempdir().unwrap();
    let manual_clock = ManualClock::new();
    let bank = open_bank(folder.path(), &manual_clock).unwrap();
    assert!(matches!(
        open_bank(folder.path(), &manual_clock).err(),
        Some(SandboxOpenError::Locked)
    ));
    drop(bank);
    let options = SandboxOptions {
        seed: 2,
        ..SandboxOptions::default()
    };
    assert!(matches!(
        SandboxBank::open_folder(options, manual_clock.bank_clock(), folder.path()).err(),
        Some(SandboxOpenError::SeedMismatch { made_with: 1 })
    ));
}

#[test]
fn an_unreadable_journal_is_rejected() {
    let manual_clock = ManualClock::new();
    let check = |spoil: &dyn Fn(&str) -> String, expected: u64| {
        let folder = tempfile::tempdir().unwrap();
        execute_every_command(folder.path(), &manual_clock);
        let file = folder.path().join(JOURNAL_FILE);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, spoil(&text)).unwrap();
        match open_bank(folder.path(), &manual_clock).err() {
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
