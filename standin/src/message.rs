//! The JSON that crosses the wire.

use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

/// Body of `msg.send`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SendRequest {
    #[serde(default)]
    pub id: String,
    #[serde(default)]
    pub content: String,
    #[serde(default)]
    pub request_id: String,
    pub thread_parent_message_id: Option<String>,
    #[serde(default)]
    pub tshow: bool,
}

/// A stored message; also the reply to `msg.send`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StoredMessage {
    pub id: String,
    pub room_id: String,
    pub user_id: String,
    pub user_account: String,
    #[serde(default)]
    pub user_display_name: String,
    #[serde(default)]
    pub content: String,
    #[serde(default)]
    pub created_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_parent_message_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_parent_message_created_at: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tshow: bool,
}

/// What the canonical stream carries.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CanonicalEvent {
    pub event: String,
    pub message: StoredMessage,
    #[serde(default)]
    pub site_id: String,
    #[serde(default)]
    pub timestamp: i64,
}

/// `new_message` of a room.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RoomEvent<'a> {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub room_id: &'a str,
    pub timestamp: i64,
    pub event_timestamp: i64,
    pub room_name: &'a str,
    pub room_type: &'a str,
    pub site_id: &'a str,
    pub user_count: usize,
    pub last_msg_at: &'a str,
    pub last_msg_id: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub has_mention: bool,
    pub message: &'a StoredMessage,
}

/// The error envelope of every reply path.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorReply {
    pub code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    pub error: &'static str,
}

impl ErrorReply {
    pub fn because(code: &'static str, reason: &'static str, error: &'static str) -> ErrorReply {
        ErrorReply { code, reason: Some(reason), error }
    }

    pub fn new(code: &'static str, error: &'static str) -> ErrorReply {
        ErrorReply { code, reason: None, error }
    }

    pub fn forbidden(reason: &'static str, error: &'static str) -> ErrorReply {
        ErrorReply { code: "forbidden", reason: Some(reason), error }
    }
}

pub(crate) fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data")
}

/// Wall clock, epoch milliseconds.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

pub(crate) fn rfc3339(epoch_ms: i64) -> String {
    let mut out = [0; 24];
    schedule::units::write_rfc3339(epoch_ms, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// Accounts mentioned: `@` at the start or after white space, then letters, digits, `_`, `-` and `.`; lower-cased.
pub(crate) fn mentions(content: &str) -> Vec<String> {
    let mut found: Vec<String> = content
        .split_whitespace()
        .filter_map(|word| word.strip_prefix('@'))
        .map(|word| word.chars().take_while(|c| c.is_alphanumeric() || "_-.".contains(*c)).collect::<String>().to_lowercase())
        .filter(|account| !account.is_empty())
        .collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    #[test]
    fn mentions_stand_at_the_start_of_a_word() {
        assert_eq!(super::mentions("@User-7 hi a@b @all, @"), ["all", "user-7"]);
    }
}
