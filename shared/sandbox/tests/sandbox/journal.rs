//! What a bank with a folder knows after a restart.

use std::{fs, path::Path};

use okra_core::model::{BookingStatus, Direction};
use okra_sandbox::{
    Amend, Bank, Book, ConsentState, Faults, JOURNAL_FILE, NewTransaction, OpenError, Options,
    Outage, Target,
};

use crate::support::{Hand, Probe, rows};

fn open(folder: &Path, hand: &Hand) -> Result<Bank, OpenError> {
    Bank::open(Options::default(), hand.clock(), folder)
}

fn pending(text: &str) -> NewTransaction {
    NewTransaction {
        direction: Direction::Debit,
        amount: "10.00".to_owned(),
        text: text.to_owned(),
        status: BookingStatus::Pending,
        dated: None,
        id: None,
    }
}

/// Everything a bank shows.
fn shown(bank: &Bank) -> String {
    let logins = bank.logins();
    let rows: Vec<_> = logins
        .iter()
        .flat_map(|login| {
            login.accounts.iter().map(|account| {
                bank.rows(&okra_sandbox::Place {
                    login: login.id,
                    account: account.account_id.clone(),
                })
            })
        })
        .collect();
    serde_json::to_string_pretty(&(logins, rows)).unwrap()
}

/// A bank in `folder` with one of every edit.
fn played(folder: &Path, hand: &Hand) -> String {
    let bank = open(folder, hand).unwrap();
    let probe = Probe::on(bank, hand.clone(), rows(5));
    let (bank, place) = (&probe.bank, probe.place());
    let second = okra_sandbox::NewLogin {
        pace_s: Some(60),
        ..rows(3)
    };
    hand.forward(100);
    bank.create_login(second).unwrap();
    let row = bank.add(place.clone(), pending("A")).unwrap().row;
    hand.forward(1_000);
    bank.book(place.clone(), row, Book::default()).unwrap();
    let row = bank.add(place.clone(), pending("B")).unwrap().row;
    let change = Amend {
        text: Some("B2".to_owned()),
        ..Amend::default()
    };
    bank.amend(place.clone(), row, change).unwrap();
    let oldest = bank.rows(&place).unwrap().pop().unwrap();
    bank.remove(place, oldest.row).unwrap();
    let faults = Faults {
        outage: Some(Outage::Unavailable),
        ..Faults::default()
    };
    bank.set_faults(Target::Bank, faults.clone()).unwrap();
    bank.set_faults(Target::Login(probe.login), faults).unwrap();
    bank.set_consent(probe.login, ConsentState::Expired)
        .unwrap();
    shown(bank)
}

#[tokio::test]
async fn nothing_that_was_played_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let hand = Hand::new();
    let before = played(folder.path(), &hand);
    let bank = open(folder.path(), &hand).unwrap();
    assert_eq!(shown(&bank), before);
    let login = bank.logins()[0].id;
    let token = bank.link(login).unwrap();
    drop(bank);
    let bank = open(folder.path(), &hand).unwrap();
    assert_eq!(bank.link(login).unwrap(), token);
}

#[test]
fn a_line_that_was_being_written_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let hand = Hand::new();
    played(folder.path(), &hand);
    let file = folder.path().join(JOURNAL_FILE);
    let whole = fs::read(&file).unwrap();
    let lines = whole.iter().filter(|byte| **byte == b'\n').count();
    for length in (0..whole.len()).rev().step_by(37) {
        fs::write(&file, &whole[..length]).unwrap();
        let bank = open(folder.path(), &hand).unwrap();
        let added = bank.create_login(rows(1)).unwrap();
        drop(bank);
        let bank = open(folder.path(), &hand).unwrap();
        assert!(bank.login(added.id).is_some(), "cut to {length} bytes");
    }
    assert!(lines > 8);
}

#[test]
fn a_folder_is_open_once_and_with_one_seed() {
    let folder = tempfile::tempdir().unwrap();
    let hand = Hand::new();
    let bank = open(folder.path(), &hand).unwrap();
    assert!(matches!(
        open(folder.path(), &hand).err(),
        Some(OpenError::Locked)
    ));
    drop(bank);
    let options = Options {
        seed: 2,
        ..Options::default()
    };
    assert!(matches!(
        Bank::open(options, hand.clock(), folder.path()).err(),
        Some(OpenError::Seed { made_with: 1 })
    ));
}

#[test]
fn a_journal_that_cannot_be_understood_is_not_guessed_at() {
    let hand = Hand::new();
    let check = |spoil: &dyn Fn(&str) -> String, expected: u64| {
        let folder = tempfile::tempdir().unwrap();
        played(folder.path(), &hand);
        let file = folder.path().join(JOURNAL_FILE);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, spoil(&text)).unwrap();
        match open(folder.path(), &hand).err() {
            Some(OpenError::Line { line, .. } | OpenError::Replay { line, .. }) => {
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
