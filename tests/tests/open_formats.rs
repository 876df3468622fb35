//! DuckDB and Polars open schedules and runs as they are, and count what we count.

use harness::{World, series};
use standin::Config;
use std::path::Path;
use std::process::Command;

/// Runs a script with the packages that `scripts/servers` installs.
fn python(dir: &Path, script: &str) -> String {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.servers/python");
    assert!(packages.join(".complete").exists(), "DuckDB and Polars are not installed: run scripts/servers");
    let output = Command::new("python3").args(["-c", script]).current_dir(dir).env("PYTHONPATH", packages).output().expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The SQL block of the README, for run folder RUN.
fn readme_query() -> String {
    let readme = include_str!("../../README.md");
    let block = readme.split("```sql\n").nth(1).expect("the README has a query").split("```").next().unwrap();
    block.trim().to_owned()
}

#[test]
fn the_query_of_the_readme_gives_our_p99() {
    let world = World::new();
    let (path, meta) = world.compile("medium", 500.0, 2_000_000_000);
    let services = world.standin(&meta, Config::default());
    let (_, summary) = world.run(&world.options(&path, "RUN"));
    services.stop();
    let query = readme_query();
    let dir = world.dir.path();
    let found = python(dir, &format!("import duckdb\nprint(duckdb.sql('''{query}''').fetchall()[0][0])"));
    let ours = series(&summary, "send/reply").response.p99_ns.unwrap() as f64 / 1e6;
    assert!((found.parse::<f64>().unwrap() - ours).abs() < 1e-9, "DuckDB {found}, retempo {ours}");

    let schedule = "duckdb.sql(\"select count(*), count(distinct session), max(len(slots)), sum(expect[1].count)::int from 'medium.parquet'\").fetchall()[0]";
    assert_eq!(python(dir, &format!("import duckdb\nprint({schedule})")), format!("(1000, {}, 2, 1000)", sessions(&path)));
    let logs = "import duckdb\nfor log in ['sends','replies','broadcasts','events','metrics']: print(len(duckdb.sql(f\"select * from 'RUN/{log}-*.parquet'\").fetchall()) > 0)";
    assert_eq!(python(dir, logs), ["True"; 5].join("\n"));

    let polars = "import polars as pl\n\
        s, r = pl.scan_parquet('RUN/sends-*.parquet'), pl.scan_parquet('RUN/replies-*.parquet')\n\
        print(pl.read_parquet('medium.parquet').height, s.join(r, on='op').select((pl.col('received_ns')-pl.col('intended_ns')).max()).collect().item())";
    assert_eq!(python(dir, polars), format!("1000 {}", series(&summary, "send/reply").response.max_ns.unwrap()));
}

fn sessions(path: &Path) -> usize {
    let batches = schedule::Reader::open(path).unwrap().batches().unwrap();
    let sessions: std::collections::HashSet<u32> = batches.flat_map(|b| b.unwrap().rows().map(|r| r.session).collect::<Vec<_>>()).collect();
    sessions.len()
}
