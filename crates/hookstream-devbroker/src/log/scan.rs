//! Reads the batches of a segment from front to back, in large pieces.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::batch::{BatchHeader, Fault, HEADER_BYTES, crc_fits};

/// What one read asks for: large enough that the call costs nothing, small enough to stay in the CPU's cache.
const CHUNK_BYTES: u64 = 1024 * 1024;

/// Why there is no further batch.
#[derive(Debug)]
pub(crate) enum ScanError {
    Io(io::Error),
    /// The bytes from here on are no batch.
    Corrupt {
        position: u64,
        fault: Fault,
    },
}

impl From<io::Error> for ScanError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A whole batch whose checksum fits.
#[derive(Debug)]
pub(crate) struct Scanned<'a> {
    pub(crate) position: u64,
    pub(crate) header: BatchHeader,
    pub(crate) bytes: &'a [u8],
}

/// Goes through the batches of a file.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    file: &'a File,
    /// Where the next batch starts.
    position: u64,
    end: u64,
    chunk: u64,
    buffer: Vec<u8>,
    buffer_start: u64,
    /// The next batch has at least this offset.
    expected: i64,
}

impl<'a> Scanner<'a> {
    /// Starts with the batch at `position`. Offsets below `expected` are a fault.
    pub(crate) fn new(file: &'a File, position: u64, end: u64, expected: i64) -> Self {
        Self { file, position, end, chunk: CHUNK_BYTES, buffer: Vec::new(), buffer_start: position, expected }
    }

    /// Reads less at once, for a look at a few batches.
    pub(crate) fn in_small_steps(self) -> Self {
        Self { chunk: 16 * 1024, ..self }
    }

    pub(crate) fn next_batch(&mut self) -> Result<Option<Scanned<'_>>, ScanError> {
        if self.position >= self.end {
            return Ok(None);
        }
        let position = self.position;
        let corrupt = |fault| ScanError::Corrupt { position, fault };
        let header = BatchHeader::parse(self.ahead(HEADER_BYTES)?).map_err(corrupt)?;
        let (size, available) = (bytes(header.size), self.end - position);
        if size > available {
            return Err(corrupt(Fault::Cut { size, available }));
        }
        let (base_offset, expected) = (header.base_offset, self.expected);
        if base_offset < expected {
            return Err(corrupt(Fault::Offset { base_offset, expected }));
        }
        self.ahead(header.size)?;
        let batch = &self.ahead_in_buffer()[..header.size];
        if !crc_fits(batch) {
            return Err(corrupt(Fault::Crc));
        }
        self.position = position + size;
        self.expected = header.last_offset().saturating_add(1);
        let start = index(position - self.buffer_start);
        Ok(Some(Scanned { position, header, bytes: &self.buffer[start..start + header.size] }))
    }

    /// What is in the buffer from the next batch on.
    fn ahead_in_buffer(&self) -> &[u8] {
        &self.buffer[index(self.position - self.buffer_start).min(self.buffer.len())..]
    }

    /// At least `count` bytes from the next batch on, or all there are.
    fn ahead(&mut self, count: usize) -> io::Result<&[u8]> {
        if self.ahead_in_buffer().len() < count {
            let wanted = bytes(count).max(self.chunk).min(self.end - self.position);
            self.buffer.resize(index(wanted), 0);
            self.file.read_exact_at(&mut self.buffer, self.position)?;
            self.buffer_start = self.position;
        }
        Ok(self.ahead_in_buffer())
    }
}

/// A size in memory as a size in a file.
pub(crate) fn bytes(count: usize) -> u64 {
    u64::try_from(count).expect("addresses have at most 64 bits")
}

/// A size in a file as one in memory, where it is known to fit.
pub(crate) fn index(count: u64) -> usize {
    usize::try_from(count).expect("what is read at once fits into memory")
}
