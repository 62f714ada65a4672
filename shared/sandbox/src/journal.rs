//! Commands on disk, one JSON object a line, so that a killed bank forgets nothing it acknowledged.
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

use crate::{bank::PlayError, command::Command};

/// Name of the journal in the bank's folder.
pub const JOURNAL_FILE: &str = "sandbox.journal";
/// Bytes of one line at most, read or written.
const MAX_LINE_BYTES: u64 = 64 * 1024;

/// Why a bank cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The journal cannot be opened, read or cut.
    #[error("the sandbox bank's journal cannot be read")]
    Io(#[from] io::Error),
    /// Another process has it.
    #[error("the sandbox bank is open in another process")]
    Locked,
    /// The journal belongs to a bank with another seed, whose rows its edits are about.
    #[error("the sandbox bank was made with seed {made_with}")]
    Seed {
        /// The seed it was made with.
        made_with: u64,
    },
    /// A line is not what this version writes.
    #[error("line {line} of the sandbox bank's journal cannot be understood")]
    Line {
        /// Its number, from 1.
        line: u64,
        /// What is wrong with it, where it is JSON of another shape.
        source: Option<serde_json::Error>,
    },
    /// A command that was once played cannot be played again.
    #[error("line {line} of the sandbox bank's journal cannot be played again")]
    Replay {
        /// Its number, from 1.
        line: u64,
        /// Why.
        source: Box<PlayError>,
    },
}

#[derive(Serialize, Deserialize)]
struct Header {
    sandbox_journal: u32,
    seed: u64,
}

/// A command with the second it was played.
#[derive(Serialize, Deserialize)]
pub(crate) struct Entry<C> {
    pub(crate) at: Timestamp,
    pub(crate) play: C,
}

/// Version of the lines.
const VERSION: u32 = 1;

#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    /// Bytes of the whole lines in it.
    whole: u64,
}

impl Journal {
    /// Opens or makes the journal of a folder and hands out its commands in order.
    pub(crate) fn open(
        folder: &Path,
        seed: u64,
        mut play: impl FnMut(Entry<Command>) -> Result<(), PlayError>,
    ) -> Result<Self, OpenError> {
        std::fs::create_dir_all(folder)?;
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(folder.join(JOURNAL_FILE))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let mut lines = Lines::new(&file);
        if let Some(header) = lines.next()? {
            let header: Header = lines.parse(&header)?;
            if header.sandbox_journal != VERSION {
                return Err(lines.error(None));
            }
            if header.seed != seed {
                return Err(OpenError::Seed {
                    made_with: header.seed,
                });
            }
            while let Some(line) = lines.next()? {
                let entry = lines.parse(&line)?;
                play(entry).map_err(|source| OpenError::Replay {
                    line: lines.number,
                    source: Box::new(source),
                })?;
            }
        }
        let whole = lines.bytes;
        file.set_len(whole)?;
        let mut journal = Self { file, whole };
        if whole == 0 {
            journal.write(&Header {
                sandbox_journal: VERSION,
                seed,
            })?;
        }
        Ok(journal)
    }

    /// Adds a command.
    pub(crate) fn append(&mut self, at: Timestamp, command: &Command) -> io::Result<()> {
        self.write(&Entry { at, play: command })
    }

    fn write(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        if bytes.len() as u64 > MAX_LINE_BYTES {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // One call, so that a kill leaves a whole line or a prefix of one.
        if let Err(error) = self.file.write_all(&bytes) {
            // On a full disk a prefix may stand there now. The next line must not be glued to it.
            self.file.set_len(self.whole)?;
            return Err(error);
        }
        self.whole += bytes.len() as u64;
        Ok(())
    }
}

/// The whole lines of a file.
struct Lines<'a> {
    reader: BufReader<&'a File>,
    /// Bytes of the lines read so far.
    bytes: u64,
    number: u64,
}

impl<'a> Lines<'a> {
    fn new(file: &'a File) -> Self {
        Self {
            reader: BufReader::new(file),
            bytes: 0,
            number: 0,
        }
    }

    /// The next whole line; `None` at the end or where the rest is no whole line.
    fn next(&mut self) -> Result<Option<Vec<u8>>, OpenError> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.reader).take(MAX_LINE_BYTES);
        let read = bounded.read_until(b'\n', &mut line)? as u64;
        if line.last() != Some(&b'\n') {
            return if read == MAX_LINE_BYTES {
                self.number += 1;
                Err(self.error(None))
            } else {
                Ok(None)
            };
        }
        self.bytes += read;
        self.number += 1;
        Ok(Some(line))
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, line: &[u8]) -> Result<T, OpenError> {
        serde_json::from_slice(line).map_err(|source| self.error(Some(source)))
    }

    const fn error(&self, source: Option<serde_json::Error>) -> OpenError {
        OpenError::Line {
            line: self.number,
            source,
        }
    }
}
