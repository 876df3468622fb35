use crate::table::Table;
use crate::{Error, reader};
use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use arrow::ipc::writer::StreamWriter;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Encoding;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use std::fs::File;
use std::io::BufWriter;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;

/// Most rows of a Parquet row group.
pub const ROW_GROUP_ROWS: usize = 128 * 1024;
/// Rows after which a segment is closed.
const SEGMENT_ROWS: usize = 8 * ROW_GROUP_ROWS;
/// Rows of an IPC batch between flushes.
const BATCH_ROWS: usize = 16 * 1024;

/// Converts closed segments to Parquet, on a thread of low priority.
pub struct Sealer {
    queue: mpsc::Sender<Job>,
    thread: JoinHandle<Result<(), Error>>,
}

type Job = Box<dyn FnOnce() -> Result<(), Error> + Send>;

impl Sealer {
    /// Starts the thread.
    pub fn start() -> Sealer {
        let (queue, jobs) = mpsc::channel::<Job>();
        let thread = std::thread::Builder::new().name("sealer".into()).spawn(move || {
            // Priority is a wish: a sealer of normal priority still seals.
            let _ = rustix::process::setpriority_process(None, 19);
            jobs.into_iter().map(|job| job()).fold(Ok(()), Result::and)
        });
        Sealer { queue, thread: thread.expect("the system gives a thread") }
    }

    /// Waits for every segment given to it.
    ///
    /// # Errors
    /// The first conversion that failed; its IPC segment is still there.
    pub fn finish(self) -> Result<(), Error> {
        drop(self.queue);
        self.thread.join().expect("the sealer does not panic")
    }
}

/// Appends rows of one log.
pub struct LogWriter<T: Table> {
    dir: PathBuf,
    seal: mpsc::Sender<Job>,
    builder: T::Builder,
    buffered: usize,
    segment: Option<Segment>,
    sequence: u32,
    table: PhantomData<T>,
}

struct Segment {
    path: PathBuf,
    ipc: StreamWriter<BufWriter<File>>,
    rows: usize,
}

impl<T: Table> LogWriter<T> {
    /// A log in folder `dir`; its first file appears with its first row.
    pub fn create(dir: &Path, sealer: &Sealer) -> LogWriter<T> {
        LogWriter {
            dir: dir.to_owned(),
            seal: sealer.queue.clone(),
            builder: T::Builder::default(),
            buffered: 0,
            segment: None,
            sequence: 0,
            table: PhantomData,
        }
    }

    /// Appends a row; it is on file after the next [`LogWriter::flush`].
    ///
    /// # Errors
    /// [`Error`] when the disk is full.
    pub fn push(&mut self, row: T) -> Result<(), Error> {
        row.append(&mut self.builder);
        self.buffered += 1;
        if self.buffered == BATCH_ROWS { self.write_batch() } else { Ok(()) }
    }

    fn write_batch(&mut self) -> Result<(), Error> {
        if self.buffered == 0 {
            return Ok(());
        }
        if self.segment.is_none() {
            self.sequence += 1;
            self.segment = Some(Segment::create::<T>(&self.dir, self.sequence)?);
        }
        let batch = T::take(&mut self.builder);
        let segment = self.segment.as_mut().expect("just opened");
        segment.ipc.write(&batch).map_err(|e| Error::damaged(&segment.path, format!("cannot be written: {e}")))?;
        segment.rows += std::mem::take(&mut self.buffered);
        if segment.rows >= SEGMENT_ROWS { self.seal() } else { Ok(()) }
    }

    /// Hands everything pushed so far to the system.
    ///
    /// # Errors
    /// [`Error`] when the disk is full.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.write_batch()?;
        match &mut self.segment {
            Some(segment) => segment.ipc.flush().map_err(|e| Error::damaged(&segment.path, format!("cannot be written: {e}"))),
            None => Ok(()),
        }
    }

    fn seal(&mut self) -> Result<(), Error> {
        let Some(mut segment) = self.segment.take() else { return Ok(()) };
        segment.ipc.finish().map_err(|e| Error::damaged(&segment.path, format!("cannot be written: {e}")))?;
        let path = segment.path;
        // A sealer that is gone leaves the IPC file, which reads as well.
        let _ = self.seal.send(Box::new(move || to_parquet::<T>(&path)));
        Ok(())
    }

    /// Closes the last segment.
    ///
    /// # Errors
    /// [`Error`] when the disk is full.
    pub fn close(mut self) -> Result<(), Error> {
        self.write_batch()?;
        self.seal()
    }
}

impl Segment {
    fn create<T: Table>(dir: &Path, sequence: u32) -> Result<Segment, Error> {
        let path = dir.join(format!("{}-{sequence:06}.arrow", T::NAME));
        let file = File::create(&path).map_err(Error::io(&path))?;
        let ipc = StreamWriter::try_new(BufWriter::new(file), &T::schema()).map_err(|e| Error::damaged(&path, e))?;
        Ok(Segment { path, ipc, rows: 0 })
    }
}

/// Converts a closed IPC segment; the IPC file goes when the Parquet file is whole.
fn to_parquet<T: Table>(ipc: &Path) -> Result<(), Error> {
    let (part, done) = (ipc.with_extension("parquet.tmp"), ipc.with_extension("parquet"));
    let file = File::create(&part).map_err(Error::io(&part))?;
    let options = ArrowWriterOptions::new().with_properties(properties::<T>()).with_skip_arrow_metadata(true);
    let failed = |e: parquet::errors::ParquetError| Error::damaged(&part, format!("cannot be written: {e}"));
    let mut parquet = ArrowWriter::try_new_with_options(BufWriter::new(file), T::schema(), options).map_err(failed)?;
    reader::for_each_ipc_batch(ipc, |batch: RecordBatch| parquet.write(&batch).map_err(failed))?;
    parquet.close().map_err(failed)?;
    std::fs::rename(&part, &done).map_err(Error::io(&done))?;
    std::fs::remove_file(ipc).map_err(Error::io(ipc))
}

fn properties<T: Table>() -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_encoding(Encoding::PLAIN)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_statistics_enabled(EnabledStatistics::None);
    for field in T::schema().fields() {
        let name = field.name().as_str();
        match field.data_type() {
            DataType::Utf8 | DataType::UInt8 | DataType::UInt16 => {
                properties = properties.set_column_dictionary_enabled(name.into(), true);
                // A reader should know a column that is nothing but nulls.
                if field.is_nullable() {
                    properties = properties.set_column_statistics_enabled(name.into(), EnabledStatistics::Chunk);
                }
            }
            DataType::Int64 | DataType::UInt32 | DataType::UInt64 => {
                properties = properties
                    .set_column_encoding(name.into(), Encoding::DELTA_BINARY_PACKED)
                    .set_column_statistics_enabled(name.into(), EnabledStatistics::Chunk);
            }
            _ => {}
        }
    }
    properties.build()
}
