//! Schedules made of schedules: cut, merged, one after the other, multiplied. What an op refers to goes with it, and the metadata
//! says what was done.

use crate::Error;
use crate::redact::pseudonym;
use schedule::subject::token;
use schedule::{Action, AnswerRule, Bind, Expect, Gate, Meta, Operation, Reader, Slot, Whose, Writer};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Which ops a cut keeps. An op that waits for one that goes, goes too.
#[derive(Debug, Clone, Default)]
pub struct Cut {
    /// Offsets, ns; the first becomes 0.
    pub time: Option<Range<i64>>,
    /// Names of actions; none is all.
    pub actions: Vec<String>,
    /// Numbers of sessions.
    pub sessions: Option<Range<u32>>,
    /// This share of the sessions, chosen by the seed.
    pub sample: Option<f64>,
    /// Of the sample.
    pub seed: u64,
}

/// What was done: rows kept, and ops that went because what they wait for did.
#[derive(Debug, Clone, PartialEq)]
pub struct Edited {
    /// Metadata of the new schedule.
    pub meta: Meta,
    /// Ops that were to be kept, and wait for one that was not.
    pub orphaned: u64,
}

fn refuse(path: &Path, what: impl Into<String>) -> Error {
    Error::Capture { path: path.to_owned(), what: what.into() }
}

/// Keeps some ops of a schedule.
///
/// # Errors
/// [`Error`]: nothing is left, an action is not there, a file cannot be read or written.
pub fn cut(input: &Path, output: &Path, cut: &Cut, history: Value) -> Result<Edited, Error> {
    let reader = Reader::open(input)?;
    let mut meta = reader.meta().clone();
    if let Some(unknown) = cut.actions.iter().find(|name| !meta.actions.iter().any(|a| a.name == **name)) {
        let known: Vec<&str> = meta.actions.iter().map(|a| a.name.as_str()).collect();
        return Err(refuse(input, format!("has no action `{unknown}`; there are {}", known.join(", "))));
    }
    let time = cut.time.clone().unwrap_or(0..meta.duration_ns);
    let chosen = |session: u32| {
        let within = cut.sessions.as_ref().is_none_or(|sessions| sessions.contains(&session));
        within && cut.sample.is_none_or(|share| unit(cut.seed, session) < share)
    };
    let action = |action: u16| cut.actions.is_empty() || cut.actions.contains(&meta.actions[usize::from(action)].name);
    let (mut numbers, mut opens, mut kept, mut orphaned) = (Vec::new(), HashMap::<i64, u32>::new(), 0, 0);
    for batch in reader.batches()? {
        for row in batch?.rows() {
            let wanted = time.contains(&row.at_ns) && chosen(row.session) && action(row.action);
            let needs = names(&row.to_operation());
            let whole = needs.iter().all(|op| numbers[*op as usize] >= 0);
            orphaned += u64::from(wanted && !whole);
            numbers.push(if wanted && whole { kept } else { -1 });
            if wanted && whole {
                kept += 1;
                needs.into_iter().for_each(|op| *opens.entry(op).or_default() += 1);
            }
        }
    }
    if kept == 0 {
        return Err(refuse(input, "nothing is left of it; ask for less"));
    }
    let mut writer = Writer::create(output)?;
    for batch in reader.batches()? {
        for row in batch?.rows().filter(|row| numbers[row.op as usize] >= 0) {
            let mut op = row.to_operation();
            let number = |old: i64| numbers[old as usize];
            renumber(&mut op, number(row.op), &number);
            (op.at_ns, op.opens) = (op.at_ns - time.start, opens.get(&row.op).copied().unwrap_or(0));
            writer.push(&op)?;
        }
    }
    meta.history.push(history);
    Ok(Edited { meta: writer.finish(meta, time.end.min(reader.meta().duration_ns) - time.start)?, orphaned })
}

/// Ops that an op waits for, each once.
fn names(op: &Operation) -> BTreeSet<i64> {
    op.gate.iter().map(|gate| gate.op).chain(op.binds.iter().map(|bind| bind.op)).collect()
}

/// Gives an op and what it refers to new numbers; an id of an op that went becomes its own.
fn renumber(op: &mut Operation, own: i64, number: &impl Fn(i64) -> i64) {
    let of = |old: i64| Some(number(old)).filter(|new| *new >= 0).unwrap_or(own);
    op.slots = std::mem::take(&mut op.slots).into_iter().map(|slot| Slot { op: of(slot.op), ..slot }).collect();
    op.gate = op.gate.map(|gate| Gate { op: of(gate.op), ..gate });
    op.binds = std::mem::take(&mut op.binds).into_iter().map(|bind| Bind { op: of(bind.op), ..bind }).collect();
}

/// In [0, 1), the same for the same seed and session (SplitMix64's finalizer).
fn unit(seed: u64, session: u32) -> f64 {
    let mut x = seed ^ (u64::from(session) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// One after the other, in this order.
///
/// # Errors
/// As [`merge`].
pub fn concat(inputs: &[PathBuf], output: &Path, history: Value) -> Result<Edited, Error> {
    let mut at_ns = 0;
    let mut sources = Vec::new();
    for input in inputs {
        let source = Source::open(input, at_ns)?;
        at_ns += source.reader.meta().duration_ns;
        sources.push(source);
    }
    weave(sources, output, at_ns, history)
}

/// All at once, from the same start; the sessions of each are its own.
///
/// # Errors
/// [`Error`]: a file cannot be read or written, there are more actions or answers than can be numbered.
pub fn merge(inputs: &[PathBuf], output: &Path, history: Value) -> Result<Edited, Error> {
    let sources = inputs.iter().map(|input| Source::open(input, 0)).collect::<Result<Vec<_>, _>>()?;
    let duration_ns = sources.iter().map(|source| source.reader.meta().duration_ns).max().unwrap_or(0);
    weave(sources, output, duration_ns, history)
}

/// The same sessions several times, each copy shifted by up to `spread_ns`. With `entity`, a token of the subject, each copy acts
/// under other names of the same shape, wherever they stand in an op.
///
/// # Errors
/// As [`merge`]; ops that are found by a key cannot be copied.
pub fn scale(
    input: &Path,
    output: &Path,
    copies: u32,
    entity: Option<i32>,
    seed: u64,
    spread_ns: i64,
    history: Value,
) -> Result<Edited, Error> {
    let (mut sources, mut last_ns) = (Vec::new(), 0);
    for copy in 0..copies {
        let shift_ns = if copy == 0 { 0 } else { (unit(seed, copy) * spread_ns as f64) as i64 };
        let mut source = Source::open(input, shift_ns)?;
        let keyed = source.reader.meta().answers.iter().any(|rule| matches!(rule.whose, Whose::Fields(_)));
        if keyed {
            return Err(refuse(input, "has answers that are found by a key, which copies would share; compile it for more users instead"));
        }
        source.rename = entity.filter(|_| copy > 0).map(|token| (token, format!("{seed} {copy}").into_bytes()));
        last_ns = last_ns.max(shift_ns);
        sources.push(source);
    }
    let duration_ns = sources.first().map_or(0, |source| source.reader.meta().duration_ns) + last_ns;
    weave(sources, output, duration_ns, history)
}

/// A schedule on its way into another.
struct Source {
    reader: Reader,
    shift_ns: i64,
    /// A token of the subject, and the key of its new names.
    rename: Option<(i32, Vec<u8>)>,
    actions: Vec<u16>,
    answers: Vec<u8>,
    sessions: u32,
    numbers: Vec<i64>,
}

impl Source {
    fn open(path: &Path, shift_ns: i64) -> Result<Source, Error> {
        let reader = Reader::open(path)?;
        Ok(Source { reader, shift_ns, rename: None, actions: Vec::new(), answers: Vec::new(), sessions: 0, numbers: Vec::new() })
    }

    /// One more than its largest session.
    fn count_sessions(&self) -> Result<u32, Error> {
        let mut sessions = 0;
        for batch in self.reader.batches()? {
            sessions = batch?.rows().map(|row| row.session + 1).max().unwrap_or(0).max(sessions);
        }
        Ok(sessions)
    }

    /// An op of it as the new schedule has it.
    fn adopt(&self, mut op: Operation, own: i64) -> Operation {
        renumber(&mut op, own, &|old| self.numbers.get(old as usize).copied().unwrap_or(-1));
        op.at_ns += self.shift_ns;
        op.session += self.sessions;
        op.action = self.actions[usize::from(op.action)];
        let answer = |answer: u8| self.answers[usize::from(answer)];
        op.expect = op.expect.into_iter().map(|e| Expect { answer: answer(e.answer), ..e }).collect();
        op.gate = op.gate.map(|gate| Gate { answer: answer(gate.answer), ..gate });
        op.binds = op.binds.into_iter().map(|bind| Bind { answer: answer(bind.answer), ..bind }).collect();
        if let Some((n, key)) = &self.rename
            && let Some(name) = token(&op.target, *n).map(str::to_owned)
        {
            let other = String::from_utf8_lossy(&pseudonym(key, name.as_bytes())).into_owned();
            // Of the same length, so that no slot moves.
            op.target = op.target.replace(&name, &other);
            op.headers.iter_mut().for_each(|(_, value)| *value = value.replace(&name, &other));
            replace(&mut op.payload, name.as_bytes(), other.as_bytes());
        }
        op
    }
}

fn replace(text: &mut [u8], from: &[u8], to: &[u8]) {
    let mut at = 0;
    while !from.is_empty() && at + from.len() <= text.len() {
        if &text[at..at + from.len()] == from {
            text[at..at + from.len()].copy_from_slice(to);
            at += from.len();
        } else {
            at += 1;
        }
    }
}

/// Writes the ops of all sources in the order of time.
fn weave(mut sources: Vec<Source>, output: &Path, duration_ns: i64, history: Value) -> Result<Edited, Error> {
    let mut meta = joined(&mut sources, output)?;
    let mut rows = Vec::new();
    for source in &sources {
        let operations = |batch: Result<schedule::Batch, schedule::Error>| {
            let read = batch.map(|batch| batch.rows().map(|row| row.to_operation()).collect::<Vec<_>>());
            let (ops, error) = read.map_or_else(|e| (Vec::new(), Some(Err(e))), |ops| (ops, None));
            ops.into_iter().map(Ok).chain(error)
        };
        rows.push(source.reader.batches()?.flat_map(operations).peekable());
    }
    let mut writer = Writer::create(output)?;
    let mut op = 0;
    loop {
        let due = |i: usize, row: &Result<Operation, _>| row.as_ref().map_or(i64::MIN, |row: &Operation| row.at_ns + sources[i].shift_ns);
        let heads = rows.iter_mut().enumerate().filter_map(|(i, rows)| Some((i, due(i, rows.peek()?))));
        let Some((first, _)) = heads.min_by_key(|(i, at_ns)| (*at_ns, *i)) else { break };
        let row = rows[first].next().expect("just looked")?;
        let adopted = sources[first].adopt(row, op);
        sources[first].numbers.push(op);
        writer.push(&adopted)?;
        op += 1;
    }
    meta.history.push(history);
    Ok(Edited { meta: writer.finish(meta, duration_ns)?, orphaned: 0 })
}

/// The tables of all sources in one; each source learns its new numbers.
fn joined(sources: &mut [Source], output: &Path) -> Result<Meta, Error> {
    let metas: Vec<Meta> = sources.iter().map(|source| source.reader.meta().clone()).collect();
    let mut meta = metas.first().cloned().ok_or_else(|| refuse(output, "there is nothing to make it of"))?;
    let (mut answers, mut actions): (Vec<AnswerRule>, Vec<Action>) = (Vec::new(), Vec::new());
    let mut sessions = 0;
    for (source, theirs) in sources.iter_mut().zip(&metas) {
        source.answers = theirs.answers.iter().map(|rule| number(&mut answers, rule.clone(), |rule| &mut rule.name) as u8).collect();
        let renumbered = |action: &Action| Action {
            answers: action.answers.iter().map(|a| source.answers[usize::from(*a)]).collect(),
            ..action.clone()
        };
        source.actions =
            theirs.actions.iter().map(|action| number(&mut actions, renumbered(action), |action| &mut action.name) as u16).collect();
        source.sessions = sessions;
        sessions += source.count_sessions()?;
        if answers.len() > 250 || actions.len() > 60_000 {
            return Err(refuse(output, "has more actions or answers than can be numbered; merge fewer"));
        }
    }
    meta.streams = metas.iter().flat_map(|m| m.streams.clone()).collect::<BTreeSet<_>>().into_iter().collect();
    if metas.iter().any(|m| m.fingerprint != meta.fingerprint) {
        // Of several populations none can be seeded from it.
        (meta.fingerprint, meta.workload, meta.stages, meta.slo) = (String::new(), json!({ "merged": true }), Vec::new(), Vec::new());
    }
    meta.losses = metas.iter().filter_map(|m| m.losses.clone()).reduce(both);
    meta.history = metas.iter().flat_map(|m| m.history.clone()).collect();
    (meta.answers, meta.actions) = (answers, actions);
    meta.name = output.file_stem().map_or_else(|| meta.name.clone(), |stem| stem.to_string_lossy().into_owned());
    Ok(meta)
}

/// What two captures lack together.
fn both(a: Value, b: Value) -> Value {
    let gaps = |v: &Value| v["gaps"].as_array().cloned().unwrap_or_default();
    let dropped = |v: &Value| v["dropped"].as_u64().unwrap_or(0);
    let cut_off = a["cut_off"] == true || b["cut_off"] == true;
    let all = [gaps(&a), gaps(&b)].concat();
    json!({ "dropped": dropped(&a) + dropped(&b), "gaps": all, "cut_off": cut_off })
}

/// The number of an entry among those of a table; one of the same name that is another gets another name.
fn number<T: PartialEq + Clone>(table: &mut Vec<T>, entry: T, name: impl Fn(&mut T) -> &mut String) -> usize {
    let mut wanted = entry.clone();
    let base = name(&mut wanted).clone();
    for suffix in 2.. {
        if let Some(known) = table.iter().position(|known| *known == wanted) {
            return known;
        }
        let named = name(&mut wanted).clone();
        if !table.iter().any(|known| *name(&mut known.clone()) == named) {
            table.push(wanted);
            return table.len() - 1;
        }
        *name(&mut wanted) = format!("{base}-{suffix}");
    }
    unreachable!("there is always another name")
}
