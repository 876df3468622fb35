use crate::Summary;

/// The versioned JSON form, indented.
pub fn json(summary: &Summary) -> String {
    serde_json::to_string_pretty(summary).expect("plain data") + "\n"
}
