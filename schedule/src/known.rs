use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// Rows of texts under named columns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// A text for each column.
    pub rows: Vec<Vec<String>>,
}

/// Tables in which [`crate::Check`]s look things up.
///
/// ```
/// use schedule::{Known, Table};
/// let worker = Table { columns: vec!["id".into(), "city".into()], rows: vec![vec!["7".into(), "Bonn".into()]] };
/// let known = Known::new(&[("worker".into(), worker)].into());
/// assert_eq!(known.row("worker", "id", "7").unwrap()["city"], "Bonn");
/// assert!(known.row("worker", "id", "8").is_none() && known.row("worker", "name", "7").is_none());
/// ```
#[derive(Debug, Default)]
pub struct Known {
    rows: HashMap<String, Vec<BTreeMap<String, String>>>,
    /// By table and column: where a value is.
    places: HashMap<(String, String), HashMap<String, usize>>,
}

impl Known {
    /// Of tables by their names.
    pub fn new(tables: &BTreeMap<String, Table>) -> Known {
        let mut known = Known::default();
        for (name, table) in tables {
            for (n, column) in table.columns.iter().enumerate() {
                // Of rows with the same value the first counts.
                let places = table.rows.iter().enumerate().rev().filter_map(|(row, values)| Some((values.get(n)?.clone(), row))).collect();
                known.places.insert((name.clone(), column.clone()), places);
            }
            let row = |values: &Vec<String>| table.columns.iter().cloned().zip(values.iter().cloned()).collect();
            known.rows.insert(name.clone(), table.rows.iter().map(row).collect());
        }
        known
    }

    /// The first row of a table that has this value in this column.
    pub fn row(&self, table: &str, column: &str, value: &str) -> Option<&BTreeMap<String, String>> {
        let place = self.places.get(&(table.to_owned(), column.to_owned()))?.get(value)?;
        self.rows.get(table)?.get(*place)
    }
}
