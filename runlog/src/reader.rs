use crate::Error;
use crate::table::Table;
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::kernels::aggregate::{max, min};
use arrow::datatypes::Int64Type;
use arrow::ipc::reader::StreamReader;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::statistics::Statistics;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// A part of a log that is read at once: a Parquet row group, or an IPC segment that was not yet converted.
#[derive(Debug, Clone)]
pub struct Chunk {
    path: PathBuf,
    row_group: Option<usize>,
    /// Number of rows.
    pub rows: usize,
    /// Smallest op; 0 in a log without ops.
    pub min_op: i64,
    /// Largest op; 0 in a log without ops.
    pub max_op: i64,
}

/// The chunks of a log, in the order written. A log that never had a row has none.
///
/// # Errors
/// [`Error::Io`] when the folder cannot be read, [`Error::Damaged`] when a file holds something else.
pub fn chunks<T: Table>(dir: &Path) -> Result<Vec<Chunk>, Error> {
    let mut segments: BTreeMap<String, PathBuf> = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io(dir))? {
        let path = entry.map_err(Error::io(dir))?.path();
        let (Some(stem), Some(extension)) = (path.file_stem().and_then(|s| s.to_str()), path.extension().and_then(|e| e.to_str())) else {
            continue;
        };
        let ours = stem.strip_prefix(T::NAME).and_then(|s| s.strip_prefix('-')).is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
        // A Parquet file exists under its name only when it is whole, and then wins over its twin.
        if ours && (extension == "parquet" || extension == "arrow" && !path.with_extension("parquet").exists()) {
            segments.insert(stem.to_owned(), path);
        }
    }
    let mut all = Vec::new();
    for path in segments.into_values() {
        if path.extension().is_some_and(|e| e == "parquet") {
            parquet_chunks::<T>(&path, &mut all)?
        } else {
            ipc_chunk::<T>(&path, &mut all)?
        }
    }
    Ok(all)
}

fn open_parquet(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>, Error> {
    let file = File::open(path).map_err(Error::io(path))?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| Error::damaged(path, format!("is not a readable Parquet file: {e}")))
}

fn parquet_chunks<T: Table>(path: &Path, all: &mut Vec<Chunk>) -> Result<(), Error> {
    let builder = open_parquet(path)?;
    for (index, group) in builder.metadata().row_groups().iter().enumerate() {
        let op = group.columns().iter().find(|c| c.column_path().string() == "op");
        let (min_op, max_op) = match op.and_then(|c| c.statistics()) {
            Some(Statistics::Int64(s)) => (s.min_opt().copied().unwrap_or(i64::MIN), s.max_opt().copied().unwrap_or(i64::MAX)),
            _ if T::HAS_OP => (i64::MIN, i64::MAX),
            _ => (0, 0),
        };
        all.push(Chunk { path: path.to_owned(), row_group: Some(index), rows: group.num_rows() as usize, min_op, max_op });
    }
    Ok(())
}

fn ipc_chunk<T: Table>(path: &Path, all: &mut Vec<Chunk>) -> Result<(), Error> {
    let (mut rows, mut min_op, mut max_op) = (0, i64::MAX, i64::MIN);
    for_each_ipc_batch(path, |batch| {
        rows += batch.num_rows();
        if let Some(op) = batch.column_by_name("op").and_then(|c| c.as_primitive_opt::<Int64Type>()) {
            min_op = min_op.min(min(op).unwrap_or(i64::MAX));
            max_op = max_op.max(max(op).unwrap_or(i64::MIN));
        }
        Ok(())
    })?;
    if rows > 0 {
        let (min_op, max_op) = if T::HAS_OP { (min_op, max_op) } else { (0, 0) };
        all.push(Chunk { path: path.to_owned(), row_group: None, rows, min_op, max_op });
    }
    Ok(())
}

/// Every whole batch of an IPC stream, which may be cut anywhere.
pub(crate) fn for_each_ipc_batch(path: &Path, mut visit: impl FnMut(RecordBatch) -> Result<(), Error>) -> Result<(), Error> {
    let file = File::open(path).map_err(Error::io(path))?;
    // Cut before its schema was whole: an empty log.
    let Ok(stream) = StreamReader::try_new(BufReader::new(file), None) else { return Ok(()) };
    for batch in stream {
        let Ok(batch) = batch else { break };
        visit(batch)?;
    }
    Ok(())
}

impl Chunk {
    /// Decodes the chunk.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the file holds something else, or lacks a column.
    pub fn read<T: Table>(&self) -> Result<Vec<T::Columns>, Error> {
        let mut columns = Vec::new();
        let mut add = |batch: RecordBatch| {
            columns.push(
                T::columns(&batch)
                    .map_err(|name| Error::damaged(&self.path, format!("has no column {name} of the type it should have")))?,
            );
            Ok(())
        };
        match self.row_group {
            None => for_each_ipc_batch(&self.path, add)?,
            Some(group) => {
                let damaged = |e: &dyn std::fmt::Display| Error::damaged(&self.path, format!("cannot be decoded: {e}"));
                let reader =
                    open_parquet(&self.path)?.with_row_groups(vec![group]).with_batch_size(16 * 1024).build().map_err(|e| damaged(&e))?;
                for batch in reader {
                    add(batch.map_err(|e| damaged(&e))?)?;
                }
            }
        }
        Ok(columns)
    }
}
