//! The only file that reads a clock or sleeps.

use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create, timerfd_settime,
};
use std::io;
use std::os::fd::OwnedFd;
use tokio::io::unix::AsyncFd;

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
        let request = self.timespec(t_ns - spin_ns);
        // A signal ends the sleep early; the caller asks again what is due.
        let _ = clock_nanosleep_absolute(rustix::thread::ClockId::Monotonic, &request);
        while spin_ns > 0 && self.now_ns() < t_ns {
            std::hint::spin_loop();
        }
    }

    fn timespec(&self, t_ns: i64) -> Timespec {
        let wake = self.anchor_ns.saturating_add(t_ns);
        Timespec { tv_sec: wake.div_euclid(1_000_000_000), tv_nsec: wake.rem_euclid(1_000_000_000) }
    }

    /// As [`Clock::sleep_until`], but `unpark` ends it.
    pub fn park_until(&self, t_ns: i64) {
        std::thread::park_timeout(std::time::Duration::from_nanos((t_ns - self.now_ns()).max(0) as u64));
    }
}

/// Wakes a task at a time, to the precision of the kernel's timers: those of tokio tick in milliseconds.
pub(crate) struct Alarm {
    clock: Clock,
    timer: AsyncFd<OwnedFd>,
}

impl Alarm {
    /// For the runtime that it is called in.
    pub fn new(clock: Clock) -> io::Result<Alarm> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Alarm { clock, timer: crate::os::watched(timer)? })
    }

    /// Waits until `t_ns` since the anchor.
    pub async fn wait_until(&self, t_ns: i64) {
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let at = Itimerspec { it_interval: never, it_value: self.clock.timespec(t_ns) };
        while self.clock.now_ns() < t_ns {
            // A time that is over rings at once. What rang before is told first, and only costs a look.
            let set = timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &at);
            let Ok(mut ready) = self.timer.readable().await else { return tokio::task::yield_now().await };
            ready.clear_ready();
            if set.is_err() {
                return tokio::task::yield_now().await;
            }
        }
    }
}

/// CPU time of the calling thread, ns.
pub(crate) fn thread_cpu_ns() -> i64 {
    nanos(ClockId::ThreadCPUTime)
}
