use crate::units;

/// How schedule time maps to run time. Pure arithmetic: an op's intended time depends on its offset alone, so that
/// nothing drifts however long a run is.
///
/// ```
/// use schedule::Tempo;
/// let twice = Tempo::parse_speed("2x").unwrap();
/// assert_eq!(twice.run_ns(1_000_000_000), 500_000_000);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Tempo {
    /// Constant speed as an exact ratio: `schedule_ns` of the schedule pass in `run_ns` of the run.
    Constant {
        /// Schedule time.
        schedule_ns: i128,
        /// Run time.
        run_ns: i128,
    },
    /// Speed changes linearly from `from` to `to` over `over_ns` of run time, then stays.
    Ramp {
        /// Speed at the start.
        from: f64,
        /// Speed at the end.
        to: f64,
        /// Run time between them, ns.
        over_ns: i64,
    },
    /// Each step holds a speed for a run time, then nothing is due for a cool-down.
    Steps {
        /// Speeds, in order.
        speeds: Vec<f64>,
        /// Run time each is held, ns.
        hold_ns: i64,
        /// Pause after each, ns.
        cooldown_ns: i64,
    },
}

impl Default for Tempo {
    fn default() -> Self {
        Tempo::Constant { schedule_ns: 1, run_ns: 1 }
    }
}

impl Tempo {
    /// `2`, `2x`, `0.5`, `200%`.
    ///
    /// # Errors
    /// A sentence naming what was typed.
    pub fn parse_speed(text: &str) -> Result<Tempo, String> {
        let bad = || format!("`{text}` is not a speed; write 2, 2x, 0.5 or 200%");
        let (digits, scale) = match text.strip_suffix('%') {
            Some(digits) => (digits, 100),
            None => (text.strip_suffix('x').unwrap_or(text), 1),
        };
        let (num, den) = units::parse_decimal(digits).ok_or_else(bad)?;
        if num <= 0 {
            return Err(bad());
        }
        Ok(Tempo::Constant { schedule_ns: num, run_ns: den * scale })
    }

    /// The speed at which a schedule of `rows` over `duration_ns` sends `rate` = num/den operations per second.
    pub fn for_rate((num, den): (i128, i128), rows: i64, duration_ns: i64) -> Tempo {
        Tempo::Constant { schedule_ns: num * i128::from(duration_ns), run_ns: den * i128::from(rows) * 1_000_000_000 }
    }

    /// Run time of schedule offset `at_ns`. Monotonic in `at_ns`.
    pub fn run_ns(&self, at_ns: i64) -> i64 {
        match self {
            Tempo::Constant { schedule_ns, run_ns } => {
                // Most ratios fit in 64 bits, where dividing costs a tenth.
                let small = || Some(at_ns.checked_mul(i64::try_from(*run_ns).ok()?)? / i64::try_from(*schedule_ns).ok()?);
                small().unwrap_or_else(|| (i128::from(at_ns) * run_ns / schedule_ns).min(i64::MAX.into()) as i64)
            }
            Tempo::Ramp { from, to, over_ns } => ramp_ns(at_ns as f64, *from, *to, *over_ns as f64),
            Tempo::Steps { speeds, hold_ns, cooldown_ns } => steps_ns(at_ns, speeds, *hold_ns, *cooldown_ns),
        }
    }

    /// Speed at the start, for display.
    pub fn speed(&self) -> f64 {
        match self {
            Tempo::Constant { schedule_ns, run_ns } => *schedule_ns as f64 / *run_ns as f64,
            Tempo::Ramp { from, .. } => *from,
            Tempo::Steps { speeds, .. } => speeds.first().copied().unwrap_or(1.0),
        }
    }
}

/// Inverse of the integral of a linear speed: at = from·t + (to − from)·t² / (2·over) for t ≤ over, then linear.
fn ramp_ns(at: f64, from: f64, to: f64, over: f64) -> i64 {
    let covered = (from + to) / 2.0 * over;
    if at >= covered {
        return (over + (at - covered) / to) as i64;
    }
    let slope = (to - from) / over;
    // The form of the quadratic root that loses no digits when the slope is near zero.
    (2.0 * at / (from + (from * from + 2.0 * slope * at).max(0.0).sqrt())) as i64
}

fn steps_ns(at_ns: i64, speeds: &[f64], hold_ns: i64, cooldown_ns: i64) -> i64 {
    let (mut at, mut start) = (at_ns as f64, 0);
    for (i, speed) in speeds.iter().enumerate() {
        let covers = speed * hold_ns as f64;
        if at < covers || i + 1 == speeds.len() {
            return start + (at / speed) as i64;
        }
        at -= covers;
        start += hold_ns + cooldown_ns;
    }
    at_ns
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEC: i64 = 1_000_000_000;

    #[test]
    fn speeds_people_type() {
        for (text, at, run) in [("2", 10, 5), ("2x", 10, 5), ("0.5", 10, 20), ("200%", 10, 5), ("1", 7, 7), ("12.5%", 1, 8)] {
            assert_eq!(Tempo::parse_speed(text).unwrap().run_ns(at * SEC), run * SEC, "{text}");
        }
        for text in ["", "0", "-1", "fast", "x", "1e3", "%"] {
            assert!(Tempo::parse_speed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_rate_is_exact_after_a_billion_ops() {
        let tempo = Tempo::for_rate((3_000, 1), 30_000, 30 * SEC);
        assert_eq!(tempo.run_ns(30 * SEC), 10 * SEC);
        // The last of a billion ops at 1,000/s nominal: no drift at all.
        assert_eq!(tempo.run_ns(1_000_000 * SEC), 1_000_000 * SEC / 3);
    }

    #[test]
    fn a_ramp_covers_the_area_under_it() {
        let tempo = Tempo::Ramp { from: 1.0, to: 3.0, over_ns: 10 * SEC };
        assert_eq!(tempo.run_ns(20 * SEC), 10 * SEC);
        assert_eq!(tempo.run_ns(23 * SEC), 11 * SEC);
        assert!((tempo.run_ns(15 * SEC / 2) - 5 * SEC).abs() < 2); // 1·5 + 0.1·25 = 7.5
    }

    #[test]
    fn steps_hold_and_cool_down() {
        let tempo = Tempo::Steps { speeds: vec![1.0, 2.0], hold_ns: 10 * SEC, cooldown_ns: 5 * SEC };
        assert_eq!(tempo.run_ns(4 * SEC), 4 * SEC);
        assert_eq!(tempo.run_ns(10 * SEC), 15 * SEC);
        assert_eq!(tempo.run_ns(14 * SEC), 17 * SEC);
    }

    proptest! {
        #[test]
        fn every_tempo_is_monotonic(a in 0i64..1 << 50, b in 0i64..1 << 50, from in 0.01f64..50.0, to in 0.01f64..50.0) {
            let (a, b) = (a.min(b), a.max(b));
            for tempo in [
                Tempo::for_rate(((from * 1000.0) as i128 + 1, 1000), 1000, SEC),
                Tempo::Ramp { from, to, over_ns: 60 * SEC },
                Tempo::Steps { speeds: vec![from, to, from], hold_ns: 10 * SEC, cooldown_ns: SEC },
            ] {
                prop_assert!(tempo.run_ns(a) <= tempo.run_ns(b), "{:?}", tempo);
            }
        }
    }
}
