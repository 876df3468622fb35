use crate::args::{Analyze, Judge, Outputs};
use crate::failure::{Exit, Result, usage};
use crate::output;
use analyze::{Line, Question, Summary, render};
use std::path::Path;

pub fn run(args: &Analyze) -> Result<Exit> {
    let question = Question { warmup_ns: args.warmup, window_ns: args.window, by_size: args.by_size, ..question(&args.judge)? };
    let bar = output::bar(0, "analysing");
    let summary = analyze::analyze_with(&args.run, &question, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    write(&summary, &args.outputs)?;
    Ok(summary.verdict.outcome.into())
}

/// The lines to judge by: those typed, those of a file, those of a preset. None at all asks the workload's own.
pub fn question(judge: &Judge) -> Result<Question> {
    let mut typed: Vec<String> = judge.slo.clone();
    if let Some(path) = &judge.slo_file {
        typed.extend(slo_file(path)?);
    }
    let lines: Vec<Line> = typed.iter().map(|l| l.parse()).collect::<std::result::Result<_, _>>().map_err(analyze::Error::from)?;
    let preset = judge.slo_preset.as_deref().map(|name| {
        analyze::slo_preset(name).ok_or_else(|| {
            let names: Vec<&str> = analyze::SLO_PRESETS.iter().map(|(name, _)| *name).collect();
            usage(format!("there is no SLO preset `{name}`; there are {}", names.join(", ")))
        })
    });
    let any = !typed.is_empty() || preset.is_some();
    Ok(Question {
        slo: any.then_some(lines),
        slo_where_known: preset.transpose()?.unwrap_or_default(),
        late_ns: Some(judge.late_after),
        ..Question::default()
    })
}

/// A TOML file with `slo = ["send/reply p95 < 100ms", …]`.
fn slo_file(path: &Path) -> Result<Vec<String>> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        slo: Vec<String>,
    }
    let wrong = |e: String| usage(format!("{}: {e}; write slo = [\"send/reply p95 < 100ms\"]", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
    Ok(toml::from_str::<File>(&text).map_err(|e| wrong(e.to_string()))?.slo)
}

/// Prints the report and writes the files that are asked for.
pub fn write(summary: &Summary, outputs: &Outputs) -> Result<()> {
    if let Some(dir) = &outputs.csv {
        for (name, text) in render::csv(summary) {
            output::write(&dir.join(name), text)?;
        }
    }
    if let Some(dir) = &outputs.hgrm {
        write_hgrm(summary, dir)?;
    }
    if let Some(dir) = &outputs.charts {
        for chart in render::charts(summary) {
            output::write(&dir.join(format!("{}.svg", chart.name)), chart.svg()?)?;
            output::write(&dir.join(format!("{}.png", chart.name)), chart.png()?)?;
        }
    }
    if let Some(path) = &outputs.html {
        output::write(path, render::html(summary)?)?;
    }
    output::print(&if outputs.json { render::json(summary) } else { render::text(summary) });
    Ok(())
}

fn write_hgrm(summary: &Summary, dir: &Path) -> Result<()> {
    for series in &summary.series {
        let name = series.name.replace(['/', ':'], "-");
        output::write(&dir.join(format!("{name}.hgrm")), render::hgrm(series))?;
    }
    Ok(())
}
