"""Writing schedules, and memory that does not grow with the length of a run."""
import os, shutil, time

from .tools import PEER, RETEMPO, run

SHORT, LONG = 1_000_000, 20_000_000


def compile_rate(bench):
    """`medium`, two million ops: the same columns through the parquet crate alone ÷ all of a compile."""
    ratios = []
    for _ in range(bench.rounds):
        schedule = bench.path("medium.parquet")
        ours = run([RETEMPO, "compile", "medium", "--rate", "100k", "--duration", "20s", "--force", "-o", schedule], bench.folder)
        ratios.append(float(run([PEER, "plain", schedule, bench.path("plain.parquet")], bench.folder).out) / ours.wall_s)
    os.remove(schedule)
    bench.row("compile.rate", ratios, 0.35, "time to write the same columns, already in memory, with the parquet crate ÷ time of a compile, 2 M ops of medium")


def flat(bench):
    peaks = {}
    server, address = bench.nats()
    for ops in (SHORT, LONG):
        schedule = bench.path(f"flat-{ops}.parquet")
        workload = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "workloads/headers.toml")
        peaks["compile", ops] = run([RETEMPO, "compile", workload, "--rate", "400k", "--duration", f"{ops / 400_000}s", "-o", schedule], bench.folder).rss_bytes
        peaks["replay", ops] = bench.replay(schedule, address)[0].rss_bytes
        os.remove(schedule)
        folder = bench.path(f"stalled-{ops}")
        run([PEER, "run", folder, "--ops", str(ops), "--stall", "5"], bench.folder)
        peaks["analyze", ops] = run([RETEMPO, "analyze", folder], bench.folder).rss_bytes
        shutil.rmtree(folder)
    bench.stop(server)
    for step, what in (("compile", "of a compile"), ("replay", "of a replay at 400k/s"), ("analyze", "of the analysis of a run stalled for 5 s")):
        short, long = peaks[step, SHORT], peaks[step, LONG]
        bench.row(f"memory.flat_{step}", [long / short], 1.15, f"peak memory {what}, 20 M ops ({long / 2**20:.0f} MiB) ÷ 1 M", "lower")
