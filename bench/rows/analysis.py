"""The analyzer against DuckDB and Polars on the same files, and against decoding alone."""
import os, pickle, shutil, sys

from . import sql
from .tools import PEER, RETEMPO, ROOT, run

OPS = int(os.environ.get("BENCH_ANALYZE_OPS", "20000000"))
def engine(bench, name, folder):
    """An engine in a process of its own: cost and result."""
    out = bench.path(name + ".pickle")
    code = f"import sys, pickle; sys.path.insert(0, {os.path.join(ROOT, 'bench')!r}); from rows import sql; pickle.dump(sql.{name}({folder!r}), open({out!r}, 'wb'))"
    cost = run([sys.executable, "-c", code], bench.folder)
    return cost, pickle.load(open(out, "rb"))


def same(summary, wanted):
    """Every number of the engine that stands in our summary too; how many they were."""
    checked = 0
    ns = lambda p: [p[f"p{q}_ns"] if p[f"p{q}_ns"] is not None else "over" for q in ("50", "90", "95", "99", "999")]
    series = {s["name"]: s for s in summary["series"]}
    for key, value in wanted.items():
        if key == "late":
            pairs = [(ns(summary["lateness"]["percentiles"]), value)]
        elif isinstance(key, tuple):
            continue
        elif ":" in key:
            pairs = list(zip((ns(series[key]["response"]), ns(series[key]["service"])), value))
        else:
            n, missing, highest, response, service = value
            s = series[key]
            pairs = [([s["count"], s["missing"], s["response"]["max_ns"]], [n, missing, highest])]
            # Missing answers rank as slowest with us, and not at all in SQL: percentiles compare where there are none.
            if missing == 0:
                pairs += [(ns(s["response"]), response), (ns(s["service"]), service)]
        for ours, theirs in pairs:
            if list(ours) != list(theirs):
                raise RuntimeError(f"{key}: {ours} is not {theirs}")
            checked += len(theirs)
    for window in summary["windows"]:
        key = (window["series"], window["start_ns"] // 1_000_000_000)
        n, missing, highest, quantiles = wanted[key]
        theirs = [n, missing, highest] + (quantiles if missing == 0 else [])
        ours = [window["count"], window["missing"], window["max_ns"]] + ([window["p50_ns"], window["p95_ns"], window["p99_ns"]] if missing == 0 else [])
        if ours != theirs:
            raise RuntimeError(f"{key}: {ours} is not {theirs}")
        checked += len(theirs)
    return checked


def engines(bench):
    sql.install()
    folder = bench.path("drawn")
    run([PEER, "run", folder, "--ops", str(OPS)], bench.folder)
    ratios = {name: [] for name in ("duckdb", "duckdb_cpu", "polars", "polars_cpu", "floor", "rss")}
    for _ in range(bench.rounds):
        floor = run([PEER, "decode", folder], bench.folder)
        ours = run([RETEMPO, "analyze", folder], bench.folder)
        duck, wanted = engine(bench, "duckdb", folder)
        polar, counts = engine(bench, "polars", folder)
        ratios["floor"].append(ours.wall_s / floor.wall_s)
        ratios["duckdb"].append(duck.wall_s / ours.wall_s)
        ratios["duckdb_cpu"].append(duck.cpu_s / ours.cpu_s)
        ratios["polars"].append(polar.wall_s / ours.wall_s)
        ratios["polars_cpu"].append(polar.cpu_s / ours.cpu_s)
        ratios["rss"].append(duck.rss_bytes / ours.rss_bytes)
    checked = same(bench.summary(folder), wanted)
    if any(wanted[key][0] != n for key, n in counts.items()):
        raise RuntimeError("Polars counts otherwise")
    shutil.rmtree(folder)
    job = f"{OPS:,} ops, whole run and 1 s windows, exact; {checked:,} numbers equal"
    bench.row("analyze.duckdb", ratios["duckdb"], 6, f"wall time of DuckDB ÷ ours; {job}", stretch=8)
    bench.row("analyze.duckdb_cpu", ratios["duckdb_cpu"], 6, "CPU time of DuckDB ÷ ours", stretch=8)
    bench.row("analyze.polars", ratios["polars"], 10, "wall time of Polars ÷ ours; it leaves out fan-outs and lateness", stretch=14)
    bench.row("analyze.polars_cpu", ratios["polars_cpu"], 10, "CPU time of Polars ÷ ours", stretch=14)
    bench.row("analyze.floor", ratios["floor"], 4.5, "wall time of an analysis ÷ of decoding the same columns only", "lower", stretch=3)
    bench.row("analyze.rss", ratios["rss"], 4, "peak memory of DuckDB ÷ ours", stretch=5)
