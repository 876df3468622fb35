use crate::Error;
use crate::cell::Text;
use crate::table::Table;
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::kernels::aggregate::{max, min};
use arrow::datatypes::{DataType, FieldRef, Fields, Int64Type, Schema};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::root_as_message;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::statistics::Statistics;
use schedule::{ParquetFile, contain};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows of a decoded batch.
const BATCH_ROWS: usize = 16 * 1024;

/// A part of a log that is read at once: a Parquet row group, or an IPC segment that was not yet converted.
#[derive(Debug, Clone)]
pub struct Chunk {
    path: PathBuf,
    row_group: Option<(usize, ArrowReaderMetadata)>,
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

fn footer(path: &Path) -> Result<ArrowReaderMetadata, Error> {
    let file = File::open(path).and_then(ParquetFile::new).map_err(Error::io(path))?;
    let bad = |what: String| Error::damaged(path, format!("is not a readable Parquet file: {what}"));
    contain(|| ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())).map_err(bad)?.map_err(|e| bad(e.to_string()))
}

/// Texts that a row group has as a dictionary are asked for as such, but for a column that is nothing but nulls: it decodes
/// in no time as plain text, and a hundred times slower as a dictionary (arrow-rs 60).
fn with_dictionaries(footer: &ArrowReaderMetadata, group: usize) -> Result<ArrowReaderMetadata, ParquetError> {
    let columns = footer.metadata().row_group(group).columns();
    let nulls = |c: &ColumnChunkMetaData| c.statistics().and_then(|s| s.null_count_opt()).unwrap_or(0);
    let useful = |c: &ColumnChunkMetaData| c.dictionary_page_offset().is_some() && nulls(c) < c.num_values() as u64;
    let has_dictionary = |name: &str| columns.iter().any(|c| c.column_path().string() == name && useful(c));
    let as_dictionary = |field: &FieldRef| match field.data_type() {
        DataType::Utf8 if has_dictionary(field.name()) => Arc::new(field.as_ref().clone().with_data_type(Text::data_type())),
        _ => field.clone(),
    };
    let schema = Schema::new(footer.schema().fields().iter().map(as_dictionary).collect::<Fields>());
    ArrowReaderMetadata::try_new(footer.metadata().clone(), ArrowReaderOptions::new().with_schema(schema.into()))
}

fn parquet_chunks<T: Table>(path: &Path, all: &mut Vec<Chunk>) -> Result<(), Error> {
    let footer = footer(path)?;
    for (index, group) in footer.metadata().row_groups().iter().enumerate() {
        let op = group.columns().iter().find(|c| c.column_path().string() == "op");
        let (min_op, max_op) = match op.and_then(|c| c.statistics()) {
            Some(Statistics::Int64(s)) => (s.min_opt().copied().unwrap_or(i64::MIN), s.max_opt().copied().unwrap_or(i64::MAX)),
            _ if T::HAS_OP => (i64::MIN, i64::MAX),
            _ => (0, 0),
        };
        all.push(Chunk {
            path: path.to_owned(),
            row_group: Some((index, footer.clone())),
            rows: group.num_rows() as usize,
            min_op,
            max_op,
        });
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
    let mut file = File::open(path).map_err(Error::io(path))?;
    let whole = whole_messages(&mut file).map_err(Error::io(path))?;
    // Cut before its schema was whole: an empty log.
    let Ok(Ok(mut stream)) = contain(|| StreamReader::try_new(BufReader::new(file.take(whole)), None)) else { return Ok(()) };
    while let Ok(Some(Ok(batch))) = contain(|| stream.next()) {
        visit(batch)?;
    }
    Ok(())
}

/// Bytes of an IPC stream up to the last message that is there with all its body: a decoder takes a message's word for how
/// long it is. The format: <https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format>.
fn whole_messages(file: &mut File) -> std::io::Result<u64> {
    const PREFIX: u64 = 8;
    let size = file.metadata()?.len();
    let mut end = 0;
    while end + PREFIX <= size {
        let mut prefix = [0; PREFIX as usize];
        file.seek(SeekFrom::Start(end))?;
        file.read_exact(&mut prefix)?;
        let (marker, length) = (&prefix[..4], u64::from(u32::from_le_bytes([prefix[4], prefix[5], prefix[6], prefix[7]])));
        if marker != [0xff; 4] || length == 0 || end + PREFIX + length > size {
            break;
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header)?;
        let Some(body) = root_as_message(&header).ok().and_then(|message| u64::try_from(message.bodyLength()).ok()) else { break };
        let Some(next) = (end + PREFIX + length).checked_add(body).filter(|next| *next <= size) else { break };
        end = next;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(end)
}

impl Chunk {
    /// The error that its file holds something that cannot be.
    pub fn damaged(&self, what: impl ToString) -> Error {
        Error::damaged(&self.path, what)
    }

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
        let found = contain(|| self.decode::<T>(&mut add));
        found.map_err(|what| self.damaged(format!("cannot be decoded: {what}")))??;
        Ok(columns)
    }

    fn decode<T: Table>(&self, mut add: impl FnMut(RecordBatch) -> Result<(), Error>) -> Result<(), Error> {
        match &self.row_group {
            None => for_each_ipc_batch(&self.path, add)?,
            Some((group, footer)) => {
                let damaged = |e: &dyn std::fmt::Display| Error::damaged(&self.path, format!("cannot be decoded: {e}"));
                let file = File::open(&self.path).and_then(ParquetFile::new).map_err(Error::io(&self.path))?;
                let names = T::schema().fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>();
                let wanted = ProjectionMask::columns(footer.parquet_schema(), names.iter().map(String::as_str));
                let footer = with_dictionaries(footer, *group).map_err(|e| damaged(&e))?;
                let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, footer)
                    .with_projection(wanted)
                    .with_row_groups(vec![*group])
                    .with_batch_size(BATCH_ROWS)
                    .build()
                    .map_err(|e| damaged(&e))?;
                for batch in reader {
                    add(batch.map_err(|e| damaged(&e))?)?;
                }
            }
        }
        Ok(())
    }
}
