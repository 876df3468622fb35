use crate::args::{Slo, SloCommand};
use crate::failure::{Exit, Result, usage};
use crate::output;
use analyze::{Outcome, Question};

pub fn run(args: &Slo) -> Result<Exit> {
    let SloCommand::Suggest(args) = &args.command;
    if args.factor < 1.0 || !args.factor.is_finite() {
        return Err(usage(format!("--factor {} is below 1: the run itself would not hold", args.factor)));
    }
    let question = Question { slo: Some(Vec::new()), warmup_ns: args.warmup, ..Question::default() };
    let summary = analyze::analyze(&args.run, &question)?;
    let lines = analyze::suggest(&summary, args.factor).map_err(|what| usage(format!("{}: {what}", args.run.display())))?;
    if summary.verdict.outcome == Outcome::Inconclusive {
        let why = summary.verdict.reasons.first().map_or("", String::as_str);
        eprintln!("the run is INCONCLUSIVE ({why}), so these may be wider than they need to be");
    }
    let listed: String = lines.iter().map(|line| format!("  {line:?},\n")).collect();
    let text = format!("# From {}, {} times as long.\nslo = [\n{listed}]\n", args.run.display(), args.factor);
    match &args.output {
        Some(path) => {
            output::must_not_exist(path, false)?;
            output::write(path, text)?;
        }
        None => output::print(&text),
    }
    Ok(Exit::Done)
}
