use crate::args::{ArrivalsArg, Compile};
use crate::failure::{Exit, Failure, Result, usage};
use crate::output;
use fixtures::{Overrides, Population, Process, Workload};
use schedule::Meta;
use schedule::units::{show_count, show_ns, show_rate};
use std::path::Path;

pub fn run(args: &Compile) -> Result<Exit> {
    let overrides = Overrides {
        seed: args.seed,
        rate_per_sec: args.rate,
        duration_ns: args.duration,
        users: args.users,
        process: args.arrivals.map(|a| match a {
            ArrivalsArg::Poisson => Process::Poisson,
            ArrivalsArg::Uniform => Process::Uniform,
        }),
        inject: args.inject.clone(),
        set: args.set.clone(),
    };
    output::must_not_exist(&args.output, args.force)?;
    let meta = compile(&args.workload, &overrides, &args.output)?;
    eprintln!(
        "{}: {} ops over {}, {} (peak {}), seed {}",
        args.output.display(),
        show_count(meta.rows as u64),
        show_ns(meta.duration_ns),
        show_rate(meta.nominal_rate_per_sec),
        show_rate(meta.peak_rate_per_sec),
        meta.seed
    );
    Ok(Exit::Done)
}

/// Compiles a workload file or preset to `path`.
pub fn compile(workload: &str, overrides: &Overrides, path: &Path) -> Result<Meta> {
    let (workload, base) = load(workload)?;
    let workload = workload.with(overrides)?;
    let population = Population::build(&workload, workload.seed, &base)?;
    let bar = output::bar(workload.arrivals.count(), "compiling");
    let meta = fixtures::compile(&workload, &population, path, &mut |rows| bar.set_position(rows))?;
    bar.finish_and_clear();
    Ok(meta)
}

/// A workload by file or name, and the folder its tables are relative to.
pub fn load(name: &str) -> Result<(Workload, std::path::PathBuf)> {
    let path = Path::new(name);
    if path.extension().is_none() && !path.exists() {
        return Ok((fixtures::preset(name)?, Path::new(".").to_owned()));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|e| usage(format!("cannot read the workload {name}: {e}; name a .toml file or a preset (`retempo preset list`)")))?;
    let workload = Workload::parse(&text, name).map_err(Failure::from)?;
    Ok((workload, path.parent().unwrap_or(Path::new("")).to_owned()))
}
