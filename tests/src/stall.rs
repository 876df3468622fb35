use crate::Site;
use analyze::Series;
use std::time::Instant;

/// A site that stands still from one report of the progress to the next.
pub struct Stall<'a> {
    site: &'a Site,
    began: Option<Instant>,
    stood_s: Option<f64>,
}

impl<'a> Stall<'a> {
    /// None yet.
    pub fn of(site: &'a Site) -> Stall<'a> {
        Stall { site, began: None, stood_s: None }
    }

    /// For each report of the progress.
    pub fn next(&mut self) {
        match (self.began, self.stood_s) {
            (None, _) => {
                self.site.stand_still(true);
                self.began = Some(Instant::now());
            }
            (Some(began), None) => {
                self.site.stand_still(false);
                self.stood_s = Some(began.elapsed().as_secs_f64());
            }
            _ => {}
        }
    }

    /// Compares the latencies of ops due evenly over `total_s` with the closed form: those within the stall wait for its end,
    /// so that Q(q) = stall · (q − (1 − f)) ÷ f with f = stall ÷ total.
    ///
    /// # Panics
    /// If they differ, or it did not stand.
    pub fn explains(&self, series: &Series, total_s: f64) {
        let stood_s = self.stood_s.expect("it stood and went on");
        let f = stood_s / total_s;
        let r = &series.response;
        for (q, found) in [(0.5, r.p50_ns), (0.9, r.p90_ns), (0.99, r.p99_ns), (1.0, r.max_ns)] {
            let (found, wanted) = (found.expect("enough samples") as f64 / 1e9, (stood_s * (q - (1.0 - f)) / f).max(0.0));
            assert!((found - wanted).abs() < 0.15, "q {q}: {found} s, the closed form says {wanted} s");
        }
    }
}
