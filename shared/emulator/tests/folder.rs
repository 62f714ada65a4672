//! The data of a folder survives its process, and a folder is open in one process at a time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use aws_sdk_sqs::types::{Message, MessageSystemAttributeName::ApproximateReceiveCount};
use jiff::SignedDuration;
use okra_aws::{AwsConfig, Clock};
use okra_emulator::{Emulator, EmulatorOpenError, QueueDepth, QueueDepthError, QueueSpec, Redrive};

fn manual_clock() -> Clock {
    Clock::manual_at("2026-03-01T12:00:00Z".parse().unwrap())
}

fn open_with_queues(folder: &Path) -> (Emulator, aws_sdk_sqs::Client) {
    let emulator = Emulator::open_folder(folder, manual_clock()).unwrap();
    let dead = QueueSpec::new("dead");
    let queue = QueueSpec {
        visibility_s: 360,
        redrive: Some(Redrive {
            dead_letter: "dead".to_owned(),
            max_receive_count: 3,
        }),
        ..QueueSpec::new("queue")
    };
    // In any order, and repeatedly.
    emulator.create_queues(&[queue, dead]).unwrap();
    let client = AwsConfig::with_http_client(emulator.http_client()).sqs_client();
    (emulator, client)
}

async fn send_message(emulator: &Emulator, client: &aws_sdk_sqs::Client, body: &str, delay_s: i32) {
    client
        .send_message()
        .queue_url(emulator.queue_url("queue"))
        .message_body(body)
        .delay_seconds(delay_s)
        .send()
        .await
        .unwrap();
}

async fn receive_messages(
    emulator: &Emulator,
    client: &aws_sdk_sqs::Client,
    queue: &str,
) -> Vec<Message> {
    let receive = client
        .receive_message()
        .queue_url(emulator.queue_url(queue));
    let received = receive.max_number_of_messages(10).send().await;
    received.unwrap().messages.unwrap_or_default()
}

/// Set where this binary runs as the process that is killed.
const VICTIM_FOLDER_VARIABLE: &str = "OKRA_TEST_VICTIM_FOLDER";

/// Sends messages until it is killed, and prints each one that was accepted.
#[tokio::test]
async fn victim() {
    let Some(folder) = env::var_os(VICTIM_FOLDER_VARIABLE) else {
        return;
    };
    let (emulator, client) = open_with_queues(Path::new(&folder));
    for n in 0..1_000_000_u32 {
        send_message(&emulator, &client, &n.to_string(), 0).await;
        let mut out = std::io::stdout().lock();
        writeln!(out, "\nsent {n}").unwrap();
        out.flush().unwrap();
    }
}

fn start_victim(folder: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "victim", "--nocapture"])
        .env(VICTIM_FOLDER_VARIABLE, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn accepted_messages_survive_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut victim = start_victim(folder.path());
    let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let mut accepted = 0;
    while accepted < 50 {
        let line = lines.next().unwrap().unwrap();
        accepted += usize::from(line.starts_with("sent "));
    }
    let locked = Emulator::open_folder(folder.path(), manual_clock()).unwrap_err();
    assert!(matches!(locked, EmulatorOpenError::Locked(_)), "{locked}");
    victim.kill().unwrap();
    victim.wait().unwrap();
    accepted += lines
        .filter(|line| line.as_ref().is_ok_and(|line| line.starts_with("sent ")))
        .count();

    let (emulator, _client) = open_with_queues(folder.path());
    let stored = usize::try_from(emulator.queue_depth("queue").unwrap().visible).unwrap();
    // One more may have been accepted than was printed.
    assert!(
        (accepted..=accepted + 1).contains(&stored),
        "{stored} of {accepted}"
    );
}

#[tokio::test]
async fn messages_received_by_a_killed_process_are_received_again_at_once() {
    let folder = tempfile::tempdir().unwrap();
    {
        let (emulator, client) = open_with_queues(folder.path());
        send_message(&emulator, &client, "in flight", 0).await;
        send_message(&emulator, &client, "delayed", 60).await;
    }
    for receives in 1..=10 {
        let (emulator, client) = open_with_queues(folder.path());
        let received = client
            .receive_message()
            .queue_url(emulator.queue_url("queue"))
            .message_system_attribute_names(ApproximateReceiveCount);
        let received = received.send().await.unwrap().messages.unwrap_or_default();
        assert_eq!(received.len(), 1, "{receives}");
        assert_eq!(received[0].body(), Some("in flight"));
        let count = &received[0].attributes().unwrap()[&ApproximateReceiveCount];
        assert_eq!(*count, receives.to_string());
        let depth = QueueDepth {
            in_flight: 1,
            delayed: 1,
            visible: 0,
        };
        assert_eq!(emulator.queue_depth("queue").unwrap(), depth);
    }
    let (emulator, client) = open_with_queues(folder.path());
    assert_eq!(receive_messages(&emulator, &client, "dead").await, []);
}

#[tokio::test]
async fn rules_and_rows_are_stored() {
    let folder = tempfile::tempdir().unwrap();
    let aws = |emulator: &Emulator| AwsConfig::with_http_client(emulator.http_client());
    {
        let emulator = Emulator::open_folder(folder.path(), manual_clock()).unwrap();
        let put = aws(&emulator).eventbridge_client().put_rule().name("rule");
        put.schedule_expression("rate(1 minute)")
            .send()
            .await
            .unwrap();
    }
    let emulator = Emulator::open_folder(folder.path(), manual_clock()).unwrap();
    let rule = aws(&emulator)
        .eventbridge_client()
        .describe_rule()
        .name("rule");
    rule.send().await.unwrap();
    let tables = aws(&emulator).dynamodb_client().list_tables().send().await;
    assert!(tables.unwrap().table_names().is_empty());
    assert_eq!(emulator.sweep_expired_items().await.unwrap(), 0);
    assert!(folder.path().join("dynamodb.sqlite").exists());
}

#[test]
fn a_folder_is_open_in_one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("made/on/the/way");
    let first = Emulator::open_folder(&folder, manual_clock()).unwrap();
    let error = Emulator::open_folder(&folder, manual_clock()).unwrap_err();
    let text = format!("{} is in use by another process", folder.display());
    assert_eq!(error.to_string(), text);
    let http = first.http_client();
    drop(first);
    assert!(Emulator::open_folder(&folder, manual_clock()).is_err());
    drop(http);
    Emulator::open_folder(&folder, manual_clock()).unwrap();
}

#[test]
fn a_folder_that_is_a_file_cannot_be_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Emulator::open_folder(&file, manual_clock()).unwrap_err();
    assert!(matches!(error, EmulatorOpenError::NotWritable(..)));
    let text = format!("{} cannot be written to", file.display());
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_file_that_is_not_a_database_is_rejected() {
    for name in ["dynamodb.sqlite", "queues.sqlite", "rules.sqlite"] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join(name),
            "not a database, but long enough to be one",
        )
        .unwrap();
        let error = Emulator::open_folder(folder.path(), manual_clock()).unwrap_err();
        assert!(matches!(error, EmulatorOpenError::Damaged { .. }), "{name}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn a_database_that_another_program_has_locked_is_named() {
    let folder = tempfile::tempdir().unwrap();
    drop(open_with_queues(folder.path()));
    for name in ["dynamodb.sqlite", "queues.sqlite", "rules.sqlite"] {
        let path = folder.path().join(name);
        let holder = rusqlite::Connection::open(&path).unwrap();
        holder.execute_batch("BEGIN IMMEDIATE").unwrap();
        let error = Emulator::open_folder(folder.path(), manual_clock()).unwrap_err();
        let expected = format!("{} is locked by another program", path.display());
        assert_eq!(error.to_string(), expected);
    }
    Emulator::open_folder(folder.path(), manual_clock()).unwrap();
}

#[test]
fn an_invalid_queue_is_named_and_none_is_created() {
    let emulator = Emulator::in_memory(manual_clock()).unwrap();
    let cases = [
        (QueueSpec::new("a b"), "queue a b cannot be created"),
        (
            QueueSpec {
                visibility_s: 43_201,
                ..QueueSpec::new("long")
            },
            "VisibilityTimeout must be >= 0 and <= 43200",
        ),
        (
            QueueSpec {
                redrive: Some(Redrive {
                    dead_letter: "nowhere".to_owned(),
                    max_receive_count: 1,
                }),
                ..QueueSpec::new("lost")
            },
            "queue lost cannot be created: the dead-letter queue of lost does not exist",
        ),
    ];
    for (spec, expected) in cases {
        let name = spec.name.clone();
        let error = emulator.create_queues(&[QueueSpec::new("fine"), spec]);
        let text = error.unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
        // All queues are created, or none.
        for name in [&name, "fine"] {
            let depth = emulator.queue_depth(name);
            assert!(matches!(depth, Err(QueueDepthError::NoQueue)), "{depth:?}");
        }
    }
}

#[tokio::test]
async fn a_queue_that_is_created_again_changes_and_keeps_its_messages() {
    let clock = manual_clock();
    let emulator = Emulator::in_memory(clock.clone()).unwrap();
    emulator.create_queues(&[QueueSpec::new("queue")]).unwrap();
    let client = AwsConfig::with_http_client(emulator.http_client()).sqs_client();
    send_message(&emulator, &client, "a", 0).await;
    let shorter = QueueSpec {
        visibility_s: 5,
        ..QueueSpec::new("queue")
    };
    emulator.create_queues(&[shorter]).unwrap();
    for _ in 0..2 {
        assert_eq!(receive_messages(&emulator, &client, "queue").await.len(), 1);
        clock.set_time(clock.now() + SignedDuration::from_secs(5));
    }
}

#[test]
fn only_its_owner_can_read_the_files_of_a_folder() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    // An earlier release left its database for all to read.
    let database = folder.path().join("queues.sqlite");
    fs::write(&database, b"").unwrap();
    fs::set_permissions(&database, fs::Permissions::from_mode(0o644)).unwrap();
    let _open = open_with_queues(folder.path());
    for file in fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        if file.file_name() == "lock" {
            continue;
        }
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.path().display());
    }
}
