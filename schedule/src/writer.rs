use crate::format::{self, BATCH_ROWS, ROW_GROUP_BYTES, ROW_GROUP_ROWS};
use crate::{Bind, Error, Gate, Meta, Operation, Slot};
use arrow::array::{
    ArrayRef, BinaryBuilder, Int64Array, Int64Builder, ListArray, RecordBatch, StringArray, StringBuilder, StructArray, UInt8Array,
    UInt16Array, UInt32Array, UInt32Builder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a writer has seen so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Rows.
    pub rows: i64,
    /// Subjects, headers and payloads, bytes.
    pub bytes: u64,
    /// Most rows in any whole second of the schedule.
    pub peak_in_a_second: u64,
}

/// Streams operations into a schedule file. The file appears under its name only when [`Writer::finish`] succeeds.
pub struct Writer {
    path: PathBuf,
    part: PathBuf,
    parquet: ArrowWriter<BufWriter<File>>,
    columns: Columns,
    totals: Totals,
    group_bytes: usize,
    second: (i64, u64),
}

impl Writer {
    /// Starts a file beside `path`.
    ///
    /// # Errors
    /// [`Error::Write`] when the folder is not writable.
    pub fn create(path: &Path) -> Result<Writer, Error> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let part = path.with_file_name(name);
        let file = File::create(&part).map_err(|source| Error::Write { path: path.to_owned(), source })?;
        let options = ArrowWriterOptions::new().with_properties(writer_properties()).with_skip_arrow_metadata(true);
        let parquet = ArrowWriter::try_new_with_options(BufWriter::new(file), format::schema(), options).map_err(encode(path))?;
        Ok(Writer {
            path: path.to_owned(),
            part,
            parquet,
            columns: Columns::default(),
            totals: Totals::default(),
            group_bytes: 0,
            second: (i64::MIN, 0),
        })
    }

    /// Appends the next row and returns its op.
    ///
    /// # Errors
    /// [`Error::BadRow`] when the row is not in order, [`Error::Encode`] when the disk is full.
    pub fn push(&mut self, operation: &Operation) -> Result<i64, Error> {
        let op = self.totals.rows;
        if operation.at_ns < self.columns.last_at_ns {
            return Err(Error::BadRow { path: self.path.clone(), row: op, what: "at_ns goes backwards".into() });
        }
        let second = operation.at_ns / 1_000_000_000;
        self.second = if self.second.0 == second { (second, self.second.1 + 1) } else { (second, 1) };
        self.totals.peak_in_a_second = self.totals.peak_in_a_second.max(self.second.1);
        self.totals.rows += 1;
        self.columns.push(op, operation);
        if self.columns.op.len() == BATCH_ROWS {
            self.write_batch()?;
        }
        Ok(op)
    }

    fn write_batch(&mut self) -> Result<(), Error> {
        self.group_bytes += self.columns.bytes;
        self.totals.bytes += self.columns.bytes as u64;
        let batch = self.columns.take();
        self.parquet.write(&batch).map_err(encode(&self.path))?;
        if self.group_bytes >= ROW_GROUP_BYTES || self.parquet.in_progress_rows() >= ROW_GROUP_ROWS {
            self.parquet.flush().map_err(encode(&self.path))?;
            self.group_bytes = 0;
        }
        Ok(())
    }

    /// What was written so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Writes the rest and the metadata, and gives the file its name. Rows, duration and rates of `meta` are filled in
    /// from what was written.
    ///
    /// # Errors
    /// [`Error::Encode`] or [`Error::Write`].
    pub fn finish(mut self, mut meta: Meta, duration_ns: i64) -> Result<Meta, Error> {
        self.write_batch()?;
        let seconds = duration_ns as f64 / 1e9;
        meta.rows = self.totals.rows;
        meta.duration_ns = duration_ns;
        meta.nominal_rate_per_sec = if duration_ns > 0 { meta.rows as f64 / seconds } else { 0.0 };
        meta.peak_rate_per_sec = self.totals.peak_in_a_second as f64;
        let json = serde_json::to_string(&meta).expect("metadata is plain data");
        self.parquet.append_key_value_metadata(KeyValue::new(format::META_KEY.into(), json));
        self.parquet.close().map_err(encode(&self.path))?;
        std::fs::rename(&self.part, &self.path).map_err(|source| Error::Write { path: self.path.clone(), source })?;
        Ok(meta)
    }
}

fn encode(path: &Path) -> impl Fn(parquet::errors::ParquetError) -> Error + '_ {
    move |e| Error::Encode { path: path.to_owned(), detail: e.to_string() }
}

/// How a schedule file is encoded.
pub fn writer_properties() -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_encoding(Encoding::PLAIN)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_created_by(format!("retempo schedule {}", crate::FORMAT));
    let mut numbers =
        vec!["op".to_owned(), "at_ns".into(), "session".into(), "action".into(), "opens".into(), "key".into(), "audience".into()];
    for (list, fields) in [("slots", format::slot_fields()), ("expect", format::expect_fields())] {
        numbers.extend(fields.iter().map(|f| format!("{list}.list.item.{}", f.name())));
    }
    numbers.extend(format::gate_fields().iter().map(|f| format!("gate.{}", f.name())));
    numbers.extend(["slot", "op", "answer", "convert"].iter().map(|f| format!("binds.list.item.{f}")));
    // Statistics tell a reader which columns hold nothing but nulls.
    for column in numbers {
        let path = ColumnPath::new(column.split('.').map(str::to_owned).collect());
        properties = properties
            .set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED)
            .set_column_statistics_enabled(path, EnabledStatistics::Chunk);
    }
    let text = ["target", "payload", "bucket", "headers.list.item.name", "headers.list.item.value", "binds.list.item.pointer"];
    for column in text {
        let path = ColumnPath::new(column.split('.').map(str::to_owned).collect());
        let zstd = Compression::ZSTD(ZstdLevel::try_new(1).expect("1 is a level"));
        let statistics = if matches!(column, "target" | "payload") { EnabledStatistics::None } else { EnabledStatistics::Chunk };
        properties = properties
            .set_column_compression(path.clone(), zstd)
            .set_column_dictionary_enabled(path.clone(), column != "payload")
            .set_column_statistics_enabled(path, statistics);
    }
    properties.build()
}

/// Offsets (and validity) of a list column under construction.
struct ListOffsets {
    offsets: Vec<i32>,
    valid: Vec<bool>,
}

impl Default for ListOffsets {
    fn default() -> Self {
        ListOffsets { offsets: vec![0], valid: Vec::new() }
    }
}

impl ListOffsets {
    fn end_row(&mut self, items: usize) {
        let last = self.offsets.last().copied().unwrap_or(0);
        self.offsets.push(last + items as i32);
        self.valid.push(items > 0);
    }

    fn array(self, fields: Fields, columns: Vec<ArrayRef>, nullable: bool) -> ArrayRef {
        let items = StructArray::new(fields.clone(), columns, None);
        let field = Arc::new(Field::new("item", DataType::Struct(fields), false));
        let nulls = nullable.then(|| NullBuffer::from(self.valid));
        Arc::new(ListArray::new(field, OffsetBuffer::new(self.offsets.into()), Arc::new(items), nulls))
    }
}

/// One batch under construction, a vector per leaf column.
#[derive(Default)]
struct Columns {
    last_at_ns: i64,
    bytes: usize,
    op: Vec<i64>,
    at_ns: Vec<i64>,
    session: Vec<u32>,
    action: Vec<u16>,
    target: StringBuilder,
    headers: ListOffsets,
    header_name: Vec<String>,
    header_value: Vec<String>,
    payload: BinaryBuilder,
    slots: ListOffsets,
    slot: Vec<Slot>,
    gate: Vec<Option<Gate>>,
    binds: ListOffsets,
    bind: Vec<Bind>,
    opens: Vec<u32>,
    expect: ListOffsets,
    expect_answer: Vec<u8>,
    expect_count: UInt32Builder,
    key: Int64Builder,
    bucket: StringBuilder,
    audience: UInt32Builder,
}

impl Columns {
    fn push(&mut self, op: i64, row: &Operation) {
        self.last_at_ns = row.at_ns;
        self.bytes += row.target.len() + row.payload.len();
        self.op.push(op);
        self.at_ns.push(row.at_ns);
        self.session.push(row.session);
        self.action.push(row.action);
        self.target.append_value(&row.target);
        self.payload.append_value(&row.payload);
        for (name, value) in &row.headers {
            self.bytes += name.len() + value.len();
            self.header_name.push(name.clone());
            self.header_value.push(value.clone());
        }
        self.headers.end_row(row.headers.len());
        self.slot.extend_from_slice(&row.slots);
        self.slots.end_row(row.slots.len());
        self.gate.push(row.gate);
        self.bind.extend_from_slice(&row.binds);
        self.binds.end_row(row.binds.len());
        self.opens.push(row.opens);
        for e in &row.expect {
            self.expect_answer.push(e.answer);
            self.expect_count.append_option(e.count);
        }
        self.expect.end_row(row.expect.len());
        self.key.append_option(row.key);
        self.bucket.append_option(row.bucket.as_deref());
        self.audience.append_option(row.audience);
    }

    fn take(&mut self) -> RecordBatch {
        let mut c = std::mem::replace(self, Columns { last_at_ns: self.last_at_ns, ..Columns::default() });
        let i64s = |v: Vec<i64>| Arc::new(Int64Array::from(v)) as ArrayRef;
        let u32s = |v: Vec<u32>| Arc::new(UInt32Array::from(v)) as ArrayRef;
        let texts = |v: Vec<String>| Arc::new(StringArray::from(v)) as ArrayRef;
        let expect: Vec<ArrayRef> = vec![Arc::new(UInt8Array::from(c.expect_answer)), Arc::new(c.expect_count.finish())];
        let columns: Vec<ArrayRef> = vec![
            i64s(c.op),
            i64s(c.at_ns),
            u32s(c.session),
            Arc::new(UInt16Array::from(c.action)),
            Arc::new(c.target.finish()),
            c.headers.array(format::header_fields(), vec![texts(c.header_name), texts(c.header_value)], true),
            Arc::new(c.payload.finish()),
            c.slots.array(format::slot_fields(), slot_columns(&c.slot), false),
            gate_column(&c.gate),
            c.binds.array(format::bind_fields(), bind_columns(&c.bind), true),
            u32s(c.opens),
            c.expect.array(format::expect_fields(), expect, false),
            Arc::new(c.key.finish()),
            Arc::new(c.bucket.finish()),
            Arc::new(c.audience.finish()),
        ];
        RecordBatch::try_new(format::schema(), columns).expect("columns follow the schema")
    }
}

fn u8s(values: impl Iterator<Item = u8>) -> ArrayRef {
    Arc::new(UInt8Array::from_iter_values(values))
}

fn i64s(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

fn slot_columns(slots: &[Slot]) -> Vec<ArrayRef> {
    vec![
        u8s(slots.iter().map(|s| s.part.code())),
        Arc::new(UInt32Array::from_iter_values(slots.iter().map(|s| s.offset))),
        u8s(slots.iter().map(|s| s.width)),
        u8s(slots.iter().map(|s| s.kind as u8)),
        i64s(slots.iter().map(|s| s.op)),
        u8s(slots.iter().map(|s| s.ordinal)),
    ]
}

fn gate_column(gates: &[Option<Gate>]) -> ArrayRef {
    let or_zero = |gate: &Option<Gate>| gate.unwrap_or(Gate { op: 0, answer: 0, delay_ns: 0, timeout_ns: 0 });
    let columns = vec![
        i64s(gates.iter().map(|g| or_zero(g).op)),
        u8s(gates.iter().map(|g| or_zero(g).answer)),
        i64s(gates.iter().map(|g| or_zero(g).delay_ns)),
        i64s(gates.iter().map(|g| or_zero(g).timeout_ns)),
    ];
    let valid = gates.iter().map(Option::is_some).collect::<Vec<bool>>();
    Arc::new(StructArray::new(format::gate_fields(), columns, Some(NullBuffer::from(valid))))
}

fn bind_columns(binds: &[Bind]) -> Vec<ArrayRef> {
    vec![
        u8s(binds.iter().map(|b| b.slot)),
        i64s(binds.iter().map(|b| b.op)),
        u8s(binds.iter().map(|b| b.answer)),
        Arc::new(StringArray::from_iter_values(binds.iter().map(|b| &b.pointer))),
        u8s(binds.iter().map(|b| b.convert as u8)),
    ]
}
