//! Where the limit lies: which rate to try next, from the trials so far. Pure: no clock, no server.

use analyze::{Outcome, Trial, knee};
use fixtures::Rng;
use runlog::Course;

/// Each step of the climb is so many times the one before.
const CLIMB: f64 = 2.0;
/// Trials around the edge before it may be stated.
const EDGE_MIN: usize = 6;
/// The target is overloaded by this much on purpose, before the way back is tried.
const OVERLOAD: f64 = 1.5;

/// What is sought.
#[derive(Debug, Clone)]
pub struct Search {
    /// The first target.
    pub from: f64,
    /// Never beyond this.
    pub to: f64,
    /// The edge is known when it is known to this fraction.
    pub resolution: f64,
    /// Trials at most, the last two for the way back.
    pub trials_max: usize,
    /// Order of repeats.
    pub seed: u64,
    trials: Vec<Tried>,
    edge: Vec<f64>,
}

/// A trial that was made.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tried {
    course: Course,
    target: f64,
    /// What was really offered.
    offered: f64,
    outcome: Outcome,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Next {
    /// Try this.
    Try(Course, f64),
    /// It is over.
    Done,
}

impl Search {
    pub fn new(from: f64, to: f64, resolution: f64, trials_max: usize, seed: u64) -> Search {
        Search { from, to, resolution, trials_max, seed, trials: Vec::new(), edge: Vec::new() }
    }

    /// Told what became of the trial it asked for.
    pub fn tried(&mut self, course: Course, target: f64, offered: f64, outcome: Outcome) {
        self.trials.push(Tried { course, target, offered, outcome });
    }

    fn of(&self, course: Course) -> usize {
        self.trials.iter().filter(|t| t.course == course).count()
    }

    /// What to try next: up in doublings to the first trip, between by halves, then around the edge until it can be
    /// stated; last, whether the way back from an overload leads to where it was.
    pub fn next(&mut self) -> Next {
        if let Some(retry) = self.retry() {
            return retry;
        }
        if let Some(again) = self.back_again() {
            return again;
        }
        if self.of(Course::Back) > 0 || self.gave_up() {
            return Next::Done;
        }
        if self.of(Course::Overload) > 0 {
            return self.back();
        }
        let decided = self.decided();
        let lowest_trip = decided.iter().filter(|t| !t.passed).map(|t| t.target).fold(f64::INFINITY, f64::min);
        let best = decided.iter().filter(|t| t.passed && t.target < lowest_trip).map(|t| t.target).reduce(f64::max);
        match best {
            // A trip may be chance, once.
            None if decided.iter().all(|t| !t.passed) && decided.len() < 2 => Next::Try(Course::Climb, self.from.min(self.to)),
            None if decided.iter().all(|t| !t.passed) => Next::Done,
            Some(_) if lowest_trip.is_infinite() && self.reached_the_top() => Next::Done,
            Some(best) if lowest_trip.is_infinite() => Next::Try(Course::Climb, (best * CLIMB).min(self.to)),
            Some(best) if lowest_trip / best > 1.0 + self.resolution && self.of(Course::Edge) == 0 => {
                Next::Try(Course::Bisect, (best * lowest_trip).sqrt())
            }
            // A pass above a trip, or the smallest step tripped once: repeats tell which was chance.
            _ => self.around_the_edge(&decided),
        }
    }

    /// An undecided trial is repeated once; a second time it stands for what the generator, or the box, cannot do.
    fn retry(&self) -> Option<Next> {
        let last = self.trials.last()?;
        let undecided = |t: &&Tried| t.target == last.target && t.outcome == Outcome::Inconclusive;
        let again = last.outcome == Outcome::Inconclusive && self.trials.iter().filter(undecided).count() == 1;
        again.then_some(Next::Try(last.course, last.target))
    }

    /// A trip on the way back is repeated once, too: once may be chance.
    fn back_again(&self) -> Option<Next> {
        let last = self.trials.last().filter(|t| t.course == Course::Back && t.outcome == Outcome::Trip)?;
        (self.of(Course::Back) == 1).then_some(Next::Try(Course::Back, last.target))
    }

    fn gave_up(&self) -> bool {
        let last_two = self.trials.iter().rev().take(2).filter(|t| t.outcome == Outcome::Inconclusive).count();
        last_two == 2 || self.trials.len() >= self.trials_max
    }

    /// By what was aimed at: what was offered is never quite it.
    fn reached_the_top(&self) -> bool {
        self.trials.iter().any(|t| t.target >= self.to && t.outcome == Outcome::Pass)
    }

    fn decided(&self) -> Vec<Trial> {
        let decided = self.trials.iter().filter(|t| t.outcome != Outcome::Inconclusive && t.course != Course::Back);
        decided.map(|t| Trial { target: t.offered, passed: t.outcome == Outcome::Pass }).collect()
    }

    fn around_the_edge(&mut self, decided: &[Trial]) -> Next {
        let Some(knee) = knee(decided) else { return Next::Done };
        if let Some(next) = self.edge.pop() {
            return Next::Try(Course::Edge, next);
        }
        let repeats = self.of(Course::Edge);
        let known = knee.high / knee.low <= (1.0 + self.resolution).powi(2);
        if (repeats >= EDGE_MIN && known) || self.trials.len() + 2 >= self.trials_max {
            let overload = (knee.high * OVERLOAD).min(self.to);
            return if overload > knee.high { Next::Try(Course::Overload, overload) } else { Next::Done };
        }
        // Below, at and above it; the order must not favour one of them.
        self.edge = [1.0 / (1.0 + self.resolution), 1.0, 1.0 + self.resolution].map(|f| knee.median * f).to_vec();
        let mut rng = Rng::new(self.seed.wrapping_add(repeats as u64), "search");
        for i in (1..self.edge.len()).rev() {
            self.edge.swap(i, rng.below(i as u64 + 1) as usize);
        }
        self.edge.pop().map_or(Next::Done, |next| Next::Try(Course::Edge, next))
    }

    /// Well below the edge.
    fn back(&self) -> Next {
        knee(&self.decided()).map_or(Next::Done, |knee| Next::Try(Course::Back, knee.low / (1.0 + 2.0 * self.resolution)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Servers behind one queue, Poisson arrivals, exponential service: the 95th percentile of response is known.
    struct Queue {
        servers: usize,
        rate_of_one: f64,
    }

    impl Queue {
        /// P(response > t) in the steady state (Erlang C; e.g. Gross & Harris, Fundamentals of Queueing Theory, 2.3).
        fn tail(&self, rate: f64, t: f64) -> f64 {
            let (c, a, mu) = (self.servers as f64, rate / self.rate_of_one, self.rate_of_one);
            let terms: Vec<f64> = (1..=self.servers)
                .scan(1.0, |term, k| {
                    *term *= a / k as f64;
                    Some(*term)
                })
                .collect();
            let last = terms[self.servers - 1] * c / (c - a);
            let waits = last / (1.0 + terms[..self.servers - 1].iter().sum::<f64>() + last);
            let d = c - 1.0 - a;
            (-mu * t).exp() * (1.0 + waits * (1.0 - (-mu * t * d).exp()) / d)
        }

        fn p95(&self, rate: f64) -> f64 {
            let (mut low, mut high) = (0.0, 100.0);
            for _ in 0..200 {
                let middle = (low + high) / 2.0;
                if self.tail(rate, middle) > 0.05 { low = middle } else { high = middle }
            }
            high
        }

        /// A trial of `warmup` and `hold` seconds, from empty.
        fn trial(&self, rate: f64, bound: f64, rng: &mut Rng) -> Outcome {
            let exponential = |rng: &mut Rng, rate: f64| -(1.0 - rng.unit()).ln() / rate;
            let (warmup, hold) = (1.0, 8.0);
            let (mut free, mut now, mut responses) = (vec![0.0f64; self.servers], 0.0, Vec::new());
            while now < warmup + hold {
                now += exponential(rng, rate);
                let next = free.iter_mut().min_by(|a, b| a.total_cmp(b)).unwrap();
                *next = next.max(now) + exponential(rng, self.rate_of_one);
                if now >= warmup {
                    responses.push(*next - now);
                }
            }
            let rank = responses.len() * 95 / 100;
            let (_, p95, _) = responses.select_nth_unstable_by(rank, f64::total_cmp);
            if *p95 < bound { Outcome::Pass } else { Outcome::Trip }
        }
    }

    /// All trials of a search, and the search when it is done.
    fn run(mut search: Search, mut trial: impl FnMut(Course, f64) -> Outcome) -> (Search, Vec<Tried>) {
        loop {
            match search.next() {
                Next::Done => return (search.clone(), search.trials),
                Next::Try(course, target) => {
                    let outcome = trial(course, target);
                    search.tried(course, target, target, outcome);
                    assert!(search.trials.len() <= search.trials_max + 2, "it ends");
                }
            }
        }
    }

    #[test]
    fn the_interval_holds_the_knee_of_a_queue_as_often_as_it_says() {
        let queue = Queue { servers: 8, rate_of_one: 125.0 };
        let knee_at = 850.0;
        let bound = queue.p95(knee_at);
        let (mut held, mut near, mut trials) = (0, 0, 0);
        for seed in 0..200 {
            let mut rng = Rng::new(seed, "queue");
            let (search, all) = run(Search::new(100.0, 10_000.0, 0.05, 30, seed), |_, rate| queue.trial(rate, bound, &mut rng));
            let found = knee(&search.decided()).unwrap();
            held += usize::from(found.low <= knee_at && knee_at <= found.high);
            near += usize::from((found.median / knee_at - 1.0).abs() <= 0.07);
            trials += all.len();
        }
        println!("held {held}, near {near}, trials {}", trials as f64 / 200.0);
        assert!(held >= 170, "the interval held the knee in {held} of 200 searches");
        assert!(near >= 190, "the answer was within 7% in {near} of 200 searches");
    }

    #[test]
    fn a_sharp_edge_is_found_and_the_way_back_tried() {
        let (search, trials) =
            run(Search::new(100.0, 1e6, 0.05, 30, 1), |_, rate| if rate < 3_000.0 { Outcome::Pass } else { Outcome::Trip });
        let found = knee(&search.decided()).unwrap();
        assert!(found.low < 3_000.0 && 3_000.0 < found.high && found.high / found.low < 1.11, "{found:?}");
        assert_eq!((search.of(Course::Climb), search.of(Course::Overload), search.of(Course::Back)), (6, 1, 1));
        assert!(search.of(Course::Edge) >= EDGE_MIN, "{trials:?}");
        let climb: Vec<f64> = trials.iter().take(6).map(|t| t.target).collect();
        assert_eq!(climb, [100.0, 200.0, 400.0, 800.0, 1_600.0, 3_200.0]);
    }

    #[test]
    fn the_top_is_tried_once_though_less_was_offered() {
        let mut search = Search::new(100.0, 1_000.0, 0.05, 30, 1);
        while let Next::Try(course, target) = search.next() {
            search.tried(course, target, 0.97 * target, Outcome::Pass);
        }
        assert_eq!(search.trials.iter().filter(|t| t.target == 1_000.0).count(), 1, "{:?}", search.trials);
    }

    #[test]
    fn a_target_that_does_not_recover_is_tried_twice() {
        let mut overloaded = false;
        let (search, _) = run(Search::new(100.0, 1e6, 0.05, 30, 1), |course, rate| {
            overloaded |= course == Course::Overload;
            if rate < 3_000.0 && !overloaded { Outcome::Pass } else { Outcome::Trip }
        });
        assert_eq!((search.of(Course::Overload), search.of(Course::Back)), (1, 2));
    }

    #[test]
    fn it_ends_where_nothing_can_be_found() {
        let always = |outcome| run(Search::new(100.0, 1_000.0, 0.05, 30, 1), move |_, _| outcome).1;
        let targets = |outcome| always(outcome).into_iter().map(|t| t.target).collect::<Vec<_>>();
        assert_eq!(targets(Outcome::Pass), [100.0, 200.0, 400.0, 800.0, 1_000.0]);
        assert_eq!(targets(Outcome::Trip), [100.0, 100.0]);
        assert_eq!(targets(Outcome::Inconclusive), [100.0, 100.0]);
    }

    #[test]
    fn a_trial_that_says_nothing_is_made_again_and_changes_nothing() {
        let mut n = 0;
        let (search, trials) = run(Search::new(100.0, 1e6, 0.05, 40, 1), |_, rate| {
            n += 1;
            match () {
                () if n % 5 == 0 => Outcome::Inconclusive,
                () if rate < 700.0 => Outcome::Pass,
                () => Outcome::Trip,
            }
        });
        let found = knee(&search.decided()).unwrap();
        assert!(found.low < 700.0 && 700.0 < found.high, "{found:?} {trials:?}");
    }

    #[test]
    fn the_order_of_repeats_follows_from_the_seed() {
        let order = |seed| run(Search::new(100.0, 1e6, 0.05, 30, seed), |_, r| if r < 3_000.0 { Outcome::Pass } else { Outcome::Trip }).1;
        assert_eq!(order(1), order(1));
        assert!((2..6).any(|seed| order(seed) != order(1)));
    }
}
