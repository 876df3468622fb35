"""The replay engine against async-nats, tokio's timer and a bare publisher."""
import csv, json, os, random, shutil, signal, subprocess, time

from .tools import PEER, RETEMPO, Skip, fifo_granted, run
from .sql import connect

FLOOD_OPS = 6_000_000
RATE = 50_000
SECONDS = 4


def cpu_ns(cost, messages):
    return cost.cpu_s * 1e9 / messages


def flood(bench):
    """As fast as the server takes them, from a schedule file, everything logged."""
    server, address = bench.nats()
    schedule = bench.compile("flood.toml", "flood", "--rate", "100k", "--duration", f"{FLOOD_OPS // 100_000}s")
    ratios, threads, processes = [], [], []
    for _ in range(bench.rounds):
        raw = float(run([PEER, "raw-publish", "--server", address, "--count", str(FLOOD_OPS)], bench.folder).out)
        peer = run([PEER, "publish", "--server", address, "--count", str(FLOOD_OPS // 3)], bench.folder)
        ours, folder, manifest = bench.replay(schedule, address, "--rate", "20M")
        ratios.append(bench.summary(folder)["rate"]["achieved_per_sec"] / raw)
        threads.append(cpu_ns(peer, FLOOD_OPS // 3) / (manifest["totals"]["cpu_ns:pacer"] / FLOOD_OPS))
        processes.append(cpu_ns(peer, FLOOD_OPS // 3) / cpu_ns(ours, FLOOD_OPS))
    bench.granted["sched_fifo"] = fifo_granted(manifest)
    bench.stop(server)
    bench.row("replay.flood", ratios, 0.70, "ops/s ÷ messages/s of a bare publisher with 64 KiB writes, 128 B, one connection", stretch=0.90)
    bench.row("replay.cpu_publish", threads, 5, "CPU of async-nats per publish ÷ CPU of our sending thread per publish: frames ready, to socket and log queue")
    bench.row("replay.cpu_publish_process", processes, 0.5, "the same ÷ all our threads: schedule read and decoded, frames built, sent, logged, converted to Parquet; async-nats does none of that")


def headers(bench):
    server, address = bench.nats()
    schedule, ops, ratios = bench.compile("headers.toml", "headers"), 2_000_000, []
    for _ in range(bench.rounds):
        peer = run([PEER, "publish-headers", "--server", address, "--count", str(ops)], bench.folder)
        _, _, manifest = bench.replay(schedule, address, "--rate", "20M")
        ratios.append(cpu_ns(peer, ops) / (manifest["totals"]["cpu_ns:pacer"] / ops))
    bench.stop(server)
    bench.row("replay.cpu_publish_headers", ratios, 7, "as replay.cpu_publish, with a header")


def receive(bench):
    """What a message costs that comes back: the run in which they do less the same run in which nobody listens."""
    server, address = bench.nats()
    heard, unheard, ops, ratios = bench.compile("fan.toml", "fan"), bench.compile("mute.toml", "mute"), 1_000_000, []
    flooding = bench.compile("flood.toml", "feed", "--rate", "100k", "--duration", "10s")
    for _ in range(bench.rounds):
        with_answers, folder, manifest = bench.replay(heard, address, "--rate", "20M")
        answers = manifest["totals"]["answers"]
        if answers != ops:
            raise Skip(f"{answers} of {ops} messages came back")
        without, _, _ = bench.replay(unheard, address, "--rate", "20M")
        child = subprocess.Popen([PEER, "receive", "--server", address, "--count", str(ops)], stdout=subprocess.PIPE, cwd=bench.folder)
        child.stdout.readline()
        bench.replay(flooding, address, "--rate", "20M")
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = status
        ours = (with_answers.cpu_s - without.cpu_s) * 1e9 / ops
        ratios.append((usage.ru_utime + usage.ru_stime) * 1e9 / ops / ours)
    bench.stop(server)
    bench.row("replay.cpu_receive", ratios, 4, "CPU of async-nats per message received ÷ ours, decoded to op, logged and converted (the run less one where nobody listens), in a flood")


def answered(bench, name, workload, subject, peer_command, target, server):
    child, address = server
    schedule, ratios = bench.compile(workload, name, "--rate", str(RATE), "--duration", f"{SECONDS}s", "--arrivals", "uniform"), []
    load = ["--server", address, "--subject", subject, "--rate", str(RATE), "--seconds", str(SECONDS)]
    for _ in range(bench.rounds):
        peer = run([PEER, peer_command, *load], bench.folder)
        ours, _, manifest = bench.replay(schedule, address, "--write-spacing", "1ms")
        ours_answered, peer_answered = manifest["totals"]["answers"], int(peer.out)
        if min(ours_answered, peer_answered) < 0.999 * RATE * SECONDS:
            raise Skip(f"the server did not keep up: {peer_answered} and {ours_answered} of {RATE * SECONDS} answered")
        ratios.append(cpu_ns(peer, peer_answered) / cpu_ns(ours, ours_answered))
    bench.stop(child)
    bench.row(f"replay.cpu_{name}", ratios, target, f"CPU of async-nats per answered op ÷ ours, all threads, at {RATE:,}/s, both sending what is due every ms")


def request(bench):
    server = bench.nats()
    echo, _ = bench.start([PEER, "echo", "--server", server[1], "--subject", "bench.echo"], "ready", "stdout")
    answered(bench, "request", "echo.toml", "bench.echo", "request", 4, server)
    bench.stop(echo)


def jetstream(bench):
    server = bench.nats("-js", "-sd", bench.path("js"))
    run([PEER, "stream", "--server", server[1], "--subject", "bench.stream"], bench.folder)
    answered(bench, "jetstream", "jetstream.toml", "bench.stream", "jetstream", 6, server)


def pacing(bench, name, rate, target, wrapper=(), want_fifo=True):
    server, address = bench.nats()
    echo, _ = bench.start([PEER, "echo", "--server", address, "--subject", "bench.echo"], "ready", "stdout")
    schedule, ratios, ours_us = bench.compile("echo.toml", f"echo-{rate}", "--rate", str(rate), "--duration", "8s"), [], []
    for _ in range(bench.rounds):
        peer_ns = int(run([PEER, "pace", schedule, "--server", address, "--subject", "bench.echo"], bench.folder).out)
        _, folder, manifest = bench.replay(schedule, address, wrapper=wrapper)
        if fifo_granted(manifest) != want_fifo:
            raise Skip("SCHED_FIFO was " + ("not granted" if want_fifo else "granted all the same"))
        ours_ns = bench.summary(folder)["lateness"]["percentiles"]["p99_ns"]
        ratios.append(peer_ns / ours_ns)
        ours_us.append(round(ours_ns / 1000))
    bench.stop(echo)
    bench.stop(server)
    bench.row(name, ratios, target, f"p99 lateness of tokio sleep_until with async-nats ÷ ours (µs: {ours_us}), Poisson {rate:,}/s for 8 s, with echo")


def pacing_10k(bench):
    pacing(bench, "pacing.late_p99_10k", 10_000, 30)


def pacing_50k(bench):
    pacing(bench, "pacing.late_p99_50k", 50_000, 20)


def pacing_unprivileged(bench):
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        raise Skip("setpriv is not there to give up real-time scheduling with")
    # Where nobody makes a run folder.
    os.chmod(bench.folder, 0o777)
    pacing(bench, "pacing.late_p99_10k_unprivileged", 10_000, 12, wrapper=nobody if os.geteuid() == 0 else (), want_fifo=False)


def drift(bench):
    """A million ops at 20k/s: does the end keep the times of the start?"""
    server, address = bench.nats()
    echo, _ = bench.start([PEER, "echo", "--server", address, "--subject", "bench.echo"], "ready", "stdout")
    schedule = bench.compile("echo.toml", "long", "--rate", "20k", "--duration", "50s", "--arrivals", "uniform")
    _, folder, _ = bench.replay(schedule, address)
    end = "select median(sent_ns - intended_ns) / 1000 from '{0}/sends-*.parquet' where op {1}"
    db = connect()
    first, last = (db.execute(end.format(folder, which)).fetchone()[0] for which in ("< 10000", ">= 990000"))
    bench.row("pacing.drift", [abs(last - first)], 100, "median lateness of the last 1% less that of the first, 1 M ops at 20k/s", "lower", "µs")
    bytes_per_op = sum(os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder) if f.split("-")[0] in ("sends", "replies")) / 1e6
    bench.stop(echo)
    schedule = bench.compile("fan.toml", "fan-10k", "--rate", "10k", "--duration", "10s")
    _, folder, _ = bench.replay(schedule, address)
    broadcasts = sum(os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder) if f.startswith("broadcasts")) / 1e5
    bench.stop(server)
    bench.row("log.bytes_per_op", [bytes_per_op + broadcasts], 24, "sends, replies and broadcasts as they lie on disk, every column, one of each an op", "lower", "bytes")


def devices(bench, name, sessions, ops, rate):
    """A workload of that many senders."""
    folder = bench.path(name)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "devices.csv"), "w") as out:
        out.write("id\n" + "".join(f"d{i}\n" for i in range(sessions)))
    with open(os.path.join(folder, "w.toml"), "w") as out:
        out.write(f"""name = "{name}"
[population.table]
device = {{ path = "devices.csv" }}
[[answer]]
name = "reply"
whose = "inbox"
[[action]]
name = "ask"
pick = "device"
target = "bench.echo"
payload = '{{"from":"{{device.id}}"}}'
answers = {{ reply = 1 }}
timeout = "10s"
[arrivals]
rate = {rate}
duration = "{ops // rate}s"
process = "uniform"
""")
    schedule = bench.path(name + ".parquet")
    run([RETEMPO, "compile", os.path.join(folder, "w.toml"), "-o", schedule], bench.folder)
    return schedule


def sessions(bench):
    """Distinct sessions with an answer, over connections of their own and over shared ones."""
    server, address = bench.nats()
    echo, _ = bench.start([PEER, "echo", "--server", address, "--subject", "bench.echo"], "ready", "stdout")
    for name, number, ops, extra, target in (("direct", 12_000, 120_000, ["--direct"], 10_000), ("shared", 1_200_000, 2_400_000, ["--connections", "4"], 1_000_000)):
        schedule = devices(bench, name, number, ops, 20_000 if name == "direct" else 60_000)
        _, folder, manifest = bench.replay(schedule, address, *extra)
        seen = f"select count(distinct session) from '{folder}/sends-*.parquet' semi join '{folder}/replies-*.parquet' using (op)"
        connections = len(manifest["connections"])
        bench.row(f"sessions.{name}", [connect().execute(seen).fetchone()[0]], target, f"distinct sessions answered, over {connections:,} connections", unit="")
    bench.stop(echo)
    bench.stop(server)


def crashes(bench):
    """kill -9 at random moments: every run must open as partial, and its log reach to a second before the end."""
    server, address = bench.nats()
    echo, _ = bench.start([PEER, "echo", "--server", address, "--subject", "bench.echo"], "ready", "stdout")
    schedule, survived, times, rng = bench.compile("echo.toml", "crash", "--rate", "20k", "--duration", "20s"), 0, 100, random.Random(42)
    folder = bench.path("crashed")
    for _ in range(times):
        shutil.rmtree(folder, ignore_errors=True)
        child = subprocess.Popen([RETEMPO, "replay", schedule, "-s", address, "-o", folder, "-q"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while not os.path.exists(os.path.join(folder, "run.json")):
            time.sleep(0.001)
        began = time.monotonic()
        time.sleep(rng.uniform(0.3, 2.0))
        child.send_signal(signal.SIGKILL)
        killed_s = time.monotonic() - began
        child.wait()
        summary = bench.summary(folder)
        # The anchor lies 0.3 s behind the manifest.
        survived += summary["run"]["state"] == "partial" and summary["run"]["observed_ns"] / 1e9 >= killed_s - 0.3 - 1.0
    bench.stop(echo)
    bench.stop(server)
    bench.row("crash.survived", [survived], times, f"of {times} runs killed at random moments: open as partial, and at most the last second is lost", unit="runs")
