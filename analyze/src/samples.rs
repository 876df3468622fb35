use hdrhistogram::Histogram;

/// Most values kept exactly per distribution; past it percentiles come from the histogram, to three digits.
const EXACT_MAX: usize = 32 << 20;

/// A latency distribution: every value while they fit, and always a histogram. Values in ns.
///
/// ```
/// use analyze::{Percentile, Samples};
/// let mut a = Samples::default();
/// (1..=100).for_each(|ms| a.add(ms * 1_000_000));
/// assert_eq!(a.percentile(0.95, 0), Percentile::Value(95_000_000));
/// // Ten answers never came: they rank as slower than all others.
/// assert_eq!(a.percentile(0.95, 10), Percentile::Over);
/// ```
#[derive(Debug, Clone)]
pub struct Samples {
    small: Vec<u32>,
    big: Vec<i64>,
    histogram: Option<Box<Histogram<u64>>>,
    count: u64,
    max_ns: i64,
    min_ns: i64,
    sorted: bool,
}

impl Default for Samples {
    fn default() -> Self {
        Samples { small: Vec::new(), big: Vec::new(), histogram: None, count: 0, max_ns: 0, min_ns: i64::MAX, sorted: true }
    }
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

fn new_histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are allowed")
}

impl Samples {
    /// Only a count and a maximum: what is left of a distribution whose values are no longer needed.
    pub(crate) fn counted(count: u64, max_ns: i64) -> Samples {
        Samples { count, max_ns, ..Samples::default() }
    }

    /// Adds a value.
    pub fn add(&mut self, ns: i64) {
        let ns = ns.max(0);
        self.count += 1;
        self.max_ns = self.max_ns.max(ns);
        self.min_ns = self.min_ns.min(ns);
        self.sorted = false;
        if let Some(histogram) = &mut self.histogram {
            histogram.saturating_record(ns as u64);
            return;
        }
        match u32::try_from(ns) {
            Ok(small) => self.small.push(small),
            Err(_) => self.big.push(ns),
        }
        self.bound();
    }

    /// Adds all values of another.
    pub fn merge(&mut self, other: Samples) {
        self.count += other.count;
        self.max_ns = self.max_ns.max(other.max_ns);
        self.min_ns = self.min_ns.min(other.min_ns);
        self.sorted = false;
        match (&mut self.histogram, other.histogram) {
            (None, None) => {
                self.small.extend_from_slice(&other.small);
                self.big.extend_from_slice(&other.big);
                self.bound();
            }
            (Some(mine), Some(theirs)) => mine.add(*theirs).expect("both resize"),
            (Some(mine), None) => {
                other.small.iter().map(|&v| u64::from(v)).chain(other.big.iter().map(|&v| v as u64)).for_each(|v| mine.saturating_record(v))
            }
            (mine @ None, Some(theirs)) => {
                *mine = Some(theirs);
                self.spill();
            }
        }
    }

    fn bound(&mut self) {
        if self.small.len() + self.big.len() > EXACT_MAX {
            self.histogram = Some(Box::new(new_histogram()));
            self.spill();
        }
    }

    fn spill(&mut self) {
        let histogram = self.histogram.as_mut().expect("set by the caller");
        std::mem::take(&mut self.small).into_iter().for_each(|v| histogram.saturating_record(v.into()));
        std::mem::take(&mut self.big).into_iter().for_each(|v| histogram.saturating_record(v as u64));
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether percentiles are exact.
    pub fn is_exact(&self) -> bool {
        self.histogram.is_none()
    }

    /// Largest value; 0 if there is none.
    pub fn max_ns(&self) -> i64 {
        self.max_ns
    }

    /// Smallest value; 0 if there is none.
    pub fn min_ns(&self) -> i64 {
        if self.count == 0 { 0 } else { self.min_ns }
    }

    /// Value of rank ⌈q·n⌉ of the sorted values, `missing` more of which rank as larger than all.
    pub fn percentile(&mut self, q: f64, missing: u64) -> Percentile {
        let n = self.count + missing;
        if n == 0 {
            return Percentile::None;
        }
        // The smallest rank whose share is at least q, free of the rounding of q·n.
        let rank = ((q * n as f64 - 1e-9).ceil() as u64).clamp(1, n);
        if rank > self.count {
            return Percentile::Over;
        }
        if let Some(histogram) = &self.histogram {
            return Percentile::Value(
                (histogram.value_at_quantile(rank as f64 / self.count as f64) as i64).clamp(self.min_ns, self.max_ns),
            );
        }
        if !self.sorted {
            use rayon::slice::ParallelSliceMut;
            self.small.par_sort_unstable();
            self.big.sort_unstable();
            self.sorted = true;
        }
        let i = rank as usize - 1;
        Percentile::Value(self.small.get(i).map_or_else(|| self.big[i - self.small.len()], |&v| v.into()))
    }

    /// As an HdrHistogram of three digits; it merges with others.
    pub fn histogram(&self) -> Histogram<u64> {
        if let Some(histogram) = &self.histogram {
            return (**histogram).clone();
        }
        let mut histogram = new_histogram();
        self.small.iter().map(|&v| u64::from(v)).chain(self.big.iter().map(|&v| v as u64)).for_each(|v| histogram.saturating_record(v));
        histogram
    }
}
