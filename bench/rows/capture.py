"""What a capture hears, and when."""
import json, os, subprocess

from .tools import PEER, RETEMPO, Skip, run

FLOOD_OPS = 3_000_000
# A little over half of what a bare subscriber receives.
SHARE = 0.55


def listen(bench, address, name, count):
    """A capture of so many messages, and the schedule it will leave."""
    output = bench.path(name + ".parquet")
    if os.path.exists(output):
        os.remove(output)
    arguments = [RETEMPO, "capture", "nats", "bench.flood", "-s", address, "-o", output, "--max-messages", str(count), "--duration", "120s", "--no-inboxes"]
    return bench.start(arguments, "listening", "stderr")[0], output


def heard(bench, schedule, address, rate, count):
    child, output = listen(bench, address, "heard", count)
    bench.replay(schedule, address, "--rate", str(rate))
    said = child.stderr.read().decode()
    bench.children.remove(child)
    if child.wait() != 0:
        raise RuntimeError(said[-300:])
    return output


def receive(bench):
    """Against a bare subscriber that counts frames. The server's own limit on what it holds for a subscriber is out of the way."""
    config = bench.path("deep.conf")
    with open(config, "w") as out:
        out.write("max_pending: 4GB\nwrite_deadline: 60s\n")
    server, address = bench.nats("-c", config)
    schedule = bench.compile("flood.toml", "flood-3M", "--rate", "100k", "--duration", f"{FLOOD_OPS // 100_000}s")
    ratios = []
    for _ in range(bench.rounds):
        bare = subprocess.Popen([PEER, "raw-receive", "--server", address, "--count", str(FLOOD_OPS)], stdout=subprocess.PIPE, cwd=bench.folder)
        bare.stdout.readline()
        run([PEER, "raw-publish", "--server", address, "--count", str(FLOOD_OPS)], bench.folder)
        rate = float(bare.stdout.readline())
        bare.wait()
        output = heard(bench, schedule, address, SHARE * rate, FLOOD_OPS)
        shown = json.loads(run([RETEMPO, "inspect", output, "--json"], bench.folder).out)
        lost = FLOOD_OPS - shown["rows"] + shown["losses"]["dropped"]
        ratios.append(0.0 if lost else shown["rows"] / (shown["duration_ns"] / 1e9) / rate)
    bench.stop(server)
    bench.row("capture.receive", ratios, 0.5, "messages/s captured without any loss ÷ messages/s of a bare subscriber that counts frames; offered at 0.55 of that")


def faithful(bench):
    server, address = bench.nats()
    gaps, drifts = [], []
    for rate, seconds, values in [(5_000, 10, gaps), (20_000, 50, drifts)]:
        schedule = bench.compile("flood.toml", f"flood-{rate}", "--rate", str(rate), "--duration", f"{seconds}s")
        output = heard(bench, schedule, address, rate, rate * seconds)
        cost = run([RETEMPO, "fidelity", schedule, output, "--json"], bench.folder)
        found = json.loads(cost.out)
        values.append((found["gap_error_ns"][1] if values is gaps else abs(found["drift_ns"])) / 1e6)
    bench.stop(server)
    bench.row("capture.gap_p99_5k", gaps, 1, "99th percentile of the difference of gaps between schedule and capture, at 5k/s", "lower", "ms")
    bench.row("capture.drift", drifts, 1, "how much later the last of 1 M ops was heard than the first, against the schedule", "lower", "ms")
