//! Gates under clocks that are made up: when a gated op is due follows from the schedule and the answers alone.

use proptest::prelude::*;
use replay::gates::{Fate, Gates, Held};
use replay::pacer::{Step, step};
use runlog::Outcome;
use schedule::Gate;
use std::collections::{BTreeMap, BTreeSet};

/// One op: what it waits for, and what the target does with it.
#[derive(Debug, Clone)]
struct Op {
    own_ns: i64,
    gate: Option<Gate>,
    /// After being sent: when the answer comes, and whether it is an error; none at all.
    answer: Option<(i64, bool)>,
}

/// What became of an op: its intended time, or why it was not sent.
type End = Result<i64, Outcome>;

/// Gap to the op before, gate (of which earlier op, delay, timeout), answer.
type Drawn = (i64, Option<(proptest::sample::Index, i64, i64)>, Option<(i64, bool)>);

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let gate = (any::<proptest::sample::Index>(), 0i64..2_000, 1i64..20_000);
    let answer = (1i64..10_000, prop_oneof![8 => Just(false), 1 => Just(true)]);
    let drawn = (0i64..3_000, proptest::option::weighted(0.6, gate), proptest::option::weighted(0.9, answer));
    proptest::collection::vec(drawn, 1..60).prop_map(|all: Vec<Drawn>| {
        let mut own_ns = 0;
        let op = |(i, (gap, gate, answer)): (usize, Drawn)| {
            own_ns += gap;
            let gate = gate.filter(|_| i > 0);
            let gate = gate.map(|(of, delay_ns, timeout_ns)| Gate { op: of.index(i) as i64, answer: 0, delay_ns, timeout_ns });
            Op { own_ns, gate, answer }
        };
        all.into_iter().enumerate().map(op).collect()
    })
}

/// By the definition: due at its own time, or after the answer; failed if that is an error, too late, or cannot come.
fn ends(ops: &[Op]) -> Vec<End> {
    let mut ends: Vec<End> = Vec::new();
    for op in ops {
        ends.push(match &op.gate {
            None => Ok(op.own_ns),
            Some(gate) => match (ends[gate.op as usize], ops[gate.op as usize].answer) {
                (Ok(t), Some((after, false))) if t + after <= t.max(op.own_ns) + gate.timeout_ns => {
                    Ok(op.own_ns.max(t + after + gate.delay_ns))
                }
                _ => Err(Outcome::GateFailed),
            },
        });
    }
    ends
}

/// Plays the loader, the pacer, the target and the receiver. The loader is `ahead_ns` ahead; a wake-up for time t happens at
/// `late(t)`.
fn play(ops: &[Op], ahead_ns: i64, mut late: impl FnMut(i64) -> i64) -> (Vec<(End, i64)>, Gates<()>) {
    let (mut gates, mut fates) = (Gates::default(), Vec::new());
    let mut ends: BTreeMap<i64, (End, i64)> = BTreeMap::new();
    let mut answers: BTreeSet<(i64, i64)> = BTreeSet::new();
    let (mut loaded, mut ready, mut due) = (0, Vec::new(), BTreeSet::new());
    let mut now = i64::MIN / 2;
    loop {
        while let Some(op) = ops.get(loaded).filter(|op| op.own_ns - ahead_ns <= now) {
            let (op, number) = (op.clone(), loaded as i64);
            let opens = ops.iter().filter(|o| o.gate.is_some_and(|g| g.op == number)).count() as u32;
            if opens > 0 {
                gates.remember(number, opens, op.gate.is_none().then_some(op.own_ns));
            }
            match op.gate {
                Some(gate) => gates.hold(Held { op: number, own_ns: op.own_ns, gate, binds: vec![], item: () }, &mut fates),
                None => ready.push((op.own_ns, number)),
            }
            loaded += 1;
        }
        while let Some(&(t, op)) = answers.first().filter(|(t, _)| *t <= now) {
            answers.remove(&(t, op));
            // Read when the receiver wakes.
            gates.answered(op, 0, !ops[op as usize].answer.unwrap().1, now, b"", &mut fates);
        }
        gates.expire(now, &mut fates);
        for fate in fates.drain(..) {
            match fate {
                Fate::Released { held, intended_ns, .. } => _ = due.insert((intended_ns, held.op)),
                Fate::Failed { held, outcome } => _ = ends.insert(held.op, (Err(outcome), now)),
            }
        }
        let mut sends: Vec<(i64, i64)> = Vec::new();
        while let Some(first) = due.first().copied().filter(|(t, _)| *t <= now) {
            due.remove(&first);
            sends.push(first);
        }
        if let Step::Send(n) = step(now, ready.iter().map(|(t, _)| *t), loaded == ops.len()) {
            sends.extend(ready.drain(..n));
        }
        for (intended_ns, op) in sends {
            ends.insert(op, (Ok(intended_ns), now));
            answers.extend(ops[op as usize].answer.map(|(after, _)| (now + after, op)));
        }
        let timed = due.first().into_iter().chain(answers.first()).chain(ready.first()).map(|(t, _)| *t);
        let loading = ops.get(loaded).map(|op| op.own_ns - ahead_ns);
        match timed.chain(gates.next_deadline_ns()).chain(loading).min() {
            Some(t) => now = late(t.max(now)).max(now),
            None => return (ends.into_values().collect(), gates),
        }
    }
}

proptest! {
    /// Every op is sent at the nanosecond that the definition says, or fails; and nothing is remembered in the end.
    #[test]
    fn an_exact_clock_keeps_every_gate_exactly(ops in ops(), ahead_ns in 0i64..100_000) {
        let (played, gates) = play(&ops, ahead_ns, |t| t);
        prop_assert_eq!(played.iter().map(|(end, _)| *end).collect::<Vec<_>>(), ends(&ops));
        for (end, at) in &played {
            prop_assert!(end.is_err() || *end == Ok(*at), "sent at {} though due at {:?}", at, end);
        }
        prop_assert_eq!((gates.held(), gates.remembered()), (0, 0));
    }

    /// However late everyone wakes: nothing is sent before its time or before its answer, and nothing waits for ever.
    #[test]
    fn a_hostile_clock_opens_no_gate_early(
        ops in ops(), ahead_ns in 0i64..100_000,
        lags in proptest::collection::vec(prop_oneof![6 => 0i64..500, 1 => 0i64..1_000_000], 1..50),
    ) {
        let mut turn = 0;
        let (played, gates) = play(&ops, ahead_ns, |t| { turn += 1; t + lags[turn % lags.len()] });
        prop_assert_eq!(played.len(), ops.len());
        for (op, (end, at)) in ops.iter().zip(&played) {
            let Ok(intended_ns) = *end else { continue };
            prop_assert!(*at >= intended_ns);
            match &op.gate {
                None => prop_assert_eq!(intended_ns, op.own_ns),
                Some(gate) => {
                    let opener = &ops[gate.op as usize];
                    let answered = played[gate.op as usize].1 + opener.answer.unwrap().0;
                    prop_assert!(intended_ns >= op.own_ns && intended_ns >= answered + gate.delay_ns);
                }
            }
        }
        prop_assert_eq!((gates.held(), gates.remembered()), (0, 0));
    }
}

#[test]
fn the_table_says_why_an_op_cannot_be_sent() {
    let gate = |op| Gate { op, answer: 0, delay_ns: 0, timeout_ns: 100 };
    let held = |op, of| Held { op, own_ns: 0, gate: gate(of), binds: vec![], item: () };
    let (mut gates, mut fates) = (Gates::default(), Vec::new());
    gates.hold(held(5, 4), &mut fates);
    gates.remember(6, 2, Some(0));
    gates.hold(held(7, 6), &mut fates);
    gates.unsent(6, &mut fates);
    gates.hold(held(8, 6), &mut fates);
    let outcomes: Vec<_> =
        fates.iter().map(|f| if let Fate::Failed { held, outcome } = f { (held.op, *outcome) } else { panic!("{f:?}") }).collect();
    assert_eq!(outcomes, [(5, Outcome::DependencyNotSent), (7, Outcome::GateFailed), (8, Outcome::GateFailed)]);
    assert_eq!((gates.held(), gates.remembered()), (0, 0));
}
