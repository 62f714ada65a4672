//! The [`Journal`]: commands on disk, one JSON object a line, so that a killed bank forgets nothing it acknowledged.
//!
//! A line is handed to the operating system before its command is acknowledged: it outlives the
//! process, and a power cut may cost the last seconds. A last line without its line feed was being
//! written when the process died; its command was never acknowledged, and it is cut off.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, BufRead, BufReader, Read, Write},
    path::Path,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::CommandError;
use crate::command::SandboxCommand;

/// Name of the journal in the bank's folder.
pub const JOURNAL_FILE: &str = "sandbox.journal";
/// Most bytes of one line, read or written.
const MAX_LINE_BYTES: u64 = 64 * 1024;

/// Why a bank cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SandboxOpenError {
    /// The journal cannot be opened, read or truncated.
    #[error("the sandbox bank's journal cannot be read")]
    Io(#[from] io::Error),
    /// Another process has the folder open.
    #[error("the sandbox bank is open in another process")]
    Locked,
    /// The journal belongs to a bank with another seed: its edits are about rows that this bank does not have.
    #[error("the sandbox bank's journal was made with seed {made_with}")]
    SeedMismatch {
        /// The seed it was made with.
        made_with: u64,
    },
    /// A line is not what this version writes.
    #[error("line {line} of the sandbox bank's journal cannot be understood")]
    UnreadableLine {
        /// Its number, from 1.
        line: u64,
        /// What is wrong with it, where it is JSON of another shape.
        source: Option<serde_json::Error>,
    },
    /// A command that was executed before cannot be executed again.
    #[error("line {line} of the sandbox bank's journal cannot be executed again")]
    ReplayFailed {
        /// Its number, from 1.
        line: u64,
        /// Why.
        source: Box<CommandError>,
    },
}

#[derive(Serialize, Deserialize)]
struct JournalHeader {
    #[serde(rename = "sandbox_journal")]
    format_version: u32,
    seed: u64,
}

/// A command with the second at which it was executed.
#[derive(Serialize, Deserialize)]
pub(crate) struct JournalEntry<C> {
    #[serde(rename = "at")]
    pub(crate) executed_at: Timestamp,
    #[serde(rename = "play")]
    pub(crate) command: C,
}

/// Version of the lines.
const FORMAT_VERSION: u32 = 1;

#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    /// Bytes of the complete lines in it.
    complete_bytes: u64,
}

impl Journal {
    /// Opens or creates the journal of a folder, and passes its commands to `replay_entry` in order.
    pub(crate) fn open_journal(
        folder: &Path,
        seed: u64,
        mut replay_entry: impl FnMut(JournalEntry<SandboxCommand>) -> Result<(), CommandError>,
    ) -> Result<Self, SandboxOpenError> {
        std::fs::create_dir_all(folder)?;
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(folder.join(JOURNAL_FILE))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SandboxOpenError::Locked),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let mut lines = JournalLines::new(&file);
        if let Some(header) = lines.next_line()? {
            let header: JournalHeader = lines.parse_line(&header)?;
            if header.format_version != FORMAT_VERSION {
                return Err(lines.line_error(None));
            }
            if header.seed != seed {
                return Err(SandboxOpenError::SeedMismatch {
                    made_with: header.seed,
                });
            }
            while let Some(line) = lines.next_line()? {
                let entry = lines.parse_line(&line)?;
                replay_entry(entry).map_err(|source| SandboxOpenError::ReplayFailed {
                    line: lines.line_number,
                    source: Box::new(source),
                })?;
            }
        }
        let complete_bytes = lines.read_bytes;
        file.set_len(complete_bytes)?;
        let mut journal = Self {
            file,
            complete_bytes,
        };
        if complete_bytes == 0 {
            journal.write_line(&JournalHeader {
                format_version: FORMAT_VERSION,
                seed,
            })?;
        }
        Ok(journal)
    }

    /// Adds a command.
    pub(crate) fn append_command(
        &mut self,
        executed_at: Timestamp,
        command: &SandboxCommand,
    ) -> io::Result<()> {
        self.write_line(&JournalEntry {
            executed_at,
            command,
        })
    }

    fn write_line(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        if bytes.len() as u64 > MAX_LINE_BYTES {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // One call, so that a kill leaves a whole line or a prefix of one.
        if let Err(error) = self.file.write_all(&bytes) {
            // On a full disk a prefix may stand there now. The next line must not be glued to it.
            self.file.set_len(self.complete_bytes)?;
            return Err(error);
        }
        self.complete_bytes += bytes.len() as u64;
        Ok(())
    }
}

/// The complete lines of a file.
struct JournalLines<'a> {
    reader: BufReader<&'a File>,
    /// Bytes of the lines read so far.
    read_bytes: u64,
    line_number: u64,
}

impl<'a> JournalLines<'a> {
    fn new(file: &'a File) -> Self {
        Self {
            reader: BufReader::new(file),
            read_bytes: 0,
            line_number: 0,
        }
    }

    /// The next complete line; `None` at the end, or where the last line was cut off.
    fn next_line(&mut self) -> Result<Option<Vec<u8>>, SandboxOpenError> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.reader).take(MAX_LINE_BYTES);
        let read = bounded.read_until(b'\n', &mut line)? as u64;
        if line.last() != Some(&b'\n') {
            return if read == MAX_LINE_BYTES {
                self.line_number += 1;
                Err(self.line_error(None))
            } else {
                Ok(None)
            };
        }
        self.read_bytes += read;
        self.line_number += 1;
        Ok(Some(line))
    }

    fn parse_line<T: serde::de::DeserializeOwned>(
        &self,
        line: &[u8],
    ) -> Result<T, SandboxOpenError> {
        serde_json::from_slice(line).map_err(|source| self.line_error(Some(source)))
    }

    const fn line_error(&self, source: Option<serde_json::Error>) -> SandboxOpenError {
        SandboxOpenError::UnreadableLine {
            line: self.line_number,
            source,
        }
    }
}
