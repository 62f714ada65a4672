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
const LOOK: Duration = Duration::from_millis(10);

/// A port whose two followers are free too. Each test process starts in another place, all below the
/// ports that systems give to outgoing connections (32,768 and above): one of these could take the
/// port of a process that was killed and is about to come back.
pub(crate) fn ports() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 10_000 + u16::try_from(std::process::id() % 1_800).unwrap() * 12;
    loop {
        let port = start + NEXT.fetch_add(3, Ordering::SeqCst) % 999;
        if (0..3).all(|n| std::net::TcpListener::bind(("127.0.0.1", port + n)).is_ok()) {
            return port;
        }
    }
}

/// Starts the binary.
pub(crate) fn okra_sync(arguments: &[&str]) -> Running {
    okra_sync_logging("error", arguments)
}

/// Starts the binary with logs of this level.
pub(crate) fn okra_sync_logging(level: &str, arguments: &[&str]) -> Running {
    let mut child = Command::new(env!("CARGO_BIN_EXE_okra-sync"))
        .env("RUST_LOG", level)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = Arc::new(Mutex::new(Vec::new()));
    follow(child.stdout.take().unwrap(), &lines);
    follow(child.stderr.take().unwrap(), &lines);
    Running { child, lines }
}

fn follow(stream: impl Read + Send + 'static, lines: &Arc<Mutex<Vec<String>>>) {
    let lines = Arc::clone(lines);
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            lines.lock().unwrap().push(line);
        }
    });
}

pub(crate) struct Running {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Running {
    pub(crate) fn printed(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    fn find(&self, text: &str) -> Option<String> {
        self.lines
            .lock()
            .unwrap()
            .iter()
            .find(|line| line.contains(text))
            .cloned()
    }

    /// Waits for a condition; false where the process ended before.
    pub(crate) fn until(
        &mut self,
        patience: Duration,
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
                started.elapsed() < patience,
                "waited too long:\n{}",
                self.printed()
            );
            thread::park_timeout(LOOK);
        }
    }

    /// Waits for a line that contains the text, and gives it.
    pub(crate) fn wait_for(&mut self, text: &str, patience: Duration) -> String {
        let lines = Arc::clone(&self.lines);
        let contains = move || lines.lock().unwrap().iter().any(|line| line.contains(text));
        let started = Instant::now();
        // After its end, what is still in the pipes is read.
        while !self.until(patience, &contains) && started.elapsed() < Duration::from_secs(5) {
            thread::park_timeout(LOOK);
        }
        self.find(text)
            .unwrap_or_else(|| panic!("no line with {text:?}:\n{}", self.printed()))
    }

    pub(crate) fn line_with(&mut self, text: &str) -> String {
        self.wait_for(text, Duration::from_secs(60))
    }

    fn end(&mut self, patience: Duration) -> bool {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.success();
            }
            assert!(
                started.elapsed() < patience,
                "it does not end:\n{}",
                self.printed()
            );
            thread::park_timeout(LOOK);
        }
    }

    pub(crate) fn succeeds(&mut self, patience: Duration) {
        assert!(self.end(patience), "{}", self.printed());
    }

    /// Ends with a failure, and says why without a backtrace.
    pub(crate) fn fails_with(&mut self, sentence: &str, patience: Duration) {
        assert!(!self.end(patience), "it succeeded:\n{}", self.printed());
        self.wait_for(sentence, patience);
        assert!(!self.printed().contains("panicked"), "{}", self.printed());
    }

    /// SIGKILL: no handler runs, nothing is flushed.
    pub(crate) fn kill_9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
