use crate::format::{self, BATCH_ROWS, META_KEY};
use crate::{Bind, Convert, Error, Expect, FORMAT, Format, Gate, Meta, Operation, ParquetFile, Part, Slot, SlotKind, contain};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Int64Array, ListArray, RecordBatch, StringArray, StructArray, UInt8Array, UInt16Array,
    UInt32Array, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Int64Type, UInt8Type, UInt16Type, UInt32Type};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Opens a schedule file and streams its rows in batches.
pub struct Reader {
    path: PathBuf,
    meta: Meta,
}

impl Reader {
    /// Reads and checks the metadata.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::NotParquet`], [`Error::NotSchedule`], [`Error::NewerFormat`].
    pub fn open(path: &Path) -> Result<Reader, Error> {
        let builder = parquet(path)?;
        let metadata = builder.metadata().file_metadata().key_value_metadata();
        let not_ours = |detail: String| Error::NotSchedule { path: path.to_owned(), detail };
        let json = metadata
            .and_then(|kvs| kvs.iter().find(|kv| kv.key == META_KEY))
            .and_then(|kv| kv.value.as_deref())
            .ok_or_else(|| not_ours(format!("no `{META_KEY}` in its metadata")))?;
        #[derive(serde::Deserialize)]
        struct Version {
            format: Format,
        }
        let version: Version = serde_json::from_str(json).map_err(|e| not_ours(format!("its metadata: {e}")))?;
        if version.format.major > FORMAT.major {
            return Err(Error::NewerFormat { path: path.to_owned(), found: version.format, supported: FORMAT });
        }
        let meta = serde_json::from_str(json).map_err(|e| not_ours(format!("its metadata: {e}")))?;
        Ok(Reader { path: path.to_owned(), meta })
    }

    /// The file metadata.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The rows, from the start, in batches of at most [`format::BATCH_ROWS`]. Each batch is checked as it is decoded.
    ///
    /// # Errors
    /// As [`Reader::open`]; the iterator also yields [`Error::BadRow`].
    pub fn batches(&self) -> Result<impl Iterator<Item = Result<Batch, Error>> + Send + use<>, Error> {
        let builder = parquet(&self.path)?;
        let bad = |detail: String| Error::NotParquet { path: self.path.clone(), detail };
        let build = || {
            let filled = filled(&builder);
            builder.with_projection(filled).with_batch_size(BATCH_ROWS).build()
        };
        let reader = contain(build).map_err(bad)?.map_err(|e| bad(e.to_string()))?;
        Ok(Batches { path: self.path.clone(), meta: self.meta.clone(), reader, next_op: 0, last_at_ns: 0 })
    }
}

fn parquet(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<ParquetFile>, Error> {
    let unreadable = |source| Error::Read { path: path.to_owned(), source };
    let file = File::open(path).and_then(ParquetFile::new).map_err(unreadable)?;
    let bad = |detail: String| Error::NotParquet { path: path.to_owned(), detail };
    contain(|| ParquetRecordBatchReaderBuilder::try_new(file)).map_err(bad)?.map_err(|e| bad(e.to_string()))
}

/// The columns that hold anything: decoding the others would only make nulls and empty lists, which absent columns are too.
fn filled(builder: &ParquetRecordBatchReaderBuilder<ParquetFile>) -> ProjectionMask {
    let schema = builder.parquet_schema();
    let has_value = |leaf: usize| {
        builder.metadata().row_groups().iter().any(|group| {
            let column = group.column(leaf);
            column.statistics().and_then(|s| s.null_count_opt()) != Some(column.num_values() as u64)
        })
    };
    let roots = (0..schema.num_columns()).filter(|&leaf| has_value(leaf)).map(|leaf| schema.get_column_root_idx(leaf));
    ProjectionMask::roots(schema, roots)
}

struct Batches {
    path: PathBuf,
    meta: Meta,
    reader: ParquetRecordBatchReader,
    next_op: i64,
    last_at_ns: i64,
}

impl Iterator for Batches {
    type Item = Result<Batch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let reader = &mut self.reader;
        let record = match contain(|| reader.next()) {
            Ok(None) => return None,
            Ok(Some(Ok(record))) => record,
            Ok(Some(Err(e))) => return Some(Err(Error::NotParquet { path: self.path.clone(), detail: e.to_string() })),
            Err(detail) => return Some(Err(Error::NotParquet { path: self.path.clone(), detail })),
        };
        Some(Batch::from_record(&record).map_err(|detail| Error::NotSchedule { path: self.path.clone(), detail }).and_then(|batch| {
            self.check(&batch)?;
            Ok(batch)
        }))
    }
}

impl Batches {
    /// The rules of the format that the types do not state.
    fn check(&mut self, batch: &Batch) -> Result<(), Error> {
        let (first_op, meta) = (self.next_op, &self.meta);
        let at = |i: usize| if i == 0 { self.last_at_ns } else { batch.at_ns.value(i - 1) };
        // Numbers a column at a time; lists and structs only of the rows that have any.
        let number = (0..batch.len()).find_map(|i| match () {
            () if batch.op.value(i) != first_op + i as i64 => Some((i, format!("column op says {}", batch.op.value(i)))),
            () if batch.at_ns.value(i) < at(i) => Some((i, "at_ns goes backwards".into())),
            () if usize::from(batch.action.value(i)) >= meta.actions.len() => {
                Some((i, format!("action {} is not in the action table", batch.action.value(i))))
            }
            () => None,
        });
        let plain = batch.slots.rows.values().is_empty() && batch.gate.null_count() == batch.len() && batch.binds.values().is_empty();
        let answers = meta.answers.len();
        let unknown = batch.expect.answer.values().iter().any(|&a| usize::from(a) >= answers);
        let rows = if plain && !unknown { 0 } else { number.as_ref().map_or(batch.len(), |(i, _)| *i) };
        let nested = (0..rows).find_map(|i| self.broken_rule(&batch.row(i), first_op + i as i64).map(|what| (i, what)));
        if let Some((i, what)) = nested.or(number) {
            return Err(Error::BadRow { path: self.path.clone(), row: first_op + i as i64, what });
        }
        self.next_op += batch.len() as i64;
        self.last_at_ns = at(batch.len());
        Ok(())
    }

    /// Those of lists and structs.
    fn broken_rule(&self, row: &Row<'_>, op: i64) -> Option<String> {
        let meta = &self.meta;
        if let Some(e) = row.expect().find(|e| usize::from(e.answer) >= meta.answers.len()) {
            return Some(format!("expected answer {} is not in the answer table", e.answer));
        }
        for slot in row.slots() {
            let Some(slot) = slot else { return Some("a slot of unknown kind".into()) };
            if !(0..meta.rows).contains(&slot.op) {
                return Some(format!("a slot refers to op {}, which is not in the schedule", slot.op));
            }
            let room = row.part_len(slot.part)?;
            if slot.offset as usize + usize::from(slot.width) > room || slot.kind.width().is_some_and(|w| w != slot.width) {
                return Some(format!("a slot at {} of width {} does not fit", slot.offset, slot.width));
            }
        }
        let earlier = row.gate().map(|g| g.op).into_iter().chain(row.binds().map(|b| b.op)).find(|o| !(0..op).contains(o));
        earlier.map(|o| format!("a gate or bind refers to op {o}, which is not an earlier one"))
    }
}

/// Decoded rows, column by column.
pub struct Batch {
    op: Int64Array,
    at_ns: Int64Array,
    session: UInt32Array,
    action: UInt16Array,
    target: StringArray,
    headers: Headers,
    payload: BinaryArray,
    slots: Slots,
    gate: StructArray,
    binds: ListArray,
    opens: UInt32Array,
    expect: Expects,
    key: Int64Array,
    bucket: StringArray,
    audience: UInt32Array,
}

struct Headers {
    rows: ListArray,
    name: StringArray,
    value: StringArray,
}

impl Headers {
    fn of(rows: ListArray) -> Headers {
        let items = rows.values().as_struct();
        Headers { name: field(items, "name").as_string().clone(), value: field(items, "value").as_string().clone(), rows }
    }
}

struct Slots {
    rows: ListArray,
    part: UInt8Array,
    offset: UInt32Array,
    width: UInt8Array,
    kind: UInt8Array,
    op: Int64Array,
    ordinal: UInt8Array,
}

impl Slots {
    fn of(rows: ListArray) -> Slots {
        let items = rows.values().as_struct();
        let u8s = |name| field(items, name).as_primitive::<UInt8Type>().clone();
        Slots {
            part: u8s("part"),
            offset: field(items, "offset").as_primitive().clone(),
            width: u8s("width"),
            kind: u8s("kind"),
            op: field(items, "op").as_primitive().clone(),
            ordinal: u8s("ordinal"),
            rows,
        }
    }

    fn get(&self, i: usize) -> Option<Slot> {
        Some(Slot {
            part: Part::from_code(self.part.value(i)),
            offset: self.offset.value(i),
            width: self.width.value(i),
            kind: SlotKind::from_code(self.kind.value(i))?,
            op: self.op.value(i),
            ordinal: self.ordinal.value(i),
        })
    }
}

struct Expects {
    rows: ListArray,
    answer: UInt8Array,
    count: UInt32Array,
}

impl Expects {
    fn of(rows: ListArray) -> Expects {
        let items = rows.values().as_struct();
        Expects { answer: field(items, "answer").as_primitive().clone(), count: field(items, "count").as_primitive().clone(), rows }
    }
}

/// A column by name; an absent one that may be absent is null (or, for lists, empty).
fn column(record: &RecordBatch, name: &str) -> Result<ArrayRef, String> {
    let schema = format::schema();
    let field = schema.field_with_name(name).expect("a column of the schema");
    let rows = record.num_rows();
    match record.column_by_name(name) {
        Some(array) if same_shape(array.data_type(), field.data_type()) => Ok(array.clone()),
        Some(array) => Err(format!("column {name} has type {}", array.data_type())),
        None => match field.data_type() {
            DataType::List(item) if !field.is_nullable() => {
                let empty = arrow::array::new_empty_array(item.data_type());
                Ok(Arc::new(ListArray::new(item.clone(), OffsetBuffer::new_zeroed(rows), empty, None)))
            }
            DataType::UInt32 if name == "opens" => Ok(Arc::new(UInt32Array::from(vec![0; rows]))),
            other if field.is_nullable() => Ok(new_null_array(other, rows)),
            _ => Err(format!("column {name} is missing")),
        },
    }
}

/// Equal but for names of list items and nullability, which other writers choose differently.
fn same_shape(a: &DataType, b: &DataType) -> bool {
    match (a, b) {
        (DataType::List(a), DataType::List(b)) => same_shape(a.data_type(), b.data_type()),
        (DataType::Struct(a), DataType::Struct(b)) => {
            b.iter().all(|f| a.find(f.name()).is_some_and(|(_, other)| same_shape(other.data_type(), f.data_type())))
        }
        _ => a == b,
    }
}

impl Batch {
    fn from_record(record: &RecordBatch) -> Result<Batch, String> {
        Ok(Batch {
            op: column(record, "op")?.as_primitive::<Int64Type>().clone(),
            at_ns: column(record, "at_ns")?.as_primitive::<Int64Type>().clone(),
            session: column(record, "session")?.as_primitive::<UInt32Type>().clone(),
            action: column(record, "action")?.as_primitive::<UInt16Type>().clone(),
            target: column(record, "target")?.as_string::<i32>().clone(),
            headers: Headers::of(column(record, "headers")?.as_list::<i32>().clone()),
            payload: column(record, "payload")?.as_binary::<i32>().clone(),
            slots: Slots::of(column(record, "slots")?.as_list::<i32>().clone()),
            gate: column(record, "gate")?.as_struct().clone(),
            binds: column(record, "binds")?.as_list::<i32>().clone(),
            opens: column(record, "opens")?.as_primitive::<UInt32Type>().clone(),
            expect: Expects::of(column(record, "expect")?.as_list::<i32>().clone()),
            key: column(record, "key")?.as_primitive::<Int64Type>().clone(),
            bucket: column(record, "bucket")?.as_string::<i32>().clone(),
            audience: column(record, "audience")?.as_primitive::<UInt32Type>().clone(),
        })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.op.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.op.is_empty()
    }

    /// Row `i` of the batch.
    pub fn row(&self, i: usize) -> Row<'_> {
        Row {
            batch: self,
            index: i,
            op: self.op.value(i),
            at_ns: self.at_ns.value(i),
            session: self.session.value(i),
            action: self.action.value(i),
            target: self.target.value(i),
            payload: self.payload.value(i),
            opens: self.opens.value(i),
            key: self.key.is_valid(i).then(|| self.key.value(i)),
            bucket: self.bucket.is_valid(i).then(|| self.bucket.value(i)),
            audience: self.audience.is_valid(i).then(|| self.audience.value(i)),
        }
    }

    /// The rows in order.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        (0..self.len()).map(|i| self.row(i))
    }
}

/// One row, borrowed from its batch. Fields as in [`Operation`].
#[derive(Clone, Copy)]
#[allow(missing_docs, reason = "each field is documented in Operation")]
pub struct Row<'a> {
    batch: &'a Batch,
    index: usize,
    pub op: i64,
    pub at_ns: i64,
    pub session: u32,
    pub action: u16,
    pub target: &'a str,
    pub payload: &'a [u8],
    pub opens: u32,
    pub key: Option<i64>,
    pub bucket: Option<&'a str>,
    pub audience: Option<u32>,
}

/// Range of a list row within its items; empty for a null row.
fn list_range(list: &ListArray, i: usize) -> std::ops::Range<usize> {
    if list.is_null(i) {
        return 0..0;
    }
    let offsets = list.value_offsets();
    offsets[i] as usize..offsets[i + 1] as usize
}

fn field<'a>(items: &'a StructArray, name: &str) -> &'a ArrayRef {
    items.column_by_name(name).expect("the shape was checked")
}

impl<'a> Row<'a> {
    /// Header names and values.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&'a str, &'a str)> + Clone + use<'a> {
        let headers = &self.batch.headers;
        list_range(&headers.rows, self.index).map(|i| (headers.name.value(i), headers.value.value(i)))
    }

    /// The slots; `None` for a kind that this version does not know (the reader refuses such a file).
    pub fn slots(&self) -> impl ExactSizeIterator<Item = Option<Slot>> + use<'a> {
        let slots = &self.batch.slots;
        list_range(&slots.rows, self.index).map(|i| slots.get(i))
    }

    /// The gate, if the op is held.
    pub fn gate(&self) -> Option<Gate> {
        let gate = &self.batch.gate;
        gate.is_valid(self.index).then(|| Gate {
            op: field(gate, "op").as_primitive::<Int64Type>().value(self.index),
            answer: field(gate, "answer").as_primitive::<UInt8Type>().value(self.index),
            delay_ns: field(gate, "delay_ns").as_primitive::<Int64Type>().value(self.index),
            timeout_ns: field(gate, "timeout_ns").as_primitive::<Int64Type>().value(self.index),
        })
    }

    /// Values bound from earlier answers.
    pub fn binds(&self) -> impl ExactSizeIterator<Item = Bind> + use<'a> {
        let list = &self.batch.binds;
        let items = list.values().as_struct();
        list_range(list, self.index).map(move |i| Bind {
            slot: field(items, "slot").as_primitive::<UInt8Type>().value(i),
            op: field(items, "op").as_primitive::<Int64Type>().value(i),
            answer: field(items, "answer").as_primitive::<UInt8Type>().value(i),
            pointer: field(items, "pointer").as_string::<i32>().value(i).to_owned(),
            convert: Convert::from_code(field(items, "convert").as_primitive::<UInt8Type>().value(i)).unwrap_or(Convert::Raw),
        })
    }

    /// Answers that should come.
    pub fn expect(&self) -> impl ExactSizeIterator<Item = Expect> + use<'a> {
        let expects = &self.batch.expect;
        let count = |i| expects.count.is_valid(i).then(|| expects.count.value(i));
        list_range(&expects.rows, self.index).map(move |i| Expect { answer: expects.answer.value(i), count: count(i) })
    }

    fn part_len(&self, part: Part) -> Option<usize> {
        match part {
            Part::Target => Some(self.target.len()),
            Part::Payload => Some(self.payload.len()),
            Part::Header(n) => self.headers().nth(usize::from(n)).map(|(_, value)| value.len()).or(Some(0)),
        }
    }

    /// The row as an owned value.
    pub fn to_operation(&self) -> Operation {
        Operation {
            at_ns: self.at_ns,
            session: self.session,
            action: self.action,
            target: self.target.to_owned(),
            headers: self.headers().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
            payload: self.payload.to_vec(),
            slots: self.slots().flatten().collect(),
            gate: self.gate(),
            binds: self.binds().collect(),
            opens: self.opens,
            expect: self.expect().collect(),
            key: self.key,
            bucket: self.bucket.map(str::to_owned),
            audience: self.audience,
        }
    }
}

/// SHA-256 over rows and tables in a form that does not depend on how Parquet laid them out: the same for the same
/// schedule across releases.
#[derive(Default)]
pub struct LogicalHash(Sha256);

impl LogicalHash {
    /// Adds the next row.
    pub fn add(&mut self, row: &Row<'_>) {
        // Debug of plain data: field names and values, unambiguous because strings are quoted and escaped.
        self.0.update(format!("{:?}\n", row.to_operation()));
    }

    /// The hash in hex, once the tables of `meta` are added.
    pub fn finish(mut self, meta: &Meta) -> String {
        for table in [serde_json::to_string(&meta.actions), serde_json::to_string(&meta.answers)] {
            self.0.update(table.expect("plain data"));
        }
        self.0.update(format!("{} {} {}", meta.seed, meta.duration_ns, meta.fingerprint));
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
