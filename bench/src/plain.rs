//! The floor of a compile: its columns, already in memory, through the parquet crate.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use std::fs::File;
use std::path::Path;
use std::time::Instant;

type Failure = Box<dyn std::error::Error>;

fn batches(schedule: &Path) -> Result<Vec<RecordBatch>, Failure> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(schedule)?)?.with_batch_size(schedule::format::BATCH_ROWS).build()?;
    Ok(reader.collect::<Result<_, _>>()?)
}

/// Writes the columns of a schedule with the same properties. Returns the seconds of the writing alone.
pub fn write(schedule: &Path, output: &Path) -> Result<f64, Failure> {
    let batches = batches(schedule)?;
    let began = Instant::now();
    let options = ArrowWriterOptions::new().with_properties(schedule::writer_properties()).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(File::create(output)?, batches[0].schema(), options)?;
    batches.iter().try_for_each(|batch| writer.write(batch))?;
    writer.close()?;
    Ok(began.elapsed().as_secs_f64())
}

/// When the ops of a schedule are due, ns.
pub fn times_ns(schedule: &Path) -> Result<Vec<i64>, Failure> {
    let times = |batch: &RecordBatch| Some(batch.column_by_name("at_ns")?.as_primitive_opt::<Int64Type>()?.values().to_vec());
    Ok(batches(schedule)?.iter().filter_map(times).flatten().collect())
}
