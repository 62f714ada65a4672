//! What holds whatever is played on a bank, in whatever order.

use okra_core::model::{BookingStatus, Direction};
use okra_sandbox::{
    Amend, Bank, Book, NewLogin, NewTransaction, Options, Place, RowKey, RowView, ShownId,
};
use proptest::prelude::*;

use crate::support::{Hand, Probe, rows};

/// Something done to the one account there is. Rows are chosen by their place in the list.
#[derive(Clone, Debug)]
enum Step {
    Wait(i64),
    Add(NewTransaction),
    Book(prop::sample::Index, Book),
    Amend(prop::sample::Index, Amend),
    Remove(prop::sample::Index),
}

fn amount() -> impl Strategy<Value = String> {
    (0..100_000_u32, 0..100_u32).prop_map(|(naira, kobo)| format!("{naira}.{kobo:02}"))
}

fn id() -> impl Strategy<Value = Option<ShownId>> {
    prop::option::of(prop_oneof![
        Just(ShownId::Missing),
        Just(ShownId::Blank),
        "[a-c]".prop_map(ShownId::Is),
    ])
}

fn new_transaction() -> impl Strategy<Value = NewTransaction> {
    let direction = prop_oneof![Just(Direction::Credit), Just(Direction::Debit)];
    let status = prop_oneof![Just(BookingStatus::Pending), Just(BookingStatus::Booked)];
    (direction, amount(), status, id()).prop_map(|(direction, amount, status, id)| NewTransaction {
        direction,
        amount,
        text: "BY REQUEST".to_owned(),
        status,
        dated: None,
        id,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let row = any::<prop::sample::Index>;
    prop_oneof![
        (0..400_i64).prop_map(Step::Wait),
        new_transaction().prop_map(Step::Add),
        (row(), -500..500_i64, id()).prop_map(|(row, drift, id)| {
            let dated = None;
            Step::Book(row, Book { drift, dated, id })
        }),
        (row(), prop::option::of(amount()), id()).prop_map(|(row, amount, id)| {
            let text = Some("AMENDED".to_owned());
            Step::Amend(row, Amend { text, amount, id })
        }),
        row().prop_map(Step::Remove),
    ]
}

/// Plays a step; what has no effect (there is no row, it is booked already) is left out.
fn play(bank: &Bank, hand: &Hand, place: &Place, step: &Step) {
    let listed = bank.rows(place).unwrap();
    let chosen = |index: &prop::sample::Index| -> Option<RowKey> {
        (!listed.is_empty()).then(|| index.get(&listed).row)
    };
    let place = place.clone();
    match step {
        Step::Wait(seconds) => hand.forward(*seconds),
        Step::Add(new) => {
            bank.add(place, new.clone()).unwrap();
        }
        Step::Book(index, how) => {
            let _ = chosen(index).map(|row| bank.book(place, row, how.clone()));
        }
        Step::Amend(index, change) => {
            let _ = chosen(index).map(|row| bank.amend(place, row, change.clone()));
        }
        Step::Remove(index) => {
            let _ = chosen(index).map(|row| bank.remove(place, row));
        }
    }
}

fn minor(decimal: &str) -> i64 {
    decimal.replace('.', "").parse().unwrap()
}

fn sum(rows: &[RowView], status: BookingStatus) -> i64 {
    let of_status = rows.iter().filter(|row| row.status == status);
    let signed = of_status.map(|row| match row.direction {
        Direction::Credit => minor(&row.amount),
        Direction::Debit => -minor(&row.amount),
    });
    signed.sum()
}

fn busy() -> NewLogin {
    NewLogin {
        pace_s: Some(60),
        ..rows(5)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// The list and the balances tie, answers that were kept are those that would be made, and a bank
    /// that was closed and opened is the same bank.
    #[test]
    fn a_bank_ties_and_forgets_nothing(steps in prop::collection::vec(step(), 1..40)) {
        let folder = tempfile::tempdir().unwrap();
        let hand = Hand::new();
        let open = || Bank::open(Options::default(), hand.clock(), folder.path()).unwrap();
        let probe = Probe::on(open(), hand.clone(), busy());
        let place = probe.place();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let shown = |bank: &Bank| {
            let account = bank.login(place.login).unwrap().accounts.remove(0);
            let rows = bank.rows(&place).unwrap();
            (minor(&account.ledger), minor(&account.available), rows)
        };
        let (ledger, _, rows) = shown(&probe.bank);
        let opening = ledger - sum(&rows, BookingStatus::Booked);
        for step in &steps {
            play(&probe.bank, &hand, &place, step);
            let (ledger, available, rows) = shown(&probe.bank);
            prop_assert_eq!(ledger - sum(&rows, BookingStatus::Booked), opening);
            prop_assert_eq!(available - ledger, sum(&rows, BookingStatus::Pending));
            let ids: Vec<_> = runtime
                .block_on(probe.transactions())
                .iter()
                .map(|row| row.get("TransactionId").and_then(|id| id.as_str()).map(str::to_owned))
                .collect();
            let expected: Vec<_> = rows.into_iter().map(|row| row.transaction_id).collect();
            prop_assert_eq!(ids, expected);
        }
        let before = shown(&probe.bank);
        drop(probe);
        prop_assert_eq!(shown(&open()), before);
    }
}
