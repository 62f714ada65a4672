//! Standard output of the commands that print once: [`print_line`].

use std::io::Write;

/// Prints a line. A closed pipe is no reason for a command to fail.
pub(crate) fn print_line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}
