"""HTTP beside oha, and WebSockets by the thousand."""
import csv, io, json, os, subprocess

from .tools import RETEMPO, ROOT, Skip, run, stolen_ticks
from .sql import connect

OHA = os.path.join(ROOT, "bench/opponents/bin/oha")
OHA_VERSION = "1.16.0"
RATE, SECONDS = 5_000, 10
ARRIVALS = ["-q", str(RATE), "-z", f"{SECONDS}s", "-c", "100", "--no-tui"]
SOCKETS = 5_000
# Ticks of 10 ms in a round of 20 s on all cores: a thousandth of two.
QUIET_TICKS = 4


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
    """What a request costs on both sides."""
    opponent = oha()
    child, url = service(bench)
    schedule = bench.compile("http.toml", "http", "--rate", str(RATE), "--duration", f"{SECONDS}s")
    together, evenly = [], []
    for _ in range(bench.rounds):
        plain = run([opponent, *ARRIVALS, f"{url}/health", "--output-format", "json"], bench.folder)
        done = sum(json.loads(plain.out)["statusCodeDistribution"].values())
        for costs, spacing in [(together, ["--write-spacing", "1ms"]), (evenly, [])]:
            ours, folder, _ = replay(bench, schedule, url, *spacing)
            costs.append((ours.cpu_s / answered(bench.summary(folder))) / (plain.cpu_s / done))
    bench.stop(child)
    bench.row("http.cpu", together, 1.0, "CPU per request of a replay, its log and Parquet included ÷ that of oha, both at 5,000/s and in ticks of a millisecond", better="lower")
    bench.row("http.cpu_evenly", evenly, 3.0, "the same, each request at its own time, 200 µs apart: the kernel is entered and the server woken for each", better="lower")


def answered(summary):
    count = sum(s["count"] for s in summary["series"])
    if count != RATE * SECONDS or summary["run"]["unsent"]:
        raise RuntimeError(f"{count} of {RATE * SECONDS} were answered")
    return count


def lateness(bench):
    """When requests begin on both sides. A host that runs others in our place makes each late, so rounds that it disturbed are
    made again; rounds are chosen by the time that it stole, whatever they gave."""
    opponent = oha()
    child, url = service(bench)
    schedule = bench.compile("http.toml", "http", "--rate", str(RATE), "--duration", f"{SECONDS}s")
    rounds, quiet = [], 0
    while quiet < bench.rounds and len(rounds) < 4 * bench.rounds:
        before = stolen_ticks()
        starts = run([opponent, *ARRIVALS, f"{url}/health", "--output-format", "csv"], bench.folder)
        _, folder, _ = replay(bench, schedule, url)
        stolen = stolen_ticks() - before
        summary = bench.summary(folder)
        answered(summary)
        theirs_us, ours_us = round(grid_error_ns(starts.out) / 1e3), round(summary["lateness"]["percentiles"]["p99_ns"] / 1e3, 1)
        rounds.append((stolen, theirs_us, ours_us))
        quiet += stolen <= QUIET_TICKS
    bench.stop(child)
    taken = sorted(rounds, key=lambda r: r[0])[:bench.rounds]
    words = f"the {len(taken)} rounds of {len(rounds)} in which the host stole least; all, as ticks stolen, oha's µs and ours: {rounds}"
    bench.row("http.late_p99_5k", [theirs / ours for _, theirs, ours in taken], 20, f"how far oha's starts are from an even grid of 5,000/s (p99) ÷ our lateness (p99); {words}")


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
