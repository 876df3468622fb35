//! Values taken from earlier answers, written where an op's slots say.

use schedule::{Bind, Convert, Operation, Part, Slot};
use std::sync::Arc;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What [RFC 3986](https://www.rfc-editor.org/rfc/rfc3986#section-2.3) calls unreserved stays as it is.
const ESCAPED: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Puts one value per bind into `op`; `answers` has the payload of each. Slots that are bound are consumed: their width
/// is the value's from then on.
///
/// # Errors
/// The pointer that finds nothing (or null, or an empty text) in its answer.
pub(crate) fn bind(op: &mut Operation, binds: &[Bind], answers: &[Arc<[u8]>]) -> Result<(), String> {
    let mut values = Vec::new();
    for (bind, answer) in binds.iter().zip(answers) {
        let slot = op.slots.get(usize::from(bind.slot)).ok_or_else(|| format!("slot {} is not there", bind.slot))?;
        let value = value_at(answer, &bind.pointer).and_then(|raw| convert(&raw, bind.convert));
        values.push((*slot, value.ok_or_else(|| bind.pointer.clone())?));
    }
    // From the back, so that no value moves the place of another.
    values.sort_by_key(|(slot, _)| std::cmp::Reverse((slot.part.code(), slot.offset)));
    for (slot, value) in values {
        replace(op, &slot, &value)?;
    }
    Ok(())
}

/// Puts a text in the place of a slot.
///
/// # Errors
/// A sentence, if the slot lies outside of its part.
pub(crate) fn replace(op: &mut Operation, slot: &Slot, value: &str) -> Result<(), String> {
    let outside = || format!("a slot lies outside of {:?}", slot.part);
    let range = slot.offset as usize..slot.offset as usize + usize::from(slot.width);
    let text = match slot.part {
        Part::Payload => {
            op.payload.get(range.clone()).ok_or_else(outside)?;
            op.payload.splice(range, value.bytes());
            return Ok(());
        }
        Part::Target => &mut op.target,
        Part::Header(n) => &mut op.headers.get_mut(usize::from(n)).ok_or_else(outside)?.1,
    };
    text.get(range.clone()).ok_or_else(outside)?;
    text.replace_range(range, value);
    Ok(())
}

/// The raw JSON at a pointer (RFC 6901); a negative index counts from the end of an array, and a `*` makes an array of what is found in
/// each item. Null and "" are nothing.
fn value_at(json: &[u8], pointer: &str) -> Option<String> {
    if let Some((before, after)) = pointer.split_once("/*") {
        let list = value_at(json, before)?;
        let items: Vec<_> = sonic_rs::to_array_iter(&list).collect::<Result<_, _>>().ok()?;
        let found: Vec<String> = items.iter().filter_map(|item| value_at(item.as_raw_str().as_bytes(), after)).collect();
        return Some(format!("[{}]", found.join(",")));
    }
    let mut at = std::str::from_utf8(json).ok()?.to_owned();
    for token in pointer.split('/').skip(1) {
        let key = token.replace("~1", "/").replace("~0", "~");
        let found = match key.parse::<i64>() {
            Ok(n) if n < 0 => {
                let items: Vec<_> = sonic_rs::to_array_iter(&at).collect::<Result<_, _>>().ok()?;
                items.get(items.len().checked_sub(n.unsigned_abs() as usize)?)?.as_raw_str().to_owned()
            }
            Ok(n) if at.trim_start().starts_with('[') => sonic_rs::get(&at, [n as usize]).ok()?.as_raw_str().to_owned(),
            _ => sonic_rs::get(&at, [key.as_str()]).ok()?.as_raw_str().to_owned(),
        };
        at = found;
    }
    let raw = at.trim();
    (!matches!(raw, "" | "null" | "\"\"")).then(|| raw.to_owned())
}

/// `None` where the value has not the form that is asked for.
fn convert(raw: &str, convert: Convert) -> Option<String> {
    let text = if raw.starts_with('"') { serde_json::from_str(raw).ok()? } else { raw.to_owned() };
    match convert {
        Convert::Raw => Some(text),
        Convert::JsonString => serde_json::to_string(&text).ok(),
        Convert::EpochMs => OffsetDateTime::parse(&text, &Rfc3339).ok().map(|t| t.unix_timestamp_nanos().div_euclid(1_000_000).to_string()),
        Convert::Url => Some(percent_encoding::utf8_percent_encode(&text, ESCAPED).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schedule::SlotKind;

    const ANSWER: &[u8] =
        br#"{"next":"a b","n":7,"at":"2026-11-21T10:00:00.250Z","list":[{"id":1},{"id":"x\"y"}],"0":true,"none":null,"empty":""}"#;

    #[test]
    fn pointers_find_what_is_there() {
        let at = |pointer| value_at(ANSWER, pointer);
        for (pointer, found) in [
            ("/n", Some("7")),
            ("/next", Some("\"a b\"")),
            ("/list/0/id", Some("1")),
            ("/list/-1/id", Some(r#""x\"y""#)),
            ("/list/-2", Some(r#"{"id":1}"#)),
            ("/0", Some("true")),
            ("/list/*/id", Some(r#"[1,"x\"y"]"#)),
            ("/list/*", Some(r#"[{"id":1},{"id":"x\"y"}]"#)),
            ("/list/*/none", Some("[]")),
            ("/n/*", None),
            ("/list/-3", None),
            ("/list/7", None),
            ("/none", None),
            ("/empty", None),
            ("/absent/deep", None),
        ] {
            assert_eq!(at(pointer).as_deref(), found, "{pointer}");
        }
        assert_eq!(value_at(b"not json", "/a"), None);
        assert_eq!(value_at(b"\xff", ""), None);
    }

    #[test]
    fn values_are_written_as_asked() {
        let written = |pointer, how| convert(&value_at(ANSWER, pointer).unwrap(), how);
        assert_eq!(written("/next", Convert::Raw).unwrap(), "a b");
        assert_eq!(written("/list/1/id", Convert::JsonString).unwrap(), r#""x\"y""#);
        assert_eq!(written("/next", Convert::Url).unwrap(), "a%20b");
        assert_eq!(written("/at", Convert::EpochMs).unwrap(), "1795255200250");
        assert_eq!(written("/n", Convert::EpochMs), None);
    }

    #[test]
    fn values_of_any_length_replace_their_slots() {
        let slot = |part, offset, width| Slot { part, offset, width, kind: SlotKind::Fresh, op: 0, ordinal: 0 };
        let mut op = Operation {
            target: "get.X.page".into(),
            payload: br#"{"a":?,"b":"??"}"#.to_vec(),
            headers: vec![("Seen".into(), "-".into())],
            slots: vec![slot(Part::Payload, 5, 1), slot(Part::Payload, 12, 2), slot(Part::Target, 4, 1), slot(Part::Header(0), 0, 1)],
            ..Operation::default()
        };
        let bind_of = |slot, pointer: &str, convert| Bind { slot, op: 0, answer: 0, pointer: pointer.into(), convert };
        let binds = [
            bind_of(0, "/list/-1/id", Convert::JsonString),
            bind_of(1, "/n", Convert::Raw),
            bind_of(2, "/next", Convert::Url),
            bind_of(3, "/at", Convert::EpochMs),
        ];
        let answer: Arc<[u8]> = ANSWER.into();
        bind(&mut op, &binds, &[answer.clone(), answer.clone(), answer.clone(), answer.clone()]).unwrap();
        assert_eq!(op.payload, br#"{"a":"x\"y","b":"7"}"#);
        assert_eq!((op.target.as_str(), op.headers[0].1.as_str()), ("get.a%20b.page", "1795255200250"));
        let refused = |op: &mut Operation, bound| bind(op, &[bound], std::slice::from_ref(&answer));
        assert_eq!(refused(&mut op, bind_of(0, "/none", Convert::Raw)), Err("/none".into()));
        assert!(refused(&mut op, bind_of(9, "/n", Convert::Raw)).is_err());
    }
}
