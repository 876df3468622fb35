use crate::clock::thread_cpu_ns;

/// Above this rate nothing is gained by spinning.
const SPIN_RATE_MAX: f64 = 20_000.0;
/// Of a core, above which the spin is dropped.
const OWN_CPU_MAX: f64 = 0.8;

/// How long to spin before a due time: not at high rates, and not when it costs too much of a core.
pub(crate) struct Spin {
    ns: i64,
    since: (i64, i64),
}

impl Spin {
    /// `ns` before each due time, at these operations a second.
    pub fn new(ns: i64, rate_per_sec: f64) -> Spin {
        Spin { ns: if rate_per_sec <= SPIN_RATE_MAX { ns } else { 0 }, since: (0, thread_cpu_ns()) }
    }

    pub fn ns(&mut self, now_ns: i64) -> i64 {
        if self.ns > 0 && now_ns - self.since.0 > 1_000_000_000 {
            let cpu = thread_cpu_ns();
            if (cpu - self.since.1) as f64 > OWN_CPU_MAX * (now_ns - self.since.0) as f64 {
                self.ns = 0;
            }
            self.since = (now_ns, cpu);
        }
        self.ns
    }
}
