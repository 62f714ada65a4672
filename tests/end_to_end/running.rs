//! A running `okra-sync`, its lines, and its end.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How often a condition is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A port whose two followers are free too. Each test process starts in another place, all below the
/// ports that systems give to outgoing connections (32,768 and above): one of these could take the
/// port of a process that was killed and is about to come back.
pub(crate) fn find_free_ports() -> u16 {
    static NEXT_PORT_OFFSET: AtomicU16 = AtomicU16::new(0);
    let start = 10_000 + u16::try_from(std::process::id() % 1_800).unwrap() * 12;
    loop {
        let port = start + NEXT_PORT_OFFSET.fetch_add(3, Ordering::SeqCst) % 999;
        if (0..3).all(|n| std::net::TcpListener::bind(("127.0.0.1", port + n)).is_ok()) {
            return port;
        }
    }
}

/// Starts the binary.
pub(crate) fn start_okra_sync(arguments: &[&str]) -> RunningOkraSync {
    start_okra_sync_logging("error", arguments)
}

/// Starts the binary with logs of this level.
pub(crate) fn start_okra_sync_logging(level: &str, arguments: &[&str]) -> RunningOkraSync {
    let mut child = Command::new(env!("CARGO_BIN_EXE_okra-sync"))
        .env("RUST_LOG", level)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = Arc::new(Mutex::new(Vec::new()));
    collect_lines(child.stdout.take().unwrap(), &lines);
    collect_lines(child.stderr.take().unwrap(), &lines);
    RunningOkraSync { child, lines }
}

fn collect_lines(stream: impl Read + Send + 'static, lines: &Arc<Mutex<Vec<String>>>) {
    let lines = Arc::clone(lines);
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            lines.lock().unwrap().push(line);
        }
    });
}

pub(crate) struct RunningOkraSync {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl RunningOkraSync {
    pub(crate) fn printed_output(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    fn find_line(&self, text: &str) -> Option<String> {
        self.lines
            .lock()
            .unwrap()
            .iter()
            .find(|line| line.contains(text))
            .cloned()
    }

    /// Waits for a condition; false where the process ended before.
    pub(crate) fn wait_until(
        &mut self,
        timeout: Duration,
        mut condition: impl FnMut() -> bool,
    ) -> bool {
        let started = Instant::now();
        loop {
            if condition() {
                return true;
            }
            if self.child.try_wait().unwrap().is_some() {
                return condition();
            }
            assert!(
                started.elapsed() < timeout,
                "waited too long:\n{}",
                self.printed_output()
            );
            thread::park_timeout(POLL_INTERVAL);
        }
    }

    /// Waits for a line that contains the text, and gives it.
    pub(crate) fn wait_for_line(&mut self, text: &str, timeout: Duration) -> String {
        let lines = Arc::clone(&self.lines);
        let contains = move || lines.lock().unwrap().iter().any(|line| line.contains(text));
        let started = Instant::now();
        // After its end, what is still in the pipes is read.
        while !self.wait_until(timeout, &contains) && started.elapsed() < Duration::from_secs(5) {
            thread::park_timeout(POLL_INTERVAL);
        }
        self.find_line(text)
            .unwrap_or_else(|| panic!("no line with {text:?}:\n{}", self.printed_output()))
    }

    pub(crate) fn expect_line(&mut self, text: &str) -> String {
        self.wait_for_line(text, Duration::from_secs(60))
    }

    fn wait_for_exit(&mut self, timeout: Duration) -> bool {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.success();
            }
            assert!(
                started.elapsed() < timeout,
                "it does not end:\n{}",
                self.printed_output()
            );
            thread::park_timeout(POLL_INTERVAL);
        }
    }

    pub(crate) fn expect_success(&mut self, timeout: Duration) {
        assert!(self.wait_for_exit(timeout), "{}", self.printed_output());
    }

    /// Ends with a failure, and says why without a backtrace.
    pub(crate) fn expect_failure(&mut self, sentence: &str, timeout: Duration) {
        assert!(
            !self.wait_for_exit(timeout),
            "it succeeded:\n{}",
            self.printed_output()
        );
        self.wait_for_line(sentence, timeout);
        assert!(
            !self.printed_output().contains("panicked"),
            "{}",
            self.printed_output()
        );
    }

    /// SIGKILL: no handler runs, nothing is flushed.
    pub(crate) fn send_sigkill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for RunningOkraSync {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
