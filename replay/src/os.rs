//! What needs the system directly. The only file with unsafe code.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Asks for real-time scheduling (SCHED_FIFO, lowest priority) of the calling thread. False when it is not granted.
pub(crate) fn request_fifo() -> bool {
    let parameter = libc::sched_param { sched_priority: 1 };
    // SAFETY: the pointer is to a live local; pid 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter) == 0 }
}

/// Asks that no CPU of this machine sleeps deeply for as long as the file is open: waking one up takes tens of microseconds, and on a
/// virtual machine as long as its host likes. The format is that of the kernel's PM Quality of Service interface: microseconds, an `i32`.
pub(crate) fn request_awake() -> io::Result<File> {
    let mut limit = OpenOptions::new().write(true).open("/dev/cpu_dma_latency")?;
    limit.write_all(&0_i32.to_ne_bytes())?;
    Ok(limit)
}

/// Clock ticks per second of `/proc`.
pub(crate) fn ticks_per_sec() -> f64 {
    // SAFETY: no preconditions.
    (unsafe { libc::sysconf(libc::_SC_CLK_TCK) }) as f64
}

/// Ticks that a process or thread was on a core, from the text of its `stat` in `/proc`: fields 14 and 15 of proc(5),
/// counted from the third, which stands behind the name.
pub(crate) fn busy_ticks(stat: &str) -> f64 {
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    ticks(11) + ticks(12)
}

/// A descriptor whose readiness the runtime of the caller tells.
pub(crate) fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` keeps its descriptor open and the same for as long as it lives.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}
