//! The adversarial corpus: what banks do to identity, as files that a person can read and add to
//! (`tests/corpus/README.md`). Each response takes the path of a real one: its JSON through the connector's parser and
//! page joining into `decide`, and its changes into the state.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use jiff::{SignedDuration, Timestamp, civil::Date};
use okra_connectors::{
    obie::parse_transactions,
    pages::{find_ambiguous_dates, join_pages},
};
use okra_core::{
    model::{
        ids::AccountId,
        money::{Currency, Money},
        snapshot::{
            AccountSnapshot, BalanceFacts, Snapshot, Transaction, TransactionFacts,
            TransactionWindow,
        },
    },
    sync::{
        decide::{CommittedAccount, decide_changes, merge_second_response},
        diff::ProjectedAccount,
        drift::{TieOut, tie_out},
        feed::Change,
    },
};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CorpusCase {
    source: String,
    answer: Vec<CorpusResponse>,
}

/// A bank's response of one day, and what it must change.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CorpusResponse {
    #[serde(default = "a_day")]
    after_hours: i64,
    #[serde(default = "first_day")]
    from: String,
    #[serde(default)]
    rows: Option<String>,
    #[serde(default)]
    json: Option<String>,
    /// Rows of the login's other account.
    #[serde(default)]
    other: Option<String>,
    /// What the bank shows when it is called once more, or `refused`.
    #[serde(default)]
    again: Option<String>,
    #[serde(default)]
    ledger: Option<String>,
    #[serde(default)]
    drift: Option<String>,
    /// Absent where it is not checked.
    #[serde(default)]
    expect: Option<Vec<String>>,
}

const fn a_day() -> i64 {
    24
}

fn first_day() -> String {
    "2026-02-01".to_owned()
}

/// `id | status | date | amount | text | name=value ...` as JSON of the standard.
fn row_json(line: &str) -> Value {
    let mut fields = line.split('|').map(str::trim);
    let mut next = || fields.next().unwrap_or_default();
    let (id, status, date, amount, text, more) = (next(), next(), next(), next(), next(), next());
    let (date, time) = date.split_once('T').unwrap_or((date, "12:00:00"));
    let (number, currency) = amount.split_once(' ').unwrap_or((amount, "NGN"));
    let signed = |number: &str| {
        let sign = if number.starts_with('-') {
            "Debit"
        } else {
            "Credit"
        };
        (sign, number.trim_start_matches('-').to_owned())
    };
    let (sign, number) = signed(number);
    let mut row = json!({
        "AccountId": "1",
        "Status": match status { "pending" => "Pending", "booked" => "Booked", other => other },
        "BookingDateTime": format!("2026-{date}T{time}Z"),
        "CreditDebitIndicator": sign,
        "Amount": { "Amount": number, "Currency": currency },
        "TransactionInformation": text,
    });
    match id {
        "-" => {}
        "\"\"" => row["TransactionId"] = json!(" "),
        id => row["TransactionId"] = json!(id),
    }
    for more in more.split_whitespace() {
        let (name, value) = more.split_once('=').unwrap();
        match name {
            "ref" => row["TransactionReference"] = json!(value),
            "bal" => {
                let (sign, number) = signed(value);
                row["Balance"] = json!({
                    "Amount": { "Amount": number, "Currency": currency },
                    "CreditDebitIndicator": sign,
                    "Type": "InterimBooked",
                });
            }
            other => panic!("{other}: ref or bal"),
        }
    }
    row
}

/// The pages of a text of rows; a line `---` ends a page.
fn parse_pages(text: &str) -> Vec<Vec<TransactionFacts>> {
    text.split("---\n")
        .map(|page| {
            let rows: Vec<Value> = page
                .lines()
                .filter(|line| !line.trim().is_empty())
                .map(row_json)
                .collect();
            let body = json!({ "Data": { "Transaction": rows } }).to_string();
            parse_transactions(body.as_bytes()).unwrap().items
        })
        .collect()
}

fn parse_window(from: Date, text: &str) -> TransactionWindow {
    let mut rows = join_pages(parse_pages(text));
    rows.retain(|row| row.booking_date() >= from);
    TransactionWindow::new(from, rows)
}

fn row_name(facts: &TransactionFacts) -> String {
    let amount = Money::new(facts.signed_minor(), facts.amount.currency).to_decimal();
    let text = format!("{amount} {}", facts.description);
    facts
        .bank_id
        .clone()
        .unwrap_or_else(|| text.trim().to_owned())
}

/// A change as the corpus writes it, one line for each row.
fn change_lines(change: &Change) -> Vec<String> {
    match change {
        Change::Balance { after, .. } => {
            vec![format!("= {}", after.ledger.unwrap().to_decimal())]
        }
        Change::Transactions(diff) => {
            let added = diff
                .added
                .iter()
                .map(|row| format!("+ {}", row_name(&row.facts)));
            let removed = diff
                .removed
                .iter()
                .map(|row| format!("- {}", row_name(&row.facts)));
            let modified = diff.modified.iter().map(|row| {
                let (before, after) = (row_name(&row.before), row_name(&row.after.facts));
                let arrow = if row.before.bank_id.is_some()
                    && row.before.bank_id == row.after.facts.bank_id
                    || (before == after && row.before.status == row.after.facts.status)
                {
                    after
                } else {
                    format!("{before} -> {after}")
                };
                let mut changed = row.before.changed_fields(&row.after.facts);
                changed.sort_unstable();
                let changed = changed.join(" ");
                format!("~ {arrow} {}: {changed}", row.confidence.as_str())
            });
            added.chain(removed).chain(modified).collect()
        }
        Change::State(change) => panic!("{change:?}"),
    }
}

/// An account on its way through the responses of a case.
#[derive(Default)]
struct CorpusAccount {
    view: ProjectedAccount,
    state: CommittedAccount,
    tie_out: Option<TieOut>,
    is_fetched_before: bool,
}

impl CorpusAccount {
    fn apply_response(
        &mut self,
        response: &CorpusResponse,
        text: Option<&str>,
        balance: Option<BalanceFacts>,
        now: Timestamp,
    ) -> Vec<String> {
        let from: Date = response.from.parse().unwrap();
        let asked_again = response
            .again
            .as_deref()
            .filter(|again| *again != "refused");
        let again = parse_window(from, asked_again.or(text).unwrap_or_default());
        let mut window = match (&response.json, text) {
            (Some(json), _) => TransactionWindow {
                unreadable: vec![],
                from,
                rows: parse_transactions(json.as_bytes()).unwrap().items,
            },
            (None, text) => parse_window(from, text.unwrap_or_default()),
        };
        if let Some((first, last)) = text.and_then(|text| find_ambiguous_dates(&parse_pages(text)))
        {
            merge_second_response(&mut window, again.clone(), first, last);
        }
        let account = AccountId::derive(&[b"account"]);
        self.state.transactions = self
            .view
            .transactions
            .iter()
            .map(|(&id, facts)| Transaction {
                id,
                facts: facts.clone(),
            })
            .collect();
        self.state.balance = self.view.balance;
        self.state.is_first_fetch = !self.is_fetched_before;
        self.is_fetched_before = true;
        let known = BTreeMap::from([(account, self.state.clone())]);
        let snapshot = |window: &TransactionWindow| Snapshot {
            accounts: vec![AccountSnapshot {
                account,
                balance: balance.map(Ok),
                transactions: Some(Ok(window.clone())),
            }],
        };
        let mut decision = decide_changes(&snapshot(&window), &known, &BTreeSet::new(), now);
        if let Some(check) = decision.deletion_checks.first().cloned()
            && response.again.as_deref() != Some("refused")
        {
            merge_second_response(&mut window, again, check.from, check.to);
            decision = decide_changes(&snapshot(&window), &known, &check.rows, now);
        }
        let mut lines = Vec::new();
        for (_, change) in &decision.changes {
            lines.extend(change_lines(change));
            self.view.apply_change(change);
        }
        let mut held = Vec::new();
        for check in &decision.deletion_checks {
            for id in &check.rows {
                let facts = &self.view.transactions[id];
                lines.push(format!("? {}", row_name(facts)));
                held.push(facts.clone());
            }
        }
        lines.extend(
            decision
                .faults
                .iter()
                .map(|(_, _, fault)| format!("! {}", fault.class.as_str())),
        );
        for (_, pending) in decision.pending_deletions {
            self.state.pending_deletions = pending;
        }
        if decision.faults.is_empty() {
            // The law: the state is what the bank shows, and what is held.
            let debug = |rows: Vec<&TransactionFacts>| {
                let mut rows: Vec<String> = rows.iter().map(|row| format!("{row:?}")).collect();
                rows.sort_unstable();
                rows
            };
            let inside = |facts: &&TransactionFacts| facts.booking_date() >= from;
            assert_eq!(
                debug(self.view.transactions.values().filter(inside).collect()),
                debug(window.rows.iter().chain(&held).collect()),
            );
        }
        if let Some(ledger) = balance.and_then(|balance| balance.ledger) {
            self.tie_out = tie_out(self.tie_out.as_ref(), &window, Some(ledger), now);
        }
        lines
    }
}

fn check_case(case: &CorpusCase) -> Result<(), String> {
    if case.source.is_empty() || case.answer.is_empty() {
        return Err("a case has a source and answers".to_owned());
    }
    let mut now: Timestamp = "2026-03-12T12:00:00Z".parse().unwrap();
    let (mut main, mut other) = (CorpusAccount::default(), CorpusAccount::default());
    for (n, answer) in case.answer.iter().enumerate() {
        now += SignedDuration::from_hours(answer.after_hours);
        let ledger = answer.ledger.as_deref();
        let balance = ledger.map(|ledger| BalanceFacts {
            available: None,
            ledger: Some(Money::parse(ledger, Currency::NGN).unwrap()),
        });
        let mut got = main.apply_response(answer, answer.rows.as_deref(), balance, now);
        if let Some(rows) = &answer.other {
            let lines = other.apply_response(answer, Some(rows), None, now);
            got.extend(lines.into_iter().map(|line| format!("B: {line}")));
        }
        got.sort_unstable();
        if let Some(expected) = &answer.expect {
            let mut expected = expected.clone();
            expected.sort_unstable();
            if got != expected {
                return Err(format!("answer {n}: expected {expected:#?}, got {got:#?}"));
            }
        }
        let drift = main.tie_out.and_then(|tie| tie.drift).map(|drift| {
            let amount = drift.amount.to_decimal();
            format!("{amount} {}", drift.check.as_str())
        });
        if drift != answer.drift {
            return Err(format!(
                "answer {n}: expected {:?}, got {drift:?}",
                answer.drift
            ));
        }
    }
    Ok(())
}

/// Cases there are at least: a corpus that is not found must not pass.
const MIN_CASES: usize = 50;

#[test]
fn every_case_makes_its_expected_changes_and_no_others() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|file| file.extension().is_some_and(|it| it == "toml"))
        .collect();
    files.sort_unstable();
    assert!(files.len() >= MIN_CASES, "{} cases", files.len());
    let mut wrong = String::new();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        let case: CorpusCase =
            toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        if let Err(problem) = check_case(&case) {
            let name = file.file_stem().unwrap().display();
            wrong.push_str(&format!("{name} ({}): {problem}\n", case.source));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
