use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// A draw in (0, 1] that depends on nothing but (seed, stream sequence, purpose).
pub(crate) fn unit(seed: u64, sequence: u64, purpose: &str) -> f64 {
    let mut hasher = SipHasher13::new_with_keys(seed, 0x7374_616e_6469_6e00);
    hasher.write_u64(sequence);
    hasher.write(purpose.as_bytes());
    ((hasher.finish() >> 11) + 1) as f64 / (1u64 << 53) as f64
}
