//! The binary from outside: what a newcomer runs, kills, restarts and gets wrong.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod kill_nine;
mod running;

use std::{
    fmt::Write as _,
    fs,
    io::{Read, Write as _},
    net::TcpListener,
    path::Path,
    time::Duration,
};

use running::{RunningOkraSync, find_free_ports, start_okra_sync, start_okra_sync_logging};

/// Longer than anything here takes on a busy machine; nothing waits for it when all is well.
const TEST_TIMEOUT: Duration = Duration::from_secs(120);

const CSV_HEADER: &str =
    "trans_id;account_id;date;type;operation;amount;balance;k_symbol;bank;account\n";

/// A file of `accounts` accounts with a row on each of `days` days of 1993.
fn generate_transactions_csv(accounts: u32, days: u32) -> String {
    let mut csv = CSV_HEADER.to_owned();
    for day in 0..days {
        for account in 1..=accounts {
            let (id, date) = (day * 1000 + account, 930_101 + (day / 28) * 100 + day % 28);
            let kind = if day % 3 == 2 {
                "VYDAJ;VYBER"
            } else {
                "PRIJEM;VKLAD"
            };
            let balance = 100 + day;
            writeln!(csv, "{id};{account};{date};{kind};{day}.50;{balance}.00;;;").unwrap();
        }
    }
    csv
}

fn start_replay(data: &Path, port: u16, file: &Path, extra_arguments: &[&str]) -> RunningOkraSync {
    let port = port.to_string();
    let (data, file) = (data.to_str().unwrap(), file.to_str().unwrap());
    let mut arguments = vec!["replay", file, "--data", data, "--port", &port];
    arguments.extend_from_slice(extra_arguments);
    start_okra_sync(&arguments)
}

#[test]
fn the_demo_tells_its_app_and_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let (data, port) = (
        folder.path().to_str().unwrap(),
        find_free_ports().to_string(),
    );
    let arguments = ["--data", data, "--port", &port];

    let mut first = start_okra_sync(&arguments);
    first.wait_for_line("Try next", TEST_TIMEOUT);
    first.wait_for_line("POS SHOPRITE IKEJA", TEST_TIMEOUT);
    let line = first.wait_for_line(
        "1 new, 0 changed, 0 removed transactions: -2450",
        TEST_TIMEOUT,
    );
    assert!(line.contains("transaction.success #"), "{line}");
    let key = first.expect_line("secret key");
    first.send_sigkill();

    let mut again = start_okra_sync(&arguments);
    let resumed = again.wait_for_line("the demo app received", TEST_TIMEOUT);
    assert!(!resumed.contains(" 0 events"), "{resumed}");
    assert_eq!(again.expect_line("secret key"), key, "the same app goes on");
    // The second run's purchase arrives as well: nothing stands in its way.
    again.wait_for_line("transactions: -2450 POS SHOPRITE IKEJA", TEST_TIMEOUT);

    let mut second = start_okra_sync(&["--data", data, "--port", &find_free_ports().to_string()]);
    second.expect_failure("is in use by another", TEST_TIMEOUT);
    let mut same_port = start_okra_sync(&[
        "--data",
        folder.path().join("other").to_str().unwrap(),
        "--port",
        &port,
    ]);
    same_port.expect_failure("choose another with --port", TEST_TIMEOUT);
}

#[test]
fn a_replay_ends_with_its_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trans.csv");
    fs::write(&file, generate_transactions_csv(3, 70)).unwrap();
    let mut run = start_replay(folder.path(), find_free_ports(), &file, &[]);
    run.wait_for_line("accounts             3", TEST_TIMEOUT);
    run.wait_for_line("every transaction was announced exactly once", TEST_TIMEOUT);
    run.expect_success(TEST_TIMEOUT);
}

#[test]
fn a_replay_that_is_killed_goes_on_and_announces_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (file, port) = (folder.path().join("trans.csv"), find_free_ports());
    fs::write(&file, generate_transactions_csv(4, 56)).unwrap();
    let ledger = folder.path().join("replay/received.jsonl");
    let mut kills = 0;
    for events in [20, 80, 200] {
        let mut run = start_replay(folder.path(), port, &file, &[]);
        let reached = run.wait_until(TEST_TIMEOUT, || {
            fs::read_to_string(&ledger).is_ok_and(|text| text.lines().count() >= events)
        });
        if reached {
            run.send_sigkill();
            kills += 1;
        }
    }
    assert!(kills > 0, "the replay was never caught in the middle");
    let mut run = start_replay(folder.path(), port, &file, &[]);
    run.wait_for_line("Resuming an interrupted replay", TEST_TIMEOUT);
    run.wait_for_line("every transaction was announced exactly once", TEST_TIMEOUT);
    run.expect_success(TEST_TIMEOUT);
}

#[test]
fn injected_changes_are_all_told_and_none_is_invented() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trans.csv");
    fs::write(&file, generate_transactions_csv(10, 60)).unwrap();
    let mut run = start_replay(folder.path(), find_free_ports(), &file, &["--inject", "7"]);
    let line = run.wait_for_line("pending rows,", TEST_TIMEOUT);
    assert!(!line.contains(" 0 pending rows"), "{line}");
    assert!(!line.contains(" 0 booked"), "{line}");
    assert!(!line.contains(" 0 edits"), "{line}");
    assert!(!line.contains(" 0 removals"), "{line}");
    run.wait_for_line("0 missed, 0 false", TEST_TIMEOUT);
    run.wait_for_line("every transaction was announced exactly once", TEST_TIMEOUT);
    run.expect_success(TEST_TIMEOUT);
}

/// The same on rows of a real bank, where they are at hand.
#[test]
fn injected_changes_on_real_rows_are_all_told_and_none_is_invented() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/pkdd99/trans.csv");
    let Ok(text) = fs::read_to_string(&file) else {
        println!("skipped: {} is not there", file.display());
        return;
    };
    const ACCOUNTS: usize = 3;
    let mut accounts: Vec<&str> = Vec::new();
    let mut part = String::new();
    for (at, line) in text.lines().enumerate() {
        let account = line.split(';').nth(1).unwrap_or_default();
        if at > 0 && accounts.len() < ACCOUNTS && !accounts.contains(&account) {
            accounts.push(account);
        }
        if at == 0 || accounts.contains(&account) {
            writeln!(part, "{line}").unwrap();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trans.csv");
    fs::write(&file, part).unwrap();
    let mut run = start_replay(folder.path(), find_free_ports(), &file, &["--inject", "7"]);
    run.wait_for_line("0 missed, 0 false", TEST_TIMEOUT);
    run.wait_for_line("every transaction was announced exactly once", TEST_TIMEOUT);
    run.expect_success(TEST_TIMEOUT);
}

#[test]
fn a_malformed_row_is_named_and_what_is_before_it_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trans.csv");
    let good = generate_transactions_csv(2, 10);
    fs::write(
        &file,
        format!(
            "{good}77;1;930131;PRIJEM;VKLAD;12,50;1.00;;;\n{}",
            "78;1;930131;PRIJEM;VKLAD;1.00;2.00;;;\n"
        ),
    )
    .unwrap();

    let mut run = start_replay(folder.path(), find_free_ports(), &file, &[]);
    run.wait_for_line("line 22", TEST_TIMEOUT);
    run.wait_for_line("every transaction was announced exactly once", TEST_TIMEOUT);
    run.expect_failure("line 22", TEST_TIMEOUT);

    let mut run = start_replay(
        folder.path(),
        find_free_ports(),
        &file,
        &["--fresh", "--skip-bad-rows"],
    );
    run.wait_for_line("skipped rows         1", TEST_TIMEOUT);
    run.expect_success(TEST_TIMEOUT);
}

/// Law 11, at the finest level of logs that can be asked for.
/// Answers one request after the other, and gives each: its headers and its body.
fn receive_request(listener: &TcpListener) -> (String, String) {
    let (mut stream, _) = listener.accept().unwrap();
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut buffer).unwrap();
        text.extend_from_slice(&buffer[..read]);
        let whole = String::from_utf8_lossy(&text).into_owned();
        let Some((head, body)) = whole.split_once("\r\n\r\n") else {
            continue;
        };
        let header = |line: &str| {
            line.to_lowercase()
                .strip_prefix("content-length: ")?
                .parse()
                .ok()
        };
        let length: usize = head.lines().find_map(header).unwrap();
        if body.len() >= length {
            let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
            stream.write_all(answer).unwrap();
            return (head.to_lowercase(), body.to_owned());
        }
    }
}

#[test]
fn listen_posts_an_apps_events_to_a_laptop_signed() {
    let folder = tempfile::tempdir().unwrap();
    let (data, port) = (
        folder.path().to_str().unwrap(),
        find_free_ports().to_string(),
    );
    let mut demo = start_okra_sync(&["--data", data, "--port", &port]);
    demo.wait_for_line("POS SHOPRITE IKEJA", TEST_TIMEOUT);
    let kept = fs::read_to_string(folder.path().join("demo.json")).unwrap();
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hook = format!("http://{}/hook", listener.local_addr().unwrap());
    let (api, key) = (
        format!("http://127.0.0.1:{port}"),
        kept["secret_key"].as_str().unwrap(),
    );
    let arguments = ["listen", "--forward-to", &hook, "--key", key, "--api", &api];
    let mut listening = start_okra_sync(&[&arguments[..], &["--from-start"]].concat());
    let line = listening.wait_for_line("signed with whsec_", TEST_TIMEOUT);
    let (_, secret) = line.split_once("signed with ").unwrap();
    let signer = standardwebhooks::Webhook::new(secret).unwrap();
    for sequence in 1..=4 {
        let (head, body) = receive_request(&listener);
        let header = |name: &str| {
            let value = head
                .lines()
                .find_map(|line| line.strip_prefix(&format!("{name}: ")));
            value.unwrap().to_owned()
        };
        let event: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(event["event_id"], header("webhook-id"));
        assert_eq!(event["sequence"], sequence);
        let at = header("webhook-timestamp").parse().unwrap();
        let signature = signer
            .sign(&header("webhook-id"), at, body.as_bytes())
            .unwrap();
        assert_eq!(header("webhook-signature"), signature.to_lowercase());
    }
    listening.wait_for_line("#4 of", TEST_TIMEOUT);
    // The API goes and comes back: listening goes on.
    drop(listener);
    demo.send_sigkill();
    listening.wait_for_line("cannot be reached; trying again", TEST_TIMEOUT);
    let mut demo = start_okra_sync(&["--data", data, "--port", &port]);
    listening.wait_for_line("is reachable again", TEST_TIMEOUT);
    listening.send_sigkill();
    let mut refused = start_okra_sync(&[
        "listen",
        "--forward-to",
        &hook,
        "--key",
        "wrong",
        "--api",
        &api,
    ]);
    refused.expect_failure("webhooks/secret was rejected with 401", TEST_TIMEOUT);
    demo.send_sigkill();
}

#[test]
fn neither_secrets_nor_payloads_are_logged() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trans.csv");
    let marked = "7001;1;930103;PRIJEM;VKLAD;918273645.43;918273645.43;;;\n";
    fs::write(&file, format!("{CSV_HEADER}{marked}")).unwrap();
    let (data, port) = (
        folder.path().to_str().unwrap(),
        find_free_ports().to_string(),
    );
    let file = file.to_str().unwrap();
    let arguments = ["replay", file, "--data", data, "--port", &port];
    let mut run = start_okra_sync_logging("trace", &arguments);
    run.wait_for_line("every transaction was announced exactly once", TEST_TIMEOUT);
    run.expect_success(TEST_TIMEOUT);
    let logged = run.printed_output();
    assert!(logged.contains("TRACE"), "nothing was logged");
    let app = fs::read_to_string(folder.path().join("replay/app.json")).unwrap();
    let app: serde_json::Value = serde_json::from_str(&app).unwrap();
    let secrets = ["secret_key", "webhook_secret"].map(|name| app[name].as_str().unwrap());
    // So long that no number the SDK draws for a call, of seven digits, can hold it.
    for never in secrets.into_iter().chain(["918273645", "91827364543"]) {
        let line = logged.lines().find(|line| line.contains(never));
        assert_eq!(line, None, "{never}");
    }
}

#[test]
fn an_unusable_option_is_reported_in_one_sentence() {
    let port = find_free_ports().to_string();
    let check = |arguments: &[&str], sentence: &str| {
        start_okra_sync(arguments).expect_failure(sentence, TEST_TIMEOUT);
    };
    check(&["--data", "/dev/null/data", "--port", &port], "cannot be");
    check(
        &["replay", "/nowhere.csv", "--port", &port],
        "cannot read /nowhere.csv",
    );
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let banks = folder.path().join("banks.toml");
    fs::write(&banks, "[[bank]]\nslug = \"x\"\n").unwrap();
    let banks = banks.to_str().unwrap();
    check(
        &["serve", "--data", data, "--port", &port, "--banks", banks],
        "bank x: its table cannot be read: missing field `id`",
    );
}
