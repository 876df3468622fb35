//! What `ramp` and `search` share: one run folder, a step after the other, each judged when it is over.

use super::{analyze as analyzing, nats, replay as replaying};
use crate::args::{Course as CourseArgs, Outputs};
use crate::failure::{Exit, Failure, Result, usage};
use analyze::{Outcome, Question, Step};
use replay::{Options, Plan, TempoChoice};
use runlog::{Axis, Course, StepMark};
use schedule::units::{show_count, show_ns, show_rate};
use schedule::{Meta, Tempo};
use std::path::{Path, PathBuf};

/// Everything that is settled before the first step.
pub struct Prepared {
    pub question: Question,
    options: Options,
    plan: Plan,
}

/// Checks what was typed against the schedule, with the fastest rate there will be.
pub fn prepare(args: &CourseArgs, fastest: TempoChoice) -> Result<Prepared> {
    let plan = Plan::new(&args.schedule, &fastest, None, None)?;
    let question = analyzing::question(&args.judge)?;
    analyze::check_lines(&question, &plan.meta)?;
    let nats = nats::options(&args.nats, "retempo")?;
    nats::confirm_target(&args.nats, &nats)?;
    let run = ulid::Ulid::new().to_string();
    let run_dir = args.output.clone().unwrap_or_else(|| PathBuf::from("runs").join(&run));
    let options = Options {
        command: replaying::command_line(),
        tempo: fastest,
        connections: replaying::connections(args.direct, args.connections),
        ..Options::new(&args.schedule, &run_dir, &run, nats)
    };
    let options = replaying::sighted(options, &args.sight, &plan)?;
    let options = replaying::listening(options, &args.listening, &plan)?;
    Ok(Prepared { question, options, plan })
}

impl Prepared {
    /// Refuses steps that need more of a schedule than there is, if it cannot be sent twice.
    pub fn suffices(&self, args: &CourseArgs, rates: &[f64]) -> Result<()> {
        let (has, seconds) = (self.plan.meta.rows as f64, (args.warmup + args.hold) as f64 / 1e9);
        let needs: f64 = rates.iter().map(|rate| rate * seconds).sum();
        if self.plan.may_loop || needs <= has {
            return Ok(());
        }
        Err(usage(format!(
            "{}: these steps need {} ops and the schedule has {}, which cannot be sent twice; compile it with a longer --duration, or make steps shorter",
            args.schedule.display(),
            show_count(needs as u64),
            show_count(has as u64)
        )))
    }

    /// Sessions of the schedule.
    pub fn sessions(&self) -> u32 {
        self.plan.sessions
    }

    /// A step at a rate, or with so many users.
    pub fn step(&self, args: &CourseArgs, course: Course, axis: Axis, target: f64) -> replay::Step {
        let (tempo, sessions) = match axis {
            Axis::Rate => (tempo_for(&self.plan.meta, target), u32::MAX),
            Axis::Users => (Tempo::default(), target as u32),
        };
        replay::Step { course, axis, target, tempo, sessions, warmup_ns: args.warmup, hold_ns: args.hold, cooldown_ns: args.cooldown }
    }

    /// Makes the steps that `next` asks for, told the verdict on the one that is over; then reports.
    pub fn conduct(
        self,
        quiet: bool,
        outputs: &Outputs,
        mut next: impl FnMut(&Prepared, Option<&Step>) -> Option<replay::Step>,
    ) -> Result<Exit> {
        let dir = self.options.run_dir.clone();
        replaying::prepare_dir(&dir)?;
        let mut failure: Option<Failure> = None;
        let mut conduct = |over: Option<&StepMark>| {
            let judged = over.map(|mark| judge(&dir, &self.question, mark)).transpose();
            match judged {
                Ok(step) => next(&self, step.as_ref()),
                Err(e) => {
                    failure = Some(e);
                    None
                }
            }
        };
        let sent = replaying::send_steps(&self.options, &self.plan, quiet, &mut conduct)?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        eprintln!("run folder: {}", dir.display());
        let summary = analyze::analyze(&dir, &self.question)?;
        analyzing::write(&summary, outputs)?;
        Ok(if sent.interrupted { Exit::Interrupted } else { summary.verdict.outcome.into() })
    }
}

/// The exact ratio, as far as a rate with three decimals goes.
fn tempo_for(meta: &Meta, rate_per_sec: f64) -> Tempo {
    Tempo::for_rate(((rate_per_sec * 1000.0).round() as i128, 1000), meta.rows, meta.duration_ns)
}

fn judge(dir: &Path, question: &Question, mark: &StepMark) -> Result<Step> {
    let step = Step::new(mark, analyze::analyze_step(dir, question, mark)?);
    let each = step.series.iter().filter(|s| !s.name.contains(':'));
    let p95: Vec<String> = each.map(|s| format!("{} {}", s.name, s.response.p95_ns.map_or_else(|| "-".into(), show_ns))).collect();
    let reason = match step.verdict.outcome {
        Outcome::Pass => String::new(),
        _ => format!("  {}", step.verdict.reasons.first().map_or("", String::as_str)),
    };
    let target = match mark.axis {
        Axis::Rate => show_rate(mark.target),
        Axis::Users => format!("{} users", show_count(mark.target as u64)),
    };
    let outcome = analyze::render::outcome_name(step.verdict.outcome);
    eprintln!(
        "step {:>2}  {target:>12}  {outcome:12}  achieved {:>9}  p95: {}{reason}",
        mark.number,
        show_rate(step.rate_per_sec.1),
        p95.join(", ")
    );
    Ok(step)
}

/// `500,1k,2k`: ascending.
pub fn targets(text: &str) -> Result<Vec<f64>> {
    let mut targets: Vec<f64> = Vec::new();
    for word in text.split(',') {
        let step = schedule::units::parse_rate(word.trim()).map_err(|e| usage(format!("--steps: step `{word}`: {e}")))?;
        let step = step.0 as f64 / step.1 as f64;
        if step <= 0.0 {
            return Err(usage(format!("--steps: step `{word}` is not above 0")));
        }
        if let Some(before) = targets.last().filter(|before| step <= **before) {
            return Err(usage(format!("--steps: step `{word}` is not above the one before it ({before}); steps ascend")));
        }
        targets.push(step);
    }
    Ok(targets)
}
