//! All waves of a run: decode, join, count; windows are closed as soon as no later op can fall into them.

use crate::Error;
use crate::analysis::ClosedWindow;
use crate::input::Input;
use crate::keyed;
use crate::samples::Samples;
use crate::slo::{Line, Metric};
use crate::spool::Spool;
use crate::tally::{Cell, Copies, Copy, Counts, Layout, SeriesKey, Tally, Windows, merge_cells, merge_window};
use crate::wave::{Grid, Log, Part, WAVE_OPS, Wave};
use rayon::prelude::*;
use runlog::{Chunk, JoinSent};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

/// Waves counted at a time, for each thread.
const WAVES_AT_ONCE: usize = 4;
/// Waves that a chunk of ops touches where they stand close together.
const DENSE_WAVES: i64 = 16;
/// Decoded chunks shared by waves, for each thread; past it each wave decodes for itself.
const CHUNKS_AT_ONCE: usize = 16;

/// The count so far.
pub(crate) struct Count<'a> {
    input: &'a Input,
    grid: &'a Grid,
    lines: &'a [Line],
    names: &'a BTreeMap<SeriesKey, String>,
    pub layout: Layout,
    /// Whole run, every copy; by number of [`Layout`].
    pub whole: Vec<Cell>,
    pub copies: Vec<Copies>,
    pub buckets: BTreeMap<Arc<str>, Vec<Cell>>,
    pub lateness: Samples,
    pub counts: Counts,
    pub closed: Vec<ClosedWindow>,
    pub spool: Spool,
    windows: Windows,
    /// Answers that were found by their key.
    keyed: Vec<Part>,
    /// Those that belong to no op, by answer.
    pub unexpected: BTreeMap<u8, u64>,
    /// Decoded chunks, by log and index.
    decoded: HashMap<(Log, usize), Part>,
}

impl<'a> Count<'a> {
    pub fn new(input: &'a Input, grid: &'a Grid, lines: &'a [Line], names: &'a BTreeMap<SeriesKey, String>) -> Count<'a> {
        let layout = Layout::of(&input.manifest.schedule);
        Count {
            input,
            grid,
            lines,
            names,
            layout,
            whole: layout.cells(),
            copies: vec![Copies::default(); layout.len()],
            buckets: BTreeMap::new(),
            lateness: Samples::default(),
            counts: Counts::default(),
            closed: Vec::new(),
            spool: Spool::create(),
            windows: BTreeMap::new(),
            keyed: Vec::new(),
            unexpected: BTreeMap::new(),
            decoded: HashMap::new(),
        }
    }

    /// Counts everything; `progress` is told how many parts of how many are done.
    pub fn all(&mut self, progress: &mut dyn FnMut(u64, u64)) -> Result<(), Error> {
        let starts = self.starts()?;
        let found = keyed::join(self.input, &self.grid.due_ns)?;
        (self.keyed, self.unexpected) = (found.parts, found.unexpected);
        let threads = rayon::current_num_threads();
        let workspaces = Mutex::new(Vec::new());
        let groups = starts.chunks(threads * WAVES_AT_ONCE);
        let total = groups.len() as u64;
        for (i, group) in groups.enumerate() {
            progress(i as u64, total);
            self.decode(group, threads * CHUNKS_AT_ONCE)?;
            let wave = |start: &i64| {
                let pooled = workspaces.lock().expect("no panic while locked").pop();
                let mut wave = pooled.unwrap_or_else(|| Wave::new(self.input, self.grid));
                let tally = self.tally(&mut wave, *start);
                workspaces.lock().expect("no panic while locked").push(wave);
                tally
            };
            let tallies = group.par_iter().map(wave).collect::<Result<Vec<Tally>, Error>>()?;
            self.add(tallies, i as u64 + 1 == total);
        }
        Ok(())
    }

    /// First ops of the waves that have any. Ops may be far apart, as in a subset of sessions.
    fn starts(&self) -> Result<Vec<i64>, Error> {
        let wave = |op: i64| op.div_euclid(WAVE_OPS);
        let mut waves: BTreeSet<i64> = BTreeSet::new();
        let asked = &self.input.ops;
        for chunk in self.input.sends.iter().filter(|chunk| chunk.min_op < asked.end && chunk.max_op >= asked.start) {
            if chunk.max_op.saturating_sub(chunk.min_op) / WAVE_OPS <= DENSE_WAVES {
                waves.extend(wave(chunk.min_op)..=wave(chunk.max_op));
            } else {
                let batches = chunk.read::<JoinSent>()?;
                waves.extend(batches.iter().flat_map(|batch| batch.op.values().iter().map(|op| wave(*op))));
            }
        }
        let starts = waves.into_iter().map(|wave| wave * WAVE_OPS);
        Ok(starts.filter(|start| *start < asked.end && start.saturating_add(WAVE_OPS) > asked.start).collect())
    }

    /// By [`Log`].
    fn chunks(&self) -> [&'a [Chunk]; 4] {
        let sizes: &[Chunk] = if self.grid.by_size { &self.input.replies } else { &[] };
        [&self.input.sends, &self.input.replies, &self.input.broadcasts, sizes]
    }

    /// Chunks of all logs with ops of a wave.
    fn touched(&self, start: i64) -> impl Iterator<Item = (Log, usize)> + use<'a> {
        let touches = move |c: &Chunk| c.min_op < start.saturating_add(WAVE_OPS) && c.max_op >= start;
        let of =
            move |(log, chunks): (Log, &'a [Chunk])| chunks.iter().enumerate().filter(move |(_, c)| touches(c)).map(move |(i, _)| (log, i));
        [Log::Sends, Log::Replies, Log::Broadcasts, Log::Sizes].into_iter().zip(self.chunks()).flat_map(of)
    }

    /// Decodes what several waves need, once.
    fn decode(&mut self, starts: &[i64], at_most: usize) -> Result<(), Error> {
        let wanted: BTreeSet<(Log, usize)> = starts.iter().flat_map(|start| self.touched(*start)).collect();
        self.decoded.retain(|part, _| wanted.contains(part));
        let missing: Vec<(Log, usize)> = wanted.into_iter().filter(|part| !self.decoded.contains_key(part)).collect();
        let room = at_most.saturating_sub(self.decoded.len()).min(missing.len());
        let chunks = self.chunks();
        let read = |&(log, i): &(Log, usize)| Ok::<_, Error>(((log, i), Part::read(log, &chunks[log as usize][i])?));
        let parts = missing[..room].par_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        self.decoded.extend(parts);
        Ok(())
    }

    fn tally(&self, wave: &mut Wave<'a>, start: i64) -> Result<Tally, Error> {
        wave.begin(start);
        for (log, i) in self.touched(start) {
            let chunk = &self.chunks()[log as usize][i];
            match self.decoded.get(&(log, i)) {
                Some(part) => wave.absorb(part),
                None => wave.absorb(&Part::read(log, chunk)?),
            }
            .map_err(|what| chunk.damaged(what))?;
        }
        self.keyed.iter().try_for_each(|part| wave.absorb(part)).map_err(|what| self.input.keyed[0].damaged(what))?;
        Ok(wave.retire())
    }

    fn add(&mut self, tallies: Vec<Tally>, last: bool) {
        for tally in tallies {
            self.counts.merge(tally.counts);
            self.lateness.merge(tally.lateness);
            for (mine, theirs) in self.copies.iter_mut().zip(tally.copies) {
                mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| mine.merge(theirs));
            }
            for (key, cells) in tally.windows {
                merge_window(&mut self.windows, key, cells);
            }
            for (bucket, cells) in tally.buckets {
                let layout = self.layout;
                merge_cells(self.buckets.entry(bucket).or_insert_with(|| layout.cells()), cells);
            }
        }
        let spool = &self.spool;
        let cells = self.copies.iter_mut().flatten().chain(self.buckets.values_mut().flatten());
        let samples = cells.flat_map(|cell| [&mut cell.response, &mut cell.service]).chain([&mut self.lateness]);
        samples.collect::<Vec<_>>().into_par_iter().for_each(|samples| samples.settle(spool));
        let done_ns = self.counts.passed_ns;
        let done = |(length, window): (i64, i64)| last || window.saturating_add(1).saturating_mul(length) <= done_ns;
        self.close(done);
    }

    /// Windows give their percentiles, then their values to the whole.
    fn close(&mut self, done: impl Fn((i64, i64)) -> bool) {
        let keys: Vec<(i64, i64)> = self.windows.keys().copied().filter(|key| done(*key)).collect();
        let (layout, lines, names) = (self.layout, self.lines, self.names);
        let mut windows: Vec<Window> = Vec::new();
        for key in keys {
            let cells = self.windows.remove(&key).expect("just listed");
            let full = cells.into_iter().enumerate().filter(|(_, cell)| !cell.is_empty());
            windows.extend(full.map(|(pair, cell)| Window { length_ns: key.0, index: key.1, pair, cell }));
        }
        let closed: Vec<ClosedWindow> = windows.par_iter_mut().map(|window| window.close(layout, lines, names)).collect();
        self.closed.extend(closed);
        let mut by_pair: Vec<Vec<Cell>> = vec![Vec::new(); layout.len()];
        for window in windows.into_iter().filter(|w| w.length_ns == self.grid.windows_ns[0]) {
            by_pair[window.pair].push(window.cell);
        }
        let spool = &self.spool;
        self.whole.par_iter_mut().zip(by_pair).for_each(|(whole, cells)| {
            for mut cell in cells {
                let (response, service) = (std::mem::take(&mut cell.response), std::mem::take(&mut cell.service));
                whole.merge(cell);
                whole.response.absorb(response, spool);
                whole.service.absorb(service, spool);
            }
        });
    }
}

/// One pair in one window.
struct Window {
    length_ns: i64,
    index: i64,
    pair: usize,
    cell: Cell,
}

impl Window {
    fn close(&mut self, layout: Layout, lines: &[Line], names: &BTreeMap<SeriesKey, String>) -> ClosedWindow {
        let (action, answer) = layout.pair(self.pair);
        let (key, missing, cell) = ((action, answer, Copy::Each), self.cell.missing, &mut self.cell);
        let asked = lines.iter().enumerate().filter_map(|(i, line)| match line.metric {
            Metric::Latency { quantile, service } if line.every_ns == Some(self.length_ns) && line.series.as_ref() == names.get(&key) => {
                let samples = if service { &mut cell.service } else { &mut cell.response };
                Some((i, samples.percentile(quantile, missing)))
            }
            _ => None,
        });
        let asked = asked.collect();
        let shown = cell.response.percentiles(&[0.5, 0.95, 0.99], missing, None);
        // The counts and the maximum stay with the window; the values go on.
        let counted = Cell {
            errors: cell.errors.clone(),
            response: Samples::counted(cell.response.count(), cell.response.max_ns()),
            service: Samples::default(),
            ..*cell
        };
        let start_ns = self.index.saturating_mul(self.length_ns);
        ClosedWindow { length_ns: self.length_ns, start_ns, key, cell: counted, shown: [shown[0], shown[1], shown[2]], asked }
    }
}
