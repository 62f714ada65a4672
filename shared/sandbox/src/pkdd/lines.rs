//! The lines of the file and their fields: [`PkddLines`].
//!
//! Rule: a record is a line, whatever its quotes say. A quote that is never closed spoils its own row only, and the
//! number of a line is always right. That is why lines are split by `csv-core`: the reader of `csv` would read past
//! the end of a line to the closing quote.

use std::io::{BufRead, BufReader, Read};

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use super::error::{COLUMNS, MAX_LINE_BYTES, PkddRowErrorReason};

/// Some programs write this before the header.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Reads a line at a time and splits it into fields, without an allocation for each.
pub(super) struct PkddLines<R> {
    file: BufReader<R>,
    parser: Reader,
    line: Vec<u8>,
    /// The fields' bytes, one after the other, without quotes.
    text: Vec<u8>,
    /// Where each field ends in `text`.
    field_ends: [usize; COLUMNS.len()],
    field_count: usize,
    line_number: u64,
}

impl<R> std::fmt::Debug for PkddLines<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PkddLines")
            .field("number", &self.line_number)
            .finish_non_exhaustive()
    }
}

impl<R: Read> PkddLines<R> {
    pub(super) fn new(file: R) -> Self {
        Self {
            file: BufReader::new(file),
            parser: ReaderBuilder::new().delimiter(b';').build(),
            line: Vec::new(),
            text: Vec::new(),
            field_ends: [0; COLUMNS.len()],
            field_count: 0,
            line_number: 0,
        }
    }

    /// Reads the next line that is not blank; false at the end of the file.
    pub(super) fn read_line(&mut self) -> Result<bool, PkddRowErrorReason> {
        loop {
            self.line.clear();
            self.line_number += 1;
            let mut bounded = (&mut self.file).take(MAX_LINE_BYTES as u64 + 1);
            let read = bounded.read_until(b'\n', &mut self.line);
            match read.map_err(PkddRowErrorReason::UnreadableFile)? {
                0 => return Ok(false),
                length if length > MAX_LINE_BYTES => return Err(PkddRowErrorReason::LongLine),
                _ if self.line.trim_ascii().is_empty() => {}
                _ => return self.split_fields().map(|()| true),
            }
        }
    }

    fn split_fields(&mut self) -> Result<(), PkddRowErrorReason> {
        let line = match self.line.strip_prefix(BYTE_ORDER_MARK) {
            Some(rest) if self.line_number == 1 => rest,
            _ => &self.line,
        };
        self.text.resize(line.len(), 0);
        self.field_count = 0;
        self.parser.reset();
        let (mut read, mut written) = (0, 0);
        // The second call tells the parser that the input has ended, where the line has no line feed.
        for _ in 0..2 {
            let (result, bytes_in, bytes_out, ends) = self.parser.read_record(
                &line[read..],
                &mut self.text[written..],
                &mut self.field_ends[self.field_count..],
            );
            read += bytes_in;
            written += bytes_out;
            self.field_count += ends;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::Record | ReadRecordResult::End => break,
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    return Err(PkddRowErrorReason::ExtraColumn);
                }
            }
        }
        Ok(())
    }
}

impl<R> PkddLines<R> {
    /// The number of the line that was read last, from 1.
    pub(super) const fn line_number(&self) -> u64 {
        self.line_number
    }

    /// The fields of the line that was read last.
    pub(super) fn current_fields(&self) -> impl Iterator<Item = &[u8]> {
        let ends = &self.field_ends[..self.field_count];
        let starts = std::iter::once(0).chain(ends.iter().copied());
        starts
            .zip(ends)
            .filter_map(|(start, end)| self.text.get(start..*end))
    }
}
