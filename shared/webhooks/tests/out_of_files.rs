//! A machine that has run out of files. It is a binary of its own, because it takes all files of its process.

use std::{fs::File, net::TcpListener};

use bytes::Bytes;
use jiff::Timestamp;
use okra_core::{
    delivery::retry::AttemptOutcome,
    model::ids::{EventId, RecordId, Seq},
};
use okra_webhooks::{
    AddressPolicy, AttemptError, AttemptLimits, SECRET_BYTES, SigningSecrets, WebhookMessage,
    WebhookSender,
};

/// Files that are opened at most; where a process may have more, there is nothing to see.
const MAX_FILES: usize = 100_000;

#[tokio::test]
async fn a_machine_without_files_does_not_charge_the_receiver() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let tls = okra_aws::rustls_client_config();
    let sender =
        WebhookSender::new(tls, AddressPolicy::AllowLoopback, AttemptLimits::default()).unwrap();
    let message = WebhookMessage {
        url: &url,
        event_id: &EventId::for_record_entry(RecordId::from_bytes([1; 12]), Seq(1)),
        seq: Seq(1),
        attempt: 1,
        is_replay: false,
        missing_seqs: &[],
        body: Bytes::from_static(b"{}"),
        secrets: &SigningSecrets::from_entropy(&[0; SECRET_BYTES]),
        bearer: None,
        sent_at: Timestamp::UNIX_EPOCH,
    };
    let mut files = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        files.push(file);
        if files.len() == MAX_FILES {
            println!("skipped: a process may have more than {MAX_FILES} files open here");
            return;
        }
    }
    assert_eq!(
        sender.send_message(&message).await,
        Err(AttemptError::ResourcesExhausted)
    );

    drop(files);
    drop(listener);
    let answer = sender.send_message(&message).await.unwrap();
    assert_eq!(answer.outcome, AttemptOutcome::Connect);
}
