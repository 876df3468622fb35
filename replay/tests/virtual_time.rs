//! The pacer under clocks that are made up: when each op is sent follows from the schedule and the tempo alone.

use proptest::prelude::*;
use replay::pacer::{BURST_MAX, Step, step};
use schedule::Tempo;

/// Sends everything due by a clock that shows `late(wake)` when told to wait for `wake`: pairs of intended and sent.
fn virtual_run(intended: &[i64], mut late: impl FnMut(i64) -> i64) -> Vec<(i64, i64)> {
    let (mut now, mut sent) = (i64::MIN / 2, Vec::new());
    loop {
        let left = &intended[sent.len()..];
        match step(now, left.iter().copied(), true) {
            Step::Send(n) => sent.extend(left[..n].iter().map(|t| (*t, now))),
            Step::Wait(wake) => now = late(wake),
            Step::Starved => unreachable!("everything is ready"),
            Step::Done => return sent,
        }
    }
}

fn tempo() -> impl Strategy<Value = Tempo> {
    prop_oneof![
        (1i128..1_000, 1i128..1_000).prop_map(|(schedule_ns, run_ns)| Tempo::Constant { schedule_ns, run_ns }),
        (1i128..5_000_000, 1i64..100_000, 1i64..1_000_000_000).prop_map(|(rate, rows, duration)| Tempo::for_rate(
            (rate, 100),
            rows,
            duration
        )),
        (0.1f64..10.0, 0.1f64..10.0, 1i64..2_000_000_000).prop_map(|(from, to, over_ns)| Tempo::Ramp { from, to, over_ns }),
        (proptest::collection::vec(0.1f64..10.0, 1..5), 1i64..1_000_000_000, 0i64..1_000_000_000)
            .prop_map(|(speeds, hold_ns, cooldown_ns)| Tempo::Steps { speeds, hold_ns, cooldown_ns }),
    ]
}

/// Offsets of a schedule, ascending, and how long it lasts.
fn schedule() -> impl Strategy<Value = (Vec<i64>, i64)> {
    proptest::collection::vec(prop_oneof![1 => Just(0i64), 4 => 0i64..10_000_000], 1..200).prop_map(|gaps| {
        let mut at = gaps;
        (1..at.len()).for_each(|i| at[i] += at[i - 1]);
        let duration = at[at.len() - 1] + 1;
        (at, duration)
    })
}

/// Intended times as the loader makes them: laps one after the other in schedule time, then the tempo.
fn intended(at: &[i64], duration: i64, laps: i64, tempo: &Tempo) -> Vec<i64> {
    (0..laps).flat_map(|lap| at.iter().map(move |t| tempo.run_ns(lap * duration + t))).collect()
}

proptest! {
    /// Speed, rate, ramp, steps, laps: on an exact clock everything is sent at its intended time, without tolerance.
    #[test]
    fn an_exact_clock_sends_exactly((at, duration) in schedule(), tempo in tempo(), laps in 1i64..4) {
        let intended = intended(&at, duration, laps, &tempo);
        prop_assert!(intended.is_sorted(), "a tempo keeps the order");
        let sent = virtual_run(&intended, |wake| wake);
        prop_assert_eq!(sent.len(), intended.len());
        prop_assert!(sent.iter().all(|(intended, sent)| intended == sent), "{:?}", sent);
    }

    /// Late wake-ups and long pauses: intended times never move, nothing is sent early or skipped, and what is late is
    /// sent at the first moment there is.
    #[test]
    fn a_hostile_clock_moves_no_intended_time(
        (at, duration) in schedule(), tempo in tempo(),
        lags in proptest::collection::vec(prop_oneof![6 => 0i64..50_000, 1 => 0i64..1_000_000_000], 1..50),
    ) {
        let intended = intended(&at, duration, 2, &tempo);
        let mut wakes = Vec::new();
        let sent = virtual_run(&intended, |wake| {
            wakes.push(wake + lags[wakes.len() % lags.len()]);
            wakes[wakes.len() - 1]
        });
        prop_assert_eq!(sent.iter().map(|(t, _)| *t).collect::<Vec<_>>(), intended);
        for (t, sent) in &sent {
            prop_assert_eq!(Some(sent), wakes.iter().find(|wake| *wake >= t), "{} is due", t);
        }
    }

    /// A rate is an exact ratio: an op of lap n is due to the nanosecond where whole numbers put it.
    #[test]
    fn laps_do_not_drift(at in 0i64..1_000_000_000, laps in 1i64..1_000_000, rate in 1i128..10_000_000) {
        let (rows, duration) = (1_000, 1_000_000_000);
        let schedule_ns = laps * duration + at;
        let exact = i128::from(schedule_ns) * rows / rate;
        prop_assert_eq!(i128::from(Tempo::for_rate((rate, 1), rows as i64, duration).run_ns(schedule_ns)), exact);
    }
}

#[test]
fn a_pause_of_an_hour_is_made_up_in_bursts_that_are_bounded() {
    let intended: Vec<i64> = (0..10_000).map(|i| i * 1_000_000).collect();
    const HOUR_NS: i64 = 3_600_000_000_000;
    let sent = virtual_run(&intended, |wake| wake + HOUR_NS);
    assert!(sent.iter().all(|(_, sent)| *sent == HOUR_NS));
    assert_eq!(step(HOUR_NS, intended.iter().copied(), true), Step::Send(BURST_MAX));
}
