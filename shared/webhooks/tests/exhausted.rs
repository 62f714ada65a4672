//! A machine that has run out of files. Alone in its process, because it takes all of them.

use std::{fs::File, net::TcpListener};

use bytes::Bytes;
use jiff::Timestamp;
use okra_core::{
    ids::{EventId, RecordId, Seq},
    retry::Outcome,
};
use okra_webhooks::{
    AddressPolicy, Limits, Message, SECRET_BYTES, SendFault, Sender, SigningSecrets,
};

/// Files that are opened at most; where a process may have more, there is nothing to see.
const MAX_FILES: usize = 100_000;

#[tokio::test]
async fn a_machine_without_files_does_not_charge_the_receiver() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let tls = okra_aws::rustls_client_config();
    let sender = Sender::new(tls, AddressPolicy::AllowLoopback, Limits::default()).unwrap();
    let message = Message {
        url: &url,
        event: &EventId::of(RecordId::from_bytes([1; 12]), Seq(1)),
        seq: Seq(1),
        attempt: 1,
        replayed: false,
        gap: &[],
        body: Bytes::from_static(b"{}"),
        secrets: &SigningSecrets::fresh(&[0; SECRET_BYTES]),
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
    assert_eq!(sender.send(&message).await, Err(SendFault::Exhausted));

    drop(files);
    drop(listener);
    let answer = sender.send(&message).await.unwrap();
    assert_eq!(answer.outcome, Outcome::Connect);
}
