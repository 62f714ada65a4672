//! Properties that hold after any commands, in any order.

use okra_core::model::snapshot::{BookingStatus, Direction};
use okra_sandbox::{
    AccountAddress, BookingDetails, NewLogin, NewTransaction, RowAmendment, RowKey, RowView,
    SandboxBank, SandboxOptions, ShownTransactionId,
};
use proptest::prelude::*;

use crate::support::{LoginClient, ManualClock, login_with_rows};

/// A step on the one account there is. Rows are chosen by their position in the list.
#[derive(Clone, Debug)]
enum BankStep {
    Wait(i64),
    Add(NewTransaction),
    Book(prop::sample::Index, BookingDetails),
    Amend(prop::sample::Index, RowAmendment),
    Remove(prop::sample::Index),
}

fn any_amount() -> impl Strategy<Value = String> {
    (0..100_000_u32, 0..100_u32).prop_map(|(naira, kobo)| format!("{naira}.{kobo:02}"))
}

fn any_transaction_id() -> impl Strategy<Value = Option<ShownTransactionId>> {
    prop::option::of(prop_oneof![
        Just(ShownTransactionId::Missing),
        Just(ShownTransactionId::Blank),
        "[a-c]".prop_map(ShownTransactionId::Text),
    ])
}

fn any_new_transaction() -> impl Strategy<Value = NewTransaction> {
    let direction = prop_oneof![Just(Direction::Credit), Just(Direction::Debit)];
    let status = prop_oneof![Just(BookingStatus::Pending), Just(BookingStatus::Booked)];
    (direction, any_amount(), status, any_transaction_id()).prop_map(
        |(direction, amount, status, id)| NewTransaction {
            direction,
            amount,
            text: "BY REQUEST".to_owned(),
            status,
            booking_time: None,
            id,
        },
    )
}

fn any_step() -> impl Strategy<Value = BankStep> {
    let row = any::<prop::sample::Index>;
    prop_oneof![
        (0..400_i64).prop_map(BankStep::Wait),
        any_new_transaction().prop_map(BankStep::Add),
        (row(), -500..500_i64, any_transaction_id()).prop_map(|(row, drift, id)| {
            let dated = None;
            BankStep::Book(
                row,
                BookingDetails {
                    drift,
                    booking_time: dated,
                    id,
                },
            )
        }),
        (row(), prop::option::of(any_amount()), any_transaction_id()).prop_map(
            |(row, amount, id)| {
                let text = Some("AMENDED".to_owned());
                BankStep::Amend(row, RowAmendment { text, amount, id })
            }
        ),
        row().prop_map(BankStep::Remove),
    ]
}

/// Executes a step. One without effect (there is no row, or it is booked already) is skipped.
fn execute_step(
    bank: &SandboxBank,
    manual_clock: &ManualClock,
    address: &AccountAddress,
    step: &BankStep,
) {
    let listed = bank.list_rows(address).unwrap();
    let chosen = |index: &prop::sample::Index| -> Option<RowKey> {
        (!listed.is_empty()).then(|| index.get(&listed).row)
    };
    let address = address.clone();
    match step {
        BankStep::Wait(seconds) => manual_clock.advance_seconds(*seconds),
        BankStep::Add(new) => {
            bank.add_row(address, new.clone()).unwrap();
        }
        BankStep::Book(index, how) => {
            let _ = chosen(index).map(|row| bank.book_row(address, row, how.clone()));
        }
        BankStep::Amend(index, change) => {
            let _ = chosen(index).map(|row| bank.amend_row(address, row, change.clone()));
        }
        BankStep::Remove(index) => {
            let _ = chosen(index).map(|row| bank.remove_row(address, row));
        }
    }
}

fn parse_minor(decimal: &str) -> i64 {
    decimal.replace('.', "").parse().unwrap()
}

fn sum_amounts(rows: &[RowView], status: BookingStatus) -> i64 {
    let of_status = rows.iter().filter(|row| row.status == status);
    let signed = of_status.map(|row| match row.direction {
        Direction::Credit => parse_minor(&row.amount),
        Direction::Debit => -parse_minor(&row.amount),
    });
    signed.sum()
}

fn login_with_live_rows() -> NewLogin {
    NewLogin {
        row_interval_s: Some(60),
        ..login_with_rows(5)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// The rows add up to the balances, cached responses are those that would be built, and a bank that was closed and
    /// opened is the same bank.
    #[test]
    fn rows_add_up_to_the_balances_and_a_restart_changes_nothing(steps in prop::collection::vec(any_step(), 1..40)) {
        let folder = tempfile::tempdir().unwrap();
        let manual_clock = ManualClock::new();
        let open = || SandboxBank::open_folder(SandboxOptions::default(), manual_clock.bank_clock(), folder.path()).unwrap();
        let client = LoginClient::for_bank(open(), manual_clock.clone(), login_with_live_rows());
        let address = client.account_address();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let shown = |bank: &SandboxBank| {
            let account = bank.find_login(address.login).unwrap().accounts.remove(0);
            let rows = bank.list_rows(&address).unwrap();
            (parse_minor(&account.ledger), parse_minor(&account.available), rows)
        };
        let (ledger, _, rows) = shown(&client.bank);
        let opening = ledger - sum_amounts(&rows, BookingStatus::Booked);
        for step in &steps {
            execute_step(&client.bank, &manual_clock, &address, step);
            let (ledger, available, rows) = shown(&client.bank);
            prop_assert_eq!(ledger - sum_amounts(&rows, BookingStatus::Booked), opening);
            prop_assert_eq!(available - ledger, sum_amounts(&rows, BookingStatus::Pending));
            let ids: Vec<_> = runtime
                .block_on(client.list_transactions())
                .iter()
                .map(|row| row.get("TransactionId").and_then(|id| id.as_str()).map(str::to_owned))
                .collect();
            let expected: Vec<_> = rows.into_iter().map(|row| row.transaction_id).collect();
            prop_assert_eq!(ids, expected);
        }
        let before = shown(&client.bank);
        drop(client);
        prop_assert_eq!(shown(&open()), before);
    }
}
