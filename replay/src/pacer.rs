//! What is due: a pure decision, so that pacing is tested as a table of numbers.

/// Most frames handed to the sockets at a time, so that a late pacer still answers its connections.
pub const BURST_MAX: usize = 512;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Send this many frames from the front.
    Send(usize),
    /// Nothing is due before this time, ns.
    Wait(i64),
    /// The loader has nothing ready.
    Starved,
    /// There is nothing more.
    Done,
}

/// Decides from the intended times of the frames that are ready (ascending) and whether more will come.
///
/// ```
/// use replay::pacer::{Step, step};
/// assert_eq!(step(50, [10, 50, 60].into_iter(), false), Step::Send(2));
/// assert_eq!(step(9, [10, 50].into_iter(), false), Step::Wait(10));
/// assert_eq!(step(9, [].into_iter(), true), Step::Done);
/// ```
pub fn step(now_ns: i64, intended_ns: impl Iterator<Item = i64>, last: bool) -> Step {
    let mut due = 0;
    for t in intended_ns.take(BURST_MAX) {
        if t > now_ns {
            return if due > 0 { Step::Send(due) } else { Step::Wait(t) };
        }
        due += 1;
    }
    match (due, last) {
        (0, true) => Step::Done,
        (0, false) => Step::Starved,
        (due, _) => Step::Send(due),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Under a virtual clock every frame is sent at its intended time, whatever the gaps: nothing drifts.
        #[test]
        fn a_virtual_run_sends_everything_exactly_on_time(gaps in proptest::collection::vec(0i64..1_000_000, 0..300)) {
            let times: Vec<i64> = gaps.iter().scan(0, |t, gap| { *t += gap; Some(*t) }).collect();
            let (mut now, mut sent) = (-5, Vec::new());
            loop {
                match step(now, times[sent.len()..].iter().copied(), true) {
                    Step::Send(n) => sent.extend(std::iter::repeat_n(now, n)),
                    Step::Wait(t) => { prop_assert!(t > now); now = t }
                    Step::Starved => unreachable!("all frames are there"),
                    Step::Done => break,
                }
            }
            prop_assert_eq!(sent, times);
        }
    }

    #[test]
    fn a_late_pacer_keeps_the_schedule() {
        let times = [0, 10, 20, 30];
        assert_eq!(step(25, times.into_iter(), false), Step::Send(3));
        assert_eq!(step(25, times[3..].iter().copied(), false), Step::Wait(30));
        assert_eq!(step(25, std::iter::empty(), false), Step::Starved);
        assert_eq!(step(25, std::iter::repeat_n(1, 10_000), false), Step::Send(BURST_MAX));
    }
}
