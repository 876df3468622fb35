use crate::buckets::{Bucket, Buckets, range_of};
use crate::spool::{Block, Spool};
use hdrhistogram::Histogram;
use rayon::prelude::*;
use std::io;

/// Values of a distribution that stay in memory; the others go to the [`Spool`], and are counted in a histogram.
const IN_MEMORY: usize = 64 * 1024;
/// Values worth a write of their own, once a distribution is in the spool.
const STRAIGHT_TO_SPOOL: usize = 4 * 1024;
/// Asked for more ranks than this, sorting is cheaper than selecting.
const SELECT_MAX: usize = 8;

/// A latency distribution: every value, and a histogram to find them by once they are many. Values in ns.
///
/// ```
/// use analyze::{Percentile, Samples};
/// let mut a = Samples::default();
/// (1..=100).for_each(|ms| a.add(ms * 1_000_000));
/// assert_eq!(a.percentile(0.95, 0), Percentile::Value(95_000_000));
/// // Ten answers never came: they rank as slower than all others.
/// assert_eq!(a.percentile(0.95, 10), Percentile::Over);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Samples {
    small: Vec<u32>,
    /// Those that 32 bits do not hold: from 4.3 s on.
    big: Vec<i64>,
    /// Of values that are no longer here.
    gone: Extent,
    spilled: Option<Box<Spilled>>,
}

/// How many values, and from where to where.
#[derive(Debug, Clone, Copy)]
struct Extent {
    count: u64,
    min_ns: i64,
    max_ns: i64,
}

impl Default for Extent {
    fn default() -> Self {
        Extent { count: 0, min_ns: i64::MAX, max_ns: 0 }
    }
}

impl Extent {
    fn join(self, other: Extent) -> Extent {
        Extent { count: self.count + other.count, min_ns: self.min_ns.min(other.min_ns), max_ns: self.max_ns.max(other.max_ns) }
    }
}

/// What is no longer in memory.
#[derive(Debug, Clone, Default)]
struct Spilled {
    buckets: Buckets,
    small: Vec<Block>,
    big: Vec<Block>,
    /// There was no space for temporary files: only the counts are left.
    lost: bool,
}

/// A percentile by nearest rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Percentile {
    /// There is no sample.
    None,
    /// ns.
    Value(i64),
    /// It falls among the answers that never came.
    Over,
}

impl Samples {
    /// Only a count and a maximum: what is left of a distribution whose values are no longer needed.
    pub(crate) fn counted(count: u64, max_ns: i64) -> Samples {
        Samples { gone: Extent { count, max_ns, ..Extent::default() }, ..Samples::default() }
    }

    /// An empty one with room for as many values as are in memory.
    pub(crate) fn of_same_size(&self) -> Samples {
        Samples { small: Vec::with_capacity(self.small.len()), ..Samples::default() }
    }

    /// Adds a value.
    #[inline]
    pub fn add(&mut self, ns: i64) {
        match u32::try_from(ns.max(0)) {
            Ok(small) => self.small.push(small),
            Err(_) => self.big.push(ns),
        }
    }

    /// Adds all values of another.
    pub fn merge(&mut self, other: Samples) {
        self.gone = self.gone.join(other.gone);
        if self.small.is_empty() {
            self.small = other.small;
        } else {
            self.small.extend_from_slice(&other.small);
        }
        self.big.extend_from_slice(&other.big);
        match (&mut self.spilled, other.spilled) {
            (Some(mine), Some(theirs)) => {
                mine.buckets.merge(&theirs.buckets);
                mine.small.extend(theirs.small);
                mine.big.extend(theirs.big);
                mine.lost |= theirs.lost;
            }
            (mine @ None, theirs) => *mine = theirs,
            (Some(_), None) => {}
        }
    }

    /// Moves the values to the spool if they are many.
    pub(crate) fn settle(&mut self, spool: &Spool) {
        if self.small.len() + self.big.len() > IN_MEMORY {
            self.spill(spool);
        }
    }

    fn spill(&mut self, spool: &Spool) {
        self.gone = self.extent();
        let spilled = self.spilled.get_or_insert_default();
        self.small.iter().for_each(|&v| spilled.buckets.add(v.into()));
        self.big.iter().for_each(|&v| spilled.buckets.add(v as u64));
        let mut keep = || -> io::Result<()> {
            if !self.small.is_empty() {
                spilled.small.push(spool.write(&self.small)?);
            }
            if !self.big.is_empty() {
                spilled.big.push(spool.write(&self.big)?);
            }
            Ok(())
        };
        spilled.lost |= keep().is_err();
        self.small.clear();
        self.big.clear();
    }

    /// As [`Samples::merge`], then [`Samples::settle`]; many values go to the spool without a stay in memory.
    pub(crate) fn absorb(&mut self, mut other: Samples, spool: &Spool) {
        if other.small.len() + other.big.len() > STRAIGHT_TO_SPOOL && self.spilled.is_some() {
            std::mem::swap(&mut self.small, &mut other.small);
            std::mem::swap(&mut self.big, &mut other.big);
            self.spill(spool);
            std::mem::swap(&mut self.small, &mut other.small);
            std::mem::swap(&mut self.big, &mut other.big);
        }
        self.merge(other);
        self.settle(spool);
    }

    fn extent(&self) -> Extent {
        let count = (self.small.len() + self.big.len()) as u64;
        let (small, big) = (self.small.iter().map(|&v| i64::from(v)), self.big.iter().copied());
        let min_ns = small.clone().min().into_iter().chain(big.clone().min()).min().unwrap_or(i64::MAX);
        let max_ns = small.max().into_iter().chain(big.max()).max().unwrap_or(0);
        self.gone.join(Extent { count, min_ns, max_ns })
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.gone.count + (self.small.len() + self.big.len()) as u64
    }

    /// Whether percentiles are exact; else they are right to three digits.
    pub fn is_exact(&self) -> bool {
        self.spilled.as_ref().is_none_or(|s| !s.lost)
    }

    /// Largest value; 0 if there is none.
    pub fn max_ns(&self) -> i64 {
        self.extent().max_ns
    }

    /// Smallest value; 0 if there is none.
    pub fn min_ns(&self) -> i64 {
        if self.count() == 0 { 0 } else { self.extent().min_ns }
    }

    /// Value of rank ⌈q·n⌉ of the sorted values, `missing` more of which rank as larger than all. Of values in memory.
    pub fn percentile(&mut self, q: f64, missing: u64) -> Percentile {
        self.percentiles(&[q], missing, None)[0]
    }

    /// As [`Samples::percentile`], of ascending quantiles at once, to three digits where the values are in the spool.
    pub(crate) fn rough_percentiles(&mut self, quantiles: &[f64], missing: u64) -> Vec<Percentile> {
        self.percentiles(quantiles, missing, None)
    }

    /// As [`Samples::percentile`], of ascending quantiles at once, with the values in the spool.
    pub(crate) fn percentiles(&mut self, quantiles: &[f64], missing: u64, spool: Option<&Spool>) -> Vec<Percentile> {
        let n = self.count() + missing;
        // The smallest rank whose share is at least q, free of the rounding of q·n.
        let rank = |q: &f64| ((q * n as f64 - 1e-9).ceil() as u64).clamp(1, n.max(1));
        let ranks: Vec<u64> = quantiles.iter().map(rank).collect();
        let within: Vec<u64> = ranks.iter().copied().filter(|&r| r <= self.count()).collect();
        let mut values = self.at_ranks(&within, spool).into_iter();
        let of = |_: &u64| values.next().map_or(if n == 0 { Percentile::None } else { Percentile::Over }, Percentile::Value);
        ranks.iter().map(of).collect()
    }

    /// The values at ascending ranks, from 1.
    fn at_ranks(&mut self, ranks: &[u64], spool: Option<&Spool>) -> Vec<i64> {
        if self.count() == 0 {
            return Vec::new();
        }
        match &self.spilled {
            None => {
                let (small, big): (Vec<u64>, Vec<u64>) = ranks.iter().partition(|&&rank| rank <= self.small.len() as u64);
                let beyond: Vec<u64> = big.iter().map(|rank| rank - self.small.len() as u64).collect();
                let small = select(&mut self.small, &small).into_iter().map(i64::from);
                small.chain(select(&mut self.big, &beyond)).collect()
            }
            Some(spilled) => {
                let mut buckets = spilled.buckets.clone();
                self.each().for_each(|v| buckets.add(v));
                let ranges = buckets.ranges(ranks);
                let found = spool.filter(|_| !spilled.lost).and_then(|spool| self.search(&ranges, ranks, spool).ok());
                found.unwrap_or_else(|| {
                    let Extent { min_ns, max_ns, .. } = self.extent();
                    let at = |rank: &u64| *range_of(&ranges, *rank).values.end() as i64;
                    ranks.iter().map(|rank| at(rank).clamp(min_ns, max_ns)).collect()
                })
            }
        }
    }

    /// Values in memory.
    fn each(&self) -> impl Iterator<Item = u64> {
        self.small.iter().map(|&v| u64::from(v)).chain(self.big.iter().map(|&v| v as u64))
    }

    /// The buckets tell between which values each rank falls, and how many lie before; only those are read and sorted.
    fn search(&self, ranges: &[Bucket], ranks: &[u64], spool: &Spool) -> io::Result<Vec<i64>> {
        let gathered = self.gather(ranges, spool)?;
        let value = |&rank: &u64| {
            let i = ranges.partition_point(|range| range.before < rank) - 1;
            gathered[i].get((rank - ranges[i].before - 1) as usize).copied()
        };
        ranks.iter().map(|rank| value(rank).ok_or_else(|| io::Error::other("the spool was changed"))).collect()
    }

    /// The values in each range, sorted.
    fn gather(&self, ranges: &[Bucket], spool: &Spool) -> io::Result<Vec<Vec<i64>>> {
        let spilled = self.spilled.as_ref().expect("asked of what is spilled");
        let pick = |values: &mut dyn Iterator<Item = u64>| {
            let mut found = vec![Vec::new(); ranges.len()];
            for value in values {
                let i = ranges.partition_point(|range| *range.values.end() < value);
                if ranges.get(i).is_some_and(|range| *range.values.start() <= value) {
                    found[i].push(value as i64);
                }
            }
            found
        };
        let join = |mut a: Vec<Vec<i64>>, b: Vec<Vec<i64>>| {
            a.iter_mut().zip(b).for_each(|(a, b)| a.extend(b));
            a
        };
        let none = || vec![Vec::new(); ranges.len()];
        let small = spilled.small.par_iter().map(|b| Ok(pick(&mut sift(spool.read(b)?, ranges).into_iter().map(u64::from))));
        let big = spilled.big.par_iter().map(|b| Ok(pick(&mut spool.read::<i64>(b)?.into_iter().map(|v| v as u64))));
        let mut all = small.chain(big).try_reduce(none, |a, b| Ok::<_, io::Error>(join(a, b)))?;
        all = join(all, pick(&mut self.each()));
        all.iter_mut().for_each(|values| values.sort_unstable());
        Ok(all)
    }

    /// As an HdrHistogram of three digits; it merges with others.
    pub fn histogram(&self) -> Histogram<u64> {
        let mut histogram = Histogram::new(3).expect("three digits are allowed");
        let spilled = self.spilled.iter().flat_map(|s| s.buckets.counted());
        for (value, n) in spilled.chain(self.each().map(|v| (v, 1))) {
            histogram.record_n(value, n).expect("it resizes");
        }
        histogram
    }
}

/// Leaves the values that are in one of the ranges. Most are in none: without a branch for each, four are compared at a time.
fn sift(values: Vec<u32>, ranges: &[Bucket]) -> Vec<u32> {
    let bound = |range: &Bucket| {
        let start = u32::try_from(*range.values.start()).ok()?;
        Some((start, u32::try_from(*range.values.end()).unwrap_or(u32::MAX) - start))
    };
    let bounds: Vec<(u32, u32)> = ranges.iter().filter_map(bound).collect();
    let mut hits = vec![0u8; values.len()];
    for (start, width) in bounds {
        hits.iter_mut().zip(&values).for_each(|(hit, value)| *hit |= u8::from(value.wrapping_sub(start) <= width));
    }
    memchr::memchr_iter(1, &hits).map(|i| values[i]).collect()
}

/// The values at ascending ranks, from 1; the order of `values` changes.
fn select<T: Copy + Ord>(values: &mut [T], ranks: &[u64]) -> Vec<T> {
    if ranks.len() > SELECT_MAX {
        values.sort_unstable();
        return ranks.iter().map(|rank| values[*rank as usize - 1]).collect();
    }
    let (mut found, mut from) = (Vec::with_capacity(ranks.len()), 0);
    for rank in ranks {
        let at = *rank as usize - 1;
        // Everything before `from` is smaller than what follows.
        if at >= from {
            values[from..].select_nth_unstable(at - from);
            from = at;
        }
        found.push(values[at]);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[i64], spool: Option<&Spool>) -> Samples {
        let mut samples = Samples::default();
        for part in values.chunks(IN_MEMORY / 3) {
            let mut one = Samples::default();
            part.iter().for_each(|&v| one.add(v));
            samples.merge(one);
            spool.into_iter().for_each(|spool| samples.settle(spool));
        }
        samples
    }

    /// The rank by whole numbers, from a sort.
    fn exact(values: &[i64], missing: u64, per_mille: u64) -> Percentile {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        let n = sorted.len() as u64 + missing;
        let rank = (per_mille * n).div_ceil(1000).max(1) as usize;
        sorted.get(rank - 1).map_or(if n == 0 { Percentile::None } else { Percentile::Over }, |&v| Percentile::Value(v))
    }

    fn value() -> impl Strategy<Value = i64> {
        prop_oneof![4 => 0i64..100, 8 => 0i64..10_000_000, 2 => 4_294_960_000i64..4_294_970_000, 1 => 0i64..200_000_000_000]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// In memory, spilled, and without space for temporary files.
        #[test]
        fn percentiles_equal_a_sort(values in proptest::collection::vec(value(), 0..500), times in 1usize..800, missing in 0u64..50) {
            let values: Vec<i64> = (0..times as i64).flat_map(|i| values.iter().map(move |v| v + i * 37)).collect();
            let per_mille = [0, 1, 500, 500, 900, 950, 990, 999, 1000];
            let quantiles = per_mille.map(|q| q as f64 / 1000.0);
            let wanted = per_mille.map(|q| exact(&values, missing, q)).to_vec();
            let spool = Spool::create();
            let mut spilled = of(&values, Some(&spool));
            prop_assert_eq!(spilled.spilled.is_some(), values.len() > IN_MEMORY);
            prop_assert_eq!(&spilled.percentiles(&quantiles, missing, Some(&spool)), &wanted);
            prop_assert_eq!(&of(&values, None).percentiles(&quantiles, missing, None), &wanted);
            prop_assert_eq!(&of(&values, None).percentiles(&quantiles[..SELECT_MAX], missing, None), &wanted[..SELECT_MAX]);
            prop_assert_eq!(spilled.histogram(), of(&values, None).histogram());
            prop_assert!(spilled.is_exact());
        }

        /// The histogram of a merge is the merge of the histograms.
        #[test]
        fn histograms_merge(a in proptest::collection::vec(value(), 0..300), b in proptest::collection::vec(value(), 0..300)) {
            let mut merged = of(&a, None);
            merged.merge(of(&b, None));
            let mut sum = of(&a, None).histogram();
            sum.add(of(&b, None).histogram()).unwrap();
            prop_assert_eq!(merged.histogram(), sum);
        }
    }

    #[test]
    fn without_space_for_temporary_files_it_says_that_it_is_not_exact() {
        let values: Vec<i64> = (0..200_000).map(|i| i * 1_000).collect();
        let mut samples = of(&values, Some(&Spool::broken()));
        assert!(!samples.is_exact());
        let Percentile::Value(p50) = samples.percentile(0.5, 0) else { panic!("there are values") };
        assert!((p50 - 100_000_000).abs() <= 100_000, "{p50}");
    }
}
