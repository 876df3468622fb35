use std::ops::RangeInclusive;

/// log2 of the number of buckets that an octave has.
const OCTAVE_BITS: u32 = 10;

/// How many values fall between which, to three digits: the buckets of a HdrHistogram of that precision. A thousand buckets an
/// octave, below 2048 one for each value. Three times as fast as that to add to, since it does nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Buckets(Vec<u64>);

/// A bucket that a rank falls into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub values: RangeInclusive<u64>,
    /// Number of values in smaller buckets.
    pub before: u64,
}

fn index(value: u64) -> usize {
    let shift = (63 - OCTAVE_BITS).saturating_sub((value | 1).leading_zeros());
    ((shift as usize) << OCTAVE_BITS) + (value >> shift) as usize
}

fn values(index: usize) -> RangeInclusive<u64> {
    let shift = (index >> OCTAVE_BITS).saturating_sub(1);
    let start = (index as u64 - ((shift as u64) << OCTAVE_BITS)) << shift;
    start..=start + ((1 << shift) - 1)
}

impl Buckets {
    #[inline]
    pub fn add(&mut self, value: u64) {
        let i = index(value);
        if i >= self.0.len() {
            // A whole number of octaves, so that it seldom grows.
            self.0.resize(((i >> OCTAVE_BITS) + 1) << OCTAVE_BITS, 0);
        }
        self.0[i] += 1;
    }

    pub fn merge(&mut self, other: &Buckets) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        self.0.iter_mut().zip(&other.0).for_each(|(mine, theirs)| *mine += theirs);
    }

    /// A value of each bucket that is not empty, and its count.
    pub fn counted(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().enumerate().filter(|(_, n)| **n > 0).map(|(i, n)| (*values(i).start(), *n))
    }

    /// The buckets that ascending ranks, from 1, fall into; each once.
    pub fn ranges(&self, ranks: &[u64]) -> Vec<Bucket> {
        let mut found: Vec<Bucket> = Vec::new();
        let (mut seen, mut ranks) = (0, ranks.iter().peekable());
        for (i, &n) in self.0.iter().enumerate() {
            if ranks.peek().is_some_and(|rank| **rank <= seen + n) {
                found.push(Bucket { values: values(i), before: seen });
                while ranks.next_if(|rank| **rank <= seen + n).is_some() {}
            }
            seen += n;
        }
        found
    }
}

/// The one of the buckets that a rank falls into.
pub(crate) fn range_of(buckets: &[Bucket], rank: u64) -> &Bucket {
    &buckets[buckets.partition_point(|bucket| bucket.before < rank) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::Histogram;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn buckets_are_those_of_a_hdr_histogram(value in prop_oneof![0u64..5_000, 0u64..=u32::MAX.into(), 0u64..=i64::MAX as u64]) {
            let histogram = Histogram::<u64>::new(3).unwrap();
            let mine = values(index(value));
            prop_assert_eq!(*mine.start(), histogram.lowest_equivalent(value));
            prop_assert_eq!(*mine.end(), histogram.highest_equivalent(value));
        }
    }
}
