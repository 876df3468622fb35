"""HTTP beside oha, and WebSockets by the thousand."""
import csv, io, json, os, subprocess

from .tools import RETEMPO, ROOT, Skip, run
from .sql import connect

OHA = os.path.join(ROOT, "bench/opponents/bin/oha")
OHA_VERSION = "1.16.0"
RATE, SECONDS = 5_000, 10
SOCKETS = 5_000


def oha():
    """Built once, from its source."""
    if not os.path.exists(OHA):
        arguments = ["cargo", "install", "oha", "--version", OHA_VERSION, "--locked", "--root", os.path.join(ROOT, "bench/opponents")]
        # Its build folder is its own; ours would be built anew afterwards.
        environment = os.environ | {"CARGO_TARGET_DIR": os.path.join(ROOT, "bench/opponents/target")}
        if subprocess.run(arguments, stdout=subprocess.DEVNULL, env=environment).returncode != 0:
            raise Skip("oha cannot be built; see above")
    return OHA


def service(bench, *extra):
    """The stand-in of the market service: its process and URL."""
    child, said = bench.start([RETEMPO, "standin-web", "market", "--listen", "127.0.0.1:0", *extra], "ready at", "stdout")
    return child, said.split("ready at ")[1].split()[0]


def replay(bench, schedule, url, *extra):
    return bench.replay(schedule, "127.0.0.1:1", "--base-url", url, *extra)


def grid_error_ns(text):
    """99th percentile of how far starts are from the nearest place on the grid that the first two seconds suggest, in their order."""
    starts = sorted(float(row["request-start"]) for row in csv.DictReader(io.StringIO(text)))
    errors = sorted(abs(start - (starts[0] + n / RATE)) for n, start in enumerate(starts))
    return errors[int(len(errors) * 0.99)] * 1e9


def client(bench):
    opponent = oha()
    child, url = service(bench)
    schedule = bench.compile("http.toml", "http", "--rate", str(RATE), "--duration", f"{SECONDS}s")
    together, evenly, lateness, late_us = [], [], [], []
    for _ in range(bench.rounds):
        arguments = ["-q", str(RATE), "-z", f"{SECONDS}s", "-c", "100", "--no-tui", f"{url}/health"]
        plain = run([opponent, *arguments, "--output-format", "json"], bench.folder)
        done = sum(json.loads(plain.out)["statusCodeDistribution"].values())
        starts = run([opponent, *arguments, "--output-format", "csv"], bench.folder)
        for costs, spacing in [(together, ["--write-spacing", "1ms"]), (evenly, [])]:
            ours, folder, _ = replay(bench, schedule, url, *spacing)
            summary = bench.summary(folder)
            count = sum(s["count"] for s in summary["series"])
            if count != RATE * SECONDS or summary["run"]["unsent"]:
                raise RuntimeError(f"{count} of {RATE * SECONDS} were answered")
            costs.append((ours.cpu_s / count) / (plain.cpu_s / done))
        theirs_ns, ours_ns = grid_error_ns(starts.out), summary["lateness"]["percentiles"]["p99_ns"]
        lateness.append(theirs_ns / ours_ns)
        late_us.append((round(theirs_ns / 1e3), round(ours_ns / 1e3)))
    bench.stop(child)
    bench.row("http.cpu", together, 1.0, "CPU per request of a replay, its log and Parquet included ÷ that of oha, both at 5,000/s and in ticks of a millisecond", better="lower")
    bench.row("http.cpu_evenly", evenly, 3.0, "the same, each request at its own time, 200 µs apart: the kernel is entered and the server woken for each", better="lower")
    bench.row("http.late_p99_5k", lateness, 20, f"how far oha's starts are from an even grid of 5,000/s (p99) ÷ our lateness (p99); both in µs: {late_us}")


def sockets(bench):
    """So many WebSockets at a time; each pushed once a second; every push is a row."""
    child, url = service(bench, "--push-every", "1s")
    held = []
    for _ in range(bench.rounds):
        schedule = bench.compile("sockets.toml", "sockets", "--users", str(SOCKETS))
        _, folder, _ = replay(bench, schedule, url)
        found = bench.summary(folder)
        rows = connect().execute(f"select count(*) from read_parquet('{folder}/frames-*.parquet') where kind = 1 and answer <> 255").fetchone()[0]
        complete = rows == found["sockets"]["pushes"][0]["count"] and rows > SOCKETS * 5 and found["evidence"]["dropped_records"] == 0
        held.append(found["sockets"]["peak"] if complete else 0)
    bench.stop(child)
    bench.row("websocket.sessions", held, SOCKETS, "WebSockets open at a time, each pushed once a second, every push logged", unit="")
