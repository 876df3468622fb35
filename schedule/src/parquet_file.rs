use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A file for the parquet crate whose end is an error to read beyond. With a plain [`File`] a damaged page header of a few
/// bytes has the decoder skip two thousand million things that are not there, asking the system for each (found by
/// fuzzing parquet 60).
#[derive(Debug, Clone)]
pub struct ParquetFile {
    file: Arc<File>,
    len: u64,
}

impl ParquetFile {
    /// # Errors
    /// The system does not say how long the file is.
    pub fn new(file: File) -> io::Result<ParquetFile> {
        Ok(ParquetFile { len: file.metadata()?.len(), file: Arc::new(file) })
    }
}

impl Length for ParquetFile {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for ParquetFile {
    type T = BufReader<Within>;

    fn get_read(&self, start: u64) -> Result<BufReader<Within>> {
        Ok(BufReader::new(Within { file: self.file.clone(), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.len) {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} lie beyond the end of the file")));
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(bytes.into())
    }
}

/// Reads from a place on; nothing more to read is an error.
#[derive(Debug)]
pub struct Within {
    file: Arc<File>,
    at: u64,
}

impl Read for Within {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.file.read_at(out, self.at)? {
            0 if !out.is_empty() => Err(ErrorKind::UnexpectedEof.into()),
            n => {
                self.at += n as u64;
                Ok(n)
            }
        }
    }
}
