//! The types a log column may have, and how each becomes an Arrow array.

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Float64Builder, Int64Array, Int64Builder, ListArray, StringArray, StringBuilder, StructArray,
    UInt8Array, UInt8Builder, UInt16Array, UInt16Builder, UInt32Array, UInt32Builder, UInt64Array, UInt64Builder,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use schedule::Expect;
use schedule::format::expect_fields;
use std::sync::Arc;

/// A value that can stand in a log column.
pub trait Cell: Sized {
    /// Collects values.
    type Builder: Default + Send;
    /// The finished column.
    type Array: Array + Clone + 'static;
    /// Whether the column may hold nulls.
    const NULLABLE: bool = false;
    /// Its Arrow type.
    fn data_type() -> DataType;
    /// Adds a value.
    fn append(self, builder: &mut Self::Builder);
    /// Takes what was added.
    fn finish(builder: &mut Self::Builder) -> ArrayRef;
    /// The column of this type, or `None` if it has another.
    fn column(array: &ArrayRef) -> Option<Self::Array>;
    /// Value `i`.
    fn get(array: &Self::Array, i: usize) -> Self;
}

macro_rules! number {
    ($($value:ty, $builder:ty, $array:ty, $arrow:ty, $data_type:ident;)*) => {$(
        impl Cell for $value {
            type Builder = $builder;
            type Array = $array;
            fn data_type() -> DataType { DataType::$data_type }
            fn append(self, builder: &mut $builder) { builder.append_value(self) }
            fn finish(builder: &mut $builder) -> ArrayRef { Arc::new(builder.finish()) }
            fn column(array: &ArrayRef) -> Option<$array> { array.as_primitive_opt::<$arrow>().cloned() }
            fn get(array: &$array, i: usize) -> $value { array.value(i) }
        }
    )*};
}

number! {
    u8, UInt8Builder, UInt8Array, UInt8Type, UInt8;
    u16, UInt16Builder, UInt16Array, UInt16Type, UInt16;
    u32, UInt32Builder, UInt32Array, UInt32Type, UInt32;
    u64, UInt64Builder, UInt64Array, UInt64Type, UInt64;
    i64, Int64Builder, Int64Array, Int64Type, Int64;
    f64, Float64Builder, Float64Array, Float64Type, Float64;
}

impl Cell for Option<i64> {
    type Builder = Int64Builder;
    type Array = Int64Array;
    const NULLABLE: bool = true;
    fn data_type() -> DataType {
        DataType::Int64
    }
    fn append(self, builder: &mut Int64Builder) {
        builder.append_option(self);
    }
    fn finish(builder: &mut Int64Builder) -> ArrayRef {
        Arc::new(builder.finish())
    }
    fn column(array: &ArrayRef) -> Option<Int64Array> {
        <i64 as Cell>::column(array)
    }
    fn get(array: &Int64Array, i: usize) -> Self {
        array.is_valid(i).then(|| array.value(i))
    }
}

impl Cell for Arc<str> {
    type Builder = StringBuilder;
    type Array = StringArray;
    fn data_type() -> DataType {
        DataType::Utf8
    }
    fn append(self, builder: &mut StringBuilder) {
        builder.append_value(&*self);
    }
    fn finish(builder: &mut StringBuilder) -> ArrayRef {
        Arc::new(builder.finish())
    }
    fn column(array: &ArrayRef) -> Option<StringArray> {
        array.as_string_opt::<i32>().cloned()
    }
    fn get(array: &StringArray, i: usize) -> Self {
        array.value(i).into()
    }
}

impl Cell for Option<Arc<str>> {
    type Builder = StringBuilder;
    type Array = StringArray;
    const NULLABLE: bool = true;
    fn data_type() -> DataType {
        DataType::Utf8
    }
    fn append(self, builder: &mut StringBuilder) {
        builder.append_option(self);
    }
    fn finish(builder: &mut StringBuilder) -> ArrayRef {
        Arc::new(builder.finish())
    }
    fn column(array: &ArrayRef) -> Option<StringArray> {
        <Arc<str> as Cell>::column(array)
    }
    fn get(array: &StringArray, i: usize) -> Self {
        array.is_valid(i).then(|| array.value(i).into())
    }
}

/// The answers an op should cause; shared, because most ops of an action expect the same.
pub type Expected = Arc<[Expect]>;

/// Builder of the `expected` column.
#[derive(Default)]
pub struct ExpectedBuilder {
    ends: Vec<i32>,
    answer: UInt8Builder,
    count: UInt32Builder,
}

impl Cell for Expected {
    type Builder = ExpectedBuilder;
    type Array = ListArray;
    fn data_type() -> DataType {
        DataType::List(Arc::new(Field::new("item", DataType::Struct(expect_fields()), false)))
    }
    fn append(self, builder: &mut ExpectedBuilder) {
        for e in self.iter() {
            builder.answer.append_value(e.answer);
            builder.count.append_option(e.count);
        }
        builder.ends.push(builder.ends.last().copied().unwrap_or(0) + self.len() as i32);
    }
    fn finish(builder: &mut ExpectedBuilder) -> ArrayRef {
        let mut offsets = vec![0];
        offsets.append(&mut builder.ends);
        let items = StructArray::new(expect_fields(), vec![Arc::new(builder.answer.finish()), Arc::new(builder.count.finish())], None);
        let field = Arc::new(Field::new("item", DataType::Struct(expect_fields()), false));
        Arc::new(ListArray::new(field, OffsetBuffer::new(offsets.into()), Arc::new(items), None))
    }
    fn column(array: &ArrayRef) -> Option<ListArray> {
        let list = array.as_list_opt::<i32>()?;
        let items = list.values().as_struct_opt()?;
        let shaped = items.column_by_name("answer").is_some_and(|a| a.as_primitive_opt::<UInt8Type>().is_some())
            && items.column_by_name("count").is_some_and(|c| c.as_primitive_opt::<UInt32Type>().is_some());
        shaped.then(|| list.clone())
    }
    fn get(array: &ListArray, i: usize) -> Self {
        let items = array.values().as_struct();
        let answer = items.column_by_name("answer").expect("the shape was checked").as_primitive::<UInt8Type>();
        let count = items.column_by_name("count").expect("the shape was checked").as_primitive::<UInt32Type>();
        let offsets = array.value_offsets();
        (offsets[i] as usize..offsets[i + 1] as usize)
            .map(|i| Expect { answer: answer.value(i), count: count.is_valid(i).then(|| count.value(i)) })
            .collect()
    }
}
