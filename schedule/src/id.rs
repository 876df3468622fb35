use siphasher::sip::SipHasher13;
use siphasher::sip128::{Hasher128, SipHasher13 as Sip128};
use std::hash::Hasher;

const OP_BITS: u32 = 40;
const BODY_BITS: u32 = 44;
const BODY_MASK: u64 = (1 << BODY_BITS) - 1;
const TAG_BITS_UUID: u32 = 30;
const HALF_BITS: u32 = 59;
const HALF_MASK: u64 = (1 << HALF_BITS) - 1;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// What an id of ours says: which op, and which of its ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id {
    /// The op, less than 2⁴⁰.
    pub op: i64,
    /// Which of the op's ids, less than 16.
    pub ordinal: u8,
}

impl Id {
    /// Ordinal of the reply inbox; slots use 0 to 14.
    pub const INBOX: u8 = 15;
}

/// Writes the ids of one run and reads them back: a keyed injection, so that no table of requests in flight is needed.
///
/// `plain` is op (40 bits) and ordinal (4 bits). `tag = PRF(k1, plain)`, `body = plain ⊕ PRF(k2, tag)`, PRF being
/// SipHash-1-3. A UUIDv7 carries the 44 body bits and 30 tag bits in its 74 free bits; 20 base62 characters carry 44
/// and 74 in two halves of 59 bits, ten digits each. An id is taken for ours only if its tag fits the decoded plain:
/// a foreign UUID passes with a chance of 2⁻³⁰, a foreign message id with 2⁻⁷⁴.
///
/// ```
/// use schedule::{Id, IdKey};
/// let key = IdKey::new(b"01J0000000000000000000000A");
/// let id = Id { op: 77, ordinal: 1 };
/// let mut text = [0; 20];
/// key.write_base62(id, &mut text);
/// assert_eq!(key.read_base62(&text), Some(id));
/// assert_eq!(IdKey::new(b"another run").read_base62(&text), None);
/// ```
#[derive(Debug, Clone)]
pub struct IdKey {
    tag: (u64, u64),
    pad: (u64, u64),
    fresh: (u64, u64),
}

impl IdKey {
    /// The key of a run, from any bytes unique to it (its ULID).
    pub fn new(run: &[u8]) -> Self {
        let derive = |purpose: u64| {
            let mut h = Sip128::new_with_keys(0x7265_7465_6d70_6f00, purpose);
            h.write(run);
            let h = h.finish128();
            (h.h1, h.h2)
        };
        IdKey { tag: derive(1), pad: derive(2), fresh: derive(3) }
    }

    fn tag128(&self, plain: u64) -> (u64, u64) {
        let mut h = Sip128::new_with_keys(self.tag.0, self.tag.1);
        h.write_u64(plain);
        let h = h.finish128();
        (h.h1, h.h2)
    }

    fn pad(&self, tag_low: u64, tag_high: u64) -> u64 {
        let mut h = SipHasher13::new_with_keys(self.pad.0, self.pad.1);
        h.write_u64(tag_low);
        h.write_u64(tag_high);
        h.finish() & BODY_MASK
    }

    fn plain(id: Id) -> u64 {
        debug_assert!((0..1 << OP_BITS).contains(&id.op) && id.ordinal < 16);
        (id.op as u64) << 4 | u64::from(id.ordinal)
    }

    fn id(plain: u64) -> Id {
        Id { op: (plain >> 4) as i64, ordinal: (plain & 15) as u8 }
    }

    /// A message id: 20 characters of `[0-9A-Za-z]`.
    pub fn write_base62(&self, id: Id, out: &mut [u8]) {
        let plain = Self::plain(id);
        let (low, high) = self.tag128(plain);
        // 74 tag bits: 59 fill the first half, 15 sit above the 44 body bits in the second.
        let (tag_low, tag_high) = (low & HALF_MASK, high & 0x7fff);
        let body = plain ^ self.pad(tag_low, tag_high);
        write_half(tag_low, &mut out[..10]);
        write_half(tag_high << BODY_BITS | body, &mut out[10..20]);
    }

    /// The op of a message id; `None` if it is not one of this run's.
    pub fn read_base62(&self, text: &[u8]) -> Option<Id> {
        if text.len() != 20 {
            return None;
        }
        let tag_low = read_half(&text[..10])?;
        let rest = read_half(&text[10..])?;
        let tag_high = rest >> BODY_BITS;
        let plain = (rest & BODY_MASK) ^ self.pad(tag_low, tag_high);
        let (low, high) = self.tag128(plain);
        (low & HALF_MASK == tag_low && high & 0x7fff == tag_high).then(|| Self::id(plain))
    }

    /// A request id: a hyphenated lower-case UUIDv7 of 36 characters with the given time, epoch ms.
    ///
    /// ```
    /// use schedule::{Id, IdKey};
    /// let key = IdKey::new(b"run");
    /// let mut text = [0; 36];
    /// key.write_uuid(Id { op: 5, ordinal: 0 }, 1_700_000_000_000, &mut text);
    /// assert_eq!(text[14], b'7');
    /// assert_eq!(key.read_uuid(&text).unwrap().op, 5);
    /// ```
    pub fn write_uuid(&self, id: Id, epoch_ms: i64, out: &mut [u8]) {
        let plain = Self::plain(id);
        let tag = self.tag128(plain).0 & ((1 << TAG_BITS_UUID) - 1);
        let body = plain ^ self.pad(tag, 0);
        let free = u128::from(tag) << BODY_BITS | u128::from(body);
        let time = (epoch_ms as u128 & 0xffff_ffff_ffff) << 80;
        let bits = time | 7 << 76 | (free >> 62) << 64 | 2 << 62 | free & ((1 << 62) - 1);
        write_hex_hyphenated(bits, out);
    }

    /// The op of a request id (hyphenated, either case); `None` if it is not one of this run's.
    pub fn read_uuid(&self, text: &[u8]) -> Option<Id> {
        let bits = read_hex_hyphenated(text)?;
        if (bits >> 76) & 15 != 7 || (bits >> 62) & 3 != 2 {
            return None;
        }
        let free = ((bits >> 64) & 0xfff) << 62 | bits & ((1 << 62) - 1);
        let tag = (free >> BODY_BITS) as u64;
        let plain = (free as u64 & BODY_MASK) ^ self.pad(tag, 0);
        (self.tag128(plain).0 & ((1 << TAG_BITS_UUID) - 1) == tag).then(|| Self::id(plain))
    }

    /// The op of either kind of id, told apart by length.
    pub fn read(&self, text: &[u8]) -> Option<Id> {
        match text.len() {
            20 => self.read_base62(text),
            36 => self.read_uuid(text),
            _ => None,
        }
    }

    /// Letters and digits that differ from op to op, for alphabets or widths too short to decode.
    pub fn write_fresh(&self, id: Id, out: &mut [u8]) {
        let mut word = 0;
        for (i, byte) in out.iter_mut().enumerate() {
            if i % 10 == 0 {
                let mut h = SipHasher13::new_with_keys(self.fresh.0, self.fresh.1);
                h.write_u64(Self::plain(id));
                h.write_u64((i / 10) as u64);
                word = h.finish();
            }
            *byte = BASE62[(word % 62) as usize];
            word /= 62;
        }
    }
}

/// The join key of an answer that carries no id of ours: XXH3-64 over its fields, each preceded by its length in eight
/// little-endian bytes. Elements of an array are sorted first by whoever gathers them.
///
/// ```
/// assert_eq!(schedule::key_of(["room-1", "a"]), schedule::key_of(["room-1", "a"]));
/// assert_ne!(schedule::key_of(["room-1", "a"]), schedule::key_of(["room-", "1a"]));
/// ```
pub fn key_of<'a>(fields: impl IntoIterator<Item = &'a str>) -> i64 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    for field in fields {
        hasher.update(&(field.len() as u64).to_le_bytes());
        hasher.update(field.as_bytes());
    }
    hasher.digest() as i64
}

/// The fields that a JSON value gives to a key: a text or a number is one, an array its elements in order of their bytes.
/// `None` for anything else.
///
/// ```
/// assert_eq!(schedule::key_texts(r#"["b","a"]"#), Some(vec!["a".to_owned(), "b".to_owned()]));
/// assert_eq!(schedule::key_texts("7"), Some(vec!["7".to_owned()]));
/// assert_eq!(schedule::key_texts("{}"), None);
/// ```
pub fn key_texts(json: &str) -> Option<Vec<String>> {
    let text = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => Some(text),
        serde_json::Value::Number(number) => Some(number.to_string()),
        serde_json::Value::Bool(bool) => Some(bool.to_string()),
        _ => None,
    };
    match serde_json::from_str(json).ok()? {
        serde_json::Value::Array(elements) => {
            let mut texts = elements.into_iter().map(text).collect::<Option<Vec<_>>>()?;
            texts.sort();
            Some(texts)
        }
        value => text(value).map(|text| vec![text]),
    }
}

fn write_half(mut half: u64, out: &mut [u8]) {
    for byte in out.iter_mut().rev() {
        *byte = BASE62[(half % 62) as usize];
        half /= 62;
    }
}

/// Of each byte its place in an alphabet, or [`NO_DIGIT`]: random characters would make a branch for each class guess wrong.
const fn digits(alphabet: &[u8], base: usize) -> [u8; 256] {
    let (mut table, mut i) = ([NO_DIGIT; 256], 0);
    while i < alphabet.len() {
        table[alphabet[i] as usize] = (i % base) as u8;
        i += 1;
    }
    table
}

const NO_DIGIT: u8 = 0x80;
const BASE62_DIGITS: [u8; 256] = digits(BASE62, 62);
/// Either case: others may rewrite what we wrote in lower case.
const HEX_DIGITS: [u8; 256] = digits(b"0123456789abcdef0123456789ABCDEF", 16);

fn read_half(text: &[u8]) -> Option<u64> {
    let (mut half, mut seen) = (0u64, 0);
    for &byte in text {
        let digit = BASE62_DIGITS[usize::from(byte)];
        seen |= digit;
        half = half.wrapping_mul(62).wrapping_add(u64::from(digit));
    }
    (seen & NO_DIGIT == 0 && half <= HALF_MASK).then_some(half)
}

/// Positions of the 32 hex digits in a hyphenated UUID.
fn digit_positions() -> impl Iterator<Item = usize> {
    (0..36).filter(|i| !matches!(i, 8 | 13 | 18 | 23))
}

fn write_hex_hyphenated(bits: u128, out: &mut [u8]) {
    for hyphen in [8, 13, 18, 23] {
        out[hyphen] = b'-';
    }
    for (n, at) in digit_positions().enumerate() {
        out[at] = b"0123456789abcdef"[(bits >> (124 - 4 * n)) as usize & 15];
    }
}

fn read_hex_hyphenated(text: &[u8]) -> Option<u128> {
    if text.len() != 36 || [8, 13, 18, 23].iter().any(|&h| text[h] != b'-') {
        return None;
    }
    let (mut bits, mut seen) = (0u128, 0);
    for at in digit_positions() {
        let digit = HEX_DIGITS[usize::from(text[at])];
        seen |= digit;
        bits = bits << 4 | u128::from(digit);
    }
    (seen & NO_DIGIT == 0).then_some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_id_reads_back_and_only_with_its_key(op in 0i64..1 << 40, ordinal in 0u8..16, ms in 0i64..1 << 48) {
            let (key, other) = (IdKey::new(b"a"), IdKey::new(b"b"));
            let id = Id { op, ordinal };
            let mut message = [0; 20];
            key.write_base62(id, &mut message);
            prop_assert_eq!(key.read(&message), Some(id));
            prop_assert_eq!(other.read(&message), None);
            let mut request = [0; 36];
            key.write_uuid(id, ms, &mut request);
            prop_assert_eq!(key.read(&request), Some(id));
            prop_assert_eq!(key.read(&request.to_ascii_uppercase()), Some(id));
            prop_assert_eq!(i64::from_str_radix(&String::from_utf8_lossy(&request[..13]).replace('-', ""), 16), Ok(ms));
        }

        #[test]
        fn foreign_text_is_foreign(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(IdKey::new(b"a").read(&text), None);
        }

        #[test]
        fn one_changed_character_makes_it_foreign(op in 0i64..1 << 40, at in 0usize..20, to in 0usize..62) {
            let key = IdKey::new(b"a");
            let mut text = [0; 20];
            key.write_base62(Id { op, ordinal: 1 }, &mut text);
            prop_assume!(text[at] != BASE62[to]);
            text[at] = BASE62[to];
            prop_assert_eq!(key.read(&text), None);
        }
    }

    #[test]
    fn fresh_text_differs_from_op_to_op() {
        let key = IdKey::new(b"a");
        let texts: std::collections::HashSet<[u8; 17]> = (0..10_000)
            .map(|op| {
                let mut text = [0; 17];
                key.write_fresh(Id { op, ordinal: 0 }, &mut text);
                text
            })
            .collect();
        assert_eq!(texts.len(), 10_000);
    }
}
