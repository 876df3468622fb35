//! The types a log column may have, and how each becomes an Arrow array.

use crate::expected::Expected;
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, DictionaryArray, Float64Array, Float64Builder, Int32Array, Int64Array,
    Int64Builder, StringArray, StringBuilder, UInt8Array, UInt8Builder, UInt16Array, UInt16Builder, UInt32Array, UInt32Builder,
    UInt64Array, UInt64Builder,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use std::sync::Arc;

/// A value that can stand in a log column.
pub trait Cell: Sized {
    /// Collects values.
    type Builder: Default + Send;
    /// The finished column.
    type Array;
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

impl Cell for Vec<u8> {
    type Builder = BinaryBuilder;
    type Array = BinaryArray;
    fn data_type() -> DataType {
        DataType::Binary
    }
    fn append(self, builder: &mut BinaryBuilder) {
        builder.append_value(self);
    }
    fn finish(builder: &mut BinaryBuilder) -> ArrayRef {
        Arc::new(builder.finish())
    }
    fn column(array: &ArrayRef) -> Option<BinaryArray> {
        array.as_binary_opt::<i32>().cloned()
    }
    fn get(array: &BinaryArray, i: usize) -> Self {
        array.value(i).to_vec()
    }
}

/// A column of texts as a dictionary: few distinct values, and a key for each row.
#[derive(Debug, Clone)]
pub struct Text(DictionaryArray<Int32Type>);

impl Text {
    fn of(array: &ArrayRef) -> Option<Text> {
        match array.data_type() {
            DataType::Dictionary(..) => {
                array.as_dictionary_opt::<Int32Type>().filter(|d| d.values().as_string_opt::<i32>().is_some()).cloned()
            }
            DataType::Utf8 if array.null_count() == array.len() => {
                let keys = Int32Array::new_null(array.len());
                Some(DictionaryArray::new(keys, Arc::new(StringArray::new_null(0))))
            }
            DataType::Utf8 => cast(array, &Text::data_type()).ok()?.as_dictionary_opt::<Int32Type>().cloned(),
            _ => None,
        }
        .map(Text)
    }

    /// How a text column is asked for.
    pub(crate) fn data_type() -> DataType {
        DataType::Dictionary(DataType::Int32.into(), DataType::Utf8.into())
    }

    /// The distinct values; keys point into it. Some may be there twice.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.0.values().as_string::<i32>().iter().map(Option::unwrap_or_default)
    }

    /// Which of the values row `i` has; `None` if it is null.
    pub fn key(&self, i: usize) -> Option<usize> {
        self.0.key(i)
    }

    /// The text of row `i`.
    pub fn get(&self, i: usize) -> Option<&str> {
        self.0.key(i).map(|key| self.0.values().as_string::<i32>().value(key))
    }

    /// Whether every row is null.
    pub fn is_empty(&self) -> bool {
        self.0.null_count() == self.0.len()
    }
}

macro_rules! text {
    ($($value:ty, $nullable:literal, |$cell:ident| $text:expr, |$read:ident| $from:expr;)*) => {$(
        impl Cell for $value {
            type Builder = StringBuilder;
            type Array = Text;
            const NULLABLE: bool = $nullable;
            fn data_type() -> DataType { DataType::Utf8 }
            fn append(self, builder: &mut StringBuilder) { let $cell = &self; builder.append_option($text); }
            fn finish(builder: &mut StringBuilder) -> ArrayRef { Arc::new(builder.finish()) }
            fn column(array: &ArrayRef) -> Option<Text> { Text::of(array) }
            fn get(array: &Text, i: usize) -> $value { let $read = array.get(i); $from }
        }
    )*};
}

text! {
    Arc<str>, false, |cell| Some(&**cell), |text| text.unwrap_or_default().into();
    Option<Arc<str>>, true, |cell| cell.as_deref(), |text| text.map(Into::into);
    Expected, false, |cell| Some(cell.text()), |text| text.and_then(Expected::parse).unwrap_or_else(|| [].into());
}
