use fixtures::Rng;

/// Bytes that break things: ends of ranges, signs, separators.
const NASTY: [&[u8]; 10] = [b"\0", b"\xff", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80", b"-1", b"99999999999", b"\r\n", b"\"", b"{"];

/// Feeds `target` every seed and `times` mutations of them, the same for the same `seed`.
pub fn feed(target: fn(&[u8]), seeds: &[Vec<u8>], times: u32, seed: u64) {
    seeds.iter().for_each(|bytes| target(bytes));
    let mut rng = Rng::new(seed, "fuzz");
    for _ in 0..times {
        let mut bytes = seeds[rng.below(seeds.len() as u64) as usize].clone();
        for _ in 0..rng.within(1, 6) {
            mutate(&mut bytes, seeds, &mut rng);
        }
        target(&bytes);
    }
}

fn mutate(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], rng: &mut Rng) {
    let at = |rng: &mut Rng, len: usize| rng.below(len as u64 + 1) as usize;
    let position = at(rng, bytes.len());
    // Short ranges as often as long ones.
    let length = |rng: &mut Rng, most: usize| (1usize << rng.below(10)).min(most);
    match rng.below(7) {
        0 if position < bytes.len() => bytes[position] ^= 1 << rng.below(8),
        1 if position < bytes.len() => bytes[position] = rng.below(256) as u8,
        2 => {
            let end = (position + length(rng, bytes.len())).min(bytes.len());
            bytes.drain(position..end);
        }
        3 => {
            let end = (position + length(rng, bytes.len())).min(bytes.len());
            let copy = bytes[position..end].to_vec();
            let to = at(rng, bytes.len());
            bytes.splice(to..to, copy);
        }
        4 => {
            let nasty = NASTY[rng.below(NASTY.len() as u64) as usize];
            let end = (position + nasty.len() * usize::from(rng.chance(0.7))).min(bytes.len());
            bytes.splice(position..end, nasty.iter().copied());
        }
        5 => bytes.truncate(position),
        _ => {
            let other = &seeds[rng.below(seeds.len() as u64) as usize];
            let from = at(rng, other.len());
            let end = (from + length(rng, other.len())).min(other.len());
            bytes.splice(position..position, other[from..end].iter().copied());
        }
    }
}
