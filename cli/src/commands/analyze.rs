use crate::args::Analyze;
use crate::failure::{Exit, Result};
use crate::output;
use analyze::{Question, Summary, render};
use std::path::Path;

pub fn run(args: &Analyze) -> Result<Exit> {
    let lines: Vec<analyze::Line> =
        args.slo.iter().map(|l| l.parse()).collect::<std::result::Result<_, _>>().map_err(analyze::Error::from)?;
    let question = Question { slo: (!lines.is_empty()).then_some(lines), warmup_ns: args.warmup, window_ns: args.window };
    let bar = output::bar(0, "analysing");
    let summary = analyze::analyze_with(&args.run, &question, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    if let Some(dir) = &args.csv {
        for (name, text) in render::csv(&summary) {
            output::write(&dir.join(name), text)?;
        }
    }
    if let Some(dir) = &args.hgrm {
        write_hgrm(&summary, dir)?;
    }
    if let Some(dir) = &args.charts {
        for chart in render::charts(&summary) {
            output::write(&dir.join(format!("{}.svg", chart.name)), chart.svg()?)?;
            output::write(&dir.join(format!("{}.png", chart.name)), chart.png()?)?;
        }
    }
    if let Some(path) = &args.html {
        output::write(path, render::html(&summary)?)?;
    }
    output::print(&if args.json { render::json(&summary) } else { render::text(&summary) });
    Ok(summary.verdict.outcome.into())
}

fn write_hgrm(summary: &Summary, dir: &Path) -> Result<()> {
    for series in &summary.series {
        let name = series.name.replace(['/', ':'], "-");
        output::write(&dir.join(format!("{name}.hgrm")), render::hgrm(series))?;
    }
    Ok(())
}
