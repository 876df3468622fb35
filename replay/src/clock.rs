//! The only file that reads a clock or sleeps.

use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec, clock_gettime};

fn nanos(clock: ClockId) -> i64 {
    let t = clock_gettime(clock);
    t.tv_sec * 1_000_000_000 + t.tv_nsec
}

/// Time since the anchor of a run, on the monotonic clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    anchor_ns: i64,
}

impl Clock {
    /// A clock whose zero is `lead_ns` from now.
    pub fn anchored_in(lead_ns: i64) -> Clock {
        Clock { anchor_ns: nanos(ClockId::Monotonic) + lead_ns }
    }

    /// Nanoseconds since the anchor; negative before it.
    pub fn now_ns(&self) -> i64 {
        nanos(ClockId::Monotonic) - self.anchor_ns
    }

    /// Wall clock at the anchor, epoch ns, as the two clocks stand now.
    pub fn anchor_epoch_ns(&self) -> i64 {
        nanos(ClockId::Realtime) - self.now_ns()
    }

    /// Sleeps until `t_ns` since the anchor, then spins for the last `spin_ns`.
    pub fn sleep_until(&self, t_ns: i64, spin_ns: i64) {
        let wake = self.anchor_ns + t_ns - spin_ns;
        let request = Timespec { tv_sec: wake.div_euclid(1_000_000_000), tv_nsec: wake.rem_euclid(1_000_000_000) };
        // A signal ends the sleep early; the caller asks again what is due.
        let _ = clock_nanosleep_absolute(rustix::thread::ClockId::Monotonic, &request);
        while spin_ns > 0 && self.now_ns() < t_ns {
            std::hint::spin_loop();
        }
    }

    /// As [`Clock::sleep_until`], but `unpark` ends it.
    pub fn park_until(&self, t_ns: i64) {
        std::thread::park_timeout(std::time::Duration::from_nanos((t_ns - self.now_ns()).max(0) as u64));
    }
}

/// CPU time of the calling thread, ns.
pub(crate) fn thread_cpu_ns() -> i64 {
    nanos(ClockId::ThreadCPUTime)
}
