//! What `ramp` and `search` share: one run folder, a step after the other, each judged when it is over.

use super::command_line::command_line;
use super::{analyze as analyzing, http, nats, replay as replaying};
use crate::args::{Course as CourseArgs, Outputs};
use crate::failure::{Exit, Failure, Result, usage};
use analyze::{Outcome, Question, Step};
use replay::{Only, Options, Plan, TempoChoice};
use runlog::{Axis, Course, StepMark};
use schedule::Tempo;
use schedule::units::{show_count, show_ns, show_rate};
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
    let http = http::options(&args.http, &args.nats)?;
    http::confirm(&args.nats, &nats, &http, &plan)?;
    let run = ulid::Ulid::new().to_string();
    let run_dir = args.output.clone().unwrap_or_else(|| PathBuf::from("runs").join(&run));
    let options = Options {
        command: command_line(),
        tempo: fastest,
        connections: replaying::connections(args.direct, args.connections),
        http,
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

    /// A step at a rate.
    pub fn rate_step(&self, args: &CourseArgs, course: Course, rate_per_sec: f64) -> replay::Step {
        let meta = &self.plan.meta;
        step(args, (course, Axis::Rate, rate_per_sec), tempo_for(rate_per_sec, meta.rows, meta.duration_ns), Only::All)
    }

    /// A step with so many users, each keeping its own rhythm.
    pub fn users_step(&self, args: &CourseArgs, course: Course, users: f64) -> Result<replay::Step> {
        let sessions = self.plan.sessions;
        if users > f64::from(sessions) {
            let why = "is beyond; compile it with more users";
            return Err(usage(format!("--users-steps: the schedule has {sessions} sessions, and step {users} {why}")));
        }
        Ok(step(args, (course, Axis::Users, users), Tempo::default(), Only::Sessions(users as u32)))
    }

    /// A step with the ops of the bucket whose name begins with a number, at a rate of their own; as fast as the schedule if none
    /// is given.
    pub fn size_step(&self, args: &CourseArgs, course: Course, size: f64, rate_per_sec: Option<f64>) -> Result<replay::Step> {
        let number = |name: &str| name.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse::<u64>().ok());
        let Some((name, ops)) = self.plan.buckets.iter().find(|(name, _)| number(name) == Some(size as u64)) else {
            let mut names: Vec<&str> = self.plan.buckets.keys().map(String::as_str).collect();
            names.sort_by_key(|name| number(name));
            let there = if names.is_empty() { "it has no buckets".into() } else { format!("there are {}", names.join(", ")) };
            return Err(usage(format!("--size-steps: no bucket of the schedule begins with {size}; {there}")));
        };
        let meta = &self.plan.meta;
        let rate_per_sec = rate_per_sec.unwrap_or(meta.nominal_rate_per_sec);
        let tempo = tempo_for(rate_per_sec, *ops, meta.duration_ns);
        Ok(step(args, (course, Axis::Size, size), tempo, Only::Bucket(name.clone())))
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

fn step(args: &CourseArgs, (course, axis, target): (Course, Axis, f64), tempo: Tempo, only: Only) -> replay::Step {
    replay::Step { course, axis, target, tempo, only, warmup_ns: args.warmup, hold_ns: args.hold, cooldown_ns: args.cooldown }
}

/// The exact ratio, as far as a rate with three decimals goes.
fn tempo_for(rate_per_sec: f64, ops: i64, duration_ns: i64) -> Tempo {
    Tempo::for_rate(((rate_per_sec * 1000.0).round() as i128, 1000), ops, duration_ns)
}

fn judge(dir: &Path, question: &Question, mark: &StepMark) -> Result<Step> {
    let step = Step::new(mark, analyze::analyze_step(dir, question, mark)?);
    let each = step.series.iter().filter(|s| !s.name.contains(':'));
    let p95: Vec<String> = each.map(|s| format!("{} {}", s.name, s.response.p95_ns.map_or_else(|| "-".into(), show_ns))).collect();
    let reason = match step.verdict.outcome {
        Outcome::Pass => String::new(),
        _ => format!("  {}", step.verdict.reasons.first().map_or("", String::as_str)),
    };
    let target = analyze::show_target(mark.axis, mark.target);
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
pub fn targets(flag: &str, text: &str) -> Result<Vec<f64>> {
    let mut targets: Vec<f64> = Vec::new();
    for word in text.split(',') {
        let step = schedule::units::parse_rate(word.trim()).map_err(|e| usage(format!("{flag}: step `{word}`: {e}")))?;
        let step = step.0 as f64 / step.1 as f64;
        if step <= 0.0 {
            return Err(usage(format!("{flag}: step `{word}` is not above 0")));
        }
        if let Some(before) = targets.last().filter(|before| step <= **before) {
            return Err(usage(format!("{flag}: step `{word}` is not above the one before it ({before}); steps ascend")));
        }
        targets.push(step);
    }
    Ok(targets)
}
